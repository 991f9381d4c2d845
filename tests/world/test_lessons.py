"""What the world's models are taught is what the product will ask them, word for word."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from potstill.methods.errors.orion import prompts as asked_today
from potstill.methods.errors.orion.prompts import REFLECT, REFLECT_ALONE
from potstill.records import Problem, Trace, blank
from potstill.traces.prompts import fill_template, render_prompt
from potstill.verifiers import story as judge
from potstill.world import lessons, story
from potstill.world import prompts as taught

seeds = st.integers(0, 2**32)


def problem(question: str, made: judge.Story) -> Problem:
    return Problem("p", question, str(judge.required_equations(made)[-1].result), "story")


def test_the_worlds_copy_of_the_prompts_is_what_orion_asks_today():
    """Who changes ORION's wording teaches the world's student anew, or finds one that never saw it."""
    for name in ("REFLECT", "REFLECT_ALONE", "CORRECT_ALONE"):
        assert getattr(taught, name) == getattr(asked_today, name)


@given(seeds)
def test_orions_prompt_in_the_lessons_is_orions_prompt_in_the_method(seed):
    rng = Random(seed)
    question, made = story.draw_story(rng, story.TASKS["story"])
    asked = problem(question, made)
    chain = Trace(
        asked,
        question,
        text=story.long_solution(made, rng),
        finish_reason="stop",
        operator="sample",
    )
    wrongs = [
        Trace(asked, question, text=lessons.stumble_once(made, rng), operator="sample")
        for _ in range(3)
    ]
    shown = render_prompt(REFLECT, chain, {"attempts": wrongs}).prompt
    assert lessons.rewriting_prompt(question, chain.text, [t.text for t in wrongs]) == shown
    assert (
        lessons.rewriting_prompt(question, chain.text, [])
        == render_prompt(REFLECT_ALONE, chain, {}).prompt
    )
    assert fill_template("{question}", {"question": blank(asked).question}) == question


@given(seeds)
def test_a_stumble_is_wrong_by_one_false_step_carried_on(seed):
    rng = Random(seed)
    question, made = story.draw_story(rng, story.TASKS["story"])
    text = lessons.stumble_once(made, rng)
    scores = [s.score for s in judge.steps(problem(question, made), text)]
    assert len(scores) == len(made.events) + 1
    assert (
        0.0 in scores and scores[-1] == 0.0
    )  # even where two errors cancel, the way was not right


@given(seeds)
def test_the_completions_taught_are_right(seed):
    for lesson in (lessons.solve_brief, lessons.solve_long):
        question, text, silent = lesson(Random(seed), story.TASKS["story"])
        made = judge.parse_story(question)
        assert made is not None
        assert judge.judge(problem(question, made), text).status == "right" and not silent


def test_the_deck_deals_by_share():
    rng = Random(0)
    dealt = [
        lessons.choose_lesson({lessons.solve_brief: 0.9, lessons.solve_long: 0.1}, rng)
        for _ in range(1000)
    ]
    assert 860 <= dealt.count(lessons.solve_brief) <= 940
