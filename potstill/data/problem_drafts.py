"""From drafts to problems: a file's drafts together say of what kind its problems are, and which ids they have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from potstill.data import files
from potstill.data.gold import is_number
from potstill.errors import InputError
from potstill.records import MetadataValue, Problem, digest

# What tables and programs write as text where there is no value.
MISSING_VALUE_TEXTS = ("nan", "none", "null")


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
    metadata: Mapping[str, MetadataValue] = field(default_factory=dict)

    def identity(self) -> tuple[object, ...]:
        """What makes it this problem and no other: question, options, gold and table."""
        return " ".join(self.question.split()), self.choices, self.answer, self.table, self.tests


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
            files.refuse(_missing_gold(spec, draft), spec, draft.place, draft.question)
            continue

        # Without an id of its own a problem is known by its content.
        key = draft.id
        if key is None:
            content = [draft.question, draft.answer, draft_kind, draft.choices]
            key = digest("problem", content)
            repeats[key] += 1
            if repeats[key] > 1:
                key = f"{key}-{repeats[key]}"

        # Two rows of one id: the second is refused.
        if key in first_with_id:
            error = _same_id(spec, key, first_with_id[key], draft)
            files.refuse(error, spec, draft.place, draft.question)
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
            metadata=draft.metadata,
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
