"""From a status, a body or an exception to a `Failure`; from one that stops a run to an error with the way out."""

from __future__ import annotations

import json
import re
import ssl
from collections.abc import Mapping, Sequence

from potstill.errors import ModelError
from potstill.models.remote.errors import Failure, read_retry_after
from potstill.models.remote.json_body import error_message, parse_json
from potstill.models.remote.options import ServerOptions
from potstill.secrets import redact_secrets

CONNECTION_PATIENCE = 5.0  # seconds for which a server is tried that never took a connection
OUTAGE_FAILURES = 20  # transport failures in a row, none answered in between, that end a run ...
BREAKDOWN_DEADLINES = (
    2.0  # after which a server that fails every call, whatever the code, ends a run
)
MIN_BREAKDOWN_SECONDS, MIN_BREAKDOWN_TRIES = 60.0, 3
OUTAGE_SHARE = 0.9  # ... once they have lasted for this share of the deadline: just before calls fail one by one

CONTEXT_WORDS = re.compile(
    r"(?i)context.{0,20}(?:length|window|size)|maximum.{0,12}(?:length|tokens)|too (?:long|many tokens)"
)
QUOTA_WORDS = re.compile(
    r"(?i)insufficient.?(?:quota|balance|funds|credits?)|exceeded your current quota|billing.?hard"
)
_FIELD_WORDS = re.compile(
    r"(?i)unrecognized|unexpected (?:field|keyword)|unknown (?:field|param|name)|unsupported (?:param|value)"
    r"|not support|extra.?(?:inputs|forbidden)|not permitted|not allowed"
)
_UNKNOWN_FIELD_WORDS = re.compile(r"(?i)unsupported.?param|unrecognized|unexpected field")
_FILTER_WORDS = re.compile(r"(?i)content.?(?:filter|management|policy)|moderation|flagged|safety")
MODEL_WORDS = re.compile(
    r"(?i)\bmodel\b.{0,200}(?:not (?:found|exist)|unknown|does ?n.t exist|no such)|model_not_found|server is pinned to"
)

# Below 500, of what may pass: timeouts, conflicts, a client that a gateway gave up.
PASSING_STATUSES = (408, 409, 421, 423, 424, 425, 499)

_TLS_WORDS = re.compile(r"(?i)\[ssl|ssl\w*error|ssl handshake|wrong.version.number")

KEY_MARK = "[key]"
_MASKED_WORD = re.compile(r"[^\s\"'`]*(?:\*{2,}|…|\.{3})[^\s\"'`]*")
_LONG_WORD = re.compile(r"[A-Za-z0-9_-]{6,}")


def redact_key(text: str, key: str) -> str:
    """The text without the key, without parts of it, and without what a server made of it with asterisks."""
    if not key:
        return redact_secrets(text, KEY_MARK)

    def redact_masked(match: re.Match[str]) -> str:
        return KEY_MARK if _shows_part_of_key(match[0], key) else match[0]

    def redact_part(match: re.Match[str]) -> str:
        return KEY_MARK if match[0] in key else match[0]

    text = text.replace(key, KEY_MARK)
    text = _MASKED_WORD.sub(redact_masked, text)
    text = _LONG_WORD.sub(redact_part, text)
    return redact_secrets(text, KEY_MARK)


def failure_from_status(status: int, data: bytes, headers: Mapping[str, str], key: str) -> Failure:
    """The failure that an HTTP status other than 200 stands for."""
    value = parse_json(data)
    message = redact_key(error_message(value) if value is not None else _page_text(data), key)
    detail = f"{status} {message}"
    body_text = json.dumps(value)[:2000] if value is not None else message
    retry_after = read_retry_after(headers)

    # Too much was asked for, or not enough paid.
    if status == 402 or (status in (429, 403) and QUOTA_WORDS.search(body_text)):
        return Failure("rate", f"quota: {detail}", stops_run=True, status=status)
    if status == 429:
        return Failure("rate", detail, may_retry=True, retry_after=retry_after, status=status)
    if status == 401 or (status == 403 and not _FILTER_WORDS.search(body_text)):
        return Failure("refused", f"key: {detail}", stops_run=True, status=status)

    # The prompt is too long, unless the message is about a field such as `max_new_tokens`.
    names_context = status == 413 or bool(CONTEXT_WORDS.search(body_text))
    if status in (400, 413, 422) and names_context and not _UNKNOWN_FIELD_WORDS.search(body_text):
        return Failure("context", detail, status=status)

    # Nothing is at this address, or not this model.
    is_redirect = 300 <= status < 400
    names_model = status == 400 and bool(MODEL_WORDS.search(body_text))
    if status in (404, 405) or is_redirect or names_model:
        location = headers.get("location")
        subject = "model"
        if location or _is_web_page(data):
            subject = "url"
        if location:
            detail += f" to {redact_key(location, key)}"
        return Failure("refused", f"{subject}: {detail}", stops_run=True, status=status)

    # The request itself is refused.
    if status in (400, 403, 422) and _FILTER_WORDS.search(body_text):
        return Failure("filter", detail, status=status)
    if status in (400, 422) and _FIELD_WORDS.search(body_text):
        return Failure("refused", f"field: {detail}", status=status, stops_run=True)
    if status in PASSING_STATUSES or status >= 500:
        return Failure("server", detail, may_retry=True, retry_after=retry_after, status=status)
    return Failure("refused", detail, status=status)


def failure_from_exception(error: Exception, key: str, *, was_sent: bool) -> Failure:
    """The failure that an exception of the transport stands for; one after sending may have to be paid."""
    detail = redact_key(f"{type(error).__name__}: {error}"[:300], key)
    tls_failure = failure_of_tls(error, detail)
    if tls_failure is not None:
        return tls_failure
    if isinstance(error, TimeoutError):
        return Failure("timeout", detail, may_retry=True, billed=was_sent)
    return Failure("unreachable", detail, may_retry=True, billed=was_sent)


def failure_of_tls(error: BaseException, detail: str) -> Failure | None:
    """The failure of a connection that TLS does not trust or make; None for any other exception.

    Args:
        error: the exception.
        detail: what it says, without a key.
    """
    if "certificate" in detail.lower():
        return Failure("unreachable", f"certificate: {detail}", stops_run=True)
    if isinstance(error, ssl.SSLError) or _TLS_WORDS.search(detail):
        return Failure("unreachable", f"tls: {detail}", stops_run=True)
    return None


def failure_from_web_page(
    data: bytes, content_type: str, key: str, *, has_answered: bool
) -> Failure | None:
    """The failure of an answer with status 200 that is a page of a website; None where it is none.

    Such a page stops the run if this server never answered, and is tried again if it did.
    """
    if data[:1] == b"{" or not _is_web_page(data, content_type):
        return None
    detail = redact_key(f"url: a web page instead of JSON: {_page_text(data)}", key)
    return Failure(
        "malformed",
        detail,
        may_retry=has_answered,
        stops_run=not has_answered,
        billed=has_answered,
    )


def run_stopping_error(
    failure: Failure, model: str, options: ServerOptions, offered_models: Sequence[str]
) -> ModelError:
    """The error that ends a run: what would fail for every request, and what to do about it."""
    base, variable = options.base, options.key_variable
    subject, _, detail = failure.detail.partition(": ")
    has_url = base.startswith("http")
    if subject == "model" and not offered_models and has_url and not re.search(r"/v\d", base):
        subject = "url"  # nothing there knows the protocol's paths

    if subject == "key":
        fix = "name its variable: ?key=MY_API_KEY"
        if variable:
            fix = f"export {variable}=… with a key that is valid there"
        expected = f"a key in ${variable or 'NAME'}"
        return ModelError(f"{base} refuses the key: {detail}", expected=expected, fix=fix)
    if subject == "quota":
        fix = "pay there, or go on with another model; what was made is kept"
        return ModelError(f"{base} has no quota left: {detail}", fix=fix)
    if subject == "model":
        fix = "correct the name: VENDOR/NAME"
        if offered_models:
            fix = "take one of these names"
        elif has_url:
            fix = f"look at {base}/models for its names, or correct ?url="
        message = f"{base} has no model {model!r}: {detail}"
        return ModelError(message, available=offered_models, wanted=model, fix=fix)
    if subject == "url":
        fix = f"does the URL lack /v1? ?url={base}/v1"
        if base.endswith("/v1"):
            fix = "check the URL"
        expected = "a server that speaks OpenAI's protocol"
        return ModelError(f"{base} does not answer as one: {detail}", expected=expected, fix=fix)
    if subject in ("certificate", "tls", "breakdown"):
        return _server_error(subject, base, detail)
    if subject == "field":
        fix = "leave the setting out that it names (extra.…, top_k, logprobs, n), or take transformers:PATH"
        return ModelError(f"{base} does not take the request: {detail}", fix=fix)

    fix = "look at the network, then try again"
    if has_url:
        fix = f"is it running there? try: curl {base}/models"
    message = f"{base} can't be reached: {failure.detail}"
    return ModelError(message, expected="a server that answers", fix=fix)


def _server_error(subject: str, base: str, detail: str) -> ModelError:
    """The error of a server that is there and can't be talked to, or fails every call."""
    if subject == "breakdown":
        fix = "the same command goes on when it is back; --retry-errors asks again for calls that failed until now"
        return ModelError(f"{base} fails every call: {detail}", fix=fix)
    if subject == "certificate":
        return ModelError(
            f"the certificate of {base} is not trusted: {detail}",
            expected="a certificate that an authority of this machine vouches for, valid today and for this host",
            fix="export SSL_CERT_FILE=… with the certificate of the authority that signed it, or correct the host",
        )
    return ModelError(
        f"{base} makes no TLS connection, so no certificate could be checked: {detail}",
        expected="a server that speaks https at this port",
        fix=f"is it plain http there? ?url={base.replace('https://', 'http://', 1)}",
    )


def names_field(failure: Failure, *fields: str) -> bool:
    """Whether a refusal names one of these fields of the request."""
    if failure.status not in (400, 422):
        return False
    return any(re.search(rf"\b{re.escape(field)}\b", failure.detail) for field in fields)


class CircuitBreaker:
    """Ends a run whose server is gone, or fails whatever it is asked, so that its calls do not all fail one by one.

    A server is gone after many transport failures in a row, for about as long as the deadline. One that answers and
    fails every call, whatever the code, is left after twice the deadline.

    Args:
        deadline: seconds for which calls are tried.
    """

    def __init__(self, deadline: float) -> None:
        self.has_answered = False
        self._outage_seconds = OUTAGE_SHARE * deadline
        self._breakdown_seconds = max(BREAKDOWN_DEADLINES * deadline, MIN_BREAKDOWN_SECONDS)
        self._breakdown_start: float | None = (
            None  # when the first try left that nothing answered since
        )
        self._breakdown_tries = 0
        self._breakdown_detail = ""
        self._has_connected = False
        self._failure_count = 0  # in a row
        self._first_failure_time = 0.0
        self._last_detail = ""

    def record_success(self) -> None:
        """Some answer came."""
        self.has_answered, self._failure_count = True, 0
        self._breakdown_start = None

    def record_failure(self, failure: Failure, now: float, start: float) -> None:
        """A try failed that left at `start`; an answer with a status is a sign of life."""
        self._record_breakdown(failure, start)
        self._has_connected = self._has_connected or failure.billed or failure.status > 0
        if failure.kind not in ("unreachable", "timeout"):
            self.has_answered = self.has_answered or failure.status > 0
            self._failure_count = 0
            return
        if self._failure_count == 0:
            self._first_failure_time = now
        self._last_detail = failure.detail
        self._failure_count += 1

    def _record_breakdown(self, failure: Failure, start: float) -> None:
        if not failure.may_retry:
            self._breakdown_start = None  # a refusal is an answer
            return
        if self._breakdown_start is None:
            self._breakdown_start, self._breakdown_tries = start, 0
        self._breakdown_tries += 1
        self._breakdown_detail = str(failure)

    def breakdown(self, now: float) -> Failure | None:
        """The failure that ends the run, where the server has failed every call for long; None where it has not."""
        if self._breakdown_start is None or self._breakdown_tries < MIN_BREAKDOWN_TRIES:
            return None
        seconds = now - self._breakdown_start
        if seconds < self._breakdown_seconds:
            return None
        tries = f"all {self._breakdown_tries} tries within {seconds:.0f} s failed"
        detail = f"breakdown: {tries}, the last one: {self._breakdown_detail}"
        return Failure("server", detail, stops_run=True)

    def describe_failures(self, now: float) -> str:
        """What was tried."""
        seconds = now - self._first_failure_time
        return (
            f"{self._failure_count} tries within {seconds:.0f} s, the last one: {self._last_detail}"
        )

    def is_open(self, now: float) -> bool:
        """Whether nothing should be sent any more."""
        seconds = now - self._first_failure_time
        if not self.has_answered and not self._has_connected:
            return self._failure_count >= 3 and seconds >= CONNECTION_PATIENCE
        return self._failure_count >= OUTAGE_FAILURES and seconds >= self._outage_seconds


def _shows_part_of_key(word: str, key: str) -> bool:
    """Whether a masked word shows an end of the key."""
    shown_parts = [part for part in re.split(r"\*+|…|\.{3,}", word) if len(part) >= 2]
    return any(part in key for part in shown_parts) or "**" in word


def _is_web_page(data: bytes, content_type: str = "") -> bool:
    return data.lstrip()[:1] == b"<" or "html" in content_type


def _page_text(data: bytes) -> str:
    text = " ".join(data[:400].decode("utf-8", "replace").split())[:200]
    return text or "(an empty body)"
