"""learnability-gap: what its page says of made-up figures; the study itself in small is slow."""

from __future__ import annotations

import pytest

from potstill.records import no_progress
from potstill.studies import learnability_gap
from potstill.studies.learnability_gap import ARMS, LONGER, SIZES, describe_study
from potstill.studies.study import StudySettings, run_in_folder

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
    return {"arms": {name: arm_runs(value) for name, value in scores.items()}, "seeds": 3, **SIZES}


@pytest.mark.parametrize(
    ("right", "sentences"),
    [
        ({}, ("The paper's gap is not shown.", "better than either alone is not shown.")),
        ({"hard_only": 5}, ("The paper's gap is here.", "better than either alone is not shown.")),
        ({"hard_only": 35}, ("long chains teach more.", "the mix is worse than one of the two.")),
        ({"mix": 35}, ("gap is not shown.", "That the mix is better than either alone is shown.")),
    ],
)
def test_the_finding_is_chosen_by_the_intervals(right, sentences):
    page = describe_study(figures(**right))
    assert all(sentence in page.finding for sentence in sentences)
    effects = {row["effect"]: row["difference of"] for row in page.tables["Effects"]}
    assert effects[learnability_gap.AT_EQUAL_TOKENS] == f"hard-only - {LONGER}"
    assert "world:oracle" in page.setup and "{" not in page.setup


@pytest.mark.slow
def test_the_study_in_small(tmp_path):
    small = {"train": 12, "test": 4, "n": 1, "steps": 2, "longer_steps": 3}
    settings = StudySettings(tmp_path, 1, small, dict(learnability_gap.ROLES))
    page = describe_study(
        run_in_folder("learnability-gap", learnability_gap, settings, no_progress)
    )
    table = {row["arm"]: row for row in page.tables["Arms"]}
    assert list(table) == ["untrained", *ARMS] and table[LONGER]["steps"] == "3"
    assert len({table[name]["rows"] for name in ARMS}) == 1, "the arms learn the same questions"
    tokens = [int(table[name]["tokens learnt"].replace(",", "")) for name in ARMS if name != LONGER]
    assert tokens == sorted(tokens, reverse=True), "the more long chains, the more tokens"
