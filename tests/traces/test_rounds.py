"""until: what is not done is tried again, so often and no more; what is left is in the ledger."""

from __future__ import annotations

import pytest

from potstill.errors import ConfigError
from potstill.records import Problem, Trace
from potstill.traces import until


def trace(text: str, error: str = "") -> Trace:
    return Trace(Problem(text, "q"), "q", text=text, error=error, operator="sample")


class Rounds:
    """Finishes the traces whose text names the round; notes what it was called on."""

    __name__ = "finish_named"

    def __init__(self):
        self.calls = []

    def __call__(self, traces, number):
        self.calls.append(([t.text for t in traces], number))
        done = [t for t in traces if t.text == str(number)]
        return done, [t for t in traces if t not in done]


def test_each_round_gets_what_the_one_before_left(book):
    rounds = Rounds()
    result = until(rounds, [trace("1"), trace("0"), trace("7"), trace("", "timed out")], 3)
    assert [t.text for t in result] == ["0", "1", ""] and result[-1].error
    assert rounds.calls == [(["1", "0", "7"], 0), (["1", "7"], 1), (["7"], 2)]
    [drop] = book.drops
    assert (drop.trace.text, drop.operator, drop.test, drop.reason) == (
        *("7", "until", "finish_named"),
        "not done after 3 rounds",
    )
    assert book.steps == [("until", "finish_named", 4, 3)]


def test_it_stops_where_all_is_done_and_never_asks_about_nothing():
    rounds = Rounds()
    assert until(rounds, [], 3) == [] and rounds.calls == []
    until(rounds, [trace("0")], 3)
    assert len(rounds.calls) == 1
    with pytest.raises(ConfigError, match="rounds=0"):
        until(rounds, [trace("0")], 0)


def test_a_trace_that_fails_on_the_way_is_handed_on_once(book):
    def fails(traces, number):
        return [], [trace("0", "timed out") for _ in traces]

    assert [t.error for t in until(fails, [trace("0")], 5)] == ["timed out"]
    assert book.drops == []


@pytest.mark.parametrize("returned", [None, [], [trace("a"), trace("b")], (trace("a"), trace("b"))])
def test_what_is_not_two_lists_is_refused(returned):
    def attempt(traces, number):
        return returned

    with pytest.raises(ConfigError, match="attempt returned"):
        until(attempt, [trace("a")], rounds=1)
