"""Values beside the identity of a trace in a file: held to their types and ranges, so that none is a traceback."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from potstill.data.trace_files import load_traces, write_traces
from potstill.errors import InputError
from potstill.records import Author, Problem, Span, Tokens, Trace, Verdict


@pytest.fixture
def trace() -> Trace:
    problem = Problem("p", "2 + 2?", "4", "number")
    author = Author("m", "prompt-0", (), 0)
    return Trace(problem, "2 + 2?", "It is 4.", finish_reason="stop", author=author).annotate(
        verdict=Verdict("right", "4", "", "number@2"),
        scores={"steps": 1.0, "note": "fine", "none": None, "likelihood": float("-inf")},
        spans=(Span(0, 8, "unit"), Span(3, 5, "step", 0.5, 1.0)),
        weight=0.5,
        tokens=Tokens(3, 4, 1, 2),
    )


def rewritten(trace: Trace, path: Path, **values: Any) -> Path:
    """The trace's file with other values beside its identity, by hand."""
    write_traces([trace], path)
    record = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps({**record, **values}) + "\n", "utf-8")
    return path


def test_a_whole_trace_comes_back(trace: Trace, tmp_path: Path) -> None:
    [read] = load_traces(rewritten(trace, tmp_path / "t.jsonl"))
    assert read == trace and read.tokens == trace.tokens and read.spans == trace.spans


@pytest.mark.parametrize(
    "values",
    [
        {"tokens": [10**30, 2, 3, 4]},
        {"tokens": [-1, 2, 3, 4]},
        {"tokens": [1.5, 2, 3, 4]},
        {"tokens": "abcd"},
        {"tokens": [1, 2, 3, 4, 5]},
        {"weight": "x"},
        {"weight": -1e308},
        {"weight": 1e308},
        {"weight": True},
        {"finish_reason": 7},
        {"finish_reason": "finished"},
        {"saw_gold": "yes"},
        {"root": 3},
        {"spans": [[0, 10**12, "unit", 1.0, None]]},
        {"spans": [[5, 3, "unit", 1.0, None]]},
        {"spans": [[-1, 3, "unit", 1.0, None]]},
        {"spans": [[0, 3, 7, 1.0, None]]},
        {"spans": [[0, 3, "unit", -1e9, None]]},
        {"verdict": ["perfect", "4", "", "number@2"]},
        {"verdict": ["right", 4, "", "number@2"]},
        {"scores": {"steps": [1]}},
        {"scores": {"steps": True}},
    ],
    ids=str,
)
def test_values_that_no_trace_has_are_refused(
    trace: Trace, tmp_path: Path, values: dict[str, Any]
) -> None:
    with pytest.raises(InputError, match="line 1"):
        load_traces(rewritten(trace, tmp_path / "t.jsonl", **values))
