"""The step verifier of reasoning-gym's small arithmetic: equations against what the question requires."""

from __future__ import annotations

import dataclasses
from random import Random

import pytest

from potstill import verifiers
from potstill.records import Problem, blank
from potstill.traces import sound, verify
from potstill.verifiers.equations import follow
from potstill.verifiers.equations.families import (
    FAMILIES,
    solve_first_question,
    solve_question,
)
from potstill.world.gym.styles import STYLES

SUM = "State the final answer to the following arithmetic problem: 3 + 4 - 2 ="
QUESTIONS = {
    "chain_sum": (SUM, "5"),
    "products": (
        "Solve the following multiplication: 3 * 4 * 2. Give only the result as your final answer.",
        "24",
    ),
    "basic_arithmetic": ("Calculate 3 * ( 5 + -3 ) - 8.", "-2"),
    "simple_equations": ("Solve for n: 9*n - 1 = 35", "4"),
    "leg_counting": (
        "Your task is to count how many legs there are in total when given a list of animals.\n\n"
        "Now, how many legs are there in total if you have 3 lions, 2 birds, 1 cat?",
        "20",
    ),
    "gcd": (
        "Find the Greatest Common Divisor (GCD) of these numbers: 21, 24. Give only the GCD as your final answer.",
        "3",
    ),
    "count_bits": (
        "How many 1 bits are there in the binary representation of the number 13?",
        "3",
    ),
}


def problem_of(family: str, kind: str = "number") -> Problem:
    question, answer = QUESTIONS[family]
    return Problem("p", question, answer, kind, source=f"gym:{family}")


def scores(family: str, text: str) -> list[float]:
    return [span.score for span in follow.steps(problem_of(family), text)]


@pytest.mark.parametrize("family", FAMILIES)
def test_what_the_styles_write_is_right_in_every_step(family):
    problem = problem_of(family)
    solution = solve_question(problem.question)
    assert str(solution.answer) == problem.answer
    for write in STYLES.values():
        for seed in range(8):
            assert set(scores(family, write(solution, Random(seed)))) == {1.0}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3 + 4 = 7. 7 - 2 = 5. \\boxed{5}", [1, 1, 1]),
        ("4 + 3 = 7 - 2 = 5. \\boxed{5}", [1, 1, 1]),
        ("3 + 4 - 2 = 5. \\boxed{5}", [1, 1]),
        # False, and what follows from it.
        ("3 + 4 = 8. 8 - 2 = 6. \\boxed{6}", [0, 0, 0]),
        # Two errors that cancel.
        ("3 + 4 = 8. 8 - 3 = 5. \\boxed{5}", [0, 0, 0]),
        # True, and not what is asked.
        ("3 + 4 = 7. 7 + 2 = 9. \\boxed{9}", [1, 0, 0]),
        # Another way.
        ("4 - 2 = 2. 3 + 2 = 5. \\boxed{5}", [1, 1, 1]),
        # The answer without its steps, or with steps from nowhere.
        ("\\boxed{5}", [0]),
        ("3 + 2 = 5. \\boxed{5}", [0, 0]),
        ("5 + 0 = 5. \\boxed{5}", [0, 0]),
        # Taken back, started again, checked.
        ("3 + 4 = 8. Wait, no. 3 + 4 = 7. Check: 7 - 4 = 3. 7 - 2 = 5. \\boxed{5}", [1, 1, 1, 1]),
        ("3 + 4 = 7. Start again. 7 - 2 = 5. \\boxed{5}", [1, 1, 1]),
        # The question's own equation claims every step; how much is written out is the reference gate's matter.
        ("3 + 4 - 2 = 5. 3 + 4 = 7. \\boxed{5}", [1, 1, 1]),
        # An expression said in another way.
        ("3 + 4 - 2 = 7 - 2 = 5. \\boxed{5}", [1, 1, 1]),
        ("3 + 4 - 2 = 7 - 3 = 4. \\boxed{5}", [0, 0, 0]),
        # Other signs.
        ("3 + 4 = 7. 7 − 2 = 5. \\boxed{5}", [1, 1, 1]),
        ("4 + (–2) = 2. 3 + 2 = 5. \\boxed{5}", [1, 1, 1]),
        ("x" * 50, []),
    ],
)
def test_claims_are_judged_in_order(text, expected):
    assert scores("chain_sum", text) == expected


@pytest.mark.parametrize("sign", ["×", "·", "⋅", "x", "\\times", "\\cdot"])
def test_a_product_s_sign_may_be_any_of_the_usual_ones(sign):
    assert scores("products", f"3 {sign} 4 = 12. 12 {sign} 2 = 24. \\boxed{{24}}") == [1, 1, 1]
    assert scores("products", f"3 {sign} 4 = 13. 13 {sign} 2 = 26. \\boxed{{24}}") == [0, 0, 0]


def test_numbers_with_commas_are_whole_and_a_step_with_0_in_front_may_be_left_out():
    question = SUM.replace("3 + 4 - 2", "0 + 1200 - 9")
    solution = solve_question(question)
    for text in ("0 + 1,200 = 1,200. 1,200 - 9 = 1,191.", "1200 - 9 = 1191."):
        spans = follow.follow_text(solution, f"{text} \\boxed{{1,191}}").spans()
        assert [span.score for span in spans] == [1] * len(spans)
    assert len(follow.follow_text(solution, "1,200 - 9 = 191.").spans()) == 1


def test_steps_that_need_nothing_of_each_other_come_in_any_order():
    text = "1 * 4 = 4. 2 * 2 = 4. 3 * 4 = 12. 12 + 4 + 4 = 20. \\boxed{20}"
    assert scores("leg_counting", text) == [1] * 5


def test_putting_in_is_a_check():
    text = "9*n = 35 + 1 = 36, so n = 36 / 9 = 4: 9*4 - 1 = 35. \\boxed{4}"
    assert scores("simple_equations", text) == [1, 1, 1, 1]


@pytest.mark.parametrize("expression", ["-( 5 + 3 )", "7 / 2", "5", "( 3 + 4", "1 / 0"])
def test_an_expression_that_the_family_does_not_cover_has_no_solution(expression):
    assert solve_question(f"Calculate {expression}.") is None


def test_a_division_by_zero_and_long_numbers_are_claims_like_others():
    assert scores("chain_sum", "3 / 0 = 0. " + "9" * 400 + " + 1 = 2") == [0]


@pytest.mark.parametrize("kind", ["gym", "exact", "number", "math"])
def test_steps_are_checked_where_a_problem_comes_from_a_family(kind):
    problem = problem_of("chain_sum", kind)
    assert verifiers.has_steps(problem) and verifiers.steps_version(problem) == follow.VERSION
    assert not verifiers.has_steps(dataclasses.replace(problem, source="mine.jsonl"))
    assert not verifiers.has_steps(dataclasses.replace(problem, answer="6"))


def test_a_right_answer_with_a_false_step_is_not_sound():
    trace = blank(problem_of("chain_sum"))
    texts = ("3 + 4 = 7. 7 - 2 = 5. \\boxed{5}", "3 + 4 = 8. 8 - 3 = 5. \\boxed{5}")
    good, bad = verify(
        [dataclasses.replace(trace, text=text, finish_reason="stop") for text in texts]
    )
    assert sound(good) and not sound(bad)
    first_wrong = next(span for span in bad.spans if span.score == 0)
    assert bad.text[first_wrong.start : first_wrong.stop] == "3 + 4 = 8"


@pytest.mark.parametrize("text", ["( " * 3000, "1+" * 3000, "- 1 " * 3000, "3 + 4 = " * 300])
def test_hostile_texts_are_read_in_no_time(text):
    # A pattern that backtracks would hang here.
    assert solve_first_question(f"Calculate {text}") is None
    follow.steps(problem_of("chain_sum"), text)


def test_the_first_question_of_a_prompt_is_the_one_that_is_solved():
    other = QUESTIONS["products"][0]
    assert solve_first_question(f"Look.\n{SUM}\n\nAnd {other}").answer == 5
    assert solve_first_question("What is love?") is None
