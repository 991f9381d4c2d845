"""Memory and reason, exactly: who sees what, what takes the place of a question of fact, and what is learnt."""

from __future__ import annotations

import pytest
from scripted_world import ORACLE, number, prompts, run, script, student
from world_run import run_on_world

from potstill.methods.knowledge.memory_reason import PLAN, RECALL, read_facts
from potstill.records import learns_end
from potstill.runs.cast import Cast
from potstill.traces import fill_template
from potstill.world.oracle.program import choose_role

CAST = Cast(models={"teacher": ORACLE})

P1, P2 = number("p1", "How many legs have two spiders?", "16"), number("p2", "What is 2 + 2?", "4")
LEGS = """\
<think>
Hm.
</think>
Here is the plan:
1. **[memory]** How many legs
has a spider?
2. [Reason]: So two have twice as many."""
TWO = "[reason] Two and two make four."
ROW = "[memory] It has eight.\n[reason] So two have twice as many.\n[answer] The answer is \\boxed{16}."


def label(plan=LEGS, facts="1. It has\neight.", **values):
    """Two problems, one of which needs a fact; the knower is a model of its own."""
    teacher = script({("Plan", "legs"): plan, "Plan": TWO, "": "So \\boxed{4}."}, name="teacher")
    knower = script({"": facts}, name="knower")
    roles = {"teacher": teacher, "student": student(["Hm."]), "knower": knower}
    return run("memory_reason", [P1, P2], roles, **values), teacher, knower


def test_facts_are_asked_for_apart_and_stand_where_the_plan_asked():
    ran, teacher, knower = label()
    two = "[reason] Two and two make four.\n[answer] The answer is \\boxed{4}."
    assert ran.texts() == {"p1": [ROW], "p2": [two]}
    assert ran.prompts_learnt() == [P1.prompt, P2.prompt]
    assert prompts(teacher)[0] == fill_template(PLAN, {"prompt": P1.prompt, "answer": "16"})
    asked = {"questions": "1. How many legs has a spider?"}
    assert prompts(knower) == [fill_template(RECALL, asked)]
    assert len(teacher.calls) == 2 and teacher.calls[0].sampling.temperature == 1
    assert all(row.saw_gold and learns_end(row) for row in ran.rows)
    assert ran.stages[0].constants == {"num_train_epochs": 10, "learning_rate": 2e-4}


def test_what_cannot_be_read_is_tried_again_and_only_that():
    ran, teacher, knower = label(facts=["2. It has eight.", "1. It has eight."], tries=3)
    assert ran.texts()["p1"] == [ROW]
    assert (len(teacher.calls), len(knower.calls)) == (3, 2)
    assert ran.reasons()["answers_each_question"] == ["0 facts for 1 questions"]


def test_a_plan_without_steps_or_a_failure_is_no_row():
    for plan in ("It is 16.", {"error": "down"}, {"text": LEGS, "finish": "length"}):
        ran, _, knower = label(plan=plan, tries=2)
        assert set(ran.texts()) == {"p2"} and not knower.calls
    ran, _, _ = label(facts={"error": "down"}, tries=1)
    assert set(ran.texts()) == {"p2"}


def test_the_controls_learn_the_steps_without_their_labels_or_other_chains():
    ran, _, _ = label(arm="unlabelled")
    assert ran.texts()["p1"] == [
        ROW.replace("[memory] ", "").replace("[reason] ", "").replace("[answer] ", "")
    ]
    ran, _, _ = label(arm="shuffled")
    [shuffled] = ran.texts()["p1"]
    assert sorted(shuffled) == sorted(ROW) and shuffled.endswith(
        "[answer] The answer is \\boxed{16}."
    )
    ran, _, knower = label(arm="chains")
    assert ran.texts() == {"p2": ["So \\boxed{4}."]} and not knower.calls
    assert not ran.rows[0].saw_gold


def test_facts_are_a_numbered_list_without_gaps():
    assert read_facts("Here:\n1. A.\n\n2) B\nC.") == ["A.", "B C."]
    assert read_facts("1. A.\n3. B.") == read_facts("1. A.\n1. B.") == read_facts("A.") == []
    assert read_facts("1. \n2. B.") == []


def test_the_oracle_knows_both_prompts():
    assert {choose_role(PLAN).name, choose_role(RECALL).name} == {"recaller"}


@pytest.mark.slow
def test_it_runs_on_the_built_in_world(tmp_path):
    pytest.importorskip("torch", reason="needs the extra potstill[local]")
    # The world's student has never seen a label: two steps leave a loss that rounding to bfloat16 moves.
    sets = ["training.dtype=float32"]
    rows = run_on_world(tmp_path, "memory_reason", roles=["teacher=world:oracle"], sets=sets).rows
    texts = [row["completion"] for row in rows["memory_reason"]]
    assert len(texts) == 16 and any("[memory] " in text for text in texts)
