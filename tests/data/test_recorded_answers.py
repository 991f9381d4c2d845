"""Answers find their problems by id or question, and never another one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from potstill.data.recorded_answers import Answered, read_answers
from potstill.errors import InputError
from potstill.records import Problem

SUM = Problem("p1", "What is 2+2?", "4", "number")
FIRST = Problem("c1", "Which one?", "A", "choice", choices=("iron", "salt"))
SECOND = Problem("c2", "Which one?", "A", "choice", choices=("salt", "iron"))
PROBLEMS = [SUM, FIRST, SECOND]


def answers(tmp_path: Path, *rows: dict[str, Any], **mapping: str) -> list[Answered]:
    file = tmp_path / "a.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read_answers(str(file), PROBLEMS, mapping).answers


def test_an_id_that_names_a_problem_with_another_question_is_refused(tmp_path: Path) -> None:
    row = {"id": "p1", "question": "What is 9+9?", "completion": "18"}
    with pytest.raises(InputError) as error:
        answers(tmp_path, row)
    assert "2+2" in error.value.found and "9+9" in error.value.found
    assert answers(tmp_path, row, question="")[0].problem == SUM
    with pytest.raises(InputError, match="none of 1 rows"):
        answers(tmp_path, row, id="")


@pytest.mark.parametrize(
    "question",
    [
        "What is  2+2?\n",
        "Solve. What is 2+2? Use a box.",
        [{"role": "system", "content": "Brief."}, {"role": "user", "content": "What is 2+2?"}],
    ],
)
def test_a_template_around_the_question_is_no_contradiction(tmp_path: Path, question: Any) -> None:
    [answer] = answers(tmp_path, {"id": "p1", "prompt": question, "completion": "4"})
    assert (answer.problem, answer.text) == (SUM, "4")


def test_equal_questions_are_told_apart_by_options_or_refused(tmp_path: Path) -> None:
    rows = [
        {"question": "Which one?", "completion": "A", "options": list(problem.choices)}
        for problem in (SECOND, FIRST)
    ]
    assert [answer.problem.id for answer in answers(tmp_path, *rows)] == ["c2", "c1"]
    with pytest.raises(InputError, match="2 problems ask 'Which one\\?'"):
        answers(tmp_path, {"question": "Which one?", "completion": "A"})


def test_reasoning_and_labels_are_read_as_everywhere(tmp_path: Path) -> None:
    rows = [
        {"id": "p1", "response": "4", "thinking": "Two twos.", "reward": 1.0, "model": "m"},
        {"id": "p1", "response": "5", "thinking": None, "reward": -1.0, "model": "m"},
    ]
    right, wrong = answers(tmp_path, *rows)
    assert right == ("m", SUM, "<think>\nTwo twos.\n</think>\n\n4", True, False)
    assert (wrong.text, wrong.label) == ("5", False)
