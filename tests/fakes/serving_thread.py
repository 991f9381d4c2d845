"""A completion server in a thread of this process, on a free port."""

from __future__ import annotations

import asyncio
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from potstill.models.local.transformers import TransformersModel
from potstill.serving.serve import ServeSettings, make_server
from potstill.serving.server import CompletionServer


class Served(NamedTuple):
    """A server that answers: where, and what is behind it."""

    url: str
    server: CompletionServer
    model: TransformersModel

    def post(self, path: str, body: Any) -> tuple[int, Any]:
        """Status and body of an answer to a call of a path, such as /v1/completions."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self.url.removesuffix("/v1") + path, data, headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())


@contextmanager
def serving(checkpoint: Path, **settings: Any) -> Iterator[Served]:
    """Serve a checkpoint under the name "tiny"; what is under way at the end is refused."""
    from aiohttp import web

    model = TransformersModel(checkpoint, dtype="float32", device="cpu", threads=1)
    server = make_server(model, ServeSettings(names=["tiny"], **settings))
    loop = asyncio.new_event_loop()
    runner = web.AppRunner(server.application(), handler_cancellation=True, shutdown_timeout=1.0)

    async def start() -> str:
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        return f"http://127.0.0.1:{runner.addresses[0][1]}/v1"

    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    url = asyncio.run_coroutine_threadsafe(start(), loop).result(60)
    try:
        yield Served(url, server, model)
    finally:
        server.begin_closing()
        server.engine.close(0.0)
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(60)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(60)
        loop.close()
