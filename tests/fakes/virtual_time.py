"""An event loop whose clock jumps to the next timer: hours pass in milliseconds, and every run is the same."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any


class _Selector(selectors.SelectSelector):
    def __init__(self) -> None:
        super().__init__()
        self.loop: Any = None

    def select(self, timeout: float | None = None) -> Any:
        if found := super().select(0):
            return found
        if timeout is None:
            raise RuntimeError("everything waits, and no timer is set: a wake-up was lost")
        self.loop.now += timeout
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """`now` is its time; `steps` counts the callbacks that were made ready."""

    def __init__(self) -> None:
        selector = _Selector()
        self.now, self.steps = 0.0, 0
        super().__init__(selector)
        selector.loop = self

    def time(self) -> float:
        return self.now

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> Any:
        self.steps += 1
        return super().call_soon(callback, *args, context=context)


def run(main: Coroutine[Any, Any, Any]) -> Any:
    """What the coroutine returns, on a loop of its own."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
