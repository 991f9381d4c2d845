"""A stream of a file's rows gives what the list gives; storage on the disk is a list and a dictionary."""

from __future__ import annotations

import json
import operator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.data import files
from potstill.data.disk_storage import on_disk
from potstill.data.rows import read_traces, stream_traces
from potstill.data.trace_files import TraceFile, load_traces, write_traces
from potstill.errors import InputError
from potstill.records import Problem, Trace
from potstill.traces import keep, mix, right

ROWS: dict[str, list[dict[str, Any]]] = {
    "numbers": [
        {"question": "3 + 4?", "response": "7", "gold": 7, "level": 1},
        {"question": "3 + 5?", "response": "8", "gold": 8},
        {"question": "3 +  4?", "response": "seven", "gold": 7, "topic": "sums", "rating": 3},
        {"question": "3 + 4?", "response": "7!", "gold": 7, "rating": 4, "model": "m"},
    ],
    "a text among the golds": [
        {"question": "3 + 4?", "response": "7", "gold": "7"},
        {"question": "a + a?", "response": "2a", "gold": "2a", "finish_reason": "who knows"},
    ],
    "pairs": [{"prompt": "3 + 4?", "chosen": "7", "rejected": "8", "gold": "7"}] * 2,
    "several completions": [
        {"problem": "3 + 4?", "generations": ["7", "8"], "correctness": [True, False]}
    ],
    "an id twice": [
        {"id": "a", "question": "3 + 4?", "response": "7", "gold": "7"},
        {"id": "a", "question": "3 + 5?", "response": "8", "gold": "8"},
        {"id": "b", "question": "3 + 4?", "response": "7", "gold": "7"},
        {"question": "", "response": "", "gold": "nan"},
    ],
    "options": [
        {"question": "3 + 4?", "choices": ["6", "7"], "response": "B", "gold": 1},
        {"question": "3 + 4?", "choices": ["6", "7"], "response": "A", "gold": 1},
    ],
}


def read_both(file: Path) -> list[Any]:
    """What the list and the stream say of a file: traces, notes, bad rows."""
    with files.skipping() as bad:
        listed = read_traces(str(file))
        first = [listed.traces, listed.mapping, listed.unread, listed.rows, listed.notes, [*bad]]
    with files.skipping() as bad, stream_traces(str(file), scratch=file.parent) as stream:
        traces = list(stream.traces)
        return [first, [traces, stream.mapping, stream.unread, stream.rows, stream.notes, [*bad]]]


@pytest.mark.parametrize("name", ROWS)
def test_a_stream_is_the_list(tmp_path, name):
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in ROWS[name]))
    listed, streamed = read_both(file)
    assert listed == streamed and listed[0]
    # A file of rows and traces: the traces come first, with the ids that they have.
    lines = tmp_path / "traces.jsonl"
    write_traces(listed[0], lines)
    with lines.open("a") as appended:
        appended.write(file.read_text())
    listed, streamed = read_both(lines)
    assert listed == streamed


def test_scratch_files_go_whatever_happens(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps(ROWS["numbers"][0]) + "\n")
    with pytest.raises(ZeroDivisionError), stream_traces(str(file), scratch=tmp_path) as stream:
        next(stream.traces)
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == [file]


@given(st.lists(st.tuples(st.text(st.characters()), st.integers())))
def test_disk_storage_is_a_list_and_a_dictionary(pairs):
    with on_disk() as storage:
        rows, mapping = storage.new_rows(), storage.new_map()
        for pair in pairs:
            rows.append(pair)
            mapping[pair[0]] = pair[1]
        assert list(rows) == pairs and len(rows) == len(pairs)
        assert [rows[-1 - place] for place in range(len(pairs))] == pairs[::-1]
        assert dict(mapping) == dict(pairs) and len(mapping) == len(dict(pairs))
        assert mapping.get("\ud800 not there") is None


def sums(count: int) -> list[Trace]:
    return [
        Trace(Problem(f"p{n}", f"{n} + 1?", str(n + 1)), "p", f"ü {n + 1}") for n in range(count)
    ]


def test_a_trace_file_is_the_list(tmp_path):
    file, traces = tmp_path / "traces.jsonl", sums(5)
    write_traces(traces, file)
    handle = TraceFile(file)
    assert list(handle) == traces == load_traces(file) and len(handle) == 5
    assert handle[-1].text == "ü 5" and handle[1:3] == traces[1:3]
    assert mix(handle, seed=1) == mix(traces, seed=1) and keep(right, handle) == []
    with pytest.raises(IndexError):
        operator.getitem(handle, 5)


def test_a_line_that_is_no_trace_is_named(tmp_path):
    file = tmp_path / "traces.jsonl"
    write_traces(sums(2), file)
    file.write_text(file.read_text().replace("1 + 1", "9 + 1") + "[1]\n{\n")
    handle = TraceFile(file)
    for place, reason in enumerate(["", "was changed", "no trace", "not JSON"]):
        if reason:
            with pytest.raises(InputError, match=rf"traces.jsonl, line {place + 1}: .*{reason}"):
                operator.getitem(handle, place)
    with pytest.raises(InputError, match="can't be read"):
        TraceFile(tmp_path / "nothing.jsonl")
