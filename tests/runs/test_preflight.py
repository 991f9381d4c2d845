"""What is checked and said before a run asks anybody: roles, overlap, what measuring will ask."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from potstill.errors import InputError, StageError
from potstill.runs import experiment, preflight
from potstill.runs.recipe import Recipe, from_data

QUESTIONS = ("What is 11 + 2?", "What is 30 + 4?", "What is 50 + 6?")


def problem_file(path: Path, *questions: str) -> str:
    rows = [{"question": question, "answer": "7"} for question in questions]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def recipe(problems: str, tests: str = "", **parts: Any) -> Recipe:
    roles = {"teacher": "scripted:teacher.json", "student": "scripted:student.json"}
    data = {
        "method": "sft",
        "roles": roles,
        "problems": problems,
        "evaluate": {"problems": tests, "n": 3},
    }
    return from_data({**data, **parts})


@pytest.fixture
def nobody_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(experiment, "load_model", refuse)


@pytest.mark.parametrize(
    ("overlap", "expected"), [("stop", StageError), ("drop", InputError)], ids=["stop", "drop"]
)
def test_overlap_is_refused_before_a_model_is_loaded_or_a_folder_made(
    tmp_path: Path, nobody_is_loaded: None, overlap: str, expected: type[Exception]
) -> None:
    problems = problem_file(tmp_path / "p.jsonl", *QUESTIONS)
    made = recipe(problems, problems, overlap=overlap)
    with pytest.raises(expected, match="evaluation"):
        experiment.execute(made, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_what_measuring_will_ask_is_said_beforehand(tmp_path: Path) -> None:
    problems = problem_file(tmp_path / "p.jsonl", *QUESTIONS)
    tests = problem_file(tmp_path / "t.jsonl", "What is 8 + 8?", "What is 9 + 1?")
    made = recipe(problems, tests, arms={"a": {"method": "sft"}, "b": {"method": "sft"}}, method="")
    loaded = experiment.load_recipe_problems(made)
    [sentence] = preflight.describe_run(made, *loaded)
    assert "2 problems x 3 answers of the untrained student, a, b: 18 answers" in sentence
    assert preflight.describe_run(recipe(problems), loaded[0], []) == []


def test_a_role_that_no_arm_uses_is_told(tmp_path: Path) -> None:
    problems = problem_file(tmp_path / "p.jsonl", *QUESTIONS)
    roles = {
        "teacher": "scripted:t.json",
        "student": "scripted:s.json",
        "sampler": "scripted:a.json",
        "judge": "scripted:j.json",
    }
    made = recipe(problems, roles=roles)
    loaded, _ = experiment.load_recipe_problems(made)
    sentences = preflight.unused_roles(made, loaded, [])
    assert sentences == [
        "the role sampler (scripted:a.json) is given, and no arm uses it",
        "the role judge (scripted:j.json) is given, and no arm uses it",
    ]
    named = {"objective_config": {"objective": "forward_kl", "teacher": "judge"}}
    taught = recipe(problems, roles=roles | {"judge": "world:teacher"}, training=named)
    assert [text.split()[2] for text in preflight.unused_roles(taught, loaded, [])] == ["sampler"]
