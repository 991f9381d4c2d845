"""What is denied, bounded or called wrong is no answer; what stands beside it is, and chatter changes nothing."""

from __future__ import annotations

import time

import pytest

from potstill import verifiers
from potstill.records import Problem
from potstill.verifiers import claims

OPTIONS = ("7 m", "9 m", "11 m", "at least one", "not enough information")


def status(kind: str, gold: str, text: str) -> str:
    choices = OPTIONS if kind == "choice" else ()
    return verifiers.judge([(Problem("p", "?", gold, kind, choices=choices), text)])[0].status


# Every text names the gold answer 90, 3/7 or C, and none gives it.
DENIED = {
    "number": (
        "The answer is not equal to 90.",
        "The answer must not be 90.",
        "I don't think the answer is 90.",
        "I doubt that the answer is 90.",
        "It is not the case that the answer is 90.",
        "If the answer is 90, we get a contradiction.",
        "90 is too large.",
        "90 cannot be right.",
        "Neither 80 nor 90 works.",
        "It can't be 80, 85 or 90.",
        "We can rule out 90.",
        "The answer is anything but 90.",
        "The answer is 90. No wait, the answer is not 90.",
        "#### not 90",
        "\\boxed{\\text{not } 90}",
        "The answer is no more than 90.",
        "The answer is over 90.",
        "The answer is up to $90.",
        "The answer is 90 or more.",
        "The answer exceeds 90.",
        "The answer is 90? That's wrong.",
        "The answer is nowhere near 90.",
        "By no means is it 90.",
        "The answer is almost 90.",
        "The answer is 90 at most.",
        "The answer is ±90.",
        "The answer is not just 90.",
        "90 ≤ x",
        "x > 90",
        "x >= 90",
        "\\boxed{x \\le 90}",
        "\\boxed{\\ne 90}",
    ),
    "math": (
        "The answer isn't $\\frac37$.",
        "The answer does not equal $\\frac{3}{7}$.",
        "It is not true that the answer is $\\frac{3}{7}$.",
        "The answer is greater than $\\frac{3}{7}$.",
        "So it can't be 3/7.",
        "$\\frac37$ is wrong.",
        "There is no way it's $\\frac37$.",
        "The answer is $\\frac37$ at most.",
        "3/7 is not the answer.",
        "\\boxed{\\text{at most } \\frac37}",
        "\\boxed{\\text{not } \\frac37}",
        "\\boxed{\\ge \\frac{3}{7}}",
        "\\boxed{x \\neq \\frac{3}{7}}",
    ),
    "choice": (
        "The answer can't be (C).",
        "I don't think the answer is (C).",
        "(C) is impossible.",
        "C is not the answer.",
        "Option C fails.",
        "We eliminate (A) and (C).",
        "(C) can be ruled out.",
        "Neither A nor C.",
        "Everything except (C).",
        "\\boxed{\\text{not C}}",
        "If the answer is C, we get a contradiction.",
        "A, B and C are wrong.",
        "The answer is not (A), (B), or (C).",
        "The answer is none of A, C, D.",
        "The answer is (C)? That's wrong.",
        "<answer>not C</answer>",
        "The answer is not 11 m.",
        "The answer is any option other than (C).",
    ),
}
# Every text gives the gold answer 90, 3/7 or C, though it may deny, doubt or chatter.
STANDING = {
    "number": (
        "The answer is 90 rather than 70.",
        "Instead of 70, the answer is 90.",
        "The answer is not 70. It is 90.",
        "The answer isn't 70; it's 90.",
        "70 is too small, so 90.",
        "It can't be 70, so it must be 90.",
        "The answer is not 50, 60 or 70 but 90.",
        "The answer is 90. The answer is not 70.",
        "Not only does 70 fail, but the answer is 90.",
        "I'm not sure, but the answer is 90.",
        "There is no doubt: the answer is 90.",
        "I first thought 70, but it is 90.",
        "90 is correct, 70 is not.",
        "The answer is 90. The other answer is extraneous.",
        "The answer is 90. Note: this answer assumes that x is real.",
        "The answer is 90. I hope this answers your question: feel free to ask 2 more!",
        "Answer: 90. That is because the answer is always one more than 89.",
        "The answer is 90, at least according to my computation.",
        "The maximum possible value is 90.",
        "答案是90。",
        "90 students did not pass.",
        "The number of people who did not vote is 90.",
        "There are 90 cards that were not sold.",
        "The answer is 90, which is not a prime.",
        "The answer is 90 dollars (no more than 100).",
        "She needs at least 90 points.",
        "If x = 3 then the answer is 90.",
        "Don't forget the unit: the answer is 90 cm.",
        "The answer is approximately 90.",
        "=> 90",
        "<b>90</b>",
        "The answer is 90. The answer is rounded to 2 decimal places.",
        "Answer: 90\n\nExplanation: the answer is the product of 9 and 10.",
        "So 90 apples.\n\nI hope this helps with all 3 questions!",
        "90\n\nLet me know if you need 2 more examples.",
    ),
    "math": (
        "The answer is not $\\frac{2}{7}$ but $\\frac37$.",
        "The answer is $\\frac37$, not $\\frac27$.",
        "It is not a whole number. The answer is 3/7.",
        "The answer is not $\\frac27$. It is $\\frac37$.",
        "The answer is $\\frac37$ (not $\\frac27$).",
        "The answer is x = 3/7, not x = 2/7.",
        "The answer is 3/7. The other answer is rejected.",
        "I'm not certain, but the answer is $\\frac{3}{7}$.",
        "The answer is $\\frac{3}{7}$. I am sure that this answer is right.",
        "**Answer:** $\\frac{3}{7}$\n\n**Reasoning:** the answer is the quotient of 3 and 7.",
    ),
    "choice": (
        "The answer is (C) rather than (A).",
        "It can't be A, B or D, so it must be C.",
        "(A) is too short, (B) is too long, so (C).",
        "Neither A nor B fits; the answer is C.",
        "We eliminate A, B, and D, leaving (C).",
        "Option A is incorrect. Option C is correct.",
        "A is not right; C is.",
        "C remains.",
        "It is none of A, B, D; so C.",
        "I am sure it's C!",
        "So the force is \\boxed{F}. Hence the answer is (C).",
        "The answer is not 9 m but 11 m.",
        "Answer: (C)\n\nWhy not (A)? The answer is greater than 7.",
        "A does not work. B does not work. Hence (C).",
        "I'm not sure, but C.",
        "**Answer: C**\n\n(A) is wrong because 7 < 11.",
        "\\boxed{C}. A is wrong.",
        "The answer is C. I am confident that the answer is correct.",
        "So it is C.\n\nI hope this helps!",
        "We find \\boxed{9}. Hence the answer is C.",
        "So \\boxed{7\\text{ m}} is wrong.\n\nAnswer: C",
        "\\boxed{A \\cap B}\n\nC",
        "\\boxed{11\\text{ m}}",
    ),
}
GOLD = {"number": "90", "math": "\\frac{3}{7}", "choice": "C"}


@pytest.mark.parametrize("kind", DENIED)
def test_what_is_denied_or_a_bound_is_never_right(kind: str) -> None:
    taken = [text for text in DENIED[kind] if status(kind, GOLD[kind], text) == "right"]
    assert not taken


@pytest.mark.parametrize("kind", STANDING)
def test_what_is_claimed_beside_it_is_right(kind: str) -> None:
    lost = [text for text in STANDING[kind] if status(kind, GOLD[kind], text) != "right"]
    assert not lost


@pytest.mark.parametrize(
    "text", ["The answer is at least one.", "At least one.", "Answer: (D) at least one"]
)
def test_an_option_may_say_a_bound(text: str) -> None:
    assert status("choice", "D", text) == "right"


@pytest.mark.parametrize(
    "text", ["The answer is not enough information.", "\\boxed{\\text{not enough information}}"]
)
def test_an_option_may_begin_with_not(text: str) -> None:
    assert status("choice", "E", text) == "right"


def test_strings_are_what_they_say() -> None:
    assert status("exact", "not guilty", "The answer is not guilty.") == "right"
    assert status("exact", "Rome", "The answer is not Rome.") != "right"
    assert (
        status("exact", "Rome", "The answer is Rome. I'm sure that the answer is right.") == "right"
    )
    assert status("exact", "correct", "The answer is correct.") == "right"
    assert status("exact", "Rome", "The answer is Rome, not Bonn.") == "right"
    assert status("exact", "Rome", "The answer is not Bonn but Rome.") == "right"
    assert status("exact", "Bonn", "The answer is Rome, not Bonn.") == "wrong"
    assert status("exact", "St. Gallen", "The answer is St. Gallen. I am sure.") == "right"
    assert status("regex", "R.me", "The answer is Rome, not Bonn.") == "right"
    assert status("regex", "R.me", "The answer is not Rome.") != "right"
    assert status("math", "\\text{not prime}", "\\boxed{\\text{not prime}}") == "right"
    assert status("math", "\\text{Tuesday}", "The answer is Tuesday, not Monday.") == "right"
    assert status("math", "\\text{Tuesday}", "The answer is not Monday but Tuesday.") == "right"
    assert status("math", "\\text{Monday}", "The answer is certainly not Monday.") == "unparsed"
    assert status("math", "x > 5", "The answer is $x > 5$.") == "right"


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("7, not 9", "7"),
        ("not 9 but 7", "but 7"),
        ("It isn't 9, it's 7", "It  , it's 7"),
        ("9 is wrong and 7 is right", ""),
        ("9 were wrong", "9 were wrong"),
        ("not what we expected: 7", ": 7"),
        ("no solution", "no solution"),
        ("not only 9 but also 7", "not only 9 but also 7"),
        ("not only 9", ""),
        ("7 (not 9)", "7"),
        ("there is no way it's 9", "there is"),
    ],
)
def test_the_claimed_part(text: str, part: str) -> None:
    assert claims.claimed_part(text).strip(" ,") == part


HOSTILE = {
    "denials": "not " * 60_000,
    "copulas": "9 is " * 40_000,
    "bounds": "at least " * 30_000,
    "double denials": "nor " * 50_000,
    "answers": "The answer is not 9. " * 9_000,
    "remarks": "the answer is a. " * 12_000,
    "explanations": "Explanation: the answer is a.\n" * 6_000,
    "pleasantries": "I hope so\n" * 20_000,
    "number words": "one hundred " * 15_000,
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.slow
def test_hostile_texts_are_read_quickly(text: str) -> None:
    start = time.process_time()
    for kind in ("number", "math", "choice"):
        assert status(kind, GOLD[kind], f"The answer is {text}") != "right"
    assert time.process_time() - start < 1


@pytest.mark.parametrize("kind", STANDING)
def test_what_is_judged_right_is_what_is_read_without_gold(kind: str) -> None:
    problem = Problem("p", "?", None, kind, choices=OPTIONS if kind == "choice" else ())
    answers = verifiers.read([(problem, text) for text in STANDING[kind]])
    pairs = [(problem, answer or "", GOLD[kind]) for answer in answers]
    assert verifiers.equal(pairs) == [True] * len(pairs)
    denied = verifiers.read([(problem, text) for text in DENIED[kind]])
    pairs = [(problem, answer, GOLD[kind]) for answer in denied if answer is not None]
    assert not any(verifiers.equal(pairs))
