"""What a run says of itself while it lasts: results published now and then, and at its end, whatever that is."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from potstill.errors import BudgetSpent, InputError, PotstillError
from potstill.evaluation import results as results_file
from potstill.evaluation.results import Ending, Results
from potstill.evaluation.rows import Evaluation
from potstill.runs import manifest
from potstill.runs.results import compare_arms, gather_results
from potstill.store.store import Store
from potstill.traces import ReportSection

RESULTS_FILE = "results.json"
UNFINISHED_FILE = (
    "unfinished.json"  # the same of a run that has not come to its end; the end takes it away
)
REFRESH_SECONDS = 10.0  # between two refreshes at least
REFRESH_SHARE = 0.02  # of the time that refreshing may take

Publish: TypeAlias = Callable[[Results], None]


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
        evaluations: by arm, as they come.
        sections: by arm, what its method adds to the report.
    """

    described: Results
    store: Store
    path: Path
    compare_arm: str = ""
    publish: Publish = publish_nothing
    evaluations: dict[str, Evaluation] = field(default_factory=dict)
    sections: dict[str, list[ReportSection]] = field(default_factory=dict)
    _next_refresh: float = field(default=0.0, init=False)

    @contextmanager
    def recording_the_end(self) -> Iterator[None]:
        """Publish what there is when the block begins, and what there is where an exception ends it."""
        self._begin()
        try:
            yield
        except BaseException as error:
            try:
                self._publish_unfinished(ending_of(error))
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
