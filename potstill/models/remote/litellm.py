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
from potstill.models.remote.error_messages import redacted
from potstill.models.remote.errors import Failure
from potstill.models.remote.http import Wire
from potstill.models.remote.openai import OpenAIModel
from potstill.models.remote.options import Options, check_url, host_of
from potstill.models.remote.presets import PLAIN, Preset
from potstill.models.remote.response import replace_lone_surrogates

HABITS = Preset(think="lines", names=PLAIN.names)
SHOWN = 12  # names of models in an error
# How litellm's exceptions, or what caused them, are called, by the boundary that was not crossed.
REFUSED = (
    "ConnectError",
    "ConnectionRefusedError",
    "ClientConnectorError",
    "gaierror",
    "ConnectTimeout",
)
UNREAD = ("JSONDecodeError", "ValidationError", "APIResponseValidationError")
LATE = ("Timeout", "APITimeoutError", "ReadTimeout", "TimeoutError")
BROKEN = (
    "ReadError",
    "RemoteProtocolError",
    "ServerDisconnectedError",
    "ClientPayloadError",
    "WriteError",
)
_SECRETS = re.compile(r"(?i)(?:key|key_id|token|secret|password|credentials?)$")
_NO_ANSWER = re.compile(r"(?i)(?:empty or )?invalid response (?:from|object)")
_NO_VENDOR = re.compile(r"(?i)llm provider not provided")


def vendor(model: str, **options: Any) -> OpenAIModel:
    """The model that litellm calls VENDOR/NAME; options as `openai:` has them, but for those of its protocol."""
    return OpenAIModel(model, VendorOptions(vendor=model.partition("/")[0], **options), VendorWire)


@final
@dataclass(frozen=True, slots=True)
class VendorOptions(Options):
    """Options of `litellm:`: `url` where the vendor's own is not meant, `key` where the usual variable is not.

    Args:
        vendor: the first part of the model's name.
    """

    vendor: str = ""

    def check_place(self) -> None:
        """Refuse options of OpenAI's own protocol."""
        wrong = [
            n
            for n, there in (("at", self.at), ("mode", self.mode != "chat"), ("batch", self.batch))
            if there
        ]
        wrong += ["score"] if self.score not in ("", "weights") else []
        if wrong:
            fix = f"leave {wrong[0]} out, or use the vendor's own OpenAI-compatible address: openai:NAME?url=…"
            raise ConfigError(
                f"litellm: has no option {wrong[0]}={getattr(self, wrong[0])}", fix=fix
            )
        if self.url:
            check_url(self.url)

    @property
    def preset(self) -> Preset:
        """One for all vendors: litellm knows their differences."""
        return HABITS

    @property
    def base(self) -> str:
        """What errors call the place."""
        return self.url.rstrip("/") or f"litellm:{self.vendor}"

    @property
    def host(self) -> str:
        """The vendor, or the host of the URL."""
        return host_of(self.url) if self.url else f"litellm:{self.vendor}"


@final
class VendorWire(Wire):
    """litellm in the place of HTTP: an answer comes as the bytes of one in OpenAI's form."""

    def __init__(self, options: Options) -> None:
        """Import litellm now, which takes seconds; nothing is asked over the network for that."""
        super().__init__(options)
        self._options, self._litellm = options, _litellm()
        self._asked = ""

    async def models(self) -> list[str]:
        """Names near the one that was asked for, of those that litellm lists for its vendor."""
        listed: Mapping[str, Any] = getattr(self._litellm, "models_by_provider", {})
        vendor = self._asked.partition("/")[0]
        names = {
            n if n.startswith(f"{vendor}/") else f"{vendor}/{n}"
            for n in map(str, listed.get(vendor, ()))
        }
        return difflib.get_close_matches(self._asked, sorted(names), n=SHOWN, cutoff=0.3)

    async def _call(
        self, method: str, url: str, data: Any, headers: dict[str, str] | None = None
    ) -> tuple[int, bytes, Any]:
        body = json.loads(data)
        self._asked = model = body["model"]
        if "seed" in body and "seed" not in (
            self._litellm.get_supported_openai_params(model=model) or ("seed",)
        ):
            del body["seed"]
        where = {"api_base": self._options.url} if self._options.url else {}
        # With a URL of the user's, a vendor's own key must not go there.
        key = {"api_key": self._key or "none"} if self._key or self._options.url else {}
        limits = {"timeout": self._options.timeout, "num_retries": 0, "max_retries": 0}
        try:
            response = await self._litellm.acompletion(**body, **where, **key, **limits)
        except (
            Exception
        ) as error:  # boundary: litellm raises the exceptions of a hundred vendors' clients
            return self._answered(error)
        return 200, _scrubbed(_answer(response)).encode("utf-8", "replace"), {}

    def _answered(self, error: Exception) -> tuple[int, bytes, Any]:
        """The status that an exception stands for, as HTTP would have brought it; a `Failure` where there was none."""
        names = [type(cause).__name__ for cause in _causes(error)]
        said = _scrubbed(redacted(replace_lone_surrogates(str(error))[:1000], self._key))
        detail = f"{names[0]}: {said[:300]}"
        if "ContextWindowExceededError" in names:
            raise Failure("context", detail, status=400)
        if "ContentPolicyViolationError" in names:
            raise Failure("filter", detail, status=400)
        if _NO_VENDOR.search(said):
            raise Failure(
                "refused",
                "model: its name does not begin with a vendor: VENDOR/NAME",
                stop=True,
                status=400,
            )
        if any(name in names for name in REFUSED):
            raise Failure("unreachable", detail, retry=True)
        if any(name in names for name in LATE):
            raise Failure("timeout", detail, retry=True, billed=True)
        if any(name in names for name in BROKEN):
            raise Failure("unreachable", detail, retry=True, billed=True)
        if any(name in names for name in UNREAD) or _NO_ANSWER.search(said):
            raise Failure("malformed", detail, retry=True, billed=True)
        status = getattr(error, "status_code", None)
        if not isinstance(status, int) or not 400 <= status < 600:
            raise Failure("server", detail, retry=True, billed=True)
        headers = getattr(error, "litellm_response_headers", None) or {}
        return status, json.dumps({"error": {"message": said}}).encode(), headers


def _answer(response: Any) -> str:
    """The answer as JSON, with what litellm says that it cost."""
    value = response.model_dump()
    cost = (getattr(response, "_hidden_params", None) or {}).get("response_cost")
    if (
        isinstance(value, dict)
        and isinstance(value.get("usage"), dict)
        and value["usage"].get("cost") is None
    ):
        value["usage"]["cost"] = cost
    return json.dumps(value, default=str)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An exception and those that led to it."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__ or cause.__context__


def _scrubbed(text: str) -> str:
    """A text without the keys of the environment: which of them litellm sends is its own business."""
    for name, value in os.environ.items():
        if len(value) >= 8 and _SECRETS.search(name) and value in text:
            text = text.replace(value, "[key]")
    return text


def _litellm() -> Any:
    os.environ.setdefault(
        "LITELLM_LOCAL_MODEL_COST_MAP", "True"
    )  # else importing it asks the network for prices
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
