"""LLMQuoter, exactly: who sees the answer, which quotes are learnt, and what the reader is left with."""

from __future__ import annotations

import pytest
from scripted_world import NOWHERE, ORACLE, number, prompts, run, script, student
from world_run import run_on_world

from potstill.errors import StageError
from potstill.methods.knowledge.llmquoter import QUOTE, READ, split_question
from potstill.models.scripted import ScriptedModel
from potstill.records import Problem, blank, learns_end
from potstill.runs.cast import Cast
from potstill.traces import fill_template
from potstill.world.oracle.program import choose_role

CAST = Cast(models={"teacher": ORACLE}, poses=True)

FACTS = "Ann has 3 hats. It rains. She buys 2."
P1 = number("p1", f"{FACTS} How many hats has she?", "5")
P2 = number("p2", "Bob is 7.\n\nHe has two sisters.\n\nHow old is Bob?", "7")
QUOTES = "##begin_quote## Ann has 3 hats. ##end_quote##\n##begin_quote##She\nbuys 2.##end_quote##"
BOB = "##begin_quote## Bob is 7. ##end_quote##"


def quoter(ann=QUOTES, problems=(P1, P2), **values):
    teacher = script({"3 hats": ann, "Bob": f"<think>\nHm.\n</think>\n{BOB}"}, name="teacher")
    roles = {
        "teacher": teacher,
        "student": student([BOB], name="pupil"),
        "reader": ScriptedModel(["So \\boxed{7}."], name="reader"),
    }
    return run("llmquoter", list(problems), roles, **values), teacher


def asked(template, **values):
    return fill_template(template, values)


def test_the_teacher_sees_the_answer_and_the_learner_learns_to_quote_without_it():
    ran, teacher = quoter()
    assert ran.texts() == {"p1": [QUOTES], "p2": [BOB]}
    shown = asked(QUOTE, question="How many hats has she?", context=FACTS)
    assert ran.prompts_learnt()[0] == shown
    assert prompts(teacher)[0] == shown.replace("Quotes:", "Answer: 5\n\nQuotes:")
    assert all(row.saw_gold and learns_end(row) for row in ran.rows)
    assert len(teacher.calls) == 2 and teacher.calls[0].sampling.temperature == 0


def test_what_is_not_copied_is_no_row():
    reason_of = {
        "The answer is 5.": "no quote in it",
        "##begin_quote## ##end_quote##": "no quote in it",
        f"{QUOTES} So 5.": "says more than its quotes",
        "##begin_quote## Ann had 3. ##end_quote##": "not in the context: 'Ann had 3.'",
    }
    for reply, reason in reason_of.items():
        ran, _ = quoter(ann=reply)
        assert ran.texts() == {"p2": [BOB]}
        assert [reason] in ran.reasons().values()
    for failure in ({"text": QUOTES, "finish": "length"}, {"error": "down"}):
        assert quoter(ann=failure)[0].texts() == {"p2": [BOB]}


def test_the_control_learns_quotes_that_nobody_checked():
    ran, _ = quoter(ann="##begin_quote## Ann had 3 hats. ##end_quote## So 5.", arm="as-written")
    assert set(ran.texts()) == {"p1", "p2"}


def test_a_problem_without_a_context_or_an_answer_costs_no_call():
    bare = [number("p3", "What is 2 + 2?", "4"), number("p4", P1.question, None)]
    ran, teacher = quoter(problems=[P2, *bare])
    assert len(teacher.calls) == 1
    assert ran.reasons()["has_context"] == [
        "no context before its question",
        "the problem has no gold answer",
    ]
    with pytest.raises(StageError):
        quoter(problems=bare)


@pytest.mark.parametrize("arm", ["quotes", "untrained", "full-context"])
def test_the_reader_sees_the_quotes_or_in_the_control_the_context(arm):
    ran, _ = quoter(arm=arm)
    assert len(ran.stages) == (arm == "quotes")
    reader = ran.solver.args[-1]
    answers = ran.solver([P2], n=2, temperature=0.5)
    assert [answer.text for answer in answers] == ["So \\boxed{7}."] * 2
    text = split_question(P2.question)[0] if arm == "full-context" else BOB
    assert set(prompts(reader)) == {asked(READ, text=text, question="How old is Bob?")}


def test_quoter_and_reader_see_the_choices_of_a_question():
    problem = Problem("p5", "Bob is 7.\n\nHow old is Bob?", "B", kind="choice", choices=("6", "7"))
    ran, teacher = quoter(problems=[blank(problem)])
    ran.solver([blank(problem)], n=1)
    for prompt in (prompts(teacher)[0], prompts(ran.solver.args[-1])[0]):
        assert "Question: How old is Bob?\nA. 6\nB. 7" in prompt


def test_without_a_reader_the_student_reads_as_it_was():
    pupil = ScriptedModel(["##begin_quote## Bob is 7. ##end_quote##"], weights=NOWHERE)
    ran = run("llmquoter", [P2], {"teacher": script({"": BOB}), "student": pupil})
    assert ran.solver.args == (pupil, pupil)


def test_the_oracle_knows_the_prompt_for_quotes():
    assert choose_role(asked(QUOTE, question="How many?", context="A story.")).name == "quoter"


@pytest.mark.slow
def test_it_runs_on_the_built_in_world(tmp_path):
    pytest.importorskip("torch", reason="needs the extra potstill[local]")
    rows = run_on_world(tmp_path, "llmquoter", roles=["teacher=world:oracle"], sets=[]).rows
    assert len(rows["llmquoter"]) == 16
    assert all(row["completion"].startswith("##begin_quote## ") for row in rows["llmquoter"])
