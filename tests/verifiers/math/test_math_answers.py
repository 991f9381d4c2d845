"""Answers as people and models write them, answers too large to evaluate, and the time limit in every thread."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import differences
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from math_answers import ANSWERS, TOO_LARGE

from potstill.records import Problem, Verdict
from potstill.verifiers import unicode
from potstill.verifiers.math import equality, normalise, too_large


def judged(pairs: Sequence[tuple[str, str]]) -> list[Verdict]:
    return equality.judge_all([(Problem("p", "?", gold, "math"), text) for gold, text in pairs])


def test_every_answer_of_the_table_is_judged_as_it_should_be() -> None:
    found = judged([(gold, text) for _, gold, text, _ in ANSWERS])
    off = [
        (*row, v.status, v.reason)
        for row, v in zip(ANSWERS, found, strict=True)
        if v.status != row[3]
    ]
    assert not off
    assert len(ANSWERS) > 200


@pytest.mark.parametrize("answer", TOO_LARGE, ids=lambda answer: answer[:30])
def test_too_large_answers_are_never_right_and_cost_next_to_nothing(answer: str) -> None:
    start = time.monotonic()
    [found] = judged([("\\frac{5}{7}", f"\\boxed{{{answer}}}")])
    assert found.status == "unparsed"
    assert time.monotonic() - start < 2, "without waiting for the worker's limit"


@pytest.mark.parametrize(
    "answer",
    [
        "2^{3^2}",
        "2^{100}",
        "5!",
        "(3!)!",
        "(2^{10})^{10}",
        "10^{2}(10^{10})",
        "(x+1)^{10}",
        "\\binom{50}{25}",
        "1000!",
    ],
)
def test_what_can_be_evaluated_is_not_too_large(answer: str) -> None:
    assert too_large.too_large_reason(answer) == ""


SLOW = "\\int \\frac{1}{x^{17}+x+1} dx"  # what `too_large` lets through


@pytest.mark.slow
def test_the_limit_holds_in_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(equality, "LIMIT_S", 0.5)
    start = time.monotonic()
    with ThreadPoolExecutor(2) as threads:
        found = list(threads.map(lambda n: judged([("5", f"\\boxed{{{SLOW}+{n}}}")])[0], range(2)))
    assert {v.reason for v in found} == {"the comparison did not finish within 0.5 s"}
    assert time.monotonic() - start < 20


def test_characters_of_other_scripts_are_normalised() -> None:
    assert unicode.normalise_characters("１２３．５ ≤ x² · ½ − √(x+1) 10⁻³\x00\u202e") == (
        "123.5 \\le  x^{2} \\cdot  \\frac{1}{2} - \\sqrt{(x+1)} 10^{-3}"
    )
    plain = "\\frac{1}{2} + x\n"
    assert unicode.normalise_characters(plain) is plain


@settings(deadline=None)
@given(st.text(max_size=300))
def test_no_text_breaks_normalisation(text: str) -> None:
    normalised = unicode.normalise_characters(text)
    (
        normalise.to_algebra(normalised),
        normalise.exact_number(normalised),
        normalise.as_interval(normalised, "[1,2]"),
    )
    (
        normalise.is_same_time(normalised, normalised),
        normalise.is_same_range(normalised, normalised),
        normalise.says_none(normalised),
        too_large.too_large_reason(normalised),
    )
    assert equality.judge(Problem("p", "?", "18", "math"), f"\\boxed{{{text}") is not None


@pytest.mark.parametrize(
    "text",
    [
        "1 " * 500,
        "1'" * 500,
        "0.(" * 300,
        "[1,2" * 250,
        "x<" * 500,
        "√" * 900,
        "\\text{" * 160,
        "!" * 999,
    ],
)
def test_hostile_texts_take_no_time(text: str) -> None:
    start = time.process_time()
    equality._read_answer(Problem("p", "?", "[1,2]", "math"), f"\\boxed{{{text}}}")
    equality._comparison_task("[1,2]", text)
    assert time.process_time() - start < 0.2


@pytest.mark.slow
def test_the_table_of_differences_in_the_docs_is_what_real_calls_say() -> None:
    rows = differences.judged_rows(timeout_s=1)
    assert differences.written(differences.DOC.read_text("utf-8")) == differences.table(rows)
    for gold, text, theirs, ours, why in rows:
        assert theirs.replace("reads nothing", "unparsed") != ours, (gold, text)
        assert why
