"""How far a long step is, at what rate, and how long it still takes: bars on a terminal, else a line now and then.

What is announced (a sentence before the work, a line for each finished step) stays; what is drawn between is about the
step that is being done.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol, TextIO, final

from potstill.cli.show import fit_width
from potstill.escape import terminal
from potstill.models.model import Traffic
from potstill.runs.run_log import format_duration

LINE_INTERVAL = 10.0  # seconds between two lines of one label, where there is no terminal
# Seconds after which a line says that nothing has changed, where somebody still reports: a batch takes hours.
IDLE_INTERVAL = 50.0


class Display(Protocol):
    """Shows progress, and whatever a run announces."""

    def __call__(self, label: str, done: int, total: int) -> None:
        """Take a report: so many of all are done."""
        ...

    def announce(self, text: str) -> None:
        """Show a line that stays; the step that was being done is over."""
        ...

    def count_answers(self, label: str, count: int) -> None:
        """So many more answers have come from a model."""
        ...

    def count_tokens(self, label: str, count: int) -> None:
        """So many more tokens have been written by a local model."""
        ...

    def show_traffic(self, label: str, traffic: Traffic) -> None:
        """All that has gone to a model's server so far."""
        ...


@contextmanager
def show_progress(quiet: bool = False, stream: TextIO | None = None) -> Iterator[Display]:
    """A display on stderr; with `quiet` it shows nothing."""
    stream = stream or sys.stderr
    if quiet:
        yield NoDisplay()
    elif stream.isatty():
        with _open_bars(stream) as bars:
            yield ProgressBars(bars, stream)
    else:
        yield ProgressLines(stream)


def announcer(quiet: bool = False, stream: TextIO | None = None) -> Callable[[str], None]:
    """A function that prints a sentence on stderr before the work begins; with `quiet` it prints nothing."""
    return partial(_announce, quiet, stream or sys.stderr)


def _announce(quiet: bool, stream: TextIO, sentence: str) -> None:
    if not quiet:
        for line in fit_width(terminal(sentence), stream):
            print(line, file=stream, flush=True)


@final
class NoDisplay:
    """Shows nothing."""

    def __call__(self, label: str, done: int, total: int) -> None:
        """Take a report."""

    def announce(self, text: str) -> None:
        """Take a line."""

    def count_answers(self, label: str, count: int) -> None:
        """Take a count."""

    def count_tokens(self, label: str, count: int) -> None:
        """Take a count."""

    def show_traffic(self, label: str, traffic: Traffic) -> None:
        """Take a count."""


@final
class Pace:
    """The rate of one label since its count began. A smaller count or another total begins anew."""

    def __init__(self, now: float) -> None:
        self.done = 0
        self.total = 0
        self.done_at_start = 0
        self.started = self.born = now
        self.counts = 0  # how many times a count began
        self.answers = 0  # that models gave, over all counts
        self.tokens = 0  # that local models wrote, over all counts
        self.stored_tokens = (
            0  # those of `answers`; the others are of a batch that is being written
        )
        self.answers_at_start = self.tokens_at_start = 0  # of this count
        self.traffic_at_start: Traffic | None = None
        self.traffic = Traffic()
        self.traffic_started = now

    def update(self, done: int, total: int, now: float) -> None:
        """Take a report; what was done at the first one does not count for the rate."""
        if total != self.total or done < self.done:
            self.done_at_start = done
            self.answers_at_start, self.tokens_at_start = self.answers, self.tokens
            self.started = now
            self.total = total
            self.counts += 1
        self.done = done

    def count_answers(self, count: int) -> None:
        """Take answers that are stored; what local models wrote until now is theirs."""
        self.answers += count
        self.stored_tokens = self.tokens

    def update_traffic(self, traffic: Traffic, now: float) -> None:
        """Take what has gone to the server; what went before the first report does not count."""
        if self.traffic_at_start is None:
            self.traffic_at_start, self.traffic_started = traffic, now
        self.traffic = traffic

    def describe_answers(self, now: float) -> str:
        """How many answers came over all counts, and how fast."""
        parts = [f"{self.answers:,} answers so far"]
        if now > self.born:
            parts.append(f"  {format_rate(self.answers / (now - self.born))}")
        for part in (self._describe_tokens(now), self._describe_traffic(now)):
            if part:
                parts.append(f"; {part}")
        return "".join(parts)

    def describe(self, now: float) -> str:
        """Rate and time left, or the time it took: `12.3/s, 1:05 left`; then what is written, or goes to a server."""
        parts = [self._describe_count(now), self._describe_tokens(now), self._describe_traffic(now)]
        return "; ".join(part for part in parts if part)

    def _describe_count(self, now: float) -> str:
        count, seconds = self.done - self.done_at_start, now - self.started
        if self.done >= self.total:
            return f"took {format_duration(seconds)}" if count else "kept from before"
        if not count or seconds <= 0:
            return f"for {format_duration(seconds)}" if seconds >= LINE_INTERVAL else ""
        if self.tokens:
            return self._describe_batches(seconds)
        seconds_left = (self.total - self.done) * seconds / count
        return f"{format_rate(count / seconds)}, {format_duration(seconds_left)} left"

    def _describe_batches(self, seconds: float) -> str:
        """Rate and time left where batches are written: from tokens, once a batch is stored.

        The rows of a batch end late and together, so those that have ended by now tell too little.
        """
        answers = self.answers - self.answers_at_start
        tokens = self.tokens - self.tokens_at_start
        if not answers or not tokens:
            return f"for {format_duration(seconds)}" if seconds >= LINE_INTERVAL else ""
        mean_tokens = (self.stored_tokens - self.tokens_at_start) / answers
        expected_tokens = mean_tokens * (self.total - self.done_at_start)
        seconds_left = max(0.0, expected_tokens - tokens) * seconds / tokens
        return f"{format_rate(answers / seconds)}, {format_duration(seconds_left)} left"

    def _describe_tokens(self, now: float) -> str:
        if not self.tokens or now <= self.born:
            return ""
        return f"{self.tokens:,} tokens, {self.tokens / (now - self.born):,.0f}/s"

    def _describe_traffic(self, now: float) -> str:
        if self.traffic_at_start is None:
            return ""
        tries, retries, rate_limited = (
            count - earlier
            for count, earlier in zip(self.traffic, self.traffic_at_start, strict=True)
        )
        seconds = now - self.traffic_started
        if not tries or seconds <= 0:
            return ""
        text = f"{tries / seconds:.1f} requests/s"
        if retries:
            text += f", {retries:,} retries"
        if rate_limited:
            text += f", {rate_limited:,} x 429"
        return text


@final
class ProgressLines:
    """Plain lines for logs: what is announced, and at most one line a label every `LINE_INTERVAL` seconds.

    Where nothing changes, a report that says so still gives a line every `IDLE_INTERVAL` seconds. The end of a count
    has a line; in a run, which announces the end of its steps, only where the count took long: inside `each` there are
    thousands.
    """

    def __init__(self, stream: TextIO, now: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._now = now
        self._paces: dict[str, Pace] = {}
        self._last_line: dict[str, float] = {}  # when each label had its last line
        self._shown_tokens: dict[str, int] = {}  # how many each label had when it was last reported
        self._has_steps = False  # whether somebody announces them
        self._lock = threading.RLock()

    def __call__(self, label: str, done: int, total: int) -> None:
        """Take a report and perhaps print it."""
        with self._lock:
            now = self._now()
            pace = self._pace(label)
            has_new_tokens = pace.tokens > self._shown_tokens.get(label, 0)
            self._shown_tokens[label] = pace.tokens
            is_unchanged = (pace.done, pace.total) == (done, total) and not has_new_tokens
            is_end = done >= total
            pace.update(done, total, now)

            interval = IDLE_INTERVAL if is_unchanged else LINE_INTERVAL
            is_due = now - self._last_line.setdefault(label, now) >= interval
            is_long = now - pace.started >= LINE_INTERVAL
            is_shown_end = is_end and (is_long or not self._has_steps)
            if total and not (is_end and is_unchanged) and (is_due or is_shown_end):
                self._last_line[label] = now
                self._print(describe_progress(label, pace, now))

    def announce(self, text: str) -> None:
        """Print a line that stays; counts begin anew."""
        with self._lock:
            self._has_steps = True
            self._paces.clear()
            self._last_line.clear()
            self._shown_tokens.clear()
            self._print(text)

    def count_answers(self, label: str, count: int) -> None:
        """Count what models gave."""
        with self._lock:
            self._pace(label).count_answers(count)

    def count_tokens(self, label: str, count: int) -> None:
        """Count what local models wrote, for the next line."""
        with self._lock:
            self._pace(label).tokens += count

    def show_traffic(self, label: str, traffic: Traffic) -> None:
        """Note what went to the server, for the next line."""
        with self._lock:
            self._pace(label).update_traffic(traffic, self._now())

    def _pace(self, label: str) -> Pace:
        return self._paces.setdefault(label, Pace(self._now()))

    def _print(self, text: str) -> None:
        for line in fit_width(terminal(text), self._stream):
            print(line, file=self._stream, flush=True)


def describe_progress(label: str, pace: Pace, now: float) -> str:
    """A line about a label; where its count began several times, as inside `each`, only the answers count."""
    if pace.counts > 1 and pace.answers > pace.total:
        return f"{label}: {pace.describe_answers(now)}"
    return f"{label}: {pace.done:,} of {pace.total:,}  {pace.describe(now)}".rstrip()


@final
class ProgressBars:
    """A bar a label on a terminal, under the lines that stay."""

    def __init__(self, bars: Any, stream: TextIO) -> None:
        self._bars, self._stream = bars, stream
        self._tasks: dict[str, Any] = {}
        self._paces: dict[str, Pace] = {}
        self._lock = threading.RLock()

    def __call__(self, label: str, done: int, total: int) -> None:
        """Take a report."""
        with self._lock:
            now = time.monotonic()
            pace = self._paces.setdefault(label, Pace(now))
            pace.update(done, total, now)
            if label not in self._tasks:
                self._tasks[label] = self._bars.add_task(label, total=total or None, pace="")
            self._bars.update(
                self._tasks[label], completed=done, total=total or None, pace=pace.describe(now)
            )

    def announce(self, text: str) -> None:
        """Print a line above the bars, which are those of the next step from now on."""
        with self._lock:
            for task in self._tasks.values():
                self._bars.remove_task(task)
            self._tasks.clear()
            self._paces.clear()
            for line in fit_width(terminal(text), self._stream):
                self._bars.console.print(line, markup=False, highlight=False)

    def count_answers(self, label: str, count: int) -> None:
        """Note what is stored, for the label's bar."""
        with self._lock:
            self._paces.setdefault(label, Pace(time.monotonic())).count_answers(count)

    def count_tokens(self, label: str, count: int) -> None:
        """Note what was written, for the label's bar."""
        with self._lock:
            self._paces.setdefault(label, Pace(time.monotonic())).tokens += count

    def show_traffic(self, label: str, traffic: Traffic) -> None:
        """Note what went to the server, for the label's bar."""
        with self._lock:
            now = time.monotonic()
            self._paces.setdefault(label, Pace(now)).update_traffic(traffic, now)


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
