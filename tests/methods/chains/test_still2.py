"""STILL-2, exactly: what each round explores, which rollouts are learnt, and by whom."""

from __future__ import annotations

from scripted_world import NOWHERE, number, run, script

P1, P2 = number("p1", "What is 2 + 2?", "4"), number("p2", "What is 3 + 4?", "7")
TEACHER = {"2 + 2": "Long: \\boxed{4}.", "": {"text": "Long: \\boxed{7}.", "finish": "length"}}
ROLLOUTS = {
    "2 + 2": ["\\boxed{4}", "\\boxed{4}", "Still \\boxed{4}", "\\boxed{5}"],
    "": [
        "\\boxed{6}",
        "It must be \\boxed{7}",
        {"text": "So so so so \\boxed{7}", "finish": "length"},
        "\\boxed{7}",
    ],
}


def still2(**values):
    pupil = script(ROLLOUTS, weights=NOWHERE)
    values = {"n": 4, "rounds": 1, **values}
    return run("still2", [P1, P2], {"teacher": script(TEACHER), "student": pupil}, **values), pupil


def test_the_longest_right_rollout_on_hard_problems_joins_the_teachers_thoughts():
    ran, pupil = still2()
    assert ran.texts(0) == {"p1": ["Long: \\boxed{4}."]}
    assert ran.texts(1) == {"p1": ["Long: \\boxed{4}."], "p2": ["It must be \\boxed{7}"]}
    assert len(pupil.calls) == 8 and [stage.model for stage in ran.stages] == [pupil, pupil]
    reasons = ran.reasons()
    assert reasons["is_finished"] == ["not finished"] * 2  # a thought and a rollout
    [hard] = [test for test in reasons if test.startswith("is_mostly_unsolved")]
    assert reasons[hard] == ["not hard: 75% of its rollouts are right"] * 3


def test_the_second_round_keeps_what_the_first_one_found():
    ran, pupil = still2(rounds=2)
    assert ran.texts(2) == ran.texts(1) and len(pupil.calls) == 16


def test_the_controls_imitate_alone_explore_all_or_prefer():
    ran, pupil = still2(arm="imitate")
    assert len(ran.stages) == 1 and not pupil.calls
    ran, _ = still2(arm="all-problems")
    assert set(ran.texts()["p1"]) == {"Long: \\boxed{4}.", "Still \\boxed{4}"}
    ran, pupil = still2(arm="dpo")
    assert ran.stages[1].objective == "dpo" and ran.stages[1].constants["reference"] is pupil
    assert ran.texts() == {"p2": ["It must be \\boxed{7} > \\boxed{6}"]}
