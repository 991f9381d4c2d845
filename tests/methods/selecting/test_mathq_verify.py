"""MathQ-Verify, exactly: which checks are asked in which order, how votes count, and what is learnt afterwards."""

from __future__ import annotations

import json

import pytest
from scripted_world import number, prompts, run, script, student
from world_run import run_on_world

from potstill.errors import ConfigError
from potstill.methods.selecting.mathq_verify import CHECKS, read_judgement
from potstill.models.scripted import ScriptedModel, render
from potstill.runs.cast import Cast
from potstill.world.scripted import teacher_reply

VALID = '{"judgement_test": true, "error_type": null}'
INVALID = '{"judgement_test": false, "error_type": "half a person"}'


def check_or_solve(request):
    """The scripted teacher of the suite, which also says of each question that it is valid."""
    return VALID if "judgement_test" in render(request.prompt) else teacher_reply(request)


CHECKER = ScriptedModel(check_or_solve, name="checker")
CAST = Cast(models=dict.fromkeys(("teacher", "judges.1", "judges.2"), CHECKER))

GOOD, VAGUE, HALF = (
    number("good", "What is 2 + 2?", "4"),
    number("vague", "How old is Ned?", "7"),
    number("half", "Half a person joins 3. How many?", "3"),
)
PROBLEMS = [GOOD, VAGUE, HALF]
STRICT = {
    ("enough to answer", VAGUE.question): INVALID,
    ("half a person does", HALF.question): f"In \\frac{{1}}{{2}}: {INVALID}",
    "": VALID,
}


def mathq_verify(judges=(), **values):
    solver = {"2 + 2": "So \\boxed{4}.", "Ned": "\\boxed{7}", "": "Hm."}
    roles = {"teacher": script({"Check a": VALID, **solver}), "student": student(["-"])}
    if judges:
        roles["judges"] = list(judges)
    return run("mathq_verify", PROBLEMS, roles, **values)


def test_a_question_is_asked_about_until_it_fails_and_only_valid_ones_are_solved():
    judge = script(STRICT)
    ran = mathq_verify([judge])
    assert ran.texts() == {"good": ["So \\boxed{4}."]}
    assert ran.prompts_learnt() == [GOOD.prompt]
    # Five checks of the good one and of the vague one, three of the half one.
    shown = [prompt for prompt in prompts(judge) if HALF.question in prompt]
    assert len(judge.calls) == 13 and len(shown) == 3
    for prompt, check in zip(shown, CHECKS.values()):
        assert check in prompt and "2 + 2" not in prompt
    assert "violates its domain does not matter" in CHECKS["contradictions"]
    [reasons] = [texts for test, texts in ran.reasons().items() if test.startswith("is_elected")]
    assert reasons == [
        "valid to 0 of 1 judges; it fails: completeness (1)",
        "valid to 0 of 1 judges; it fails: conditions (1)",
    ]


def test_more_than_half_of_the_judges_decide_and_who_can_not_be_read_is_no_vote():
    mild, mute = script({"": VALID}, name="mild"), script({"": "It is true."}, name="mute")
    ran = mathq_verify([script(STRICT), mild, mute])
    assert sorted(ran.texts()) == ["good"]
    [reasons] = [texts for test, texts in ran.reasons().items() if test.startswith("is_elected")]
    assert "valid to 1 of 3 judges; it fails: completeness (1), no verdict (1)" in reasons
    assert len(mute.calls) == 3
    ran = mathq_verify([script(STRICT), mild, mute], votes=1)
    assert sorted(ran.texts()) == ["good", "vague"]
    with pytest.raises(ConfigError, match="votes=4 of 3"):
        mathq_verify([mild, mild, mild], votes=4)


def test_the_controls_ask_once_or_not_at_all_and_without_judges_the_teacher_checks():
    judge = script(STRICT)
    assert sorted(mathq_verify([judge], arm="direct").texts()) == ["good", "vague"]
    assert len(judge.calls) == 3
    ran = mathq_verify(arm="unfiltered")
    assert ran.reasons() == {"right": ["unparsed: no number (last line)"]} and sorted(
        ran.texts()
    ) == ["good", "vague"]
    assert sorted(mathq_verify().texts()) == ["good", "vague"]


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        (VALID, 1),
        (f"```json\n{INVALID}\n```", 0),
        (f"<think>{INVALID}</think> With \\{{x}}. {VALID} Done.", 1),
        ('{"judgement_test": "true"}', None),
        ('{"judgement_test": true', None),
        ("The word true, and { braces }.", None),
    ],
)
def test_a_verdict_is_the_last_json_object_and_never_a_guess(reply, verdict):
    assert read_judgement(reply) == verdict


@pytest.mark.slow
def test_it_runs_on_the_built_in_world(tmp_path):
    """The world has no judge of questions, so a scripted one refuses those of one name."""
    pytest.importorskip("torch", reason="needs the extra potstill[local]")
    script_file = tmp_path / "judge.json"
    rules = [{"pattern": "Ann has", "answers": [INVALID]}, {"answers": [VALID]}]
    script_file.write_text(json.dumps(rules))
    roles = ["teacher=world:teacher", f"judges=scripted:{script_file}"]
    ran = run_on_world(tmp_path, "mathq_verify", roles=roles, sets=["n=4"])
    rows = ran.rows["mathq_verify"]
    assert rows and not any("Ann has" in row["prompt"] for row in rows)
