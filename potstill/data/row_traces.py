"""The rows of a file as traces, of any layout: what train, import, recorded:, verify and judge read.

A trace file has one trace a line, as `trace_json` writes them; `potstill import` makes it, and it is read as any rows.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from potstill import verifiers
from potstill.data import atomic_write, files, skipped
from potstill.data.columns import PREFERENCE, SAMPLE_ROWS, ColumnChooser, Columns
from potstill.data.layouts import (
    RecordedCompletion,
    Row,
    RowContent,
    cell,
    read_row,
    read_weight,
)
from potstill.data.problem_rows import (
    ProblemDraft,
    draft_of_row,
    gold_position_notes,
    make_problems,
)
from potstill.data.trace_json import from_record, is_trace_record, to_json
from potstill.errors import InputError, StoreError
from potstill.records import Author, Problem, Progress, Span, Trace, digest, no_progress

OPERATOR = "import"
LABEL = "label"
"""The score under which a trace has what its file says of it: 1.0 right, 0.0 wrong."""

_PORTION = 500


@dataclass
class RowTraces:
    """The traces of a file, and how it was read.

    Args:
        traces: in the order of the file; of a pair the chosen one with its rival, and then the rejected one.
        mapping: layout, and field -> column.
        unread: columns with something in them that nothing was read from.
        rows: how many were read.
        notes: what a person should know of the reading.
    """

    traces: list[Trace]
    mapping: dict[str, str]
    unread: list[str] = field(default_factory=list)
    rows: int = 0
    notes: list[str] = field(default_factory=list)


class RowSource:
    """The rows of a file, with the columns chosen from the first of them.

    Args:
        spec: a file, or hf:NAME; with `rows`, what they are called in messages.
        mapping: field -> column, where the choice is not to be made; "" for none.
        what: what the file should be, for errors.
        rows: rows that are there already, each with where it stands.
    """

    def __init__(
        self,
        spec: str,
        mapping: Mapping[str, str],
        what: str,
        rows: Iterable[tuple[str, Row]] | None = None,
    ) -> None:
        """Read the sample and choose the columns."""
        self._rows = iter(rows) if rows is not None else files.read_rows(spec, what)
        self._sample = list(itertools.islice(self._rows, SAMPLE_ROWS))
        self.spec = spec
        self.chooser = ColumnChooser([row for _, row in self._sample], mapping, "answers", spec)

    def __iter__(self) -> Iterator[tuple[str, Row]]:
        """Where each row stands, and the row."""
        yield from self._sample
        yield from self._rows


@dataclass(frozen=True)
class _ReadRow:
    """A row with its problem still to be made."""

    draft: ProblemDraft
    content: RowContent
    columns: Columns
    writer: str
    weight: float
    spans: Sequence[Any]


def read_traces(
    spec: str,
    *,
    mapping: Mapping[str, str] | None = None,
    kind: str = "",
    limit: int = 0,
    progress: Progress = no_progress,
    what: str = "a file of recorded answers",
    needs_pairs: bool = False,
    rows: Iterable[tuple[str, Row]] | None = None,
) -> RowTraces:
    """The traces that a file or hf:NAME holds.

    Args:
        spec: the file; with `rows`, what they are called in messages.
        mapping: field (`columns.ANSWER_FIELDS`) -> column, where the choice is not to be made; "" for none.
        kind: the verifier of the problems; guessed from the gold answers where it is not given.
        limit: rows at most; 0 is all.
        progress: called with ("rows", how many so far, 0) now and then.
        what: what the file should be, for errors.
        needs_pairs: whether a row without a better and a worse completion is refused.
        rows: rows that are there already, each with where it stands.
    """
    source = RowSource(spec, mapping or {}, what, rows)
    ready: list[Trace] = []
    read_rows: list[_ReadRow] = []
    count = 0
    for place, row in source:
        if limit and count == limit:
            break
        count += 1
        if count % _PORTION == 0:
            progress("rows", count, 0)
        with files.row_at(spec, place, row):
            columns = source.chooser.choose(row)
            if is_trace_record(row):
                trace = trace_of_record(row)
                if needs_pairs and not _is_in_pair(trace, ready):
                    raise _no_pair(row)
                ready.append(trace)
            elif needs_pairs and columns.layout != PREFERENCE:
                raise _no_pair(row)
            else:
                row_to_make = _read_row(row, columns, place, kind)
                if needs_pairs and len(row_to_make.content.completions) != 2:
                    raise _no_pair(row)
                read_rows.append(row_to_make)
    traces = [*ready, *_make_traces(read_rows, spec, kind)]
    mapping, unread = source.chooser.to_mapping(), source.chooser.unread_columns()
    position_notes = gold_position_notes([row.draft for row in read_rows])
    skipped.record_columns(files.source_name(spec), mapping, unread, position_notes)
    return RowTraces(
        traces=traces,
        mapping=mapping,
        unread=unread,
        rows=count,
        notes=[*_scale_notes(source.chooser), *_finish_notes(read_rows), *position_notes],
    )


def keep_learnable(found: RowTraces, *, keep_wrong: bool = False) -> RowTraces:
    """The traces that may be learnt, and a note for each reason why others were left out.

    Left out are errors, what the file calls wrong, what was filtered or broke off, what has the weight 0, and the
    rejected sides of pairs, which stay the rivals of their chosen ones.

    Args:
        found: all traces of a file.
        keep_wrong: for objectives that learn from wrong completions by their label (KTO).
    """
    rival_ids = {trace.rejected.id for trace in found.traces if trace.rejected}
    counts: Counter[str] = Counter()
    learnable: list[Trace] = []
    for trace in found.traces:
        if trace.id in rival_ids and trace.rejected is None:
            continue
        reason = _reason_against(trace, keep_wrong=keep_wrong)
        if reason:
            counts[reason] += 1
        else:
            learnable.append(trace)
    notes = [f"{count:,} rows are not learnt: {reason}" for reason, count in counts.items()]
    return replace(found, traces=learnable, notes=[*found.notes, *notes])


def judge_traces(
    traces: Sequence[Trace], progress: Progress = no_progress, *, unlabelled_only: bool = False
) -> list[Trace]:
    """The traces with the verdicts of their problems' verifiers; those without a gold answer stay unjudged."""
    judgeable = []
    for index, trace in enumerate(traces):
        is_labelled = unlabelled_only and LABEL in trace.scores
        if trace.problem.answer is not None and not trace.error and not is_labelled:
            judgeable.append(index)
    judged = list(traces)
    for start in range(0, len(judgeable), _PORTION):
        portion = judgeable[start : start + _PORTION]
        progress("judged", start, len(judgeable))
        verdicts = verifiers.judge([(traces[i].problem, traces[i].text) for i in portion])
        for index, verdict in zip(portion, verdicts, strict=True):
            judged[index] = traces[index].annotate(verdict=verdict)
    progress("judged", len(judgeable), len(judgeable))
    return judged


def is_good(trace: Trace) -> bool:
    """Whether a trace is judged right; where it was not judged, whether its file does not call it wrong."""
    if trace.verdict.status != "unjudged":
        return trace.verdict.status == "right"
    return trace.scores.get(LABEL) != 0.0 and not trace.error


def write_traces(traces: Iterable[Trace], path: Path) -> None:
    """A trace file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write.writing(path) as file:
        for trace in traces:
            file.write(f"{to_json(trace)}\n".encode("ascii"))


def load_traces(path: Path) -> list[Trace]:
    """The traces of a trace file; InputError with the line where one is no trace."""
    traces = []
    for place, row in files.read_rows(str(path), "a trace file, as potstill import writes it"):
        with files.row_at(path, place, row):
            traces.append(trace_of_record(row))
    return traces


def trace_of_record(row: Row) -> Trace:
    """The trace of a row of a trace file."""
    fix = "write the file again: potstill import FILE --out traces.jsonl"
    if not is_trace_record(row):
        raise InputError("no trace", expected="rows of a trace file", fix=fix)
    try:
        return from_record(row)
    except StoreError as error:
        raise InputError(error.found, expected=error.expected, fix=fix) from error


def _read_row(row: Row, columns: Columns, place: str, kind: str) -> _ReadRow:
    content = read_row(row, columns)
    weight = read_weight(row.get("weight"), "weight")
    spans = row.get("spans") or ()
    for completion in content.completions:
        _check_spans(spans, completion, row)
    return _ReadRow(
        draft=draft_of_row(row, columns, place, question=content.question, kind=kind),
        content=content,
        columns=columns,
        writer=read_writer(row, columns),
        weight=weight,
        spans=spans,
    )


def _is_in_pair(trace: Trace, earlier: Sequence[Trace]) -> bool:
    """Whether a trace of a file has a rival, or is the rival of the trace before it."""
    if trace.rejected or trace.error:
        return True
    rival = earlier[-1].rejected if earlier else None
    return rival is not None and rival.id == trace.id


def _no_pair(row: Row) -> InputError:
    return InputError(
        "no pair of a better and a worse completion",
        expected="prompt, one chosen and one rejected",
        available=list(row),
        fix="give rows of pairs, leave the row out with --skip-bad, or learn by another objective (sft)",
    )


def read_writer(row: Row, columns: Columns) -> str:
    """Who wrote a row's completions, as the row says; "" where it doesn't."""
    writer = cell(row, columns.writer)
    if isinstance(writer, str):
        return writer
    return ""


def _make_traces(rows: Sequence[_ReadRow], spec: str, kind: str) -> Iterator[Trace]:
    """Rows of one problem share it, and are further samples of it."""
    # The first row with a problem's identity gives it its id.
    firsts: dict[object, ProblemDraft] = {}
    for row in rows:
        firsts.setdefault(row.draft.identity(), row.draft)
    problems = make_problems(
        list(firsts.values()), kind=kind or None, source=files.source_name(spec), spec=spec
    )
    # Samples of one problem by one author are counted in the order of the file.
    samples: Counter[tuple[str, str]] = Counter()
    for row in rows:
        problem = problems.get(firsts[row.draft.identity()].place)
        if problem is None:
            continue  # its id is another problem's, and the row is listed among the bad ones
        is_pair = row.columns.layout == PREFERENCE
        columns = {completion.column for completion in row.content.completions}
        traces = []
        for completion in row.content.completions:
            several = len(columns) > 1 and not is_pair
            model = row.writer or (f"recorded:{completion.column}" if several else "recorded")
            author = (model, samples[problem.id, model])
            traces.append(_make_trace(problem, row, completion, author))
            samples[problem.id, model] += 1
        # The rejected side stays a trace of its own too: it was sampled, and is labelled wrong.
        if is_pair and len(traces) == 2:
            traces[0] = traces[0].annotate(rejected=traces[1])
        yield from traces


def _make_trace(
    problem: Problem, row: _ReadRow, completion: RecordedCompletion, author: tuple[str, int]
) -> Trace:
    model, sample_index = author
    prompt = row.content.prompt
    spans = []
    for start, stop, weight in row.spans:
        shift = completion.prefix_length
        spans.append(Span(shift + int(start), shift + int(stop), "weight", float(weight)))
    return Trace(
        problem,
        prompt,
        completion.text,
        prefix_length=completion.prefix_length,
        finish_reason=completion.finish_reason,
        author=Author(model, digest("prompt", prompt), (), sample_index),
        operator=OPERATOR,
        scores={} if completion.label is None else {LABEL: float(completion.label)},
        spans=tuple(spans),
        weight=row.weight * completion.weight,
    )


def _check_spans(spans: Any, completion: RecordedCompletion, row: Row) -> None:
    """Refuse stretches that are no `[start, stop, weight]` in characters of the completion."""
    length = len(completion.text) - completion.prefix_length
    for span in spans:
        is_triple = isinstance(span, list | tuple) and len(span) == 3
        if not is_triple or not all(type(value) in (int, float) for value in span):
            raise _bad_span(span, length)
        start, stop, weight = span
        if not 0 <= start < stop <= length or not 0 <= weight < math.inf:
            raise _bad_span(span, length)
    written = row.get(completion.column)
    is_whole = completion.text[completion.prefix_length :] == written or isinstance(written, list)
    if spans and not is_whole:
        raise InputError(
            "spans count characters of the completion, and its reasoning stands in another column",
            expected="spans beside a completion that is whole",
            fix="write the reasoning into the completion, or rename the column spans",
        )


def _bad_span(span: Any, length: int) -> InputError:
    return InputError(
        f"the span {span!r} of a completion of {length} characters",
        expected="[start, stop, weight], with 0 <= start < stop <= its length and a weight of 0 or more",
        fix="correct it, or rename the column spans",
    )


def _reason_against(trace: Trace, *, keep_wrong: bool) -> str:
    """Why a trace is not learnt; "" where it is."""
    if trace.error:
        return "their generation failed"
    if not keep_wrong and trace.verdict.status == "wrong":
        return "they were judged wrong"
    # A verdict outweighs the file's label, which may be a false reject.
    is_labelled_wrong = trace.verdict.status != "right" and trace.scores.get(LABEL) == 0.0
    if not keep_wrong and is_labelled_wrong:
        return "the file labels them wrong"
    if trace.finish_reason in ("content_filter", "error", "tool_calls"):
        return f"they ended with {trace.finish_reason}"
    if trace.weight == 0.0:
        return "their weight is 0"
    return ""


def _scale_notes(chooser: ColumnChooser) -> list[str]:
    columns = chooser.scales()
    if not columns:
        return []
    names = ", ".join(columns)
    return [f"not read as labels of right and wrong, which hold two values: {names}"]


def _finish_notes(rows: Sequence[_ReadRow]) -> list[str]:
    """A note of the ends that nobody knows, with how often each stands in the file."""
    words: Counter[str] = Counter()
    for row in rows:
        for completion in row.content.completions:
            if completion.finish_reason == "unknown":
                words[completion.finish_word] += 1
    if not words:
        return []
    counts = ", ".join(f"{word!r} ({count:,})" for word, count in words.most_common(5))
    return [f"unknown finish reasons, so these completions count as not finished: {counts}"]
