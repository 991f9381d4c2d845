"""Table-Critic, exactly: who is shown what of a chain, what is written anew, how the tree grows, and what is learnt."""

from __future__ import annotations

import pytest
from scripted_world import NOWHERE, ORACLE, number, prompts, run, script
from world_run import run_on_world

from potstill.methods.judges.table_critic import tree
from potstill.methods.judges.table_critic.prompts import FIRST_TREE
from potstill.records import learnt_stretches
from potstill.runs.cast import Cast

CAST = Cast(models={"critic": ORACLE})
P1, P2 = number("p1", "What is 2 + 2 + 3?", "7"), number("p2", "What is 3 + 4?", "7")
FIRST, SLIP, MENDED = "2 + 2 = 4.\n\n", "4 + 3 = 8, so \\boxed{8}.", "4 + 3 = 7, so \\boxed{7}."
CORRECT, INCORRECT = "Yes.\nConclusion: [Correct]", "No.\nConclusion: [Incorrect]"
CRITIQUE = "Step 1 is right. Step 2 adds wrongly.\nConclusion: [Incorrect] Step 2"
TEACHER = {
    "Go on with a solution": MENDED,
    P1.question: FIRST + SLIP,
    P2.question: "So \\boxed{7}.",
}
ROUTE = "Conclusion: [Incorrect] (final query error)"
CRITIC = {
    ("Judge whether", "answer:\n8"): INCORRECT,
    "Judge whether": CORRECT,
    "Find out which kind": ROUTE,
    "Find the first wrong step": CRITIQUE,
    "": "Conclusion: no",
}


def mend(critic=None, teacher=None, **values):
    roles = {
        "teacher": script({**TEACHER, **(teacher or {})}),
        "student": script(TEACHER, weights=NOWHERE),
        "critic": script({**(critic or {}), **CRITIC, **(critic or {})}),
    }
    return run("table_critic", [P1, P2], roles, **values), roles


def asked(model, phrase: str) -> list[str]:
    return [prompt for prompt in prompts(model) if phrase in prompt]


def test_a_chain_is_written_anew_from_its_first_wrong_step_on():
    ran, roles = mend()
    assert ran.texts() == {"p1": [FIRST + MENDED], "p2": ["So \\boxed{7}."]}
    row = next(row for row in ran.rows if row.problem.id == "p1")
    assert row.prompt == P1.prompt and not row.saw_gold
    assert learnt_stretches(row) == [(0, len(row.text))]  # the steps before are the teacher's too
    critic, teacher = roles["critic"], roles["teacher"]
    assert len(asked(critic, "Judge whether")) == 3 and len(critic.calls) == 6
    # The judge sees no step, and the refiner nothing behind the wrong one.
    assert not any("2 + 2 = 4" in prompt for prompt in asked(critic, "Judge whether"))
    [prompt] = asked(teacher, "Go on with a solution")
    assert f"are right:\n{FIRST.strip()}\n" in prompt and SLIP in prompt and CRITIQUE in prompt
    [prompt] = asked(critic, "Find the first wrong step")
    assert "By how many wins" in prompt and "Ulm" not in prompt  # critiques of its kind
    assert "Step 2\n\n\nThe reasoning to look at:\n\nProblem:" in prompt
    [prompt] = asked(critic, "told apart")
    assert f"List 2:\nProblem:\n{P1.prompt}\n\nReasoning:\nStep 1" in prompt and CRITIQUE in prompt
    assert f"Step 1: 2 + 2 = 4.\nStep 2: {SLIP}" in prompt and P1.prompt in prompt


def test_the_controls_show_a_tree_that_does_not_grow_no_critiques_or_mend_nothing():
    ran, roles = mend(arm="fixed-tree")
    assert len(roles["critic"].calls) == 5 and ran.texts()["p1"] == [FIRST + MENDED]
    ran, roles = mend(arm="no-templates")
    assert len(roles["critic"].calls) == 4 and "Example" not in prompts(roles["critic"])[2]
    ran, roles = mend(arm="unrefined")
    assert ran.texts() == {"p2": ["So \\boxed{7}."]} and not roles["critic"].calls


def test_rounds_end_and_what_is_still_wrong_is_no_row():
    worse = {"Go on with a solution": "4 + 3 = 9: \\boxed{9}."}
    ran, roles = mend({("Judge whether", "answer:\n9"): INCORRECT}, worse, rounds=2)
    assert ran.texts() == {"p2": ["So \\boxed{7}."]}
    assert len(asked(roles["teacher"], "Go on with a solution")) == 2
    assert len(asked(roles["critic"], "told apart")) == 0  # a critique that did not help


@pytest.mark.parametrize(
    "reply", ["It is wrong.", "Conclusion: [Incorrect] Step 7", {"error": "down"}]
)
def test_a_critique_that_names_no_step_leaves_the_chain_as_it_is(reply):
    ran, roles = mend({"Find the first wrong step": reply})
    assert ran.texts() == {"p2": ["So \\boxed{7}."]}
    assert not asked(roles["teacher"], "Go on with a solution")


def test_a_refinement_that_failed_and_a_verdict_that_can_not_be_read_change_nothing():
    for reply in ({"error": "down"}, {"text": MENDED, "finish": "length"}):
        ran, _ = mend(teacher={"Go on with a solution": reply})
        assert ran.texts() == {"p2": ["So \\boxed{7}."]}
    ran, roles = mend({("Judge whether", "answer:\n7"): "[Correct] or [Incorrect]"}, rounds=1)
    assert ran.texts()["p1"] == [FIRST + MENDED] and not asked(roles["critic"], "told apart")


def test_a_critique_that_helped_splits_a_kind_of_error_or_adds_one():
    route, template = "final query error", "critique"
    grown = tree.split_leaf(FIRST_TREE, route, ["sum", "count"], template)
    assert list(grown) == ["sub-table error", f"{route} -> sum", f"{route} -> count"]
    assert grown[f"{route} -> count"] == (template,)
    assert len(tree.add_template(FIRST_TREE, route, template)[route]) == 2
    assert tree.extend_tree(grown, f"{route} -> unit", "new")[f"{route} -> unit"] == ("new",)
    assert tree.extend_tree(grown, "sub-table error -> row", "new") == grown
    assert tree.read_names(["row\nerror", "a(b", "x" * 61, " two  words "]) == [
        "row error",
        "two words",
    ]
    assert len(tree.choose_templates(grown, "random", "p1")) == 3


def test_later_shares_see_what_earlier_ones_have_grown():
    teacher = {P2.question: FIRST + SLIP}
    ran, roles = mend({"told apart": "Conclusion: <sum> <count>"}, teacher, shares=2)
    assert (
        len(asked(roles["critic"], "told apart"))
        + len(asked(roles["critic"], "tree does not have"))
        == 2
    )
    last = asked(roles["critic"], "Find out which kind")[1]
    assert "final query error -> sum\nfinal query error -> count" in last
    assert sorted(ran.texts()) == ["p1", "p2"]


def test_a_leaf_that_was_split_in_the_same_round_takes_no_other_critique():
    teacher = {P2.question: FIRST + SLIP}
    ran, roles = mend({"told apart": "Conclusion: <sum> <count>"}, teacher, shares=1)
    assert len(asked(roles["critic"], "told apart")) == 1 and sorted(ran.texts()) == ["p1", "p2"]


def test_a_student_is_measured_with_the_crew():
    ran, roles = mend(answer_by="refined")
    answers = ran.solver([P1], n=2, temperature=0.9)
    assert [answer.text for answer in answers] == [FIRST + MENDED] * 2
    assert len(asked(roles["student"], "Go on with a solution")) == 2
    # The measurement decides how the student is sampled, and the method how it is criticised.
    assert {call.sampling.temperature for call in roles["student"].calls} == {0.9}
    assert {call.sampling.temperature for call in roles["critic"].calls} == {0.0}


def test_an_answer_that_was_cut_is_not_criticised():
    ran, roles = mend(answer_by="refined")
    crew, leaves = ran.solver.args
    cut = script({"": {"text": FIRST + SLIP, "finish": "length"}})
    calls = len(roles["critic"].calls)
    [answer] = ran.solver.func(crew._replace(refiner=cut), leaves, [P1])
    assert answer.text == FIRST + SLIP and len(roles["critic"].calls) == calls


@pytest.mark.slow
def test_it_runs_on_the_built_in_world(tmp_path):
    """The world has no tables: the crew mends the steps of stories."""
    pytest.importorskip("torch", reason="needs the extra potstill[local]")
    roles = ["teacher=world:student", "critic=world:oracle"]
    ran = run_on_world(tmp_path, "table_critic", roles=roles, sets=["rounds=1"])
    assert ran.rows["table_critic"]
