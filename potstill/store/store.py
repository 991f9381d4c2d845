"""The store: one SQLite file in a run folder that keeps everything paid for and everything that happened."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import final

from potstill.errors import StoreError
from potstill.store.attempts import Attempts
from potstill.store.completions import Completions
from potstill.store.database import FILE, Database
from potstill.store.history import History
from potstill.store.ledger import Ledger
from potstill.store.lock import WriterLock, unwritable
from potstill.store.students import Students
from potstill.store.verdicts import Judgements


@dataclass(slots=True)
class Counts:
    """What this process did for one role of one arm: completions asked of the model, answers served from the store."""

    made: int = 0
    served: int = 0


@final
class Flight:
    """Which keys are being asked for right now, so that two threads that miss the same one share one call."""

    def __init__(self) -> None:
        self._freed = threading.Condition()
        self._asked: set[str] = set()

    def take(self, keys: Iterable[str]) -> tuple[list[str], list[str]]:
        """The keys that are now the caller's to ask for, until it releases them, and those that others ask for."""
        mine: list[str] = []
        others: list[str] = []
        with self._freed:
            for key in keys:
                (others if key in self._asked else mine).append(key)
                self._asked.add(key)
        return mine, others

    def release(self, keys: Iterable[str]) -> None:
        """Done or failed: whoever waits looks into the store and, if need be, asks itself."""
        with self._freed:
            self._asked.difference_update(keys)
            self._freed.notify_all()

    def wait(self, keys: Iterable[str]) -> None:
        """Wait until nobody asks for these; hold none meanwhile, or two that wait could wait for each other."""
        wanted = frozenset(keys)
        with self._freed:
            self._freed.wait_for(lambda: self._asked.isdisjoint(wanted))

    @contextmanager
    def claim(self, keys: Iterable[str]) -> Iterator[tuple[list[str], list[str]]]:
        """`take` for the length of a block."""
        mine, others = self.take(keys)
        try:
            yield mine, others
        finally:
            self.release(mine)


@final
class Store:
    """Completions, judgements, ledgers and students of a run folder. Threads may share it; close it, or use `with`."""

    def __init__(self, folder: Path, database: Database, lock: WriterLock | None) -> None:
        """Use `Store.open`."""
        self.folder, self.database, self._lock = folder, database, lock
        self.completions = Completions(database)
        self.attempts = Attempts(database)
        self.judgements = Judgements(database)
        self.history = History(database)
        self.students = Students(database, folder)
        self.flight = Flight()
        self.retried: set[str] = set()
        self._counts: dict[tuple[str, str], Counts] = {}
        self._counting = threading.Lock()

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
            raise unwritable(folder, error) from error
        lock = WriterLock(folder / "store.lock")
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

    def count(self, arm: str, role: str, *, made: int, served: int) -> None:
        """Add to what this process did."""
        with self._counting:
            counts = self._counts.setdefault((arm, role), Counts())
            counts.made += made
            counts.served += served

    def counts(self, arm: str) -> dict[str, Counts]:
        """What this process did for an arm, by role: a fast-forwarded run has made 0 everywhere."""
        with self._counting:
            return {
                role: Counts(c.made, c.served)
                for (of, role), c in sorted(self._counts.items())
                if of == arm
            }

    def empty(self) -> bool:
        """Whether nothing was generated or trained here: no completion, no student."""
        tables = ("completions", "students")
        return not any(self.database.read(f"SELECT 1 FROM {table} LIMIT 1") for table in tables)

    def close(self) -> None:
        """Close the file and let the next writer in."""
        self.database.close()
        if self._lock:
            self._lock.release()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
