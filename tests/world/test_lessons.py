"""What the world's models are taught is what the product will ask them, word for word."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from potstill.methods.errors.orion import prompts as asked_today
from potstill.methods.errors.orion.prompts import REFLECT, REFLECT_ALONE
from potstill.records import Problem, Trace, blank
from potstill.traces.prompts import fill_template, render_prompt
from potstill.verifiers import judge, steps
from potstill.world import lessons
from potstill.world import prompts as taught
from potstill.world.families import FAMILIES
from potstill.world.lessons import Family, SolvedTask

seeds = st.integers(0, 2**32)
families = st.sampled_from(list(FAMILIES.values()))


def problem(family: Family, question: str) -> Problem:
    return Problem("p", question, family.answer(family.parse(question)), family.name)


def scores_of(asked: Problem, text: str) -> list[float | None]:
    [spans] = steps([(asked, text)])
    assert spans is not None
    return [span.score for span in spans]


def test_the_worlds_copy_of_the_prompts_is_what_orion_asks_today():
    """Who changes ORION's wording teaches the world's student anew, or finds one that never saw it."""
    for name in ("REFLECT", "REFLECT_ALONE", "CORRECT_ALONE"):
        assert getattr(taught, name) == getattr(asked_today, name)


@given(seeds)
def test_orions_prompt_in_the_lessons_is_orions_prompt_in_the_method(seed):
    rng, family = Random(seed), FAMILIES["story"]
    question, task = family.draw(rng)
    asked = problem(family, question)
    chain = Trace(
        asked,
        question,
        text=family.long_solution(task, rng),
        finish_reason="stop",
        operator="sample",
    )
    wrongs = [
        Trace(asked, question, text=family.stumble_once(task, rng), operator="sample")
        for _ in range(3)
    ]
    shown = render_prompt(REFLECT, chain, {"attempts": wrongs}).prompt
    assert lessons.rewriting_prompt(question, chain.text, [t.text for t in wrongs]) == shown
    assert (
        lessons.rewriting_prompt(question, chain.text, [])
        == render_prompt(REFLECT_ALONE, chain, {}).prompt
    )
    assert fill_template("{question}", {"question": blank(asked).question}) == question


@given(seeds, families)
def test_a_stumble_is_wrong_by_one_false_step_carried_on(seed, family):
    rng = Random(seed)
    question, task = family.draw(rng)
    scores = scores_of(problem(family, question), family.stumble_once(task, rng))
    assert len(scores) == len(task.events) + 1
    assert (
        0.0 in scores and scores[-1] == 0.0
    )  # even where two errors cancel, the way was not right


@given(seeds, families)
def test_the_completions_taught_are_right(seed, family):
    for lesson in (lessons.solve_brief, lessons.solve_long):
        question, text, silent = lesson(Random(seed), family)
        [verdict] = judge([(problem(family, question), text)])
        assert verdict.status == "right" and not silent


@given(seeds, families)
def test_rewrites_that_are_taught_are_right_in_every_step(seed, family):
    rng = Random(seed)
    question, task = family.draw(rng)
    solved = SolvedTask(question, task, ((family.stumble_once(task, rng), False),))
    for lesson in (lessons.rewrite_own, lessons.rewrite_alone, lessons.correct_alone):
        scores = scores_of(problem(family, question), lesson(rng, family, solved).completion)
        assert len(scores) > len(task.events) and set(scores) == {1.0}


def test_the_deck_deals_by_share():
    rng = Random(0)
    dealt = [
        lessons.choose_lesson({lessons.solve_brief: 0.9, lessons.solve_long: 0.1}, rng)
        for _ in range(1000)
    ]
    assert 860 <= dealt.count(lessons.solve_brief) <= 940
