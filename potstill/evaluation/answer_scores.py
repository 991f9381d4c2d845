"""Scores that every evaluation holds, as detectors of wrong answers: how much the answers disagree, and their length.

None of them needs a gold answer but for what it is measured against: they are what a model shows of its own limits.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from typing import NamedTuple

from potstill.errors import InputError
from potstill.evaluation.detection import (
    Detection,
    area_under_risk_coverage,
    calibration_error,
    detect,
)
from potstill.evaluation.metrics import ballot_of, count_votes
from potstill.evaluation.rows import Evaluation, Row
from potstill.records import Trace

ANSWER_IS_WRONG = "an answer is not right"
ELECTED_IS_WRONG = "the elected answer is not right"


class ScoreValue(NamedTuple):
    """A score as a detector of an event."""

    score: str
    event: str
    detection: Detection


class Agreement(NamedTuple):
    """Agreement as a confidence: the share of votes for a problem's elected answer, against whether it is right.

    Args:
        calibration_error: ECE over ten bins.
        risk: share of the elected answers that are not right.
        area: mean risk over all coverages (AURC); `risk` where agreement says nothing.
        problems: that have votes.
        without_votes: problems of which no answer votes; they are in none of the figures.
    """

    calibration_error: float
    risk: float
    area: float
    problems: int
    without_votes: int


def answer_entropy(row: Row) -> float | None:
    """The entropy (nats) of the answers to a problem, `-sum p log p` over classes of equal ones; None without any."""
    return entropy_of_votes(count_votes(row.answers))


def entropy_of_votes(votes: Counter[Hashable]) -> float | None:
    """The entropy (nats) of counted votes; None where there are none."""
    total = votes.total()
    if not total:
        return None
    return abs(math.fsum(count / total * math.log(count / total) for count in votes.values()))


def measure_scores(evaluation: Evaluation) -> list[ScoreValue]:
    """How well entropy, disagreement and length detect wrong answers.

    Answers that failed or could not be judged are no events and have no score. Unparsed ones are not right; they
    vote for nothing, so that nothing can be said of their disagreement.
    """
    entropies: list[float | None] = []
    disagreements: list[float | None] = []
    lengths: list[float | None] = []
    not_right: list[bool] = []
    problems: list[str] = []
    for row in evaluation.rows:
        votes = count_votes(row.answers)
        entropy = entropy_of_votes(votes)
        for answer in row.answers:
            # A call that failed says nothing of the model's limits.
            is_judged = answer.status not in ("error", "unjudged")
            ballot = ballot_of(answer)
            entropies.append(entropy if is_judged else None)
            disagreements.append(_share_against(votes, ballot))
            lengths.append(float(answer.tokens) if is_judged else None)
            not_right.append(is_judged and answer.status != "right")
            problems.append(row.problem)
    # A single answer agrees with itself: nothing can be said of entropy or disagreement.
    values = [ScoreValue("length in tokens", ANSWER_IS_WRONG, detect(lengths, not_right, problems))]
    if evaluation.n > 1:
        values = [
            ScoreValue("answer entropy", ANSWER_IS_WRONG, detect(entropies, not_right, problems)),
            ScoreValue("disagreement", ANSWER_IS_WRONG, detect(disagreements, not_right, problems)),
            *values,
            ScoreValue("answer entropy", ELECTED_IS_WRONG, _detect_wrong_elections(evaluation)),
        ]
    return values


def detect_wrong(name: str, traces: Sequence[Trace]) -> Detection:
    """How well a score of traces detects that they are not right, clustered by problem.

    Args:
        name: of the score, under which `score` stored it; larger where a wrong answer is likelier.
        traces: judged ones. Those that failed or could not be judged are no events and count as unscored, as those do
            whose score is None.

    Raises:
        InputError: no trace has a score of this name, or one of them is a text.
    """
    if not any(name in trace.scores for trace in traces):
        names = sorted(set().union(*(trace.scores for trace in traces)))
        raise InputError(f"no trace has a score {name!r}", available=names, wanted=name)
    scores: list[float | None] = []
    not_right: list[bool] = []
    for trace in traces:
        value = trace.scores.get(name)
        if isinstance(value, str):
            raise InputError(f"the score {name!r} of {trace.id} is a text", expected="a number")
        is_judged = not trace.error and trace.verdict.status != "unjudged"
        scores.append(value if is_judged else None)
        not_right.append(is_judged and trace.verdict.status != "right")
    return detect(scores, not_right, [trace.problem.id for trace in traces])


def measure_agreement(evaluation: Evaluation) -> Agreement | None:
    """Agreement as a confidence; None where no problem has a vote, or a single answer, which agrees with itself."""
    # One election a problem; a problem without votes has elected nobody.
    confidences: list[float] = []
    correct: list[bool] = []
    for row in evaluation.rows:
        elected = elect_answer(row)
        if elected is not None:
            ballot, share = elected
            confidences.append(share)
            correct.append(ballot == "right")
    if evaluation.n < 2 or not confidences:
        return None
    return Agreement(
        calibration_error(confidences, correct),
        1 - sum(correct) / len(correct),
        area_under_risk_coverage(confidences, correct),
        len(confidences),
        len(evaluation.rows) - len(confidences),
    )


def elect_answer(row: Row) -> tuple[Hashable, float] | None:
    """The most frequent answer to a problem and its share of the votes; the first of several, as `vote` elects."""
    votes = count_votes(row.answers)
    if not votes:
        return None
    [(ballot, count)] = votes.most_common(1)
    return ballot, count / votes.total()


def _detect_wrong_elections(evaluation: Evaluation) -> Detection:
    # One item a problem: problems are no clusters here.
    entropies: list[float | None] = []
    wrong: list[bool] = []
    for row in evaluation.rows:
        elected = elect_answer(row)
        entropies.append(answer_entropy(row))
        wrong.append(elected is not None and elected[0] != "right")
    return detect(entropies, wrong)


def _share_against(votes: Counter[Hashable], ballot: Hashable | None) -> float | None:
    return None if ballot is None else 1 - votes[ballot] / votes.total()
