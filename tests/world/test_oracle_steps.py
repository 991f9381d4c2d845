"""The oracle's step corrector and question writer: what they answer, and that it hangs on what their prompts show."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle_roles import ask_role, assert_answer_depends_on

from potstill.methods.errors.lema.arms import FULL, show_attempt
from potstill.methods.errors.lema.corrections import Correction, read_correction, splice_chain
from potstill.methods.errors.lema.prompts import CORRECTION, EVOLVE, few_shot_prompt
from potstill.records import Problem, Trace, blank
from potstill.traces.prompts import fill_template
from potstill.verifiers import story as judge
from potstill.world import story
from potstill.world.families import FAMILIES

NED = "Ned has 19 shells. Then Ned sells 14. Then Ned doubles the pile. How many shells does Ned have now?"
TOM = "Tom has 19 keys. Then Tom sells 14. Then Tom triples the pile. How many keys does Tom have now?"
CHAIN = "Step 1: 19 - 14 = 5.\nStep 2: 5 * 2 = 11.\nStep 3: The answer is \\boxed{11}."
FIRST_WRONG = "Step 1: 19 - 14 = 6.\nStep 2: 6 * 2 = 12.\nStep 3: The answer is \\boxed{12}."
RIGHT = CHAIN.replace("11", "10")


def correct(question: str, attempt: str) -> str:
    prompt = fill_template(CORRECTION, {"question": question, "attempt": attempt})
    return ask_role("step_corrector", prompt)


def test_it_names_explains_and_corrects_the_first_wrong_step():
    assert correct(NED, CHAIN) == (
        "Step 2\nExplanation: after 5 comes 5 * 2 makes 10.\nCorrect solution:\n"
        "...\nStep 2: 5 * 2 = 10.\nStep 3: The answer is \\boxed{10}."
    )
    assert correct(NED, FIRST_WRONG) == (
        "Step 1\nExplanation: at the start with 19 comes 19 - 14 makes 5.\nCorrect solution:\n"
        "Step 1: 19 - 14 = 5.\nStep 2: 5 * 2 = 10.\nStep 3: The answer is \\boxed{10}."
    )
    wrong_end = RIGHT.replace("\\boxed{10}", "\\boxed{11}")
    assert correct(NED, wrong_end).startswith("Step 3\nExplanation: the story ends with 10.\n")


def test_it_believes_a_right_chain_and_not_the_prompt_that_calls_it_wrong():
    assert correct(NED, RIGHT) == "No step is incorrect."


def test_its_answer_depends_on_all_that_it_is_shown():
    values = {"question": NED, "attempt": CHAIN}
    changes = {"question": TOM, "attempt": FIRST_WRONG}
    assert_answer_depends_on("step_corrector", CORRECTION, values, changes)
    # It does not know the solution of a story whose chain is another story's: step 2 of TOM is wrong.
    assert correct(TOM, RIGHT).startswith("Step 2\nExplanation: after 5 comes 5 * 3 makes 15.")


@settings(max_examples=25)
@given(st.integers(0, 2**32), st.integers(0, 2**32))
def test_behind_the_examples_every_slip_is_named_and_its_splice_is_sound(seed, dice):
    question, made = story.draw_story(Random(seed), story.TASKS["story"])
    problem = Problem("p", question, str(judge.required_equations(made)[-1].result), "story")
    attempt = Trace(problem, question, FAMILIES["story"].stumble_once(made, Random(dice)))
    posed = blank(problem, show_attempt(FULL, attempt))
    text = ask_role("step_corrector", few_shot_prompt(4, posed))
    correction = read_correction(text, has_options=False)
    assert isinstance(correction, Correction)
    slip = next(i for i, s in enumerate(judge.steps(problem, attempt.text), 1) if not s.score)
    chain, _ = splice_chain(attempt.text, correction)
    assert correction.step == slip and chain == story.brief_solution(made)


def test_the_question_writer_writes_another_story_with_as_many_events():
    prompt = fill_template(EVOLVE, {"question": NED})
    first, second = (ask_role("question_writer", prompt, sample_index=i) for i in (0, 1))
    assert first != second and NED not in (first, second)
    longer = NED.replace(" How many", " Then Ned finds 3 more. How many")
    written = ask_role("question_writer", fill_template(EVOLVE, {"question": longer}))
    assert [len(judge.parse_story(text).events) for text in (first, second, written)] == [2, 2, 3]
    assert_answer_depends_on("question_writer", EVOLVE, {"question": NED}, {"question": longer})


@pytest.mark.parametrize("attempt", ["19 - 14 = 5.\nStep 2: 5 * 2 = 11.", "19 - 14 = 5."])
def test_a_chain_whose_steps_are_not_numbered_is_an_error(attempt):
    prompt = fill_template(CORRECTION, {"question": NED, "attempt": attempt})
    with pytest.raises(AssertionError, match="not numbered one a line"):
        ask_role("step_corrector", prompt)
