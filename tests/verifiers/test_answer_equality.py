"""Answers read without a gold answer, and compared by the verifier's own equality."""

from __future__ import annotations

import pytest

import potstill as ps
from potstill import verifiers
from potstill.errors import ConfigError
from potstill.records import Problem

OPTIONS = ("a cat", "$12", "12 km")
TABLE = "CREATE TABLE t (n INTEGER); INSERT INTO t VALUES (1), (2);"


def asked(kind: str) -> Problem:
    """A problem without a gold answer."""
    choices = OPTIONS if kind == "choice" else ()
    return Problem("p", "?", None, kind, choices=choices, table=TABLE)


@pytest.mark.parametrize(
    ("kind", "text", "answer"),
    [
        ("number", "So she has 5 million coins.\n#### 5 million", "5000000"),
        ("number", "I do not know.", None),
        ("math", "Thus $x = \\boxed{\\dfrac{3}{4}}$.", "\\frac{3}{4}"),
        ("math", "", None),
        ("choice", "It must be an animal, so the answer is a cat.", "A"),
        ("choice", "The answer is A or B.", None),
        ("exact", "The answer is **Rome**.", "Rome"),
        ("regex", "<answer>12:30</answer>", "12:30"),
        ("format", "<a>1</a>", None),
        ("story", "\\boxed{5} Wait. \\boxed{07}", "7"),
        ("judge", "<think>hm</think> Rome, I think.", "Rome, I think."),
        ("table", "```sql\nSELECT n FROM t\n```", "SELECT n FROM t"),
        ("code", "```python\ndef f(): return 1\n```", "def f(): return 1"),
    ],
)
def test_an_answer_is_read_without_gold(kind: str, text: str, answer: str | None) -> None:
    assert ps.read(asked(kind), text) == answer
    assert ps.read(ps.blank(asked(kind)), text) == answer


@pytest.mark.parametrize("kind", ["number", "math", "choice", "exact", "story"])
def test_a_verdict_without_gold_holds_the_answer_all_the_same(kind: str) -> None:
    problem = asked(kind)
    text = "\\boxed{A}" if kind == "choice" else "\\boxed{12}"
    verdict = ps.judge(problem, text)
    assert (verdict.status, verdict.answer) == ("unjudged", ps.read(problem, text))


EQUAL = [
    ("number", "25%", "0.25"),
    ("number", "1,250", "1250.0"),
    ("math", "(1,2)", "( 1, 2 )"),
    ("math", "\\frac12", "0.5"),
    ("math", "(x-1)(x+1)", "x^2-1"),
    ("math", "x=5", "5"),
    ("choice", "(B)", "$12"),
    ("exact", "red  blue", "**red blue**"),
    ("table", "SELECT n FROM t", "select n from t where n > 0"),
    ("code", "def f(): return 1\n", "def f(): return 1"),
]
DIFFERENT = [
    ("number", "25%", "2.5"),
    ("math", "(1,2)", "(2,1)"),
    ("math", "x^2-1", "x^2+1"),
    ("choice", "A", "12 km"),
    ("choice", "neither", "none"),
    ("exact", "red blue", "Red blue"),
    ("table", "SELECT n FROM t", "SELECT n FROM t WHERE n = 1"),
    ("code", "def f(): return 1", "def f(): return 2"),
]


@pytest.mark.parametrize(("kind", "first", "second"), EQUAL)
def test_equal_answers_are_equal_either_way(kind: str, first: str, second: str) -> None:
    assert ps.equal(asked(kind), first, second)
    assert ps.equal(asked(kind), second, first)


@pytest.mark.parametrize(("kind", "first", "second"), DIFFERENT)
def test_different_answers_are_different_either_way(kind: str, first: str, second: str) -> None:
    assert not ps.equal(asked(kind), first, second)
    assert not ps.equal(asked(kind), second, first)


def test_pairs_of_many_kinds_come_back_in_order() -> None:
    items = [(asked(kind), first, second) for kind, first, second in (*EQUAL, *DIFFERENT)]
    items = items[::2] + items[1::2]
    wanted = [(problem.kind, first, second) in EQUAL for problem, first, second in items]
    assert verifiers.equal(items) == wanted
    assert verifiers.equal([]) == verifiers.read([]) == []


def test_what_is_no_problem_is_refused_with_the_call_that_works() -> None:
    with pytest.raises(ConfigError, match="read was given a str and a str"):
        ps.read("What is 1 + 1?", "2")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="a problem, or a trace on it, and two answers"):
        ps.equal(asked("number"), "2", 2)  # type: ignore[arg-type]
