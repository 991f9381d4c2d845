"""Recorded answers become traces: with their problems, and the file's own label as the score "label".

A trace file has one trace a line, as the store writes them (`store.traces.to_json`). `potstill train --rows`,
`potstill export` and `recorded:FILE` read it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from potstill import verifiers
from potstill.data import files, layouts
from potstill.data.atomic_write import writing
from potstill.data.layouts import Columns, Recording
from potstill.data.problem_rows import from_rows
from potstill.data.trace_json import from_record, to_json
from potstill.errors import ConfigError, InputError, StoreError
from potstill.records import Author, Problem, Progress, Prompt, Trace, digest

GOLDS = ("gold", "ground_truth", "expected_answer", "gt", "final_answer", "reference", "answer", "correct_answer",
         "ground_truth_solution", "target", "solution")  # fmt: skip
IDS = ("problem_id", "unique_id", "id")
WRITERS = ("model", "generator", "author")
FIELDS = (*layouts.FIELDS, "gold", "id", "choices")

_PORTION = 500


class Imported(NamedTuple):
    """Traces in the order of the file, and which column was read as what."""

    traces: list[Trace]
    mapping: dict[str, str]
    rows: int


class _Row(NamedTuple):
    where: str
    question: str
    prompt: Prompt
    made: list[Recording]
    author: str
    fields: dict[str, Any]


def _silent(label: str, done: int, total: int) -> None:
    """Nobody watches."""


def read(
    spec: str,
    *,
    mapping: Mapping[str, str] | None = None,
    kind: str = "",
    limit: int = 0,
    progress: Progress = _silent,
) -> Imported:
    """The traces that a file or hf:NAME holds.

    Args:
        mapping: field (FIELDS) -> column, where the guess is not to be taken; "" for none.
        kind: the verifier of the problems; guessed from the gold answers where it is not given.
        limit: rows at most; 0 is all.
        progress: called with ("rows", how many so far, 0) now and then.
    """
    given = dict(mapping or {})
    unknown = [name for name in given if name not in FIELDS]
    if unknown:
        raise ConfigError(
            f"--map names no field {unknown[0]!r}", available=FIELDS, wanted=unknown[0]
        )
    columns: Columns | None = None
    others: dict[str, str] = {}
    ready: list[Trace] = []
    found: list[_Row] = []
    count = 0
    for where, row in files.rows(spec, "a file of recorded answers"):
        count += 1
        if limit and count > limit:
            break
        if count % _PORTION == 0:
            progress("rows", count, 0)
        with files.checked(spec, where, row):
            if layouts.is_trace(row):
                ready.append(from_row(row, f"{spec}, {where}"))
                columns = columns or Columns("potstill traces", ("text",), "problem")
                continue
            if columns is None:
                own = {
                    name: column
                    for name, column in given.items()
                    if name in layouts.FIELDS and column
                }
                columns = layouts.guess(row, own, f"{spec}, {where}")
                others = _others(row, columns, given)
            found.append(_row(where, row, columns, others, spec))
    made = [*ready, *_traces(found, spec, kind, others)]
    if not made:
        raise InputError(
            f"{spec} holds no recorded answers",
            expected="rows with answers",
            fix="give another file",
        )
    shown = {"layout": columns.layout, **columns.shown(), **others} if columns else {}
    return Imported(
        made, {name: column for name, column in shown.items() if column}, min(count, limit or count)
    )


def judged(traces: Sequence[Trace], progress: Progress) -> list[Trace]:
    """The traces with the verdicts of their problems' verifiers; those without a gold answer stay unjudged."""
    known = [
        at
        for at, trace in enumerate(traces)
        if trace.problem.answer is not None and not trace.error
    ]
    result = list(traces)
    for start in range(0, len(known), _PORTION):
        part = known[start : start + _PORTION]
        progress("judged", start, len(known))
        verdicts = verifiers.judge([(traces[at].problem, traces[at].text) for at in part])
        for at, verdict in zip(part, verdicts, strict=True):
            result[at] = traces[at].annotate(verdict=verdict)
    progress("judged", len(known), len(known))
    return result


def good(trace: Trace) -> bool:
    """Whether a trace may be learnt from: judged right; where it was not judged, not labelled wrong by its file."""
    if trace.verdict.status != "unjudged":
        return trace.verdict.status == "right"
    return trace.scores.get("label") != 0.0 and not trace.error


def counts(traces: Sequence[Trace]) -> list[dict[str, Any]]:
    """A row an author: problems, traces, cut off, right and wrong by label, the verdicts."""
    by_author: dict[str, list[Trace]] = {}
    for trace in traces:
        by_author.setdefault(trace.author.model if trace.author else "nobody", []).append(trace)
    return [_counts(author, mine) for author, mine in by_author.items()]


def write(traces: Iterable[Trace], path: Path) -> None:
    """A trace file, whole or not at all."""
    with writing(path) as file:
        for trace in traces:
            file.write(f"{to_json(trace)}\n".encode("ascii"))


def load(path: Path) -> list[Trace]:
    """The traces of a trace file; InputError with the line where one is no trace."""
    return list(_loaded(path))


def _loaded(path: Path) -> Iterator[Trace]:
    for where, row in files.rows(str(path), "a trace file, as potstill import writes it"):
        with files.checked(path, where, row):
            yield from_row(row, f"{path}, {where}")


def from_row(row: Mapping[str, Any], where: str) -> Trace:
    """The trace of a row of a trace file."""
    if not layouts.is_trace(row):
        raise InputError(
            f"{where} is no trace",
            expected="rows of a trace file",
            fix="potstill import FILE --out traces.jsonl",
        )
    try:
        return from_record(row)
    except StoreError as error:
        fix = "write the file again: potstill import FILE --out traces.jsonl"
        raise InputError(f"{where}: {error.found}", expected=error.expected, fix=fix) from error


def _others(row: Mapping[str, Any], columns: Columns, given: Mapping[str, str]) -> dict[str, str]:
    """The columns of gold answer, id and choices, guessed among those that nothing else is read from."""
    used = {*columns.completion, *columns.reasoning, columns.question}
    found: dict[str, str] = {}
    # Beside `gt_cot`, `gt` is what an evaluation made of the answer to compare it: "4:30p.." of "4:30 p.m.".
    golds = ("answer", *GOLDS) if "gt_cot" in row else GOLDS
    for field, names in (("gold", golds), ("id", IDS), ("choices", ("choices", "options"))):
        guessed = next((n for n in names if n not in used and row.get(n) not in (None, "", [])), "")
        found[field] = given.get(field, guessed)
        if found[field] and found[field] not in row:
            fix = f"--map {field}=COLUMN, or --map {field}= for none"
            raise ConfigError(
                f"no column {found[field]!r}", available=row, wanted=found[field], fix=fix
            )
    return found


def _row(
    where: str, row: Mapping[str, Any], columns: Columns, others: Mapping[str, str], spec: str
) -> _Row:
    place = f"{spec}, {where}"
    asked = layouts.question(row, columns.question if row.get(columns.question) else "", place)
    told = layouts.prompt(row, columns.question if row.get(columns.question) else "")
    made = layouts.recordings(row, columns, place)
    writer = next(
        (row[name] for name in WRITERS if isinstance(row.get(name), str) and row[name]), ""
    )
    fields = {field: row.get(column) for field, column in others.items() if column}
    return _Row(
        where, asked, told, made, writer, fields | {"preference": columns.layout == "preference"}
    )


def _traces(
    found: Sequence[_Row], spec: str, kind: str, others: Mapping[str, str]
) -> Iterator[Trace]:
    """Rows of one question share its problem, and are further draws."""
    problems = _problems(found, spec, kind, others)
    draws: Counter[tuple[str, str]] = Counter()
    for row in found:
        problem = problems.get(_squeeze(row.question))
        if problem is None:
            continue
        several = (
            len({recording.column for recording in row.made}) > 1 and not row.fields["preference"]
        )
        made = []
        for recording in row.made:
            author = row.author or (f"recorded:{recording.column}" if several else "recorded")
            made.append(_made(problem, row.prompt, recording, author, draws[problem.id, author]))
            draws[problem.id, author] += 1
        if row.fields["preference"] and len(made) == 2:
            made = [made[0].annotate(rival=made[1])]
        yield from made


def _made(problem: Problem, prompt: Prompt, recording: Recording, author: str, draw: int) -> Trace:
    return Trace(
        problem,
        prompt,
        recording.text,
        finish=recording.finish,
        author=Author(author, digest("prompt", prompt), (), draw),
        operator="import",
        scores={} if recording.label is None else {"label": float(recording.label)},
    )


def _problems(
    found: Sequence[_Row], spec: str, kind: str, others: Mapping[str, str]
) -> dict[str, Problem]:
    """One problem a question, made as `problems` makes them of rows; by question."""
    first: dict[str, _Row] = {}
    for row in found:
        first.setdefault(_squeeze(row.question), row)
    if not first:
        return {}
    plain = [(row.where, {"question": row.question, **row.fields}) for row in first.values()]
    named = {"question": "question", "solution": "", "answer": "gold" if others.get("gold") else ""}
    named |= {field: field if others.get(field) else "" for field in ("id", "choices")}
    problems = from_rows(
        plain, spec=spec, source=files.name(spec), mapping=named, kind=kind or None
    )
    return {_squeeze(problem.question): problem for problem in problems}


def _squeeze(text: str) -> str:
    return " ".join(text.split())


def _counts(author: str, mine: Sequence[Trace]) -> dict[str, Any]:
    statuses = Counter(trace.verdict.status for trace in mine)
    labels = [trace.scores["label"] for trace in mine if "label" in trace.scores]
    return {
        "author": author,
        "problems": len({trace.problem.id for trace in mine}),
        "traces": len(mine),
        "cut off": sum(trace.finish == "length" for trace in mine),
        "right by label": labels.count(1.0) if labels else None,
        "wrong by label": labels.count(0.0) if labels else None,
        **{status: statuses[status] for status in ("right", "wrong", "unparsed", "unjudged")},
    }
