"""Vendors whose protocol is not OpenAI's, through litellm: `litellm:anthropic/NAME`, with the extra potstill[vendors].

litellm translates; everything else is `openai:`'s: what is sent, how answers are read, flow control, tries, failures.
"""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, final

from potstill.errors import ConfigError, ModelError
from potstill.models.remote.error_messages import KEY_MARK, failure_of_tls, redact_key
from potstill.models.remote.errors import Failure
from potstill.models.remote.http import HttpClient
from potstill.models.remote.json_body import as_list, as_object, replace_lone_surrogates
from potstill.models.remote.openai import OpenAIModel
from potstill.models.remote.options import ServerOptions, check_url, host_of
from potstill.models.remote.presets import DEFAULT_PRESET, Preset
from potstill.secrets import redact_environment

VENDOR_PRESET = Preset(think="lines", names=DEFAULT_PRESET.names)
LISTED_MODELS = 12  # in an error
# How litellm's exceptions, or what caused them, are called, by the boundary that was not crossed.
CONNECTION_ERRORS = (
    "ConnectError",
    "ConnectionRefusedError",
    "ClientConnectorError",
    "gaierror",
    "ConnectTimeout",
)
MALFORMED_ERRORS = ("JSONDecodeError", "ValidationError", "APIResponseValidationError")
TIMEOUT_ERRORS = ("Timeout", "APITimeoutError", "ReadTimeout", "TimeoutError")
BROKEN_ERRORS = (
    "ReadError",
    "RemoteProtocolError",
    "ServerDisconnectedError",
    "ClientPayloadError",
    "WriteError",
)
_MALFORMED_MESSAGE = re.compile(r"(?i)(?:empty or )?invalid response (?:from|object)")
_NO_VENDOR_MESSAGE = re.compile(r"(?i)llm provider not provided")


def load_vendor_model(model: str, **option_values: Any) -> OpenAIModel:
    """The model that litellm calls VENDOR/NAME; options as `openai:` has them, but for those of its protocol."""
    options = VendorOptions(vendor=model.partition("/")[0], **option_values)
    return OpenAIModel(model, options, LitellmClient)


@final
@dataclass(frozen=True, slots=True)
class VendorOptions(ServerOptions):
    """ServerOptions of `litellm:`: `url` where the vendor's own is not meant, `key` where the usual variable is not.

    Args:
        vendor: the first part of the model's name.
    """

    vendor: str = ""

    def check_address(self) -> None:
        """Refuse options of OpenAI's own protocol."""
        refused_options = []
        if self.at:
            refused_options.append("at")
        if self.mode != "chat":
            refused_options.append("mode")
        if self.batch:
            refused_options.append("batch")
        if self.score not in ("", "weights"):
            refused_options.append("score")
        if refused_options:
            option = refused_options[0]
            raise ConfigError(
                f"litellm: has no option {option}={getattr(self, option)}",
                fix=f"leave {option} out, or use the vendor's own OpenAI-compatible address: openai:NAME?url=…",
            )
        if self.url:
            check_url(self.url)

    @property
    def preset(self) -> Preset:
        """One for all vendors: litellm knows their differences."""
        return VENDOR_PRESET

    @property
    def base(self) -> str:
        """What errors call the place."""
        return self.url.rstrip("/") or f"litellm:{self.vendor}"

    @property
    def host(self) -> str:
        """The vendor, or the host of the URL."""
        return host_of(self.url) if self.url else f"litellm:{self.vendor}"


@final
class LitellmClient(HttpClient):
    """litellm in the place of HTTP: an answer comes as the bytes of one in OpenAI's form."""

    def __init__(self, options: ServerOptions) -> None:
        """Import litellm now, which takes seconds; nothing is asked over the network for that."""
        super().__init__(options)
        self._options, self._litellm = options, _import_litellm()
        self._model = ""

    async def list_models(self) -> list[str]:
        """Names near the one that was asked for, of those that litellm lists for its vendor."""
        listed: Mapping[str, Any] = getattr(self._litellm, "models_by_provider", {})
        vendor = self._model.partition("/")[0]
        names = set()
        for name in map(str, listed.get(vendor, ())):
            names.add(name if name.startswith(f"{vendor}/") else f"{vendor}/{name}")
        return difflib.get_close_matches(self._model, sorted(names), n=LISTED_MODELS, cutoff=0.3)

    async def _request(
        self, method: str, url: str, data: Any, headers: dict[str, str] | None = None
    ) -> tuple[int, bytes, Any]:
        arguments = json.loads(data)
        self._model = model = arguments["model"]
        if "seed" in arguments:
            supported = self._litellm.get_supported_openai_params(model=model)
            if supported and "seed" not in supported:
                del arguments["seed"]
        if self._options.url:
            arguments["api_base"] = self._options.url
        if self._key or self._options.url:
            # With a URL of the user's, a vendor's own key must not go there.
            arguments["api_key"] = self._key or "none"
        # Flow control tries again, litellm does not.
        arguments |= {"timeout": self._options.timeout, "num_retries": 0, "max_retries": 0}
        try:
            response = await self._litellm.acompletion(**arguments)
        except Exception as error:  # boundary: litellm raises the exceptions of a hundred clients
            return self._answer_of_exception(error)
        # Without the keys of the environment: which of them litellm sends is its own business.
        fields = json.dumps(_response_fields(response), default=str)
        answer = redact_environment(fields, KEY_MARK)
        return 200, answer.encode("utf-8", "replace"), {}

    def _answer_of_exception(self, error: Exception) -> tuple[int, bytes, Any]:
        """The status that an exception stands for, as HTTP would have brought it; a `Failure` where there was none."""
        names = [type(cause).__name__ for cause in _causes_of(error)]
        message = redact_key(replace_lone_surrogates(str(error))[:1000], self._key)
        message = redact_environment(message, KEY_MARK)
        detail = f"{names[0]}: {message[:300]}"
        tls_failure = failure_of_tls(error, detail)
        if tls_failure is not None:
            raise tls_failure
        if "ContextWindowExceededError" in names:
            raise Failure("context", detail, status=400)
        if "ContentPolicyViolationError" in names:
            raise Failure("filter", detail, status=400)
        if _NO_VENDOR_MESSAGE.search(message):
            detail = "model: its name does not begin with a vendor: VENDOR/NAME"
            raise Failure("refused", detail, stops_run=True, status=400)
        if any(name in names for name in CONNECTION_ERRORS):
            raise Failure("unreachable", detail, may_retry=True)
        if any(name in names for name in TIMEOUT_ERRORS):
            raise Failure("timeout", detail, may_retry=True, billed=True)
        if any(name in names for name in BROKEN_ERRORS):
            raise Failure("unreachable", detail, may_retry=True, billed=True)
        is_malformed = any(name in names for name in MALFORMED_ERRORS)
        if is_malformed or _MALFORMED_MESSAGE.search(message):
            raise Failure("malformed", detail, may_retry=True, billed=True)
        status = getattr(error, "status_code", None)
        if not isinstance(status, int) or not 400 <= status < 600:
            raise Failure("server", detail, may_retry=True, billed=True)
        headers = getattr(error, "litellm_response_headers", None) or {}
        return status, json.dumps({"error": {"message": message}}).encode(), headers


def _response_fields(response: Any) -> Any:
    """The answer in OpenAI's form, with what litellm says that it cost, and with the vendor's own finish reasons.

    litellm calls every finish reason "stop" that it does not know, and keeps the vendor's word beside it.
    """
    fields = response.model_dump()
    if not isinstance(fields, dict):
        return fields
    usage = as_object(fields.get("usage"))
    if usage and usage.get("cost") is None:
        hidden_fields = getattr(response, "_hidden_params", None) or {}
        usage["cost"] = hidden_fields.get("response_cost")
    for choice in map(as_object, as_list(fields.get("choices"))):
        vendor_fields = as_object(choice.get("provider_specific_fields"))
        if vendor_fields.get("native_finish_reason"):
            choice["finish_reason"] = vendor_fields["native_finish_reason"]
        if vendor_fields.get("stop_sequence"):
            choice["stop_sequence"] = vendor_fields["stop_sequence"]
    return fields


def _causes_of(error: BaseException) -> Iterator[BaseException]:
    """An exception and those that led to it."""
    yielded_ids: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in yielded_ids:
        yielded_ids.add(id(cause))
        yield cause
        cause = cause.__cause__ or cause.__context__


def _import_litellm() -> Any:
    # Without this, importing it asks the network for prices.
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    try:
        import litellm
    except ImportError as error:
        raise ModelError(
            f"litellm is not installed ({error})",
            expected="the extra potstill[vendors]",
            fix="pip install 'potstill[vendors]', or use the vendor's OpenAI-compatible address: openai:NAME?url=…",
        ) from error
    litellm.suppress_debug_info = True
    return litellm
