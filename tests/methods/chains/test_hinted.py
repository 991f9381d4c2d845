"""Hinted chains, exactly: what the teacher is told, behind which examples, and what is learnt."""

from __future__ import annotations

import dataclasses

import pytest
from scripted_world import number, prompts, run, script, student
from world_run import run_on_world

from potstill.errors import StageError
from potstill.models.model import Sampling
from potstill.models.scripted import Rule, ScriptedModel
from potstill.records import Message
from potstill.runs.cast import Cast
from potstill.traces import ReferenceGate

# Four problems have no eight examples of other ones.
CAST = Cast(values={"shots": 1, "n": 2})


def solved(name, question, answer, solution):
    trace = number(name, question, answer)
    return dataclasses.replace(trace, problem=dataclasses.replace(trace.problem, solution=solution))


P1 = solved("p1", "What is 2 + 2?", "4", "Two and two make 4.")
P2 = solved("p2", "What is 3 + 4?", "7", "3 + 4 = 7.")
GOOD, WRONG = "Two twice is \\boxed{4}.", "It is \\boxed{8}."


def hinted(answers=None, **values):
    # The first answers are to the prompts whose last question is the first problem's.
    first, other = answers or ([GOOD], [WRONG])
    rules = [Rule(tuple(first), pattern=r"2 \+ 2\?[^?]*\Z"), Rule(tuple(other), pattern="")]
    teacher = ScriptedModel(rules)
    return run(
        "hinted", [P1, P2], {"teacher": teacher, "student": student(["-"])}, **values
    ), teacher


def test_the_answer_stands_before_each_chain_in_the_prompt_and_the_learner_sees_none_of_it():
    ran, teacher = hinted(shots=1)
    assert ran.texts() == {"p1": [GOOD]} and ran.prompts_learnt() == [P1.prompt]
    assert ran.reasons() == {"right": ["wrong: 8 is not 7 (boxed)"]}
    asked = "{}\n\nThe answer is {}. Reason step by step until you come to it, and end with it."
    assert prompts(teacher)[0] == (
        Message("user", asked.format(P2.question, 7)),
        Message("assistant", "3 + 4 = 7."),
        Message("user", asked.format(P1.question, 4)),
    )
    assert teacher.calls[0].sampling == Sampling(0.0, max_new_tokens=1024)
    [row] = ran.rows
    assert row.saw_gold and ran.sources(row) == ["What is 2 + 2?", "3 + 4 = 7."]


def test_the_controls_tell_nothing_drop_nothing_or_learn_answers_alone():
    ran, teacher = hinted(shots=0, arm="no-hint")
    assert (
        not any("answer is" in str(shown) for shown in prompts(teacher))
        and not ran.rows[0].saw_gold
    )
    assert hinted(shots=0, arm="unfiltered")[0].texts() == {"p1": [GOOD], "p2": [WRONG]}
    ran, teacher = hinted(arm="answer-only")
    assert ran.texts() == {"p1": ["The answer is \\boxed{4}."], "p2": ["The answer is \\boxed{7}."]}
    assert not teacher.calls


def test_failed_and_unreadable_chains_are_dropped_and_the_gate_refuses_empty_ones():
    ran, _ = hinted(
        ([GOOD, {"error": "down"}], ["Hm.", "3 + 4 = 7: \\boxed{7}"]),
        shots=0,
        n=2,
    )
    assert ran.texts() == {"p1": [GOOD], "p2": ["3 + 4 = 7: \\boxed{7}"]}
    assert ran.reasons() == {
        "is_finished": ["error: down"],
        "right": ["unparsed: no number (last line)"],
    }
    gate = ReferenceGate(1.0, 0.0)
    ran, _ = hinted((["Two and two make \\boxed{4}."], ["So \\boxed{7}."]), shots=0, gate=gate)
    assert ran.texts() == {"p1": ["Two and two make \\boxed{4}."]}


def test_without_solutions_there_are_no_examples_to_show():
    bare = [number("a", "What is 2 + 2?", "4")]
    with pytest.raises(StageError, match="1 examples are to be shown"):
        run("hinted", bare, {"teacher": script({"": GOOD}), "student": student(["-"])})


@pytest.mark.slow
def test_it_runs_on_the_built_in_world(tmp_path):
    pytest.importorskip("torch", reason="needs the extra potstill[local]")
    # The world's teacher knows neither examples nor hints; the oracle solves the story of the last turn.
    ran = run_on_world(tmp_path, "hinted", roles=["teacher=world:oracle"], sets=["shots=2"])
    [rows] = ran.rows.values()
    assert len(rows) == 16 and all(row["saw_gold"] for row in rows)
    assert not any("answer is" in row["prompt"] for row in rows)
