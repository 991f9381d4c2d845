"""Faithful reasoning, exactly: what each part learns of a text, and how a search picks steps and ends."""

from __future__ import annotations

import math

import pytest
from scripted_world import NOWHERE, ORACLE, prompts, run, script
from world_run import run_on_world

from potstill.errors import ConfigError, StageError
from potstill.methods.testtime.faithful import format as form
from potstill.methods.testtime.faithful.search import Search
from potstill.models.model import Request, Sampling
from potstill.models.scripted import ScriptedModel
from potstill.records import Problem, blank
from potstill.runs.cast import Cast
from potstill.traces import verify
from potstill.world.oracle.program import answer_request, choose_role

# The oracle has one way to reason, so another seed makes the same rows.
CAST = Cast(
    models={"teacher": ORACLE, "student": ScriptedModel(answer_request, weights=NOWHERE)},
    poses=True,
    without={"check_seeds": "the oracle reasons in one way"},
)

P1 = blank(
    Problem(
        "p1",
        "Ada is a cat. It rains. All cats purr. Bo is a dog. Does Ada purr?",
        "Yes",
        kind="exact",
    )
)
STEPS = "sent 1. We know that sent 3. Therefore, Ada purrs.\nsent 5. Therefore, Ada purrs now.\n"
TEXT = STEPS + "The answer is \\boxed{Yes}."


def teach(text=TEXT, **values):
    teacher = script({"Reason from": text}, name="teacher")
    student = script({"Write the one": "Bo purrs."}, weights=NOWHERE, name="student")
    return (
        run("faithful", [P1], {"teacher": teacher, "student": student}, **values),
        teacher,
        student,
    )


def rows_of(stage):
    return [(row.prompt, row.text) for row in stage.rows]


def test_each_part_learns_its_own_share_of_every_step():
    ran, teacher, student = teach()
    selection, inference, halter, value = ran.stages
    assert [stage.name for stage in ran.stages] == ["selection", "inference", "halter", "value"]
    assert [text for _, text in rows_of(selection)] == ["sent 1. We know that sent 3.", "sent 5."]
    assert (
        "sent 5: Ada purrs." in rows_of(selection)[1][0]
        and "sent 5" not in rows_of(selection)[0][0]
    )
    assert rows_of(inference) == [
        (form.INFER.format(selection="Ada is a cat. We know that All cats purr."), "Ada purrs."),
        (form.INFER.format(selection="Ada purrs."), "Ada purrs now."),
    ]
    assert sorted(text for _, text in rows_of(halter)) == [
        "No",
        "The answer is \\boxed{Yes}.",
        "Yes",
    ]
    assert all("Does Ada purr?" in prompt for prompt, _ in rows_of(halter))
    assert sorted(text for _, text in rows_of(value)) == ["correct"] * 2 + ["incorrect"] * 2
    assert len(teacher.calls) == 1 and len(student.calls) == 2  # wrong steps are inferred anew
    assert all("Does Ada" not in prompt for prompt in prompts(student))


def test_a_wrong_step_selects_another_statement():
    ran, _, _ = teach()
    for prompt, text in rows_of(ran.stages[3]):
        assert (STEPS.splitlines()[0] in prompt and "Bo purrs" not in prompt) == (
            text == "correct"
        ) or "now" in prompt
        assert prompt.endswith("The above reasoning steps are")


@pytest.mark.parametrize(
    "text",
    [
        "The answer is \\boxed{Yes}.",
        STEPS.replace("sent 5", "sent 9") + "\\boxed{Yes}",
        "First.\n" + TEXT,
        STEPS + "So.\n\\boxed{Yes}",
        STEPS + "\\boxed{No}",
    ],
)
def test_a_text_out_of_form_or_with_a_wrong_answer_teaches_nothing(text):
    with pytest.raises(StageError, match="without rows"):
        teach(text)


def test_the_control_learns_whole_texts_and_the_ablation_no_value():
    ran, _, _ = teach(arm="proof")
    assert rows_of(ran.stages[0]) == [(form.show_trace(P1), TEXT)]
    assert [stage.name for stage in teach(arm="no-search")[0].stages] == [
        "selection",
        "inference",
        "halter",
    ]


def search(selections, halts=None, arm="prompted", n=1, **settings):
    answers = {
        "Choose the": selections,
        ("Write the one", "Ada is a cat"): "Ada purrs.\nSurely.",
        ("Write the one", "Ada purrs"): "Ada purrs now.",
        "Write the one": "It rains.",
        ("Do you know", "purrs now"): "Yes.",
        "Do you know": halts or "No.",
        "What does this say": "It is \\boxed{Yes}.",
    }

    def value_of(passage):
        step = passage.prompt.split("Therefore, ")[-1]
        return [math.log(0.9 if step.startswith("Ada") else 0.2)]

    pupil = script(answers, logprobs=value_of)
    ran = run(
        "faithful",
        [P1],
        {"student": pupil},
        arm=arm,
        search=Search(**{"candidates": 2, **settings}),
    )
    return verify(ran.solver([P1], n=n, temperature=0.3, max_new_tokens=9)), pupil


def test_the_likelier_step_goes_on_until_the_halter_knows_the_answer():
    [answer], pupil = search(["sent 2.", "<think>\nHm.\n</think>\nsent 1, and sent 3"], beams=1)
    assert answer.text.startswith("sent 1. We know that sent 3. Therefore, Ada purrs.\n")
    assert answer.verdict.status == "unparsed" and answer.text.endswith("\nUnknown")
    assert {call.sampling.temperature for call in pupil.calls} == {0.7, 0.0}
    [answer], pupil = search(["sent 1. We know that sent 3.", "sent 5."], beams=1)
    assert answer.text == STEPS + "It is \\boxed{Yes}." and answer.verdict.status == "right"
    shown = [prompt for prompt in prompts(pupil) if prompt.startswith("Write the one")]
    assert form.INFER.format(selection="Ada is a cat. We know that All cats purr.") in shown
    assert answer.prompt == P1.prompt


def test_without_a_search_one_text_is_written_and_no_step_is_valued():
    [answer], pupil = search("sent 1.", halts="Yes.", arm="prompted-no-search")
    assert (
        answer.text == "sent 1. Therefore, Ada purrs.\nIt is \\boxed{Yes}."
        and len(pupil.calls) == 4
    )
    assert not pupil.scored


@pytest.mark.parametrize("selections", ["I don't know.", "sent 9.", {"error": "down"}])
def test_what_selects_nothing_is_unknown_or_failed(selections):
    answers, _ = search(selections, n=2)
    assert len(answers) == 2
    for answer in answers:
        assert answer.text == ("" if answer.error else "Unknown")
        assert bool(answer.error) == isinstance(selections, dict)


def test_the_oracle_reasons_in_labelled_steps():
    question = "Leo has 5 rocks. Then Leo buys 8. Then Leo doubles the pile. How many rocks does Leo have now?"
    prompt = form.show_trace(blank(Problem("s", question, "26")))
    assert choose_role(prompt).name == "step_reasoner"
    [reply] = ORACLE.write([Request(prompt, "", Sampling())])
    assert reply.text == (
        "sent 2. We know that sent 1. Therefore, Leo has 13 rocks.\n"
        "sent 3. We know that sent 4. Therefore, Leo has 26 rocks.\nThe answer is \\boxed{26}."
    )


def test_a_search_wants_likelihoods_and_one_text_does_not():
    mute = type("Mute", (), {"id": "mute", "write": None})()
    with pytest.raises(ConfigError, match="searches by likelihoods"):
        run("faithful", [P1], {"student": mute}, arm="prompted")
    assert run("faithful", [P1], {"student": mute}, arm="prompted-no-search").solver


@pytest.mark.slow
def test_it_runs_on_the_built_in_world(tmp_path):
    """It carries the machinery alone: of a pile's size no halter can tell whether the story is at its end."""
    pytest.importorskip("torch", reason="needs the extra potstill[local]")
    ran = run_on_world(
        tmp_path, "faithful", roles=["teacher=world:oracle"], sets=["search.max_steps=2"]
    )
    assert set(ran.rows) == {"selection", "inference", "halter", "value"}
