"""The web server of `potstill view`: static pages, the JSON API, the live stream. A few threads read the runs."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
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
from potstill.viewer.security import HEADERS, Guard
from potstill.viewer.trace_page import NoTraceError

THREADS = 4
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

    def application(self) -> web.Application:
        """What aiohttp serves."""
        application = web.Application(middlewares=[self._check], client_max_size=MAX_BODY)
        application.router.add_route("*", "/api/{path:.*}", self._answer)
        application.router.add_route("*", "/{path:.*}", self._serve_file)
        application.on_cleanup.append(self._close)
        return application

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
            error = ConfigError(refusal.found, expected=refusal.expected)
            response: web.StreamResponse = send_json(describe_error(error), refusal.status)
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
        # Where nothing has changed, an answer that the page has already is not made again.
        etag = await self.run_in_thread(lambda: self._etag(path, request.path_qs))
        if etag and request.headers.get("If-None-Match") == etag:
            return web.Response(status=304, headers={"ETag": etag})
        document = await self.run_in_thread(lambda: self.answers.answer(path, parameters))
        response = send_json(document)
        if etag:
            response.headers["ETag"] = etag
        return response

    def _etag(self, path: list[str], asked: str) -> str:
        """A name for an answer that lasts as long as nothing of its run changes; "" for answers without."""
        if len(path) < 2 or path[0] != "run" or path[1] not in self.answers.readers:
            return ""
        generation = self.answers.reader(path[1]).generation()
        return '"' + hashlib.sha256(f"{generation} {asked}".encode()).hexdigest()[:24] + '"'

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
