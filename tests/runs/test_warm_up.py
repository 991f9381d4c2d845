"""The warm-up: its recipe, its rows, and a student that is trained once."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

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
