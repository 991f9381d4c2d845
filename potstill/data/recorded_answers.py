"""Recorded answers to known problems: whose, to which problem, and what the file itself says of them.

Rows name their problem by its id, or by its question; equal questions are told apart by options and gold answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from potstill.data import files, skipped
from potstill.data.columns import BY_MODEL, Columns, is_trace_record
from potstill.data.layouts import Row, RowContent, cell, read_row
from potstill.data.row_traces import LABEL
from potstill.data.rows import RowSource, draft_of_row, read_writer
from potstill.data.trace_files import trace_of_record
from potstill.errors import InputError
from potstill.records import Problem

ANSWERS_ONLY_FIELDS = ("completion", "reasoning", "label", "finish_reason")
"""Fields of --map that only the answers' file has."""
_SHARED_FIELDS = ("id", "question", "choices")
UNNAMED = "answers"
"""Whose answers they are where a file does not say so."""

_ID_COLUMNS = ("problem_id", "unique_id", "id", "problem")


class Answered(NamedTuple):
    """A recorded answer; `label` is what the file says of it, None where it says nothing; `cut`: at a token limit."""

    model: str
    problem: Problem
    text: str
    label: bool | None
    cut: bool = False


@dataclass
class RecordedAnswers:
    """The answers in a file to known problems.

    Args:
        answers: in the order of the file.
        strays: how many rows belong to none of the problems.
        mapping: layout, and field -> column.
        unread: columns with something in them that nothing was read from.
    """

    answers: list[Answered]
    strays: int = 0
    mapping: dict[str, str] = field(default_factory=dict)
    unread: list[str] = field(default_factory=list)


def read_answers(
    spec: str, problems: Sequence[Problem], mapping: Mapping[str, str]
) -> RecordedAnswers:
    """The answers in a file to these problems.

    Args:
        spec: the file.
        problems: as they were loaded.
        mapping: field -> column; those that the file lacks are the problems' own, but for `completion` and `label`.
    """
    source = RowSource(spec, _own_mapping(spec, mapping), "a file of answers")
    index = _ProblemIndex(problems, ignores_ids=mapping.get("id") == "")
    answers: list[Answered] = []
    strays = 0
    for place, row in source:
        try:
            columns = source.chooser.choose(row)
            row_answers = _read_answers_of_row(row, columns, place, index)
            answers += row_answers or []
            strays += row_answers is None
        except InputError as error:
            skipped.refuse_row(error, spec, place, row)
    if not answers:
        raise InputError(
            f"none of {strays} rows of {spec} answers one of the {len(problems)} problems",
            expected="rows with a problem's id, or with its question word for word",
            fix="--map id=COLUMN or --map question=COLUMN, or give the problems that were answered",
        )
    used_columns, unread = source.chooser.to_mapping(), source.chooser.unread_columns()
    skipped.record_columns(files.source_name(spec), used_columns, unread)
    return RecordedAnswers(answers, strays, used_columns, unread)


class _ProblemIndex:
    """Problems by their ids and questions."""

    def __init__(self, problems: Sequence[Problem], *, ignores_ids: bool) -> None:
        self.ignores_ids = ignores_ids
        self.by_id = {problem.id: problem for problem in problems}
        self._by_question: dict[str, list[Problem]] = {}
        for problem in problems:
            self._by_question.setdefault(_squeeze(problem.question), []).append(problem)

    def by_question(self, content: RowContent, row: Row, columns: Columns) -> Problem | None:
        """The problem with a row's question; of several those with its options and gold answer.

        Raises:
            InputError: several problems with this question that the row does not tell apart.
        """
        # The problem's question may be an earlier turn of the user's.
        questions = [_squeeze(content.question)]
        if not isinstance(content.prompt, str):
            questions += [_squeeze(turn.content) for turn in content.prompt if turn.role == "user"]
        problems: list[Problem] = []
        for question in questions:
            if question in self._by_question:
                problems = self._by_question[question]
                break

        # Several with this question are told apart by their options, then by their gold answers.
        draft = draft_of_row(row, columns, "", question=content.question)
        if _are_different(problems) and draft.choices:
            problems = [problem for problem in problems if problem.choices == draft.choices]
        if _are_different(problems) and draft.answer:
            problems = [problem for problem in problems if problem.answer == draft.answer]
        if _are_different(problems):
            raise InputError(
                f"{len(problems)} problems ask {content.question[:60]!r}, with other options or golds",
                expected="rows that say which of them they answer",
                fix="give the rows the problems' ids, options or gold answers",
            )
        return next(iter(problems), None)


def _own_mapping(spec: str, mapping: Mapping[str, str]) -> dict[str, str]:
    """The part of --map that is for the answers' file: a field that both files have, where its column stands here."""
    _, first_row = next(files.read_rows(spec, "a file of answers"))
    own_mapping = {}
    for field_name, column in mapping.items():
        is_here = not column or column in first_row
        if field_name in ANSWERS_ONLY_FIELDS or (field_name in _SHARED_FIELDS and is_here):
            own_mapping[field_name] = column
    return own_mapping


def _read_answers_of_row(
    row: Row, columns: Columns, place: str, index: _ProblemIndex
) -> list[Answered] | None:
    """The answers of a row; None where it belongs to none of the problems."""
    if is_trace_record(row):
        return _answer_of_trace(row, index)
    id_column = _find_id_column(row, columns, index)
    if not id_column and not columns.question and not columns.completion:
        return None
    content = read_row(row, columns, needs_question=False)
    problem: Problem | None
    if id_column:
        problem = index.by_id[str(row[id_column])]
        if id_column not in columns.question:
            _check_question(problem, content)
    else:
        problem = index.by_question(content, row, columns)
    if problem is None:
        return None
    by_model = columns.layout == BY_MODEL and len(columns.completion) > 1
    writer = read_writer(row, columns) or UNNAMED
    answers = []
    for completion in content.completions:
        model = completion.column if by_model else writer
        is_cut = completion.finish_reason == "length"
        answers.append(Answered(model, problem, completion.text, completion.label, is_cut))
    return answers


def _answer_of_trace(row: Row, index: _ProblemIndex) -> list[Answered] | None:
    trace = trace_of_record(row)
    problem = index.by_id.get(trace.problem.id)
    if problem is None:
        return None
    if trace.error:
        return []
    label = trace.scores.get(LABEL)
    author = trace.author.model if trace.author else UNNAMED
    is_right = None if label is None else label == 1.0
    return [Answered(author, problem, trace.text, is_right, trace.finish_reason == "length")]


def _find_id_column(row: Row, columns: Columns, index: _ProblemIndex) -> str:
    """The column that names a problem by its id; "" where none does."""
    if index.ignores_ids:
        return ""
    for column in dict.fromkeys((columns.id, *_ID_COLUMNS)):
        value = cell(row, column)
        if value is not None and str(value) in index.by_id:
            return column
    return ""


def _check_question(problem: Problem, content: RowContent) -> None:
    """Refuse a row whose id names a problem with another question; a template around the question is none."""
    row_question = _squeeze(content.question)
    wanted = _squeeze(problem.question)
    if not row_question or wanted in row_question or row_question in wanted:
        return
    turns = () if isinstance(content.prompt, str) else content.prompt
    if any(wanted in _squeeze(turn.content) for turn in turns):
        return
    raise InputError(
        f"the id {problem.id!r} is of the problem {problem.question[:60]!r}, "
        f"and the row asks {content.question[:60]!r}",
        expected="rows that answer the question that their id names",
        fix="correct the row; --map id= goes by the question alone, --map question= by the id alone",
    )


def _are_different(problems: Sequence[Problem]) -> bool:
    """Whether problems with one question are more than one problem."""
    identities = {(p.choices, p.answer, p.table, p.tests) for p in problems}
    return len(identities) > 1


def _squeeze(text: str) -> str:
    return " ".join(text.split())
