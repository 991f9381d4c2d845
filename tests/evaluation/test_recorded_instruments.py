"""The instruments on recorded outputs of real models, each equal to a plain recomputation."""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from pathlib import Path

import pytest

import potstill as ps
from potstill import verifiers
from potstill.evaluation import metrics
from potstill.evaluation.answer_scores import ANSWER_IS_WRONG, answer_entropy, measure_scores
from potstill.evaluation.curves import k_curve
from potstill.evaluation.strata import strata_to_json

N = 8


@pytest.fixture(scope="module")
def math_file(shared_data: Path) -> Path:
    return shared_data / "math-outputs" / "qwen2.5-math-cot-100.jsonl"


@pytest.fixture(scope="module")
def evaluated(math_file: Path) -> ps.Evaluation:
    """100 MATH problems with 8 recorded chains each, measured as any model is."""
    model = ps.load_model(f"recorded:{math_file}")
    return ps.evaluate(model, ps.load_problems(str(math_file), prompt="{question}"), n=N)


class PlainProblem:
    """One line of the file, judged chain by chain, without the store, the operators or the rows of an evaluation."""

    def __init__(self, row: dict, problem: ps.Problem) -> None:
        verdicts = verifiers.judge([(problem, text) for text in row["code"]])
        self.right = [verdict.status == "right" for verdict in verdicts]
        # Ballots: right answers are one, wrong ones are by the verifier's equality with the first of their kind.
        self.ballots: list[str | None] = []
        founders: list[str] = []
        for verdict in verdicts:
            ballot = verdict.answer
            if verdict.status == "right":
                ballot = "right"
            elif ballot is not None:
                equal = verifiers.equal([(problem, founder, ballot) for founder in founders])
                ballot = next((f for f, same in zip(founders, equal, strict=True) if same), ballot)
                if ballot not in founders:
                    founders.append(ballot)
            self.ballots.append(ballot)

    @property
    def entropy(self) -> float:
        votes = Counter(ballot for ballot in self.ballots if ballot is not None)
        shares = [count / votes.total() for count in votes.values()]
        return -sum(share * math.log(share) for share in shares)

    @property
    def majority(self) -> float:
        votes = Counter(ballot for ballot in self.ballots if ballot is not None)
        winners = [b for b, count in votes.items() if count == max(votes.values(), default=0)]
        return ("right" in winners) / len(winners) if winners else 0.0


@pytest.fixture(scope="module")
def plain(math_file: Path) -> list[PlainProblem]:
    rows = [json.loads(line) for line in math_file.read_text("utf-8").splitlines()]
    problems = [trace.problem for trace in ps.load_problems(str(math_file), prompt="{question}")]
    assert [row["question"] for row in rows] == [problem.question for problem in problems]
    return [PlainProblem(row, problem) for row, problem in zip(rows, problems, strict=True)]


@pytest.mark.slow
@pytest.mark.parametrize("k", [1, 2, 4, 8])
def test_pass_at_k_is_the_share_of_all_subsets(
    evaluated: ps.Evaluation, plain: list[PlainProblem], k: int
) -> None:
    shares = []
    for one in plain:
        subsets = list(itertools.combinations(one.right, k))
        shares.append(sum(map(any, subsets)) / len(subsets))
    expected = sum(shares) / len(shares)
    assert metrics.pass_at(evaluated, k).value == pytest.approx(expected)
    [point] = k_curve(evaluated, [k])
    assert point.passed.value == pytest.approx(expected)


@pytest.mark.slow
def test_the_majority_of_8_is_a_count_of_ballots(
    evaluated: ps.Evaluation, plain: list[PlainProblem]
) -> None:
    expected = sum(one.majority for one in plain) / len(plain)
    assert metrics.majority_at(evaluated, N).value == pytest.approx(expected)


@pytest.mark.slow
def test_entropy_and_its_auroc_are_those_of_all_pairs(
    evaluated: ps.Evaluation, plain: list[PlainProblem]
) -> None:
    wrong: list[float] = []
    right: list[float] = []
    for one in plain:
        for is_right in one.right:
            (right if is_right else wrong).append(one.entropy)
    ordered = 0.0
    for high, low in itertools.product(wrong, right):
        ordered += (high > low + 1e-12) + (abs(high - low) <= 1e-12) / 2
    values = {(v.score, v.event): v.detection for v in measure_scores(evaluated)}
    detection = values["answer entropy", ANSWER_IS_WRONG]
    assert detection.auroc.value == pytest.approx(ordered / (len(wrong) * len(right)))
    assert (detection.events, detection.scored, detection.unscored) == (len(wrong), 800, 0)


@pytest.mark.slow
def test_the_operator_and_the_rows_have_one_entropy(
    math_file: Path, evaluated: ps.Evaluation, plain: list[PlainProblem]
) -> None:
    model = ps.load_model(f"recorded:{math_file}")
    answers = ps.verify(
        ps.sample(model, ps.load_problems(str(math_file), prompt="{question}"), n=N)
    )
    entropies = {row.problem: answer_entropy(row) for row in evaluated.rows}
    by_operator = {t.problem.id: t.scores["h"] for t in ps.score("h", ps.answer_entropy, answers)}
    assert list(by_operator.values()) == pytest.approx([one.entropy for one in plain])
    assert entropies == pytest.approx(by_operator)


@pytest.mark.slow
def test_what_came_out_stays_what_it_is(evaluated: ps.Evaluation) -> None:
    passes = [round(metrics.pass_at(evaluated, k).value, 4) for k in (1, 2, 4, 8)]
    assert passes == [0.9213, 0.9454, 0.966, 0.98]
    assert metrics.majority_at(evaluated, N).value == pytest.approx(0.935)
    detection = measure_scores(evaluated)[0].detection
    assert detection.auroc.value == pytest.approx(0.915, abs=5e-4)


@pytest.mark.slow
def test_strata_are_the_levels_of_the_file(
    evaluated: ps.Evaluation, plain: list[PlainProblem], math_file: Path
) -> None:
    levels = [json.loads(line)["level"] for line in math_file.read_text("utf-8").splitlines()]
    right_by_level: Counter[str] = Counter()
    for level, problem in zip(levels, plain, strict=True):
        right_by_level[level] += sum(problem.right)
    strata = strata_to_json([evaluated], "level")
    assert [row["stratum"] for row in strata] == [f"Level {number}" for number in range(1, 6)]
    for row in strata:
        assert row["problems"] == levels.count(row["stratum"])
        assert row["right"] == right_by_level[row["stratum"]]
        assert row["avg"]["value"] == pytest.approx(row["right"] / (N * row["problems"]))
