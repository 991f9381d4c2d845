"""A pilot: real models answer a few problems up to the first training, and stand-ins go on as they did."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs the extra potstill[local]")

from potstill.runs.dry_run import parse_assumptions
from potstill.runs.estimate import make_plan
from potstill.runs.recipe import from_data

METHOD = """
from potstill.models.model import Model, Trainable
from potstill.records import Stage
from potstill.traces import keep, right, sample, verify


def twice(problems, teacher: Model, student: Trainable):
    "The student is asked before its first training, and after it."
    verify(sample(student, problems))
    student = yield Stage(student, keep(right, verify(sample(teacher, problems))), "sft")
    yield Stage(student, keep(right, verify(sample(student, problems, n=4))), "sft")
"""


def test_what_a_pilot_measures_is_assumed_of_later_stages(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(METHOD)
    rows = [{"question": f"What is {n} + 1?", "answer": str(n + 1)} for n in range(40)]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    solutions = {row["question"]: f"It is \\boxed{{{row['answer']}}}." for row in rows}
    (tmp_path / "teacher.json").write_text(json.dumps(solutions))
    attempts = {row["question"]: f"I say \\boxed{{{7 + i % 2 * i}}}." for i, row in enumerate(rows)}
    attempts |= {row["question"]: solutions[row["question"]] for row in rows[::2]}
    (tmp_path / "student.json").write_text(json.dumps(attempts))
    recipe = from_data(
        {
            "method": f"{tmp_path / 'mine.py'}:twice",
            "roles": {
                "teacher": f"scripted:{tmp_path / 'teacher.json'}",
                "student": f"scripted:{tmp_path / 'student.json'}",
            },
            "problems": str(tmp_path / "p.jsonl"),
            "prompt": "{question}",
        }
    )
    plan = make_plan(recipe, tmp_path / "run", parse_assumptions({}), pilot=10)
    assert plan.unreached == []
    assert plan.rows["twice/1"] == 40, "the teacher was right on all ten"
    needs = {(need.role, need.model): need for need in plan.needs}
    student = recipe.roles["student"]
    assert needs["teacher", recipe.roles["teacher"]].calls == 40
    assert needs["student", student].calls == 40
    trained = needs["student", "the trained students"]
    assert trained.calls == 160
    mean = needs["student", student].completion / 40
    assert trained.completion / 160 == pytest.approx(mean, rel=0.2), "as long as in the pilot"
    assert plan.measured["sample by teacher: right"].value == 1
    share = plan.measured["sample by student: right"].value
    assert 0 < share < 1 and plan.rows["twice/2"] == pytest.approx(160 * share, rel=0.3)


def test_a_pilot_of_rows_alone_needs_no_student(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text(json.dumps({"question": "What is 1 + 1?", "answer": "2"}))
    (tmp_path / "teacher.json").write_text(json.dumps(["It is \\boxed{2}."]))
    recipe = from_data(
        {
            "method": "sft",
            "roles": {"teacher": f"scripted:{tmp_path / 'teacher.json'}"},
            "problems": str(tmp_path / "p.jsonl"),
        },
        rows_only=True,
    )
    plan = make_plan(recipe, tmp_path / "run", parse_assumptions({}), pilot=1, rows_only=True)
    assert plan.rows == {"sft": 1} and plan.unreached == [] and plan.needs[0].calls == 1
