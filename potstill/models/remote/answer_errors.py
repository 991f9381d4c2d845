"""Errors that stand inside an answer with status 200: gateways and some servers report every failure that way.

What the error says of its status (a number, a number as text, a word such as `rate_limit_exceeded`, or only a message)
is read, and the failure is then that of the same HTTP status: a 429 is waited for, a 401 stops the run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from potstill.models.remote.error_messages import (
    CONTEXT_WORDS,
    MODEL_WORDS,
    QUOTA_WORDS,
    failure_from_status,
    redact_key,
)
from potstill.models.remote.errors import Failure
from potstill.models.remote.json_body import (
    as_list,
    as_object,
    error_message,
    parse_json,
    replace_lone_surrogates,
    says_something,
)
from potstill.models.remote.response import read_usage
from potstill.records import NO_TOKENS

_STATUS_KEYS = (
    "code",
    "status",
    "status_code",
    "statusCode",
    "http_code",
    "http_status",
    "error_code",
    "type",
)
# By which an object without choices tells that it is an error.
_MESSAGE_KEYS = ("detail", "message", "msg", "error_msg")
# Words that vendors write where others write a status: OpenAI, Anthropic, Google, Moonshot, Mistral, AWS.
_STATUS_WORDS: Mapping[int, tuple[str, ...]] = {
    400: (
        "bad_request",
        "badrequesterror",
        "content_filter",
        "context_length_exceeded",
        "failed_precondition",
        "invalid_argument",
        "invalid_request",
        "invalid_request_error",
        "out_of_range",
        "unsupported_parameter",
        "validationexception",
    ),
    401: (
        "account_deactivated",
        "authentication_error",
        "authenticationerror",
        "incorrect_api_key",
        "invalid_api_key",
        "invalid_authentication",
        "invalid_authentication_error",
        "missing_api_key",
        "unauthenticated",
        "unauthorized",
    ),
    402: (
        "billing_error",
        "billing_hard_limit_reached",
        "billing_not_active",
        "exceeded_current_quota_error",
        "insufficient_balance",
        "insufficient_credits",
        "insufficient_quota",
        "payment_required",
    ),
    403: (
        "accessdeniedexception",
        "access_denied",
        "forbidden",
        "permission_denied",
        "permission_error",
    ),
    404: (
        "deployment_not_found",
        "deploymentnotfound",
        "model_not_found",
        "not_found",
        "not_found_error",
        "notfounderror",
        "resource_not_found_error",
    ),
    408: ("request_timeout", "timeout", "timeout_error"),
    429: (
        "rate_limit",
        "rate_limit_error",
        "rate_limit_exceeded",
        "rate_limit_reached",
        "rate_limit_reached_error",
        "rate_limited",
        "ratelimiterror",
        "requests_limit_exceeded",
        "resource_exhausted",
        "throttled",
        "throttling",
        "throttlingexception",
        "too_many_requests",
        "toomanyrequests",
    ),
    500: (
        "api_error",
        "internal",
        "internal_error",
        "internal_server_error",
        "internalservererror",
        "server_error",
    ),
    503: (
        "engine_overloaded",
        "engine_overloaded_error",
        "overloaded",
        "overloaded_error",
        "server_overloaded",
        "service_unavailable",
        "service_unavailable_error",
        "slow_down",
        "unavailable",
    ),
    504: ("deadline_exceeded", "gateway_timeout"),
}
_STATUS_OF_WORD = {word: status for status, words in _STATUS_WORDS.items() for word in words}
_STATUS_IN_MESSAGE = re.compile(
    r"(?i)(?:^\W{0,3}|\b(?:error|status|code|http)(?:[ _]code)?\W{0,3})([45]\d\d)\b"
)
# What a message says where nothing else does; the first that is found counts.
_STATUS_OF_MESSAGE = (
    (402, QUOTA_WORDS),
    (429, re.compile(r"(?i)rate.?limit|too many requests|throttl|slow down")),
    (
        401,
        re.compile(
            r"(?i)(?:invalid|incorrect|missing|no|wrong) (?:api.?key|auth)|unauthori[sz]ed|unauthenticated"
        ),
    ),
    (503, re.compile(r"(?i)overloaded|over capacity|temporarily unavailable|try again later")),
    (400, CONTEXT_WORDS),
    (404, MODEL_WORDS),
)
_SOUND_CHOICES = re.compile(rb'"choices"\s*:\s*\[\s*\{')
MAX_DEPTH = 4  # of errors inside errors that are read


def failure_in_answer(data: bytes, key: str, headers: Mapping[str, str]) -> Failure | None:
    """The failure that an answer with status 200 holds, alone or beside a text; None where it holds none.

    Args:
        data: the body.
        key: to be taken out of what the error says.
        headers: of the answer, which may say when to come back.
    """
    # Most answers have choices and nowhere the word: they are not parsed here.
    if _SOUND_CHOICES.search(data) and b'"error' not in data:
        return None
    value = parse_json(data)
    if isinstance(value, list) and len(value) == 1:
        value = value[0]  # Google's
    if not isinstance(value, dict):
        return None
    error = find_error(value)
    if error is None:
        return None
    status = error_status(error) or error_status({name: value.get(name) for name in _STATUS_KEYS})
    message = redact_key(error_message(error), key)
    status = status or _status_of_message(message)
    if status:
        failure = failure_from_status(status, _error_body(error), headers, key)
    else:
        failure = Failure("server", f"an error in an answer: {message}", may_retry=True)

    # What came beside the error is half an answer, and may have to be paid for.
    failure.text = _beginning_of_answer(value)
    failure.tokens = read_usage(value.get("usage"))
    failure.billed = bool(failure.text) or failure.tokens != NO_TOKENS
    return failure


def find_error(value: Mapping[str, Any]) -> Any:
    """What of an answer is its error: an object, a list or a text; None where the answer has none."""
    for name in ("error", "errors"):
        if says_something(value.get(name)):
            return value[name]
    if value.get("object") == "error" or value.get("type") == "error":
        return value
    if value.get("choices"):
        return None
    # Without choices any message or status is an error's, in whatever fields this server has for it.
    if isinstance(value.get("base_resp"), Mapping):
        return value["base_resp"]  # MiniMax's
    has_message = any(isinstance(value.get(name), str | list) for name in _MESSAGE_KEYS)
    return value if has_message or error_status(value) else None


def error_status(error: Any) -> int:
    """The HTTP status that an error names, as a number or as one of the words for it; 0 where it names none."""
    statuses = list(_named_statuses(error, depth=0))
    # "invalid_request_error" stands beside better words, and beside numbers.
    for status in statuses:
        if status != 400:
            return status
    return statuses[0] if statuses else 0


def _named_statuses(error: Any, depth: int) -> Iterator[int]:
    if depth > MAX_DEPTH:
        return
    if isinstance(error, Mapping):
        for name in _STATUS_KEYS:
            status = _status_of_value(error.get(name))
            if status:
                yield status
        for name in ("error", "errors"):
            yield from _named_statuses(error.get(name), depth + 1)
    elif isinstance(error, list) and error:
        yield from _named_statuses(error[0], depth + 1)
    elif isinstance(error, str):
        status = _status_of_value(error)
        if status:
            yield status


def _status_of_value(value: Any) -> int:
    """The status of a number, of a number as text, or of a word; 0 for anything else."""
    if isinstance(value, str):
        word = re.sub(r"[\s.-]+", "_", value.strip().casefold())
        if word in _STATUS_OF_WORD:
            return _STATUS_OF_WORD[word]
        if not re.fullmatch(r"[45]\d\d", word):
            return 0
        return int(word)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return 0
    if 400 <= value < 600 and value == int(value):
        return int(value)
    return 0


def _status_of_message(message: str) -> int:
    match = _STATUS_IN_MESSAGE.search(message)
    if match:
        return int(match[1])
    for status, words in _STATUS_OF_MESSAGE:
        if words.search(message):
            return status
    return 0


def _error_body(error: Any) -> bytes:
    """The error as the body of an answer with its status would have held it."""
    return json.dumps({"error": error}, default=str).encode()


def _beginning_of_answer(value: Mapping[str, Any]) -> str:
    """As much of an answer as came beside an error."""
    for choice in map(as_object, as_list(value.get("choices"))):
        entry = as_object(choice.get("message")) or choice
        for content in (entry.get("content"), entry.get("text")):
            if isinstance(content, str):
                return replace_lone_surrogates(content)
    return ""
