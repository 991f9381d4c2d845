"""The world's walks: always parsed, always solved rightly in both styles, judged claim by claim."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.errors import ConfigError
from potstill.records import Problem
from potstill.verifiers import check_gold
from potstill.verifiers import walk as judge
from potstill.verifiers.walk import Event, Place
from potstill.world import walk
from potstill.world.story import Habits

seeds = st.integers(0, 2**32)
tasks = st.sampled_from(sorted(walk.TASKS))

# North 2 to (3, 7), left, on to (1, 7), one back to (2, 7).
WALK = Problem(
    "p",
    "Ned is at (3, 5) and faces north. Then Ned walks 2. Then Ned turns left. Then Ned goes 2 ahead. "
    "Then Ned steps back 1. Where is Ned now?",
    "(2, 7)",
    "walk",
)
CHAIN = (
    "2 north: 5 + 2 = 7, at (3, 7). Left: west. 2 west: 3 - 2 = 1, at (1, 7). "
    "1 east: 1 + 1 = 2, at (2, 7). The answer is \\boxed{(2, 7)}."
)


def scores(text: str) -> list[float | None]:
    return [span.score for span in judge.steps(WALK, text)]


@given(seeds, tasks, seeds)
def test_a_walk_is_parsed_as_it_was_made_stays_on_the_grid_and_both_styles_are_right(
    seed, task, style
):
    dials = walk.TASKS[task]
    question, made = walk.draw_walk(Random(seed), dials)
    assert judge.parse_walk(question) == made
    assert dials.min_events <= len(made.events) <= dials.max_events
    for step in judge.required_steps(made):
        assert {step.after.x, step.after.y} <= set(range(10))
    problem = Problem("p", question, walk.final_place(made), "walk")
    for text in (walk.brief_solution(made), walk.long_solution(made, Random(style))):
        assert judge.judge(problem, text).status == "right", text
        assert {span.score for span in judge.steps(problem, text)} == {1.0}, text


def test_turns_and_moves_lead_where_they_should():
    assert (
        judge.turn_from("north", "left") == "west" and judge.turn_from("west", "right") == "north"
    )
    assert judge.turn_from("east", "around") == "west"
    step = judge.take_step(Place(3, 5, "west"), Event("back", 2))
    assert (step.direction, step.after) == ("east", Place(5, 5, "west"))


def test_a_right_chain_is_right_in_every_step():
    assert scores(CHAIN) == [1, 1, 1, 1, 1]
    assert judge.judge(WALK, CHAIN).status == "right"


@pytest.mark.parametrize(
    ("right", "wrong", "expected"),
    [
        ("Left: west", "Left: east", [1, 0, 0, 0, 0]),  # what comes after rests on it
        ("3 - 2 = 1, at (1, 7)", "3 - 2 = 1, at (2, 7)", [1, 1, 0, 0, 0]),
        ("3 - 2 = 1", "3 - 2 = 2", [1, 1, 0, 0, 0]),
        ("1 east: 1 + 1 = 2, at (2, 7). ", "", [1, 1, 1, 0]),  # an event left out
        ("{(2, 7)}", "{(7, 2)}", [1, 1, 1, 1, 0]),
    ],
)
def test_a_slip_is_seen_where_it_stands(right, wrong, expected):
    text = CHAIN.replace(right, wrong)
    assert scores(text) == expected
    walked = judge.parse_walk(WALK.question)
    first_wrong = judge.first_wrong_event(walked, text)
    assert first_wrong == (expected.index(0) if len(expected) == 5 else 3)


def test_the_long_styles_claims_are_judged_too():
    assert scores("Check: left from north is west. Check: west takes from the first number.") == [
        1,
        1,
    ]
    assert scores("Check: left from north is east. Check: west adds to the first number.") == [0, 0]
    assert scores("Check: 7 - 2 = 5. Check: 7 - 2 = 4.") == [1, 0]
    assert scores("Left: south. Wait, that is not right. 2 north: 5 + 2 = 7, at (3, 7).") == [1]
    assert scores("2 north: 5 + 2 = 7, at (3, 7). Start again at (3, 5). " + CHAIN) == [1] * 6
    assert scores("Together: 2 + 2 = 4.") == [0]  # a turn lies between the two moves


def test_two_turns_or_two_moves_the_same_way_go_together():
    question = "Ned is at (0, 0) and faces north. Then Ned turns left. Then Ned turns left. "
    moves = "Then Ned steps back 1. Then Ned steps back 2. Where is Ned now?"
    problem = Problem("p", question + moves, "(0, 3)", "walk")
    text = "Together: left and left is around. Around: south. Together: 1 + 2 = 3. 3 north: 0 + 3 = 3, at (0, 3)."
    assert [span.score for span in judge.steps(problem, text + " \\boxed{(0, 3)}")] == [1] * 5


def test_the_long_style_shows_all_its_habits():
    made = judge.parse_walk(WALK.question)
    eager = walk.long_solution(made, Random(1), Habits(check=1, together=0, slip=1, restart=1))
    assert eager.count("Check: ") == len(made.events) and eager.count("Wait, ") == len(made.events)
    assert "Start again at (3, 5), facing north." in eager and eager.count("\\boxed") == 1


@given(st.text(st.sampled_from("(12, 7): =+-north westLeft.\\boxed{}\n")))
def test_no_text_breaks_the_judge(text):
    judge.steps(WALK, text)
    assert judge.judge(WALK, text).status in ("right", "wrong", "unparsed")


@pytest.mark.parametrize(
    "question", ["", "Ned is at (3, 5).", WALK.question.replace("walks", "flies")]
)
def test_other_questions_have_no_steps(question):
    assert judge.parse_walk(question) is None
    assert judge.steps(replace(WALK, question=question), CHAIN) == ()


@pytest.mark.parametrize("task", walk.TASKS)
def test_problems_are_distinct_and_their_gold_passes(task):
    found = walk.problems(task, size=100)
    assert len({p.id for p in found}) == len({p.question for p in found}) == 100
    assert check_gold(found) == [] and {p.source for p in found} == {task}
    assert not {p.question for p in found} & {
        p.question for p in walk.problems(task, size=100, split="test")
    }


def test_the_first_problem_never_changes():
    [first] = walk.problems("walk", size=1)
    assert (first.id, first.kind, first.question, first.answer) == GOLDEN
    with pytest.raises(ConfigError, match="no world task called 'wolk'"):
        walk.problems("wolk")


GOLDEN = (
    "walk-train-0-0",
    "walk",
    "Zoe is at (5, 0) and faces east. Then Zoe turns around. Then Zoe moves 4 on. Then Zoe goes 1 ahead. "
    "Then Zoe steps back 8. Then Zoe walks 5. Then Zoe walks 1. Then Zoe turns right. Then Zoe turns left. "
    "Then Zoe goes 1 ahead. Where is Zoe now?",
    "(1, 0)",
)
