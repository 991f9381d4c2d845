"""world:oracle is a program: it solves, finds a first wrong step, says why, and puts the rest right."""

from __future__ import annotations

import re
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracle_roles import ask_role, assert_answer_depends_on

from potstill.errors import ConfigError
from potstill.methods.errors.orion.prompts import CORRECT_ALONE, REFLECT
from potstill.models.model import Model, Request, Scored, Trainable
from potstill.records import Message, Problem
from potstill.runs.sources import load_model
from potstill.traces.prompts import fill_template
from potstill.verifiers import story as judge
from potstill.world import lessons, story
from potstill.world.families import FAMILIES
from potstill.world.oracle import Oracle
from potstill.world.oracle.program import choose_role, load_roles
from potstill.world.oracle.role import Role
from potstill.world.oracle.roles.corrector import correct_attempt

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
    assert oracle.id.startswith("program-oracle-story@1-")
    assert (
        isinstance(oracle, Model)
        and not isinstance(oracle, Trainable)
        and not isinstance(oracle, Scored)
    )


def test_it_solves_a_story_however_it_is_asked():
    assert ask(NED) == ask(f"{NED}\n\nPlease put your answer within \\boxed{{}}.") == BRIEF
    assert ask((Message("system", "Think."), Message("user", NED))) == BRIEF
    example = NED.replace("Ned", "Eva").replace("19", "24")
    turns = (
        Message("user", example),
        Message("assistant", "So \\boxed{20}."),
        Message("user", NED),
    )
    assert ask(turns) == BRIEF
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
    attempt = FAMILIES["story"].stumble_once(made, Random(dice))
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
    attempts = [FAMILIES["story"].stumble_once(made, Random(seed + i)) for i in range(2)]
    values = {
        "question": problem.question,
        "text": story.long_solution(made, Random(seed)),
        "attempts": lessons.number_attempts(attempts),
    }
    assert ask(fill_template(template, values)) == correct_attempt(problem.question, attempts[0])


# Roles: each recognised by its prompt, each knowing what that prompt shows.


def test_a_prompt_without_another_role_goes_to_the_corrector_or_the_solver():
    assert ask_role("solver", NED) == BRIEF
    assert ask_role("corrector", f"{NED}\n\nAttempt:\n{BRIEF}") == BRIEF


def test_what_the_two_general_roles_answer_depends_on_what_they_are_shown():
    other_story = NED.replace("sells 14", "sells 4")
    assert_answer_depends_on("solver", "{story}", {"story": NED}, {"story": other_story})
    values = {"story": NED, "attempt": "19 - 14 = 6."}
    changes = {"story": other_story, "attempt": "19 - 14 = 5. 5 * 2 = 11."}
    assert_answer_depends_on("corrector", "{story}\n\nAttempt:\n{attempt}", values, changes)


def test_the_check_finds_a_role_that_does_not_read_its_prompt():
    with pytest.raises(AssertionError, match="whatever greeting"):
        values = {"story": NED, "greeting": "Hello."}
        assert_answer_depends_on("solver", "{greeting} {story}", values, {"greeting": "Hm."})


def test_a_prompt_that_two_roles_recognise_gets_an_error_that_names_them(monkeypatch):
    roles = dict(load_roles())
    for name in ("one", "other"):
        roles[name] = Role(name, re.compile("Act as the judge"), lambda role_input: "Yes.")
    monkeypatch.setattr("potstill.world.oracle.program.load_roles", lambda: roles)
    [made] = Oracle().write([Request(f"Act as the judge. {NED}")])
    assert made.error == "program: several roles of the oracle recognise the prompt: one, other"
    assert choose_role(NED).name == "solver"


def test_the_id_changes_with_a_roles_version_and_with_the_rate_of_slips(monkeypatch):
    before = Oracle().id
    assert Oracle(slip_rate=0.5).id != before
    roles = {**load_roles(), "solver": Role("solver", re.compile(""), str, version=99)}
    monkeypatch.setattr("potstill.world.oracle.program.load_roles", lambda: roles)
    assert Oracle().id != before


def test_a_spec_says_how_often_the_oracle_slips():
    assert load_model("world:oracle").id == Oracle().id
    assert load_model("world:oracle?slip_rate=0.3").id == Oracle(slip_rate=0.3).id
    with pytest.raises(ConfigError, match=r"slip_rate: 2\.0 is not from 0 to 1"):
        load_model("world:oracle?slip_rate=2")
    with pytest.raises(ConfigError, match="world:student has no options"):
        load_model("world:student?slip_rate=0.3")
