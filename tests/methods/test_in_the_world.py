"""Methods of one stage after another, run on the built-in world's own models: rows that were written, not scripted.

What needs a model that follows instructions (`dap`, `dlcot`, `long_cot`, `system2`, a bridger, an editor of
`o1_journey`) can't be carried by the world's checkpoints, which were taught to solve and nothing else. A program that
knows a story can stand in where solving is what is asked for. `fs_bon` wants examples in its prompt, which the student
never saw: its arm without them is run.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from scripted_replies import GAP_FINDER
from scripted_world import run, stories

pytest.importorskip("torch", reason="needs the extra potstill[local]")

from potstill.runs.sources import world_model

pytestmark = pytest.mark.slow
SIZE = 8


@pytest.fixture(scope="module")
def models():
    return {name: world_model(name, 1) for name in ("teacher", "student", "oracle")}


def run_in_world(models, name, roles, **values):
    """A run on stories; its trainer trains nothing, so a second stage samples the student as it is."""
    return run(
        name, stories(SIZE), {role: models[model] for role, model in roles.items()}, **values
    )


TAUGHT = {"teacher": "teacher", "student": "student"}


@pytest.mark.parametrize("ratio", [0.5, 1.0])
def test_pir_takes_checks_out_of_the_teachers_chains_and_no_step(models, ratio):
    ran = run_in_world(models, "pir", TAUGHT, ratio=ratio)
    whole = run_in_world(models, "pir", TAUGHT, arm="whole")
    assert ran.texts().keys() == whole.texts().keys() and len(ran.rows) > SIZE // 2
    shorter = [row for row in ran.rows if row.text not in whole.texts()[row.problem.id]]
    assert shorter and all(row.scores["steps"] == 1 for row in ran.rows)


def test_dualformers_rows_are_right_at_every_level(models):
    ran = run_in_world(models, "dualformer", TAUGHT, copies=8)
    assert len(ran.rows) > SIZE and {row.verdict.status for row in ran.rows} == {"right"}
    assert any(row.text.startswith("<think></think>\n") for row in ran.rows)


def test_the_students_shortest_samples_are_learnt(models):
    ran = run_in_world(models, "fs_bon", {"student": "student"}, arm="bon", n=8, max_new_tokens=192)
    assert ran.rows and all(row.scores["steps"] == 1 for row in ran.rows)


@pytest.mark.parametrize(
    ("name", "roles", "values"),
    [
        ("hinted", {"teacher": "oracle", "student": "student"}, {"shots": 0}),
        ("synthetic_cot", {"teacher": "oracle", "student": "student"}, {}),
        ("o1_journey", {**TAUGHT, "editor": "oracle"}, {}),
        ("cot_bridge", {**TAUGHT, "bridger": "oracle"}, {}),
    ],
)
def test_a_program_that_reads_the_story_can_be_the_teacher_or_the_editor(
    models, name, roles, values
):
    ran = run_in_world(models, name, roles, **values)
    assert len(ran.rows) > SIZE // 2 and all(row.scores["steps"] == 1 for row in ran.rows)


@pytest.mark.parametrize(("name", "values"), [("redistill", {}), ("still2", {"n": 4, "rounds": 1})])
def test_the_students_own_samples_follow_the_teachers_chains(models, name, values):
    ran = run_in_world(models, name, TAUGHT, max_new_tokens=192, **values)
    student_id = models["student"].id
    assert any(row.author.model == student_id for row in ran.rows)
    assert {row.author.model for row in ran.stages[0].rows} == {models["teacher"].id}


def test_steps_that_stories_solutions_lack_are_put_back_where_they_were(models):
    whole = {trace.problem.id: trace.problem.solution for trace in stories(SIZE)}
    gapped = []
    for trace in stories(SIZE):
        sentences = trace.problem.solution.split(". ")
        solution = ". ".join(sentences[:1] + sentences[2:])
        gapped.append(replace(trace, problem=replace(trace.problem, solution=solution)))
    ran = run("cot_bridge", gapped, {"bridger": GAP_FINDER, "student": models["student"]})
    assert {row.problem.id: row.text.strip() for row in ran.rows} == whole
    assert all(row.scores["steps"] == 1 for row in ran.rows)
    elsewhere = run(
        "cot_bridge",
        gapped,
        {"bridger": GAP_FINDER, "student": models["student"]},
        arm="random-place",
    )
    assert sum(row.text.strip() == whole[row.problem.id] for row in elsewhere.rows) < SIZE
