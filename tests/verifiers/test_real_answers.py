"""Answers as models write them: units with powers, short scales, fences, struck out text, labels of other languages."""

from __future__ import annotations

import pytest

from potstill import verifiers
from potstill.records import Problem

OPTIONS = ("Copper", "The moon", "Both of them", "15 m/s")


def status(kind: str, gold: str, text: str) -> str:
    choices = OPTIONS if kind == "choice" else ()
    return verifiers.judge([(Problem("p", "?", gold, kind, choices=choices), text)])[0].status


RIGHT = [
    ("number", "36", "\\boxed{36\\,\\text{m}^2}"),
    ("number", "36", "The area is 36 cm^2."),
    ("number", "36", "The area is 36 m²."),
    ("number", "36", "a = 36 m/s^2"),
    ("number", "360", "3.6 × 10^2"),
    ("number", "1700000", "1.700.000"),
    ("number", "1700000.5", "The answer is 1.700.000,50."),
    ("number", "1700000", "It costs $1.7M."),
    ("number", "17000", "Answer: 17k"),
    ("number", "1700000", "The answer is 17 lakh."),
    ("number", "36", "Answer:\n```\n36\n```"),
    ("number", "36", "The result:\n\n```text\n36\n```"),
    ("number", "36", "The answer is ~~40~~ 36."),
    ("number", "36", "Respuesta: 36"),
    ("number", "36", "He is 36x as rich."),
    ("number", "36", "The answer is 36 - a square."),
    ("number", "36", 'So <span style="font-size: 12px">36</span>'),
    ("choice", "B", "The moon"),
    ("choice", "B", "The answer is the moon."),
    ("choice", "B", "正确答案是B。"),
    ("choice", "B", "故选B。"),
    ("choice", "B", "```\nB\n```"),
    ("choice", "B", '{"answer": "B"}'),
    ("choice", "B", "B - The moon"),
    ("choice", "B", "Answer: B because A is a metal."),
    ("choice", "D", "The speed is 15 m/s."),
    ("exact", "Bonn", "Réponse : Bonn"),
    ("exact", "Bonn", "Answer:\n```\nBonn\n```"),
    ("math", "4,-5", "The roots are $x=4$ and $x=-5$."),
    ("math", "\\ln 5", "\\boxed{\\log_e 5}"),
]
NEVER_RIGHT = [
    ("number", "36", "The answer is 36x."),
    ("number", "36", "Answer: 36 + x"),
    ("number", "36", "The answer is 36x^2."),
    ("number", "36", "Let me try: 36? That doesn't work."),
    ("number", "36", "36? No, that is too small."),
    ("number", "1.2", "The version is 1.2.3."),
    ("choice", "B", "All but B"),
    ("choice", "B", "(A) Copper - correct\n(B) The moon - incorrect"),
    ("exact", "Bonn", "The answer is Bonn? No, Rome."),
    ("math", "4", "The roots are $x=4$ and $x=-5$."),
]


@pytest.mark.parametrize(("kind", "gold", "text"), RIGHT)
def test_the_answer_is_read(kind: str, gold: str, text: str) -> None:
    assert status(kind, gold, text) == "right"


@pytest.mark.parametrize(("kind", "gold", "text"), NEVER_RIGHT)
def test_what_only_holds_the_gold_answer_is_not_right(kind: str, gold: str, text: str) -> None:
    assert status(kind, gold, text) != "right"


@pytest.mark.parametrize(
    "text",
    [
        "`SELECT a FROM t WHERE a <> 'x'`",
        "SQL: SELECT a FROM t WHERE a <> 'x';\nThis leaves out x.",
        "SELECT a FROM t WHERE a <> 'x'; It leaves out x.",
    ],
)
def test_a_query_in_a_line_of_prose_is_read(text: str) -> None:
    problem = Problem("p", "?", "SELECT a FROM t WHERE a <> 'x'", "table", table="a\nx\ny\n")
    assert verifiers.read([(problem, text)]) == ["SELECT a FROM t WHERE a <> 'x'"]


def test_a_second_statement_after_a_query_stays_and_is_refused() -> None:
    problem = Problem("p", "?", "SELECT a FROM t", "table", table="a\nx\n")
    assert verifiers.judge([(problem, "SELECT a FROM t; DROP TABLE t;")])[0].status == "wrong"
