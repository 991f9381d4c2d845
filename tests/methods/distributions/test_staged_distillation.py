"""TED and born-again networks, exactly: their stages, and what one stage hands to the next."""

from __future__ import annotations

import pytest
from scripted_world import run, student

from potstill.errors import StageError
from potstill.records import Problem, blank

SUM = blank(Problem("p1", "What is 2 + 2?", "4", kind="number", solution="2 + 2 = 4."))
BARE = blank(Problem("p2", "What is 3 + 4?", "7", kind="number"))


def pupils(*roles):
    return {role: student(["It is \\boxed{4}."], name=role) for role in roles}


def test_teds_filters_learn_first_and_the_student_begins_with_them():
    models = pupils("teacher", "student")
    ran = run("ted", [SUM, BARE], models)
    filters, second = ran.stages
    assert (filters.name, filters.objective) == ("filters", "ted_filters")
    assert filters.constants == {
        "teacher": models["teacher"],
        "layers": 0,
        "projector_lr": 1e-3,
    }
    assert (second.name, second.objective) == ("student", "ted")
    assert second.constants["filters"] is filters.model and second.constants["kl"] == 1.0
    assert [row.text for row in ran.rows] == ["2 + 2 = 4."]
    assert not models["teacher"].calls


def test_teds_controls_do_without_the_first_stage():
    [fresh] = run("ted", [SUM], pupils("teacher", "student"), arm="fresh-filters").stages
    assert fresh.objective == "ted" and "filters" not in fresh.constants
    [plain] = run("ted", [SUM], pupils("teacher", "student"), arm="no-layers", kl=3.0).stages
    assert (plain.objective, plain.constants["kd"]) == ("forward_kl", 0.75)


def test_each_generation_begins_anew_and_learns_from_the_one_before():
    models = pupils("student")
    ran = run("born_again", [SUM, BARE], models, generations=2)
    assert [(stage.name, stage.objective) for stage in ran.stages] == [
        ("generation-0", "sft"),
        ("generation-1", "forward_kl"),
        ("generation-2", "forward_kl"),
    ]
    assert all(stage.model is models["student"] for stage in ran.stages)
    objectives = [
        run("born_again", [SUM], pupils("student"), arm=arm, generations=1).stages[1].objective
        for arm in ("cwtm", "dkpp")
    ]
    assert objectives == ["cwtm", "dkpp"]
    assert ran.stages[2].constants["kd"] == 1.0 and "teacher" in ran.stages[2].constants
    assert not models["student"].calls


def test_a_writers_right_texts_stand_in_for_solutions():
    ran = run("born_again", [SUM, BARE], pupils("student", "writer"), generations=0)
    assert [row.text for row in ran.rows] == ["It is \\boxed{4}."]
    with pytest.raises(StageError, match="none of 1 problems has one"):
        run("born_again", [BARE], pupils("student"))
