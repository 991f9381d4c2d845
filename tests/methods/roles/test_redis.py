"""ReDis, exactly: what a rule is judged by, which rules are preferred, what is learnt, and the search at test time."""

from __future__ import annotations

import json
import random
import re

import pytest
from scripted_world import NOWHERE, number, prompts, run, script
from world_run import run_on_world

from potstill.errors import StageError
from potstill.methods.roles._demonstrations import is_same_output, read_demonstrations
from potstill.models.model import Completion
from potstill.models.scripted import ScriptedModel
from potstill.records import blank
from potstill.runs.cast import Cast


def induction(name, step, inputs=(1, 5, 7, 2)):
    """A problem whose outputs are the inputs and `step` more."""
    pairs = [f"Input {at}: {given}\nOutput {at}: {given + step}" for at, given in enumerate(inputs)]
    return number(name, "\n".join([*pairs, "\n\nInput: 10\nOutput:"]), str(10 + step))


def problems(size):
    return [induction(f"p{at}", at % 3, inputs=(at, at + 3, at + 4)) for at in range(size)]


def induce(request):
    """A program that guesses a step, and adds the one that it is shown."""
    rule = re.search(r"Rule: Add (\d+)", request.prompt)
    if rule is None:
        return Completion(f"Add {random.Random(request.random_seed('rule')).randrange(4)}.", "stop")
    given = re.search(r"(?m)^Input: (-?\d+)\s*\Z", request.prompt)
    return Completion(str(int(given[1]) + int(rule[1])), "stop")


CAST = Cast(
    models={
        "teacher": ScriptedModel(induce, name="inducer"),
        "student": ScriptedModel(induce, name="pupil", weights=NOWHERE),
    },
    problems=problems,
    values={"n": 8, "gap": 0, "hypotheses": 2},
    poses=True,
)
P1 = induction("p1", 2)
RULES = [
    "<think>\nHm.\n</think>\nAdd 2.",
    "Add 2.",
    "Odd ones and 2.",
    {"text": "Add", "finish": "length"},
]


def redis(asked=(P1,), rules=RULES, **values):
    teacher = script(
        {
            "Find the rule": rules,
            ("Rule: Add 2", "Input: 1"): "3",
            ("Rule: Add 2", "Input: 5"): "7",
            ("Rule: Add 2", "Input: 7"): "9",
            ("Rule: Add 2", "Input: 2"): "5",
            ("Rule: Odd", "Input: 2"): "4",
            "Rule": "It depends.",
        }
    )
    pupil = ScriptedModel(induce, name="pupil", weights=NOWHERE)
    values = {"n": 4, "gap": 1, **values}
    return run("redis", list(asked), {"teacher": teacher, "student": pupil}, **values), teacher


def test_every_rule_is_learnt_and_what_was_made_by_a_preferred_one_right_or_wrong():
    ran, teacher = redis()
    assert [stage.name for stage in ran.stages] == ["sft", "alignment"]
    assert sorted(ran.texts(0)["p1"]) == ["3", "5", "7", "9", "Add 2.", "Odd ones and 2."]
    # Three demonstrations and one: two more, and the gap is strict.
    assert ran.texts(1) == {"p1": ["Add 2. > Odd ones and 2."]}
    proposed = (
        "Input: 1\nOutput: 3\n\nInput: 5\nOutput: 7\n\nInput: 7\nOutput: 9\n\nInput: 2\nOutput: 4"
    )
    assert all(prompt.endswith(f"\n\n{proposed}") for prompt in ran.prompts_learnt(1))
    applied = [prompt for prompt in ran.prompts_learnt(0) if prompt.startswith("Apply")]
    assert len(applied) == 4 and all("Rule: Add 2.\n\nInput: " in prompt for prompt in applied)
    assert not any("10" in prompt for prompt in prompts(teacher))
    assert len(teacher.calls) == 4 + 2 * 4
    assert ran.stages[1].constants["lam"] == 0.1
    reasons = ran.reasons()
    assert reasons["is_finished"] == ["not finished"] and len(reasons["words"]) == 1
    assert "no rival in its group" in reasons["problem"] and len(reasons["line"]) == 4


def test_without_two_rules_so_far_apart_there_is_nothing_to_prefer():
    with pytest.raises(StageError, match="the best reproduces 3"):
        redis(gap=2)
    with pytest.raises(StageError, match="none of 1 problems"):
        redis([number("bare", "What is 2 + 2?", "4")])


def test_the_controls_leave_out_the_pairs_or_the_rules():
    assert [stage.name for stage in redis(arm="no-alignment")[0].stages] == ["sft"]
    ran, teacher = redis(arm="answers")
    assert ran.texts() == {"p1": ["The answer is \\boxed{12}."]} and not teacher.calls
    assert not redis(arm="untrained")[0].stages


def test_the_rule_that_reproduces_most_demonstrations_is_applied_to_what_is_asked_for():
    pupil = script(
        {
            "Find the rule": ["Add 9.", "Add 2.", {"error": "down"}, "Add 9."],
            ("Rule: Add 2", "Input: 5"): "7",
            ("Rule: Add 2", "Input: 10"): "12",
            ("Rule: Add 9", "Input: 10"): "19",
            "Rule": "?",
        },
        weights=NOWHERE,
    )
    ran = run("redis", [P1], {"teacher": pupil, "student": pupil}, arm="untrained", hypotheses=2)
    bare = number("bare", "What is 2 + 2?", "4")
    answers = ran.solver(
        [blank(P1.problem), blank(bare.problem, "Find the rule")], n=2, temperature=0.0
    )
    assert [answer.text for answer in answers] == ["12", "19", "Add 9.", "Add 2."]
    assert [call.sampling.temperature for call in pupil.calls[:5]] == [0.9] * 4 + [0.7]
    assert pupil.calls[-1].sampling.temperature == 0.0


@pytest.mark.parametrize(
    ("text", "wanted", "same"),
    [
        ("It is [1,2].", "[1, 2]", True),
        ("[2] or [1, 2]", "[1, 2]", False),
        ("none", "[]", False),
        ("RED\n RED", "RED RED", True),
        ("RED", "RED RED", False),
    ],
)
def test_an_output_is_the_first_list_or_the_whole_text(text, wanted, same):
    assert is_same_output(text, wanted) is same


def test_outputs_before_an_input_and_words_behind_an_empty_line_are_no_demonstrations():
    question = "Output: 3\nInput 1: a\nb\nOutput 1: c\n\n\nBelow is the test.\nInput:\n[1]\nOutput:"
    assert read_demonstrations(question) == [("a\nb", "c"), ("[1]", "")]


@pytest.mark.slow
def test_it_runs_with_a_scripted_teacher(tmp_path):
    """The world has no problems with demonstrations: a file of them, and of the teacher's replies."""
    pytest.importorskip("torch", reason="needs the extra potstill[local]")
    replies = [
        {"pattern": "Find the rule", "answers": ["Add 2.", "Add 3."]},
        {"pattern": "Rule: Add 2.\n\nInput: 1$", "answer": "3"},
        {"pattern": "Rule", "answer": "0"},
    ]
    teacher, file = tmp_path / "teacher.json", tmp_path / "problems.jsonl"
    teacher.write_text(json.dumps(replies))
    rows = [{"question": f"{P1.question}{' ' * at}", "answer": "12"} for at in range(4)]
    file.write_text("\n".join(json.dumps(row) for row in rows))
    ran = run_on_world(
        tmp_path,
        "redis",
        roles=[f"teacher=scripted:{teacher}"],
        sets=["n=2", "gap=0"],
        problems=str(file),
    )
    assert {row["completion"] for row in ran.rows["sft"]} == {"Add 2.", "Add 3.", "3", "0"}
    assert {row["chosen"] for row in ran.rows["alignment"]} == {"Add 2."}
