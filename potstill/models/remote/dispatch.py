"""Many requests in flight at once: drawn lazily in the caller's thread, sent on the loop, handed back in portions.

A thread that wakes for every answer spends more on waking than on the answer, so completions are collected for a few
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
from potstill.models.model import Attempt, Completion, Request, SpendingPermit
from potstill.models.remote import event_loop
from potstill.models.remote.errors import Failure
from potstill.models.remote.flow_control import FlowControl
from potstill.records import NO_TOKENS

QUEUED_PER_SLOT = (
    2  # requests drawn for each call in flight: so many that no slot waits for the caller
)
DRAWN_TOGETHER = 32  # requests, so that the first leaves while the rest is looked up
COLLECTING_SECONDS = 0.004  # for which completions are collected
GRACE_SECONDS = 60.0  # for calls in flight when a run is stopped: they are paid for
SIGN_OF_LIFE = 5.0  # seconds after which the caller hears that nothing has landed
PERMIT_WAIT = (
    0.25  # seconds after which a permit that said "wait" is asked again, though nothing landed here
)

Portion: TypeAlias = list[tuple[int, Completion]]


class RequestGroup(NamedTuple):
    """Requests that go in one call, samples of one prompt, with their places among all requests."""

    places: tuple[int, ...]
    requests: tuple[Request, ...]


class _Handover(NamedTuple):
    """What the loop has ready for the caller: completions, how many requests get none, and the error that ends it."""

    completions: Portion
    dropped_count: int
    error: BaseException | None


# Sends a group once: completions for the first of its requests, as many as came.
Send: TypeAlias = Callable[[Sequence[Request]], Coroutine[Any, Any, list[Completion]]]


class _PermitWaits(Exception):
    """The permit wants other calls to land first."""


class _SendingStopped(Exception):
    """Nothing more is to be sent: the permit stopped this request, or the run ends."""


@final
class RequestStream:
    """One call of a model's `stream`.

    Args:
        flow_control: shared by all calls of the model.
        send: makes one try.
        permit: asked before each try.
        explain: the error for a failure that stops the run.
        count_max_tokens: tokens that a request may use, for the limit of tokens a minute.
        group_size: how many samples of one prompt go in one call now.
    """

    def __init__(
        self,
        flow_control: FlowControl,
        send: Send,
        *,
        permit: SpendingPermit | None,
        explain: Callable[[Failure], Coroutine[Any, Any, PotstillError]],
        count_max_tokens: Callable[[Request], int],
        group_size: Callable[[], int],
    ) -> None:
        self._flow_control, self._send, self._permit = flow_control, send, permit
        self._explain, self._count_max_tokens = explain, count_max_tokens
        self._group_size = group_size
        self._tasks: set[asyncio.Task[None]] = set()
        self._in_flight: set[asyncio.Task[Any]] = set()  # tasks whose call is out, and is paid for
        self._stop_reason: Failure | None = None
        self._error: PotstillError | BaseException | None = None
        self._is_closed = False
        self._landing: asyncio.Event | None = None  # set when a permit may say something else
        # Collected on the loop, then handed over to the caller's thread under the lock.
        self._collected: Portion = []
        self._dropped_count = 0
        self._is_handover_due = False
        self._handover = _Handover([], 0, None)
        self._lock, self._has_handover = threading.Lock(), threading.Event()

    def portions(self, requests: Iterable[Request]) -> Iterator[Portion]:
        """Completions as they land; ends what is in flight when it is closed."""
        source = iter(enumerate(requests))
        has_more = True
        open_count = 0  # requests drawn and not yet answered
        max_open = QUEUED_PER_SLOT * self._flow_control.concurrency.cap + DRAWN_TOGETHER
        try:
            while True:
                if has_more and open_count < max_open:
                    drawn = list(islice(source, min(DRAWN_TOGETHER, max_open - open_count)))
                    has_more = bool(drawn)
                    if drawn:
                        open_count += len(drawn)
                        event_loop.call_soon(self._start, self._group_requests(drawn))
                if not open_count:
                    return
                can_draw = has_more and open_count < max_open
                completions, dropped_count, error = self._take_handover(block=not can_draw)
                open_count -= len(completions) + dropped_count
                if completions or (not can_draw and not dropped_count and error is None):
                    yield completions  # an empty portion is a sign of life
                if error is not None:
                    raise error
        finally:
            event_loop.call_soon(self._cancel_all)

    def _take_handover(self, *, block: bool) -> _Handover:
        """What is ready; where `block` says so, waits for something, or for some seconds. In the caller's thread."""
        if block:
            self._has_handover.wait(SIGN_OF_LIFE)
        with self._lock:
            handover, self._handover = self._handover, _Handover([], 0, None)
            self._has_handover.clear()
        return handover

    def _group_requests(self, drawn: Sequence[tuple[int, Request]]) -> list[RequestGroup]:
        """Samples of one prompt that stand together, as many in a group as go in one call."""
        size = self._group_size()
        groups: list[RequestGroup] = []
        for place, request in drawn:
            last = groups[-1] if groups else None
            if last and len(last.places) < size and _is_same_prompt(last.requests[0], request):
                groups[-1] = RequestGroup((*last.places, place), (*last.requests, request))
            else:
                groups.append(RequestGroup((place,), (request,)))
        return groups

    def _start(self, groups: Sequence[RequestGroup]) -> None:
        for group in groups:
            if self._stop_reason is not None:
                self._collect(dropped_count=len(group.places))
                continue
            task = asyncio.get_running_loop().create_task(self._run_group(group))
            self._tasks.add(task)
            task.add_done_callback(self._on_task_done)

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and self._error is None:
            self._error = error
            self._halt(Failure("server", "a fault of the client", stops_run=True))
        if self._stop_reason is not None and not self._tasks and self._error is not None:
            self._hand_over()

    async def _run_group(self, group: RequestGroup) -> None:
        """Ask until every request of the group has its completion, or will have none."""
        places, requests = group.places, group.requests
        try:
            while requests:
                completions = await self._complete_first(requests)
                self._collect(list(zip(places, completions)))
                places, requests = places[len(completions) :], requests[len(completions) :]
        except _SendingStopped:
            self._collect(dropped_count=len(requests))
        except asyncio.CancelledError:
            self._collect(dropped_count=len(requests))
            raise
        except Failure as failure:
            # The group is not among the dropped: the error comes before the end.
            self._halt(failure)

    async def _complete_first(self, requests: Sequence[Request]) -> list[Completion]:
        """Completions of the first of the requests; waits while the permit wants others to land first."""
        failures: list[tuple[Failure, float]] = []
        permitted: list[Request] = []

        def on_failure(failure: Failure, seconds: float) -> None:
            failures.append((failure, seconds))
            self._record_failed_try(permitted, failure, seconds)

        weight = sum(map(self._count_max_tokens, requests))
        send_once = partial(self._try_once, requests, permitted)
        while True:
            # Flow control tries again what may pass; the permit is asked in each try.
            try:
                completions = await self._flow_control.call(
                    send_once,
                    weight=weight,
                    on_failure=on_failure,
                    count_used_tokens=_used_tokens if weight else None,
                )
            except _PermitWaits:
                await self._wait_for_landing()
            except Failure as failure:
                is_unreachable = failure.kind == "unreachable" and not failure.billed
                if failure.stops_run or is_unreachable:
                    self._record_failed_try(permitted, failure, 0.0)
                    raise
                # What fails for this request alone is its completion, with an error.
                if failure.billed:
                    failures.append((failure, 0.0))
                failed = Completion("", "", error=str(failure))
                return [_with_tries(failed, failures, place) for place in range(len(permitted))]
            else:
                return [
                    _with_tries(completion, failures, place)
                    for place, completion in enumerate(completions)
                ]

    async def _try_once(
        self, requests: Sequence[Request], permitted: list[Request]
    ) -> list[Completion]:
        """Send the first of the requests that may be paid for, and note them in `permitted`."""
        if self._stop_reason is not None:
            raise _SendingStopped
        task = asyncio.current_task()
        assert task is not None
        permitted[:] = self._permitted_requests(requests)
        self._in_flight.add(task)
        try:
            return await self._send(permitted)
        except asyncio.CancelledError:
            # Where the stream is open, the time of this try is up, and flow control records it.
            if self._is_closed:
                detail = "the run ended before the answer came"
                self._record_failed_try(permitted, Failure("timeout", detail, billed=True), 0.0)
            raise
        finally:
            self._in_flight.discard(task)

    def _permitted_requests(self, requests: Sequence[Request]) -> Sequence[Request]:
        """The first requests that may be paid for."""
        if self._permit is None:
            return requests
        for place, request in enumerate(requests):
            answer = self._permit.reserve(request)
            if answer == "go":
                continue
            if place:
                return requests[:place]
            raise _PermitWaits if answer == "wait" else _SendingStopped
        return requests

    def _record_failed_try(
        self, requests: Sequence[Request], failure: Failure, seconds: float
    ) -> None:
        if self._permit is None:
            return
        for place, request in enumerate(requests):
            self._permit.record_failed_try(request, _to_attempt(failure, seconds, place))
        self._signal_landing()

    async def _wait_for_landing(self) -> None:
        """Until something has landed here, or may have elsewhere."""
        if self._landing is None or self._landing.is_set():
            self._landing = asyncio.Event()
        try:
            await asyncio.wait_for(self._landing.wait(), PERMIT_WAIT)
        except TimeoutError:
            return

    def _signal_landing(self) -> None:
        if self._landing is not None:
            self._landing.set()

    def _collect(self, completions: Portion | None = None, *, dropped_count: int = 0) -> None:
        """Note what landed; it is handed over after a moment, at once if nothing else is in flight."""
        self._collected += completions or []
        self._dropped_count += dropped_count
        if not self._is_handover_due:
            self._is_handover_due = True
            delay = COLLECTING_SECONDS if len(self._tasks) > 1 else 0.0
            asyncio.get_running_loop().call_later(delay, self._hand_over)

    def _hand_over(self) -> None:
        """Give what was collected to the caller's thread, behind what it has not taken yet."""
        self._is_handover_due = False
        has_ended = self._stop_reason is not None and not self._tasks
        error = self._error if has_ended else None
        with self._lock:
            waiting = self._handover
            self._handover = _Handover(
                waiting.completions + self._collected,
                waiting.dropped_count + self._dropped_count,
                waiting.error or error,
            )
            self._has_handover.set()
        self._collected, self._dropped_count = [], 0
        self._signal_landing()

    def _halt(self, failure: Failure) -> None:
        """Send nothing more; what is in flight may land, since it is paid for; then the error is raised."""
        if self._stop_reason is not None:
            return
        self._stop_reason = failure
        for task in self._tasks - self._in_flight:
            if task is not asyncio.current_task():
                task.cancel()
        self._signal_landing()
        loop = asyncio.get_running_loop()
        loop.call_later(GRACE_SECONDS, self._cancel_all)
        explaining = loop.create_task(self._set_error(failure))
        self._tasks.add(explaining)
        explaining.add_done_callback(self._on_task_done)

    async def _set_error(self, failure: Failure) -> None:
        if self._error is None:
            self._error = await self._explain(failure)

    def _cancel_all(self) -> None:
        self._is_closed = True
        if self._stop_reason is None:
            self._stop_reason = Failure("server", "closed", stops_run=True)
        for task in tuple(self._tasks):
            task.cancel()


def _is_same_prompt(first: Request, second: Request) -> bool:
    """Whether two requests differ in their sample index alone."""
    return (first.prompt, first.prefix, first.sampling, first.seed) == (
        second.prompt,
        second.prefix,
        second.sampling,
        second.seed,
    )


def _to_attempt(failure: Failure, seconds: float, place: int) -> Attempt:
    """The try as one of its requests sees it: what a whole call is known to have used is the first one's."""
    if place and failure.tokens != NO_TOKENS:
        return Attempt(str(failure), NO_TOKENS, None, seconds, "", False)
    return Attempt(str(failure), failure.tokens, None, seconds, failure.text, failure.billed)


def _with_tries(
    completion: Completion, failures: Sequence[tuple[Failure, float]], place: int
) -> Completion:
    """The completion with the failed tries before it."""
    if not failures:
        return completion
    tries = tuple(_to_attempt(failure, seconds, place) for failure, seconds in failures)
    return completion._replace(tries=(*tries, *completion.tries))


def _used_tokens(completions: Sequence[Completion]) -> int:
    return sum(c.tokens.prompt + c.tokens.completion for c in completions)
