"""Make a copy of a run: say what it will hold, ask where it must be asked, write it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from potstill import __version__
from potstill.data.atomic_write import building_folder, write_text
from potstill.errors import ConfigError, PotstillError
from potstill.evaluation.results import Results
from potstill.viewer.facets import FACETS
from potstill.viewer.index.indexer import build_index
from potstill.viewer.query import parse_query
from potstill.viewer.reader import RunReader
from potstill.viewer.share import page
from potstill.viewer.share.cleaner import make_cleaner
from potstill.viewer.share.documents import RunCopy, pack_document

MAX_FILE_BYTES = 20_000_000
"""Of a copy in one file: a larger one takes a browser seconds to open, and few mails carry it."""
MADE_BY_PROGRAMS = ("world", "gym")
"""Kinds of problems that a program makes: their answers are no secret of a benchmark."""


@dataclass(frozen=True, slots=True)
class ShareRequest:
    """What is copied, and where to.

    Args:
        out: a file that ends in .html, or a folder.
        query: which traces; "" for all.
        gives_golds: whether the gold answers of a benchmark may be in it.
    """

    out: Path
    query: str = ""
    gives_golds: bool = False

    @property
    def is_file(self) -> bool:
        """Whether the copy is one file."""
        return self.out.suffix.lower() in (".html", ".htm")


@dataclass(frozen=True, slots=True)
class Contents:
    """What a copy holds.

    Args:
        traces: lines of the list of traces.
        of: how many the run has.
        characters: of their texts.
        problems: problems whose questions it shows.
        golds: of these, with their gold answer.
        benchmark: the set that was measured on, where its answers are no program's; "" for none.
        secrets: different keys and passwords that are taken out.
        notes: notes of people on its traces.
    """

    traces: int
    of: int
    characters: int
    problems: int
    golds: int
    benchmark: str
    secrets: int
    notes: int


Progress: TypeAlias = Callable[[str, int, int], None]


class Encoded(NamedTuple):
    """A block of traces as it is written, and the problems whose traces it holds."""

    problems: list[str]
    text: str


def make_copy(
    reader: RunReader,
    request: ShareRequest,
    *,
    announce: Callable[[Contents], None] = lambda contents: None,
    progress: Progress = lambda label, done, of: None,
) -> dict[str, Any]:
    """Write a copy of a run; returns what it holds and its size in bytes.

    Args:
        reader: of the run.
        request: what, and where to.
        announce: is told what the copy will hold, before anything is written.
        progress: is told what is done, and how much of how much.

    Raises:
        ConfigError: it would hold a benchmark's answers and nobody said yes, or it is too large for one file.
        InputError: the query can't be read.
    """
    _check_target(request)
    if not reader.has_store:
        raise ConfigError(
            f"{reader.run.readable_path} has no store, and so no traces to show",
            fix="share its report.html",
        )
    # What a query finds must be whole before it is copied; words take longest, and few queries ask for them.
    build_index(reader, with_words=bool(parse_query(request.query, list(FACETS)).words))
    cleaner = make_cleaner(reader, partial(progress, "look for keys"))
    with reader.open_store() as store, store.database.snapshot():
        # One snapshot of the store, so that a run that goes on does not change what was announced.
        copy = RunCopy(reader, store, cleaner, request.query)
        contents = _describe_contents(copy)
        announce(contents)
        _check_contents(request, contents)
        write = _write_file if request.is_file else _write_folder
        size = write(copy, request, contents, progress)
    return {"out": str(request.out), "bytes": size, **asdict(contents)}


def _check_target(request: ShareRequest) -> None:
    out = request.out
    if request.is_file and out.is_dir():
        raise ConfigError(f"--share {out} is a folder", fix=f"--share {out.with_suffix('')}")
    # Before all traces are read, not after.
    place = next(parent for parent in out.absolute().parents if parent.exists())
    if not os.access(place, os.W_OK):
        raise ConfigError(f"{place} can't be written to", fix="--share with a path of your own")
    if request.is_file or not out.exists():
        return
    if not out.is_dir():
        raise ConfigError(f"--share {out} is a file", fix=f"--share {out}.html")
    if not page.is_earlier_copy(out):
        raise ConfigError(
            f"--share {out} holds other files", expected="a new folder, or one of an earlier copy"
        )


def _check_contents(request: ShareRequest, contents: Contents) -> None:
    # A copy without traces would look as if the run had none.
    if request.query and not contents.traces:
        raise ConfigError(f"no trace is found by {request.query!r}", fix="potstill view shows them")
    if contents.benchmark and contents.golds and not request.gives_golds:
        raise ConfigError(
            f"the copy would give away {contents.golds:,} gold answers, those of {contents.benchmark} among them, "
            "which the run is measured on",
            expected="that this is wanted: what lies open is trained on",
            fix="--yes",
        )


def _describe_contents(copy: RunCopy) -> Contents:
    [(of,)] = copy.store.database.read("SELECT count(*) FROM view.entries")
    sql = "SELECT sum(length) FROM view.entries WHERE seq IN (SELECT value FROM json_each(?))"
    [(characters,)] = copy.store.database.read(sql, (json.dumps(copy.seqs),))
    # The matrix of problems shows all of them, whatever traces were chosen.
    problems: dict[str, bool] = {}
    for problem, answer in copy.store.database.read("SELECT id, answer FROM view.problems"):
        problems[problem] = problems.get(problem, False) or answer is not None
    return Contents(
        traces=len(copy.seqs),
        of=int(of),
        characters=int(characters or 0),
        problems=len(problems),
        golds=sum(problems.values()),
        benchmark=name_benchmark(copy.reader.saved_results()),
        secrets=len(copy.cleaner.secrets),
        notes=len(copy.notes),
    )


def name_benchmark(results: Results) -> str:
    """The set that a run is measured on, where no program made it; "" where there is none."""
    evaluate: Mapping[str, Any] = results.recipe.get("evaluate") or {}
    source = str(evaluate.get("problems") or "")
    if not source:
        return "problems of an unknown source" if results.evaluations else ""
    return "" if source.partition(":")[0] in MADE_BY_PROGRAMS else source


def _encode_blocks(copy: RunCopy, progress: Progress) -> Iterator[Encoded]:
    for problems, text in copy.pack_blocks(partial(progress, "copy traces")):
        yield Encoded(problems, page.encode(text))


def _write_file(
    copy: RunCopy,
    request: ShareRequest,
    contents: Contents,
    progress: Progress,
) -> int:
    blocks: list[str] = []
    block_of_problem: dict[str, int] = {}
    size = 0
    for number, block in enumerate(_encode_blocks(copy, progress)):
        block_of_problem |= dict.fromkeys(block.problems, number)
        blocks.append(page.data_element(f"copy-block-{number}", block.text))
        size += len(block.text)
        # Said as soon as it is certain, not after the last block.
        if size > MAX_FILE_BYTES:
            raise ConfigError(
                f"the copy is larger than {MAX_FILE_BYTES // 10**6} MB, after {len(block_of_problem):,} of "
                f"{len(copy.entries):,} problems",
                expected="one file that a browser opens at once",
                fix=f"--share {request.out.with_suffix('')}/ writes a folder; --arm, --find and --marked choose traces",
            )
    first, listed = _render_data(copy, contents, block_of_problem)
    text = page.render_page(first, "\n".join([listed, *blocks]), has_scripts=False)
    write_text(request.out, text)
    return len(text.encode("utf-8"))


def _write_folder(
    copy: RunCopy,
    request: ShareRequest,
    contents: Contents,
    progress: Progress,
) -> int:
    if request.out.exists():
        shutil.rmtree(request.out)  # an earlier copy, as was checked
    size = 0
    with building_folder(request.out) as draft:
        # Somebody else's copy stands there now: theirs is not replaced.
        if draft is None:
            raise PotstillError(f"another process has just written {request.out}")
        (draft / page.BLOCK_FOLDER).mkdir()
        block_of_problem: dict[str, int] = {}
        for number, block in enumerate(_encode_blocks(copy, progress)):
            block_of_problem |= dict.fromkeys(block.problems, number)
            text = page.block_script(number, block.text)
            (draft / page.BLOCK_FOLDER / f"{number}.js").write_text(text, "ascii")
            size += len(text)
        first, listed = _render_data(copy, contents, block_of_problem)
        text = page.render_page(first, listed, has_scripts=True)
        (draft / page.PAGE_FILE).write_text(text, "utf-8")
    return size + len(text.encode("utf-8"))


def _render_data(
    copy: RunCopy, contents: Contents, block_of_problem: Mapping[str, int]
) -> tuple[str, str]:
    """The data in the page: that which the first page needs, and the list of traces."""
    pages = pack_document(copy.describe_pages(block_of_problem), copy.cleaner)
    attributes = {
        "run": copy.reader.run.name,
        "traces": str(contents.traces),
        "sentence": _sentence(contents, copy.query),
    }
    first = page.data_element(page.FIRST_DATA, page.encode(pages), attributes)
    listed = pack_document(copy.describe_list(), copy.cleaner)
    return first, page.data_element("copy-list", page.encode(listed))


def _sentence(contents: Contents, query: str) -> str:
    """What stands below each page of the copy."""
    day = datetime.now(UTC).date().isoformat()
    traces = f"all {contents.traces:,} traces"
    if query:
        traces = f"{contents.traces:,} of {contents.of:,} traces ({query})"
    return (
        f"A copy made on {day} by potstill {__version__}, with {traces}. It has no journal and no files of the run; "
        "dots stand where keys and folders stood."
    )
