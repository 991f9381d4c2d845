"""How far a long step is, at what rate, and how long it still takes: bars on a terminal, else a line now and then."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, TextIO, final

from potstill.escape import terminal
from potstill.records import Progress, no_progress

LINE_INTERVAL = 10.0  # seconds between two lines of one label, where there is no terminal
# Seconds after which a line says that nothing has changed, where somebody still reports: a batch takes hours.
IDLE_INTERVAL = 50.0


@contextmanager
def show_progress(quiet: bool = False, stream: TextIO | None = None) -> Iterator[Progress]:
    """A progress callback (label, done, total) that draws on stderr; with `quiet` it draws nothing."""
    stream = stream or sys.stderr
    if quiet:
        yield no_progress
    elif stream.isatty():
        with _open_bars(stream) as bars:
            yield ProgressBars(bars)
    else:
        yield ProgressLines(stream)


def announcer(quiet: bool = False, stream: TextIO | None = None) -> Callable[[str], None]:
    """A function that prints a sentence on stderr before the work begins; with `quiet` it prints nothing."""
    return partial(_announce, quiet, stream or sys.stderr)


def _announce(quiet: bool, stream: TextIO, sentence: str) -> None:
    if not quiet:
        print(terminal(sentence), file=stream, flush=True)


@final
class Pace:
    """The rate of one label since its count began. A smaller count or another total begins anew."""

    def __init__(self, now: float) -> None:
        self.done = 0
        self.total = 0
        self.done_at_start = 0
        self.started = now

    def update(self, done: int, total: int, now: float) -> None:
        """Take a report; what was done at the first one does not count for the rate."""
        if total != self.total or done < self.done:
            self.done_at_start = done
            self.started = now
            self.total = total
        self.done = done

    def describe(self, now: float) -> str:
        """Rate and time left, or the time it took: `12.3/s, 1:05 left`."""
        count, seconds = self.done - self.done_at_start, now - self.started
        if self.done >= self.total:
            return f"took {format_duration(seconds)}" if count else "kept from before"
        if not count or seconds <= 0:
            return f"for {format_duration(seconds)}" if seconds >= LINE_INTERVAL else ""
        seconds_left = (self.total - self.done) * seconds / count
        return f"{format_rate(count / seconds)}, {format_duration(seconds_left)} left"


@final
class ProgressLines:
    """Plain lines for logs: at most one a label every `LINE_INTERVAL` seconds, and one at the end of each step.

    Where nothing changes, a report that says so still gives a line every `IDLE_INTERVAL` seconds.
    """

    def __init__(self, stream: TextIO, now: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._now = now
        self._paces: dict[str, Pace] = {}
        self._last_line: dict[str, float] = {}  # when each label had its last line
        self._lock = threading.Lock()

    def __call__(self, label: str, done: int, total: int) -> None:
        """Take a report and perhaps print it."""
        with self._lock:
            now = self._now()
            pace = self._paces.setdefault(label, Pace(now))
            is_unchanged = (pace.done, pace.total) == (done, total)
            is_end = done >= total
            pace.update(done, total, now)

            interval = IDLE_INTERVAL if is_unchanged else LINE_INTERVAL
            is_due = now - self._last_line.setdefault(label, now) >= interval
            is_repeated_end = is_end and is_unchanged
            if total and not is_repeated_end and (is_due or is_end):
                self._last_line[label] = now
                line = f"{label}: {done:,} of {total:,}  {pace.describe(now)}"
                print(line.rstrip(), file=self._stream, flush=True)


@final
class ProgressBars:
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
                bar = self._bars.add_task(label, total=total or None, pace="")
                self._tasks[label] = (bar, Pace(now))
            task, pace = self._tasks[label]
            pace.update(done, total, now)
            self._bars.update(task, completed=done, total=total or None, pace=pace.describe(now))


def _open_bars(stream: TextIO) -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as RichProgress

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[pace]}", markup=False),
    )
    return RichProgress(*columns, console=Console(file=stream))


def format_rate(rate: float) -> str:
    """A rate a second, or a minute where it is slow."""
    return f"{rate:.1f}/s" if rate >= 1 else f"{rate * 60:.1f}/min"


def format_duration(seconds: float) -> str:
    """Seconds as people read them: `8 s`, `4:05`, `2:03:04`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, hours = whole // 60 % 60, whole // 3600
    if hours:
        return f"{hours}:{minutes:02}:{whole % 60:02}"
    return f"{minutes}:{whole % 60:02}"
