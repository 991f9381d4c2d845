"""Requests past the store to a model behind a wire: what is stored is read, what is missing sent, what lands kept.

Looking up runs ahead of everything: a chunk of keys is hashed and looked up only when the model has room for more, and
what is found stored is noted, not read, until something has landed or nothing is left to send. So the first new request
leaves long before a million old answers have been read, and only notes of them lie in memory.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import NamedTuple, TypeAlias, final

from potstill.errors import ModelError, StoreError
from potstill.models.model import Completion, Request
from potstill.store import truncation
from potstill.store.cache_client import UNPAID, Desk, Written

CHUNK = 1000  # requests that are looked up together
NOTED = 4_000_000  # stored answers to note before they are read, about 12 bytes each
_HEAD, _HEX = len("completion-"), 20  # of a key

Answers: TypeAlias = list[tuple[int, Completion]]


class Item(NamedTuple):
    """A request on its way: where its answer belongs, and the cut answers that led to it."""

    place: int
    key: str
    request: Request
    before: tuple[Completion, ...] = ()


@final
class Pass:
    """One call's requests on their way. Used once; `portions` is consumed by one thread, requests drawn by any."""

    def __init__(self, desk: Desk, requests: Iterable[Request], total: int = 0) -> None:
        """Pass these requests; without a `total`, those drawn so far are told to whoever watches."""
        self._desk, self._flight, self._total = desk, desk.store.flight, total
        self._gate = desk.gate()
        self._source = enumerate(requests)
        self._lock = (
            threading.RLock()
        )  # a model may draw its requests in another thread than it is read in
        self._follow: deque[Item] = (
            deque()
        )  # to be looked up next: further requests, and those others had asked for
        self._outgoing: deque[Item] = deque()  # ours, not stored, not sent
        self._sent: dict[int, Item] = {}  # under way, by their number in the present stream
        self._flying: dict[str, list[Item]] = {}  # every item of a key that is ours to ask for
        self._deferred: list[Item] = []  # other threads ask for these
        self._notes: deque[tuple[range | list[int], bytes]] = (
            deque()
        )  # places and keys of stored answers not yet read
        self._ready: Answers = []
        self._drawn = self._noted = self._done = self._made = self._answered = 0
        self._unpaid = 0
        self._over = False

    def portions(self) -> Generator[Answers, None, None]:
        """Every answer with its place, stored ones and new ones as they come; nothing that is not committed."""
        try:
            while True:
                while not self._outgoing and self._noted < NOTED and self._look_up():
                    pass
                if self._outgoing:
                    yield from self._streamed()
                yield from self._read_all()
                if self._over and not self._follow:
                    if not self._deferred:
                        return
                    self._wait()
        finally:
            self._flight.release(list(self._flying))
            desk = self._desk
            desk.store.count(
                desk.arm,
                desk.role,
                made=self._made,
                served=self._answered - self._made - self._unpaid,
            )

    def _look_up(self) -> bool:
        """Look up one more chunk; False where nothing is left."""
        with self._lock:
            if self._follow:
                items = list(self._follow)
                self._follow.clear()
                self._sort(items)
                return True
            chunk = list(itertools.islice(self._source, CHUNK))
            if not chunk:
                self._over = True
                return False
            first, self._drawn = self._drawn, self._drawn + len(chunk)
            keys = self._desk.keys([request for _, request in chunk])
            open_ = self._desk.unsettled(keys)
            if not open_:
                self._note(range(first, first + len(keys)), keys)
                return True
            old = [i for i, key in enumerate(keys) if key not in open_]
            self._note([first + i for i in old], [keys[i] for i in old])
            asked = self._desk.asked
            self._sort(
                [Item(p, k, asked(r)) for (p, r), k in zip(chunk, keys, strict=True) if k in open_]
            )
            return True

    def _sort(self, items: Sequence[Item]) -> None:
        """What is to be sent, what is stored after all, and what somebody is asking for already."""
        fresh = []
        for item in items:
            twins = self._flying.setdefault(item.key, [])
            if not twins:
                fresh.append(item)
            twins.append(item)
        mine, others = self._flight.take(item.key for item in fresh)
        for key in others:
            self._deferred += self._flying.pop(key)
        stored = self._desk.stored(mine)
        for item in fresh:
            if item.key in stored:
                self._settle(item.key, stored[item.key])
            elif item.key in self._flying:
                self._outgoing.append(item)
        self._flight.release(stored)

    def _settle(self, key: str, completion: Completion) -> None:
        """An answer is there: it is everybody's who asked for it, or leads to a further request."""
        policy, items = self._desk.truncated, self._flying.pop(key)
        self._answered += len(items)
        for item in items:
            further = truncation.follow(policy, item.request, completion, item.before)
            if further is None:
                self._ready.append(
                    (item.place, truncation.settled(policy, item.before, completion))
                )
            else:
                key = further.key(self._desk.model)
                self._follow.append(Item(item.place, key, further, (*item.before, completion)))

    def _streamed(self) -> Iterator[Answers]:
        """Send what is missing until nothing is, and hand on what lands once it is committed."""
        self._sent.clear()
        self._desk.report(
            self._done, max(self._total, self._drawn)
        )  # from here on it is made now, not kept
        portions = self._desk.inner.stream(self._feed(), self._gate)
        try:
            for portion in portions:
                self._land(portion)
                yield from self._handed()
                yield from self._read(1)
        finally:
            close = getattr(portions, "close", None)
            if close:
                close()
        if self._sent or self._outgoing:
            self._unanswered()

    def _feed(self) -> Iterator[Request]:
        """The requests for the model, drawn as it has room."""
        for number in itertools.count():
            item = self._next()
            if item is None:
                return
            self._sent[number] = item
            yield item.request

    def _next(self) -> Item | None:
        while True:
            with self._lock:
                if self._outgoing:
                    return self._outgoing.popleft()
                if self._noted >= NOTED or not self._look_up():
                    return None

    def _land(self, portion: Sequence[tuple[int, Completion]]) -> None:
        """Commit what landed, in one transaction, before anyone sees it."""
        if not portion:
            self._beat(getattr(portion, "done", 0))
            return
        with self._lock:
            strange = [number for number, _ in portion if number not in self._sent]
            if strange or len({number for number, _ in portion}) < len(portion):
                raise ModelError(
                    f"{self._desk.model} answered request {[*strange, portion[0][0]][0]}, which is not under way",
                    expected="one completion a request, under the request's place",
                )
            items = [(self._sent[number], completion) for number, completion in portion]
        kept = self._desk.keep(
            [Written(item.key, item.request, completion) for item, completion in items]
        )
        with self._lock:
            for number, _ in portion:
                del self._sent[number]
            self._made += len(items)
            self._flight.release([item.key for item, _ in items])
            for (item, _), completion in zip(items, kept, strict=True):
                self._settle(item.key, completion)

    def _beat(self, waiting: int) -> None:
        """Nothing landed, but it goes on: tell how much the server has that is still to come."""
        total = max(self._total, self._drawn)
        self._desk.report(max(self._done, min(self._done + waiting, total - 1)), total)

    def _unanswered(self) -> None:
        """The model is through and requests are left: the budget stopped them, or the model is broken."""
        left, desk = len(self._sent) + len(self._outgoing), self._desk
        if self._gate and desk.unpaid(left):
            return self._forgo()
        if self._gate and desk.budget:
            done = self._done + self._noted
            raise desk.budget.stopped(desk.role, desk.arm, done, max(self._total, self._drawn))
        raise ModelError(
            f"{desk.model} gave no completion for {left} requests",
            expected="one completion a request, or an error",
        )

    def _forgo(self) -> None:
        """What the budget did not allow is answered with a failure that nobody keeps."""
        with self._lock:
            keys = [item.key for item in (*self._sent.values(), *self._outgoing)]
            self._sent.clear()
            self._outgoing.clear()
            self._unpaid += sum(len(self._flying[key]) for key in keys)
            for key in keys:
                self._settle(key, UNPAID)
        self._flight.release(keys)

    def _note(self, places: range | list[int], keys: Sequence[str]) -> None:
        if keys:
            self._notes.append((places, bytes.fromhex("".join([key[_HEAD:] for key in keys]))))
            self._noted += len(keys)

    def _read_all(self) -> Iterator[Answers]:
        yield from self._handed()
        yield from self._read(len(self._notes))

    def _read(self, chunks: int) -> Iterator[Answers]:
        """Read stored answers that were noted, a chunk at a time."""
        for _ in range(min(chunks, len(self._notes))):
            places, packed = self._notes.popleft()
            text = packed.hex()
            keys = [f"completion-{text[at : at + _HEX]}" for at in range(0, len(text), _HEX)]
            stored = self._desk.stored(list(dict.fromkeys(keys)))
            if len(stored) < len(set(keys)):
                raise StoreError(
                    f"{self._desk.store.folder} lost completions while it was open",
                    expected="one writer",
                    fix=f'potstill cache verify "{self._desk.store.folder}"',
                )
            self._noted -= len(keys)
            self._answered += len(keys)
            settled, policy = truncation.settled, self._desk.truncated
            self._ready += [
                (place, settled(policy, (), stored[k]))
                for place, k in zip(places, keys, strict=True)
            ]
            yield from self._handed()

    def _handed(self) -> Iterator[Answers]:
        with self._lock:
            ready, self._ready = self._ready, []
        if ready:
            self._done += len(ready)
            self._desk.report(self._done, max(self._total, self._drawn))
            yield ready

    def _wait(self) -> None:
        """Until the other threads have what they asked for; then look it up."""
        self._flight.wait(item.key for item in self._deferred)
        self._follow += self._deferred
        self._deferred = []
