"""Rows become problems: their columns chosen or named by --map, their kinds by what their gold answers are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from potstill.data import program_tests
from potstill.data.choices import gold_position, read_gold_option
from potstill.data.columns import (
    GOLD_NAMES,
    QUESTION_NAMES,
    ColumnChooser,
    Columns,
    is_empty,
)
from potstill.data.gold import gold_text, is_number, read_gold
from potstill.data.layouts import Row, cell, read_question, read_row_options
from potstill.data.skipped import record_columns, refuse, row_at
from potstill.data.trace_json import from_record, is_trace_record
from potstill.errors import InputError
from potstill.records import Problem, canonical, digest

# What tables and programs write as text where there is no value.
MISSING_VALUE_TEXTS = ("nan", "none", "null")
# Kinds that are judged by the gold answer alone.
KINDS_WITHOUT_TESTS = ("number", "math", "choice")


@dataclass(frozen=True)
class ProblemDraft:
    """A problem without its kind, which follows from all golds of a file together.

    `gold_position` is the gold answer of a file that gives an option's position as a number.
    """

    place: str
    question: str
    answer: str | None = None
    solution: str | None = None
    choices: tuple[str, ...] = ()
    table: str | None = None
    tests: tuple[str, ...] = ()
    id: str | None = None
    gold_position: int | None = None

    def identity(self) -> tuple[object, ...]:
        """What makes it this problem and no other: question, options, gold and table."""
        return " ".join(self.question.split()), self.choices, self.answer, self.table, self.tests


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
    rows, kind = program_tests.convert_program_rows(rows, kind, spec)
    if kind == "code":
        mapping = {"answer": "", **mapping}  # a program's gold is its solution, which tests judge
    chooser = ColumnChooser([row for _, row in rows], mapping, "problems", spec)
    _check_columns(chooser, rows, mapping, spec)
    ready: dict[str, Problem] = {}
    drafts: list[ProblemDraft] = []
    for place, row in rows:
        with row_at(spec, place, row):
            columns = chooser.choose(row)
            if is_trace_record(row):
                problem = from_record(row).problem
                ready.setdefault(problem.id, problem)
            else:
                draft = draft_of_problem_row(row, columns, place, kind or "")
                if draft.tests and kind in (None, *KINDS_WITHOUT_TESTS):
                    raise _unused_tests(columns.tests, kind)
                drafts.append(draft)
    problems_by_place = make_problems(drafts, kind=kind, source=source, spec=spec)
    problems = [*ready.values(), *problems_by_place.values()]
    places = {problem.id: place for place, problem in problems_by_place.items()}
    used_columns, unread = chooser.to_mapping(), chooser.unread_columns()
    notes = gold_position_notes(drafts)
    record_columns(source, used_columns, unread, notes)
    return Loaded(problems, used_columns, places, unread, notes)


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
    gold_cell = cell(row, columns.gold)
    if table:
        answer, solution = _data_text(gold_cell), ""
    else:
        answer, solution = read_gold(gold_cell, kind)
    position = None
    if options.texts and answer:
        position = gold_position(gold_cell, options)
        answer = read_gold_option(answer if isinstance(gold_cell, str) else gold_cell, options)
    key = cell(row, columns.id)
    written_solution = gold_text(cell(row, columns.solution)) or solution
    return ProblemDraft(
        place=place,
        question=question,
        answer=answer or None,
        solution=written_solution or None,
        choices=options.texts,
        table=table or None,
        tests=_read_tests(cell(row, columns.tests)),
        id=None if is_empty(key) else gold_text(key),
        gold_position=position,
    )


def make_problems(
    drafts: Sequence[ProblemDraft], *, kind: str | None, source: str, spec: str
) -> dict[str, Problem]:
    """Place -> problem. Ids are the given ones, or hashes of the content; equal rows without one are numbered.

    Two rows of one id are refused, or the second is listed where bad rows are left out.
    """
    _check_gold_positions(drafts, spec)
    usual_kind = kind or _usual_kind(drafts)
    first_with_id: dict[str, ProblemDraft] = {}
    repeats: Counter[str] = Counter()
    problems: dict[str, Problem] = {}
    for draft in drafts:
        draft_kind = kind or _kind_of(draft, usual_kind)
        if draft_kind in ("math", "number") and _is_missing_value(draft.answer):
            refuse(_missing_gold(spec, draft), spec, draft.place, draft.question)
            continue
        key = draft.id
        if key is None:
            content = [draft.question, draft.answer, draft_kind, draft.choices]
            key = digest("problem", content)
            repeats[key] += 1
            if repeats[key] > 1:
                key = f"{key}-{repeats[key]}"
        if key in first_with_id:
            error = _same_id(spec, key, first_with_id[key], draft)
            refuse(error, spec, draft.place, draft.question)
            continue
        first_with_id[key] = draft
        problems[draft.place] = Problem(
            id=key,
            question=draft.question,
            answer=draft.answer,
            kind=draft_kind,
            solution=draft.solution,
            choices=draft.choices,
            table=draft.table,
            tests=draft.tests,
            source=source,
        )
    return problems


def gold_position_notes(drafts: Sequence[ProblemDraft]) -> list[str]:
    """A sentence on how gold answers were counted that are positions of options; none where there are no such."""
    count = sum(draft.gold_position is not None for draft in drafts)
    if not count:
        return []
    return [f"{count:,} gold answers are positions of options, counted from 0 (0 is A)"]


def _check_gold_positions(drafts: Sequence[ProblemDraft], spec: str) -> None:
    """Refuse a file whose gold answers seem to count the options from 1."""
    positions = []
    reaches_count: ProblemDraft | None = None
    for draft in drafts:
        if draft.gold_position is not None:
            positions.append(draft.gold_position)
            if draft.gold_position == len(draft.choices):
                reaches_count = draft
    if reaches_count is None or 0 in positions:
        return
    raise InputError(
        f"{spec}: the gold answers are numbers, never 0, and {reaches_count.place} has "
        f"{reaches_count.gold_position} with {len(reaches_count.choices)} options. Counted from 0 (0 is A) that "
        "is no option; counted from 1 (1 is A) it is the last",
        expected="positions counted from 0, or letters or texts of the options",
        fix="write the letters (A, B, …) as gold answers, or subtract 1 from each number",
    )


def _is_missing_value(answer: str | None) -> bool:
    """Whether a gold answer is the text that a program writes where there is no value."""
    return answer is not None and answer.strip().casefold() in MISSING_VALUE_TEXTS


def _missing_gold(spec: str, draft: ProblemDraft) -> InputError:
    return InputError(
        f"{spec}, {draft.place}: the gold answer is the text {draft.answer!r}",
        expected="an answer, or null where there is none",
        fix="write null, give --kind exact where the word is the answer, or leave the row out with --skip-bad",
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
    columns = list(dict.fromkeys(name for row in plain_rows for name in row))
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


def _usual_kind(drafts: Sequence[ProblemDraft]) -> str:
    """The kind of the problems without options and tables: number where every gold answer of them is one, else math."""
    golds = []
    for draft in drafts:
        is_missing = draft.answer is None or _is_missing_value(draft.answer)
        if draft.answer is not None and not (draft.choices or draft.table or is_missing):
            golds.append(draft.answer)
    if golds and all(is_number(gold) for gold in golds):
        return "number"
    return "math"


def _kind_of(draft: ProblemDraft, usual_kind: str) -> str:
    if draft.table:
        return "table"
    if draft.choices:
        return "choice"
    return usual_kind


def _same_id(spec: str, key: str, first: ProblemDraft, second: ProblemDraft) -> InputError:
    message = f"{spec}: {first.place} and {second.place} have the same id {key!r}"
    if first.question != second.question:
        message += f", and ask {first.question[:60]!r} and {second.question[:60]!r}"
    return InputError(
        message,
        expected="ids that occur once",
        fix="--map id= to make ids from the content, --map id=COL for another column, "
        "or --skip-bad to keep the first",
    )
