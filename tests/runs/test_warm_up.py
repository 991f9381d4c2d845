"""The warm-up: its recipe, its rows, and a student that is trained once."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from pathlib import Path

import child
import pytest

from potstill.cli import main
from potstill.errors import ConfigError, InputError
from potstill.models import fetch
from potstill.runs import warm_up
from potstill.runs.sources import CHECKPOINTS
from potstill.verifiers.equations.families import solve_question
from potstill.world.gym.problems import SPLITS, split_of

RECIPE = """
base: tiny
chains: {products: 4}
steps: {student: 2}
training: {batch_size: 2, lr: 1e-3, threads: 1}
"""


def no_progress(label: str, done: int, total: int) -> None:
    """Nobody watches."""


def write_recipe(folder: Path, text: str = RECIPE) -> Path:
    file = folder / "recipe.yaml"
    file.write_text(text)
    return file


def test_every_model_s_recipe_can_be_read_and_its_model_be_fetched():
    for file in warm_up.RECIPES.glob("*.yaml"):
        recipe = warm_up.read_recipe(file.stem)
        assert fetch.find_fetchable(recipe.base).name == file.stem
        assert recipe.training.lora and {"weak", "student", "strong"} == set(recipe.steps)
        assert 60 <= sum(recipe.chains.values()) <= 200


def test_the_record_is_of_this_recipe():
    recipe = warm_up.read_recipe("smollm2")
    record = json.loads((warm_up.RECIPES / "smollm2-log.json").read_text())
    for strength, entry in record.items():
        assert entry["warm_up"] == warm_up.recipe_id(recipe, strength)
        assert len(entry["losses"]) == recipe.steps[strength]


@pytest.mark.slow
def test_rows_are_right_chains_of_the_warm_up_s_own_problems(tmp_path):
    pytest.importorskip("reasoning_gym")
    rows = warm_up.write_rows(warm_up.read_recipe("tiny", write_recipe(tmp_path)))
    assert len({row.id for row in rows}) == 4
    for row in rows:
        solution = solve_question(row.question)
        assert (
            row.text.endswith(f"\\boxed{{{row.problem.answer}}}.") and row.finish_reason == "stop"
        )
        assert split_of(solution) == "warm-up" in SPLITS
        assert "\\boxed{}" in row.prompt


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("base: tiny", "chains"),
        (RECIPE.replace("products", "sudoku"), "no family 'sudoku'"),
        (RECIPE.replace("threads: 1", "threads: x"), "training.threads"),
        (RECIPE + "style: verse", "no style 'verse'"),
    ],
)
def test_mistakes_in_a_recipe_are_named(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message):
        warm_up.read_recipe("tiny", write_recipe(tmp_path, text))


def test_a_model_without_a_recipe_or_a_base_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="no warm-up of 'gpt'"):
        warm_up.read_recipe("gpt")
    recipe = warm_up.read_recipe("tiny", write_recipe(tmp_path))
    with pytest.raises(InputError, match="potstill models get tiny"):
        train(recipe, tmp_path / "no", tmp_path / "out")
    with pytest.raises(ConfigError, match="no strength 'weak'"):
        train(recipe, tmp_path / "no", tmp_path / "out", strength="weak")


def train(recipe, base, folder, strength="student"):
    return warm_up.warm_up(recipe, base, folder, strength=strength, progress=no_progress)


@pytest.mark.slow
def test_a_student_is_trained_once_and_another_is_refused(tmp_path, capsys):
    recipe_file, out = write_recipe(tmp_path), tmp_path / "student"
    command = ["models", "warm-up", "tiny", "--recipe", str(recipe_file), "--out", str(out)]
    command += ["--base", str(CHECKPOINTS / "student"), "--check", "2", "--json", "--quiet"]
    outcomes = []
    for _ in range(2):
        assert main(command) == 0
        outcomes.append(json.loads(capsys.readouterr().out))
    first, second = outcomes
    assert first["trained"] and not second["trained"] and first["source"] == second["source"]
    assert len(first["source"]["losses"]) == 2 and first["checks"][0]["problems"] == 2

    recipe = warm_up.read_recipe("tiny", recipe_file)
    with pytest.raises(InputError, match="another student: its warm_up"):
        train(dataclasses.replace(recipe, seed=1), CHECKPOINTS / "student", out)
    (out / "config.json").write_text("{}")
    with pytest.raises(InputError, match="its files have changed"):
        train(recipe, CHECKPOINTS / "student", out)


@pytest.mark.slow
def test_a_killed_warm_up_goes_on_to_the_same_student(tmp_path, capsys):
    recipe_file = write_recipe(
        tmp_path,
        "base: tiny\nchains: {products: 8}\nsteps: {student: 26}\n"
        "training: {batch_size: 2, lr: 1e-3, threads: 1, lora: {r: 4, lora_dropout: 0.1}}",
    )

    def command(folder: str) -> list[str]:
        arguments = ["models", "warm-up", "tiny", "--recipe", str(recipe_file), "--json", "--quiet"]
        return [*arguments, "--base", str(CHECKPOINTS / "student"), "--out", str(tmp_path / folder)]

    assert main(command("whole")) == 0
    whole = json.loads(capsys.readouterr().out)["source"]

    # Killed between two checkpoints, of which the first one is whole.
    log = tmp_path / "killed" / "training" / "steps.jsonl"
    killed = [sys.executable, "-m", "potstill", *command("killed")]
    with child.started(killed, prepared=True) as process:
        while not log.exists() or log.read_bytes().count(b"\n") < warm_up.SAVE_STEPS + 3:
            assert process.poll() is None, "it ended before it could be killed"
            time.sleep(0.002)
        process.kill()
    done_before = len(log.read_text().splitlines())
    assert done_before < 26 and not (tmp_path / "killed" / "fit.json").exists()

    steps = []
    recipe = warm_up.read_recipe("tiny", recipe_file)
    student = warm_up.warm_up(
        recipe,
        CHECKPOINTS / "student",
        tmp_path / "killed",
        strength="student",
        progress=lambda label, done, total: steps.append(done),
    )
    assert student.is_new and steps[0] == done_before // warm_up.SAVE_STEPS * warm_up.SAVE_STEPS
    for name in ("losses", "tokens", "checkpoint"):
        assert student.source[name] == whole[name]
