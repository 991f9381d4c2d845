"""Exact numbers: how they are marked, read, compared, and when they can't be told."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.records import Problem
from potstill.verifiers import number


def verdict(gold: str | None, text: str) -> tuple[str, str | None]:
    """Status and answer."""
    found = number.judge(Problem("p", "How many?", gold, "number"), text)
    assert found.verifier == "number@4"
    assert found.reason
    return found.status, found.answer


@pytest.mark.parametrize(
    "text",
    [
        "9 * 2 = 18\n#### 18",
        "She makes 9 * 2 = $<<9*2=18>>18 every day.\nA: 18",
        "The answer is 18.",
        "So the final answer is: **18**",
        "**Answer:** $18.00",
        "Final Answer:\n\n18 dollars",
        "The answer to this problem is 9 * 2 = 18 dollars (since 9 eggs are left).",
        "Thus we get \\[\\boxed{18}\\] as claimed.",
        "\\boxed{\\text{18 eggs}}",
        "\\boxed{\\frac{36}{2}}",
        "<answer> 18 </answer>",
        "First 5 and 6, then\nshe makes 18 dollars",
        "A: 18\n\nQ: And what is 3 + 4?",
        "#### Step 1: add 3\nSo 3 + 15\n#### 18",
        "The answer is 17. No, wait.\nThe answer is 18.",
        "<think>The answer is 7. \\boxed{7}</think>The answer is 18.",
        "<think>draft \\boxed{3}</think><think>again</think>#### 18",
    ],
)
def test_the_usual_ways_to_give_eighteen_are_right(text: str) -> None:
    assert verdict("18", text) == ("right", "18")


@pytest.mark.parametrize(
    ("gold", "text", "answer"),
    [
        ("1,250", "A: 1250", "1250"),
        ("1450000", "#### 1,450,000", "1450000"),
        ("0.5", "\\boxed{\\frac12}", "0.5"),
        ("1.5", "The answer is 1 1/2 cups", "1.5"),
        ("1/3", "\\boxed{\\dfrac{1}{3}}", "1/3"),
        ("-7", "so the result is −7.", "-7"),
        ("-7", "Answer: $-7$", "-7"),
        ("25", "The answer is 25%.", "25%"),
        ("0.25", "The answer is 25\\%", "25%"),
        ("25%", "The answer is 0.25", "0.25"),
        ("1500", "\\boxed{1.5 \\times 10^{3}}", "1500"),
        ("10000", "\\boxed{10{,}000}", "10000"),
        ("0", "A: -0.0", "0"),
        ("1250000", "The answer is 1'250'000.", "1250000"),
        ("1250000", "A: 1\u202f250\u202f000", "1250000"),
        ("1250000", "The answer is $1.25 million.", "1250000"),
        ("1.25", "The answer is 1.25 million.", "1.25"),
        ("3.5", "A: 3½", "3.5"),
        ("18", "The answer is １８．", "18"),
        ("18", "\\boxed{1\u200b8}", "18"),
    ],
)
def test_forms_of_a_number_are_compared_exactly(gold: str, text: str, answer: str) -> None:
    assert verdict(gold, text) == ("right", answer)


@pytest.mark.parametrize(
    ("gold", "text", "answer"),
    [
        ("18", "A: 17", "17"),
        ("18", "A: 18.01", "18.01"),
        ("18", "A: -18", "-18"),
        ("18", "#### 180", "180"),
        ("1/3", "A: 0.3333", "0.3333"),
        ("1250", "A: 1.250", "1.25"),
        ("25%", "A: 2500%", "2500%"),
        ("18", "The total is 18.\nA: 81", "81"),
        ("18", "<think>\\boxed{18}</think>The answer is 19.", "19"),
    ],
)
def test_near_misses_are_wrong(gold: str, text: str, answer: str) -> None:
    assert verdict(gold, text) == ("wrong", answer)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "nothing that could be an answer"),
        ("I can't solve this.", "no number (last line)"),
        ("There were 18.\nBut I am not sure", "no number (last line)"),
        ("The answer is 18 or 20.", "2 different numbers (answer)"),
        ("\\boxed{18} or \\boxed{20}", "2 different numbers (boxed)"),
        ("He needs 5 * 18", "2 different numbers (last line)"),
        ("A: 10:30", "2 different numbers (answer)"),
        ("<think>18", "nothing that could be an answer"),
        ("A: 5/0", "a number that can't be evaluated (answer)"),
        ("\\boxed{" + "9" * 1_000 + "}", "an answer of 1000 characters (boxed)"),
        ("A: 1e999999", "no number (answer)"),
        ("\\boxed{18", "nothing that could be an answer"),
    ],
)
def test_what_cannot_be_told_is_unparsed_and_says_why(text: str, reason: str) -> None:
    found = number.judge(Problem("p", "How many?", "18", "number"), text)
    assert (found.status, found.answer, found.reason) == ("unparsed", None, reason)


def test_without_a_usable_gold_answer_nothing_is_judged() -> None:
    assert verdict(None, "18") == ("unjudged", "18")
    assert verdict("about eighteen", "18") == ("unjudged", "18")


@given(st.fractions(min_value=-(10**9), max_value=10**9, max_denominator=10**4))
def test_any_fraction_written_out_is_read_back_exactly(value: Fraction) -> None:
    for text in (f"{value.numerator}/{value.denominator}", str(number.Value(value))):
        read = number.read_number(text)
        assert isinstance(read, number.Value)
        assert read.value == value
    assert (
        verdict(str(value), f"so it is\nA: {number.Value(value + Fraction(1, 10**5))}")[0]
        == "wrong"
    )


@given(st.text(max_size=200))
def test_no_text_makes_it_fail(text: str) -> None:
    assert number.judge(Problem("p", "?", "18", "number"), text).status in (
        "right",
        "wrong",
        "unparsed",
    )
