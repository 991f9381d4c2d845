"""Requests past the store to a remote model: what is stored is read, what is missing is sent, answers are committed.

Looking up runs ahead of everything: a chunk of keys is hashed and looked up only when the model has room for more, and
what is found stored is noted, not read, until something has landed or nothing is left to send. So the first new request
leaves long before a million old answers have been read, and only notes of them lie in memory.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import NamedTuple, TypeAlias, final

from potstill.errors import ModelError, StoreError
from potstill.models.model import Completion, Request, SpendingPermit
from potstill.store import truncation
from potstill.store.cache_client import UNPAID, CacheClient, NewCompletion

LOOKUP_CHUNK = 1000  # requests that are looked up together
MAX_NOTES = 4_000_000  # stored answers to note before they are read, about 12 bytes each
_KEY_PREFIX = "completion-"
_HEX_DIGITS = 20  # of a key, after its prefix

Answers: TypeAlias = list[tuple[int, Completion]]
Send: TypeAlias = Callable[[Iterable[Request], SpendingPermit | None], Iterator[Answers]]


class PendingRequest(NamedTuple):
    """A request on its way: where its answer belongs, and the truncated answers that led to it."""

    place: int
    key: str
    request: Request
    truncated: tuple[Completion, ...] = ()


@final
class RequestStream:
    """One call's requests on their way. Used once; `portions` is consumed by one thread, requests drawn by any.

    A model may draw its requests in another thread than the one that reads its answers, so what both touch (the
    source, the queues, the places that wait for a key) is guarded by one lock. What landed is committed outside it,
    so that the model can go on drawing requests meanwhile.
    """

    def __init__(
        self,
        client: CacheClient,
        requests: Iterable[Request],
        total: int = 0,
        *,
        send: Send | None = None,
    ) -> None:
        """Send these requests; without a `total`, progress is reported of those drawn so far.

        Args:
            client: of the model.
            requests: drawn as the model has room for them.
            total: how many there are, where that is known.
            send: the model's stream of requests, where it is another than that of its completions.
        """
        self._client, self._in_flight, self._total = client, client.store.in_flight, total
        self._send: Send = send or client.inner.stream
        self._permit = client.permit()
        self._source = enumerate(requests)
        self._source_is_empty = False
        self._lock = threading.RLock()

        # To be looked up next: further requests, and those that other threads had asked for.
        self._follow_ups: deque[PendingRequest] = deque()
        # Ours to ask for, not stored, not sent.
        self._outgoing: deque[PendingRequest] = deque()
        # Sent and not answered, by their number in the present stream.
        self._sent: dict[int, PendingRequest] = {}
        # By key that is ours to ask for: everything that waits for its answer.
        self._waiting: dict[str, list[PendingRequest]] = {}
        # Other threads ask for these.
        self._deferred: list[PendingRequest] = []

        # Stored answers that were found and not read yet: their places, and the bytes of their keys.
        self._notes: deque[tuple[range | list[int], bytes]] = deque()
        self._note_count = 0
        # Answers with their places, to be handed on.
        self._ready: Answers = []

        self._drawn_count = 0  # requests taken from the source
        self._done_count = 0  # answers handed on

    def portions(self) -> Generator[Answers, None, None]:
        """Every answer with its place, stored ones and new ones as they come; nothing that is not committed."""
        try:
            while True:
                # Look up until there is something to send.
                while not self._outgoing and self._note_count < MAX_NOTES and self._look_up():
                    pass
                if self._outgoing:
                    yield from self._stream_missing()
                yield from self._take_ready()
                yield from self._read_notes(len(self._notes))
                if self._source_is_empty and not self._follow_ups:
                    if not self._deferred:
                        return
                    self._wait_for_deferred()
        finally:
            # Also when the caller closes this early: keys that stay claimed would block other threads for ever.
            self._in_flight.release(list(self._waiting))

    def _look_up(self) -> bool:
        """Look up one more chunk; False where nothing is left."""
        with self._lock:
            if self._follow_ups:
                pending = list(self._follow_ups)
                self._follow_ups.clear()
                self._sort_pending(pending)
                return True

            chunk = list(itertools.islice(self._source, LOOKUP_CHUNK))
            if not chunk:
                self._source_is_empty = True
                return False
            first_place = self._drawn_count
            self._drawn_count += len(chunk)

            keys = self._client.request_keys([request for _, request in chunk])
            unfinished = self._client.find_unfinished(keys)
            if not unfinished:
                # The usual chunk of a run that goes on: a range takes no memory.
                self._note_stored(range(first_place, first_place + len(keys)), keys)
                return True

            stored_places, stored_keys, pending = [], [], []
            for (place, request), key in zip(chunk, keys, strict=True):
                if key in unfinished:
                    seeded = self._client.with_seed(request)
                    pending.append(PendingRequest(place, key, seeded))
                else:
                    stored_places.append(place)
                    stored_keys.append(key)
            self._note_stored(stored_places, stored_keys)
            self._sort_pending(pending)
            return True

    def _sort_pending(self, pending: Sequence[PendingRequest]) -> None:
        """What is to be sent, what is stored after all, and what somebody is asking for already."""
        # Equal requests are asked for once; the first of a key speaks for all.
        first_of_key = []
        for item in pending:
            same_key = self._waiting.setdefault(item.key, [])
            if not same_key:
                first_of_key.append(item)
            same_key.append(item)

        own_keys, others_keys = self._in_flight.take(item.key for item in first_of_key)
        for key in others_keys:
            self._deferred += self._waiting.pop(key)
        # Look again under the claim: another thread may have committed a key since it was looked up.
        stored = self._client.read_stored(own_keys)
        for item in first_of_key:
            if item.key in stored:
                self._settle(item.key, stored[item.key])
            elif item.key in self._waiting:
                self._outgoing.append(item)
        self._in_flight.release(stored)

    def _settle(self, key: str, completion: Completion) -> None:
        """Give an answer to everybody who asked for it, or ask for what it leads to."""
        policy = self._client.truncated
        for item in self._waiting.pop(key):
            follow_up = truncation.next_request(policy, item.request, completion, item.truncated)
            if follow_up is None:
                answer = truncation.final_answer(policy, item.truncated, completion)
                self._ready.append((item.place, answer))
            else:
                follow_up_key = follow_up.key(self._client.model_id)
                truncated = (*item.truncated, completion)
                self._follow_ups.append(
                    PendingRequest(item.place, follow_up_key, follow_up, truncated)
                )

    def _stream_missing(self) -> Iterator[Answers]:
        """Send what is missing until nothing is, and hand on what lands once it is committed."""
        self._sent.clear()
        # Progress starts to move by new answers, and no more by stored ones.
        self._report_done(self._done_count)
        landed_portions = self._send(self._draw_requests(), self._permit)
        try:
            for landed in landed_portions:
                self._commit(landed)
                yield from self._take_ready()
                yield from self._read_notes(1)
        finally:
            # A generator cancels its calls when it is closed; a plain iterator has nothing to close.
            close = getattr(landed_portions, "close", None)
            if close:
                close()
        if self._sent or self._outgoing:
            self._handle_unanswered()

    def _draw_requests(self) -> Iterator[Request]:
        """The requests for the model, drawn as it has room for them, perhaps in a thread of its own."""
        for number in itertools.count():
            item = self._next_outgoing()
            if item is None:
                return
            self._sent[number] = item
            yield item.request

    def _next_outgoing(self) -> PendingRequest | None:
        while True:
            with self._lock:
                if self._outgoing:
                    return self._outgoing.popleft()
                if self._note_count >= MAX_NOTES or not self._look_up():
                    return None

    def _commit(self, landed: Sequence[tuple[int, Completion]]) -> None:
        """Commit what landed, in one transaction, before anyone sees it."""
        if not landed:
            self._report_server_progress(getattr(landed, "done", 0))
            return
        with self._lock:
            self._check_numbers([number for number, _ in landed])
            items = [self._sent[number] for number, _ in landed]

        # Outside the lock: the model may go on drawing requests while the disk is written.
        new = []
        for item, (_, completion) in zip(items, landed, strict=True):
            new.append(NewCompletion(item.key, item.request, completion))
        committed = self._client.commit(new)

        with self._lock:
            for number, _ in landed:
                del self._sent[number]
            # Only now: a thread that waits for one of these keys looks into the store as soon as it is released.
            self._in_flight.release([item.key for item in items])
            for item, completion in zip(items, committed, strict=True):
                self._settle(item.key, completion)

    def _check_numbers(self, numbers: Sequence[int]) -> None:
        """Refuse answers to requests that were not sent, or that have been answered."""
        unknown = [number for number in numbers if number not in self._sent]
        has_duplicates = len(set(numbers)) < len(numbers)
        if unknown or has_duplicates:
            number = unknown[0] if unknown else numbers[0]
            raise ModelError(
                f"{self._client.model_id} answered request {number}, which is not under way",
                expected="one completion a request, under the request's place",
            )

    def _report_server_progress(self, waiting: int) -> None:
        """Report a sign of life: how many completions the server has that are still to come."""
        self._report_done(
            max(self._done_count, min(self._done_count + waiting, self._known_total() - 1))
        )

    def _report_done(self, done: int) -> None:
        self._client.report_progress(done, self._known_total())

    def _known_total(self) -> int:
        return max(self._total, self._drawn_count)

    def _handle_unanswered(self) -> None:
        """The model is through and requests are left: the budget stopped them, or the model is broken."""
        client = self._client
        left = len(self._sent) + len(self._outgoing)
        if self._permit and client.accepts_unpaid(left):
            self._answer_unpaid()
            return
        if self._permit and client.budget:
            done = self._done_count + self._note_count
            raise client.budget.spent_error(client.role, client.arm, done, self._known_total())
        raise ModelError(
            f"{client.model_id} gave no completion for {left} requests",
            expected="one completion a request, or an error",
        )

    def _answer_unpaid(self) -> None:
        """Answer what the budget did not allow with a failure that is not stored."""
        with self._lock:
            keys = [item.key for item in (*self._sent.values(), *self._outgoing)]
            self._sent.clear()
            self._outgoing.clear()
            for key in keys:
                self._settle(key, UNPAID)
        self._in_flight.release(keys)

    def _note_stored(self, places: range | list[int], keys: Sequence[str]) -> None:
        """Note stored answers in 10 bytes a key; the prefix is the same for all."""
        if keys:
            digits = "".join([key[len(_KEY_PREFIX) :] for key in keys])
            self._notes.append((places, bytes.fromhex(digits)))
            self._note_count += len(keys)

    def _read_notes(self, chunk_count: int) -> Iterator[Answers]:
        """Read stored answers that were noted, a chunk at a time."""
        for _ in range(min(chunk_count, len(self._notes))):
            places, packed_keys = self._notes.popleft()
            digits = packed_keys.hex()
            keys = []
            for start in range(0, len(digits), _HEX_DIGITS):
                keys.append(_KEY_PREFIX + digits[start : start + _HEX_DIGITS])

            stored = self._client.read_stored(list(dict.fromkeys(keys)))
            if len(stored) < len(set(keys)):
                raise StoreError(
                    f"{self._client.store.folder} lost completions while it was open",
                    expected="one writer",
                    fix=f'potstill cache verify "{self._client.store.folder}"',
                )
            self._note_count -= len(keys)
            for place, key in zip(places, keys, strict=True):
                answer = truncation.final_answer(self._client.truncated, (), stored[key])
                self._ready.append((place, answer))
            yield from self._take_ready()

    def _take_ready(self) -> Iterator[Answers]:
        """Hand on the answers that are ready, if there are any."""
        with self._lock:
            ready, self._ready = self._ready, []
        if ready:
            self._done_count += len(ready)
            self._report_done(self._done_count)
            yield ready

    def _wait_for_deferred(self) -> None:
        """Wait until the other threads have what they asked for; then it is looked up."""
        self._in_flight.wait_for_others(item.key for item in self._deferred)
        self._follow_ups += self._deferred
        self._deferred = []
