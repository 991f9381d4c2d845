"""From a status, a body or an exception to a `Failure`; from one that stops a run to an error with the way out."""

from __future__ import annotations

import json
import re
import ssl
from collections.abc import Mapping, Sequence
from typing import Any

from potstill.errors import ModelError
from potstill.models.remote.errors import Failure, retry_after
from potstill.models.remote.options import Options
from potstill.models.remote.response import error_message, parse_json

PATIENCE = 5.0  # seconds for which a server that has never answered is tried
ROW = 20  # transport failures one after the other, none answered in between, that end a run ...
LASTING = 120.0  # ... once they have lasted that long
_CONTEXT = re.compile(
    r"(?i)context.{0,20}(?:length|window|size)|maximum.{0,12}(?:length|tokens)|too (?:long|many tokens)"
)
_QUOTA = re.compile(
    r"(?i)insufficient.?(?:quota|balance|funds|credits?)|exceeded your current quota|billing.?hard"
)
_FIELD = re.compile(
    r"(?i)unrecognized|unexpected (?:field|keyword)|unknown (?:field|param|name)|unsupported (?:param|value)"
    r"|not support|extra.?(?:inputs|forbidden)|not permitted|not allowed"
)
_FILTER = re.compile(r"(?i)content.?(?:filter|management|policy)|moderation|flagged|safety")
_MODEL = re.compile(
    r"(?i)\bmodel\b.{0,200}(?:not (?:found|exist)|unknown|does ?n.t exist|no such)|model_not_found|server is pinned to"
)
_MASKED = re.compile(r"[^\s\"'`]*(?:\*{2,}|…|\.{3})[^\s\"'`]*")
_KEYISH = re.compile(r"\b(?:sk|gsk|pk|rk|xai|nvapi|hf)[-_][A-Za-z0-9_-]{6,}")
_RUN = re.compile(r"[A-Za-z0-9_-]{6,}")


def redacted(text: str, key: str) -> str:
    """The text without the key, without parts of it, and without what a server made of it with asterisks."""
    if not key:
        return _KEYISH.sub("[key]", text)
    text = text.replace(key, "[key]")
    text = _MASKED.sub(lambda found: "[key]" if _part(found[0], key) else found[0], text)
    text = _RUN.sub(lambda found: "[key]" if found[0] in key else found[0], text)
    return _KEYISH.sub("[key]", text)


def of_status(status: int, data: bytes, headers: Mapping[str, str], key: str) -> Failure:
    """The failure that an HTTP status other than 200 stands for."""
    value = parse_json(data)
    text = redacted(error_message(value) if value is not None else _plain(data), key)
    detail, code = f"{status} {text}", json.dumps(value)[:2000] if value is not None else text
    after = retry_after(headers)
    if status == 402 or (status in (429, 403) and _QUOTA.search(code)):
        return Failure("rate", f"quota: {detail}", stop=True, status=status)
    if status == 429:
        return Failure("rate", detail, retry=True, after=after, status=status)
    if status == 401 or (status == 403 and not _FILTER.search(code)):
        return Failure("refused", f"key: {detail}", stop=True, status=status)
    if (
        status in (400, 413, 422)
        and (status == 413 or _CONTEXT.search(code))
        and not _unknown_field(code)
    ):
        return Failure("context", detail, status=status)
    if status in (404, 405) or 300 <= status < 400 or (status == 400 and _MODEL.search(code)):
        where = f" to {redacted(headers['location'], key)}" if headers.get("location") else ""
        return Failure(
            "refused",
            f"{'url' if _html(data) or where else 'model'}: {detail}{where}",
            stop=True,
            status=status,
        )
    if status in (400, 403, 422) and _FILTER.search(code):
        return Failure("filter", detail, status=status)
    if status in (400, 422):
        named = bool(_FIELD.search(code))
        return Failure(
            "refused", f"field: {detail}" if named else detail, status=status, stop=named
        )
    if status in (408, 409, 425) or status >= 500:
        return Failure("server", detail, retry=True, after=after, status=status)
    return Failure("refused", detail, status=status)


def of_exception(error: Exception, key: str, *, sent: bool) -> Failure:
    """The failure that an exception of the transport stands for; one after sending may have to be paid."""
    detail = redacted(f"{type(error).__name__}: {error}"[:300], key)
    if isinstance(error, ssl.SSLError) or "certificate" in detail.lower():
        return Failure("unreachable", f"url: {detail}", stop=True)
    if isinstance(error, TimeoutError):
        return Failure("timeout", detail, retry=True, billed=sent)
    return Failure("unreachable", detail, retry=True, billed=sent)


def of_text(data: bytes, kind: str, key: str, *, answered: bool) -> Failure | None:
    """A failure where an answer with status 200 is no JSON: a page of a website, if this server never answered."""
    if data[:1] == b"{" or not _html(data, kind):
        return None
    detail = redacted(f"a web page instead of JSON: {_plain(data)}", key)
    return Failure(
        "malformed", f"url: {detail}", retry=answered, stop=not answered, billed=answered
    )


def stopped(failure: Failure, model: str, options: Options, offered: Sequence[str]) -> ModelError:
    """The error that ends a run: what would fail for every request, and what to do about it."""
    where, variable = options.base, options.variable
    kind, _, rest = failure.detail.partition(": ")
    at_url = where.startswith("http")
    if kind == "model" and not offered and at_url and not re.search(r"/v\d", where):
        kind = "url"  # nothing there knows the protocol's paths
    if kind == "key":
        fix = (
            f"export {variable}=… with a key that is valid there"
            if variable
            else "name its variable: ?key=MY_API_KEY"
        )
        return ModelError(
            f"{where} refuses the key: {rest}", expected=f"a key in ${variable or 'NAME'}", fix=fix
        )
    if kind == "quota":
        fix = "pay there, or go on with another model; what was made is kept"
        return ModelError(f"{where} has no quota left: {rest}", fix=fix)
    if kind == "model":
        fix = (
            f"look at {where}/models for its names, or mend ?url="
            if at_url
            else "mend the name: VENDOR/NAME"
        )
        fix = "take one of these names" if offered else fix
        return ModelError(
            f"{where} has no model {model!r}: {rest}", available=offered, wanted=model, fix=fix
        )
    if kind == "url":
        fix = (
            "check the URL" if where.endswith("/v1") else f"does the URL lack /v1? ?url={where}/v1"
        )
        expected = "a server that speaks OpenAI's protocol"
        return ModelError(f"{where} does not answer as one: {rest}", expected=expected, fix=fix)
    if kind == "field":
        fix = "leave the setting out that it names (extra.…, top_k, logprobs, n), or take transformers:PATH"
        return ModelError(f"{where} does not take the request: {rest}", fix=fix)
    found = f"{where} can't be reached: {failure.detail}"
    fix = (
        f"is it running there? try: curl {where}/models"
        if at_url
        else "look at the network, then try again"
    )
    return ModelError(found, expected="a server that answers", fix=fix)


def is_field(failure: Failure, *names: str) -> bool:
    """Whether a refusal names one of these fields of the request."""
    return failure.status in (400, 422) and any(
        re.search(rf"\b{re.escape(n)}\b", failure.detail) for n in names
    )


class Breaker:
    """Ends a run whose server is gone: many transport failures, none answered in between."""

    def __init__(self) -> None:
        self.answered, self._row, self._since = False, 0, 0.0
        self._last = ""

    def success(self) -> None:
        """Some answer came."""
        self.answered, self._row = True, 0

    def failed(self, failure: Failure, now: float) -> None:
        """A try failed; an answer with a status is a sign of life."""
        if failure.kind not in ("unreachable", "timeout"):
            self.answered, self._row = self.answered or failure.status > 0, 0
            return
        self._since, self._last = self._since if self._row else now, failure.detail
        self._row += 1

    def told(self, now: float) -> str:
        """What was tried."""
        return f"{self._row} tries within {now - self._since:.0f} s, the last one: {self._last}"

    def broken(self, now: float) -> bool:
        """Whether nothing should be sent any more."""
        lasted = now - self._since
        if not self.answered:
            return self._row >= 3 and lasted >= PATIENCE
        return self._row >= ROW and lasted >= LASTING


def _unknown_field(code: str) -> bool:
    return bool(re.search(r"(?i)unsupported.?param|unrecognized|unexpected field", code))


def _part(found: str, key: str) -> bool:
    """Whether a masked word shows an end of the key."""
    shown = [run for run in re.split(r"\*+|…|\.{3,}", found) if len(run) >= 2]
    return any(run in key for run in shown) or "**" in found


def _html(data: bytes, kind: str = "") -> bool:
    return data.lstrip()[:1] == b"<" or "html" in kind


def _plain(data: bytes) -> Any:
    return " ".join(data[:400].decode("utf-8", "replace").split())[:200] or "(an empty body)"
