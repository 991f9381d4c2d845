"""One event loop in a thread of its own, for every model behind a wire of this process; uvloop where it is there."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from aiohttp import ClientSession

KEEPALIVE = 4.0  # seconds for which an idle connection is kept: less than the 5 of uvicorn, which many servers run on

_Value = TypeVar("_Value")

_lock = threading.Lock()
_running: asyncio.AbstractEventLoop | None = None
_session: ClientSession | None = None


def loop() -> asyncio.AbstractEventLoop:
    """The loop, started now if it is not running."""
    global _running  # noqa: PLW0603 - one loop a process
    with _lock:
        if _running is None:
            _running = _new()
            threading.Thread(target=_running.run_forever, name="potstill-wire", daemon=True).start()
        return _running


def submit(work: Coroutine[Any, Any, _Value]) -> Future[_Value]:
    """Run a coroutine on the loop; the result is for another thread."""
    return asyncio.run_coroutine_threadsafe(work, loop())


def soon(call: Callable[..., object], *args: object) -> None:
    """Run a function on the loop, from any thread."""
    loop().call_soon_threadsafe(call, *args)


def session() -> ClientSession:
    """The HTTP session of the loop, made at the first use; call it on the loop. Flow control is not its business."""
    global _session  # noqa: PLW0603 - one pool of connections a process
    if _session is None or _session.closed:
        import aiohttp

        _session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEPALIVE),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=30),
        )
    return _session


def _new() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    made: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return made


@atexit.register
def _close() -> None:
    """End what is under way and close the connections at the end of the process, so that no server waits for them."""
    if _session is not None and _running is not None:
        with contextlib.suppress(TimeoutError):
            submit(_shut()).result(1.0)


async def _shut() -> None:
    under_way = asyncio.all_tasks() - {asyncio.current_task()}
    for (
        task
    ) in under_way:  # else it would try again where its connection closes, over a new session
        task.cancel()
    await asyncio.gather(*under_way, return_exceptions=True)
    if _session is not None:
        await _session.close()


def _forget() -> None:
    """A forked child has no loop thread: it starts its own when it needs one."""
    global _running, _session, _lock
    _running, _session, _lock = None, None, threading.Lock()


os.register_at_fork(after_in_child=_forget)
