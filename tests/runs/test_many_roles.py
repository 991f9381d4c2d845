"""A method with readers in a list, two roles that are trained in turn, and one that must be trained and scored."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("torch", reason="needs the extra potstill[local]")

from potstill.cli import main
from potstill.errors import ConfigError
from potstill.evaluation.results import outcome
from potstill.runs.experiment import execute
from potstill.runs.finished import open_run
from potstill.runs.recipe import Recipe, from_data
from potstill.world import story

SIZE = 4
PROBLEMS = story.problems("story-easy", size=SIZE, seed=3)
METHOD = '''
from typing import Annotated

from potstill.models.model import Model, Scored, Trainable
from potstill.records import Stage
from potstill.traces import best, nll, problem, sample, score


def panel(
    problems,
    student: Trainable,
    critic: Annotated[Trainable, Scored],
    readers: list[Model],
):
    """The critic learns what each reader says, and chooses what the student learns; then it learns that too."""
    opinions = [sample(reader, problems) for reader in readers]
    critic = yield Stage(critic, [trace for said in opinions for trace in said], "sft", name="critic")
    scored = score("critic", nll(critic), opinions[0] + opinions[1])
    student = yield Stage(student, best(likely, scored, by=problem), "sft", name="policy")
    yield Stage(critic, sample(student, problems, max_new_tokens=4), "sft", name="again")


def likely(trace):
    return -trace.scores["critic"]
'''


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("panel")
    (path / "mine.py").write_text(METHOD)
    for name in ("one", "two"):
        answers = {p.question: f"{name} says {p.solution}" for p in PROBLEMS}
        (path / f"{name}.json").write_text(json.dumps(answers))
    return path


def recipe(folder: Path, checkpoint: Path, **roles: str) -> Recipe:
    readers = [f"scripted:{folder / name}.json" for name in ("one", "two")]
    weights = f"transformers:{checkpoint}"
    return from_data(
        {
            "method": f"{folder / 'mine.py'}:panel",
            "roles": {"student": weights, "critic": weights, "readers": readers, **roles},
            "problems": f"world:story-easy?size={SIZE}&seed=3",
            "evaluate": {
                "problems": "world:story-easy?size=2&seed=3&split=test",
                "n": 1,
                "sampling": {"max_new_tokens": 4},
                "stages": True,
            },
            "training": {"max_steps": 2, "batch_size": 2, "lr": 1e-3},
            "overlap_n": 0,
        }
    )


@pytest.fixture(scope="module")
def ran(folder: Path, tiny_checkpoint: Path) -> SimpleNamespace:
    made = recipe(folder, tiny_checkpoint)
    out = folder / "run"
    return SimpleNamespace(recipe=made, out=out, results=execute(made, out, threads=1))


@pytest.mark.slow
def test_every_reader_is_asked_and_every_trained_role_gets_its_own_student(ran) -> None:
    run = open_run(ran.out)
    assert run.stages("panel") == ["critic", "policy", "again"]
    rows = run.rows("panel", "critic")
    assert [row.text.split(" ")[0] for row in rows] == ["one"] * SIZE + ["two"] * SIZE
    assert ran.results.costs["panel"]["readers"].calls == 2 * SIZE
    assert ran.results.costs["panel"]["critic"].calls == 2 * SIZE  # scores
    students = [ran.results.training[f"panel/{name}"]["student"] for name in run.stages("panel")]
    assert len(set(students)) == 3


@pytest.mark.slow
def test_the_arm_is_measured_by_its_student_though_the_critic_was_trained_last(ran) -> None:
    assert list(ran.results.evaluations) == ["untrained", "panel/critic", "panel/again", "panel"]
    policy = ran.results.training["panel/policy"]["student"]
    assert policy in str(ran.results.evaluations["panel"].fingerprint.run)
    assert "panel is measured by the student of its stage policy" in " ".join(ran.results.notes)
    assert set(ran.results.costs["panel"]) >= {"student", "critic", "readers"}


@pytest.mark.slow
def test_the_same_run_again_trains_and_asks_nobody(ran) -> None:
    again = execute(ran.recipe, ran.out, threads=1)
    assert outcome(again) == outcome(ran.results)


@pytest.mark.slow
def test_it_is_planned_and_a_critic_without_weights_is_refused(
    ran, folder, tiny_checkpoint
) -> None:
    one = f"scripted:{folder / 'one.json'}"
    words = [f"{folder / 'mine.py'}:panel", "--problems", "world:story-easy?size=4&seed=3"]
    words += ["--student", f"transformers:{tiny_checkpoint}", "--role", f"readers={one}"]
    words += ["--role", f"readers={one}"]
    assert main(["plan", *words, "--role", f"critic=transformers:{tiny_checkpoint}"]) == 0
    with pytest.raises(ConfigError, match="Trainable"):
        execute(recipe(folder, tiny_checkpoint, critic="world:oracle"), folder / "x", threads=1)
