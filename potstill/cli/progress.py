"""How far a long step is, at what rate, and how long it still takes: bars on a terminal, else a line now and then."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO, final

from potstill.records import Progress

EVERY = 10.0  # seconds between two lines of one label, where there is no terminal
IDLE = (
    50.0  # seconds after which a line says that nothing has changed, where somebody still reports
)


@contextmanager
def watching(quiet: bool = False, stream: TextIO | None = None) -> Iterator[Progress]:
    """A progress callable (label, done, total) that draws on stderr; with `quiet` it draws nothing."""
    stream = stream or sys.stderr
    if quiet:
        yield _nothing
    elif stream.isatty():
        with _bars(stream) as bars:
            yield Bars(bars)
    else:
        yield Lines(stream)


@final
class Pace:
    """One label's way: where it began, where it is. A smaller count or another total begins anew."""

    def __init__(self, now: float) -> None:
        self.done = self.total = self.first = 0
        self.began = now

    def at(self, done: int, total: int, now: float) -> None:
        """Take a report; what was there at the first one was not done now."""
        if total != self.total or done < self.done:
            self.first, self.began, self.total = done, now, total
        self.done = done

    def text(self, now: float) -> str:
        """Rate and time left, or the time it took: `12.3/s, 1:05 left`."""
        made, spent = self.done - self.first, now - self.began
        if self.done >= self.total:
            return f"took {clock(spent)}" if made else "kept from before"
        if not made or spent <= 0:
            return f"for {clock(spent)}" if spent >= EVERY else ""
        return f"{_rate(made / spent)}, {clock((self.total - self.done) * spent / made)} left"


@final
class Lines:
    """Plain lines for logs: at most one a label every `EVERY` seconds, and one at the end of each step.

    Where nothing changes, a report that says so still gives a line every `IDLE` seconds.
    """

    def __init__(self, stream: TextIO, now: Callable[[], float] = time.monotonic) -> None:
        self._stream, self._now = stream, now
        self._paces: dict[str, Pace] = {}
        self._said: dict[str, float] = {}
        self._lock = threading.Lock()

    def __call__(self, label: str, done: int, total: int) -> None:
        """Take a report and perhaps print it."""
        with self._lock:
            now = self._now()
            pace = self._paces.setdefault(label, Pace(now))
            ended = done >= total
            same = (pace.done, pace.total) == (done, total)
            again = ended and same
            pace.at(done, total, now)
            due = now - self._said.setdefault(label, now) >= (IDLE if same else EVERY)
            if total and not again and (due or ended):
                self._said[label] = now
                print(
                    f"{label}: {done:,} of {total:,}  {pace.text(now)}".rstrip(),
                    file=self._stream,
                    flush=True,
                )


@final
class Bars:
    """A bar a label on a terminal."""

    def __init__(self, bars: Any) -> None:
        self._bars = bars
        self._tasks: dict[str, tuple[Any, Pace]] = {}
        self._lock = threading.Lock()

    def __call__(self, label: str, done: int, total: int) -> None:
        """Take a report."""
        with self._lock:
            now = time.monotonic()
            if label not in self._tasks:
                self._tasks[label] = (
                    self._bars.add_task(label, total=total or None, pace=""),
                    Pace(now),
                )
            task, pace = self._tasks[label]
            pace.at(done, total, now)
            self._bars.update(task, completed=done, total=total or None, pace=pace.text(now))


def _bars(stream: TextIO) -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Drawn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[pace]}", markup=False),
    )
    return Drawn(*columns, console=Console(file=stream))


def _nothing(label: str, done: int, total: int) -> None:
    """Nobody watches."""


def _rate(rate: float) -> str:
    return f"{rate:.1f}/s" if rate >= 1 else f"{rate * 60:.1f}/min"


def clock(seconds: float) -> str:
    """Seconds as people read them: `8 s`, `4:05`, `2:03:04`."""
    whole = round(seconds)
    minutes, hours = whole // 60 % 60, whole // 3600
    if whole < 60:
        return f"{whole} s"
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"
