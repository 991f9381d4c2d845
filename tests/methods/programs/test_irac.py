"""IRAC, exactly: what is restructured, in which form it is learnt, and how many questions of a domain there are."""

from __future__ import annotations

import dataclasses
import json

import pytest
from oracle_roles import assert_answer_depends_on
from scripted_world import NOWHERE, prompts, run, script
from world_run import run_on_world

from potstill.errors import InputError, StageError
from potstill.methods.programs.irac import PARTS, RESTRUCTURE, AnswerForm
from potstill.records import Problem, blank
from potstill.runs.cast import Cast
from potstill.traces import ReferenceGate

# The scripted teacher writes four short drafts.
CAST = Cast(values={"gate": ReferenceGate(min_step_share=0, min_length_share=0)}, poses=True)
CHOICES = ("guilty", "not guilty")
WHY = "He was attacked. He defended himself. So he is not guilty."


def question(name, text, answer="B", domain="Crimes", solution=WHY):
    metadata = {"domain": domain}
    fields = {"choices": CHOICES, "solution": solution, "metadata": metadata}
    return blank(Problem(name, text, answer, kind="choice", **fields), f"Q: {text}")


P1 = question("p1", "Is he guilty?")
P2 = question("p2", "Is she guilty?", domain="Torts")
REPLY = """<concept>Self-defence.</concept>
<facts>He was
attacked.</facts>
<application>Who is attacked may defend himself. He defended himself.</application>
<conclusion>So he is not guilty.</conclusion>"""
LEARNT = """1. Domain: Crimes
2. Legal Concept: Self-defence.
3. Fact Analysis: He was attacked.
4. Rule Application: Who is attacked may defend himself. He defended himself.
5. Legal Conclusion: So he is not guilty.
6. Answer: \\boxed{B}"""


def irac(replies=None, problems=(P1, P2), **values):
    teacher = script(replies or {"": REPLY})
    pupil = script({"": LEARNT}, weights=NOWHERE)
    values = {"domain": "domain", **values}
    return (
        run("irac", list(problems), {"teacher": teacher, "student": pupil}, **values),
        teacher,
        pupil,
    )


def test_an_explanation_is_restructured_with_its_answer_in_view_and_learnt_in_parts():
    ran, teacher, pupil = irac()
    assert ran.texts()["p1"] == [LEARNT] and "1. Domain: Torts" in ran.texts()["p2"][0]
    [shown] = {prompt for prompt in ran.prompts_learnt() if P1.prompt in prompt}
    assert shown.startswith("Answer the question in this form:\n\n1. Domain: the field")
    assert shown.endswith(f"6. Answer: the chosen answer, in \\boxed{{}}\n\n{P1.prompt}")
    asked = prompts(teacher)[0]
    assert (
        "A) guilty" in asked.replace("A. ", "A) ") and "Right answer: B" in asked and WHY in asked
    )
    assert len(teacher.calls) == 2 and all(row.saw_gold for row in ran.rows)
    ran.solver([P1])
    assert prompts(pupil) == [shown]


def test_replies_without_a_part_and_parts_that_say_little_are_no_rows():
    little = "".join(f"<{name}>B</{name}>" for name in PARTS)
    for reply, test, reason in (
        ("He is not guilty.", "write_paragraphs", "write_paragraphs returned nothing"),
        ({"text": REPLY, "finish": "length"}, "is_finished", "not finished"),
        (little, "reasons_enough", "too few steps: 0 where the reference has 3"),
    ):
        ran, _, _ = irac({P1.question: reply, "": REPLY})
        assert list(ran.texts()) == ["p2"] and ran.reasons() == {test: [reason]}


@pytest.mark.parametrize("layout", ["numbered", "markdown", "json"])
@pytest.mark.parametrize("order", ["explanation-first", "answer-first"])
def test_every_layout_and_order_is_read_by_the_verifier(layout, order):
    ran, _, _ = irac(form=AnswerForm(order=order, layout=layout))
    [text] = ran.texts()["p1"]
    is_first = text.index("Answer") < text.index("Concept")
    assert is_first == (order == "answer-first")
    assert layout != "json" or json.loads(text)["Answer"] == "\\boxed{B}"
    assert layout != "markdown" or "## Rule Application\nWho is attacked" in text


def test_controls_learn_the_explanation_as_it_is_or_another_number_of_questions():
    ran, teacher, _ = irac(arm="unstructured")
    assert ran.texts()["p1"] == [
        f"1. Domain: Crimes\n2. Explanation: {WHY}\n3. Answer: \\boxed{{B}}"
    ]
    assert not teacher.calls
    more = [question(f"p{number}", f"Is number {number} guilty?") for number in range(3, 7)]
    for per_domain, rows in ((1, 2), (3, 4), (0, 6)):
        ran, _, _ = irac(problems=[P1, P2, *more], per_domain=per_domain)
        assert len(ran.rows) == rows
    ran, _, _ = irac(problems=[P1, *more], domain="", form=AnswerForm(example=True))
    assert len(ran.rows) == 4 and "Domain" not in ran.rows[0].text
    [example] = {
        prompt.split("Example:\n")[1].split("\n\nNow")[0] for prompt in ran.prompts_learnt()
    }
    assert not any(row.question in example for row in ran.rows)


def test_problems_without_explanations_or_domains_are_refused():
    with pytest.raises(StageError, match="none of 1 problems has one"):
        irac(problems=[question("p", "Is it?", solution=None)])
    bare = blank(dataclasses.replace(P1.problem, metadata={}))
    with pytest.raises(InputError, match="domain of each problem"):
        irac(problems=[P2, bare])


def test_the_worlds_restructurer_sorts_what_it_is_shown():
    ned = "Ned has 19 shells. Then Ned sells 14. How many shells does Ned have now?"
    values = {"question": ned, "choices": "", "answer": "5", "solution": "19 - 14 = 5."}
    changes = {"question": ned.replace("19", "29"), "answer": "6", "solution": "Five."}
    assert_answer_depends_on("restructurer", RESTRUCTURE, values, changes)


@pytest.mark.slow
def test_it_runs_on_the_built_in_world(tmp_path):
    pytest.importorskip("torch", reason="needs the extra potstill[local]")
    sets = ["domain=level", "per_domain=4"]
    rows = run_on_world(tmp_path, "irac", roles=["teacher=world:oracle"], sets=sets).rows["irac"]
    assert len(rows) == 8  # stories of two or three events, four of each
    assert all("Rule Application: " in row["completion"] for row in rows)
