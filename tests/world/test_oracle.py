"""world:oracle is a program: it solves, finds a first wrong step, says why, and puts the rest right."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.methods.errors.orion.prompts import CORRECT_ALONE, REFLECT
from potstill.models.model import Model, Request, Scored, Trainable
from potstill.records import Message, Problem
from potstill.traces.prompts import fill_template
from potstill.verifiers import story as judge
from potstill.world import lessons, story
from potstill.world.oracle import Oracle, correct_attempt

NED = "Ned has 19 shells. Then Ned sells 14. Then Ned doubles the pile. How many shells does Ned have now?"
BRIEF = "19 - 14 = 5. 5 * 2 = 10. The answer is \\boxed{10}."
seeds = st.integers(0, 2**32)


def ask(prompt, prefix: str = "") -> str:
    [made] = Oracle().write([Request(prompt, prefix)])
    assert not made.error and made.finish_reason == "stop"
    return made.text


def drawn(seed: int) -> tuple[Problem, judge.Story]:
    question, made = story.draw_story(Random(seed), story.TASKS["story"])
    return Problem("p", question, str(judge.required_equations(made)[-1].result), "story"), made


def sound(problem: Problem, text: str) -> bool:
    return judge.judge(problem, text).status == "right" and {
        s.score for s in judge.steps(problem, text)
    } == {1.0}


def test_it_is_labelled_as_a_program_and_can_be_neither_trained_nor_scored():
    oracle = Oracle()
    assert oracle.id == "program-oracle-story@1"
    assert (
        isinstance(oracle, Model)
        and not isinstance(oracle, Trainable)
        and not isinstance(oracle, Scored)
    )


def test_it_solves_a_story_however_it_is_asked():
    assert ask(NED) == ask(f"{NED}\n\nPlease put your answer within \\boxed{{}}.") == BRIEF
    assert ask((Message("system", "Think."), Message("user", NED))) == BRIEF
    assert ask(NED, prefix="19 - 14 = 5.") == " 5 * 2 = 10. The answer is \\boxed{10}."


def test_without_a_story_it_fails_and_says_so():
    for prompt in (
        "",
        "What is 2 + 2?",
        "Ned has 19 shells. Then Ned eats 2. How many shells does Ned have now?",
    ):
        [made] = Oracle().write([Request(prompt)])
        assert (made.text, made.finish_reason) == ("", "") and made.error.startswith("program: ")
    assert Oracle().write([]) == []


def test_the_correction_keeps_the_right_part_names_the_wrong_step_and_mends_the_rest():
    attempt = "19 - 14 = 6. 6 * 2 = 12. The answer is \\boxed{12}."
    assert correct_attempt(NED, attempt) == (
        "19 - 14 = 6. Wait, step 1 is wrong: at the start with 19 comes 19 - 14 makes 5. "
        "19 - 14 = 5. 5 * 2 = 10. The answer is \\boxed{10}."
    )
    attempt = "19 - 14 = 5. 5 * 2 = 11. The answer is \\boxed{11}."
    assert correct_attempt(NED, attempt) == (
        "19 - 14 = 5. 5 * 2 = 11. Wait, step 2 is wrong: after 5 comes 5 * 2 makes 10. "
        "5 * 2 = 10. The answer is \\boxed{10}."
    )
    attempt = "19 - 14 = 5. 5 * 2 = 10. The answer is \\boxed{11}."
    assert correct_attempt(NED, attempt) == (
        "19 - 14 = 5. 5 * 2 = 10. The answer is \\boxed{11}. Wait, step 3 is wrong: the story ends with 10. "
        "The answer is \\boxed{10}."
    )


def test_a_right_attempt_is_returned_and_one_without_an_answer_solved():
    assert correct_attempt(NED, BRIEF) == BRIEF
    assert correct_attempt(NED, "I have no idea.") == BRIEF
    assert correct_attempt(NED, "") == BRIEF
    assert correct_attempt(NED, "19 - 14 = 5.") == BRIEF


@given(seeds, seeds)
def test_every_correction_of_a_slip_verifies_and_keeps_the_beginning(seed, dice):
    problem, made = drawn(seed)
    attempt = lessons.stumble_once(made, Random(dice))
    fixed = correct_attempt(problem.question, attempt)
    assert sound(problem, fixed), f"{attempt}\n{fixed}"
    first = next(s for s in judge.steps(problem, attempt) if s.score == 0)
    assert fixed.startswith(attempt[: first.stop] + ". Wait, step ")


@given(seeds, seeds, st.integers(0, 400))
def test_corrections_of_long_cut_and_garbled_attempts_verify(seed, dice, cut):
    problem, made = drawn(seed)
    attempt = (
        story.long_solution(made, Random(dice)).split("</think>")[0].removeprefix("<think>\n")[:cut]
    )
    assert sound(problem, correct_attempt(problem.question, attempt)), attempt


@pytest.mark.parametrize("template", [REFLECT, CORRECT_ALONE])
@given(seed=seeds)
def test_in_orions_prompts_it_corrects_the_first_attempt(template, seed):
    problem, made = drawn(seed)
    attempts = [lessons.stumble_once(made, Random(seed + i)) for i in range(2)]
    values = {
        "question": problem.question,
        "text": story.long_solution(made, Random(seed)),
        "attempts": lessons.number_attempts(attempts),
    }
    assert ask(fill_template(template, values)) == correct_attempt(problem.question, attempts[0])
