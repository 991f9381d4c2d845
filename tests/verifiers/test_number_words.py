"""Numbers in words: English, Han and Sino-Korean numerals, and what is none."""

from __future__ import annotations

from fractions import Fraction

import pytest

from potstill import verifiers
from potstill.records import Problem
from potstill.verifiers.number_words import read_words


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("zero", 0),
        ("seventeen", 17),
        ("Sixty-eight", 68),
        ("one hundred and five", 105),
        ("two thousand three hundred forty-two", 2342),
        ("nineteen hundred", 1900),
        ("nine hundred ninety-nine thousand nine hundred ninety-nine", 999_999),
        ("one million and one", 1_000_001),
        ("minus three", -3),
        ("two dozen", 24),
        ("half", Fraction(1, 2)),
        ("three quarters", Fraction(3, 4)),
        ("seven eighths", Fraction(7, 8)),
        ("six and two thirds", Fraction(20, 3)),
        ("8 and a half", Fraction(17, 2)),
        ("two point five", Fraction(5, 2)),
        ("十", 10),
        ("九十六", 96),
        ("一百零五", 105),
        ("三万五千", 35_000),
        ("二〇二四", 2024),
        ("负七", -7),
        ("칠십삼", 73),
    ],
)
def test_numbers_in_words_are_read(text: str, value: int | Fraction) -> None:
    assert read_words(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "and",
        "12",
        "hundred",
        "one two",
        "fifty fifty",
        "thirty-ten",
        "one and",
        "ten cats",
        "point",
        "万人",
    ],
)
def test_other_texts_are_none(text: str) -> None:
    assert read_words(text) is None


@pytest.mark.parametrize(
    ("gold", "text", "status"),
    [
        ("68", "The answer is sixty-eight dollars.", "right"),
        ("68", "So there are sixty-eight.", "right"),
        ("68", "#### sixty-eight", "right"),
        ("6.5", "The answer is 6 and a half cups.", "right"),
        ("40", "The answer is forty percent.", "right"),
        ("68", "The answer is sixty-nine.", "wrong"),
        ("68", "The answer is 68 (sixty-eight).", "right"),
        ("1", "No one knows.", "unparsed"),
        ("1", "One cannot say.", "unparsed"),
        ("1", "I see one of them.", "unparsed"),
    ],
)
def test_the_verifier_of_numbers_reads_them(gold: str, text: str, status: str) -> None:
    assert verifiers.judge([(Problem("p", "?", gold, "number"), text)])[0].status == status
