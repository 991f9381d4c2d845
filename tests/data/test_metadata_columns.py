"""What a file says of its problems beside question and answer, from its columns to problems, rows and exports."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import pytest

from potstill.data import metadata_columns, problems
from potstill.data.rows import read_traces
from potstill.data.trace_files import load_traces, write_traces
from potstill.errors import InputError
from potstill.records import Problem, Trace, blank, canonical
from potstill.runs.export import export_rows
from potstill.runs.train import row_to_json

ROW = {"question": "2 + 2?", "answer": "4"}


def load(tmp_path: Path, *rows: dict[str, Any], **mapping: str) -> list[Problem]:
    path = tmp_path / "p.jsonl"
    path.write_text("".join(json.dumps({**ROW, **row}) + "\n" for row in rows))
    return problems.load(str(path), mapping=mapping)


def test_known_columns_are_read_by_themselves_and_others_by_mapping(tmp_path: Path) -> None:
    row = {"Level": "Level 5", "cf_rating": "1200", "contest_date": "2023-07-14", "type": "Algebra"}
    [problem] = load(tmp_path, {**row, "source": "aime", "author": "Ann", "votes": 3.0})
    expected = {"level": "Level 5", "rating": 1200, "date": "2023-07-14", "topic": "Algebra"}
    assert problem.metadata == {**expected, "source": "aime"}
    [mapped] = load(tmp_path, {**row, "author": "Ann"}, level="author", topic="", metadata="author")
    assert mapped.metadata["level"] == "Ann" and mapped.metadata["author"] == "Ann"
    assert "topic" not in mapped.metadata


def test_metadata_and_parents_are_in_no_id_and_in_no_comparison() -> None:
    plain = Problem("p", "2 + 2?", "4")
    annotated = Problem("p", "2 + 2?", "4", metadata={"level": 5}, parents=("trace-1",))
    assert blank(plain).id == blank(annotated).id and canonical(plain) == canonical(annotated)
    assert plain == annotated and hash(plain) == hash(annotated)


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        (5, 5),
        (5.0, 5),
        ("5", 5),
        ("0", 0),
        ("1.5", 1.5),
        ("007", "007"),
        (" Level\n5 ", "Level 5"),
        ("", None),
        (None, None),
        (float("nan"), None),
        (True, "true"),
        (["algebra", "sums"], "algebra, sums"),
        (datetime.date(2024, 1, 31), "2024-01-31"),
        (datetime.datetime(2024, 1, 31, 12, 0), "2024-01-31T12:00:00"),
    ],
    ids=repr,
)
def test_a_cell_is_a_text_or_a_number(cell: Any, value: Any) -> None:
    assert metadata_columns.read_cell(cell, "level", "level") == value


def test_a_column_of_objects_or_long_texts_is_no_metadata_unless_it_is_named(
    tmp_path: Path,
) -> None:
    rows = ({"level": {"x": 1}, "topic": "why " * 100, "difficulty": 3},)
    assert load(tmp_path, *rows)[0].metadata == {"level": 3}
    with pytest.raises(InputError, match="the level in column 'level'"):
        load(tmp_path, *rows, level="level")


def test_a_column_that_is_empty_in_the_first_rows_is_read_all_the_same(tmp_path: Path) -> None:
    empty = [{"question": f"{number}?", "level": None} for number in range(1000)]
    loaded = load(tmp_path, *empty, {"question": "last?", "level": 3})
    assert [problem.metadata for problem in loaded if problem.metadata] == [{"level": 3}]


def test_programming_tasks_keep_their_metadata(tmp_path: Path) -> None:
    test = json.dumps([{"input": "1", "output": "2", "testtype": "stdin"}])
    row = {"question_content": "Add 1.", "public_test_cases": test, "contest_date": "2024-01-31"}
    path = tmp_path / "code.jsonl"
    path.write_text(json.dumps({**row, "question_id": "q", "difficulty": "hard"}) + "\n")
    [problem] = problems.load(str(path))
    assert problem.metadata == {"level": "hard", "date": "2024-01-31"}


def test_what_differs_between_answers_of_one_problem_is_not_its_metadata(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    rows = [
        {**ROW, "completion": f"It is {number}.", "level": 2, "rating": number} for number in (3, 4)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    read = read_traces(str(path))
    assert [trace.problem.metadata for trace in read.traces] == [{"level": 2}] * 2
    assert "say different things: rating" in read.notes[0]


def test_rows_and_exports_keep_metadata_and_are_read_again(tmp_path: Path) -> None:
    problem = Problem(
        *("p", "2 + 2?", "4", "number"),
        metadata={"level": 5, "votes": 3},
        parents=("trace-1",),
    )
    trace = Trace(problem, "2 + 2?", "It is 4.", finish_reason="stop", operator="sample")
    beside = {"level": 5, "metadata": {"votes": 3}, "problem_parents": ["trace-1"]}
    [exported] = export_rows([trace], "trl")
    assert beside.items() <= exported.items()
    assert beside.items() <= row_to_json(trace).items()
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row_to_json(trace)) + "\n")
    assert read_traces(str(path)).traces[0].problem.metadata == {"level": 5}

    write_traces([trace], tmp_path / "traces.jsonl")
    [again] = load_traces(tmp_path / "traces.jsonl")
    assert again.problem.metadata == problem.metadata and again.problem.parents == problem.parents


@pytest.mark.parametrize(
    "changed",
    [{"metadata": []}, {"metadata": {"a": None}}, {"metadata": {"a": True}}, {"parents": [1]}],
)
def test_a_trace_file_with_other_values_is_refused(tmp_path: Path, changed: dict[str, Any]) -> None:
    path = tmp_path / "traces.jsonl"
    write_traces([blank(Problem("p", "2 + 2?", "4"))], path)
    record = json.loads(path.read_text())
    record["problem"] |= changed
    path.write_text(json.dumps(record) + "\n")
    with pytest.raises(InputError, match=r"problem\.(metadata|parents)"):
        load_traces(path)
