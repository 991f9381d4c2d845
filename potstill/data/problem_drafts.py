"""From drafts to problems: a file's drafts together say of what kind its problems are, and which ids they have."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any

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


@dataclass
class GoldSurvey:
    """What the gold answers of a file say together, gathered draft after draft.

    Args:
        positions: how many are positions of options.
        has_zero: whether one of these is 0.
        beyond: where the last draft stands whose position is the number of its options, and that number.
        numbers: how many of the others are numbers, of problems without options and tables.
        texts: how many are none.
    """

    positions: int = 0
    has_zero: bool = False
    beyond: tuple[str, int] | None = None
    numbers: int = 0
    texts: int = 0

    def add(self, draft: ProblemDraft) -> None:
        """Look at one more draft."""
        if draft.gold_position is not None:
            self.positions += 1
            self.has_zero |= draft.gold_position == 0
            if draft.gold_position == len(draft.choices):
                self.beyond = draft.place, draft.gold_position
        is_missing = draft.answer is None or _is_missing_value(draft.answer)
        if draft.answer is None or draft.choices or draft.table or is_missing:
            return
        if is_number(draft.answer):
            self.numbers += 1
        else:
            self.texts += 1

    @property
    def usual_kind(self) -> str:
        """The kind of the problems without options and tables: number where each of their gold answers is one."""
        return "number" if self.numbers and not self.texts else "math"

    def position_notes(self) -> list[str]:
        """A sentence on how gold answers were counted that are positions of options; none where there are no such."""
        if not self.positions:
            return []
        return [
            f"{self.positions:,} gold answers are positions of options, counted from 0 (0 is A)"
        ]

    def check_positions(self, spec: str) -> None:
        """Refuse a file whose gold answers seem to count the options from 1."""
        if self.beyond is None or self.has_zero:
            return
        place, position = self.beyond
        raise InputError(
            f"{spec}: the gold answers are numbers, never 0, and {place} has "
            f"{position} with {position} options. Counted from 0 (0 is A) that "
            "is no option; counted from 1 (1 is A) it is the last",
            expected="positions counted from 0, or letters or texts of the options",
            fix="write the letters (A, B, …) as gold answers, or subtract 1 from each number",
        )


class ProblemMaker:
    """Makes the problems of one file, in its order.

    Args:
        survey: of all drafts of the file.
        kind: the verifier; follows from the survey where it is not given.
        source: goes into the problems.
        spec: what the user named, for messages.
        new_map: makes the mappings of the ids that are taken; on the disk for a large file.
    """

    def __init__(
        self,
        survey: GoldSurvey,
        *,
        kind: str | None,
        source: str,
        spec: str,
        new_map: Callable[[], MutableMapping[str, Any]] = dict,
    ) -> None:
        """Refuse what the drafts have wrong together."""
        survey.check_positions(spec)
        self._kind, self._usual_kind = kind, survey.usual_kind
        self._source, self._spec = source, spec
        # Of each id that is taken, where its draft stands and what it asks.
        self._owners = new_map()
        self._repeats = new_map()

    def make(self, draft: ProblemDraft) -> Problem | None:
        """The problem of a draft; None where the row is refused, and bad rows are left out.

        Its id is the given one, or a hash of the content; equal rows without an id are numbered.
        """
        kind = self._kind or _kind_of(draft, self._usual_kind)
        if kind in ("math", "number") and _is_missing_value(draft.answer):
            error = _missing_gold(self._spec, draft)
            files.refuse(error, self._spec, draft.place, draft.question)
            return None
        key = draft.id
        if key is None:
            key = self._number_repeat(
                digest("problem", [draft.question, draft.answer, kind, draft.choices])
            )

        # Two rows of one id: the second is refused.
        owner = self._owners.get(key)
        if owner is not None:
            error = _same_id(self._spec, key, owner, draft)
            files.refuse(error, self._spec, draft.place, draft.question)
            return None
        self._owners[key] = (draft.place, draft.question)
        return Problem(
            id=key,
            question=draft.question,
            answer=draft.answer,
            kind=kind,
            solution=draft.solution,
            choices=draft.choices,
            table=draft.table,
            tests=draft.tests,
            source=self._source,
            metadata=draft.metadata,
        )

    def _number_repeat(self, key: str) -> str:
        if key not in self._owners:
            return key
        count = self._repeats.get(key, 1) + 1
        self._repeats[key] = count
        return f"{key}-{count}"


def make_problems(
    drafts: Sequence[ProblemDraft], *, kind: str | None, source: str, spec: str
) -> dict[str, Problem]:
    """Place -> problem. Two rows of one id are refused, or the second is listed where bad rows are left out."""
    maker = ProblemMaker(survey_golds(drafts), kind=kind, source=source, spec=spec)
    problems: dict[str, Problem] = {}
    for draft in drafts:
        problem = maker.make(draft)
        if problem is not None:
            problems[draft.place] = problem
    return problems


def survey_golds(drafts: Iterable[ProblemDraft]) -> GoldSurvey:
    """What the gold answers of these drafts say together."""
    survey = GoldSurvey()
    for draft in drafts:
        survey.add(draft)
    return survey


def _is_missing_value(answer: str | None) -> bool:
    """Whether a gold answer is the text that a program writes where there is no value."""
    return answer is not None and answer.strip().casefold() in MISSING_VALUE_TEXTS


def _missing_gold(spec: str, draft: ProblemDraft) -> InputError:
    return InputError(
        f"{spec}, {draft.place}: the gold answer is the text {draft.answer!r}",
        expected="an answer, or null where there is none",
        fix="write null, give --kind exact where the word is the answer, or leave the row out with --skip-bad",
    )


def _kind_of(draft: ProblemDraft, usual_kind: str) -> str:
    if draft.table:
        return "table"
    if draft.choices:
        return "choice"
    return usual_kind


def _same_id(spec: str, key: str, owner: tuple[str, str], second: ProblemDraft) -> InputError:
    first_place, first_question = owner
    message = f"{spec}: {first_place} and {second.place} have the same id {key!r}"
    if first_question != second.question:
        message += f", and ask {first_question[:60]!r} and {second.question[:60]!r}"
    return InputError(
        message,
        expected="ids that occur once",
        fix="--map id= to make ids from the content, --map id=COL for another column, "
        "or --skip-bad to keep the first",
    )
