"""Stepwise internalisation: the golden rule, the offset's law, what is left of a row."""

from __future__ import annotations

import math
from collections import Counter
from random import Random

import pytest

from potstill.errors import ConfigError
from potstill.objectives.internalise import Internalise, offset_share

PROMPT, CHAIN, ANSWER = [10, 11], [[20], [21, 22]], [30]


def test_golden_rule():
    """Case icot_removal."""
    rule = Internalise(100, 8, smoothing=4)
    assert rule.every == 12
    shares = [offset_share(4, o) for o in range(3)]
    assert shares == pytest.approx([0.981684361111, 0.0179801762608, 0.000329318415549], abs=1e-12)
    assert [offset_share(math.inf, o) for o in range(3)] == [1, 0, 0]
    rule = Internalise(100, 100, smoothing=math.inf)
    assert rule.target(2, Random(0), PROMPT, CHAIN, ANSWER).ids == [10, 11, 22, 30]


def test_offsets_come_as_often_as_they_should():
    random, rule = Random(0), Internalise(100, smoothing=1.0)
    counts = Counter(rule.offset(random) for _ in range(100_000))
    for o in range(4):
        assert counts[o] / 1e5 == pytest.approx(offset_share(1.0, o), abs=5e-3)
    assert {Internalise(100, smoothing=math.inf).offset(random) for _ in range(100)} == {0}


def test_what_is_gone_grows_step_by_step_until_the_answer_is_left():
    rule = Internalise(10, 5, smoothing=math.inf, warmup=4)
    assert [rule.removed(s) for s in range(12)] == [0] * 6 + [1, 1, 2, 2, 3, 3]
    assert [s for s in range(12) if rule.rises(s)] == [6, 8, 10]
    rows = [rule.target(s, Random(0), PROMPT, CHAIN, ANSWER) for s in (0, 6, 8, 10, 1000)]
    assert [r.ids[2:] for r in rows] == [[20, 21, 22, 30], [21, 22, 30], [22, 30], [30], [30]]
    assert all(
        r.ids[:2] == PROMPT and r.counted == [False] * 2 + [True] * (len(r.ids) - 2) for r in rows
    )


def test_units():
    lengths = [3, 5, 2]
    assert [Internalise(1, unit="steps").tokens(n, lengths) for n in range(5)] == [0, 3, 8, 10, 10]
    assert [Internalise(1, unit="share").tokens(n, lengths) for n in (0, 1, 50, 100, 200)] == [
        0,
        1,
        5,
        10,
        10,
    ]
    assert [Internalise(1).tokens(n, lengths) for n in (0, 7, 99)] == [0, 7, 10]
    assert [Internalise(1, all_beyond=4).tokens(n, lengths) for n in (3, 4)] == [3, 10]


def test_positions_can_stay():
    rule = Internalise(100, 100, smoothing=math.inf, keep_positions=True)
    assert rule.target(2, Random(0), PROMPT, CHAIN, ANSWER).positions == [0, 1, 4, 5]
    assert Internalise(100, 100, smoothing=math.inf).target(
        2, Random(0), PROMPT, CHAIN, ANSWER
    ).positions == [
        0,
        1,
        2,
        3,
    ]


def test_rules_that_never_take_anything_are_refused():
    for wrong in ({"per_epoch": 0}, {"steps_per_epoch": 0}, {"smoothing": 0}, {"unit": "words"}):
        with pytest.raises(ConfigError):
            Internalise(**({"steps_per_epoch": 10} | wrong))
