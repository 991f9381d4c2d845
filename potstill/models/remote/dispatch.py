"""Many requests under way at once: drawn lazily in the caller's thread, sent on the loop, handed back in portions.

A thread that wakes for every answer spends more on waking than on the answer, so what lands is collected for a few
milliseconds. The caller's thread draws requests and takes portions; everything else happens on the loop's.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any, NamedTuple, TypeAlias, final

from potstill.errors import PotstillError
from potstill.models.model import Attempt, Completion, Gate, Request
from potstill.models.remote import event_loop
from potstill.models.remote.errors import Failure
from potstill.models.remote.flow_control import Flow
from potstill.records import NO_TOKENS

AHEAD = 2  # requests held for each that may be under way: so many that no slot waits for the caller
PULLED = (
    32  # requests drawn before they are sent, so that the first leaves while the rest is looked up
)
TICK = 0.004  # seconds for which completions are collected
GRACE = 60.0  # seconds for calls that are under way when a run is stopped: they are paid for
WAIT = (
    0.25  # seconds after which a gate that said "wait" is asked again, though nothing landed here
)

Portion: TypeAlias = list[tuple[int, Completion]]


class Unit(NamedTuple):
    """Requests that go in one call: draws of one prompt."""

    places: tuple[int, ...]
    requests: tuple[Request, ...]


# Sends a unit once: completions for the first of its requests, as many as came.
Send: TypeAlias = Callable[[Sequence[Request]], Coroutine[Any, Any, list[Completion]]]


class _Wait(Exception):
    """The gate wants other calls to land first."""


class _Shut(Exception):
    """Nothing more is to be sent: the gate stopped this request, or the run ends."""


@final
class Stream:
    """One call of `stream`.

    Args:
        flow: shared by all calls of the model.
        send: makes one try.
        gate: asked before each try.
        explain: the error for a failure that stops the run.
        weigh: tokens that a request may use, for the limit of tokens a minute.
        size: how many draws go in one call now.
    """

    def __init__(
        self,
        flow: Flow,
        send: Send,
        *,
        gate: Gate | None,
        explain: Callable[[Failure], Coroutine[Any, Any, PotstillError]],
        weigh: Callable[[Request], int],
        size: Callable[[], int],
    ) -> None:
        self._flow, self._send, self._gate, self._explain = flow, send, gate, explain
        self._weigh, self._size = weigh, size
        self._tasks: set[asyncio.Task[None]] = set()
        self._flying: set[asyncio.Task[Any]] = set()  # tasks whose call is out: they are paid for
        self._landed: Portion = []
        self._gone = 0
        self._stop: Failure | None = None
        self._error: PotstillError | BaseException | None = None
        self._flush_set = self._closed = False
        self._moved: asyncio.Event | None = None
        self._ready: tuple[Portion, int, BaseException | None] = ([], 0, None)
        self._lock, self._wake = threading.Lock(), threading.Event()

    def portions(self, requests: Iterable[Request]) -> Iterator[Portion]:
        """Completions as they land; ends what is under way when it is closed."""
        feed, more, open_, room = (
            iter(enumerate(requests)),
            True,
            0,
            AHEAD * self._flow.room.cap + PULLED,
        )
        try:
            while True:
                fresh = (
                    list(islice(feed, min(PULLED, room - open_))) if more and open_ < room else []
                )
                more = more and (bool(fresh) or open_ >= room)
                if fresh:
                    open_ += len(fresh)
                    event_loop.soon(self._start, self._grouped(fresh))
                if not open_:
                    return
                landed, gone, error = self._take(block=not (more and open_ < room))
                open_ -= len(landed) + gone
                if landed:
                    yield landed
                if error is not None:
                    raise error
        finally:
            event_loop.soon(self._cancel)

    def _take(self, *, block: bool) -> tuple[Portion, int, BaseException | None]:
        if block:
            self._wake.wait()
        with self._lock:
            ready, self._ready = self._ready, ([], 0, None)
            self._wake.clear()
        return ready

    def _grouped(self, fresh: Sequence[tuple[int, Request]]) -> list[Unit]:
        """Draws of one prompt that stand together, as many in a unit as go in one call."""
        size, units = self._size(), list[Unit]()
        if size == 1:
            return [Unit((place,), (request,)) for place, request in fresh]
        for place, request in fresh:
            last = units[-1] if units else None
            if last and len(last.places) < size and _alike(last.requests[0], request):
                units[-1] = Unit((*last.places, place), (*last.requests, request))
            else:
                units.append(Unit((place,), (request,)))
        return units

    def _start(self, units: Sequence[Unit]) -> None:
        for unit in units:
            if self._stop is not None:
                self._end(gone=len(unit.places))
                continue
            task = asyncio.get_running_loop().create_task(self._run(unit))
            self._tasks.add(task)
            task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None and self._error is None:
            self._error = error
            self._halt(Failure("server", "a fault of the client", stop=True))
        if self._stop is not None and not self._tasks and self._error is not None:
            self._flush()

    async def _run(self, unit: Unit) -> None:
        """Ask until every request of the unit has its completion, or will have none."""
        places, requests = unit.places, unit.requests
        try:
            while requests:
                made = await self._asked(requests)
                self._end(list(zip(places, made)))
                places, requests = places[len(made) :], requests[len(made) :]
        except _Shut:
            self._end(gone=len(requests))
        except asyncio.CancelledError:
            self._end(gone=len(requests))
            raise
        except Failure as failure:
            self._halt(failure)  # the unit is not among the gone: the error comes before the end

    async def _asked(self, requests: Sequence[Request]) -> list[Completion]:
        """Completions of the first of the requests; waits while the gate wants others to land first."""
        failures: list[tuple[Failure, float]] = []
        entered: list[Request] = []

        def lost(failure: Failure, seconds: float) -> None:
            failures.append((failure, seconds))
            self._lose(entered, failure, seconds)

        weight = sum(map(self._weigh, requests))
        while True:
            try:
                send = partial(self._try, requests, entered)
                made = await self._flow.call(
                    send, weight=weight, lost=lost, used=_used if weight else None
                )
            except _Wait:
                await self._movement()
            except Failure as failure:
                if failure.stop or (failure.kind == "unreachable" and not failure.billed):
                    self._lose(entered, failure, 0.0)
                    raise
                last = (*failures, (failure, 0.0)) if failure.billed else failures
                return [
                    _tried(Completion("", "", error=str(failure)), last, place)
                    for place in range(len(entered))
                ]
            else:
                return [
                    _tried(completion, failures, place) for place, completion in enumerate(made)
                ]

    async def _try(self, requests: Sequence[Request], entered: list[Request]) -> list[Completion]:
        if self._stop is not None:
            raise _Shut
        task = asyncio.current_task()
        assert task is not None
        entered[:] = self._entered(requests)
        self._flying.add(task)
        try:
            return await self._send(entered)
        except asyncio.CancelledError:
            if self._closed:  # else the time of this try is up, and the flow tells of it
                self._lose(
                    entered,
                    Failure("timeout", "the run ended before the answer came", billed=True),
                    0.0,
                )
            raise
        finally:
            self._flying.discard(task)

    def _entered(self, requests: Sequence[Request]) -> Sequence[Request]:
        """The first requests that may be paid for."""
        if self._gate is None:
            return requests
        for place, request in enumerate(requests):
            answer = self._gate.enter(request)
            if answer != "go":
                if place:
                    return requests[:place]
                raise _Wait if answer == "wait" else _Shut
        return requests

    def _lose(self, requests: Sequence[Request], failure: Failure, seconds: float) -> None:
        if self._gate is not None:
            for place, request in enumerate(requests):
                self._gate.lost(request, _attempt(failure, seconds, place))
            self._stir()

    async def _movement(self) -> None:
        """Until something has landed here, or may have elsewhere."""
        if self._moved is None or self._moved.is_set():
            self._moved = asyncio.Event()
        try:
            await asyncio.wait_for(self._moved.wait(), WAIT)
        except TimeoutError:
            return

    def _stir(self) -> None:
        if self._moved is not None:
            self._moved.set()

    def _end(self, landed: Portion | None = None, *, gone: int = 0) -> None:
        """Collect what landed; it is handed over after a moment, at once if nothing else is under way."""
        self._landed += landed or []
        self._gone += gone
        if not self._flush_set:
            self._flush_set = True
            delay = TICK if len(self._tasks) > 1 else 0.0
            asyncio.get_running_loop().call_later(delay, self._flush)

    def _flush(self) -> None:
        self._flush_set = False
        error = self._error if self._stop is not None and not self._tasks else None
        with self._lock:
            landed, gone, before = self._ready
            self._ready = (landed + self._landed, gone + self._gone, before or error)
            self._wake.set()
        self._landed, self._gone = [], 0
        self._stir()

    def _halt(self, failure: Failure) -> None:
        """Send nothing more; what is out may land, since it is paid for; then the error is raised."""
        if self._stop is not None:
            return
        self._stop = failure
        for task in self._tasks - self._flying:
            if task is not asyncio.current_task():
                task.cancel()
        self._stir()
        running = asyncio.get_running_loop()
        running.call_later(GRACE, self._cancel)
        ending = running.create_task(self._conclude(failure))
        self._tasks.add(ending)
        ending.add_done_callback(self._done)

    async def _conclude(self, failure: Failure) -> None:
        if self._error is None:
            self._error = await self._explain(failure)

    def _cancel(self) -> None:
        self._closed = True
        self._stop = self._stop or Failure("server", "closed", stop=True)
        for task in tuple(self._tasks):
            task.cancel()


def _alike(one: Request, other: Request) -> bool:
    return (one.prompt, one.prefix, one.sampling, one.seed) == (
        other.prompt,
        other.prefix,
        other.sampling,
        other.seed,
    )


def _attempt(failure: Failure, seconds: float, place: int) -> Attempt:
    """The try as one of its requests sees it: what a whole call is known to have used is the first one's."""
    if place and failure.tokens != NO_TOKENS:
        return Attempt(str(failure), NO_TOKENS, None, seconds, "", False)
    return Attempt(str(failure), failure.tokens, None, seconds, failure.text, failure.billed)


def _tried(
    completion: Completion, failures: Sequence[tuple[Failure, float]], place: int
) -> Completion:
    tries = tuple(_attempt(failure, seconds, place) for failure, seconds in failures)
    return completion._replace(tries=tries) if tries else completion


def _used(completions: Sequence[Completion]) -> int:
    return sum(c.tokens.prompt + c.tokens.completion for c in completions)
