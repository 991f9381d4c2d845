"""The world's exact judge: it takes what is right, in any order of checks and detours, and catches every slip."""

from __future__ import annotations

import re
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill import verifiers
from potstill.records import Problem
from potstill.verifiers import story as judge
from potstill.world import story

# 19 -> 5 -> 8 -> 10 -> 20
NED = (
    "Ned has 19 shells. Then Ned sells 14. Then Ned finds 3 more. Then Ned gets 2 from Bob. "
    "Then Ned doubles the pile. How many shells does Ned have now?"
)
PROBLEM = Problem("p", NED, "20", "story")
RIGHT = "19 - 14 = 5. 5 + 3 = 8. 8 + 2 = 10. 10 * 2 = 20. The answer is \\boxed{20}."
seeds = st.integers(0, 2**32)


def scores(text: str, problem: Problem = PROBLEM) -> list[float | None]:
    return [span.score for span in judge.steps(problem, text)]


def status(text: str, problem: Problem = PROBLEM) -> tuple[str, str | None]:
    verdict = judge.judge(problem, text)
    assert verdict.verifier == judge.VERSION == "story@1"
    return verdict.status, verdict.answer


def drawn(seed: int) -> tuple[Problem, judge.Story]:
    question, made = story.draw_story(Random(seed), story.TASKS["story"])
    return Problem("p", question, str(judge.required_equations(made)[-1].result), "story"), made


def test_a_story_is_read_event_by_event():
    assert judge.parse_story(NED) == judge.Story(
        19, (judge.Event("-", 14), judge.Event("+", 3), judge.Event("+", 2), judge.Event("*", 2))
    )
    assert [tuple(e) for e in judge.required_equations(judge.parse_story(NED))] == [
        (19, "-", 14, 5),
        (5, "+", 3, 8),
        (8, "+", 2, 10),
        (10, "*", 2, 20),
    ]


@pytest.mark.parametrize(
    "question",
    [
        "",
        "What is 2 + 2?",
        NED + " Really?",
        NED.replace("sells 14", "eats 14"),
        NED.replace("19", "some"),
        "x" * 9999,
    ],
)
def test_what_is_no_story_has_no_steps_but_still_a_verdict(question):
    assert judge.parse_story(question) is None
    foreign = Problem("p", question, "20", "story")
    assert scores(RIGHT, foreign) == [] and status(RIGHT, foreign) == ("right", "20")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (RIGHT, ("right", "20")),
        ("\\boxed{20}", ("right", "20")),
        ("\\boxed{ 20 }", ("right", "20")),
        ("\\boxed{020}", ("right", "20")),
        ("\\boxed{21}", ("wrong", "21")),
        ("\\boxed{-20}", ("wrong", "-20")),
        ("\\boxed{21} no: \\boxed{20}", ("right", "20")),
        ("\\boxed{20} no: \\boxed{21}", ("wrong", "21")),
        ("<think>\\boxed{21}</think>\\boxed{20}", ("right", "20")),
        ("<think>\\boxed{20}</think> done", ("unparsed", None)),
        ("<think>\\boxed{20}", ("unparsed", None)),
        ("<think>\\boxed{20}</think>", ("unparsed", None)),
        ("", ("unparsed", None)),
        ("The answer is 20.", ("unparsed", None)),
        ("\\boxed{twenty}", ("unparsed", None)),
        ("\\boxed{}", ("unparsed", None)),
        ("\\boxed{20", ("unparsed", None)),
        ("\\boxed{20.5}", ("unparsed", None)),
        ("\\boxed{" + "9" * 5000 + "}", ("unparsed", None)),
        ("\ud800\x00\\boxed{20}", ("right", "20")),
    ],
)
def test_the_answer_is_the_last_boxed_whole_number_after_the_thinking(text, found):
    assert status(text) == found


@pytest.mark.parametrize("gold", [None, "", "twenty", "20.5", "1" * 5000])
def test_a_gold_that_is_no_whole_number_is_not_judged(gold):
    assert status("\\boxed{20}", Problem("p", NED, gold, "story")) == ("unjudged", "20")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (RIGHT, [1, 1, 1, 1, 1]),
        (
            RIGHT.replace("= 8. 8", "= 9. 9"),
            [1, 0, 0, 0, 0],
        ),  # a slip carried on: nothing after it is right
        (RIGHT.replace("= 8.", "= 9."), [1, 0, 0, 0, 0]),
        (RIGHT.replace("\\boxed{20}", "\\boxed{21}"), [1, 1, 1, 1, 0]),
        ("10 * 2 = 20. \\boxed{20}", [0, 0]),  # true, but not the next event's
        ("\\boxed{20}", [0]),  # an answer without its way
        (
            "19 - 14 = 5. 5 + 3 = 8. 8 + 2 = 10. \\boxed{20}",
            [1, 1, 1, 0],
        ),  # the last event is missing
        ("19 - 14 = 5. 19 - 14 = 5. 5 + 3 = 8.", [1, 0, 1]),  # an event is done once
        ("19 - 14 = 5. Together: 3 + 2 = 5. 5 + 5 = 10. 10 * 2 = 20. \\boxed{20}", [1, 1, 1, 1, 1]),
        ("19 - 14 = 5. Together: 3 + 2 = 6. 5 + 6 = 11.", [1, 0, 0]),
        ("Together: 14 + 3 = 17. 19 - 14 = 5.", [0, 1]),  # a loss and a gain don't go together
        ("19 - 14 = 5. 5 + 5 = 10.", [1, 0]),  # two at once, unannounced
        ("19 - 14 = 5. Check: 5 + 14 = 19. 5 + 3 = 8.", [1, 1, 1]),
        ("19 - 14 = 5. Check: 5 + 14 = 18. 5 + 3 = 8.", [1, 0, 1]),
        ("Check: 7 / 2 = 3. Check: 8 / 2 = 4. Check: 8 / 0 = 0.", [0, 1, 0]),
        ("19 - 14 = 6. Wait, that is not right. 19 - 14 = 5.", [1]),  # taken back
        ("19 - 14 = 6.\nWait. 19 - 14 = 5.", [1]),
        ("19 - 14 = 6. I wait. 19 - 14 = 5.", [0, 1]),
        ("\\boxed{9}. Wait, no. " + RIGHT, [1, 1, 1, 1, 1]),
        ("19 - 14 = 5. 5 + 3 = 8. Start again with 19. " + RIGHT, [1, 1, 1, 1, 1, 1, 1]),
        ("Start again and again.", []),
        ("no claims at all", []),
        ("119 - 14 = 5.", [0]),
        (
            "Check: 6 + 0 = 6. Check: 6 * 0 = 0. 6 / 0 = 0.",
            [1, 1, 0],
        ),  # a zero in a claim divides nothing
        (
            "19 - 14 = -5. Check: 5 - 9 = -4. -5 + 3 = -2.",
            [0, 1, 0],
        ),  # claims below zero are claims
        ("19 - 14 = 5. 12345678 + 1 = 2.", [1, 0]),
        ("19 - 14 = 5.5. 1.19 - 14 = 5.", []),  # no whole numbers: no equations of a story
        ("19 - 14 = 55.", [0]),
    ],
)
def test_steps(text, expected):
    assert scores(text) == expected


def test_spans_are_exactly_the_equations_and_the_box():
    spans = judge.steps(PROBLEM, RIGHT)
    assert [RIGHT[s.start : s.stop] for s in spans] == [
        "19 - 14 = 5",
        "5 + 3 = 8",
        "8 + 2 = 10",
        "10 * 2 = 20",
        "\\boxed{20}",
    ]
    assert {(s.kind, s.weight) for s in spans} == {("step", 1.0)}


def test_events_done_counts_what_is_accounted_for():
    made = judge.parse_story(NED)
    assert judge.count_done_events(made, "") == 0
    assert judge.count_done_events(made, "19 - 14 = 5. 5 + 3 = 9.") == 1
    assert judge.count_done_events(made, "19 - 14 = 5. Together: 3 + 2 = 5.") == 1
    assert judge.count_done_events(made, "19 - 14 = 5. Together: 3 + 2 = 5. 5 + 5 = 10.") == 3
    assert judge.count_done_events(made, RIGHT) == 4


def test_what_is_still_needed_minds_two_events_taken_together():
    made = judge.parse_story(NED)
    assert made is not None

    def needed(text):
        return [story.write_equation(e) for e in judge.needed_equations(made, text)]

    assert needed("") == ["19 - 14 = 5.", "5 + 3 = 8.", "8 + 2 = 10.", "10 * 2 = 20."]
    assert needed("19 - 14 = 5. Together: 3 + 2 = 5.") == ["5 + 5 = 10.", "10 * 2 = 20."]
    assert needed("19 - 14 = 5. Together: 3 + 2 = 6.") == [
        "5 + 3 = 8.",
        "8 + 2 = 10.",
        "10 * 2 = 20.",
    ]
    assert needed(RIGHT) == []


def mutated(text: str, rng: Random) -> str:
    """The text with one number of a judged equation, or of the box, changed."""
    span = rng.choice(judge.steps(PROBLEM_OF[text], text))
    numbers = list(re.compile(r"\d+").finditer(text, span.start, span.stop))
    number = rng.choice(numbers)
    other = (
        str(story.near_miss(int(number[0]), rng))
        if rng.random() < 0.7
        else str(rng.randint(1, 9)) + number[0]
    )
    return text[: number.start()] + other + text[number.end() :]


PROBLEM_OF: dict[str, Problem] = {}


@given(seeds, seeds, st.sampled_from(["brief", "long"]))
def test_every_changed_number_in_an_equation_is_caught(seed, dice, style):
    problem, made = drawn(seed)
    text = (
        story.brief_solution(made) if style == "brief" else story.long_solution(made, Random(dice))
    )
    PROBLEM_OF[text] = problem
    changed = mutated(text, Random(dice))
    assert changed != text
    assert 0.0 in scores(changed, problem), f"{problem.question}\n{text}\n{changed}"


@given(seeds, st.integers(0, 7))
def test_every_left_out_equation_is_caught(seed, at):
    problem, made = drawn(seed)
    equations = [story.write_equation(e) for e in judge.required_equations(made)]
    left = equations[: at % len(equations)] + equations[at % len(equations) + 1 :]
    if len(set(equations)) == len(equations) and not _still_right(made, at % len(equations)):
        assert 0.0 in scores(" ".join(left) + f" \\boxed{{{problem.answer}}}", problem)


def _still_right(made: judge.Story, at: int) -> bool:
    """Whether an event changes nothing, so that its equation could stand for its neighbour's."""
    line = judge.required_equations(made)
    return line[at].left == line[at].result or line[at] in (line[:at] + line[at + 1 :])


@given(st.text(st.sampled_from("0123456789+-*/= .\\boxed{}StartgnWiChekToh:\n")), seeds)
def test_hostile_texts_are_judged_without_a_crash_and_spans_lie_inside(text, seed):
    problem, _ = drawn(seed)
    assert judge.judge(problem, text).status in ("right", "wrong", "unparsed")
    for span in judge.steps(problem, text):
        assert 0 <= span.start < span.stop <= len(text) and span.score in (0.0, 1.0)


@pytest.mark.parametrize(
    "text", ["1 + " * 20000, "\\boxed{" * 20000, "Start again" * 9000, "Wait" * 9000, RIGHT * 400]
)
def test_long_texts_take_no_time(text):
    import time

    began = time.perf_counter()
    judge.judge(PROBLEM, text), judge.steps(PROBLEM, text)
    assert time.perf_counter() - began < 2


def test_it_is_the_verifier_of_its_kind():
    assert verifiers.version("story") == "story@1"
    [verdict] = verifiers.judge([(PROBLEM, RIGHT)])
    [spans] = verifiers.steps([(PROBLEM, RIGHT)])
    assert verdict.status == "right" and [s.score for s in spans] == [1.0] * 5
    assert verifiers.check_gold([PROBLEM]) == []
    [(failing, why)] = verifiers.check_gold([Problem("q", NED, "x", "story")])
    assert failing.id == "q" and why.status != "right"
