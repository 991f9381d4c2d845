"""The rows of a file, of any layout, as problems and as traces: what train, import, recorded:, verify and judge read.

A row becomes a draft of its problem: question, gold answer, options, tests. The drafts of a file become problems, whose
kind follows from all gold answers together. A row with completions becomes a trace for each of them, and rows of one
problem share it. `columns` chooses which column holds what, `layouts` says what stands in a row, `problem_drafts` which
ids and kinds the problems have.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from potstill import verifiers
from potstill.data import files, metadata_columns, program_tests, skipped
from potstill.data.choices import gold_position, read_gold_option
from potstill.data.columns import (
    GOLD_NAMES,
    PREFERENCE,
    QUESTION_NAMES,
    SAMPLE_ROWS,
    ColumnChooser,
    Columns,
    cell_text,
    is_empty,
    is_trace_record,
    names_of_columns,
)
from potstill.data.disk_storage import IN_MEMORY, Rows, Storage, on_disk
from potstill.data.gold import read_gold
from potstill.data.layouts import (
    RecordedCompletion,
    Row,
    cell,
    read_question,
    read_row,
    read_row_options,
)
from potstill.data.messages import read_weight
from potstill.data.problem_drafts import (
    ProblemDraft,
    make_problems,
    survey_golds,
)
from potstill.data.row_traces import LABEL, ReadRow, TraceMaker
from potstill.data.trace_files import trace_of_record
from potstill.errors import InputError
from potstill.records import (
    Message,
    Problem,
    Progress,
    Prompt,
    Trace,
    canonical,
    no_progress,
)

_PORTION = 500
# Kinds that are judged by the gold answer alone.
KINDS_WITHOUT_TESTS = ("number", "math", "choice")


class Loaded(list[Problem]):
    """Problems with the columns that they were read from, and where each stands ("line 7") by its id.

    Args:
        mapping: field -> column.
        places: problem id -> place, where the source has places.
        unread: columns with something in them that nothing was read from.
        notes: how gold answers were understood that can be understood in two ways.
    """

    def __init__(
        self,
        problems: Iterable[Problem],
        mapping: Mapping[str, str],
        places: Mapping[str, str] | None = None,
        unread: Sequence[str] = (),
        notes: Sequence[str] = (),
    ) -> None:
        """Take the problems."""
        super().__init__(problems)
        self.mapping = mapping
        self.places = places or {}
        self.unread = tuple(unread)
        self.notes = tuple(notes)


def problems_of_rows(
    rows: Sequence[tuple[str, Row]],
    *,
    spec: str,
    source: str,
    mapping: Mapping[str, str],
    kind: str | None,
) -> Loaded:
    """The problems of a file's rows.

    Args:
        rows: each with where it stands.
        spec: what the user named, for messages.
        source: goes into the problems; must not depend on the machine.
        mapping: field -> column; "" for none.
        kind: the verifier; guessed from the golds where it is not given.
    """
    # Programs have layouts of their own; their gold is a solution, which tests judge.
    convert = program_tests.find_converter(_shared_columns(rows), kind)
    if convert:
        rows, kind = _convert_rows(rows, convert, spec, mapping), "code"
    if kind == "code":
        mapping = {"answer": "", **mapping}

    # A trace has its problem in it; of any other row a draft is made.
    chooser = ColumnChooser([row for _, row in rows], mapping, "problems", spec)
    _check_columns(chooser, rows, mapping, spec)
    ready: dict[str, Problem] = {}
    places: dict[str, str] = {}
    drafts: list[ProblemDraft] = []
    for place, row in rows:
        try:
            columns = chooser.choose(row)
            if is_trace_record(row):
                problem = _problem_of_trace(trace_of_record(row), kind)
                first = ready.setdefault(problem.id, problem)
                if first != problem:
                    raise _two_problems_of_one_id(first, problem)
                places.setdefault(problem.id, place)
            else:
                draft = draft_of_problem_row(row, columns, place, kind or "")
                if draft.tests and kind in (None, *KINDS_WITHOUT_TESTS):
                    raise _unused_tests(columns.tests, kind)
                drafts.append(draft)
        except InputError as error:
            skipped.refuse_row(error, spec, place, row)

    # The drafts of the whole file say together of what kind they are.
    problems_by_place = make_problems(drafts, kind=kind, source=source, spec=spec)
    for place, problem in problems_by_place.items():
        if problem.id in ready:
            raise _two_problems_of_one_id(ready[problem.id], problem)
        places[problem.id] = place
    problems = [*ready.values(), *problems_by_place.values()]

    # How the file was read, for whoever prints or stores it.
    used_columns, unread = chooser.to_mapping(), chooser.unread_columns()
    notes = survey_golds(drafts).position_notes()
    skipped.record_columns(source, used_columns, unread, notes)
    return Loaded(problems, used_columns, places, unread, notes)


def _problem_of_trace(trace: Trace, kind: str | None) -> Problem:
    """The problem of a row of a trace file, of the kind that was asked for."""
    problem = trace.problem
    if kind is None or kind == problem.kind:
        return problem
    return replace(problem, kind=kind)


def _two_problems_of_one_id(first: Problem, second: Problem) -> InputError:
    return InputError(
        f"two problems have the id {first.id!r}: {first.question[:60]!r} and {second.question[:60]!r}",
        expected="ids that name one problem, with its question, options and gold answer",
        fix="correct one of the ids, or give the files one by one",
    )


def _shared_columns(rows: Sequence[tuple[str, Row]]) -> set[str]:
    """The columns that every row has."""
    shared = set(rows[0][1]) if rows else set()
    for _, row in rows:
        shared &= set(row)
    return shared


def _convert_rows(
    rows: Sequence[tuple[str, Row]],
    convert: program_tests.RowConverter,
    spec: str,
    mapping: Mapping[str, str],
) -> list[tuple[str, Row]]:
    converted: list[tuple[str, Row]] = []
    for place, row in rows:
        try:
            # What a layout says of level, date and the like stands beside its tests.
            labels = metadata_columns.cells_of_metadata(row, mapping)
            converted.append((place, {**labels, **convert(row)}))
        except InputError as error:
            skipped.refuse_row(error, spec, place, row)
    return converted


def draft_of_problem_row(row: Row, columns: Columns, place: str, kind: str) -> ProblemDraft:
    """The draft of a row in a problem file, whose prompt must be a question alone."""
    _refuse_history(row, columns)
    row_prompt = read_question(row, columns)
    if row_prompt.is_conversation and len(row_prompt.turns) != 1:
        roles = ", ".join(turn.role for turn in row_prompt.turns)
        raise InputError(
            f"the question is a conversation of {roles}",
            expected="one turn of the user: a problem has no place for more",
            fix="leave the row out with --skip-bad, or --map question=COLUMN for a text",
        )
    if not row_prompt.question.strip():
        raise InputError(
            "the question is empty",
            expected=f"text in column {'+'.join(columns.question)!r}",
            fix="remove the row",
        )
    return draft_of_row(row, columns, place, question=row_prompt.question.strip(), kind=kind)


def draft_of_row(
    row: Row, columns: Columns, place: str, *, question: str, kind: str = ""
) -> ProblemDraft:
    """The draft of a row with its question: gold answer, solution, options, table, tests, id."""
    options = read_row_options(row, columns)
    table = _data_text(cell(row, columns.table))

    # The gold answer: rows of a table, or what stands at the end of a text.
    gold_cell = cell(row, columns.gold)
    if table:
        answer, solution = _data_text(gold_cell), ""
    else:
        answer, solution = read_gold(gold_cell, kind)

    # Of a choice it is the letter of an option, which may be given by its position or its text.
    position = None
    if options.texts and answer:
        position = gold_position(gold_cell, options)
        gold_value = answer if isinstance(gold_cell, str) else gold_cell
        answer = read_gold_option(gold_value, options)
    key = cell(row, columns.id)
    written_solution = cell_text(cell(row, columns.solution)) or solution
    return ProblemDraft(
        place=place,
        question=question,
        answer=answer or None,
        solution=written_solution or None,
        choices=options.texts,
        table=table or None,
        tests=_read_tests(cell(row, columns.tests)),
        id=None if is_empty(key) else cell_text(key),
        gold_position=position,
        metadata=metadata_columns.read_metadata(row, columns.of_metadata(), columns.metadata),
    )


def _unused_tests(column: str, kind: str | None) -> InputError:
    judged_by = f"kind {kind}" if kind else "the gold answers, as no kind is given,"
    return InputError(
        f"the column {column!r} holds tests, which {judged_by} would not use",
        expected="a kind that uses tests: code (programs) or judge (a rubric)",
        fix="--kind code or --kind judge, or --map tests= to read the rows without them",
    )


def _check_columns(
    chooser: ColumnChooser,
    rows: Sequence[tuple[str, Row]],
    mapping: Mapping[str, str],
    spec: str,
) -> None:
    """Refuse a file without a column for the question, or for the gold answers where the user did not say so."""
    plain_rows = [row for _, row in rows if not is_trace_record(row)]
    if not plain_rows:
        return
    columns = names_of_columns(plain_rows)
    if not chooser.has("question", plain_rows):
        raise InputError(
            f"{spec} has no column for the question{_why_not(columns, QUESTION_NAMES, plain_rows)}",
            expected=f"one of {', '.join(QUESTION_NAMES)}",
            available=columns,
            fix="--map question=COL",
        )
    if mapping.get("answer") != "" and not chooser.has("gold", plain_rows):
        raise InputError(
            f"{spec} has no column for the answer{_why_not(columns, GOLD_NAMES, plain_rows)}",
            expected=f"one of {', '.join(GOLD_NAMES)}",
            available=columns,
            fix="--map answer=COL (or --map answer= if there are no golds)",
        )


def _why_not(columns: Sequence[str], names: Sequence[str], rows: Sequence[Row]) -> str:
    """Why a column of a fitting name was not taken: it holds nothing, or labels; "" where there is no such column."""
    for column in columns:
        if column.lower() in names:
            is_blank = all(is_empty(row.get(column)) for row in rows)
            held = "nothing" if is_blank else "labels of right and wrong"
            return f": {column!r} holds {held}"
    return ""


def _refuse_history(row: Row, columns: Columns) -> None:
    """Refuse turns before the question, for which a problem has no place."""
    if not is_empty(cell(row, columns.history)):
        raise InputError(
            f"the column {columns.history!r} belongs to the prompt, and a problem has no place for it",
            expected="the question alone",
            fix=f"--map history= to ask without it, or --map question={columns.history}+QUESTION to ask both",
        )


def _data_text(value: Any) -> str:
    """A cell that is text, or data as canonical JSON: tables, rows, tests."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return canonical(value)


def _read_tests(value: Any) -> tuple[str, ...]:
    several = value if isinstance(value, list | tuple) else [value]
    texts = [_data_text(item) for item in several]
    return tuple(text for text in texts if text)


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


@dataclass
class StreamedTraces:
    """The traces of a file one after another, to be gone through once, and how it was read (as in `RowTraces`)."""

    traces: Iterator[Trace]
    mapping: dict[str, str]
    unread: list[str]
    rows: int
    notes: list[str]


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
    reading = _read_source(
        source, IN_MEMORY, kind=kind, limit=limit, needs_pairs=needs_pairs, progress=progress
    )
    return RowTraces(
        traces=list(reading.traces),
        mapping=reading.mapping,
        unread=reading.unread,
        rows=reading.rows,
        notes=reading.notes,
    )


@contextmanager
def stream_traces(
    spec: str,
    *,
    mapping: Mapping[str, str] | None = None,
    kind: str = "",
    limit: int = 0,
    progress: Progress = no_progress,
    what: str = "a file of recorded answers",
    rows: Iterable[tuple[str, Row]] | None = None,
    scratch: Path | None = None,
) -> Iterator[StreamedTraces]:
    """The same traces as `read_traces`, one after another, with the rows on the disk meanwhile.

    All rows are read before the first trace is there: the gold answers of a file say together of what kind it is.

    Args:
        spec: as for `read_traces`, and so the other arguments.
        mapping: field -> column, where the choice is not to be made; "" for none.
        kind: the verifier of the problems; guessed from the gold answers where it is not given.
        limit: rows at most; 0 is all.
        progress: called with ("rows", how many so far, 0) now and then.
        what: what the file should be, for errors.
        rows: rows that are there already, each with where it stands.
        scratch: the folder of the scratch files, which are as large as the rows; the system's own without one.
    """
    with on_disk(scratch) as storage:
        source = RowSource(spec, mapping or {}, what, rows)
        yield _read_source(
            source, storage, kind=kind, limit=limit, needs_pairs=False, progress=progress
        )


def _read_source(
    source: RowSource,
    storage: Storage,
    *,
    kind: str,
    limit: int,
    needs_pairs: bool,
    progress: Progress,
) -> StreamedTraces:
    """Read all rows into a storage; what comes of it are the traces that they make."""
    # Traces are ready as they come; other rows wait until the problems of the whole file are known.
    ready: Rows[Trace] = storage.new_rows()
    maker = TraceMaker(source.spec, kind, storage)
    count = 0
    for place, row in source:
        if limit and count == limit:
            break
        count += 1
        if count % _PORTION == 0:
            progress("rows", count, 0)
        try:
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
                maker.add(row_to_make)
        except InputError as error:
            skipped.refuse_row(error, source.spec, place, row)

    # How the file was read, for whoever prints or stores it.
    mapping, unread = source.chooser.to_mapping(), source.chooser.unread_columns()
    position_notes = maker.position_notes()
    skipped.record_columns(files.source_name(source.spec), mapping, unread, position_notes)
    return StreamedTraces(
        traces=itertools.chain(ready, maker.make_traces()),
        mapping=mapping,
        unread=unread,
        rows=count,
        notes=[
            *_scale_notes(source.chooser),
            *maker.finish_notes(),
            *position_notes,
            *maker.metadata_notes(),
        ],
    )


def keep_learnable(found: RowTraces, *, keep_wrong: bool = False) -> RowTraces:
    """The traces that may be learnt, and a note for each reason why others were left out.

    Left out are errors, what the file calls wrong, what was filtered or broke off, what has the weight 0, and the
    rejected sides of pairs, which stay the rivals of their chosen ones.

    Args:
        found: all traces of a file.
        keep_wrong: for objectives that learn from wrong completions by their label (KTO).
    """
    # A rejected side is learnt beside its chosen one, and never by itself.
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
        has_gold = trace.problem.answer is not None
        if has_gold and not trace.error and not is_labelled:
            judgeable.append(index)

    # Judged in portions, so that the progress moves.
    judged = list(traces)
    for start in range(0, len(judgeable), _PORTION):
        portion = judgeable[start : start + _PORTION]
        progress("judged", start, len(judgeable))
        answers = [(traces[index].problem, traces[index].text) for index in portion]
        verdicts = verifiers.judge(answers)
        for index, verdict in zip(portion, verdicts, strict=True):
            judged[index] = traces[index].annotate(verdict=verdict)
    progress("judged", len(judgeable), len(judgeable))
    return judged


def is_good(trace: Trace) -> bool:
    """Whether a trace is judged right; where it was not judged, whether its file does not call it wrong."""
    if trace.verdict.status != "unjudged":
        return trace.verdict.status == "right"
    return trace.scores.get(LABEL) != 0.0 and not trace.error


def _read_row(row: Row, columns: Columns, place: str, kind: str) -> ReadRow:
    content = read_row(row, columns)
    weight = read_weight(row.get("weight"), "weight")
    spans = row.get("spans") or ()
    for completion in content.completions:
        _check_spans(spans, completion, row)
    return ReadRow(
        draft=draft_of_row(row, columns, place, question=content.question, kind=kind),
        content=content,
        layout=columns.layout,
        writer=read_writer(row, columns),
        weight=weight,
        spans=spans,
        teacher_prompt=_read_teacher_prompt(row, columns),
    )


def _read_teacher_prompt(row: Row, columns: Columns) -> Prompt:
    """What the row's teacher reads in the place of its prompt: a text, or turns; "" where nothing stands there."""
    value = cell(row, columns.teacher_prompt)
    if value is None or isinstance(value, str):
        return value or ""
    turns = []
    for turn in value if isinstance(value, list) else [value]:
        if isinstance(turn, list | tuple) and len(turn) == 2:  # as a run's rows file has it
            turn = {"role": turn[0], "content": turn[1]}
        if not isinstance(turn, Mapping) or not isinstance(turn.get("content"), str):
            raise InputError(
                f"teacher_prompt is {value!r:.80}",
                expected="a text, or a list of turns with role and content",
                fix="--map teacher_prompt= reads the rows without it",
            )
        turns.append(Message(str(turn.get("role", "user")), turn["content"]))
    return tuple(turns)


def _is_in_pair(trace: Trace, earlier: Rows[Trace]) -> bool:
    """Whether a trace of a file has a rival, or is the rival of the trace before it."""
    if trace.rejected or trace.error:
        return True
    rival = earlier[-1].rejected if len(earlier) else None
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


def _check_spans(spans: Any, completion: RecordedCompletion, row: Row) -> None:
    """Refuse stretches that are no `[start, stop, weight]` in characters of the completion."""
    written_text = completion.text[completion.prefix_length :]
    length = len(written_text)
    for span in spans:
        is_triple = isinstance(span, list | tuple) and len(span) == 3
        if not is_triple or not all(type(value) in (int, float) for value in span):
            raise _bad_span(span, length)
        start, stop, weight = span
        if not 0 <= start < stop <= length or not 0 <= weight < math.inf:
            raise _bad_span(span, length)
    # A thought that was put in front would shift them.
    cell_value = row.get(completion.column)
    is_whole = written_text == cell_value or isinstance(cell_value, list)
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
