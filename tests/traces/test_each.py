"""each: equals bulk, keeps order, lets exceptions through, nests inline, inherits context."""

from __future__ import annotations

import threading
import time
from contextvars import ContextVar
from functools import partial

import pytest
from fakes import Fake, sums

from potstill.records import Trace
from potstill.traces import Session, best, each, keep, problem, right, sample, using, verify

COLOUR: ContextVar[str] = ContextVar("colour", default="none")


def failed(of: Trace) -> Trace:
    return Trace(of.problem, of.prompt, error="timed out")


def solve(model, traces):
    return verify(sample(model, traces, n=2))


@pytest.mark.parametrize("workers", [1, 3, 64])
def test_each_equals_bulk(workers):
    problems = sums(20)
    problems[7] = failed(problems[7])
    with using(Session(workers=workers)):
        one_by_one = each(partial(solve, Fake("m")), problems)
    with using(Session()):
        assert one_by_one == solve(Fake("m"), problems)


def test_order_is_kept_whoever_is_first():
    def slow(traces):
        time.sleep(0.02 if traces[0].problem.id == "p0" else 0)
        return traces

    problems = sums(8)
    assert each(slow, problems) == problems


def test_groups():
    made = verify(sample(Fake("m", 0.5), sums(6), n=4))
    made = made[::2] + made[1::2] + [failed(made[0])]
    whole = best(length, [t for t in made if not t.error], by=problem)
    seen = []

    def one(group):
        seen.append({t.problem.id for t in group})
        assert not any(t.error for t in group)
        return best(length, group)

    result = each(one, made, by=problem)
    assert [t for t in result if not t.error] == whole and result[1].error and len(result) == 7
    assert sorted(map(sorted, seen)) == [[f"p{i}"] for i in range(6)]


def length(trace):
    return len(trace.text)


def test_exceptions_go_through_and_the_rest_is_cancelled():
    begun = []

    def boom(traces):
        begun.append(traces[0].problem.id)
        if traces[0].problem.id == "p1":
            raise ZeroDivisionError("a plain bug")
        time.sleep(0.01)
        return traces

    with using(Session(workers=2)), pytest.raises(ZeroDivisionError, match="a plain bug"):
        each(boom, sums(100))
    assert len(begun) < 100
    assert not [t for t in threading.enumerate() if t.name.startswith("each")]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_interrupts_go_through(error):
    def stop(traces):
        raise error

    with pytest.raises(error):
        each(stop, sums(3))


def test_nested_each_runs_inline():
    threads = []

    def inner(traces):
        threads.append(threading.get_ident())
        return traces

    def outer(traces):
        here = threading.get_ident()
        before = len(threads)
        result = each(inner, sums(5))
        assert threads[before:] == [here] * 5
        return result

    with using(Session(workers=1)):
        assert len(each(outer, sums(3))) == 15
    each(outer, sums(1))


def test_workers_inherit_context_variables(book):
    def colour(traces):
        assert COLOUR.get() == "red"
        COLOUR.set("blue")
        return keep(right, traces)

    token = COLOUR.set("red")
    try:
        each(colour, verify(sample(Fake("m", 0.0), sums(5))))
        assert COLOUR.get() == "red"
    finally:
        COLOUR.reset(token)
    assert len(book.drops) == 5, "drops inside each reach the session's ledger"


def test_the_funnel_has_one_line_for_each(book):
    each(partial(solve, Fake("m")), sums(3))
    assert book.steps == [("each", "solve(m)", 3, 6)]
    assert len(book.traces) == 6


def test_errored_traces_never_reach_the_function():
    def only_healthy(traces):
        raise AssertionError

    bad = [failed(t) for t in sums(2)]
    assert each(only_healthy, bad) == bad and each(only_healthy, bad, by=problem) == bad
    assert each(only_healthy, []) == []
