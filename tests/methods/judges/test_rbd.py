"""RBD, exactly: how each bias is shown, which choices count as biased, what is learnt, and who chooses at the end."""

from __future__ import annotations

import re

import pytest
from scripted_world import NOWHERE, ORACLE, number, prompts, run, script, student
from world_run import run_on_world

from potstill.errors import StageError
from potstill.methods.judges.rbd.evaluation import Case, place_of_first
from potstill.models.scripted import ScriptedModel, render
from potstill.runs.cast import Cast

CAST = Cast(models={"teacher": ORACLE, "evaluator": ORACLE}, values={"n": 6}, poses=True)
P1 = number("p1", "What is 2 + 2?", "4")
RIGHT = "Two and two more are 2 + 2 = 4. So it is \\boxed{4}."
WRONG = "It is 2 + 2 = 5, so \\boxed{5}."
SHORT, SAD, HAPPY = (
    "The answer is \\boxed{4}.",
    "Sadly \\boxed{4}.",
    "Hurrah, 2 + 2 = 5: \\boxed{5}!",
)
YES, NO = "It went by length.\nYes", "It is fair.\nNo"
TEACHER = {
    "in a negative tone": SAD,
    "in a positive tone": HAPPY,
    "verbosity bias alone": YES,
    "sentiment bias alone": NO,
    "": NO,
}


def prefer_longer(request) -> str:
    """An evaluator that goes by length."""
    outputs = re.findall(r"# Output \((\w)\)\n(.*?)\n\n", render(request.prompt), re.DOTALL)
    return f"Output ({max(outputs, key=lambda output: len(output[1]))[0]})"


def prefer_shorter(request) -> str:
    """One that is wrong with and without a bias."""
    return {"Output (a)": "Output (b)", "Output (b)": "Output (a)"}[prefer_longer(request)]


def detect(evaluator=prefer_longer, teacher=None, attempts=(RIGHT, WRONG), **values):
    roles = {
        "teacher": script(teacher or TEACHER),
        "student": student(["-"]),
        "evaluator": ScriptedModel(evaluator, name="evaluator"),
        "writer": ScriptedModel(list(attempts), name="writer"),
    }
    return run("rbd", [P1], roles, n=len(attempts), **values), roles


def test_what_the_evaluator_gets_wrong_only_with_the_bias_in_view_is_biased():
    ran, roles = detect()
    # Biased are length and tone, of which the teacher sees the former; place and others' opinion change nothing.
    assert sorted(ran.texts()["p1"]) == sorted([YES, NO, NO])
    [wrong] = [texts for test, texts in ran.reasons().items() if test.startswith("agrees")]
    assert wrong == ["wrong: it says fair"]
    evaluations = prompts(roles["evaluator"])
    assert len(evaluations) == 8 and all(P1.prompt in prompt for prompt in evaluations)
    assert f"\n{SHORT}\n" in evaluations[1] and f"\n{SAD}\n" in evaluations[7]
    # The right output stands in the other place, and the wrong one is said to be preferred.
    for case, shown in (
        (Case("position"), evaluations[2]),
        (Case("position", True), evaluations[3]),
    ):
        assert f"# {place_of_first(case, P1)}\n{RIGHT}" in shown
    other = {"Output (a)", "Output (b)"} - {place_of_first(Case("bandwagon"), P1)}
    assert f"90% believe that {other.pop()} is better." in evaluations[5]
    assert "90%" not in evaluations[4]


def test_the_detector_sees_outputs_and_decision_and_never_the_label():
    ran, roles = detect(biases="position")
    [prompt] = ran.prompts_learnt()
    assert "First evaluation:" in prompt and "Second evaluation, other order:" in prompt
    assert prompt.count(RIGHT) == prompt.count(WRONG) == 2 and "model scripted" in prompt
    [asked] = prompts(roles["teacher"])
    assert asked.endswith(prompt) and "Look for position bias alone" in asked
    assert not ran.rows[0].saw_gold and ran.stages[0].constants["weight_decay"] == 0.01
    assert detect(biases="position", arm="label")[0].texts() == {"p1": ["No"]}


def test_where_the_evaluator_errs_anyway_nothing_is_biased_and_unread_choices_are_dropped():
    ran, _ = detect(prefer_shorter, biases="bandwagon")
    assert ran.texts() == {"p1": [NO]}
    for reply in ("Both.", "Output (a) or Output (b)"):
        with pytest.raises(StageError, match="without rows"):
            detect(lambda request, reply=reply: reply)


@pytest.mark.parametrize("reply", ["Hm.", {"error": "down"}, {"text": YES, "finish": "length"}])
def test_an_analysis_without_a_verdict_is_no_row(reply):
    ran, _ = detect(teacher={**TEACHER, "verbosity bias alone": reply})
    assert ran.texts() == {"p1": [NO, NO]}


def test_a_tone_that_changed_the_answer_and_attempts_of_one_kind_make_no_case():
    ran, _ = detect(
        teacher={**TEACHER, "in a negative tone": "Sadly \\boxed{3}.", "sentiment bias": YES}
    )
    assert sorted(ran.texts()["p1"]) == sorted([YES, NO, NO])
    with pytest.raises(StageError, match="right and a wrong"):
        detect(attempts=[WRONG, WRONG])


def test_the_evaluator_chooses_again_while_the_detector_finds_it_biased():
    def choose(request) -> str:
        shown = render(request.prompt)
        return place if "It went by length." in shown else other

    place = place_of_first(Case(), P1)
    [other] = {"Output (a)", "Output (b)"} - {place}
    pupil = script({f"evaluator\n{other}": YES, "Is its decision biased": NO}, weights=NOWHERE)
    roles = {
        "teacher": script({"": NO}),
        "student": pupil,
        "evaluator": ScriptedModel(choose, name="evaluator"),
        "writer": ScriptedModel([RIGHT, WRONG], name="writer"),
    }
    answers = {}
    for arm in ("untrained", "evaluator"):
        ran = run("rbd", [P1], roles, arm=arm, rounds=3)
        assert not ran.stages
        answers[arm] = [answer.text for answer in ran.solver([P1], n=1)]
    assert answers == {"untrained": [RIGHT], "evaluator": [WRONG]}
    failing = {**roles, "writer": ScriptedModel([{"error": "down"}, WRONG], name="failing")}
    [answer] = run("rbd", [P1], failing, arm="evaluator").solver([P1], n=1)
    assert answer.text == WRONG  # nothing to choose
    # Chosen, examined, chosen again, examined; the other arm examines nothing.
    assert len(pupil.calls) == 2 and len(roles["evaluator"].calls) == 3
    assert f"# Your earlier choice\n{other}" in prompts(roles["evaluator"])[1]


@pytest.mark.slow
def test_it_runs_on_the_built_in_world(tmp_path):
    pytest.importorskip("torch", reason="needs the extra potstill[local]")
    roles = ["teacher=world:oracle", "evaluator=world:oracle"]
    ran = run_on_world(tmp_path, "rbd", roles=roles, sets=["n=6"])
    assert {row["completion"].splitlines()[-1] for row in ran.rows["rbd"]} == {"Yes", "No"}
