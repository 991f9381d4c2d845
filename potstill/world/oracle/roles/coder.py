"""The coder: shown a problem and a plan, it carries out the plan, right or wrong, now and then with a slip of its own.

A program task gets a program, a story its chain of equations. Of the problem the coder uses how it is answered and
the first count; what happens in the story it takes from the plan alone. A plan that says no step is carried out as
one that changes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from potstill.verifiers.story import Event, Story, required_equations
from potstill.world import story_code
from potstill.world.oracle.role import CannotAnswerError, Role, RoleInput, read_story
from potstill.world.plans import read_steps, slip_once
from potstill.world.story import brief_solution

# A copy of the words of the method `explain`; tests/world/test_oracle_explain.py compares the two.
_PLAN = re.compile(r"Carry out the plan\b.*?\nPlan:\n(.*)\Z", re.DOTALL)
# Under its heading, as a trained Reasoner writes it, or between its tags, as one that is asked for an editorial does.
_STEPS_SECTION = re.compile(
    r"(?:Step by step:|<step_by_step>)\s*(.*?)\s*(?:\n\n|</step_by_step>|\Z)", re.DOTALL
)


def carry_out(role_input: RoleInput) -> str:
    """The program, or the chain of equations, that the plan in the prompt asks for."""
    shown_plan = _PLAN.search(role_input.prompt)
    if shown_plan is None:
        raise CannotAnswerError("the coder found no plan in the prompt")
    events = read_plan(shown_plan[1])
    if role_input.rng.random() < role_input.slip_rate:
        events = slip_once(events, role_input.rng)

    # The problem stands before the plan: what a plan says of another problem is none.
    problem = role_input.prompt[: shown_plan.start(1)]
    if story_code.read_question(problem) is not None:
        return f"```python\n{story_code.write_program(events)}\n```"
    _, story = read_story(problem)
    return write_chain(story.start, events)


def read_plan(plan: str) -> list[Event]:
    """The steps of a plan: those of its section of steps where it has one, else all that it says."""
    section = _STEPS_SECTION.search(plan)
    return read_steps(section[1] if section is not None else plan)


def write_chain(first_count: int, events: Sequence[Event]) -> str:
    """The equations of the events, and the answer; without events the first count is the answer."""
    story = Story(first_count, tuple(events))
    if not required_equations(story):
        return f"The answer is \\boxed{{{first_count}}}."
    return brief_solution(story)


ROLE = Role("coder", _PLAN, carry_out, version=2)
