"""supercorrect-step: what its page says of made-up figures, the held-out pairs, and the recipe of a seed."""

from __future__ import annotations

from pathlib import Path

import pytest

from potstill.runs.recipe import from_data
from potstill.studies.held_out import slip_pairs
from potstill.studies.study import StudySettings
from potstill.studies.supercorrect_step import (
    ARMS,
    ROLES,
    SIZES,
    describe_study,
    recipe_of_seed,
    solution_in_steps,
)
from potstill.verifiers import story as judge

PROBLEMS = [f"p{number}" for number in range(40)]


def arm_runs(right: int, seeds: int = 3) -> list[dict]:
    """An arm that answers the first so many problems right, with every seed."""
    shares = [float(number < right) for number in range(len(PROBLEMS))]
    run = {"problems": PROBLEMS, "shares": shares, "tokens": 50, "calls": {}, "written_tokens": {}}
    return [run] * seeds


def figures(**right: int) -> dict:
    """Figures of all arms at 20 of 40, but for those that are named (with _ for -)."""
    scores = dict.fromkeys(["untrained", *ARMS], 20)
    scores |= {name.replace("_", "-"): value for name, value in right.items()}
    sense = {"delta_nll": 0.1, "auroc": 0.7, "in_pair": 0.8}
    runs = {name: arm_runs(value) for name, value in scores.items()}
    return {"arms": runs, "sense": {name: [sense] * 3 for name in ARMS}, "seeds": 3, **SIZES}


@pytest.mark.parametrize(
    ("right", "sentence"),
    [
        ({}, "no difference is shown"),
        ({"cross": 35}, "the first wrong step is above the first stage alone"),
        ({"whole": 35}, "it is below preference between whole solutions"),
        ({"step": 35}, "the bare step (Step-DPO) is above whole solutions"),
        ({}, "is shown to matter"),
        ({"cause_only": 5}, "Of what `cross` is made of these matter: the correction (+37.5 ["),
    ],
)
def test_the_finding_is_chosen_by_the_intervals(right, sentence):
    assert sentence in describe_study(figures(**right)).finding


def test_the_tables_have_every_effect_and_every_arm():
    page = describe_study(figures(step=30))
    effects = {row["effect"]: row for row in page.tables["Effects"]}
    assert effects["Step-DPO against whole solutions"]["difference of"] == "step - whole"
    assert [row["arm"] for row in page.tables["Sense of error"]] == list(ARMS)
    assert [row["arm"] for row in page.tables["Arms"]] == ["untrained", *ARMS]
    assert "world:oracle" in page.setup and "{" not in page.setup


def test_held_out_pairs_are_in_the_template_and_differ_from_the_slip_on():
    pairs = slip_pairs("story-easy", 10, solution_in_steps)
    for right in pairs:
        wrong = right.rejected
        assert judge.judge(right.problem, right.text).status == "right"
        assert judge.judge(wrong.problem, wrong.text).status == "wrong"
        assert right.text.startswith("Step 1: ") and "'Step 1:'" in right.prompt
        assert right.prompt == wrong.prompt


def test_the_arms_of_a_seed_share_their_first_stage():
    data = recipe_of_seed(StudySettings(Path("out"), 1, SIZES, ROLES), 2)
    made = from_data({**data, "seed": 2})
    assert list(made.arms) == list(ARMS)
    steps = {name: arm.training.max_steps for name, arm in made.arms.items()}
    assert set(steps.values()) == {SIZES["hsft_steps"]}
    second = made.arms["cross"].training_by_stage["cross-dpo"]
    assert (second.max_steps, second.optimizer) == (SIZES["dpo_steps"], "adamw")
    assert made.arms["hsft"].training_by_stage == {}
