"""Traces as JSON and back, and what a ledger keeps of them."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from potstill.data.trace_json import from_json, to_json
from potstill.errors import StoreError
from potstill.records import Author, Message, Problem, Span, Tokens, Trace, Verdict, blank
from potstill.store import Store
from potstill.store.database import from_column, to_column
from potstill.store.history import DropCount, DropRecord, Step
from potstill.traces.session import Drop, Ledger

# Every string that UTF-16 knows, lone surrogates included; a high one before a low one is one character in JSON.
TEXT = st.text(st.characters(), max_size=20).map(
    lambda s: s.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
)
NUMBER = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**60), 2**60)
# A setting is part of the id, and canonical JSON refuses infinities.
SETTING = NUMBER | TEXT | st.booleans() | st.none() | st.tuples(TEXT, TEXT)
PROBLEM = st.builds(
    Problem,
    TEXT,
    TEXT,
    answer=st.none() | TEXT,
    kind=TEXT,
    solution=st.none() | TEXT,
    tests=st.tuples(TEXT) | st.just(()),
    choices=st.tuples(TEXT, TEXT) | st.just(()),
    table=st.none() | TEXT,
    source=TEXT,
)
COUNT = st.integers(0, 10**9)
FIELDS = {
    "problem": PROBLEM,
    "prompt": TEXT | st.lists(st.builds(Message, TEXT, TEXT), max_size=3).map(tuple),
    "text": TEXT,
    "prefix_length": COUNT,
    "finish_reason": st.sampled_from(["", "stop", "length", "cut"]),
    "author": st.none()
    | st.builds(
        Author, TEXT, TEXT, st.lists(st.tuples(TEXT, SETTING), max_size=3).map(tuple), COUNT
    ),
    "parents": st.lists(TEXT, max_size=3).map(tuple),
    "root": TEXT,
    "operator": TEXT,
    "saw_gold": st.booleans(),
    "error": TEXT,
    "verdict": st.builds(
        Verdict,
        st.sampled_from(["right", "wrong", "unparsed", "unjudged"]),
        st.none() | TEXT,
        TEXT,
        TEXT,
    ),
    "scores": st.dictionaries(TEXT, st.floats(allow_nan=False) | TEXT | st.none(), max_size=3),
    "spans": st.lists(
        st.builds(
            Span,
            COUNT,
            COUNT,
            TEXT,
            st.floats(allow_nan=False),
            st.none() | st.floats(allow_nan=False),
        ),
        max_size=3,
    ).map(tuple),
    "weight": st.floats(allow_nan=False),
    "tokens": st.builds(Tokens, COUNT, COUNT, COUNT, COUNT),
}
TRACE = st.builds(Trace, **FIELDS, rejected=st.none() | st.builds(Trace, **FIELDS))


@pytest.mark.slow
@given(TRACE)
@settings(deadline=None)
def test_round_trip_loses_nothing(trace: Trace):
    line = to_json(trace)
    back = from_json(line)
    assert back == trace
    assert back.id == trace.id
    assert to_json(back) == line
    assert "\n" not in line
    assert line.isascii()
    assert (type(back.prompt), type(back.spans), type(back.verdict)) == (
        type(trace.prompt),
        tuple,
        Verdict,
    )
    assert hash(back) == hash(trace)


@given(st.text(st.characters()))
def test_columns_hold_any_string(text: str):
    assert from_column(to_column(text)) == text


def test_nan_survives_and_a_default_trace_is_small():
    trace = blank(Problem("p", "q")).annotate(
        scores={"nll": math.nan, "x": -math.inf}, weight=0.1 + 0.2
    )
    back = from_json(to_json(trace))
    assert math.isnan(back.scores["nll"])
    assert (back.scores["x"], back.weight) == (-math.inf, 0.30000000000000004)
    assert (
        not {"verdict", "scores", "spans", "weight", "tokens", "rejected"}
        & json.loads(to_json(blank(trace.problem))).keys()
    )


def test_changed_or_foreign_json_is_refused():
    trace = Trace(Problem("p", "q"), "q", "text")
    with pytest.raises(StoreError, match=f"the trace stored as {trace.id} was changed"):
        from_json(to_json(trace).replace('"text":"text"', '"text":"other"'))
    for other in (
        '{"a": 1}',
        "[1]",
        '"x"',
        to_json(trace).replace('"author":null', '"author":[1]'),
    ):
        with pytest.raises(StoreError, match="not a trace"):
            from_json(other)


ROOT = blank(Problem("p1", "1 + 1?", answer="2"))
GOOD = Trace(
    ROOT.problem,
    ROOT.prompt,
    "2",
    author=Author("m", "s", (), 0),
    parents=(ROOT.id,),
    operator="sample",
)
BAD = Trace(
    ROOT.problem,
    ROOT.prompt,
    "3",
    author=Author("m", "s", (), 1),
    parents=(ROOT.id,),
    operator="sample",
)
FIXED = Trace(ROOT.problem, ROOT.prompt, "2!", parents=(GOOD.id, BAD.id), operator="rewrite")


def program(ledger: Ledger) -> None:
    ledger.add_traces([ROOT])
    ledger.add_traces([BAD, GOOD])
    ledger.add_step("sample", "teacher", 1, 2)
    judged = [
        BAD.annotate(verdict=Verdict("wrong", "3")),
        GOOD.annotate(verdict=Verdict("right", "2"), scores={"a": 1.0}),
    ]
    ledger.add_traces(judged)
    ledger.add_drops([Drop(judged[0], "keep", "right", "the answer is 3, not \udc80")])
    ledger.add_step("keep", "right", 2, 1)
    ledger.add_traces([FIXED])
    ledger.add_traces([GOOD.annotate(scores={"b": None}, weight=0.5)])


def test_a_ledger_keeps_funnel_drops_and_annotated_traces(tmp_path: Path):
    with Store.open(tmp_path) as store:
        program(store.ledger("sft"))
        history = store.history
        assert history.steps("sft") == [
            Step("sample", "teacher", 1, 2),
            Step("keep", "right", 2, 1),
        ]
        assert history.drops("sft") == [
            DropRecord(BAD.id, "keep", "right", "the answer is 3, not \udc80")
        ]
        assert [t.id for t in history.traces("sft")] == [ROOT.id, BAD.id, GOOD.id, FIXED.id]
        good = history.trace(GOOD.id, "sft")
        assert good == GOOD.annotate(
            verdict=Verdict("right", "2"), scores={"a": 1.0, "b": None}, weight=0.5
        )
        assert history.trace(GOOD.id) == GOOD
        assert [t.id for t in history.traces("sft", "sample")] == [BAD.id, GOOD.id]
        assert history.trace("trace-none") is None


def test_drops_are_counted_apart_from_the_traces_that_they_are_of(tmp_path: Path):
    reasons = [f"as {BAD.id}", f"as {GOOD.id}", "not \udc80"]
    with Store.open(tmp_path) as store:
        store.ledger("sft").add_drops([Drop(BAD, "keep", "new", reason) for reason in reasons])
        assert store.history.count_drops_by_test("sft") == [DropCount("keep", "new", "", 3, 1)]
        assert store.history.count_drops_by_reason("sft") == [
            DropCount("keep", "new", "as another trace", 2, 1),
            DropCount("keep", "new", "not \udc80", 1, 1),
        ]


def test_an_arm_run_again_replaces_itself_and_no_other(tmp_path: Path):
    with Store.open(tmp_path) as store:
        program(store.ledger("sft"))
        store.ledger("sft").finish()
        program(store.ledger("orion"))
        assert store.history.arms() == {"sft": True, "orion": False}
        assert (
            store.history.steps("sft"),
            store.history.drops("sft"),
            list(store.history.traces("sft")),
        ) == (
            [],
            [],
            [],
        )
        again = store.ledger("orion")
        program(again)
        again.rows("stage-1", [FIXED, GOOD])
        again.rows("stage-1", [GOOD, FIXED])
        assert len(store.history.steps("orion")) == 2
        assert len(store.history.drops("orion")) == 1
        assert store.history.row_ids("orion") == {"stage-1": [GOOD.id, FIXED.id]}
        store.ledger("orion")
        assert store.history.row_ids("orion") == {}


def test_annotations_of_one_arm_do_not_reach_another(tmp_path: Path):
    with Store.open(tmp_path) as store:
        store.ledger("a").add_traces([GOOD.annotate(weight=3.0)])
        store.ledger("b").add_traces([GOOD])
        assert [store.history.trace(GOOD.id, arm).weight for arm in ("a", "b")] == [3.0, 1.0]


def test_every_row_can_be_walked_back(tmp_path: Path):
    with Store.open(tmp_path) as store:
        ledger = store.ledger("sft")
        program(ledger)
        walk = store.history.ancestry(FIXED.id, "sft")
        assert [t.id for t in walk] == [FIXED.id, GOOD.id, BAD.id, ROOT.id]
        assert [t.verdict.status for t in walk] == ["unjudged", "right", "wrong", "unjudged"]
        assert store.history.missing_parents() == []
        orphan = Trace(ROOT.problem, "q", parents=("trace-gone", GOOD.id))
        ledger.add_traces([orphan])
        assert store.history.missing_parents() == [(orphan.id, "trace-gone")]
        assert [t.id for t in store.history.ancestry(orphan.id)] == [orphan.id, GOOD.id, ROOT.id]


def test_many_traces_and_threads(tmp_path: Path):
    from concurrent.futures import ThreadPoolExecutor

    traces = [
        Trace(ROOT.problem, ROOT.prompt, str(i), parents=(ROOT.id,), operator="sample")
        for i in range(1300)
    ]
    with Store.open(tmp_path) as store:
        ledger = store.ledger("sft")
        ledger.add_traces(traces)
        assert [t.text for t in store.history.traces("sft")] == [str(i) for i in range(1300)]
        with ThreadPoolExecutor(8) as pool:
            list(
                pool.map(lambda t: ledger.add_drops([Drop(t, "keep", "even", "odd")]), traces[:200])
            )
        assert len(store.history.drops("sft")) == 200
