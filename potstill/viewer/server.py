"""The web server of `potstill view`: static pages, the JSON API, the live stream. A few threads read the runs."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, final

from aiohttp import web

from potstill.errors import ConfigError, InputError, PotstillError, StoreError
from potstill.viewer.answers import (
    Answers,
    ForbiddenError,
    NotFoundError,
    Parameters,
    describe_error,
)
from potstill.viewer.live import POLL_SECONDS, LiveStream
from potstill.viewer.security import API_PREFIX, HEADERS, Guard
from potstill.viewer.trace_page import NoTraceError

THREADS = 4
BEAT_SECONDS = 15.0
MAX_BODY = 64 * 1024
PACKAGE = Path(__file__).parent
STATIC_FOLDERS = ("app", "vendor")
CONTENT_TYPES = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
    ".woff2": "font/woff2",
    ".json": "application/json",
    ".png": "image/png",
    ".txt": "text/plain",
}

log = logging.getLogger("potstill.viewer")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@final
class Viewer:
    """One server.

    Args:
        answers: that it gives.
        guard: who may ask.
    """

    def __init__(self, answers: Answers, guard: Guard) -> None:
        self.answers, self.guard = answers, guard
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="potstill-view")
        self._files = find_static_files()
        self._is_closing = False

    def application(self) -> web.Application:
        """What aiohttp serves."""
        application = web.Application(middlewares=[self._check], client_max_size=MAX_BODY)
        application.router.add_route("*", "/api/{path:.*}", self._answer)
        application.router.add_route("*", "/{path:.*}", self._serve_file)
        application.on_shutdown.append(self._end_streams)
        application.on_cleanup.append(self._close)
        return application

    async def _end_streams(self, _: web.Application) -> None:
        self._is_closing = True

    async def _close(self, _: web.Application) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        if self.answers.indexer is not None:
            await asyncio.to_thread(self.answers.indexer.close)

    async def run_in_thread(self, function: Callable[[], Any]) -> Any:
        """Call what reads files or a store, in one of the few threads that do."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, function)

    @web.middleware
    async def _check(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuse what must be refused, and put the headers on everything that is sent."""
        refusal = self.guard.refuse(request.method, request.path, request.headers)
        if refusal is not None:
            error = ConfigError(refusal.message, expected=refusal.expected, fix=refusal.fix)
            response: web.StreamResponse = send_json(describe_error(error), refusal.status)
            # A person looks at what a browser opens, and a program at the API.
            if not request.path.startswith(API_PREFIX):
                response = web.Response(text=f"{error}\n", status=refusal.status)
        else:
            try:
                response = await handler(request)
            except web.HTTPException as error:
                response = send_json({"error": {"found": error.reason}}, error.status)
            except PotstillError as error:
                response = send_json(describe_error(error), status_of_error(error))
            except Exception as error:
                # Boundary: a bug of ours must not end the server. The log has the traceback.
                log.exception("the answer to %s failed", request.path)
                message = f"an error of the viewer's own: {type(error).__name__}: {error}"
                response = send_json({"error": {"found": message}}, 500)
        if not response.prepared:
            response.headers.update(HEADERS)
        return response

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        path = request.match_info["path"].split("/")
        parameters = Parameters({name: request.query.getall(name) for name in request.query})
        if request.method == "PUT":
            return await self._put_note(request, path)
        if path == ["live"] and request.method == "GET":
            return await self._stream(request, parameters)
        page = path[2] if len(path) > 2 and path[0] == "run" else ""
        if page == "export":
            return await self._export(request, path, parameters)
        if page == "file":
            return await self._send_file(path)
        # Where nothing has changed, an answer that the page has already is not made again.
        etag = await self.run_in_thread(lambda: self._etag(path, request.path_qs))
        if etag and request.headers.get("If-None-Match") == etag:
            return web.Response(status=304, headers={"ETag": etag})
        began = time.monotonic()
        document = await self.run_in_thread(lambda: self.answers.answer(path, parameters))
        duration = time.monotonic() - began
        # Arms that were not asked the same are not compared, and what differs is in the document.
        is_refused = path == ["compare"] and not document["is_comparable"]
        response = send_json(document, 409 if is_refused else 200)
        # The page asks the less often for news the longer an answer takes.
        response.headers["Server-Timing"] = f"read;dur={1000 * duration:.0f}"
        if etag:
            response.headers["ETag"] = etag
        return response

    def _etag(self, path: list[str], asked: str) -> str:
        """A name for an answer that lasts as long as nothing of its run changes; "" for answers without."""
        if len(path) < 2 or path[0] != "run" or path[1] not in self.answers.readers:
            return ""
        generation = self.answers.reader(path[1]).generation()
        return '"' + hashlib.sha256(f"{generation} {asked}".encode()).hexdigest()[:24] + '"'

    async def _export(
        self, request: web.Request, path: list[str], parameters: Parameters
    ) -> web.StreamResponse:
        """A list as a file, sent part by part."""
        name, content_type, parts = await self.run_in_thread(
            lambda: self.answers.export(path, parameters)
        )
        response = web.StreamResponse(headers={**HEADERS, **_download_headers(name)})
        response.content_type = content_type
        await response.prepare(request)
        try:
            while (part := await self.run_in_thread(lambda: next(parts, None))) is not None:
                await response.write(part.encode("utf-8", "backslashreplace"))
            await response.write_eof()
        except ConnectionError:
            log.debug("the page was closed while %s was sent", name)
        finally:
            await self.run_in_thread(parts.close)
        return response

    async def _send_file(self, path: list[str]) -> web.StreamResponse:
        """A file of the run, to be stored and never shown."""
        file = await self.run_in_thread(lambda: self.answers.file(path))
        headers = {**HEADERS, **_download_headers(file.path.name)}
        return web.FileResponse(file.path, headers={**headers, "Content-Type": file.content_type})

    async def _stream(self, request: web.Request, parameters: Parameters) -> web.StreamResponse:
        """One JSON object a line for as long as the page is open: what has changed, and a beat where nothing has."""
        run, cursor = parameters.text("run"), parameters.text("since")
        stream = await self.run_in_thread(lambda: LiveStream(self.answers, run, cursor))
        response = web.StreamResponse(headers=HEADERS)
        response.content_type = "application/x-ndjson"
        await response.prepare(request)
        try:
            await self._write_news(response, stream)
        except ConnectionError:
            log.debug("the page of a live stream was closed")
        return response

    async def _write_news(self, response: web.StreamResponse, stream: LiveStream) -> None:
        await _write_line(response, {"type": "hello", "beat": BEAT_SECONDS})
        last_written = time.monotonic()
        while not self._is_closing:
            lines = await self.run_in_thread(lambda: list(stream.next_lines()))
            if not lines and time.monotonic() - last_written > BEAT_SECONDS:
                lines = [{"type": "beat"}]
            for line in lines:
                await _write_line(response, line)
                last_written = time.monotonic()
            await asyncio.sleep(POLL_SECONDS)

    async def _put_note(self, request: web.Request, path: list[str]) -> web.StreamResponse:
        if request.content_type != "application/json":
            raise web.HTTPUnsupportedMediaType(reason="a note is sent as application/json")
        body = await request.read()
        try:
            values = json.loads(body)
        except ValueError as error:
            raise InputError(f"the note is no JSON: {error}") from error
        note = await self.run_in_thread(lambda: self.answers.add_note(path, values))
        return send_json(note)

    async def _serve_file(self, request: web.Request) -> web.StreamResponse:
        """A file of the page: looked up by its name, which is never joined to a path."""
        file = self._files.get(request.match_info["path"] or "index.html")
        if file is None:
            raise NotFoundError("there is no such file")
        body = await self.run_in_thread(file.read_bytes)
        content_type = CONTENT_TYPES.get(file.suffix, "application/octet-stream")
        is_text = content_type.startswith("text/")
        return web.Response(
            body=body, content_type=content_type, charset="utf-8" if is_text else None
        )


async def _write_line(response: web.StreamResponse, line: Mapping[str, Any]) -> None:
    text = json.dumps(line, ensure_ascii=True, separators=(",", ":"))
    await response.write(text.encode("ascii") + b"\n")


def _download_headers(name: str) -> dict[str, str]:
    """Headers under which a browser stores a file, and never shows it."""
    ascii_name = re.sub(r"[^A-Za-z0-9._-]", "-", name)
    return {"Content-Disposition": f'attachment; filename="{ascii_name}"'}


def find_static_files() -> Mapping[str, Path]:
    """The files of the page by their path in its address; `index.html` is that of the app."""
    # A closed list, made once: a name that is not in it is no file, whatever dots and slashes it has.
    files: dict[str, Path] = {}
    for folder in STATIC_FOLDERS:
        for file in sorted((PACKAGE / folder).rglob("*")):
            if file.is_file():
                files[file.relative_to(PACKAGE).as_posix()] = file
    if "app/index.html" in files:
        files["index.html"] = files["app/index.html"]
    return files


def send_json(document: Any, status: int = 200) -> web.Response:
    """A document in ASCII, so that lone surrogates survive."""
    text = json.dumps(document, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return web.Response(text=text, status=status, content_type="application/json")


def status_of_error(error: PotstillError) -> int:
    """The HTTP status of an error."""
    if isinstance(error, NotFoundError | NoTraceError):
        return 404
    if isinstance(error, ForbiddenError):
        return 403
    return 500 if isinstance(error, StoreError) else 400
