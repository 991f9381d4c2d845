"""Implicit chain of thought: the golden rule, the offset's law, how much of a reasoning is left."""

from __future__ import annotations

import math
from collections import Counter
from random import Random

import pytest

torch = pytest.importorskip("torch", reason="needs the extra potstill[local]")
from potstill import objectives
from potstill.errors import ConfigError
from potstill.objectives.implicit_cot import ImplicitCotOptions, StepwiseRemoval
from potstill.training.objective_config import ObjectiveConfig

LINES = [1, 2]


def removal(training_steps, **options):
    return StepwiseRemoval(ImplicitCotOptions(**options), training_steps)


def probability(smoothing, offset):
    """`(1 - e^-lambda) e^(-lambda o)`."""
    return -math.expm1(-smoothing) * math.exp(-smoothing * offset)


def test_golden_rule():
    """Case icot_removal."""
    assert removal(100, per_epoch=8).steps_per_unit == 12
    shares = [probability(4, offset) for offset in range(3)]
    assert shares == pytest.approx([0.981684361111, 0.0179801762608, 0.000329318415549], abs=1e-12)
    rule = removal(100, per_epoch=100, smoothing=math.inf)
    assert rule.tokens_to_remove(LINES, 2, Random(0)) == 2


def test_offsets_come_as_often_as_they_should():
    random, rule = Random(0), removal(100, smoothing=1.0)
    counts = Counter(rule.offset(random) for _ in range(100_000))
    for offset in range(4):
        assert counts[offset] / 1e5 == pytest.approx(probability(1.0, offset), abs=5e-3)
    assert {removal(100, smoothing=math.inf).offset(random) for _ in range(100)} == {0}


def test_what_is_gone_grows_unit_by_unit_until_the_answer_is_left():
    rule = removal(10, per_epoch=5, smoothing=math.inf, full_reasoning_steps=4)
    assert [rule.units_removed(s) for s in range(12)] == [0] * 6 + [1, 1, 2, 2, 3, 3]
    assert [s for s in range(12) if rule.resets_optimizer(s)] == [6, 8, 10]
    gone = [rule.tokens_to_remove(LINES, s, Random(0)) for s in (0, 6, 8, 10, 1000)]
    assert gone == [0, 1, 2, 3, 3]
    still = removal(10, per_epoch=5, reset_optimizer=False)
    assert not any(still.resets_optimizer(s) for s in range(12))


def test_units():
    lengths = [3, 5, 2]
    assert [removal(1, unit="steps").tokens_in(n, lengths) for n in range(5)] == [0, 3, 8, 10, 10]
    shares = [removal(1, unit="share").tokens_in(n, lengths) for n in (0, 1, 50, 100, 200)]
    assert shares == [0, 1, 5, 10, 10]
    assert [removal(1).tokens_in(n, lengths) for n in (0, 7, 99)] == [0, 7, 10]
    assert [removal(1, remove_all_after=4).tokens_in(n, lengths) for n in (3, 4)] == [3, 10]


def test_the_options_own_steps_per_epoch_win():
    assert removal(100, steps_per_epoch=8, per_epoch=8).steps_per_unit == 1


@pytest.mark.parametrize(
    "options", [{"per_epoch": 0}, {"steps_per_epoch": -1}, {"smoothing": 0}, {"unit": "words"}]
)
def test_rules_that_never_remove_anything_are_refused(options):
    with pytest.raises(ConfigError):
        ObjectiveConfig("implicit_cot", options=options)


def test_the_loss_is_the_likelihood():
    from golden import S, inputs

    x = inputs(S)
    found, plain = (objectives.find(name)(x).values_N for name in ("implicit_cot", "sft"))
    assert torch.equal(found, plain)
