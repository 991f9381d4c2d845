"""What every evaluation says of its model's limits: entropy, disagreement, agreement as a confidence."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from demo_results import evaluation

from potstill.errors import InputError
from potstill.evaluation.answer_scores import (
    answer_entropy,
    detect_wrong,
    elect_answer,
    measure_agreement,
    measure_scores,
)
from potstill.evaluation.rows import Answer, Evaluation, Row
from potstill.records import Problem, Trace, Verdict, blank


def voted(*problems: str) -> Evaluation:
    """An evaluation whose letters are answers: `r` the right one, `u` unparsed, `e` failed, others wrong ones."""
    rows = []
    for number, letters in enumerate(problems):
        answers = []
        for letter in letters:
            status = {"r": "right", "u": "unparsed", "e": "error"}.get(letter, "wrong")
            answer = letter if status in ("right", "wrong") else None
            answers.append(Answer(status, answer, tokens=ord(letter)))
        rows.append(Row(f"p{number}", tuple(answers)))
    return replace(evaluation("voted", "r" * len(problems[0])), rows=tuple(rows))


def test_entropy_is_over_classes_of_answers_that_vote() -> None:
    [same, split, silent] = voted("rrrr", "rrau", "uuee").rows
    assert answer_entropy(same) == 0
    expected = -(2 / 3 * math.log(2 / 3) + 1 / 3 * math.log(1 / 3))
    assert answer_entropy(split) == pytest.approx(expected)
    assert answer_entropy(silent) is None


def test_right_and_wrong_by_hand() -> None:
    values = {
        (v.score, v.event): v.detection for v in measure_scores(voted("rrra", "rabu", "rrre"))
    }
    entropy = values["answer entropy", "an answer is not right"]
    # Wrong answers: one at the middle entropy, three at the highest; right ones: 3, 1, 3 from the middle up and down.
    assert (entropy.events, entropy.scored, entropy.unscored) == (4, 11, 1)
    pairs = [(0.5 * 3 + 0 * 1 + 1 * 3), *[(3 + 0.5 + 3)] * 3]
    assert entropy.auroc.value == pytest.approx(sum(pairs) / (4 * 7))
    disagreement = values["disagreement", "an answer is not right"]
    assert (disagreement.events, disagreement.unscored) == (3, 2)
    elected = values["answer entropy", "the elected answer is not right"]
    assert elected.events == 0 and elected.auroc is None


def test_one_answer_a_problem_disagrees_with_nobody() -> None:
    single = voted("r", "a")
    assert [value.score for value in measure_scores(single)] == ["length in tokens"]
    assert measure_agreement(single) is None


def test_agreement_is_a_confidence_in_the_elected_answer() -> None:
    evaluated = voted("rrrr", "aaab", "raab", "uuuu")
    assert elect_answer(evaluated.rows[2]) == (("wrong", "a"), 0.5)
    found = measure_agreement(evaluated)
    # Confidences 1, .75 and .5, only the first of them right.
    assert (found.problems, found.without_votes) == (3, 1)
    assert found.risk == pytest.approx(2 / 3)
    assert found.calibration_error == pytest.approx((0 + 0.75 + 0.5) / 3)
    assert found.area == pytest.approx((0 + 1 / 2 + 2 / 3) / 3)


def judged(problem: str, status: str, score: float | None, error: str = "") -> Trace:
    trace = replace(blank(Problem(problem, "?", "1")), text=f"{problem} {score}", error=error)
    return trace.annotate(verdict=Verdict(status), scores={"doubt": score})  # type: ignore[arg-type]


def test_any_score_of_traces_is_a_detector_of_wrong_ones() -> None:
    traces = [
        judged("a", "right", 0.1),
        judged("a", "wrong", 0.8),
        judged("b", "unparsed", 0.9),
        judged("b", "wrong", None),
        judged("c", "unjudged", 0.0),
        judged("c", "right", 0.0, error="server: gone"),
    ]
    found = detect_wrong("doubt", traces)
    assert (found.auroc.value, found.events, found.scored, found.unscored) == (1.0, 2, 3, 3)
    with pytest.raises(InputError, match="no trace has a score 'dout'"):
        detect_wrong("dout", traces)
    with pytest.raises(InputError, match="is a text"):
        detect_wrong("note", [traces[0].annotate(scores={"note": "yes"})])
