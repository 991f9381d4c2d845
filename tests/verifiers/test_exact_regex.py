"""Exact strings and patterns, and a pattern that would never end."""

from __future__ import annotations

import time

import pytest

from potstill.records import Problem
from potstill.verifiers import exact, regex


@pytest.mark.parametrize(
    "text",
    [
        "red  blue",
        "The answer is red blue.",
        "Answer: **red blue**",
        "I see.\n\nred blue\n",
        "<answer>\nred\nblue</answer>",
    ],
)
def test_exact_is_right_up_to_white_space(text: str) -> None:
    found = exact.judge(Problem("p", "?", "red blue", "exact"), text)
    assert (found.status, found.answer, found.verifier) == ("right", "red blue", "exact@3")


def test_exact_grids_of_several_lines() -> None:
    assert exact.judge(Problem("p", "?", "1 2\n3 4", "exact"), "1 2\n3 4").status == "right"
    assert (
        exact.judge(Problem("p", "?", "1 2\n3 4", "exact"), "<think>…</think>1 2\n3 5").status
        == "unparsed"
    )


@pytest.mark.parametrize(
    "text", ["red blu", "Answer: Red blue", "The answer is blue red", "\\boxed{red-blue}"]
)
def test_exact_near_misses_are_wrong(text: str) -> None:
    assert exact.judge(Problem("p", "?", "red blue", "exact"), text).status == "wrong"


@pytest.mark.parametrize(
    "text",
    ["", "<think>red blue", "First I look at red.\nThen at the blue one, and then I stop to"],
)
def test_exact_without_an_answer_is_unparsed(text: str) -> None:
    assert exact.judge(Problem("p", "?", "red blue", "exact"), text).status == "unparsed"


def test_exact_without_gold_is_unjudged() -> None:
    assert exact.judge(Problem("p", "?", None, "exact"), "red").status == "unjudged"


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("The answer is 12:30.", "right"),
        ("So it is\n7:05", "right"),
        ("The answer is 12:3", "wrong"),
        ("The answer is 112:30", "wrong"),
        ("So I look at the clock,\nand then I stop to", "unparsed"),
        ("", "unparsed"),
    ],
)
def test_a_pattern_must_match_all_of_the_answer(text: str, status: str) -> None:
    assert regex.judge(Problem("p", "?", r"\d{1,2}:\d\d", "regex"), text).status == status


def test_a_pattern_that_does_not_end_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(regex, "LIMIT_S", 0.2)
    start = time.monotonic()
    found = regex.judge(Problem("p", "?", r"(a+)+b", "regex"), "a" * 60)
    assert (found.status, found.reason) == ("unparsed", "matching did not finish within 0.2 s")
    assert time.monotonic() - start < 5
    assert regex.judge(Problem("p", "?", r"(a+)+b", "regex"), "aab").status == "right"


def test_a_pattern_that_is_none_is_unjudged() -> None:
    found = regex.judge(Problem("p", "?", "(", "regex"), "a")
    assert found.status == "unjudged"
    assert "does not compile" in found.reason
