"""An arm of two stages: each has its settings, rows, student, measurement, card and export; and one without a stage."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("torch", reason="needs the extra potstill[local]")
pytestmark = pytest.mark.slow

from potstill.cli import main
from potstill.cli.rows import read_rows
from potstill.errors import ConfigError, StageError
from potstill.evaluation.results import load, outcome
from potstill.methods.catalogue import describe_method, find_method
from potstill.models.scripted import ScriptedModel
from potstill.report.page import render_page
from potstill.runs import conformance
from potstill.runs.cast import Case
from potstill.runs.experiment import execute
from potstill.runs.finished import open_run
from potstill.runs.recipe import Recipe, from_data
from potstill.store.store import Store
from potstill.world import story

SIZE = 6
PROBLEMS = story.problems("story-easy", size=SIZE, seed=3)
METHODS = """
from functools import partial
from potstill.models.model import Model, Trainable
from potstill.records import Stage
from potstill.traces import keep, right, sample, verify


def two(problems, teacher: Model, student: Trainable):
    "A warm-up on four chains, then all of them."
    chains = keep(right, verify(sample(teacher, problems)))
    student = yield Stage(student, chains[:4], "sft", name="warm-up")
    yield Stage(student, chains, "sft")


def ensemble(problems, student: Model):
    "Trains nothing: its solver is what is measured."
    return partial(first_answer, student)
    yield


def first_answer(student, problems, **settings):
    return sample(student, problems, **settings)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("stages")
    (made / "mine.py").write_text(METHODS)
    (made / "teacher.json").write_text(json.dumps({p.question: p.solution for p in PROBLEMS}))
    return made


def recipe(folder: Path, student: Path, method: str = "two", **parts: Any) -> Recipe:
    data = {
        "method": f"{folder / 'mine.py'}:{method}",
        "roles": {"student": f"transformers:{student}"},
        "problems": f"world:story-easy?size={SIZE}&seed=3",
        "evaluate": {
            "problems": "world:story-easy?size=2&seed=3&split=test",
            "n": 1,
            "sampling": {"max_new_tokens": 4},
            "stages": True,
        },
        "training": {"max_steps": 2, "batch_size": 2, "lr": 1e-3, "warm-up": {"max_steps": 1}},
        "overlap_n": 0,
    }
    if method == "two":
        data["roles"]["teacher"] = f"scripted:{folder / 'teacher.json'}"
    else:
        data["training"] = {}
    return from_data({**data, **parts})


@pytest.fixture(scope="module")
def ran(folder: Path, tiny_checkpoint: Path) -> SimpleNamespace:
    made = recipe(folder, tiny_checkpoint)
    out = folder / "run"
    return SimpleNamespace(recipe=made, out=out, results=execute(made, out, threads=1))


def test_each_stage_is_measured_and_so_is_the_arm(ran) -> None:
    assert list(ran.results.evaluations) == ["untrained", "two/warm-up", "two"]
    assert [(c.arm, c.base) for c in ran.results.comparisons] == [
        ("two/warm-up", "untrained"),
        ("two", "untrained"),
    ]
    assert ran.results.costs["two/warm-up"]["student/evaluation"].calls == 2
    assert "two/warm-up" in render_page(ran.results)


def test_each_stage_is_in_the_funnel_and_in_the_lengths(ran) -> None:
    trained = [step for step in ran.results.funnels["two"].steps if step.operator == "train"]
    assert [(step.label, step.taken) for step in trained] == [
        ("rows of warm-up", 4),
        ("rows of 2", SIZE),
    ]
    counts = {
        name: lengths["rows"].count
        for name, lengths in ran.results.lengths.items()
        if "rows" in lengths
    }
    assert counts == {"two/warm-up": 4, "two/2": SIZE, "two": SIZE}


def test_rows_alone_and_then_the_whole_run_in_one_folder(
    folder: Path, tiny_checkpoint: Path, tmp_path: Path, monkeypatch
) -> None:
    made = recipe(folder, tiny_checkpoint)
    collected = execute(made, tmp_path, threads=1, rows_only=True)
    assert collected.evaluations == {} and collected.training == {"two": {}}
    assert "nothing was trained or measured" in collected.notes[-1]
    assert len((tmp_path / "rows" / "two.jsonl").read_text().splitlines()) == 4
    monkeypatch.setattr(ScriptedModel, "write", refuse_to_write)
    whole = execute(made, tmp_path, threads=1)
    assert outcome(whole)["measures"] and len(whole.training) == 3


def refuse_to_write(*_: object) -> None:
    raise AssertionError("the teacher was asked again")


def test_each_stage_has_its_settings_and_its_student(ran) -> None:
    trainings = ran.results.training
    assert {name: (t["rows"], t["steps"]) for name, t in trainings.items()} == {
        "two/warm-up": (4, 1),
        "two/2": (SIZE, 2),
        "two": (SIZE, 2),
    }
    assert trainings["two/warm-up"]["student"] != trainings["two/2"]["student"]
    with Store.open(ran.out, readonly=True) as store:
        stages = store.history.stages("two")
        students = [store.students.get(stage.stage) for stage in stages]
    assert [stage.label for stage in stages] == ["warm-up", "2"]
    assert [student.settings["max_steps"] for student in students] == [1, 2]


def test_each_stage_has_its_rows(ran) -> None:
    for name, count in (("two.jsonl", SIZE), ("two/warm-up.jsonl", 4), ("two/2.jsonl", SIZE)):
        assert len((ran.out / "rows" / name).read_text().splitlines()) == count
    run = open_run(ran.out)
    assert run.stages("two") == ["warm-up", "2"] and run.arms == ["untrained", "two/warm-up", "two"]
    assert (len(run.rows("two", "warm-up")), len(run.rows("two"))) == (4, SIZE)
    assert len(read_rows(str(ran.out), arm="two", stage="warm-up").traces) == 4
    with pytest.raises(StageError, match="no stage 'warmup'") as refused:
        run.rows("two", "warmup")
    assert refused.value.nearest == ("warm-up",)


def test_each_stage_is_exported_with_a_card_that_names_it(ran, folder: Path, capsys) -> None:
    for stage, count in (("warm-up", 4), ("2", SIZE), ("", SIZE)):
        out = folder / f"card-{stage}"
        words = ["export", str(ran.out), "--arm", "two", "--format", "trl", "--out", str(out)]
        assert main([*words, *(["--stage", stage] if stage else [])]) == 0
        assert len((out / "train.jsonl").read_text().splitlines()) == count
        card = (out / "README.md").read_text()
        assert f"stage: {stage or '2'} of the arm two" in card
        assert f"{count:,} rows in the layout" in card
    capsys.readouterr()


def test_the_same_call_again_trains_nothing_and_says_the_same(ran, monkeypatch) -> None:
    from potstill.training.trainer import StudentTrainer

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a finished run trained")

    monkeypatch.setattr(StudentTrainer, "train", refuse)
    again = execute(ran.recipe, ran.out, threads=1)
    assert outcome(again)["training"] == outcome(ran.results)["training"]
    assert (
        outcome(load(ran.out / "results.json"))["evaluations"]
        == outcome(ran.results)["evaluations"]
    )


def test_settings_of_a_stage_that_never_comes_are_refused_before_anything_is_asked(
    folder: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    made = recipe(folder, tiny_checkpoint, training={"max_steps": 1, 3: {"max_steps": 1}})
    with pytest.raises(ConfigError, match=r"training\.3 was given, and \S+two has no such stage"):
        execute(made, tmp_path / "run", threads=1)
    assert not (tmp_path / "run").exists()


def test_a_method_without_a_stage_is_measured_and_exports_nothing_with_a_reason(
    folder: Path, tiny_checkpoint: Path, tmp_path: Path, capsys
) -> None:
    made = recipe(folder, tiny_checkpoint, method="ensemble")
    out = tmp_path / "run"
    results = execute(made, out, threads=1)
    assert list(results.evaluations) == ["untrained", "ensemble"]
    assert results.training == {"ensemble": {}} and not list((out / "rows").glob("*.jsonl"))
    assert main(["export", str(out), "--arm", "ensemble", "--format", "trl"]) == 2
    assert "its method yields no stage" in capsys.readouterr().err
    with pytest.raises(StageError, match="its method yields no stage"):
        read_rows(str(out), arm="ensemble")
    entry = describe_method("ensemble", find_method(made.arms["ensemble"].method))
    for check in conformance.CHECKS:
        case = Case(entry, {}, tmp_path / check.__name__, size=4)
        assert conformance.run_check(check, case).problem == ""
