"""DAP, exactly: which prompt shows what, and which rewrites are rows."""

from __future__ import annotations

from dataclasses import replace

import pytest
from scripted_replies import HEADINGS, LONG_WINDED
from scripted_world import number, run, student

from potstill.methods.rewriting.dap import GENERATE, LEVELS, REWRITE, UNIFORM, level_of
from potstill.models.model import Sampling
from potstill.models.scripted import ScriptedModel
from potstill.runs.cast import Cast
from potstill.traces import fill_template

# The world's chains are short: here detours are what a rewrite leaves out.
CAST = Cast(models={"teacher": LONG_WINDED, "editor": HEADINGS})

P1, P2 = number("p1", "What is 2 + 3 + 4?", "9"), number("p2", "What is 3 + 4 + 5?", "12")
LONG = {
    "p1": "<think>\n2 + 3 = 5. 3 + 2 = 5. 5 + 4 = 9. 4 + 5 = 9.\n</think>\n"
    + "It is \\boxed{9}. " * 12,
    "p2": "<think>\n3 + 4 = 7. 7 + 5 = 12.\n</think>\n" + "It is \\boxed{12}. " * 12,
}
SIMPLE = "**Analysis:** Sums.\n**Approach:** 2 + 3 = 5.\n**Summary:** 5 + 4 = 9.\n**Solution:** \\boxed{9}"
BARE = "The answer is \\boxed{12}."


def shown(template, problem):
    values = {"question": problem.question, "text": LONG[problem.problem.id]}
    return fill_template(template, values)


def dap(template=REWRITE, first=SIMPLE, second=BARE, **values):
    teacher = ScriptedModel({p.prompt: [LONG[p.problem.id]] for p in (P1, P2)})
    editor = ScriptedModel({shown(template, P1): [first], shown(template, P2): [second]})
    roles = {"teacher": teacher, "editor": editor, "student": student(["-"])}
    return run("dap", [P1, P2], roles, **values), editor


def test_a_right_rewrite_in_the_form_of_a_level_is_a_row_under_the_bare_prompt():
    ran, editor = dap()
    [row] = ran.rows
    assert (row.text, row.prompt, row.scores["level"]) == (SIMPLE, P1.prompt, "simple")
    assert row.author.model == editor.id and not row.saw_gold
    assert {request.sampling for request in editor.calls} == {Sampling(0.0, max_new_tokens=8192)}
    assert ran.dropped("has_level") == [(BARE, "not in the form of one of the levels")]


@pytest.mark.parametrize(
    ("reply", "test"),
    [
        (SIMPLE.replace("9}", "8}"), "right"),
        ("Hm.", "right"),
        ({"error": "down"}, "is_finished"),
        ({"text": SIMPLE, "finish": "length"}, "is_finished"),
        (SIMPLE + " and so on" * 40, "is_shorter"),
        (SIMPLE.replace("5 + 4 = 9", "Done"), "reasons_enough"),
    ],
)
def test_other_rewrites_are_dropped_with_a_reason(reply, test):
    good = SIMPLE.replace("2 + 3 = 5", "3 + 4 = 7").replace("5 + 4 = 9", "7 + 5 = 12")
    ran, _ = dap(first=reply, second=good.replace("{9}", "{12}"))
    assert [row.problem.id for row in ran.rows] == ["p2"]
    [drop] = ran.book.drops
    assert drop.test.startswith(test) and drop.reason


def test_each_level_is_known_by_all_of_its_headings():
    for level, headings in LEVELS.items():
        text = "\n".join(f"**{heading}:** words" for heading in (*headings, "Solution"))
        assert level_of(replace(P1, text=text)) == level
        assert level_of(replace(P1, text=text.replace("**Summary:** words", ""))) == ""
    assert level_of(P1) == ""


def test_the_controls_show_one_instruction_no_chain_or_rewrite_nothing():
    uniform, _ = dap(UNIFORM, first="2 + 3 = 5, 5 + 4 = 9: \\boxed{9}", arm="uniform")
    assert [row.text for row in uniform.rows] == ["2 + 3 = 5, 5 + 4 = 9: \\boxed{9}"]
    assert [row.text for row in dap(arm="long")[0].rows] == [LONG["p1"], LONG["p2"]]
    solved = replace(P1, problem=replace(P1.problem, solution="5, then 9."))
    for problem, gold in ((P1, "9"), (solved, "5, then 9.")):
        asked = fill_template(GENERATE, {"prompt": P1.prompt, "gold": gold})
        teacher = ScriptedModel({asked: [SIMPLE]})
        ran = run("dap", [problem], {"teacher": teacher, "student": student(["-"])}, arm="generate")
        [row] = ran.rows
        assert row.text == SIMPLE and row.saw_gold and len(teacher.calls) == 1


def test_the_writers_own_thought_is_no_part_of_the_row():
    for thought in ("<think>\nIs it simple?\n</think>\n\n", "Is it simple?\n</think>\n"):
        assert dap(first=thought + SIMPLE)[0].texts() == {"p1": [SIMPLE]}
