"""From a request's path and parameters to its document. The server calls this in a thread."""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple, final

from potstill.errors import InputError, PotstillError
from potstill.runs.budget_file import read_limits
from potstill.viewer import (
    compare_page,
    exports,
    journal_page,
    overview,
    problem_pages,
    token_page,
    trace_lists,
    trace_page,
)
from potstill.viewer.cost_page import describe_costs
from potstill.viewer.index.indexer import Indexer
from potstill.viewer.notes import NotesFile, read_note
from potstill.viewer.overlap_page import describe_overlap
from potstill.viewer.reader import RunReader
from potstill.viewer.rollouts_page import describe_rollouts
from potstill.viewer.run_files import RunFile, list_files
from potstill.viewer.run_state import read_state
from potstill.viewer.selection import Chosen, Selection
from potstill.viewer.training_page import describe_training

FACET_PREFIX = "f."
SINCE_PREFIX = "since."  # before a student, in the parameters of its curves


class NotFoundError(InputError):
    """There is no such run, page or file."""


class ForbiddenError(InputError):
    """Something that this server was not started for."""


class Parameters:
    """The parameters of a request.

    Args:
        values: all values of each name.
    """

    def __init__(self, values: Mapping[str, Sequence[str]]) -> None:
        self._values = values

    def text(self, name: str, default: str = "") -> str:
        """The last value of a parameter."""
        return self._values[name][-1] if self._values.get(name) else default

    def number(self, name: str, default: int) -> int:
        """A whole number of 0 or more; InputError where it is none."""
        text = self.text(name)
        if not text:
            return default
        if not text.isascii() or not text.isdecimal() or len(text) > 9:
            raise InputError(f"{name}={text[:40]} is no whole number", expected=f"{name}={default}")
        return int(text)

    def numbers(self, prefix: str) -> dict[str, int]:
        """The whole numbers of the parameters that begin so, by the rest of their names."""
        numbers = {}
        for name in self._values:
            if name.startswith(prefix):
                numbers[name.removeprefix(prefix)] = self.number(name, 0)
        return numbers

    def chosen(self) -> Chosen:
        """The query and the facets of a list."""
        facets = {}
        for name, values in self._values.items():
            if name.startswith(FACET_PREFIX):
                facets[name.removeprefix(FACET_PREFIX)] = list(values)
        return Chosen(self.text("q"), facets)


class Request(NamedTuple):
    """What is asked: the run, the rest of the path, the parameters, and whether the server takes notes."""

    reader: RunReader
    tail: tuple[str, ...]
    parameters: Parameters
    takes_notes: bool = False


Answer = Callable[[Request], dict[str, Any]]


@final
class Answers:
    """Answers requests about some runs.

    Args:
        readers: of all runs, by name.
        indexer: that builds and follows their indexes; None where somebody else did it.
        takes_notes: whether notes may be written.
        find_new_runs: brings `readers` up to date with the runs that there are by now.
    """

    def __init__(
        self,
        readers: Mapping[str, RunReader],
        indexer: Indexer | None = None,
        *,
        takes_notes: bool = False,
        find_new_runs: Callable[[], None] = lambda: None,
    ) -> None:
        self.readers, self.indexer, self.takes_notes = readers, indexer, takes_notes
        self.find_new_runs = find_new_runs

    def reader(self, name: str) -> RunReader:
        """A run by its name in addresses."""
        if name not in self.readers:
            self.find_new_runs()
        reader = self.readers.get(name)
        if reader is None:
            raise NotFoundError(
                f"there is no run {name[:80]!r}", available=list(self.readers), wanted=name
            )
        if self.indexer is not None:
            # Only what somebody looks at is indexed and followed.
            self.indexer.ask_for(name)
        return reader

    def add_note(self, path: Sequence[str], values: Any) -> dict[str, Any]:
        """Write a note and return it.

        Raises:
            ForbiddenError: this server takes no notes.
            InputError: it is none, or names a trace that the run does not have.
        """
        if not self.takes_notes:
            raise ForbiddenError(
                "this server takes no notes", fix="potstill view RUN --notes RUN/notes.jsonl"
            )
        reader = self.reader(path[1])
        note = read_note(values)
        with reader.store() as store:
            # A note on a trace that is not there would never be seen again.
            trace_page.find_trace_id(store, note.trace)
        try:
            return NotesFile(reader.notes_path).add(values).to_json()
        except OSError as error:
            raise ForbiddenError(
                f"notes can't be written to {reader.notes_path.name}: {error.strerror or error}",
                fix="potstill view RUN --notes FILE, in a folder that you may write to",
            ) from error

    def export(
        self, path: Sequence[str], parameters: Parameters
    ) -> tuple[str, str, Generator[str]]:
        """A list of traces as a file: its name, its content type, and its parts, which are read as they are asked for.

        Raises:
            InputError: there is no such format.
        """
        reader = self.reader(path[1])
        form = parameters.text("format", "jsonl")
        if form not in exports.FORMATS:
            raise InputError(f"there is no format {form[:40]!r}", available=exports.FORMATS)
        parts = exports.export_entries(reader, parameters.chosen(), _order(parameters), form)
        name = f"{reader.run.name}-traces.{exports.FORMATS[form].suffix}"
        return name, exports.FORMATS[form].content_type, parts

    def file(self, path: Sequence[str]) -> RunFile:
        """A file of a run, by its name in the list of files."""
        # Looked up in the list, never joined to the folder: no path leads out of the run.
        files = list_files(self.reader(path[1]).folder)
        name = "/".join(path[3:])
        if name not in files:
            raise NotFoundError(f"there is no file {name[:80]!r}", available=list(files))
        return files[name]

    def _runs(self) -> dict[str, Any]:
        self.find_new_runs()
        document = overview.describe_runs(self.readers, takes_notes=self.takes_notes)
        for line in document["runs"]:
            # What the sums of a large store take is counted once, by its index.
            if line.get("is_counted") is False and self.indexer is not None:
                self.indexer.ask_for(line["run"])
        return document

    def _compare(self, parameters: Parameters) -> dict[str, Any]:
        sides = []
        for name in ("a", "b"):
            run, colon, arm = parameters.text(name).partition(":")
            if not colon:
                raise InputError(f"{name} names no arm", expected=f"{name}=RUN:ARM")
            sides.append(compare_page.find_side(self.reader(run), arm))
        request = compare_page.CompareRequest(
            facets=parameters.chosen().facets,
            sort=parameters.text("sort", "change"),
            after=parameters.text("after"),
            limit=parameters.number("limit", 200),
        )
        return compare_page.describe_compare(sides[0], sides[1], request)

    def answer(self, path: Sequence[str], parameters: Parameters) -> dict[str, Any]:
        """The document at a path below `api/`.

        Raises:
            NotFoundError: there is none.
            PotstillError: the run can't be read, or a parameter is wrong.
        """
        # Whoever looks comes before the index, also on a machine with one free core.
        with self.indexer.held() if self.indexer is not None else nullcontext():
            return self._answer(path, parameters)

    def _answer(self, path: Sequence[str], parameters: Parameters) -> dict[str, Any]:
        if list(path) == ["runs"]:
            return self._runs()
        if list(path) == ["compare"]:
            return self._compare(parameters)
        # Everything else is of one run.
        if len(path) < 2 or path[0] != "run":
            raise NotFoundError("there is no such page", available=["api/runs", "api/run/R"])
        reader = self.reader(path[1])
        name = path[2] if len(path) > 2 else ""
        # Pages are looked up by name, and what comes after the name is the page's own to read.
        page = _PAGES.get(name)
        if page is None:
            raise NotFoundError(
                f"there is no page {name[:40]!r}", available=sorted(_PAGES), wanted=name
            )
        # An index that failed would answer with half a run.
        if self.indexer is not None and reader.run.name in self.indexer.errors:
            raise self.indexer.errors[reader.run.name]
        # Read before the answer: what changes meanwhile is then asked for again.
        generation = reader.generation()
        request = Request(reader, tuple(path[3:]), parameters, self.takes_notes)
        document = page(request)
        return {"generation": generation, **document}


def _overview(request: Request) -> dict[str, Any]:
    reader = request.reader
    base = request.parameters.text("base")
    document = reader.remember(f"overview {base}", lambda: overview.describe_overview(reader, base))
    # How long ago it ended changes by itself.
    document["state"] = read_state(reader.folder).to_json()
    document["indexed"] = {"traces": 1.0, "words": 1.0, "has_words": True}
    if request.reader.has_store:
        with request.reader.store() as store:
            document["indexed"] = Selection(store, Chosen()).indexed()
    return document


def _order(parameters: Parameters) -> trace_lists.Order:
    return trace_lists.make_order(parameters.text("sort", "made"), parameters.text("order", "asc"))


def _traces(request: Request) -> dict[str, Any]:
    parameters = request.parameters
    # "".split(",") is one empty name.
    columns = tuple(filter(None, parameters.text("columns").split(",")))
    page = trace_lists.PageRequest(
        order=_order(parameters),
        after=parameters.text("after"),
        before=parameters.text("before"),
        limit=parameters.number("limit", 100),
        columns=columns,
    )
    return _with_selection(request, functools.partial(trace_lists.read_page, request=page))


def _anchors(request: Request) -> dict[str, Any]:
    order = _order(request.parameters)
    return _with_selection(request, functools.partial(trace_lists.read_anchors, order=order))


def _facets(request: Request) -> dict[str, Any]:
    return _with_selection(request, trace_lists.read_facets)


def _with_selection(
    request: Request, read: Callable[[Selection], dict[str, Any]]
) -> dict[str, Any]:
    marks = NotesFile(request.reader.notes_path).marks()
    with request.reader.store() as store:
        document = read(Selection(store, request.parameters.chosen(), marks))
        # An arm that is begun anew has another number: what was listed of it before is gone.
        eras = dict(store.database.read("SELECT arm, generation FROM view.arms"))
    return {**document, "eras": eras}


def _trace(request: Request) -> dict[str, Any]:
    if not request.tail:
        raise NotFoundError("no trace is named", expected="api/run/R/trace/ID")
    parameters = request.parameters
    trace_request = trace_page.TraceRequest(
        request.tail[0], parameters.text("arm"), parameters.text("q")
    )
    notes = NotesFile(request.reader.notes_path).read()
    with request.reader.store() as store:
        if len(request.tail) == 1:
            return trace_page.describe_trace(store, trace_request, notes)
        trace_id = trace_page.find_trace_id(store, request.tail[0])
        if request.tail[1] == "tokens":
            side = parameters.text("side", "chosen")
            tokens = token_page.TokenRequest(trace_id, parameters.text("student"), side)
            return token_page.describe_tokens(store, request.reader.folder, tokens)
        if request.tail[1] == "overlap":
            return describe_overlap(store, trace_id, parameters.text("arm"))
    raise NotFoundError(
        f"a trace has no page {request.tail[1][:40]!r}", available=["tokens", "overlap"]
    )


def _notes(request: Request) -> dict[str, Any]:
    notes = NotesFile(request.reader.notes_path)
    return {
        "is_writable": request.takes_notes,
        "file": notes.path.name,
        "notes": [note.to_json() for note in notes.read()],
    }


def _problems(request: Request) -> dict[str, Any]:
    parameters = request.parameters
    chosen = parameters.chosen()
    matrix = problem_pages.MatrixRequest(
        set=parameters.text("set", "test"),
        query=chosen.text,
        facets=chosen.facets,
        sort=parameters.text("sort", "problem"),
        is_descending=parameters.text("order") == "desc",
        after=parameters.text("after"),
        limit=parameters.number("limit", 500),
        base=parameters.text("base"),
    )
    with request.reader.store() as store:
        return problem_pages.describe_problems(store, request.reader.saved_results(), matrix)


def _problem(request: Request) -> dict[str, Any]:
    # An id may have slashes.
    problem = "/".join(request.tail)
    with request.reader.store() as store:
        return problem_pages.describe_problem_page(store, request.reader.saved_results(), problem)


def _training(request: Request) -> dict[str, Any]:
    folder = request.reader.folder
    # Before the steps are read: a run that ends meanwhile is asked for once more, not once too seldom.
    is_running = read_state(folder).status == "running"
    since = request.parameters.numbers(SINCE_PREFIX)
    with request.reader.store() as store:
        return describe_training(store, folder, since=since, is_running=is_running)


def _rollouts(request: Request) -> dict[str, Any]:
    if not request.tail:
        raise NotFoundError("no student is named", expected="api/run/R/rollouts/STUDENT?step=N")
    step = request.parameters.number("step", 0)
    with request.reader.store() as store:
        return describe_rollouts(store, request.reader.folder, request.tail[0], step)


def _costs(request: Request) -> dict[str, Any]:
    limits = read_limits(request.reader.folder)
    with request.reader.store() as store:
        return describe_costs(store, limits)


def _journal(request: Request) -> dict[str, Any]:
    parameters = request.parameters
    with request.reader.store() as store:
        if request.tail:
            return journal_page.describe_call(store, request.tail[0])
        journal_request = journal_page.JournalRequest(
            arm=parameters.text("arm"),
            role=parameters.text("role"),
            status=parameters.text("status"),
            after=parameters.text("after"),
            limit=parameters.number("limit", 100),
            is_newest_first=parameters.text("order") == "desc",
            is_of_attempts=parameters.text("kind") == "attempts",
        )
        return journal_page.describe_journal(store, journal_request)


def _files(request: Request) -> dict[str, Any]:
    return {"files": [file.to_json() for file in list_files(request.reader.folder).values()]}


_PAGES: Mapping[str, Answer] = {
    "": _overview,
    "traces": _traces,
    "anchors": _anchors,
    "facets": _facets,
    "trace": _trace,
    "notes": _notes,
    "problems": _problems,
    "problem": _problem,
    "training": _training,
    "rollouts": _rollouts,
    "costs": _costs,
    "journal": _journal,
    "files": _files,
}


def describe_error(error: PotstillError) -> dict[str, Any]:
    """An error as the pages read it."""
    parts = {
        "found": error.found,
        "expected": error.expected,
        "nearest": list(error.nearest),
        "available": [str(name) for name in error.available],
        "fix": error.fix,
    }
    return {"error": {name: value for name, value in parts.items() if value}}
