"""keep, best, pair, weigh, mix, dedupe: what stays, in which order, and why the rest went."""

from __future__ import annotations

import math
from functools import partial

import pytest
from fakes import sums
from hypothesis import given
from hypothesis import strategies as st

from potstill.errors import ConfigError, StageError
from potstill.records import Problem, Span, Trace
from potstill.traces import among, best, dedupe, keep, line, mix, ok, pair, pair_all, problem, weigh


def traces(*texts: str, of: str = "p", **fields) -> list[Trace]:
    return [Trace(Problem(of, "q"), "q", text=text, operator="sample", **fields) for text in texts]


def failed(of: str = "p") -> Trace:
    return Trace(Problem(of, "q"), "q", error="timed out", operator="sample")


def size(trace):
    return len(trace.text)


def shorter_than(limit, trace):
    return len(trace.text) < limit


def explained(trace):
    return trace.text == "a", f"{trace.text} is not a"


def test_keep_tells_which_test_and_why(book):
    kept = keep(partial(shorter_than, 3), traces("a", "bbb"))
    assert [t.text for t in kept] == ["a"]
    keep(explained, traces("a", "b"))
    keep(ok, [failed()])
    assert [(d.operator, d.test, d.reason) for d in book.drops] == [
        ("keep", "shorter_than(3)", "not shorter_than(3)"),
        ("keep", "explained", "b is not a"),
        ("keep", "ok", "error: timed out"),
    ]
    assert book.steps[0] == ("keep", "shorter_than(3)", 2, 1)


def test_best_of_each_group(book):
    a, b = traces("x", "xxx", "xx"), traces("yy", of="r")
    assert [t.text for t in best(size, a + b, by=problem)] == ["xxx", "yy"]
    assert [t.text for t in best(size, a + b, by=problem, k=2)] == ["xxx", "xx", "yy"]
    assert [t.text for t in best(size, a + b)] == ["xxx"]
    assert book.drops[0].reason == "not among the best 1" and book.drops[0].test == "size"


def test_best_breaks_ties_by_id_in_any_order():
    tied = traces("a", "b", "c", "d")
    winner = min(tied, key=lambda t: t.id)
    assert best(size, tied) == best(size, tied[::-1]) == [winner]


@given(st.lists(st.sampled_from(["error", "none", 1, 2, 3]), min_size=1), st.integers(1, 4))
def test_best_always_yields_k_and_prefers_scored_to_unscored_to_errored(kinds, k):
    def value(trace):
        return trace.scores["x"]

    pool = [
        failed()
        if kind == "error"
        else traces(f"{i}")[0].annotate(scores={"x": None if kind == "none" else kind})
        for i, kind in enumerate(kinds)
    ]
    chosen = best(value, pool, k=k)
    rank = [0 if t.error else 1 if t.scores["x"] is None else 1 + t.scores["x"] for t in chosen]
    everything = sorted(
        (0 if q == "error" else 1 if q == "none" else 1 + q for q in kinds), reverse=True
    )
    assert rank == everything[:k]


def test_pair_is_the_good_one_with_a_rival(book):
    good, bad = traces("g1", "g2", "g3"), traces("b1", "b2")
    pairs = pair(good, bad, k=2)
    assert [(t.text, t.rejected.text) for t in pairs] == [("g1", "b1"), ("g2", "b2")]
    assert [t.id for t in pairs] == [t.id for t in good[:2]]
    assert pair(traces("x", of="alone"), bad) == []
    assert [d.reason for d in book.drops] == [
        "its group has 2 pairs already",
        "no rival in its group",
    ]


def test_pair_by_line():
    a, b = traces("a", "b")
    fixes = [Trace(t.problem, "q", text=f"{t.text} fixed", root=t.id) for t in (a, b)]
    assert [t.rejected.text for t in pair(fixes, [b, a], by=line)] == ["a", "b"]


def test_pair_refuses_unequal_prompts():
    good = traces("g")
    bad = [Trace(Problem("p", "q"), "another prompt", text="b")]
    with pytest.raises(
        StageError, match=f"different prompts: {good[0].id} and {bad[0].id} of problem 'p'"
    ):
        pair(good, bad)


def test_pair_masks_the_common_given_text_and_not_the_common_beginning():
    good, bad = (
        traces("<think>Step 1. right", prefix_length=15),
        traces("<think>Step 1. wrong", prefix_length=15),
    )
    [made] = pair(good, bad)
    mask = Span(0, 15, "masked", 0.0)
    assert made.spans == made.rejected.spans == (mask,)
    [free] = pair(traces("<correct>a"), traces("<correct>b"))
    assert free.spans == free.rejected.spans == ()
    [half] = pair(traces("ab cd right", prefix_length=6), traces("ab xx wrong", prefix_length=6))
    assert half.spans == (Span(0, 3, "masked", 0.0),)


def test_pair_and_failures():
    a, b = traces("g"), traces("b")
    assert [t.error or t.rejected.text for t in pair([failed(), *a], [failed(), *b])] == [
        "timed out",
        "b",
    ]


def test_weigh_sets_row_weights():
    one, two, bad = weigh(size, [*traces("a", "bb"), failed()])
    assert (one.weight, two.weight, bad.weight) == (1.0, 2.0, 1.0) and isinstance(two.weight, float)
    with pytest.raises(ConfigError, match="weighs trace"):
        weigh(lambda t: math.inf, traces("a"))


@given(st.permutations(["a", "b", "c", "d", "e"]), st.integers(0, 5))
def test_mix_depends_on_ids_and_seed_only(order, cut):
    pool = traces(*order)
    mixed = mix(pool[:cut], pool[cut:], seed=3)
    assert mixed == mix(traces("a", "b", "c", "d", "e"), seed=3)
    assert sorted(t.text for t in mixed) == ["a", "b", "c", "d", "e"]


def test_mix_seeds_differ():
    pool = traces(*(str(i) for i in range(30)))
    assert mix(pool, seed=1) != mix(pool, seed=2) != pool


def text(trace):
    return trace.text


def test_dedupe_keeps_the_first(book):
    a, b, c = traces("x", "y", "x")
    twice = Trace(a.problem, "q2", text="x")
    assert dedupe(text, [a, b, failed(), twice, a, failed()]) == [a, b, failed(), failed()]
    assert [d.reason for d in book.drops] == [f"same text: {a.id}"] * 2 and c == a


def test_order_is_kept():
    pool = [t for p in sums(4) for t in traces("b", "a", of=p.problem.id)]
    assert keep(ok, pool) == pool and weigh(size, pool) == pool


def test_among_keeps_whose_key_the_others_have(book):
    others = [*traces("x", of="p"), *traces("y", of="q"), failed("r")]
    chosen = among(others, [*traces("a"), *traces("b", of="r"), failed("s"), *traces("c", of="q")])
    assert [t.text or t.error for t in chosen] == ["a", "timed out", "c"]
    assert [(d.operator, d.test, d.trace.text) for d in book.drops] == [("among", "problem", "b")]
    assert book.drops[0].reason == "its problem is not among the others'"
    assert [t.text for t in among(traces("a"), traces("a", "b"), by=line)] == ["a"]


def first_letter(good, bad):
    return good.text[0] == bad.text[0]


def test_pair_where_takes_the_first_free_rival_that_fits(book):
    good, bad = traces("a1", "b1", "a2", "a3"), traces("b0", "a0", "a9")
    pairs = pair(good, bad, k=9, where=first_letter)
    assert [(t.text, t.rejected.text) for t in pairs] == [("a1", "a0"), ("b1", "b0"), ("a2", "a9")]
    one_more = pair(traces("c"), bad, where=first_letter)
    assert one_more == []
    assert [d.reason for d in book.drops] == [
        "its group has 3 pairs already",
        "no free rival in its group for which first_letter",
    ]


def test_best_refuses_a_number_below_0_and_a_key_without_an_order():
    with pytest.raises(ConfigError, match="k=-1"):
        best(len, traces("a"), k=-1)
    with pytest.raises(ConfigError, match="is nan"):
        best(lambda trace: math.nan, traces("a"))


def test_a_weight_that_nobody_knows_is_refused():
    with pytest.raises(ConfigError, match=r"weighs trace .* None"):
        weigh(lambda trace: trace.problem.metadata.get("rating"), traces("a"))


def test_pairs_of_all_combinations_are_traces_of_their_own(book):
    good, bad, [lonely] = traces("a", "b"), traces("x", "y"), traces("l", of="l")
    pairs = pair_all([*good, lonely], bad, k=3, rank=lambda one, other: other.text)
    assert [f"{row.text} > {row.rejected.text}" for row in pairs] == ["a > x", "b > x", "a > y"]
    assert len({row.id for row in pairs} | {trace.id for trace in good}) == 5
    assert pairs[0].parents == (good[0].id, bad[0].id) and good[0].rejected is None
    assert [(drop.trace.text, drop.reason) for drop in book.drops] == [
        ("l", "no rival in its group")
    ]
    assert [row.rejected.text for row in pair_all([*good, failed()], bad)[1:]] == ["x", "y"] * 2
    [unequal] = pair_all(good, bad, where=lambda one, other: one.text + other.text == "ay")
    assert (unequal.text, unequal.rejected.text) == ("a", "y")
