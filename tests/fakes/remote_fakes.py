"""A remote model without a network: completions land in any order, in portions, some in other threads."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from store_fakes import answer

from potstill.models.model import Attempt, Completion, Request, SpendingPermit
from potstill.records import Tokens

FAILED = Completion("", "", Tokens(7), "timeout: 600 s", 1.0)


class RemoteModel:
    """Answers like the other fakes; `land` is called before each portion lands and may raise."""

    def __init__(
        self,
        id: str = "model-remote",
        *,
        room: int = 8,
        seed: int = 0,
        fails: frozenset[str] = frozenset(),
        land: Callable[[], None] | None = None,
        draws_elsewhere: bool = False,
    ) -> None:
        self.id, self.room, self.fails, self.land = id, room, fails, land
        self.random, self.elsewhere, self.lock = (
            random.Random(seed),
            draws_elsewhere,
            threading.Lock(),
        )
        self.sent: list[Request] = []
        self.portions: list[int] = []
        self.cancelled: list[Request] = []
        self.stopped_by_permit = self.streams = 0

    def write(self, requests: Sequence[Request]) -> list[Completion]:
        raise AssertionError("a streamed model is asked in a stream")

    def stream(
        self, requests: Iterable[Request], permit: SpendingPermit | None = None
    ) -> Iterator[list[tuple[int, Completion]]]:
        self.streams += 1
        source = enumerate(requests)
        in_flight: dict[int, Request] = {}
        waiting, is_stopped = None, False
        pool = ThreadPoolExecutor(1) if self.elsewhere else None
        try:
            while True:
                while not is_stopped and len(in_flight) < self.room:
                    next_request = waiting or (
                        pool.submit(next, source, None).result() if pool else next(source, None)
                    )
                    if next_request is None:
                        break
                    answer_of_permit = permit.reserve(next_request[1]) if permit else "go"
                    waiting = next_request if answer_of_permit == "wait" else None
                    if answer_of_permit != "go":
                        self.stopped_by_permit, is_stopped = (
                            self.stopped_by_permit + (answer_of_permit == "stop"),
                            answer_of_permit == "stop",
                        )
                        break
                    with self.lock:
                        self.sent.append(next_request[1])
                    in_flight[next_request[0]] = next_request[1]
                if not in_flight:
                    return
                places = self.random.sample(
                    sorted(in_flight), self.random.randint(1, len(in_flight))
                )
                if self.land:
                    self.land()
                self.portions.append(len(places))
                yield [(place, self.completion(in_flight.pop(place))) for place in places]
        finally:
            self.cancelled += in_flight.values()
            if pool:
                pool.shutdown()

    def completion(self, request: Request) -> Completion:
        if request.prompt in self.fails:
            return FAILED
        tried = (Attempt("rate: 429"),) if len(str(request.prompt)) % 3 == 0 else ()
        return answer(request, self.id)._replace(tries=tried)

    @property
    def asked(self) -> list[object]:
        return [request.prompt for request in self.sent]
