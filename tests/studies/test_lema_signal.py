"""lema-signal: what its page says of made-up figures, and the held-out pairs; the study itself in small is slow."""

from __future__ import annotations

import pytest

from potstill.methods.errors.lema.arms import FULL, show_attempt
from potstill.methods.errors.lema.corrections import read_correction, splice_chain
from potstill.records import no_progress
from potstill.studies import lema_signal
from potstill.studies.held_out import slip_pairs
from potstill.studies.lema_signal import (
    ARMS,
    LONGER,
    SIZES,
    chain_of,
    corrections_of,
    describe_study,
)
from potstill.studies.study import StudySettings, run_in_folder
from potstill.verifiers import story as judge

PROBLEMS = [f"p{number}" for number in range(40)]


def arm_runs(right: int, seeds: int = 3) -> list[dict]:
    """An arm that answers the first so many problems right, with every seed."""
    shares = [float(number < right) for number in range(len(PROBLEMS))]
    run = {"problems": PROBLEMS, "shares": shares, "tokens": 50, "calls": {}, "written_tokens": {}}
    return [run] * seeds


def figures(**right: int) -> dict:
    """Figures of all arms at 20 of 40, but for those that are named (with _ for -)."""
    scores = dict.fromkeys(["untrained", *ARMS, LONGER], 20)
    scores |= {name.replace("_", "-"): value for name, value in right.items()}
    sense = {
        "delta_perplexity": 0.2,
        "delta_nll": 0.1,
        "auroc": 0.7,
        "in_pair": 0.8,
        "correction_loss": 1.0,
    }
    senses = {name: [{**sense, "delta_nll": n / 40}] * 3 for name, n in scores.items()}
    runs = {name: arm_runs(value) for name, value in scores.items()}
    return {"arms": runs, "sense": senses, "seeds": 3, **SIZES}


@pytest.mark.parametrize(
    ("right", "sentence"),
    [
        ({}, "So neither is shown to help."),
        (
            {"cot": 5},
            "So what is shown to help is one more right chain, not the error signal.",
        ),
        ({"full": 35}, "So the error signal adds something that one more right chain does not."),
        ({"full": 5}, "a correction is worth less than the right chain that can be made of it"),
    ],
)
def test_the_finding_is_chosen_by_the_intervals(right, sentence):
    assert sentence in describe_study(figures(**right)).finding


def test_parts_of_a_correction_are_named_where_they_differ():
    finding = describe_study(figures(no_explanation=5)).finding
    assert "(the whole less the whole without it): the explanation: +37.5 [" in finding
    assert "No single part" in describe_study(figures()).finding
    assert (
        "a correlation of +1.00" in finding
        and "correlation" not in describe_study(figures()).finding
    )


def test_the_tables_have_every_effect_and_every_arm():
    page = describe_study(figures(full=30))
    effects = {row["effect"]: row for row in page.tables["Effects"]}
    assert effects["the error signal"]["difference of"] == "full - spliced"
    assert effects["the error signal"]["in the reference"] == "A2 - A1"
    assert effects["the error signal"]["seeds"] == "+25.0, +25.0, +25.0"
    assert [row["arm"] for row in page.tables["Sense of error"]] == ["untrained", *ARMS, LONGER]
    assert "world:oracle" in page.setup


def test_held_out_pairs_share_a_right_beginning_and_differ_from_the_slip_on():
    pairs = slip_pairs("story", 20, chain_of)
    for right in pairs:
        wrong = right.rejected
        assert judge.judge(right.problem, right.text).status == "right"
        assert judge.judge(wrong.problem, wrong.text).status == "wrong"
        assert right.prompt == wrong.prompt == right.problem.question
    assert slip_pairs("story", 20, chain_of) == pairs


def test_the_held_out_corrections_are_of_the_pairs_wrong_chains():
    pairs = slip_pairs("story", 5, chain_of)
    for trace, passage in zip(pairs, corrections_of(pairs), strict=True):
        assert passage.prompt == show_attempt(FULL, trace.rejected)
        assert (
            splice_chain(trace.rejected.text, read_correction(passage.text, has_options=False))[0]
            == trace.text
        )


@pytest.mark.slow
@pytest.mark.long
def test_the_study_in_small(tmp_path):
    small = {"train": 24, "chains": 2, "test": 6, "n": 1, "steps": 2, "longer_steps": 3, "pairs": 4}
    settings = StudySettings(tmp_path, 1, {**SIZES, **small}, dict(lema_signal.ROLES))
    outcome = run_in_folder("lema-signal", lema_signal, settings, no_progress)
    page = describe_study(outcome)
    table = {row["arm"]: row for row in page.tables["Arms"]}
    assert list(table) == ["untrained", *ARMS, LONGER] and table[LONGER]["steps"] == "3"
    rows = {row["rows"] for name, row in table.items() if name not in ("untrained", "cot")}
    assert len(rows) == 1, "every arm has a row for each correction"
