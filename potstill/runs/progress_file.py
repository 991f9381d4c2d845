"""`RUN/progress.json`: how far a run is, for who looks at its folder from outside; what the terminal shows, as data.

The file is there while a process works in the folder, and after it was killed: then its `pid` is gone, or the lock of
the store is free. Every other end takes it away.
"""

from __future__ import annotations

import json
import os
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self, final

from potstill.data.atomic_write import write_text
from potstill.errors import PotstillWarning
from potstill.models.model import Traffic
from potstill.records import Progress
from potstill.store.cache_client import CallListener

PROGRESS_FILE = "progress.json"
INTERVAL = 1.0  # seconds between two writings at least


@final
class ProgressFile:
    """Passes everything on to `shown`, and keeps the newest report in a file, at most `interval` seconds late.

    A thread of its own writes: the disk must not make a run wait.

    Args:
        path: of the file.
        shown: called with (label, done, total), and told of answers, tokens and traffic where it wants to be.
        interval: seconds between two writings at least.
        now: seconds since 1970.
    """

    def __init__(
        self,
        path: Path,
        shown: Progress,
        *,
        interval: float = INTERVAL,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._path, self._shown, self._interval, self._now = path, shown, interval, now
        self._lock = threading.Lock()
        self._newest: dict[str, Any] = {}
        self._has_news = threading.Event()
        self._is_closed = threading.Event()
        self._writer: threading.Thread | None = None

    def __enter__(self) -> Self:
        """Take away what a killed process left."""
        self._path.unlink(missing_ok=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop writing and take the file away."""
        self._is_closed.set()
        self._has_news.set()
        if self._writer is not None:
            self._writer.join()
        self._path.unlink(missing_ok=True)

    def __call__(self, label: str, done: int, total: int) -> None:
        """Take a report."""
        self._shown(label, done, total)
        with self._lock:
            self._newest = self._describe(label, done, total)
            if self._writer is None:
                self._writer = threading.Thread(
                    target=self._write_news, name="potstill-progress", daemon=True
                )
                self._writer.start()
        self._has_news.set()

    def _describe(self, label: str, done: int, total: int) -> dict[str, Any]:
        """The report as it is written; `began` is when this count did."""
        before, at = self._newest, self._now()
        began = at
        is_same_count = (label, total) == (before.get("label"), before.get("total"))
        if is_same_count and done >= before["done"]:
            began = before["began"]
        return {
            "pid": os.getpid(),
            "arm": label.partition("/")[0],
            "label": label,
            "done": done,
            "total": total,
            "began": began,
            "at": at,
        }

    def _write_news(self) -> None:
        while not self._is_closed.is_set():
            self._has_news.wait()
            if self._is_closed.is_set():
                return
            # Before the reading: a report that comes between is written in the next round.
            self._has_news.clear()
            with self._lock:
                content = json.dumps(self._newest)
            try:
                write_text(self._path, content)
            except OSError as error:
                warnings.warn(
                    f"{self._path} can't be written any more ({error}); the run goes on without it",
                    PotstillWarning,
                    stacklevel=1,
                )
                return
            self._is_closed.wait(self._interval)

    def count_answers(self, label: str, count: int) -> None:
        """So many more answers have come from a model."""
        if isinstance(self._shown, CallListener):
            self._shown.count_answers(label, count)

    def count_tokens(self, label: str, count: int) -> None:
        """So many more tokens have been written here."""
        if isinstance(self._shown, CallListener):
            self._shown.count_tokens(label, count)

    def show_traffic(self, label: str, traffic: Traffic) -> None:
        """All that has gone to a model's server so far."""
        if isinstance(self._shown, CallListener):
            self._shown.show_traffic(label, traffic)
