"""What a copy of a run holds: the pages' documents as the server answers them, and the traces, problem by problem.

Every document comes from the functions that the server calls, so a copy shows the server's numbers. Lists and facets
are put together in the browser (`app/share_list.js`), from what is said here of each trace.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Any, NamedTuple, final

from potstill.errors import InputError, PotstillError
from potstill.store.store import Store
from potstill.viewer import problem_pages, trace_lists, trace_page
from potstill.viewer.answers import Answers, Parameters, describe_error
from potstill.viewer.facets import FACETS
from potstill.viewer.notes import NotesFile
from potstill.viewer.overlap_page import describe_overlap
from potstill.viewer.reader import RunReader
from potstill.viewer.selection import Chosen, Selection
from potstill.viewer.share.cleaner import Cleaner
from potstill.viewer.share.pack import Packer
from potstill.viewer.token_page import SIDES, TokenRequest, describe_tokens

BLOCK_SIZE = 1_500_000  # characters of a block's JSON: what the browser unpacks for one trace
PORTION = 200  # entries that are read at once
NO_LIMIT = 10**9
GENERATION = "copy"


class Entry(NamedTuple):
    """A trace in the list of an arm, by its number there."""

    seq: int
    trace: str
    arm: str
    problem: str


@final
class RunCopy:
    """Describes one run, or a selection of its traces.

    Args:
        reader: of the run, its index whole.
        store: of the run, with the index attached, of the copy's own.
        cleaner: takes out what a copy must not hold.
        query: which traces, as they are looked for on the page Traces; "" for all.
    """

    def __init__(self, reader: RunReader, store: Store, cleaner: Cleaner, query: str = "") -> None:
        self.reader, self.store, self.cleaner, self.query = reader, store, cleaner, query
        notes = NotesFile(reader.notes_path)
        self._selection = Selection(store, Chosen(query), notes.marks())
        for message in self._selection.messages:
            if message.level == "error":
                raise InputError(message.text, available=message.available)
        self._answers = Answers({reader.run.name: reader})
        order = trace_lists.make_order("made", "asc")
        self.seqs = list(trace_lists.iterate_entries(self._selection, order))
        self.entries = self._read_entries()
        traces = {entry.trace for entries in self.entries.values() for entry in entries}
        self.notes = [note for note in notes.read() if note.trace in traces]

    def _read_entries(self) -> dict[str, list[Entry]]:
        """The chosen entries of each problem, in the order in which they were made."""
        chosen = set(self.seqs)
        sql = """SELECT e.seq, i.id, g.arm, q.id FROM view.entries e JOIN view.ids i ON i.number = e.trace
            JOIN view.groups g ON g.number = e."group" JOIN view.problems q ON q.number = e.problem
            ORDER BY e.problem, e.seq"""
        entries: dict[str, list[Entry]] = {}
        for row in self.store.database.read(sql):
            entry = Entry(*row)
            if entry.seq in chosen:
                entries.setdefault(entry.problem, []).append(entry)
        return entries

    # ---- The pages of the run ----

    def describe_pages(self, block_of_problem: Mapping[str, int]) -> dict[str, Any]:
        """Every page but those of lists, traces and problems."""
        name = self.reader.run.name
        own_path = f"run/{name}"
        overview = self._page([*own_path.split("/")])
        pages = {"runs": self._page(["runs"]), own_path: overview}
        for base in overview.get("bases", ()):
            pages[f"{own_path}?base={base}"] = self._page(["run", name], base=base)
        for page in ("training", "costs", "files"):
            pages[f"{own_path}/{page}"] = self._page(["run", name, page])
        rollouts = self._rollouts(pages[f"{own_path}/training"].get("students", ()))
        notes = [note.to_json() for note in self.notes]
        pages[f"{own_path}/notes"] = {"is_writable": False, "notes": notes}
        core = {
            "run": name,
            "query": self.query,
            "pages": pages,
            "compare": self._comparisons(),
            "problems": self._matrices(),
            "blocks": dict(block_of_problem),
        }
        shortened = {str(key): self.cleaner.shorten(value) for key, value in core.items()}
        # What models wrote keeps its length: a formula may look like a path.
        return {**shortened, "rollouts": rollouts}

    def _rollouts(self, students: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
        """What the students wrote in their trainings; nothing in a selection, which would show rows not chosen."""
        pages: dict[str, dict[str, Any]] = {}
        for student in students:
            if self.query:
                student["looks"] = []
            for step in student["looks"]:
                path = ["run", self.reader.run.name, "rollouts", student["student"]]
                pages[f"{student['student']} {step}"] = self._page(path, step=str(step))
        return pages

    def _page(self, path: Sequence[str], **parameters: str) -> dict[str, Any]:
        """A page as the server answers it; in the place of one that it refuses, the error."""
        values = {name: [value] for name, value in parameters.items()}
        try:
            document = self._answers.answer(path, Parameters(values))
        except PotstillError as error:
            return describe_error(error)
        if "generation" in document:
            document["generation"] = GENERATION
        for line in document.get("runs", [document]):
            # Where it lies is of no use to others, and how long ago it ended is not known when it is read.
            if "path" in line:
                line["path"] = self.reader.run.name
            if "state" in line:
                line["state"] = describe_state(line["state"])
        return document

    def _comparisons(self) -> dict[str, dict[str, Any]]:
        """Each arm that was measured against each other one."""
        name = self.reader.run.name
        arms = [f"{name}:{arm}" for arm in self.reader.saved_results().evaluations]
        comparisons: dict[str, dict[str, Any]] = {}
        for arm in arms:
            others = {}
            for base in arms:
                others[base] = self._page(
                    ["compare"], a=arm, b=base, sort="problem", limit=str(NO_LIMIT - 1)
                )
            comparisons[arm] = others
        return comparisons

    def _matrices(self) -> dict[str, Any]:
        """The problems of both sets with all their cells, whole questions and facets."""
        if not self.reader.has_store:
            return {}
        matrices = {}
        results = self.reader.saved_results()
        for name in problem_pages.SETS:
            request = problem_pages.MatrixRequest(set=name, limit=NO_LIMIT, excerpt=NO_LIMIT)
            matrix = problem_pages.describe_problems(self.store, results, request)
            matrices[name] = {**matrix, "labels": dict(problem_pages.VALUE_LABELS)}
        return matrices

    # ---- The list of traces ----

    def describe_list(self) -> dict[str, Any]:
        """What lists and facets are made of: a line for each chosen trace."""
        facets = trace_lists.read_facets(Selection(self.store, Chosen()))["facets"]
        names = ("name", "label", "is_multiple")
        return {
            "facets": [{name: facet[name] for name in names} for facet in facets],
            "ranges": dict(trace_lists.RANGES),
            "items": self._describe_items(),
        }

    def _describe_items(self) -> list[dict[str, Any]]:
        # What a group of entries has in common is one object, stored once.
        facets_of_group: dict[int, dict[str, str]] = {}
        for group in self._selection.groups:
            facets_of_group[group.number] = {
                name: facet.value_of(group, self._selection.roles)
                for name, facet in FACETS.items()
                if facet.value_of is not None
            }
        groups = {}
        for seq, group_number, problem in self.store.database.read(
            'SELECT seq, "group", problem FROM view.entries'
        ):
            groups[seq] = (facets_of_group[group_number], problem)
        reasons: dict[int, list[str]] = {}
        for seq, reason in self.store.database.read(
            "SELECT seq, reason FROM view.drops WHERE seq IS NOT NULL ORDER BY place"
        ):
            reasons.setdefault(seq, []).append(reason)

        items: list[dict[str, Any]] = []
        seqs = iter(self.seqs)
        # Without the query: an excerpt is the beginning of its text, and hits are found in the browser.
        selection = Selection(self.store, Chosen(), self._selection.marks)
        while part := list(islice(seqs, PORTION)):
            for item in trace_lists.describe_entries(selection, part, trace_lists.MORE_COLUMNS):
                item["facets"], item["place"] = groups[item["key"]]
                item["reasons"] = reasons.get(item["key"], [])
                items.append(item)
        return items

    # ---- Traces and problems ----

    def pack_blocks(self, progress: Callable[[int, int], None]) -> Iterator[tuple[list[str], str]]:
        """Blocks of some problems each, with all their chosen traces: the problems, and the block as JSON text.

        Args:
            progress: is told how many traces are done, of how many.
        """
        facts = trace_page.RunFacts(self.store)
        block = Block(self, facts)
        done = 0
        for problem, entries in self.entries.items():
            progress(done, len(self.seqs))
            block.add(problem, entries)
            done += len(entries)
            if block.packer.size > BLOCK_SIZE:
                yield block.problems, block.to_text()
                block = Block(self, facts)
        if block.problems:
            yield block.problems, block.to_text()
        progress(done, len(self.seqs))


@final
class Block:
    """Some problems with their traces, which have much in common.

    Args:
        copy: that it is a part of.
        facts: of the run.
    """

    def __init__(self, copy: RunCopy, facts: trace_page.RunFacts) -> None:
        self.copy, self.facts = copy, facts
        self.packer = Packer(copy.cleaner.clean_text)
        self.problems: list[str] = []
        self._traces: dict[str, list[Any]] = {}
        self._pages: dict[str, int] = {}

    def add(self, problem: str, entries: Sequence[Entry]) -> None:
        """Add a problem and these of its traces."""
        self.problems.append(problem)
        # Its page shows the texts of all arms: of a selection it would show what was not chosen.
        if not self.copy.query:
            results = self.copy.reader.saved_results()
            page = problem_pages.describe_problem_page(self.copy.store, results, problem)
            self._pages[f"problem {problem}"] = self.packer.add(page)
        for entry in entries:
            self._add_trace(entry)

    def _add_trace(self, entry: Entry) -> None:
        store, cleaner = self.copy.store, self.copy.cleaner
        request = trace_page.TraceRequest(entry.trace, entry.arm)
        page = trace_page.describe_trace(store, request, self.copy.notes, self.facts)
        # What the writer is called may be a folder or an address of whoever asked it.
        for name in ("author", "error"):
            page[name] = cleaner.shorten(page[name])
        place = self.packer.add(page)
        self._traces.setdefault(entry.trace, []).append([cleaner.clean_text(entry.arm), place])
        if page["parents"]:
            overlap = describe_overlap(store, entry.trace, entry.arm)
            self._pages[f"overlap {entry.trace} {entry.arm}"] = self.packer.add(overlap)
        for row in page["rows"]:
            for side in SIDES:
                self._add_tokens(entry.trace, row["student"], side)

    def _add_tokens(self, trace: str, student: str, side: str) -> None:
        name = f"tokens {trace} {student} {side}"
        if name not in self._pages:
            request = TokenRequest(trace, student, side)
            page = describe_tokens(self.copy.store, self.copy.reader.folder, request)
            self._pages[name] = self.packer.add(self.copy.cleaner.clean_tokens(page))

    def to_text(self) -> str:
        """The block as JSON."""
        return to_ascii_json(
            {**self.packer.to_json(), "traces": self._traces, "pages": self._pages}
        )


def describe_state(state: Mapping[str, Any]) -> dict[str, Any]:
    """How the run was when it was copied; nobody works in a copy."""
    today = datetime.now(UTC).date().isoformat()
    return {**state, "pid": None, "text": f"{state['status']}, copied {today}"}


def pack_document(document: Mapping[str, Any], cleaner: Cleaner) -> str:
    """A document as a block of its own, in JSON text."""
    packer = Packer(cleaner.clean_text)
    place = packer.add(document)
    return to_ascii_json({**packer.to_json(), "root": place})


def to_ascii_json(value: Any) -> str:
    """JSON in ASCII: lone surrogates survive, and nothing in it could end a script."""
    return json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
