"""What rows and answers say of reasoning itself: rows without a step, and answers that a training made short.

A student that learns rows without a step learns not to reason: it states an answer. Both are seen before and behind a
training, whatever the score says.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import NamedTuple

from potstill.evaluation.metrics import usage_per_answer
from potstill.evaluation.rows import Evaluation
from potstill.records import Trace
from potstill.traces.reasoning_steps import count_steps

STEP_COUNT = "step_count"  # the score of a row: how many steps its text has
ANSWER_PROBABILITY = (
    "answer_probability"  # of the gold answer behind the text without its last line
)
NOTED_STEPLESS_SHARE = 0.1  # share of rows without a step above which a note says so
SHORT_SHARE = 0.5  # of the untrained student's answers: what is shorter is noted


class RowSteps(NamedTuple):
    """How much the rows of an arm reason.

    Args:
        rows: how many there are.
        stepless: how many have no step: they state an answer.
        median_steps: of the rows.
        answer_probability: the mean probability that the untrained student gives the gold answer behind a row without
            its last line; None where no row has this score.
        scored: how many rows have it.
    """

    rows: int
    stepless: int
    median_steps: float
    answer_probability: float | None = None
    scored: int = 0

    @property
    def stepless_share(self) -> float:
        """Share of the rows that have no step."""
        return self.stepless / self.rows if self.rows else 0.0


def steps_of_row(row: Trace) -> int:
    """How many steps the text of a row has: as it was counted when the row was stored, or counted now."""
    stored = row.scores.get(STEP_COUNT)
    if isinstance(stored, int | float):
        return int(stored)
    return count_steps(row.text, question=row.question, answer=row.problem.answer)


def summarize_steps(rows: Sequence[Trace]) -> RowSteps:
    """How much these rows reason; what the student is to write itself has no text yet, and does not count."""
    rows = [row for row in rows if row.text]
    counts = [steps_of_row(row) for row in rows]
    # Likelihoods were taken of a sample of the rows alone.
    probabilities: list[float] = []
    for row in rows:
        probability = row.scores.get(ANSWER_PROBABILITY)
        if isinstance(probability, int | float):
            probabilities.append(float(probability))
    mean = sum(probabilities) / len(probabilities) if probabilities else None
    return RowSteps(
        rows=len(counts),
        stepless=counts.count(0),
        median_steps=float(median(counts)) if counts else 0.0,
        answer_probability=mean,
        scored=len(probabilities),
    )


def stepless_notes(steps_by_arm: Mapping[str, RowSteps]) -> list[str]:
    """A sentence for each arm of whose rows more than a tenth have no step."""
    notes: list[str] = []
    for arm, steps in steps_by_arm.items():
        if steps.stepless_share > NOTED_STEPLESS_SHARE:
            notes.append(
                f"{arm}: {steps.stepless:,} of {steps.rows:,} rows ({100 * steps.stepless_share:.0f} %) have no step "
                "of reasoning: they teach to state an answer. Read some of them, and ask their writer for steps."
            )
    return notes


def shrink_notes(evaluations: Iterable[Evaluation], base: str) -> list[str]:
    """A sentence for each arm whose answers are less than half as long as the base's, in tokens."""
    by_name = {evaluation.name: evaluation for evaluation in evaluations}
    if base not in by_name:
        return []
    # Medians, so that a few long answers decide nothing.
    before = median_answer_tokens(by_name[base])
    notes: list[str] = []
    for name, evaluation in by_name.items():
        # A solver's answer that took several calls is not as long as the last of them.
        if sum(used.calls for used in usage_per_answer(evaluation).values()) > 1:
            continue
        after = median_answer_tokens(evaluation)
        if name != base and before and after is not None and after < SHORT_SHARE * before:
            notes.append(
                f"{name}: its answers are {after:g} tokens long in the median, the {base} student's {before:g}: less "
                "than half. A training on rows that state answers teaches not to reason; see the rows' steps."
            )
    return notes


def median_answer_tokens(evaluation: Evaluation) -> float | None:
    """The median length of the answers that could be read and were not cut: no loop counts; None without any."""
    lengths: list[int] = []
    for row in evaluation.rows:
        for answer in row.answers:
            if answer.status in ("right", "wrong") and not answer.cut:
                lengths.append(answer.tokens)
    return float(median(lengths)) if lengths else None


def short_rows_notes(arm: str, rows: Sequence[Trace], before: Evaluation | None) -> list[str]:
    """A sentence where an arm's rows are less than half as long as the untrained student's answers."""
    tokens = [row.tokens.completion for row in rows if row.tokens.completion]
    answers = median_answer_tokens(before) if before is not None else None
    if not tokens or not answers or median(tokens) >= SHORT_SHARE * answers:
        return []
    return [
        f"{arm}: its rows are {median(tokens):g} tokens long in the median, the untrained student's answers "
        f"{answers:g}: less than half"
    ]
