"""What a client is told when a call can't be answered: OpenAI's error object."""

from __future__ import annotations

from typing import Any


class ApiError(Exception):
    """A call that is refused, or that failed.

    Args:
        message: what is wrong, and what to do.
        param: the field of the body that is wrong.
        code: a word for programs.
        status: of HTTP.
    """

    def __init__(
        self, message: str, *, param: str | None = None, code: str | None = None, status: int = 400
    ) -> None:
        super().__init__(message)
        self.message, self.param, self.code, self.status = message, param, code, status

    def to_json(self) -> dict[str, Any]:
        """The body of the answer."""
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        if self.status == 503:
            kind = "service_unavailable_error"
        return {
            "error": {
                "message": self.message,
                "type": kind,
                "param": self.param,
                "code": self.code,
            }
        }


def context_error(context: int, prompt_tokens: int) -> ApiError:
    """A prompt that leaves no room in the context, in OpenAI's words."""
    return ApiError(
        f"This model's maximum context length is {context} tokens. However, your prompt has {prompt_tokens} tokens, "
        "which leaves no room for an answer. Shorten the prompt.",
        param="prompt",
        code="context_length_exceeded",
    )
