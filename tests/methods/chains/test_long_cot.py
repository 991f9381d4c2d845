"""Long chains, exactly: whose flow is shown, what each step's writer sees, and what becomes of it."""

from __future__ import annotations

from dataclasses import replace

from scripted_replies import STEP_BY_STEP
from scripted_world import number, prompts, run, script, student

from potstill.methods.chains.long_cot import cut_outline, read_outline
from potstill.models.scripted import ScriptedModel
from potstill.records import learnt_stretches
from potstill.runs.cast import Cast

# Enough seeds among four problems, and a writer of outlines and steps.
CAST = Cast(models={"writer": STEP_BY_STEP}, values={"seeds": 0.5, "shots": 1})

SEED = number("a", "What is 1 + 1?", "2")  # the first by the chance of its id
P1 = number("p1", "What is 2 + 3 + 4?", "9")
FLOW = "1. Read it.\n2. Add, and doubt."
OUTLINE = "1. Add two.\n2. Add the third.\n3. Check."
WRITER = {
    "flow of the thought": FLOW,
    "step due now: Add two.": "Two and three is 5.",
    "step due now: Add the third.": "Then 5 + 4 = 9.  ",
    "step due now: Check.": "9 - 4 = 5, good.",
    "numbered list": OUTLINE,
    "leads to": "The total is \\boxed{9}.",
    "": "Short: \\boxed{9}.",
}
LONG = (
    "<think>\nTwo and three is 5.\n\nThen 5 + 4 = 9.\n\n9 - 4 = 5, good.\n</think>\n\n"
    "The total is \\boxed{9}."
)


def long_cot(answers=(), problems=(SEED, P1), **values):
    writer = script({**dict(answers), **WRITER})
    reasoner = ScriptedModel(["<think>\nHm, 2.\n</think>\n\\boxed{2}"], name="reasoner")
    roles = {"writer": writer, "reasoner": reasoner, "student": student(["-"])}
    values = {"seeds": 0.3, "shots": 1, **values}
    return run("long_cot", list(problems), roles, **values), writer, reasoner


def test_a_thought_is_written_step_by_step_behind_its_outline():
    ran, writer, reasoner = long_cot()
    assert ran.texts() == {"p1": [LONG]} and ran.prompts_learnt() == [P1.prompt]
    [row] = ran.rows
    # All but the tag and what separates the paragraphs was written in this run: all of it is learnt.
    assert learnt_stretches(row) == [(0, len(LONG))] and row.finish_reason == "stop"
    assert prompts(reasoner) == [SEED.prompt] and len(writer.calls) == 1 + 1 + 3 + 1


def test_each_step_is_written_from_those_before_its_item_and_the_next_one():
    _, writer, _ = long_cot()
    outline, second = prompts(writer)[1], prompts(writer)[3]
    assert [turn.role for turn in outline] == ["user", "assistant", "user"]
    assert outline[0].content.endswith(SEED.question) and outline[1].content == FLOW
    assert "so far:\nTwo and three is 5.\n\nThe step due now: Add the third.\n" in second
    assert second.endswith("What comes after it: Check.")


def test_the_budget_shortens_the_outline():
    ran, *_ = long_cot(arm="half")
    assert ran.texts() == {"p1": [LONG.replace("Then 5 + 4 = 9.\n\n", "")]}
    assert long_cot(arm="quarter")[0].texts()["p1"][0].count("\n\n") == 1
    assert long_cot(max_steps=2)[0].texts() == {"p1": [LONG.replace("\n\n9 - 4 = 5, good.", "")]}
    assert read_outline("1. a\n2) b\n- c\nno item") == ["a", "b", "c"]
    assert cut_outline(1.0, 9, replace(P1, text=OUTLINE)) == OUTLINE


def test_an_unreadable_outline_a_broken_step_and_another_answer_are_dropped():
    others = [number("b", "What is 7 + 3 + 4?", "14")]
    for answers, test in (
        ({("numbered list", "7 + 3"): "I would just add."}, "has_outline"),
        ({("due now: Check", "7 + 3"): {"text": "9 -", "finish": "length"}}, "is_finished"),
        ({("due now: Check", "7 + 3"): {"error": "down"}}, "is_finished"),
        ({}, "right"),
    ):
        ran, *_ = long_cot(answers, [SEED, P1, *others])
        assert list(ran.texts()) == ["p1"] and len(ran.reasons()[test]) == 1


def test_the_short_arm_learns_the_writers_usual_chains():
    ran, _, reasoner = long_cot(arm="short", problems=[P1])
    assert ran.texts() == {"p1": ["Short: \\boxed{9}."]} and not reasoner.calls


def test_what_the_writer_thinks_is_no_part_of_outline_or_step():
    thought = "<think>\n1. Hm.\n2. So.\n3. Or.\n4. Well.\n</think>\n"
    answers = {"due now: Check": thought + WRITER["step due now: Check."]}
    assert long_cot(answers)[0].texts() == {"p1": [LONG]}
    assert long_cot({"numbered list": thought + OUTLINE})[0].texts() == {"p1": [LONG]}
