"""Gold answers: what a text ends in, as the verifiers read it; and a sentence that says no answer is none."""

from __future__ import annotations

import pytest

from potstill import verifiers
from potstill.data.gold import read_gold
from potstill.errors import InputError
from potstill.records import Problem


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Adding them we get that the answer is: 9.", "9"),
        ("Therefore, the answer is 13.", "13"),
        ("First add.\nThe final answer is **9**.", "9"),
        ("The answer is \\frac{1}{2}.", "\\frac{1}{2}"),
        ("The answer is 9. That is all.", "9"),
        ("4 + 5 = 9\n#### 9", "9"),
        ("Hence \\boxed{x^{2}}.", "x^{2}"),
    ],
)
def test_the_final_answer_of_prose(text: str, answer: str) -> None:
    assert read_gold(text) == (answer, text)


@pytest.mark.parametrize("text", ["9", "x = 3", "\\text{Monday}", "A: is for\nmore", ""])
def test_what_is_an_answer_stays(text: str) -> None:
    assert read_gold(text) == (text, "")


def test_texts_patterns_and_references_are_not_searched() -> None:
    text = "The answer is: 9."
    for kind in ("exact", "regex", "judge", "format"):
        assert read_gold(text, kind).answer == text


def test_verls_reward_model_holds_the_gold() -> None:
    assert read_gold({"style": "rule", "ground_truth": "9"}).answer == "9"


def test_an_object_is_no_gold_answer_unless_it_says_which() -> None:
    with pytest.raises(InputError, match="the gold answer is an object"):
        read_gold({"value": "Paris", "aliases": ["paris"]})
    assert read_gold({"value": 1}, "judge").answer == '{"value":1}'


def test_a_gold_answer_that_is_a_sentence_does_not_pass_by_being_equal_to_itself() -> None:
    sentence = "There are nine ducks left in the pond at the end of the day."
    good = [
        Problem(str(n), "?", gold)
        for n, gold in enumerate(["9", "\\text{no solution}", "Navin and Luis"])
    ]
    bad = Problem("bad", "?", sentence)
    [(problem, verdict)] = verifiers.check_gold([*good, bad])
    assert problem.id == "bad" and "sentence" in verdict.reason
    short = Problem("short", "?", "Well, two and two makes four.")
    assert [problem.id for problem, _ in verifiers.check_gold([*good, short])] == ["short"]
