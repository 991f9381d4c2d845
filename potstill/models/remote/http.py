"""One server over HTTP: bytes go out, bytes come back, everything else is a `Failure`."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any
from urllib.request import getproxies, proxy_bypass

from potstill import __version__
from potstill.models.remote import event_loop
from potstill.models.remote.error_messages import Breaker, of_exception, of_status, of_text
from potstill.models.remote.errors import Failure
from potstill.models.remote.options import Options
from potstill.models.remote.response import parse_json, replace_lone_surrogates

if TYPE_CHECKING:
    from aiohttp import ClientResponse

MOST = 64 << 20  # bytes of an answer
_ESCAPE = re.compile(rb"\\u00([2-7][0-9a-fA-F])")
LISTING = 5.0  # seconds for the list of models that an error shows


class Wire:
    """The calls of one model to its server. The key is read once, here, and goes nowhere but into the header."""

    def __init__(self, options: Options) -> None:
        """Take the key from the environment; an error names the variable that lacks."""
        self._base, self._key = options.base, options.secret()
        self._bytes = self._key.encode()
        self._headers = {
            "content-type": "application/json",
            "user-agent": f"potstill/{__version__}",
        }
        if self._key:
            self._headers["authorization"] = f"Bearer {self._key}"
        self._proxy = _proxy(options)
        self.breaker = Breaker()

    async def post(self, path: str, data: bytes) -> bytes:
        """The body of a successful answer; raises `Failure`."""
        now = event_loop.loop().time
        if self.breaker.broken(now()):
            raise Failure("unreachable", f"no answer to {self.breaker.told(now())}", stop=True)
        try:
            body = await self._post(path, data)
        except Failure as failure:
            self.breaker.failed(failure, now())
            raise
        self.breaker.success()
        return body

    async def get(self, path: str) -> bytes:
        """The body at a path; raises `Failure`."""
        status, body, headers = await self._call("GET", self._base + path, None)
        if status != 200:
            raise of_status(status, body, headers, self._key)
        return self._without_key(body)

    async def upload(self, path: str, data: bytes, name: str) -> bytes:
        """Send a file for a batch; the server's answer."""
        import aiohttp

        form = aiohttp.FormData({"purpose": "batch"})
        form.add_field("file", data, filename=name, content_type="application/jsonl")
        headers = {k: v for k, v in self._headers.items() if k != "content-type"}
        status, body, said = await self._call("POST", self._base + path, form(), headers)
        if status != 200:
            raise of_status(status, body, said, self._key)
        return body

    def failure(self, status: int, body: bytes) -> Failure:
        """What a status that stands in a file means."""
        return of_status(status, self._without_key(body), {}, self._key)

    async def models(self) -> list[str]:
        """What the server says it has; empty where it does not say."""
        import asyncio

        try:
            async with asyncio.timeout(LISTING):
                status, body, _ = await self._call("GET", f"{self._base}/models", None)
        except (Failure, TimeoutError):
            return []
        found = parse_json(body) if status == 200 else None
        rows = found.get("data") if isinstance(found, dict) else None
        names = (
            [row.get("id") for row in rows if isinstance(row, dict)]
            if isinstance(rows, list)
            else []
        )
        return sorted(
            replace_lone_surrogates(name)[:100] for name in names if isinstance(name, str)
        )[:40]

    async def _post(self, path: str, data: bytes) -> bytes:
        url = path if path.startswith("http") else self._base + path
        status, body, headers = await self._call("POST", url, data)
        if status != 200:
            raise of_status(status, body, headers, self._key)
        page = of_text(
            body, headers.get("content-type", ""), self._key, answered=self.breaker.answered
        )
        if page is not None:
            raise page
        return self._without_key(body)

    def _without_key(self, body: bytes) -> bytes:
        """An answer without the key, which a server may say again anywhere, and may write with JSON's escapes."""
        key = self._bytes
        if not key:
            return body
        if key in body:
            body = body.replace(key, b"[key]")
        if b"\\/" in body or _ESCAPE.search(body):
            plain = _ESCAPE.sub(
                lambda found: bytes.fromhex(found[1].decode()), body.replace(b"\\/", b"/")
            )
            if key in plain:
                value = parse_json(body)
                scrubbed = plain.replace(key, b"[key]")
                return (
                    scrubbed if value is None else json.dumps(_scrubbed(value, self._key)).encode()
                )
        return body

    async def _call(
        self, method: str, url: str, data: Any, headers: dict[str, str] | None = None
    ) -> tuple[int, bytes, Any]:
        import aiohttp

        try:
            async with event_loop.session().request(
                method,
                url,
                data=data,
                headers=headers or self._headers,
                allow_redirects=False,
                proxy=self._proxy,
            ) as response:
                return response.status, await _body(response), response.headers
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise of_exception(error, self._key, sent=False) from None
        except aiohttp.InvalidURL as error:
            raise Failure("unreachable", f"url: {type(error).__name__}", stop=True) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise of_exception(error, self._key, sent=True) from None


def _scrubbed(value: Any, key: str) -> Any:
    if isinstance(value, str):
        return value.replace(key, "[key]")
    if isinstance(value, list):
        return [_scrubbed(item, key) for item in value]
    return (
        {name: _scrubbed(item, key) for name, item in value.items()}
        if isinstance(value, dict)
        else value
    )


async def _body(response: ClientResponse) -> bytes:
    """The whole body, up to a size that no answer has."""
    length = response.content_length
    if length is not None and length <= MOST and "content-encoding" not in response.headers:
        return await response.read()
    parts, size = [], 0
    async for chunk in response.content.iter_any():
        parts.append(chunk)
        size += len(chunk)
        if size > MOST:
            raise Failure("malformed", f"an answer of more than {MOST >> 20} MiB", billed=True)
    return b"".join(parts)


def _proxy(options: Options) -> str | None:
    """The proxy that the environment names for this server; none for a loopback one."""
    scheme, _, rest = options.base.partition("://")
    host = rest.partition("/")[0]
    if options.host == "local" or proxy_bypass(host):
        return None
    return getproxies().get(scheme)
