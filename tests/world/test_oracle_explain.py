"""The oracle explains the solution that it is shown, carries out the plan that it is shown, and writes programs."""

from __future__ import annotations

import json
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracle_roles import ask_role, assert_answer_depends_on

from potstill.errors import ConfigError
from potstill.methods.roles.explain.prompts import CARRY_OUT, EDITORIAL, EXPLAIN, SECTIONS
from potstill.models.model import Request
from potstill.records import Problem
from potstill.traces import read_sections
from potstill.traces.prompts import fill_template
from potstill.verifiers import story as judge
from potstill.verifiers.story import Event
from potstill.world import story, story_code
from potstill.world.oracle import Oracle
from potstill.world.oracle.program import choose_role
from potstill.world.oracle.role import CannotAnswerError
from potstill.world.plans import read_steps, slip_once, write_step
from potstill.world.tasks import make_problems

NED = "Ned has 19 shells. Then Ned sells 14. Then Ned doubles the pile. How many shells does Ned have now?"
CHAIN = "19 - 14 = 5. 5 * 2 = 10. The answer is \\boxed{10}."
TASK = story_code.write_question(NED)
PROGRAM = "for line in open(0):\n    n = int(line)\n    n -= 14\n    n *= 2\n    print(n)"
STEPS = "Step by step:\n1. take away 14.\n2. double."
OTHER_STEPS = "Step by step:\n1. take away 14.\n2. halve."
seeds = st.integers(0, 2**32)


def explained(question: str, solution: str) -> dict[str, str]:
    prompt = fill_template(EXPLAIN, {"prompt": question, "text": solution})
    sections = read_sections(ask_role("explainer", prompt), tuple(SECTIONS))
    assert sections is not None
    return sections


def carried_out(problem: str, plan: str, **settings) -> str:
    return ask_role(
        "coder", fill_template(CARRY_OUT, {"prompt": problem, "text": plan}), **settings
    )


# Program tasks.


def test_a_story_becomes_a_program_task_whose_reference_passes_its_test():
    [problem] = story_code.problems(size=1)
    [told] = story.problems(size=1)
    assert (problem.kind, problem.source, problem.answer) == ("code", "story-code", None)
    assert problem.id == told.id.replace("story-", "story-code-", 1)
    assert problem.question.startswith(told.question.split(" has ")[0] + " has n ")
    test = json.loads(problem.tests[0])
    assert run_program(problem.solution, test["stdin"]) == test["stdout"]
    assert len(test["stdin"].split()) == story_code.INPUT_LINES
    assert test["stdout"].split()[0] == told.answer and problem.metadata == told.metadata


def run_program(program: str, lines: str) -> str:
    """What a program of this world's form prints; its text is made here, so it needs no sandbox."""
    events = story_code.read_program(program)
    assert story_code.write_program(events) == program
    counts = [int(line) for line in lines.split()]
    return story_code.write_lines([story_code.final_total(count, events) for count in counts])


@given(seeds)
def test_every_first_count_of_a_test_can_happen_in_the_story(seed):
    question, parsed = story.draw_story(Random(seed), story.TASKS["story"])
    counts = json.loads(story_code.write_test(parsed, Random(seed)))["stdin"].split()
    assert all(story_code.can_happen(int(count), parsed.events) for count in counts)
    assert len(counts) == len(set(counts)) == story_code.INPUT_LINES
    assert story_code.read_question(story_code.write_question(question))[2] == parsed.events


@pytest.mark.slow
def test_the_code_verifier_passes_the_reference_and_fails_a_program_with_a_slip():
    from potstill.verifiers.code import verifier

    [problem] = story_code.problems(size=1)
    slipped = slip_once(story_code.read_program(problem.solution), Random(0))
    programs = [problem.solution, story_code.write_program(slipped)]
    verdicts = verifier.judge_all([(problem, f"```python\n{text}\n```") for text in programs])
    assert [verdict.status for verdict in verdicts] == ["right", "wrong"]


# Plans.


@given(st.lists(st.sampled_from([Event("+", 7), Event("-", 14), Event("*", 2), Event("/", 2)])))
def test_a_plan_says_every_event_and_is_read_back(events):
    assert read_steps("\n".join(f"1. {write_step(event)}." for event in events)) == events


def test_a_plan_in_equations_is_read_where_it_says_no_step():
    assert read_steps(CHAIN) == [Event("-", 14), Event("*", 2)]
    assert read_steps("I have no idea.") == []
    assert read_steps("19 - 14 = 5: take away 14.") == [Event("-", 14)]


@given(st.lists(st.builds(Event, st.sampled_from("+-*/"), st.integers(1, 9)), min_size=1), seeds)
def test_a_slip_changes_one_step_and_divides_by_nothing_below_one(events, seed):
    changed = slip_once(events, Random(seed))
    assert changed != events and len(events) - len(changed) in (0, 1)
    assert all(event.operand >= 1 for event in changed)


# The roles.


def test_the_explainer_explains_the_solution_that_it_is_shown_be_it_wrong():
    sections = explained(TASK, PROGRAM)
    assert sections["step_by_step"] == "1. take away 14.\n2. double."
    assert explained(NED, CHAIN) == sections
    wrong = explained(TASK, PROGRAM.replace("14", "15"))
    assert wrong["step_by_step"] == "1. take away 15.\n2. double."


def test_only_two_sections_of_an_editorial_say_what_happens():
    sections = explained(TASK, PROGRAM)
    saying = {name for name, text in sections.items() if read_steps(text)}
    assert saying == {"solution_description", "step_by_step"}


def test_without_a_solution_the_explainer_plans_from_the_problem():
    plan = ask_role("explainer", fill_template(EDITORIAL, {"prompt": NED}))
    assert read_sections(plan, tuple(SECTIONS)) == explained(NED, CHAIN)
    with pytest.raises(AssertionError, match="can't read the solution"):
        explained(TASK, "print('hello')")


def test_the_coder_carries_out_the_plan_right_or_wrong():
    assert carried_out(TASK, STEPS) == f"```python\n{PROGRAM}\n```"
    assert carried_out(NED, STEPS) == CHAIN
    assert carried_out(NED, OTHER_STEPS) == "19 - 14 = 5. 5 / 2 = 2. The answer is \\boxed{2}."
    assert carried_out(NED, "One total is enough.") == "The answer is \\boxed{19}."
    assert "n -= 14" not in carried_out(TASK, "One total is enough.")


def test_the_coder_reads_the_steps_and_no_description_beside_them():
    plan = (
        f"Solution description:\nFirst triple, then add 3.\n\n{STEPS}\n\nPitfalls:\nDo not halve."
    )
    assert carried_out(NED, plan) == CHAIN
    # An editorial as it is asked for, in tags.
    editorial = ask_role("explainer", fill_template(EDITORIAL, {"prompt": NED}))
    assert carried_out(NED, editorial) == CHAIN


def test_what_is_answered_depends_on_all_that_is_shown():
    values = {"prompt": TASK, "text": PROGRAM}
    changes = {"prompt": TASK.replace("Ned", "Ann"), "text": PROGRAM.replace("14", "4")}
    assert_answer_depends_on("explainer", EXPLAIN, values, changes)
    values = {"prompt": NED, "text": STEPS}
    changes = {"prompt": NED.replace("19", "29"), "text": OTHER_STEPS}
    assert_answer_depends_on("coder", CARRY_OUT, values, changes)
    other_task = TASK.replace("sells 14", "sells 4")
    assert_answer_depends_on("programmer", "{task}", {"task": TASK}, {"task": other_task})


def test_the_coder_does_not_solve_the_story_by_itself():
    other_story = NED.replace("sells 14", "sells 4")
    assert carried_out(other_story, STEPS) == carried_out(NED, STEPS)


def test_a_sample_slips_by_its_index_alone():
    programs = [carried_out(TASK, STEPS, sample_index=i, slip_rate=0.5) for i in range(20)]
    assert programs == [carried_out(TASK, STEPS, sample_index=i, slip_rate=0.5) for i in range(20)]
    right_program = f"```python\n{PROGRAM}\n```"
    assert 4 < sum(program != right_program for program in programs) < 16
    for index in range(9):
        assert carried_out(TASK, STEPS, sample_index=index, slip_rate=1.0) != right_program


def test_a_program_task_without_a_plan_goes_to_the_programmer():
    assert choose_role(TASK).name == "programmer"
    [completion] = Oracle(slip_rate=0.0).write([Request(TASK)])
    assert completion.text == f"```python\n{PROGRAM}\n```"
    [completion] = Oracle(slip_rate=1.0).write([Request(TASK)])
    assert completion.text != f"```python\n{PROGRAM}\n```"


def test_a_role_that_is_not_shown_what_it_needs_says_so():
    with pytest.raises(AssertionError, match="found no story"):
        carried_out("What is 2 + 2?", STEPS)
    with pytest.raises(CannotAnswerError):
        choose_role("Write an editorial for the problem. Carry out the plan.\nPlan:\nDouble.")


def test_a_carried_out_story_is_judged_like_any_chain():
    problem = Problem("p", NED, "10", "story")
    assert judge.judge(problem, carried_out(NED, STEPS)).status == "right"
    assert judge.judge(problem, carried_out(NED, OTHER_STEPS)).status == "wrong"


def test_every_task_of_the_world_has_its_problems():
    assert [problem.source for problem in make_problems("story-code-easy", size=2)] == [
        "story-code-easy"
    ] * 2
    assert make_problems("story", size=1) == story.problems(size=1)
    with pytest.raises(ConfigError, match="no world task called 'story-cod'") as caught:
        make_problems("story-cod", size=1)
    assert "story-code" in caught.value.available
