"""One event loop in a thread of its own, for every remote model of this process; uvloop where it is there."""

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
CONNECT_TIMEOUT = 30  # seconds

_Result = TypeVar("_Result")

_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None
_session: ClientSession | None = None


def get_loop() -> asyncio.AbstractEventLoop:
    """The loop, started now if it is not running."""
    global _loop  # noqa: PLW0603 - one loop a process
    with _lock:
        if _loop is None:
            _loop = _new_loop()
            threading.Thread(target=_loop.run_forever, name="potstill-remote", daemon=True).start()
        return _loop


def submit(work: Coroutine[Any, Any, _Result]) -> Future[_Result]:
    """Run a coroutine on the loop; the result is for another thread."""
    return asyncio.run_coroutine_threadsafe(work, get_loop())


def call_soon(function: Callable[..., object], *args: object) -> None:
    """Run a function on the loop, from any thread."""
    get_loop().call_soon_threadsafe(function, *args)


def http_session() -> ClientSession:
    """The HTTP session of the loop, made at the first use; call it on the loop. Flow control is not its business."""
    global _session  # noqa: PLW0603 - one pool of connections a process
    if _session is None or _session.closed:
        import aiohttp

        _session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEPALIVE),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT),
        )
    return _session


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


@atexit.register
def _close_at_exit() -> None:
    """End what is in flight and close the connections at the end of the process, so that no server waits for them."""
    if _session is not None and _loop is not None:
        with contextlib.suppress(TimeoutError):
            submit(_cancel_and_close()).result(1.0)


async def _cancel_and_close() -> None:
    # A task that goes on would try again where its connection closes, over a new session.
    in_flight = asyncio.all_tasks() - {asyncio.current_task()}
    for task in in_flight:
        task.cancel()
    await asyncio.gather(*in_flight, return_exceptions=True)
    if _session is not None:
        await _session.close()


def _reset_in_child() -> None:
    """A forked child has no loop thread: it starts its own when it needs one."""
    global _loop, _session, _lock
    _loop, _session, _lock = None, None, threading.Lock()


os.register_at_fork(after_in_child=_reset_in_child)
