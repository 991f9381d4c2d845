"""One server over HTTP: bytes go out, bytes come back, everything else is a `Failure`."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from potstill import __version__
from potstill.errors import ModelError
from potstill.models.remote import event_loop
from potstill.models.remote.answer_errors import failure_in_answer
from potstill.models.remote.error_messages import (
    CircuitBreaker,
    failure_from_exception,
    failure_from_status,
    failure_from_web_page,
)
from potstill.models.remote.errors import Failure
from potstill.models.remote.json_body import (
    as_list,
    as_object,
    parse_json,
    parse_json_object,
    replace_lone_surrogates,
)
from potstill.models.remote.options import ServerOptions
from potstill.secrets import is_placeholder_key

if TYPE_CHECKING:
    from aiohttp import ClientResponse

NO_HEADERS: Mapping[str, str] = MappingProxyType({})
MAX_BODY_BYTES = 64 << 20  # of an answer
LISTING_SECONDS = 5.0  # for the list of models that an error shows
LISTED_MODELS = 40
_JSON_ESCAPE = re.compile(rb"\\u00([2-7][0-9a-fA-F])")  # of printable ASCII


class HttpClient:
    """The calls of one model to its server. The key is read once, here, and goes nowhere but into the header."""

    def __init__(self, options: ServerOptions) -> None:
        """Take the key from the environment; an error names the variable that lacks."""
        self._base, self._key = options.base, options.read_key()
        options.warn_of_clear_text()
        self._headers = {
            "content-type": "application/json",
            "user-agent": f"potstill/{__version__}",
        }
        if self._key:
            self._headers["authorization"] = f"Bearer {self._key}"
        self._proxy = _proxy_of(options)
        self.breaker = CircuitBreaker(options.deadline)

    async def post(self, path: str, data: bytes) -> bytes:
        """The body of a successful answer; raises `Failure`."""
        now = event_loop.get_loop().time
        if self.breaker.is_open(now()):
            detail = f"no answer to {self.breaker.describe_failures(now())}"
            raise Failure("unreachable", detail, stops_run=True)
        breakdown = self.breaker.breakdown(now())
        if breakdown is not None:
            raise breakdown
        start = now()
        try:
            body = await self._post_once(path, data)
        except Failure as failure:
            self.breaker.record_failure(failure, now(), start)
            raise
        except asyncio.CancelledError:
            # Most often the time of the try is up, which flow control counts.
            timeout = Failure("timeout", "no whole answer in time", may_retry=True, billed=True)
            self.breaker.record_failure(timeout, now(), start)
            raise
        self.breaker.record_success()
        return body

    async def command(self, url: str, data: bytes) -> bytes:
        """The body of the answer to a call that asks for no completion: its status alone says whether it failed."""
        status, body, headers = await self._request("POST", url, data)
        if not is_success(status):
            raise failure_from_status(status, body, headers, self._key)
        return self._without_key(body)

    async def get(self, path: str) -> bytes:
        """The body at a path; raises `Failure`."""
        status, body, headers = await self._request("GET", self._base + path, None)
        if not is_success(status):
            raise failure_from_status(status, body, headers, self._key)
        return self._without_key(body)

    async def upload_file(self, path: str, data: bytes, name: str) -> bytes:
        """Send a file for a batch; the server's answer."""
        import aiohttp

        form = aiohttp.FormData({"purpose": "batch"})
        form.add_field("file", data, filename=name, content_type="application/jsonl")
        headers = dict(self._headers)
        del headers["content-type"]  # the form brings its own, with its boundary
        status, body, answer_headers = await self._request(
            "POST", self._base + path, form(), headers
        )
        if not is_success(status):
            raise failure_from_status(status, body, answer_headers, self._key)
        return body

    def failure_in_file(self, status: int, body: bytes) -> Failure:
        """What a status that stands in a batch's file means."""
        return failure_from_status(status, self._without_key(body), {}, self._key)

    async def list_models(self) -> list[str]:
        """Names of the models that the server says it has; empty where it does not say."""
        try:
            async with asyncio.timeout(LISTING_SECONDS):
                status, body, _ = await self._request("GET", f"{self._base}/models", None)
        except (Failure, TimeoutError):
            return []
        if not is_success(status):
            return []
        names = []
        for row in as_list(parse_json_object(self._without_key(body)).get("data")):
            name = as_object(row).get("id")
            if isinstance(name, str):
                names.append(replace_lone_surrogates(name)[:100])
        return sorted(names)[:LISTED_MODELS]

    async def _post_once(self, path: str, data: bytes) -> bytes:
        url = self._base + path
        if path.startswith("http"):  # DeepSeek continues prefixes at another base URL
            url = path
        status, body, headers = await self._request("POST", url, data)
        if not is_success(status):
            raise failure_from_status(status, body, headers, self._key)
        content_type = headers.get("content-type", "")
        page_failure = failure_from_web_page(
            body, content_type, self._key, has_answered=self.breaker.has_answered
        )
        if page_failure is not None:
            raise page_failure
        return self.check_answer(self._without_key(body), headers)

    def check_answer(self, body: bytes, headers: Mapping[str, str] = NO_HEADERS) -> bytes:
        """The body of an answer with status 200; raises the `Failure` that stands in it."""
        failure = failure_in_answer(body, self._key, headers)
        if failure is not None:
            raise failure
        return body

    def _without_key(self, body: bytes) -> bytes:
        """An answer without the key, which a server may say again anywhere, and may write with JSON's escapes.

        A placeholder is left where it stands: `EMPTY` is a word of any text, and `message` a field of every answer.
        """
        if is_placeholder_key(self._key):
            return body
        key = self._key.encode()
        body = body.replace(key, b"[key]")
        if b"\\/" not in body and not _JSON_ESCAPE.search(body):
            return body
        # Escaped as `\u0073` or `\/`, the key is not among the bytes, and is in the text.
        unescaped = _JSON_ESCAPE.sub(
            lambda match: bytes.fromhex(match[1].decode()), body.replace(b"\\/", b"/")
        )
        if key not in unescaped:
            return body
        value = parse_json(body)
        if value is None:
            return unescaped.replace(key, b"[key]")
        return json.dumps(_replace_key(value, self._key)).encode()

    async def _request(
        self, method: str, url: str, data: Any, headers: dict[str, str] | None = None
    ) -> tuple[int, bytes, Any]:
        """Status, body and headers of an answer, whatever its status; a `Failure` where there is none."""
        import aiohttp

        session = event_loop.http_session()
        try:
            async with session.request(
                method,
                url,
                data=data,
                headers=headers or self._headers,
                allow_redirects=False,
                proxy=self._proxy,
            ) as response:
                return response.status, await _read_body(response), response.headers
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise failure_from_exception(error, self._key, was_sent=False) from None
        except aiohttp.InvalidURL as error:
            detail = f"url: {type(error).__name__}"
            raise Failure("unreachable", detail, stops_run=True) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise failure_from_exception(error, self._key, was_sent=True) from None


def is_success(status: int) -> bool:
    """Whether a status brings an answer."""
    return 200 <= status < 300


def _replace_key(value: Any, key: str) -> Any:
    """A JSON value with `[key]` for the key in its texts."""
    if isinstance(value, str):
        return value.replace(key, "[key]")
    if isinstance(value, list):
        return [_replace_key(item, key) for item in value]
    if isinstance(value, dict):
        return {name: _replace_key(item, key) for name, item in value.items()}
    return value


async def _read_body(response: ClientResponse) -> bytes:
    """The whole body, up to a size that no answer has."""
    length = response.content_length
    is_compressed = "content-encoding" in response.headers
    if length is not None and length <= MAX_BODY_BYTES and not is_compressed:
        return await response.read()
    parts, size = [], 0
    async for part in response.content.iter_any():
        parts.append(part)
        size += len(part)
        if size > MAX_BODY_BYTES:
            detail = f"an answer of more than {MAX_BODY_BYTES >> 20} MiB"
            raise Failure("malformed", detail, billed=True)
    return b"".join(parts)


def _proxy_of(options: ServerOptions) -> str | None:
    """The proxy that the environment names for this server; none for a loopback one."""
    scheme, _, address = options.base.partition("://")
    host = address.partition("/")[0]
    if options.host == "local" or proxy_bypass(host):
        return None
    proxy = getproxies().get(scheme)
    if proxy is not None:
        _check_proxy(proxy, f"{scheme}_proxy")
    return proxy


def _check_proxy(proxy: str, variable: str) -> None:
    """Refuse a proxy that can't be used; its address is not shown, since it may hold a password."""
    try:
        parts = urlsplit(proxy)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or parts.scheme not in ("http", "https"):
        raise ModelError(
            f"the proxy in the environment variable {variable} can't be used",
            expected="http://HOST:PORT, of an HTTP proxy",
            fix=f"export {variable}=http://HOST:PORT, or unset it and name the server in no_proxy",
        )
