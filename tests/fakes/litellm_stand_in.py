"""What `models/remote/litellm.py` uses of litellm: `acompletion` against an OpenAI-compatible address.

Which exceptions it raises, with which causes, was taken down from litellm 1.106 against `openai_server`.
"""

from __future__ import annotations

import json
from types import ModuleType
from typing import Any

PRICE = 1e-6  # what it says that a completion token costs
SUPPORTED = {
    "openai": ["seed", "n", "temperature", "logprobs"],
    "anthropic": ["temperature", "stop"],
}


class StandInError(Exception):
    """The shape of litellm's exceptions: a status, and perhaps the headers of the answer."""

    def __init__(self, text: str, status: int, headers: Any = None) -> None:
        super().__init__(text)
        self.status_code, self.litellm_response_headers = status, headers


def _kind(name: str) -> type[StandInError]:
    return type(name, (StandInError,), {})


RateLimitError, AuthenticationError, NotFoundError = map(
    _kind, ("RateLimitError", "AuthenticationError", "NotFoundError")
)
BadRequestError, InternalServerError = map(_kind, ("BadRequestError", "InternalServerError"))
ContextWindowExceededError, UnsupportedParamsError = map(
    _kind, ("ContextWindowExceededError", "UnsupportedParamsError")
)
JSONDecodeError, ReadError, ConnectError = map(
    _kind, ("JSONDecodeError", "ReadError", "ConnectError")
)
OF_STATUS = {
    401: AuthenticationError,
    404: NotFoundError,
    400: BadRequestError,
    429: RateLimitError,
}


class Response:
    """An answer with what litellm adds to it."""

    def __init__(self, value: dict[str, Any]) -> None:
        used = value.get("usage", {}).get("completion_tokens", 0)
        self.value, self._hidden_params = value, {"response_cost": used * PRICE}

    def model_dump(self) -> dict[str, Any]:
        return self.value


class StandIn(ModuleType):
    """To be put into `sys.modules`; `asked` are the arguments of each call."""

    def __init__(self) -> None:
        super().__init__("litellm")
        self.asked: list[dict[str, Any]] = []
        self.models_by_provider = {"openai": ["gpt-4o", "test-model"], "anthropic": ["claude-big"]}
        self.suppress_debug_info = False

    def get_supported_openai_params(self, model: str) -> list[str] | None:
        return SUPPORTED.get(model.partition("/")[0])

    async def acompletion(
        self, *, model: str, timeout: float, num_retries: int, max_retries: int, **more: Any
    ) -> Any:
        import aiohttp

        self.asked.append({"model": model, **more})
        vendor, _, name = model.partition("/")
        if not name:
            raise BadRequestError(
                f"litellm.BadRequestError: LLM Provider NOT provided. You passed model={model}", 400
            )
        if "n" in more and "n" not in SUPPORTED[vendor]:
            text = f"{vendor} does not support parameters: ['n'], for model={name}. To drop these, set drop_params"
            raise UnsupportedParamsError(text, 400)
        base, key = more.pop("api_base"), more.pop("api_key", "")
        data, headers = json.dumps({"model": name, **more}), {"authorization": f"Bearer {key}"}
        try:
            async with (
                aiohttp.ClientSession(headers=headers) as session,
                session.post(f"{base}/chat/completions", data=data) as reply,
            ):
                body = await reply.read()
                if reply.status != 200:
                    raise _refusal(reply.status, body, reply.headers)
        except aiohttp.ClientConnectorError as error:
            raise InternalServerError("Connection error.", 500) from error
        except aiohttp.ClientError as error:
            raise InternalServerError("Connection error.", 500) from ReadError(str(error), 0)
        return Response(_value(body))


def _value(body: bytes) -> dict[str, Any]:
    if body[:1] == b"<":
        raise InternalServerError(
            f"Empty or invalid response from LLM endpoint. Received: {body[:60]!r}", 500
        )
    try:
        value = json.loads(body)
    except ValueError as error:
        raise InternalServerError(str(error), 500) from JSONDecodeError(str(error), 0)
    if any(isinstance(c.get("message", {}).get("content"), int) for c in value["choices"]):
        raise InternalServerError(
            "Invalid response object Traceback (most recent call last): ...", 500
        )
    return dict(value)


def _refusal(status: int, body: bytes, headers: Any) -> StandInError:
    text = json.loads(body)["error"]["message"]
    if "maximum context length" in text:
        return ContextWindowExceededError(f"litellm.BadRequestError: {text}", 400, headers)
    kind = OF_STATUS.get(status, InternalServerError)
    return kind(f"litellm.{kind.__name__}: OpenAIException - {text}", status, headers)
