"""Look into a finished run folder: its table, the rows that its arms trained on, where any row came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TypeVar, final

from potstill.errors import ConfigError, InputError
from potstill.evaluation import results as results_file
from potstill.evaluation.compare import Comparison, compare
from potstill.evaluation.results import Results
from potstill.evaluation.rows import Evaluation
from potstill.evaluation.table import table
from potstill.records import Trace
from potstill.runs.stages import stage_rows
from potstill.store.store import Store
from potstill.traces.trace_list import TraceList

RESULTS = "results.json"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class TracedTrace:
    """A trace with what it came from.

    Args:
        trace: the trace, with the annotations of the arm that was asked for.
        ancestors: the traces that it was made from, nearest first.
    """

    trace: Trace
    ancestors: TraceList

    @property
    def parents(self) -> TraceList:
        """The traces that it was made from directly."""
        return TraceList(trace for trace in self.ancestors if trace.id in self.trace.parents)


@final
class Table(list[dict[str, str]]):
    """Rows of text, one an arm, that print as a table."""

    def __repr__(self) -> str:
        if not self:
            return "an empty table"
        lines = [list(self[0]), *(list(row.values()) for row in self)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        text = ""
        for cells in lines:
            padded = map(str.ljust, cells, widths)
            text += "  ".join(padded).rstrip() + "\n"
        return text.rstrip("\n")

    def _repr_html_(self) -> str:
        """The table of a notebook."""
        columns = list(self[0]) if self else []
        head = "".join(f"<th>{escape(name)}</th>" for name in columns)
        body = ""
        for row in self:
            body += "<tr>" + "".join(f"<td>{escape(row[name])}</td>" for name in columns) + "</tr>"
        return f"<table><tr>{head}</tr>{body}</table>"


class Run:
    """A finished run in its folder; `viewer.queried_run` adds what the viewer can be asked.

    Args:
        folder: the run folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r}: {', '.join(self.arms)})"

    def _repr_html_(self) -> str:
        """The table, for a notebook."""
        return f"<p>{escape(repr(self))}</p>{self.table()._repr_html_()}"

    @cached_property
    def results(self) -> Results:
        """Everything that results.json holds."""
        return results_file.load(self.folder / RESULTS)

    @property
    def arms(self) -> list[str]:
        """The names of the arms, the untrained student's among them where it was measured."""
        evaluated = list(self.results.evaluations)
        arms = [arm for arm, report in self.results.training.items() if "stage" not in report]
        return evaluated + [arm for arm in arms if arm not in evaluated]

    def table(self) -> Table:
        """One row an arm: rows trained on, avg@n, pass@n, maj@n, steps, the difference to the untrained student."""
        return Table(table(self.results))

    def evaluation(self, arm: str) -> Evaluation:
        """How an arm was measured."""
        return self._of_arm(self.results.evaluations, arm, "was measured")

    def compare(self, arm: str, base: str = "untrained") -> Comparison:
        """The paired difference of two arms."""
        return compare(self.evaluation(arm), self.evaluation(base))

    def stages(self, arm: str) -> list[str]:
        """The names or numbers of an arm's stages, in order; none where its method trains nothing."""
        with Store.open(self.folder, create=False, readonly=True) as store:
            return [stage.label for stage in store.history.stages(arm)]

    def rows(self, arm: str, stage: str = "") -> TraceList:
        """The rows that a stage of an arm trained on.

        Args:
            arm: its name.
            stage: its name or number (`stages(arm)`); the last one where it is not given.
        """
        self._of_arm(self.results.training, arm, "was trained")
        with Store.open(self.folder, create=False, readonly=True) as store:
            return TraceList(stage_rows(store, arm, stage))

    def traces(self, arm: str, *, operator: str = "") -> TraceList:
        """All traces of an arm in the order they were made, or those of one operator."""
        with Store.open(self.folder, create=False, readonly=True) as store:
            return TraceList(store.history.traces(arm, operator))

    def trace(self, id: str, *, arm: str = "") -> TracedTrace:
        """A trace with everything that it came from.

        Raises:
            InputError: no arm of this run made it.
        """
        with Store.open(self.folder, create=False, readonly=True) as store:
            family = store.history.ancestry(id, arm)
        if not family or family[0].id != id:
            raise InputError(
                f"{self.folder} has no trace {id!r}.",
                expected="an id of run.rows(ARM) or run.traces(ARM)",
            )
        return TracedTrace(family[0], TraceList(family[1:]))

    def _of_arm(self, by_arm: Mapping[str, T], arm: str, what: str) -> T:
        if arm not in by_arm:
            raise ConfigError(f"No arm {arm!r} of this run {what}.", available=by_arm, wanted=arm)
        return by_arm[arm]


def open_run(folder: str | Path) -> Run:
    """A finished run: its table, rows and traces. Nothing in the folder is changed.

    Raises:
        InputError: there are no results in the folder, or another version of potstill wrote them.
    """
    run = Run(Path(folder))
    run.results  # noqa: B018  read now, so that a folder without results is refused here
    return run
