"""Functions as plain values: every value that they bring along is there, once, and nothing hangs."""

from __future__ import annotations

import datetime
from fractions import Fraction
from functools import partial
from pathlib import Path

import pytest

from potstill.models.scripted import ScriptedModel
from potstill.records import canonical
from potstill.values import plain_function, plain_value

LIMIT = 3
WORDS = ["one", "two"]


class Holder:
    def __init__(self, value):
        self.value = value

    def __call__(self, trace):
        return self.value

    def method(self, trace):
        return self.value


def closed_over(value):
    def function(trace):
        return value

    return function


def with_default(value):
    def function(trace, value=value, *, other=value):
        return value

    return function


def bound(trace, value):
    return value


MAKERS = {
    "object": Holder,
    "method": lambda value: Holder(value).method,
    "closure": closed_over,
    "default": with_default,
    "partial": lambda value: partial(bound, value=value),
    "nested": lambda value: partial(Holder(closed_over(value)), [value]),
}
VALUES = [
    (3, 5),
    ("a", "b"),
    (0.5, float("inf")),
    ([1, [2]], [1, [3]]),
    ({"k": 1}, {"k": 2}),
    ({1, 2}, {1, 3}),
    (Path("a"), Path("b")),
    (Fraction(1, 2), Fraction(1, 3)),
    (datetime.date(2026, 1, 1), datetime.date(2026, 1, 2)),
    (b"a", b"b"),
    (ScriptedModel(["a"]), ScriptedModel(["b"])),
    (lambda t: 1, lambda t: 2),
]


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize(("one", "other"), VALUES, ids=lambda value: type(value).__name__)
def test_another_value_is_another_function_wherever_it_stands(maker, one, other):
    make = MAKERS[maker]
    assert canonical(make(one)) == canonical(make(one)) != canonical(make(other))


def names_constants(trace):
    return helper(trace) + LIMIT + len(WORDS)


def helper(trace):
    return LIMIT


def calls_itself(trace):
    return calls_itself(trace)


def test_constants_and_functions_of_the_module_are_values():
    _, _, values = plain_function(names_constants)
    assert values["global LIMIT"] == 3 and values["global WORDS"] == ["one", "two"]
    name, tree, own_values = values["global helper"]
    assert name == "helper" and "FunctionDef" in tree and own_values == {"global LIMIT": 3}
    _, _, values = plain_function(calls_itself)
    assert values == {"global calls_itself": "number 0 again"}


def test_the_packages_own_functions_are_known_by_their_version():
    assert len(plain_function(plain_value)) == 2


def test_objects_that_hold_each_other_end():
    web = [Holder(None) for _ in range(40)]
    for holder in web:
        holder.value = web
    text = canonical(closed_over(web))
    assert " at 0x" not in text and len(text) < 100_000


def test_which_of_two_functions_occurs_again_is_told():
    one, other = closed_over(1), closed_over(2)
    assert canonical(closed_over([one, other, one])) != canonical(closed_over([one, other, other]))


def test_two_lambdas_in_one_line_differ():
    one, other = [lambda t: 3, lambda t: 5]  # fmt: skip
    assert canonical(one) != canonical(other)
