"""Errors in reasoning: which step is the first wrong one, who finds it, and what comes of correcting it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from potstill.errors import InputError
from potstill.evaluation.intervals import Estimate, pooled_share_interval, share_interval
from potstill.records import Trace

NO_ERROR = 0
"""The number of the first wrong step of a chain of which every judged step is right."""


class Location(NamedTuple):
    """How well somebody finds the first wrong step.

    Args:
        located: of chains with a wrong step, the share whose first one was named; None where there is no such chain.
        cleared: of chains without one, the share that was said to have none; None where there is no such chain.
        too_early: chains of which an earlier, right step was named.
        too_late: chains of which a later step was named.
        missed: chains with a wrong step that were said to have none.
        unread: claims that could not be read; they count as not located and not cleared.
    """

    located: Estimate | None
    cleared: Estimate | None
    too_early: int
    too_late: int
    missed: int
    unread: int

    @property
    def f1(self) -> float | None:
        """Harmonic mean of `located` and `cleared` (ProcessBench, arXiv:2412.06559); None where one is not known."""
        if self.located is None or self.cleared is None:
            return None
        total = self.located.value + self.cleared.value
        return 2 * self.located.value * self.cleared.value / total if total else 0.0


class Corrections(NamedTuple):
    """What became of answers that were corrected.

    Args:
        fixed: wrong before, right after.
        still_wrong: wrong before and after.
        broken: right before, wrong after.
        still_right: right before and after.
        success: fixed over all that were wrong, with its interval; None where none was.
        harm: broken over all that were right; None where none was.
        failed: corrections that failed or could not be judged; they count as not right.
    """

    fixed: int
    still_wrong: int
    broken: int
    still_right: int
    success: Estimate | None
    harm: Estimate | None
    failed: int


def first_error(trace: Trace) -> int | None:
    """The number of the first wrong step, from 1; 0 where every judged step is right, None where none was judged.

    Steps are the spans that `verify` scores in a text; those that it could not judge keep their number.
    """
    steps = [span for span in trace.spans if span.kind == "step"]
    scores = [span.score for span in sorted(steps, key=lambda span: span.start)]
    # A chain of which nobody judged a step is not one without errors.
    if all(score is None for score in scores):
        return None
    for number, score in enumerate(scores, start=1):
        if score is not None and score < 1:
            return number
    return NO_ERROR


def error_location(claims: Sequence[int | None], gold: Sequence[int]) -> Location:
    """Compare the first wrong steps that somebody names with the true ones.

    Args:
        claims: the number of the step, from 1; 0 for "no step is wrong"; None where the reply could not be read.
        gold: the true numbers, as `first_error` gives them where it can tell; 0 for chains that are right.
    """
    if len(claims) != len(gold):
        raise InputError(f"{len(claims)} claims for {len(gold)} chains", expected="one a chain")
    # `first_error` gives None where no step was judged; an unread claim must not agree with that.
    if any(number is None for number in gold):
        raise InputError(
            "the true first wrong step of a chain is None: none of its steps was judged",
            expected="numbers; 0 for a chain that is right",
            fix="leave such chains out of both lists",
        )
    located: list[float] = []
    cleared: list[float] = []
    too_early = too_late = missed = unread = 0
    # Chains with an error and chains without one are two questions: finding it, and not inventing one.
    for claim, true_number in zip(claims, gold, strict=True):
        is_right = float(claim == true_number)
        if true_number == NO_ERROR:
            cleared.append(is_right)
        else:
            located.append(is_right)
        if claim is None:
            unread += 1
        elif true_number != NO_ERROR:
            too_early += NO_ERROR < claim < true_number
            too_late += claim > true_number
            missed += claim == NO_ERROR
    return Location(_share(located), _share(cleared), too_early, too_late, missed, unread)


def corrections(before: Sequence[Trace], after: Sequence[Trace]) -> Corrections:
    """Count what corrections did, from judged answers before and after.

    Args:
        before: judged answers.
        after: what each of them was corrected to, in the same order, judged.

    Raises:
        InputError: the two are not of the same problems, or an answer before was never judged.
    """
    if [trace.problem.id for trace in before] != [trace.problem.id for trace in after]:
        raise InputError(
            "the corrections are not of the same problems in the same order",
            expected="one corrected answer for each answer",
        )
    unjudged = [trace for trace in before if trace.verdict.status == "unjudged"]
    if unjudged:
        raise InputError(
            f"{len(unjudged)} answers were never judged",
            expected="judged ones",
            fix="verify(before)",
        )
    # By problem, because the answers to one hang together.
    fixes: dict[str, list[bool]] = {}
    breaks: dict[str, list[bool]] = {}
    failed = 0
    for old, new in zip(before, after, strict=True):
        is_right = not new.error and new.verdict.status == "right"
        failed += bool(new.error) or new.verdict.status == "unjudged"
        if old.verdict.status == "right":
            breaks.setdefault(old.problem.id, []).append(not is_right)
        else:
            fixes.setdefault(old.problem.id, []).append(is_right)
    # Counts of answers; the intervals below go by problem.
    fixed = sum(sum(outcomes) for outcomes in fixes.values())
    broken = sum(sum(outcomes) for outcomes in breaks.values())
    wrong_before = sum(len(outcomes) for outcomes in fixes.values())
    right_before = sum(len(outcomes) for outcomes in breaks.values())
    return Corrections(
        fixed,
        wrong_before - fixed,
        broken,
        right_before - broken,
        _clustered_share(list(fixes.values())),
        _clustered_share(list(breaks.values())),
        failed,
    )


def _share(values: Sequence[float]) -> Estimate | None:
    return share_interval(values, len(values)) if values else None


def _clustered_share(outcomes_by_problem: Sequence[Sequence[bool]]) -> Estimate | None:
    return pooled_share_interval(outcomes_by_problem) if outcomes_by_problem else None
