"""The ids: golden values, what changes them and what must not, and the rules of canonical JSON."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.models.model import Request, Sampling
from potstill.records import (
    Author,
    Message,
    Problem,
    Span,
    Stage,
    Tokens,
    Trace,
    Verdict,
    blank,
    canonical,
    digest,
    read_finish_reason,
)

PROBLEM = Problem("p1", "Add 3, 5.", "8", "number")
TRACE = Trace(
    PROBLEM,
    PROBLEM.question,
    text="3 + 5 = 8. ≤ 😀",
    prefix_length=3,
    finish_reason="stop",
    author=Author("teacher", "prompt-0", (("temperature", 0.7),), 1_000_002),
    parents=("trace-0",),
    operator="sample",
)

GOLDEN = {
    "blank": "trace-c92233885820b409ab8f",
    "trace": "trace-bebb075e90749efc88e6",
    "errored": "trace-cf06a69c17ac9b04af1a",
    "messages": "trace-22f36b4a49b8271de3f7",
    "stage": "stage-97a2c5a341e82bca9691",
    "stage with settings": "stage-194c88b7031ec7e5e215",
    "completion": "completion-5a65c80805dcc7de3e4e",
}


class Named:
    id = "model-1"


def measured() -> dict[str, str]:
    stage = Stage(Named(), [TRACE], "likelihood", epochs=2)
    return {
        "blank": blank(PROBLEM).id,
        "trace": TRACE.id,
        "errored": Trace(PROBLEM, "q", operator="sample", error="timed out").id,
        "messages": blank(
            PROBLEM, (Message("system", "Be brief."), Message("user", "Add 3, 5."))
        ).id,
        "stage": stage.id,
        "stage with settings": stage.key({"lr": 5e-5}),
        "completion": Request(
            "Add 3, 5.", "3 +", Sampling(temperature=0.5, stop=("\n",)), sample_index=2, seed=7
        ).key("m"),
    }


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_ids(name):
    """If one of these changes, every stored run is orphaned: bump SCHEME and write a migration, or find the mistake."""
    assert measured()[name] == GOLDEN[name]


def test_a_digest_by_hand():
    text = (
        'potstill-3\ntrace\n{"author":null,"error":"","operator":"problem","parents":[],"prefix_length":0,'
        '"problem":{"answer":"8","choices":[],"id":"p1","kind":"number","question":"Add 3, 5.","solution":null,'
        '"source":"","table":null,"tests":[]},"prompt":"Add 3, 5.","text":""}'
    )
    assert blank(PROBLEM).id == "trace-" + hashlib.sha256(text.encode()).hexdigest()[:20]


def test_a_verdict_a_score_or_a_price_never_changes_an_id():
    annotated = TRACE.annotate(
        verdict=Verdict("right", "8", "", "number@1"),
        scores={"nll": 0.25},
        spans=(Span(0, 3, "unit"),),
        weight=0.5,
        tokens=Tokens(10, 20),
        rejected=blank(PROBLEM),
        finish_reason="length",
        saw_gold=True,
    )
    rebuilt = Trace(**{f: getattr(annotated, f) for f in Trace.__dataclass_fields__ if f != "_id"})
    assert annotated.id == rebuilt.id == TRACE.id
    assert annotated.answer == "8" and TRACE.answer is None


@pytest.mark.parametrize(
    "change",
    [
        {"text": "3 + 5 = 9."},
        {"prefix_length": 0},
        {"prompt": "Add."},
        {"parents": ()},
        {"operator": "rewrite"},
        {"error": "x"},
        {"problem": Problem("p2", "Add 3, 5.", "8", "number")},
        {"author": Author("teacher", "prompt-0", (("temperature", 0.7),), 3)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_was_written_makes_the_id(change):
    fields = {f: getattr(TRACE, f) for f in Trace.__dataclass_fields__ if f != "_id"}
    assert Trace(**{**fields, **change}).id != TRACE.id
    if "error" in change or not set(change) & {"verdict"}:
        with pytest.raises(TypeError, match="make a trace's id"):
            TRACE.annotate(**change)


def test_stage_id_is_what_the_trainer_sees():
    def key(trace: Trace, **constants: object) -> str:
        return Stage(Named(), [trace], "likelihood", **constants).id

    same = [
        {"verdict": Verdict("right")},
        {"scores": {"x": 1.0}},
        {"tokens": Tokens(1, 2)},
        {"saw_gold": True},
    ]
    assert {key(TRACE.annotate(**a)) for a in same} == {key(TRACE)}
    assert key(TRACE.annotate(spans=(Span(0, 2, "unit"),))) == key(TRACE)
    other = [
        {"weight": 2.0},
        {"finish_reason": "cut"},
        {"spans": (Span(0, 2, "mask", 0.0),)},
        {"rejected": blank(PROBLEM)},
    ]
    assert len({key(TRACE.annotate(**a)) for a in other} | {key(TRACE)}) == 5
    assert key(TRACE, beta=0.1) != key(TRACE, beta=0.2) != key(TRACE)
    moved = Trace(
        PROBLEM,
        TRACE.prompt,
        TRACE.text,
        TRACE.prefix_length,
        "stop",
        parents=("trace-9",),
        operator="rewrite",
    )
    assert key(moved) == key(TRACE), "lineage does not retrain"
    elsewhere = Trace(Problem("p9", "Other"), TRACE.prompt, TRACE.text, TRACE.prefix_length, "stop")
    assert key(elsewhere) == key(TRACE)
    assert key(elsewhere, on_policy_fraction=0.5) != key(TRACE, on_policy_fraction=0.5), (
        "on-policy stages see the problems"
    )


def test_a_teacher_among_the_constants_counts_by_its_id():
    class Other:
        id = "model-2"

    one, two = (Stage(Named(), [TRACE], "jsd", teacher=t).id for t in (Named(), Other()))
    assert one != two and one == Stage(Named(), [TRACE], "jsd", teacher=Named()).id


def test_errored_rows_are_dropped_and_counted():
    failed = Trace(PROBLEM, "q", error="timed out")
    stage = Stage(Named(), [TRACE, failed, TRACE.annotate(rejected=failed)], "likelihood")
    assert stage.rows == (TRACE,) and stage.errored == 2


def reward(trace, scale=1):
    # a comment does not retrain
    return scale * len(trace.text)


def test_functions_are_name_and_syntax_tree():
    name, tree, values = json.loads(canonical(reward))
    assert name == "reward" and "comment" not in tree and "Mult" in tree
    assert values == {"default scale": 1}
    assert (
        canonical(partial(reward, scale=2))
        != canonical(partial(reward, scale=3))
        != canonical(reward)
    )
    assert json.loads(canonical(len)) == ["len", "builtins"]


def test_canonical_text():
    @dataclass
    class Point:
        y: float
        x: int

    value = {"b": (1, 2.0, None, True), "a": {3, 1}, "p": Point(0.1, 2), "s": "é😀", 5: -0.0}
    assert canonical(value) == (
        '{"5":-0.0,"a":[1,3],"b":[1,2.0,null,true],"p":{"x":2,"y":0.1},"s":"\\u00e9\\ud83d\\ude00"}'
    )
    assert canonical(1e16) == "1e+16" and canonical(0.1 + 0.2) == "0.30000000000000004"
    assert canonical("\ud800 alone") == '"\\ud800 alone"'


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, {"deep": [math.nan]}], ids=str)
def test_nan_and_infinity_are_refused(bad):
    with pytest.raises(ValueError, match="JSON compliant"):
        canonical(bad)


def test_what_has_no_form_is_refused():
    with pytest.raises(TypeError, match="object has no canonical form"):
        canonical(object())


ANY_CHARACTER = st.characters(exclude_categories=())  # lone surrogates too
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(JSON)
def test_canonical_roundtrip(value):
    text = canonical(value)
    assert text.isascii() and json.loads(text) == value and canonical(json.loads(text)) == text


@given(st.text(ANY_CHARACTER))
def test_every_string_has_an_id(text):
    assert canonical(text).isascii()
    assert digest("trace", text).startswith("trace-") and len(digest("trace", text)) == 26


@given(
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=6),
    st.randoms(use_true_random=False),
)
def test_key_order_does_not_matter(value, rng):
    items = list(value.items())
    rng.shuffle(items)
    assert canonical(dict(items)) == canonical(value)


def test_only_changed_settings_enter_a_key():
    assert Request("q", sampling=Sampling(temperature=1.0)).key("m") == Request("q").key("m")
    keys = {
        Request("q", sample_index=d, seed=s).key(m) for d in (0, 1) for s in (0, 1) for m in "ab"
    }
    assert len(keys) == 8
    seeds = [Request("q", sample_index=d).random_seed("m") for d in range(100)]
    assert len(set(seeds)) == 100 and all(0 <= seed < 2**63 for seed in seeds)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("stop", "stop"),
        ("STOP", "stop"),
        ("FinishReason.STOP", "stop"),
        ("end_turn", "stop"),
        ("eos", "stop"),
        ("LENGTH", "length"),
        ("MAX_TOKENS", "length"),
        ("max-tokens", "length"),
        ("model_length", "length"),
        ("max_output_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ({"type": "length", "length": 5}, "length"),
        ("tool_use", "tool_calls"),
        ("SAFETY", "content_filter"),
        ("abort", "error"),
        ("insufficient_system_resource", "error"),
        ("truncated", "unknown"),
        ("null", "unknown"),
        ("pause_turn", "unknown"),
        (None, "unknown"),
        ("", "unknown"),
        (7, "unknown"),
        (True, "unknown"),
        (["length"], "unknown"),
    ],
)
def test_finish_reasons_of_servers(value, expected):
    assert read_finish_reason(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("truncated", "length"),
        ("abort", "length"),
        ("cut", "length"),
        ("stop", "stop"),
        ("max_tokens", "length"),
        ("error", "error"),
        ("what", "unknown"),
        (None, "unknown"),
    ],
)
def test_finish_reasons_of_files(value, expected):
    assert read_finish_reason(value, in_file=True) == expected


def test_a_boolean_says_whether_reasoning_is_complete():
    key = "is_reasoning_complete"
    assert read_finish_reason(True, key=key) == "stop"
    assert read_finish_reason(False, key=key) == "length"
    assert read_finish_reason(None, key=key) == "unknown"
