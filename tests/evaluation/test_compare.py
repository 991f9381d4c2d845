"""Paired differences, honest sentences, and what is not compared."""

from __future__ import annotations

import pytest
from demo_results import arm, evaluation

from potstill.errors import ConfigError
from potstill.evaluation.compare import Comparison, PairedCounts, compare, standings
from potstill.evaluation.intervals import Estimate, student_t_quantile


def test_the_difference_is_paired_by_problem_not_by_place() -> None:
    base = evaluation("untrained", "wwww", "rwww", "rrww", "rrrw")
    found = evaluation("orion", "rrww", "rrww", "rrww", "rrrr")
    shuffled = type(found)(found.name, tuple(reversed(found.rows)), found.fingerprint)
    compared = compare(shuffled, base)
    # Differences .5 .25 0 .25.
    half = student_t_quantile(3) * (0.125 / 12) ** 0.5
    assert compared.difference == pytest.approx((0.25, 0.25 - half, 0.25 + half))
    assert compared.problems == 4
    assert not compared.distinguishable
    assert compared.sentence.startswith(
        "orion is not distinguishable from untrained (+25.0 points, 95 % interval -"
    )


def test_the_sentence_names_the_better_arm_whichever_it_is() -> None:
    up = Comparison("orion", "sft", Estimate(0.1, 0.05, 0.15), 200)
    down = Comparison("orion", "sft", Estimate(-0.1, -0.15, -0.05), 200)
    assert up.sentence == "orion beats sft by 10.0 points (95 % interval 5.0 to 15.0, 200 problems)"
    assert (
        down.sentence == "sft beats orion by 10.0 points (95 % interval 5.0 to 15.0, 200 problems)"
    )
    edge = Comparison("orion", "sft", Estimate(0.1, 0.0, 0.2), 200)
    assert "not distinguishable" in edge.sentence


@pytest.mark.parametrize("component", ["problems", "prompts", "sampling", "n", "verifiers"])
def test_evaluations_that_were_not_asked_the_same_are_not_compared(component: str) -> None:
    base = evaluation("untrained", "rw", "ww")
    other = evaluation("orion", "rr", "rw", task={component: "another"})
    with pytest.raises(ConfigError) as refused:
        compare(other, base)
    assert f"unequal: {component}" in refused.value.found
    forced = compare(other, base, force=True)
    assert forced.differs == (component,)
    assert f"compared by force, unequal: {component}" in forced.sentence


def test_other_models_and_seeds_are_compared() -> None:
    base, other = evaluation("untrained", "rw"), evaluation("orion", "rr")
    assert base.fingerprint.id != other.fingerprint.id
    assert base.fingerprint.task_id == other.fingerprint.task_id
    assert compare(other, base).differs == ()


def test_a_forced_comparison_uses_shared_problems_and_needs_one() -> None:
    base = evaluation("untrained", "rw", "ww", "ww")
    fewer = evaluation("orion", "rr", "rw", task={"problems": "others"})
    assert compare(fewer, base, force=True).problems == 2
    renamed = type(base)(
        base.name, tuple(type(r)(f"x{r.problem}", r.answers) for r in base.rows), base.fingerprint
    )
    with pytest.raises(ConfigError, match="share no problem"):
        compare(renamed, fewer, force=True)


def test_standings_put_the_highest_first_and_say_what_is_not_compared() -> None:
    arms = [arm("untrained", 30), arm("sft", 58), arm("orion", 52)]
    said = standings([*arms, evaluation("odd", "ww")])
    assert said[0].startswith("Highest avg@4: sft, ")
    assert said[1].startswith("sft beats orion by ")
    assert any(s.startswith("sft beats untrained by ") for s in said)
    assert said[-1] == "odd was asked something else (unequal: n) and is not compared."


def test_json_round_trip() -> None:
    compared = compare(arm("orion", 52), arm("untrained", 30))
    assert Comparison.from_json(compared.to_json()) == compared


def test_the_sign_test_is_exact() -> None:
    # Two-sided binomial tails with chance 1/2, by hand.
    assert PairedCounts(5, 0, 100).p_value == 2 / 32
    assert PairedCounts(1, 5, 0).p_value == 2 * 7 / 64
    assert PairedCounts(3, 3, 9).p_value == 1.0
    assert PairedCounts(0, 0, 9).p_value == 1.0


def test_the_exact_test_agrees_with_scipy() -> None:
    stats = pytest.importorskip("scipy.stats")
    for better, worse in ((12, 3), (40, 41), (0, 7), (200, 150)):
        expected = stats.binomtest(better, better + worse).pvalue
        assert PairedCounts(better, worse, 1).p_value == pytest.approx(expected)


def test_a_comparison_counts_the_problems_on_which_either_is_better() -> None:
    base = evaluation("untrained", "ww", "rw", "rr", "ww")
    arm = evaluation("orion", "rw", "rr", "rw", "ww")
    comparison = compare(arm, base)
    assert comparison.counts == PairedCounts(better=2, worse=1, equal=1)
    assert comparison.counts_sentence == (
        "orion is better on 2 problems, untrained on 1, equal on 1 (exact sign test: p = 1.00)"
    )
    document = comparison.to_json()
    assert document["paired"] == {"better": 2, "worse": 1, "equal": 1, "n": 2}
    assert Comparison.from_json(document) == comparison
    greedy = compare(evaluation("orion", "r", "w"), evaluation("untrained", "w", "w"))
    assert greedy.test == "exact McNemar test"


def test_a_comparison_of_an_older_version_has_no_counts() -> None:
    document = compare(evaluation("orion", "r"), evaluation("untrained", "w")).to_json()
    for key in ("paired", "test", "p"):
        del document[key]
    assert Comparison.from_json(document).counts_sentence == ""
