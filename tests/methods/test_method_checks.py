"""What methods share: a model that gave nothing to work with stops a method before the next one is asked."""

from __future__ import annotations

import pytest

from potstill.errors import StageError
from potstill.methods.checks import require_wrong_attempts
from potstill.records import Problem, Status, Trace, Verdict


def attempt(status: Status, *, error: str = "") -> Trace:
    trace = Trace(Problem("p", "q", "4"), "q", text=status, error=error)
    return trace.annotate(verdict=Verdict(status))


def test_one_wrong_attempt_is_enough() -> None:
    require_wrong_attempts("lema", [attempt("right"), attempt("wrong"), attempt("unparsed")])


def test_no_attempt_at_all_is_another_error() -> None:
    require_wrong_attempts("lema", [])


def test_right_attempts_alone_stop_the_method_with_its_own_words() -> None:
    attempts = [
        attempt("right"),
        attempt("right"),
        attempt("unparsed"),
        attempt("wrong", error="busy"),
    ]
    with pytest.raises(StageError) as caught:
        require_wrong_attempts("lema", attempts, alternative="LEMA has no other way")
    expected = (
        "lema learns from errors, and none of 4 attempts is wrong (2 right, 1 unparsed, 1 error)"
    )
    assert caught.value.found == expected
    assert caught.value.fix.endswith("in another --out; LEMA has no other way")


def test_attempts_that_nobody_can_read_are_no_right_ones() -> None:
    with pytest.raises(StageError, match="lema: none of 2 answers is in a form that can be read"):
        require_wrong_attempts("lema", [attempt("unparsed"), attempt("unparsed")])
