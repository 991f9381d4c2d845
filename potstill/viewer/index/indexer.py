"""Builds and follows the indexes of the runs that are looked at, in one thread of its own."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import final

from potstill.errors import PotstillError
from potstill.store import database
from potstill.store.store import Store
from potstill.viewer.index import calls, portions, words
from potstill.viewer.reader import FileStamp, RunReader, stamp_of

POLL_SECONDS = 1.0  # between two looks at the stores of runs that somebody watches
WATCHED_SECONDS = 60.0  # after the last request for a run its store is no longer followed
REST_SHARE = 0.03  # of a core that following a run may take
MAX_REST_SECONDS = 30.0
MAX_HELD_SECONDS = 20.0  # that a portion waits for requests

log = logging.getLogger("potstill.viewer")


def build_index(reader: RunReader, *, with_words: bool = True, with_calls: bool = True) -> None:
    """Read what the store holds into the index, and return when it is done: traces, and words and calls if wanted."""
    with _open_for_indexing(reader) as store:
        for step in _phases(with_words, with_calls=with_calls):
            while step(store.database):
                reader.index.has_grown()


def _open_for_indexing(reader: RunReader) -> Store:
    store = Store.open(reader.folder, create=False, readonly=True)
    try:
        reader.index.attach(store.database)
        # Beside a log this loses nothing but the last portions, which are read again.
        store.database.read("PRAGMA view.synchronous = NORMAL")
        portions.add_functions(store.database)
        calls.add_functions(store.database)
        calls.forget_moved_calls(store.database)
    except BaseException:
        store.close()
        raise
    return store


def _phases(
    with_words: bool, *, with_calls: bool = True
) -> list[Callable[[database.Database], bool]]:
    phases: list[Callable[[database.Database], bool]] = [portions.index_next_portion]
    if with_words:
        phases.append(words.index_next_words)
    if with_calls:
        phases += [calls.index_next_calls, calls.link_next_entries]
    return phases


@final
class Indexer:
    """Indexes the runs that were asked for, the newest request first, and follows those that are being written.

    Args:
        readers: of all runs, by name.
        with_words: whether words are indexed.
    """

    def __init__(self, readers: Mapping[str, RunReader], *, with_words: bool = True) -> None:
        self._readers, self._with_words = readers, with_words
        self._asked: dict[str, float] = {}  # when each run was last asked for
        self._read: dict[
            str, tuple[FileStamp, ...]
        ] = {}  # the store's files when it was last read to its end
        self._rests_until: dict[str, float] = {}  # when the store of each run is looked at again
        self._requests = 0  # that are being answered
        self._requests_lock = threading.Lock()
        self._has_no_request = threading.Event()
        self._has_no_request.set()
        self._wake = threading.Event()
        self._is_closed = False
        self._thread = threading.Thread(target=self._work, name="potstill-view-index", daemon=True)
        self.errors: dict[str, PotstillError] = {}

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def ask_for(self, name: str) -> None:
        """Note that somebody looks at a run."""
        self._asked[name] = time.monotonic()
        self._wake.set()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let a request go first: no portion is begun while one is being answered."""
        with self._requests_lock:
            self._requests += 1
            self._has_no_request.clear()
        try:
            yield
        finally:
            with self._requests_lock:
                self._requests -= 1
                if not self._requests:
                    self._has_no_request.set()

    def close(self) -> None:
        """End after the portion that is being read."""
        self._is_closed = True
        self._wake.set()
        self._has_no_request.set()
        if self._thread.is_alive():
            self._thread.join()

    def _work(self) -> None:
        while not self._is_closed:
            name = self._next_run()
            if name is None:
                self._wake.wait(POLL_SECONDS)
                self._wake.clear()
                continue
            # Taken before the reading: what is written meanwhile is read in the next round.
            reader = self._readers.get(name)
            if reader is None:
                continue
            stamps = _store_stamps(reader.folder)
            used = time.thread_time()
            try:
                if self._follow(reader):
                    self._read[name] = stamps
                    # A large run takes long to be looked through, and is looked through less often.
                    rest = (time.thread_time() - used) / REST_SHARE
                    self._rests_until[name] = time.monotonic() + min(rest, MAX_REST_SECONDS)
                self.errors.pop(name, None)
            except PotstillError as error:
                # The run's pages say it; the other runs are indexed all the same.
                self.errors[name] = error
                self._read[name] = stamps

    def _next_run(self) -> str | None:
        """The run that was asked for last and is not read to its end."""
        # A page that was just opened comes before those that were looked at before.
        now = time.monotonic()
        for name, asked_at in sorted(self._asked.items(), key=lambda item: -item[1]):
            is_watched = now - asked_at < WATCHED_SECONDS
            is_watched &= now >= self._rests_until.get(name, 0.0)
            reader = self._readers.get(name)  # None: its folder is gone
            if (
                is_watched
                and reader is not None
                and reader.has_store
                and self._read.get(name) != _store_stamps(reader.folder)
            ):
                return name
        return None

    def _follow(self, reader: RunReader) -> bool:
        """Read a run until its end, or until another one is asked for; whether the end was reached."""
        with _open_for_indexing(reader) as store:
            for step in _phases(self._with_words):
                while self._read_portion(step, store):
                    reader.index.has_grown()
                    if self._is_closed or self._next_run() not in (reader.run.name, None):
                        return False
        return True

    def _read_portion(self, step: Callable[[database.Database], bool], store: Store) -> bool:
        self._has_no_request.wait(MAX_HELD_SECONDS)
        return step(store.database)


def _store_stamps(folder: Path) -> tuple[FileStamp, ...]:
    path = folder / database.FILE
    return stamp_of(path), stamp_of(path.with_name(f"{path.name}-wal"))
