"""A student is measured by the prompt that it was trained with, or its user is told that it is not."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest

import potstill as ps
from potstill.models.scripted import ScriptedModel
from potstill.records import Problem
from potstill.runs.sources import default_prompt
from potstill.runs.trained_prompt import (
    AskedPrompt,
    TrainedPrompt,
    choose_prompt,
    match_spec,
    read_trained_prompt,
)

PROBLEMS = [Problem("p", "1+1?", "2", "number")]
BOXED = default_prompt("number")


@pytest.mark.parametrize(
    ("templates", "given", "template", "note"),
    [
        ((BOXED,), "", "", ""),
        ((BOXED, "{question}"), "", "", ""),
        ((BOXED,), BOXED, BOXED, ""),
        (("{question}",), "", "{question}", "asked with the prompt that it was trained with"),
        (("{question}",), "Q: {question}", "Q: {question}", "asked with another prompt than"),
        (("[system] Be short.\n[user] {question}",), "", "", "asked with the default prompt"),
        (("a {question}", "b {question}"), "", "", "asked with the default prompt"),
    ],
)
def test_which_prompt_is_asked(templates, given, template, note) -> None:
    asked = choose_prompt(TrainedPrompt(templates), given, PROBLEMS)
    assert asked.template == template
    assert asked.note.startswith(note) and bool(asked.note) == bool(note)


def test_a_model_that_is_no_student_is_asked_as_ever() -> None:
    assert choose_prompt(None, "", PROBLEMS) == AskedPrompt("")
    assert match_spec("openai:m?at=x", None) == "openai:m?at=x"


def test_the_chat_mode_of_the_training_is_that_of_the_measurement() -> None:
    trained = TrainedPrompt(("{question}",), "no-thinking")
    assert match_spec("transformers:s", trained) == "transformers:s?chat=no-thinking"
    assert match_spec("transformers:s?dtype=x", trained).endswith("?dtype=x&chat=no-thinking")
    assert match_spec("transformers:s?chat=auto", trained) == "transformers:s?chat=auto"
    assert match_spec("transformers:s", TrainedPrompt(("{question}",), "auto")) == "transformers:s"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (
            json.dumps({"prompts": ["{question}"], "chat": "auto"}),
            TrainedPrompt(("{question}",), "auto"),
        ),
        (json.dumps({"steps": 3}), None),
        ("[]", None),
        ("{", None),
    ],
)
def test_fit_json_says_how_a_student_was_asked(tmp_path: Path, text: str, found) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert read_trained_prompt(f"transformers:{tmp_path}") is None
    (tmp_path / "fit.json").write_text(text)
    assert read_trained_prompt(f"transformers:{tmp_path}") == found


def test_what_stands_in_the_questions_already_is_not_put_around_them() -> None:
    trained = TrainedPrompt(("Solve it.\n\n{question}\n\nBox it: \\boxed{{}}.",))
    whole = Problem("p", "Solve it.\n\n1+1?\n\nBox it: \\boxed{}.", "2", "number")
    assert choose_prompt(trained, "", [whole]).template == "{question}"
    assert choose_prompt(trained, "", PROBLEMS).template == trained.templates[0]


def test_python_is_told_of_another_prompt_too(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "fit.json").write_text(json.dumps({"prompts": ["{question} Think."]}))
    student = ScriptedModel(["\\boxed{2}"], weights=tmp_path)
    with pytest.warns(UserWarning, match="was trained with '{question} Think.'"):
        ps.evaluate(student, PROBLEMS, n=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ps.evaluate(student, ps.load_problems(PROBLEMS, prompt="{question} Think."), n=1)
