"""What a run says of itself while it lasts: results published now and then, and at its end, whatever that is."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias, final

from potstill.errors import BudgetSpent, InputError, PotstillError
from potstill.evaluation import results as results_file
from potstill.evaluation.metrics import average
from potstill.evaluation.results import Ending, Results
from potstill.evaluation.row_steps import (
    short_rows_notes,
    shrink_notes,
    stepless_notes,
    summarize_steps,
)
from potstill.evaluation.rows import Evaluation
from potstill.evaluation.table import format_percent
from potstill.runs import manifest
from potstill.runs.folder_layout import RESULTS_FILE, UNFINISHED_FILE, UNTRAINED
from potstill.runs.results import (
    collect_trainings,
    compare_arms,
    gather_results,
    names_of_models,
)
from potstill.runs.run_log import RunLog, format_duration
from potstill.runs.stages import stage_rows
from potstill.store.store import Store
from potstill.traces import ReportSection
from potstill.traces.session import OnStep

ASKING_OPERATORS = ("sample", "rewrite")
SHOWN_SECONDS = 0.5  # of a step, from which a line says how long it took
MIN_CALLS, MIN_ELAPSED = 20, 5.0  # calls and seconds after which the rest of the time is estimated
REFRESH_SECONDS = 10.0  # between two refreshes at least
REFRESH_SHARE = 0.02  # of the time that refreshing may take

Publish: TypeAlias = Callable[[Results], None]
Announce: TypeAlias = Callable[[str], None]


def announce_nothing(text: str) -> None:
    """An `Announce` that nobody reads."""


def publish_nothing(results: Results) -> None:
    """A `Publish` that nobody reads."""


@dataclass(slots=True, kw_only=True)
class RunJournal:
    """The results of a run as far as they have come, and who is told of them.

    Args:
        described: what was known of the run before it began.
        store: of the run.
        path: the run folder.
        compare_arm: the arm that is compared with every other one.
        publish: called with the results, such as to write a report.
        announce: called with each line of the run's log.
        evaluations: by arm, as they come.
        sections: by arm, what its method adds to the report.
    """

    described: Results
    store: Store
    path: Path
    compare_arm: str = ""
    publish: Publish = publish_nothing
    announce: Announce = announce_nothing
    evaluations: dict[str, Evaluation] = field(default_factory=dict)
    sections: dict[str, list[ReportSection]] = field(default_factory=dict)
    _next_refresh: float = field(default=0.0, init=False)
    _pace: RunPace = field(init=False)
    _step_began: float = field(default_factory=time.monotonic, init=False)
    _is_time_known: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        """Begin to count."""
        self._pace = RunPace(self.store)

    def say(self, text: str) -> None:
        """Announce a line and write it into run.log."""
        RunLog(self.path).write(text)
        self.announce(text)

    def begin_steps(self) -> None:
        """Count the time of the first step from now on."""
        self._step_began = time.monotonic()

    def expect_calls(self, count: int, *, is_time_known: bool) -> None:
        """Let the lines of steps say how long the rest of so many calls may take.

        Args:
            count: of the calls to come.
            is_time_known: whether it has been said how long they take.
        """
        self._pace.expected = count
        self._is_time_known = is_time_known

    def estimate_time(self) -> None:
        """Say once how long the run may take, as soon as its first answers tell."""
        if self._is_time_known or not self._pace.expected:
            return
        now = time.monotonic()
        seconds_left = self._pace.seconds_left(now)
        if seconds_left is not None:
            self._is_time_known = True
            self.say(f"about {format_duration(seconds_left)} left at the rate of the first answers")

    def finish_step(self, text: str, *, is_minor: bool = False) -> None:
        """Say that a step has come to its end; then perhaps publish the results so far.

        Args:
            text: what the step did.
            is_minor: whether it changed nothing; unless it took long, it stands in run.log alone.
        """
        now = time.monotonic()
        seconds = now - self._step_began
        line = text
        if seconds >= SHOWN_SECONDS:
            line += f"  {format_duration(seconds)}"
            seconds_left = self._pace.seconds_left(now)
            if seconds_left is not None:
                self._is_time_known = True
                line += f"; about {format_duration(seconds_left)} left"
        RunLog(self.path).write(line)
        if not is_minor or seconds >= SHOWN_SECONDS:
            self.announce(line)
        self.refresh()
        self._step_began = time.monotonic()

    def step_listener(self, arm: str) -> OnStep:
        """What is told of each line of an arm's funnel, and takes it as a finished step."""
        names = names_of_models(self.described, arm)

        def on_step(operator: str, label: str, taken: int, returned: int) -> None:
            name = names.get(label, label)
            text = f"{arm}: {operator} {name}  {taken:,} → {returned:,}"
            asks_models = operator in ASKING_OPERATORS
            if asks_models:
                text += self._pace.describe_new()
            self.finish_step(text, is_minor=taken == returned and not asks_models)

        return on_step

    def finish_training(self, arm: str) -> None:
        """Say what the last training of an arm did."""
        title, report = list(collect_trainings(self.store, arm).items())[-1]
        text = f"{title}: train  {report['rows']:,} rows, {report['steps']:,} updates"
        if "first_loss" in report:
            text += f", loss {report['first_loss']:.3g} → {report['last_loss']:.3g}"
        self.finish_step(text)
        rows = stage_rows(self.store, arm)
        notes = stepless_notes({title: summarize_steps(rows)})
        for note in notes + short_rows_notes(title, rows, self.evaluations.get(UNTRAINED)):
            self.say(note)

    def finish_evaluation(self, evaluation: Evaluation) -> None:
        """Take an arm's evaluation and say what it found."""
        self.evaluations[evaluation.name] = evaluation
        text = format_percent(average(evaluation))
        text = f"{evaluation.name}: avg@{evaluation.n}  {text}{self._pace.describe_new()}"
        self.finish_step(text)
        untrained = self.evaluations.get(UNTRAINED)
        if untrained is not None:
            for note in shrink_notes([untrained, evaluation], UNTRAINED):
                self.say(note)

    @contextmanager
    def recording_the_end(self) -> Iterator[None]:
        """Publish what there is when the block begins, and what there is where an exception ends it."""
        self._begin()
        try:
            yield
        except BaseException as error:
            try:
                ending = ending_of(error)
                self._publish_unfinished(ending)
                RunLog(self.path).write(f"{ending.status}: {ending.message}")
            except (OSError, PotstillError) as second:
                # What ended the run is what the user must read.
                error.add_note(f"its report could not be written: {second}")
            raise

    def refresh(self) -> None:
        """Publish the results so far, unless that would take more than a small share of the time."""
        began = time.monotonic()
        if began < self._next_refresh:
            return
        self._publish_unfinished(Ending("running"))
        self._wait_for_next(time.monotonic() - began)

    def finish(self, notes: Sequence[str]) -> Results:
        """Write results.json, mark the run complete and publish its results.

        Args:
            notes: what else people should know of the results.
        """
        results = self._gather(Ending("finished"))
        results = dataclasses.replace(results, notes=[*notes, *results.notes])
        results_file.save(results, self.path / RESULTS_FILE)
        manifest.finish(self.path, [RESULTS_FILE])
        (self.path / UNFINISHED_FILE).unlink(missing_ok=True)
        self.publish(results)
        RunLog(self.path).write("finished")
        return results

    def _begin(self) -> None:
        # Where the folder has results, those of the last run say more than that this one has begun.
        if not (self.path / UNFINISHED_FILE).exists() and not (self.path / RESULTS_FILE).exists():
            results_file.save(self.described, self.path / UNFINISHED_FILE)
            self.publish(self.described)
        self._wait_for_next(0.0)

    def _wait_for_next(self, seconds: float) -> None:
        pause = max(REFRESH_SECONDS, seconds / REFRESH_SHARE)
        self._next_refresh = time.monotonic() + pause

    def _publish_unfinished(self, ending: Ending) -> None:
        results = self._gather(ending)
        results_file.save(results, self.path / UNFINISHED_FILE)
        self.publish(results)

    def _gather(self, ending: Ending) -> Results:
        results = gather_results(self.described, self.store, self.evaluations)
        return dataclasses.replace(
            results,
            comparisons=compare_arms(self.evaluations, self.compare_arm),
            sections=dict(self.sections),
            ending=ending,
        )


@final
class RunPace:
    """How fast the calls of a run come, and how long the expected ones may still take; trainings are in the time."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._began = time.monotonic()
        self._count_at_start = self._count()
        self._count_at_step = self._count_at_start
        self.expected = 0

    def describe_new(self) -> str:
        """Says so where no new answer has come since this was last asked."""
        count = self._count()
        is_kept = count == self._count_at_step
        self._count_at_step = count
        return "  kept from before" if is_kept else ""

    def seconds_left(self, now: float) -> float | None:
        """About how long the rest takes; None where that is not known."""
        elapsed = now - self._began
        if not self.expected or elapsed < MIN_ELAPSED:
            return None
        new = self._count() - self._count_at_start
        remaining = self.expected - self._count_at_start - new
        if new < MIN_CALLS or remaining <= 0:
            return None
        return elapsed * remaining / new

    def _count(self) -> int:
        [(count,)] = self._store.database.read("SELECT count(*) FROM completions")
        return int(count)


def ending_of(error: BaseException) -> Ending:
    """How a run ended that an exception ended."""
    if isinstance(error, KeyboardInterrupt):
        return Ending("stopped", "It was stopped from outside.")
    if isinstance(error, BudgetSpent):
        return Ending("stopped", error.render())
    if isinstance(error, PotstillError):
        return Ending("failed", error.render())
    return Ending("failed", f"{type(error).__name__}: {error}")


def load_results(folder: Path) -> Results:
    """The results of a run folder: of its finished run, or what its store says of an unfinished one by now.

    Raises:
        InputError: there is neither.
    """
    unfinished = folder / UNFINISHED_FILE
    if not unfinished.exists():
        return results_file.load(folder / RESULTS_FILE)
    described = results_file.load(unfinished)
    try:
        with Store.open(folder, create=False, readonly=True) as store:
            return gather_results(described, store, described.evaluations)
    except PotstillError as error:
        raise InputError(
            f"the unfinished run in {folder} can't be read: {error.found}",
            expected=error.expected,
            fix=error.fix,
        ) from error
