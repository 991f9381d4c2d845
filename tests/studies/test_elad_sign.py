"""elad-sign: what its page says of made-up figures; the study itself in small is slow."""

from __future__ import annotations

import pytest

from potstill.records import no_progress
from potstill.studies import elad_sign
from potstill.studies.elad_pool import PROBES, pool_problems, slip_once
from potstill.studies.elad_sign import ARMS, BUYS_MORE, SIZES, describe_study
from potstill.studies.elad_tables import (
    change_share,
    equal_cost_budget,
    equal_cost_table,
    injection_rises,
    locate_first_error,
)
from potstill.studies.study import StudySettings, run_in_folder
from potstill.verifiers.story import judge, steps

PROBLEMS = [f"t{number}" for number in range(40)]
CHANGED, SAME = [1, "7", "8"], [1, "7", "7"]


def item(number: int, *, right: bool, change: float, noise: float = 0.1) -> dict:
    """A problem of the pool whose probes all change as many answers."""
    probe = {
        "change": change,
        "noise": noise,
        "probes": [CHANGED if change > 0.5 else SAME, [2, "7", "7"]],
    }
    error = 0.0 if right else 1.0
    figures = {
        "problem": f"p{number}",
        "right": right,
        "sound": right,
        "agreement": 1.0 if right else 0.4,
    }
    figures |= {"inter": 0.0 if right else 0.9, "inter_same_calls": 0.0 if right else 0.8}
    figures |= {"length": 3 + number % 3, "first_error": error}
    return figures | dict.fromkeys(PROBES, probe)


def calls(tokens: float) -> dict:
    return {"calls": 1.0, "prompt_tokens": tokens, "completion_tokens": 0.0}


def pool(*, wrong_change: float, noise: float, right_change: float = 0.2) -> dict:
    """A pool of 20 problems, half of them wrong."""
    items = []
    for number in range(20):
        right = number % 2 == 0
        change = (right_change if right else wrong_change) + 0.001 * number
        items.append(item(number, right=right, change=change, noise=noise))
    names = [name for name in ARMS if name != BUYS_MORE]
    costs = {}
    for name in names:
        is_chance = ARMS[name][0]["arm"] == "random"
        factor = ARMS[name][1]
        costs[f"selecting, {name}"] = calls(factor * 10.0 if is_chance else 1000.0)
        costs[f"annotating, {name}"] = calls(factor * 100.0)
    counts = {"rows": 20, "chains": 20, "revised": 10, "right_chains": 10, "right_revised": 0}
    counts |= {"false_alarms": 0, "gold_match": 20, "misled": 0}
    annotations = {name: calls(500.0) | counts for name in ("sequential", "fresh-chain")}
    annotations["fresh-chain"] |= calls(100.0)
    return {
        "items": items,
        "chosen": {name: [f"p{number}" for number in range(4)] for name in names},
        "costs": costs,
        "annotations": annotations,
        "injected": [
            {"problem": f"p{n}", "step": 1, "before": [SAME], "after": [CHANGED]} for n in range(9)
        ],
    }


def figures(*, scores: dict | None = None, **of_pool) -> dict:
    """Figures of all arms at 20 of 40 but for those that are given."""
    runs = {}
    for name in ("untrained", *ARMS):
        right = (scores or {}).get(name, 20)
        shares = [float(number < right) for number in range(len(PROBLEMS))]
        run = {
            "problems": PROBLEMS,
            "shares": shares,
            "tokens": 50,
            "calls": {},
            "written_tokens": {},
            **{"rows": 7, "steps": 4, "loss_tokens": 400},
        }
        runs[name] = [run] * 3
    values = {"wrong_change": 0.8, "noise": 0.1, **of_pool}
    return {
        "arms": runs,
        "pools": [pool(**values)] * 3,
        "seeds": 3,
        **SIZES,
        "annotated": 4,
        "pool": 20,
    }


@pytest.mark.parametrize(
    ("of_pool", "sentence"),
    [
        ({}, "Probed by branch, changed answers go with wrong ones (AUROC 1.00"),
        ({"wrong_change": 0.0}, "by branch, unchanged answers go with wrong ones (AUROC 0.00"),
        ({"wrong_change": 0.2}, "by branch, neither sign tells wrong answers from right ones"),
        ({}, "Of this not all is noise: 51% of the answers change without a step, 10% when"),
        ({"noise": 0.9}, "it is not shown to be more than noise"),
        ({"noise": 0.9}, "So what the branch measures here is the student's uncertainty"),
        ({}, "With a known error in the chain the change rises (+100.0"),
    ],
)
def test_the_sign_and_the_noise_are_read_from_the_intervals(of_pool, sentence):
    assert sentence in describe_study(figures(**of_pool)).finding


@pytest.mark.parametrize(
    ("scores", "sentence"),
    [
        ({}, "Between EGSS (change) and EGSS (same) no difference is shown"),
        ({"egss-change": 38}, "EGSS (change) is above EGSS (same) (+45.0"),
        ({BUYS_MORE: 38}, "EGSS (change) is below chance at equal total cost (-45.0"),
        ({}, "chance annotates 7 stories where a teacher's token costs 10"),
        ({}, "sequential 25, fresh-chain 5; the cheapest is fresh-chain."),
    ],
)
def test_the_arms_are_compared_at_equal_numbers_and_at_equal_cost(scores, sentence):
    assert sentence in describe_study(figures(scores=scores)).finding


def test_a_sign_that_is_only_length_is_called_so():
    made = figures()
    for measured in made["pools"]:
        for item in measured["items"]:
            # Wrong chains are longer, and of equal ones right and wrong change alike.
            item["length"] = 4 if item["right"] and item["problem"] != "p0" else 5
            item["drop-one"] = {**item["drop-one"], "change": 1 / item["length"]}
    finding = describe_study(made).finding
    assert "Probed by drop-one, unchanged answers go with wrong ones" in finding
    assert "That is length: among chains with as many steps neither sign tells" in finding


def test_an_equal_cost_buys_what_is_left_after_the_same_annotations():
    # (1000 + 10 * 100 - (10 + 10 * 100)) / ((10 + 1000) / 4) = 3.9 more than 4.
    assert equal_cost_budget(figures(), "egss-change", 10.0) == 7
    assert equal_cost_budget(figures(), "random", 10.0) == 4


def test_an_arm_stands_beside_chance_at_its_cost():
    # Chance, at a price of 10: 2, 4, 7 and 8 stories cost 505, 1,010, 1,767 and 2,020, for 25, 50, 65 and 75 %.
    made = figures(scores={"random-half": 10, "random-double": 30, BUYS_MORE: 26, "inter": 25})
    table = {row["arm"]: row for row in describe_study(made).tables["At equal total cost"]}
    assert table["inter"]["cost at a price of 10"] == "2,000"
    assert table["inter"]["chance at that cost, at a price of 10"] == "74.2"
    assert table["inter"]["chance's cost of its avg@n, at a price of 10"] == "1,641"
    assert table["inter"]["chance at that cost, at a price of 100"] == "52.0"


def test_every_table_has_its_rows():
    tables = describe_study(figures()).tables
    assert {row["arm"] for row in tables["Arms"]} == {"untrained", *ARMS}
    assert [row["probe"] for row in tables["Change and noise"]] == list(PROBES)
    detection = {row["score"]: row for row in tables["What the scores detect"]}
    assert detection["inter"]["wrong answer: events"] == "30 of 60"
    # No right answer has an error behind it: there is nothing to tell apart.
    assert detection["inter"]["error behind a right answer: AUROC"] == ""


def test_changes_are_read_at_the_wrong_step_and_at_the_others():
    probes = [[0, "1", "2"], CHANGED, [2, "7", "7"], [3, "7", None]]
    assert change_share(probes, "whole chain", 1) == 0.5
    assert change_share(probes, "the wrong step", 1) == 1.0
    assert change_share(probes, "the other steps", 1) == 0.0
    assert change_share(probes, "the wrong step", 3) is None
    assert set(injection_rises(figures())) == {"whole chain", "the wrong step"}
    location = locate_first_error(figures(), "branch")
    assert location.auroc is not None and location.auroc.value == 1.0


def test_a_known_error_is_one_wrong_result_that_is_carried_on():
    from random import Random

    for seed, problem in enumerate(pool_problems(20, 0)):
        step, text = slip_once(problem, Random(seed))
        wrong = [number for number, span in enumerate(steps(problem, text), 1) if span.score == 0]
        assert wrong[0] == step and judge(problem, text).status in ("wrong", "right")


@pytest.mark.slow
@pytest.mark.long
def test_the_study_in_small_runs_and_runs_again_without_a_call(tmp_path):
    sizes = {"pool": 6, "annotated": 2, "chains": 2, "injected": 2, "test": 2, "n": 1, "steps": 1}
    settings = StudySettings(tmp_path, seeds=1, sizes=sizes, roles=elad_sign.ROLES)
    first = run_in_folder("elad-sign", elad_sign, settings, no_progress)
    assert run_in_folder("elad-sign", elad_sign, settings, no_progress) == first
    [measured] = first["pools"]
    assert len(measured["items"]) == 6 and set(measured["chosen"]) == set(ARMS) - {BUYS_MORE}


def test_what_the_cheapest_choice_by_chance_reaches_is_a_bound():
    column = "chance's cost of its avg@n, at a price of 10"
    rising = {"random-half": 15, "random": 20, "random-double": 25, "egss-change": 22}
    [row] = equal_cost_table(figures(scores=rising), ["egss-change"])
    assert row[column].replace(",", "").isdigit()
    [row] = equal_cost_table(figures(scores={**rising, "egss-change": 10}), ["egss-change"])
    assert row[column].startswith("at most ")
