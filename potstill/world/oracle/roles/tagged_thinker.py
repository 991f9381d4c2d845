"""The tagged thinker: it goes on inside the tag that was opened last, with a plan, equations, a check or the answer."""

from __future__ import annotations

import re

from potstill.verifiers.story import Story, required_equations
from potstill.world.oracle.role import CannotAnswerError, Role, RoleInput, read_story
from potstill.world.plans import slip_once
from potstill.world.story import write_equation

# What a prompt for typed parts begins with.
_TAGGED = re.compile(r"Solve the problem in parts, each of them within tags of its own")
_OPEN_TAG = re.compile(r"<([\w-]+)>(?!.*<)", re.DOTALL)
_RESULT = re.compile(r"\d+ [-+*/] \d+ = (\d+)")

SLIPS = 0.4  # share of carried out solutions that slip


def go_on(role_input: RoleInput) -> str:
    """What belongs into the open tag, and its end."""
    _, story = read_story(role_input.prompt)
    tag = _OPEN_TAG.search(role_input.prefix)
    if tag is None:
        raise CannotAnswerError("the tagged thinker found no open tag")
    parts = {
        "sub-task": plan,
        "thinking": carry_out,
        "double-check": check,
        "thinking_from_scratch": begin_anew,
        "answer": give_answer,
    }
    if tag[1] not in parts:
        raise CannotAnswerError(f"the tagged thinker knows no part {tag[1][:40]!r}")
    return f"{parts[tag[1]](role_input, story)}</{tag[1]}>"


def plan(role_input: RoleInput, story: Story) -> str:
    """The parts of the story, behind the number of the first one."""
    count = len(story.events)
    return f" Begin with {story.start}.\n- 2. Carry out the {count} changes.\n- 3. Say the total."


def carry_out(role_input: RoleInput, story: Story) -> str:
    """The equations, from the beginning; now and then with a slip."""
    # A slip makes whole, consistent equations of another story, which no check of the sums finds.
    events = list(story.events)
    if role_input.rng.random() < SLIPS:
        events = slip_once(events, role_input.rng)
    equations = required_equations(story._replace(events=tuple(events)))
    text = " ".join(write_equation(equation) for equation in equations)
    return f"Start again. {text}" if _RESULT.search(role_input.prefix) else text


def check(role_input: RoleInput, story: Story) -> str:
    """Whether as many equations stand there as the story has changes; a wrong number is not seen."""
    # Only the last thinking is looked at.
    last = role_input.prefix.rpartition("<thinking>")[2]
    is_whole = len(_RESULT.findall(last)) == len(story.events)
    return " Each change has its equation." if is_whole else " A change is missing."


def begin_anew(role_input: RoleInput, story: Story) -> str:
    """Where it begins this time."""
    return f" I begin with {story.start} again."


def give_answer(role_input: RoleInput, story: Story) -> str:
    """The result of the last equation, or nothing."""
    results = _RESULT.findall(role_input.prefix)
    return f" \\boxed{{{results[-1]}}}" if results else " I do not know."


ROLE = Role("tagged_thinker", _TAGGED, go_on)
