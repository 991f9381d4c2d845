"""A finished run with the viewer's questions as methods: what the pages show, for Python."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from potstill.evaluation.flips import Flip, pair_problems
from potstill.runs import finished
from potstill.traces.trace_list import TraceList

if TYPE_CHECKING:
    from potstill.viewer.reader import RunReader
    from potstill.viewer.selection import Selection


@final
class Run(finished.Run):
    """A finished run in its folder; what `run` returns and `open_run` opens.

    Lists and counts come from the viewer's index in the user's cache, which is made at the first question.

    Args:
        folder: the run folder.
    """

    def find(
        self, query: str = "", *, sort: str = "made", limit: int = 100, descending: bool = False
    ) -> TraceList:
        """The traces that a query finds, each with the annotations of its arm.

        Args:
            query: as in the viewer: `status:wrong tokens:>100 "carry the one" -arm:sft`.
            sort: "made", "problem", or a number such as "tokens" or "score.run_teacher".
            limit: how many at most.
            descending: the largest first.
        """
        from potstill.viewer.trace_lists import describe_entries, iterate_entries, make_order

        # Portion by portion until there are enough.
        order = make_order(sort, "desc" if descending else "asc")
        traces: list[Any] = []
        with self._selection(query) as selection:
            for seq in iterate_entries(selection, order):
                if len(traces) == limit:
                    break
                [entry] = describe_entries(selection, [seq])
                traces.append(selection.store.history.trace(entry["id"], entry["arm"]))
        return TraceList(traces)

    def facets(self, query: str = "") -> dict[str, dict[str, int]]:
        """How many of the traces that a query finds have each value of each facet: arm, operator, verdict, …"""
        from potstill.viewer.trace_lists import read_facets

        with self._selection(query) as selection:
            facets = read_facets(selection)["facets"]
        counts: dict[str, dict[str, int]] = {}
        for facet in facets:
            counts[facet["name"]] = {value["value"]: value["count"] for value in facet["values"]}
        return counts

    def flips(self, arm: str, base: str = "untrained") -> list[Flip]:
        """The problems on which an arm and a base differ, the largest change first.

        Raises:
            ConfigError: they were not asked the same.
        """
        self.compare(arm, base)
        pairs = pair_problems(self.evaluation(arm), self.evaluation(base))
        differing = [pair for pair in pairs if pair.change]
        return sorted(differing, key=lambda pair: -abs(pair.change))

    def steps(self, arm: str, stage: str = "") -> list[dict[str, Any]]:
        """What was measured at each step of a training of an arm, of its last stage where none is named."""
        from potstill.runs.stages import find_stage
        from potstill.viewer.token_page import STUDENTS_FOLDER
        from potstill.viewer.training_page import read_step_lines

        with self._reader().store() as store:
            of_stage = find_stage(store, arm, stage)
        if of_stage is None:
            return []
        steps, _ = read_step_lines(self.folder / STUDENTS_FOLDER / of_stage.stage)
        return steps

    def costs(self) -> Mapping[str, Any]:
        """What was used over time and in all, failed tries and open calls included, as the page Money has it."""
        from potstill.runs.budget_file import read_limits
        from potstill.viewer.cost_page import describe_costs

        with self._selection("") as selection:
            return describe_costs(selection.store, read_limits(self.folder))

    def _reader(self) -> RunReader:
        from potstill.viewer.index.index_file import default_index_folder
        from potstill.viewer.reader import RunReader
        from potstill.viewer.run_folders import RunFolder

        name = self.folder.resolve().name
        return RunReader(
            RunFolder(name, self.folder.resolve(), str(self.folder)), default_index_folder()
        )

    @contextmanager
    def _selection(self, query: str) -> Iterator[Selection]:
        from potstill.errors import InputError
        from potstill.viewer.facets import FACETS
        from potstill.viewer.index.indexer import build_index
        from potstill.viewer.notes import NotesFile
        from potstill.viewer.query import parse_query
        from potstill.viewer.selection import Chosen, Selection

        reader = self._reader()
        # Words take longest, and only a query with words needs them.
        parsed = parse_query(query, list(FACETS))
        for message in parsed.messages:
            if message.level == "error":
                raise InputError(message.text, available=message.available)
        build_index(reader, with_words=bool(parsed.words))
        marks = NotesFile(reader.notes_path).marks()
        with reader.store() as store:
            yield Selection(store, Chosen(query), marks)


def open_run(folder: str | Path) -> Run:
    """A finished run: its table, rows and traces, and what the viewer can be asked. Nothing in the folder is changed.

    Raises:
        InputError: there are no results in the folder, or another version of potstill wrote them.
    """
    run = Run(Path(folder))
    run.results  # noqa: B018  read now, so that a folder without results is refused here
    return run
