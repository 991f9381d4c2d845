"""A model behind a wire without the wire: completions land in any order, in portions, some in other threads."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from store_fakes import answer

from potstill.models.model import Attempt, Completion, Request, SpendingPermit
from potstill.records import Tokens

FAILED = Completion("", "", Tokens(7), "timeout: 600 s", 1.0)


class Wired:
    """Answers like the other fakes; `land` is called before each portion lands and may raise."""

    def __init__(
        self,
        id: str = "model-wired",
        *,
        room: int = 8,
        seed: int = 0,
        fails: frozenset[str] = frozenset(),
        land: Callable[[], None] | None = None,
        draws_elsewhere: bool = False,
    ) -> None:
        self.id, self.room, self.fails, self.land = id, room, fails, land
        self.dice, self.elsewhere, self.lock = (
            random.Random(seed),
            draws_elsewhere,
            threading.Lock(),
        )
        self.sent: list[Request] = []
        self.portions: list[int] = []
        self.cancelled: list[Request] = []
        self.gated = self.streams = 0

    def write(self, requests: Sequence[Request]) -> list[Completion]:
        raise AssertionError("a streamed model is asked in a stream")

    def stream(
        self, requests: Iterable[Request], permit: SpendingPermit | None = None
    ) -> Iterator[list[tuple[int, Completion]]]:
        self.streams += 1
        source, under_way, held, shut = enumerate(requests), {}, None, False
        pool = ThreadPoolExecutor(1) if self.elsewhere else None
        try:
            while True:
                while not shut and len(under_way) < self.room:
                    drawn = held or (
                        pool.submit(next, source, None).result() if pool else next(source, None)
                    )
                    if drawn is None:
                        break
                    leave = permit.reserve(drawn[1]) if permit else "go"
                    held = drawn if leave == "wait" else None
                    if leave != "go":
                        self.gated, shut = self.gated + (leave == "stop"), leave == "stop"
                        break
                    with self.lock:
                        self.sent.append(drawn[1])
                    under_way[drawn[0]] = drawn[1]
                if not under_way:
                    return
                places = self.dice.sample(sorted(under_way), self.dice.randint(1, len(under_way)))
                if self.land:
                    self.land()
                self.portions.append(len(places))
                yield [(place, self.completion(under_way.pop(place))) for place in places]
        finally:
            self.cancelled += under_way.values()
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
