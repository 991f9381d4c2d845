"""Where answers are found, and that hostile text costs no time."""

from __future__ import annotations

import time

import pytest

from potstill.verifiers import extract, thoughts
from potstill.verifiers.extract import Candidate
from potstill.verifiers.thoughts import reading_thoughts


def test_marks_have_a_rank_and_the_last_one_counts() -> None:
    assert extract.marked_answer("\\boxed{1} then \\boxed{2}") == Candidate("2", "boxed")
    assert extract.marked_answer("\\boxed{1}\nThe answer is 2") == Candidate("1", "boxed")
    assert extract.marked_answer("\\boxed{1}\n#### 2") == Candidate("2", "####")
    assert extract.marked_answer("<answer>1</answer> \\boxed{}") == Candidate("1", "tag")
    assert extract.marked_answer("The answer is 1.\nA: 2") == Candidate("2", "answer")
    assert extract.marked_answer("No answer here") is None


def test_boxes_are_read_to_their_own_brace() -> None:
    assert extract.marked_answer("\\boxed{\\frac{1}{2}}") == Candidate("\\frac{1}{2}", "boxed")
    assert extract.marked_answer("\\boxed{\\{1, 2\\}}") == Candidate("\\{1, 2\\}", "boxed")
    assert extract.marked_answer("\\boxed{a \\boxed{b}}") == Candidate("a \\boxed{b}", "boxed")
    assert extract.marked_answer("\\boxed{3} and $\\boxed{5}$") == Candidate("3, 5", "boxed")
    assert extract.marked_answer("\\boxed{3} is half of \\boxed{6}") == Candidate("6", "boxed")
    assert extract.marked_answer("\\boxed{3} but then \\boxed{4") == Candidate("3", "boxed")


def test_only_what_follows_the_reasoning_is_searched() -> None:
    assert thoughts.split_reply("a</think>b</think>c") == ("c", "a</think>b")
    assert thoughts.split_reply("a<think>b") == ("a", "b")
    assert thoughts.split_reply("<think>a</think>b<think>c") == ("b", "<think>ac")
    text = "<think>\\boxed{1}</think>So it is\ntwo"
    assert extract.candidates(text) == (Candidate("two", "last line"),)
    with reading_thoughts():
        assert extract.candidates(text) == (
            Candidate("two", "last line"),
            Candidate("1", "boxed"),
        )
        assert extract.candidates("<think>the last line") == ()


HOSTILE = {
    "open boxes": "\\boxed{" * 200_000,
    "closed boxes": "\\boxed{1}," * 100_000,
    "open tags": "<answer>" * 200_000,
    "hashes": "####\n" * 200_000,
    "answers": "answer " * 200_000,
    "spaces": "answer" + " " * 1_000_000,
    "marks": "A:" * 300_000,
    "lines": "\n" * 1_000_000,
    "braces": "{" * 1_000_000,
    "ten megabytes": "\\boxed{" + "9" * 10_000_000 + "}",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.slow
def test_hostile_text_is_searched_quickly(text: str) -> None:
    start = time.process_time()
    extract.candidates(text)
    assert time.process_time() - start < 1
