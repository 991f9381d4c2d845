"""What a person sees of a list of traces, and what other libraries get."""

from __future__ import annotations

import dataclasses

import pytest

from potstill.records import Message, Problem, Verdict, blank
from potstill.traces.trace_list import TraceList, trace_list


def traces(count: int = 12) -> TraceList:
    made = []
    for index in range(count):
        problem = Problem(f"p{index}", "What is 1 + 1?", "2")
        trace = dataclasses.replace(blank(problem), text=f"<b>{index}</b>", finish_reason="stop")
        status = "right" if index % 3 else "wrong"
        made.append(trace.annotate(verdict=Verdict(status, str(index)), scores={"length": index}))
    return TraceList(made)


def test_its_repr_is_one_line_that_counts_verdicts():
    assert repr(traces()) == "TraceList of 12: 8 right, 4 wrong"
    assert repr(TraceList()) == "TraceList of 0"
    assert repr(TraceList([blank(Problem("p", "?"))])) == "TraceList of 1"
    failed = dataclasses.replace(traces(1)[0], error="timeout: late")
    assert repr(TraceList([failed])) == "TraceList of 1: 1 failed"


def test_a_notebook_shows_a_table_in_which_model_text_is_no_html():
    page = traces()._repr_html_()
    assert page.count("<tr>") == 11 and "and 2 more" in page
    assert "&lt;b&gt;0&lt;/b&gt;" in page and "<b>" not in page
    hidden = dataclasses.replace(traces(1)[0], text="\x1b[31m\u202eevil" + "x" * 500)
    page = TraceList([hidden])._repr_html_()
    assert "\x1b" not in page and "\u202e" not in page and len(page) < 1000


def test_slices_stay_lists_of_traces_and_equal_plain_lists():
    assert repr(traces()[:3]) == "TraceList of 3: 2 right, 1 wrong"
    assert traces() == list(traces())
    same = traces()
    assert trace_list(same) is same


def test_a_row_of_a_table_has_one_type_a_column():
    trace = dataclasses.replace(traces(1)[0], prompt=(Message("system", "S"), Message("user", "U")))
    first, second = TraceList([traces(1)[0], trace]).to_dicts()
    assert first["prompt"] == [{"role": "user", "content": "What is 1 + 1?"}]
    assert second["prompt"][0] == {"role": "system", "content": "S"}
    assert first["verdict"] == "wrong" and first["scores"] == {"length": 0}


def test_pandas_and_datasets_take_the_rows():
    pytest.importorskip("pandas", reason="needs pandas")
    pytest.importorskip("datasets", reason="needs the extra potstill[data]")
    assert list(traces().to_pandas()["verdict"]).count("right") == 8
    assert traces().to_dataset()[1]["text"] == "<b>1</b>"
