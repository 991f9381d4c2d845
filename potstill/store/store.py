"""The store: one SQLite file in a run folder that keeps everything paid for and everything that happened."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import final

from potstill.errors import StoreError
from potstill.store.attempts import Attempts
from potstill.store.completions import Completions
from potstill.store.database import FILE, Database
from potstill.store.history import History
from potstill.store.ledger import Ledger
from potstill.store.lock import FILE as LOCK_FILE
from potstill.store.lock import WriterLock, unwritable_folder_error
from potstill.store.students import Students
from potstill.store.verdicts import Verdicts


@final
class InFlight:
    """The keys that are being asked for right now, so that two threads that miss the same one share one call."""

    def __init__(self) -> None:
        self._released = threading.Condition()
        self._keys: set[str] = set()

    def take(self, keys: Iterable[str]) -> tuple[list[str], list[str]]:
        """The keys that are now the caller's to ask for, until it releases them, and those that others ask for."""
        own_keys: list[str] = []
        others_keys: list[str] = []
        with self._released:
            for key in keys:
                if key in self._keys:
                    others_keys.append(key)
                else:
                    own_keys.append(key)
                    self._keys.add(key)
        return own_keys, others_keys

    def release(self, keys: Iterable[str]) -> None:
        """Give up keys, answered or not: whoever waits looks into the store and, if need be, asks itself."""
        with self._released:
            self._keys.difference_update(keys)
            self._released.notify_all()

    def wait_for_others(self, keys: Iterable[str]) -> None:
        """Wait until nobody asks for these. Hold no key meanwhile: two threads could wait for each other."""
        awaited = frozenset(keys)
        with self._released:
            self._released.wait_for(lambda: self._keys.isdisjoint(awaited))

    @contextmanager
    def claim(self, keys: Iterable[str]) -> Iterator[tuple[list[str], list[str]]]:
        """`take` for the length of a block."""
        own_keys, others_keys = self.take(keys)
        try:
            yield own_keys, others_keys
        finally:
            self.release(own_keys)


@final
class Store:
    """Completions, verdicts, ledgers and students of a run folder. Threads may share it; close it, or use `with`."""

    def __init__(self, folder: Path, database: Database, lock: WriterLock | None) -> None:
        """Use `Store.open`."""
        self.folder, self.database, self._lock = folder, database, lock
        self.completions = Completions(database)
        self.attempts = Attempts(database)
        self.verdicts = Verdicts(database)
        self.history = History(database)
        self.students = Students(database, folder)
        self.in_flight = InFlight()
        self.retried_keys: set[str] = set()  # failures that this process asked for again
        self.served_names: dict[str, set[str]] = {}  # what servers call a model, by its id

    @classmethod
    def open(cls, folder: Path, *, create: bool = True, readonly: bool = False) -> Store:
        """Open the store of a run folder; StoreError if it is in use, damaged, of another version or can't be written.

        Args:
            folder: the run folder.
            create: make folder and store where there is none.
            readonly: take no lock and write nothing; works beside a running writer and on an archived folder.
        """
        folder = Path(folder)
        path = (folder / FILE).resolve()
        if not path.exists() and (readonly or not create):
            raise StoreError(
                f"there is no store in {folder}",
                expected=f"a run folder that holds {FILE}",
                fix="give the folder of a run, or start one: potstill run …",
            )
        if readonly:
            return cls(folder, Database(path, create=False, readonly=True), None)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unwritable_folder_error(folder, error) from error
        # The lock comes before the database is opened: making its tables is writing already.
        lock = WriterLock(folder / LOCK_FILE)
        try:
            return cls(folder, Database(path, create=create, readonly=False), lock)
        except BaseException:
            lock.release()
            raise

    def ledger(self, arm: str) -> Ledger:
        """Begin an arm, before its models write: its last run's funnel, drops and traces are forgotten."""
        return Ledger(self.database, arm)

    def usage(self, arm: str) -> dict[str, dict[str, float]]:
        """What an arm needed, by role: calls, reused, prompt_tokens, completion_tokens, seconds, errors."""
        return self.completions.usage(arm)

    def is_empty(self) -> bool:
        """Whether nothing was generated or trained here: no completion, no student."""
        tables = ("completions", "students")
        return not any(self.database.read(f"SELECT 1 FROM {table} LIMIT 1") for table in tables)

    def close(self) -> None:
        """Close the file and let the next writer in."""
        # In this order: SQLite folds its log into the file on closing, and nobody else may write meanwhile.
        self.database.close()
        if self._lock:
            self._lock.release()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
