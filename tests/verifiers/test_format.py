"""The form of a text: its marks, each as often as asked, in order, with something between them."""

from __future__ import annotations

import time

import pytest

from potstill import verifiers
from potstill.records import Problem
from potstill.verifiers import format as form

THINK = Problem("p", "?", "<think>…</think><answer>…</answer>", "format")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("<think>a</think><answer>b</answer>", ""),
        (" <think>\na\n</think>\n\n<answer> b </answer>\n", ""),
        ("<think>a < b</think><answer>\\boxed{1}</answer>", ""),
        ("", "<think> stands 0 times, not 1"),
        ("<think>a</think>b", "<answer> stands 0 times, not 1"),
        ("<think>a</think><think>b</think><answer>c</answer>", "<think> stands 2 times, not 1"),
        ("<answer>b</answer><think>a</think>", "something before <think>"),
        ("<think><answer>b</answer></think>", "</think> comes too early"),
        ("<think> </think><answer>b</answer>", "nothing before </think>"),
        ("<think>a</think>so<answer>b</answer>", "something before <answer>"),
        ("Well. <think>a</think><answer>b</answer>", "something before <think>"),
        ("<think>a</think><answer>b</answer> I hope this helps", "something after the end"),
    ],
)
def test_the_form_and_what_misses_it(text: str, why: str) -> None:
    found = form.judge(THINK, text)
    if text == "<think><answer>b</answer></think>":
        assert found.status == "wrong"
    else:
        assert (found.status, found.reason) == (
            ("wrong", why) if why else ("right", "has the form")
        )


def test_words_may_be_marks_and_the_end_may_be_open() -> None:
    problem = Problem("p", "?", "Reasoning: ... Answer: ...", "format")
    assert form.judge(problem, "Reasoning: two\nAnswer: 3").status == "right"
    assert form.judge(problem, "Reasoning: two\nAnswer:").reason == "nothing at the end"
    assert form.judge(problem, "Answer: 3").reason == "Reasoning: stands 0 times, not 1"


def test_golds_and_problems_without_a_form() -> None:
    bad = [Problem("q", "?", "…", "format"), Problem("r", "?", "", "format")]
    assert [p.id for p, _ in verifiers.check_gold([THINK, *bad])] == ["q", "r"]
    assert form.judge(Problem("s", "?", None, "format"), "x").status == "unjudged"


def test_hostile_texts_cost_no_time() -> None:
    start = time.process_time()
    for text in ("<think>" * 1_000_000, "<" * 5_000_000, "a" * 5_000_000):
        assert form.judge(THINK, text).status == "wrong"
    assert time.process_time() - start < 1
