"""Multiple choice: letters in the usual wordings, options by their text, and answers that name two."""

from __future__ import annotations

import pytest

from potstill.records import Problem
from potstill.verifiers import choice

PROBLEM = Problem(
    "p", "What is it?", "B", "choice", choices=("a cat", "$12", "12 km", "None of these")
)


@pytest.mark.parametrize(
    "text",
    [
        "The answer is B",
        "The answer is (B).",
        "Answer: B",
        "**Answer:** **B**",
        "The correct answer is B because cats do not cost money.",
        "\\boxed{B}",
        "\\boxed{\\text{B}}",
        "\\boxed{\\textbf{(B)}}",
        "\\boxed{b}",
        "#### B",
        "<answer>B</answer>",
        "So it costs twelve dollars.\nB",
        "So it costs twelve dollars.\n(B) $12",
        "Therefore the correct option is (B).",
        "The best choice is option B.",
        "The answer is $12.",
        "Answer: B) $12",
        "A) no, C) no.\nThe answer is B.",
        "<think>It is A. \\boxed{A}</think>The answer is B.",
    ],
)
def test_the_usual_wordings_name_b(text: str) -> None:
    found = choice.judge(PROBLEM, text)
    assert (found.status, found.answer, found.verifier) == ("right", "B", "choice@5")


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("The answer is (C).", "C"),
        ("Answer: 12 km", "C"),
        ("\\boxed{A}", "A"),
        ("The answer is a cat.", "A"),
    ],
)
def test_another_option_is_wrong(text: str, letter: str) -> None:
    found = choice.judge(PROBLEM, text)
    assert (found.status, found.answer) == ("wrong", letter)


def test_a_letter_without_an_option_is_wrong_and_said_so() -> None:
    found = choice.judge(PROBLEM, "The answer is (F).")
    assert (found.status, found.reason) == (
        "wrong",
        "names F, not B (answer); there are only 4 options",
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("The answer is A or B.", "names A and B (answer)"),
        ("The answer is (A) and (B)", "names A and B (answer)"),
        ("The answer is a mystery.", "names no option (answer)"),
        ("I don't know.", "names no option (last line)"),
        ("", "nothing that could be an answer"),
    ],
)
def test_what_names_no_one_option_is_unparsed(text: str, reason: str) -> None:
    found = choice.judge(PROBLEM, text)
    assert (found.status, found.answer, found.reason) == ("unparsed", None, reason)


def test_the_gold_option_is_a_letter_or_its_text() -> None:
    assert choice.gold_letter(Problem("p", "?", "12 km", "choice", choices=PROBLEM.choices)) == "C"
    assert choice.gold_letter(Problem("p", "?", "(d)", "choice", choices=PROBLEM.choices)) == "D"
    for gold in (None, "E", "13 km"):
        assert (
            choice.judge(Problem("p", "?", gold, "choice", choices=PROBLEM.choices), "B").status
            == "unjudged"
        )


WORDINGS = (
    "The answer is: B",
    "The correct choice is B.",
    "Answer: (B) $12",
    "**B**",
    "B.",
    "(B)",
    "[B]",
    "B)",
    "Option B",
    "Option (B)",
    "I choose B.",
    "I would go with B.",
    "So, B is correct.",
    "B is the correct answer.",
    "Hence option B is correct.",
    "Therefore, the answer is \\(B\\).",
    "The answer is $\\boxed{\\text{(B)}}$",
    "The answer is **B: $12**",
    "Answer - B",
    "Ans: B",
    "Correct answer: B",
    "My answer: B",
    "The final answer is $\\mathbf{B}$.",
    "**Final Answer**\nB",
    "Final answer: \\(\\boxed{B}\\)",
    "\\boxed{B) $12}",
    "\\boxed{\\text{B. } \\$12}",
    "\\boxed{(B)\\ 12}",
    "\\boxed{\\mathrm{(B)}}",
    "The answer is Ｂ.",
    "the answer is b",
    "The answer is (b).",
    "答案：B",
    "Choice: B",
    "A is wrong, C is wrong, so B.",
    "The answer is not A but B.",
    "The answer is B, not A.",
    "It can't be A. The answer is B.",
    'The answer is "B".',
    "The answer is 'B'",
    "Answer:B",
    "ANSWER: B",
    "Answer is B",
    "The answer would be B.",
    "The best answer is B.",
    "The right option is B",
    "#### (B)",
    "<answer>(B) $12</answer>",
    "\\textbf{B}",
    "$\\textbf{(B)}\\ 12$",
    "{B}",
    "B, since it costs 12.",
    "So the answer is option B: $12.",
)


@pytest.mark.parametrize("text", WORDINGS)
def test_more_wordings_of_b(text: str) -> None:
    found = choice.judge(PROBLEM, text)
    assert (found.status, found.answer) == ("right", "B")


@pytest.mark.parametrize(
    "text",
    [
        "Among the options, B fits best.",
        "The answer is not B.",
        "B or C is correct.",
    ],
)
def test_what_could_be_another_option_is_never_right(text: str) -> None:
    assert choice.judge(PROBLEM, text).status == "unparsed"


def test_the_option_that_is_left_is_named() -> None:
    verdict = choice.judge(PROBLEM, "Both A and B are wrong, so D.")
    assert (verdict.status, verdict.answer) == ("wrong", "D")
