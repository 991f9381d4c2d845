"""The world's stories: always parsed, always solved rightly in both styles, never the same in two splits."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.errors import ConfigError
from potstill.records import Problem
from potstill.verifiers import check_gold
from potstill.verifiers import story as judge
from potstill.world import story

seeds = st.integers(0, 2**32)
tasks = st.sampled_from(sorted(story.TASKS))


def told(seed: int, task: str = "story") -> tuple[Problem, judge.Story]:
    question, made = story.draw_story(Random(seed), story.TASKS[task])
    return Problem("p", question, str(judge.required_equations(made)[-1].result), "story"), made


@given(seeds, tasks)
def test_a_story_is_parsed_as_it_was_made(seed, task):
    problem, made = told(seed, task)
    assert judge.parse_story(problem.question) == made


@given(seeds, tasks)
def test_the_dials_hold(seed, task):
    dials = story.TASKS[task]
    _, made = told(seed, task)
    line = judge.required_equations(made)
    assert dials.min_events <= len(made.events) <= dials.max_events
    assert 2 <= made.start <= 40 and all(0 <= e.result <= dials.max_total for e in line)
    for e in line:
        assert e.op != "/" or e.left % e.right == 0, "halves are whole"
        assert e.op not in "*/" or e.left > 0
        assert e.right >= 1


@given(seeds, tasks, seeds)
def test_both_styles_are_right_in_every_step(seed, task, style):
    problem, made = told(seed, task)
    for text in (story.brief_solution(made), story.long_solution(made, Random(style))):
        assert judge.judge(problem, text).status == "right", text
        scores = [span.score for span in judge.steps(problem, text)]
        assert scores and set(scores) == {1.0}, text


@given(seeds, seeds)
def test_the_teachers_style_thinks_first_and_boxes_once(seed, style):
    _, made = told(seed)
    text = story.long_solution(made, Random(style))
    assert text.startswith("<think>\nWe start with ") and text.count("</think>\n") == 1
    assert (
        text.split("</think>\n")[1]
        == f"The answer is \\boxed{{{judge.required_equations(made)[-1].result}}}."
    )
    assert "\\boxed" not in text.split("</think>")[0]


def test_the_teachers_style_shows_all_its_habits_and_obeys_them():
    texts = [story.long_solution(told(i)[1], Random(i)) for i in range(200)]
    for mark in ("Together: ", "Check: ", "Wait, that is not right.", "Start again with "):
        assert any(mark in text for text in texts), mark
    plain = story.Habits(0, 0, 0, 0)
    assert not any(
        m in story.long_solution(told(i)[1], Random(i), plain)
        for i in range(50)
        for m in ("Together", "Check", "Wait")
    )
    eager = story.Habits(check=1, together=0, slip=1, restart=0)
    _, made = told(1)
    text = story.long_solution(made, Random(1), eager)
    assert text.count("Check: ") == text.count("Wait, ") == len(made.events)


@given(st.integers(0, 10**5), seeds)
def test_a_slip_is_another_number_that_is_not_negative(n, seed):
    wrong = story.near_miss(n, Random(seed))
    assert wrong >= 0 and wrong != n


@pytest.mark.parametrize("task", story.TASKS)
def test_problems_are_distinct_and_their_gold_passes(task):
    found = story.problems(task, size=300)
    assert len(found) == len({p.id for p in found}) == len({p.question for p in found}) == 300
    assert check_gold(found) == []
    assert {p.kind for p in found} == {"story"} and {p.source for p in found} == {task}
    assert all(judge.judge(p, p.solution).status == "right" for p in found)


def test_splits_and_seeds_do_not_overlap():
    pools = [
        {p.question for p in story.problems("story", size=500, seed=seed, split=split)}
        for seed, split in ((0, "train"), (0, "test"), (1, "train"), (1, "test"))
    ]
    assert len(set().union(*pools)) == sum(map(len, pools)) == 2000
    ids = [p.id for split in ("train", "test") for p in story.problems(size=50, split=split)]
    assert len(set(ids)) == 100


def test_a_larger_size_begins_with_the_smaller():
    assert story.problems(size=20)[:7] == story.problems(size=7)
    assert story.problems(size=0) == []


def test_the_first_problem_never_changes():
    [first] = story.problems("story", size=1)
    assert first == Problem(
        "story-train-0-0",
        GOLDEN_QUESTION,
        GOLDEN_ANSWER,
        "story",
        GOLDEN_SOLUTION,
        source="story",
    )


GOLDEN_QUESTION = (
    "Eva has 8 shells. Then Eva buys 17. Then Eva triples the pile. Then Eva gives 35 to Zoe. Then Eva gives 13 to Tom."
    " Then Eva gets 32 from Zoe. Then Eva gets 19 from Kim. How many shells does Eva have now?"
)
GOLDEN_ANSWER = "78"
GOLDEN_SOLUTION = (
    "8 + 17 = 25. 25 * 3 = 75. 75 - 35 = 40. 40 - 13 = 27. 27 + 32 = 59. "
    "59 + 19 = 78. The answer is \\boxed{78}."
)


def test_an_unknown_task_is_explained():
    with pytest.raises(ConfigError, match="no world task called 'storry'") as caught:
        story.problems("storry")
    assert caught.value.nearest == ("story",)
