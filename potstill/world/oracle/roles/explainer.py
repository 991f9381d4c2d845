"""The explainer: shown a problem and a solution, it writes an editorial of what the solution does, right or wrong.

Shown no solution it plans from the problem, as a reasoner that never errs. It writes the sections that the prompt
names as tags, in their order. Only the description and the steps say what happens in the story.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from potstill.verifiers.story import Event
from potstill.world import story_code
from potstill.world.oracle.role import CannotAnswerError, Role, RoleInput, read_story
from potstill.world.plans import read_steps, write_step

# A copy of the words of the method `explain`; tests/world/test_oracle_explain.py compares the two.
_EDITORIAL = re.compile(r"Write an editorial for the problem\b")
_SOLUTION = re.compile(r"\nSolution:\n(.*)\Z", re.DOTALL)
_TAG = re.compile(r"<(\w+)>")


def explain(role_input: RoleInput) -> str:
    """The editorial of the problem in the prompt, by the solution in the prompt."""
    solution = _SOLUTION.search(role_input.prompt)
    problem = role_input.prompt[: solution.start()] if solution is not None else role_input.prompt
    name, item, events = read_problem(problem)
    if solution is not None:
        events = read_solution(solution[1])
        if not events:
            raise CannotAnswerError("the explainer can't read the solution in the prompt")
    # From here on the solution is believed, not the problem.
    sections = write_sections(name, item, events)
    # Only what the prompt asks for, in its order.
    asked_sections = dict.fromkeys(_TAG.findall(problem))
    parts: list[str] = []
    for section in asked_sections:
        if section in sections:
            parts.append(f"<{section}>\n{sections[section]}\n</{section}>")
    return "\n".join(parts)


def read_problem(prompt: str) -> tuple[str, str, Sequence[Event]]:
    """Who has what in the problem that a prompt shows, and what happens."""
    task = story_code.read_question(prompt)
    if task is not None:
        return task
    question, story = read_story(prompt)
    name, _, _, item = question.split(".")[0].split()
    return name, item, story.events


def read_solution(solution: str) -> Sequence[Event]:
    """What a program or a chain of equations does, in order."""
    return story_code.read_program(solution) or read_steps(solution)


def write_sections(name: str, item: str, events: Sequence[Event]) -> dict[str, str]:
    """Every section that the explainer can write, by its tag."""
    steps = [write_step(event) for event in events]
    numbered_steps: list[str] = []
    for number, step in enumerate(steps, 1):
        numbered_steps.append(f"{number}. {step}.")
    return {
        "restatement": f"{name}'s pile of {item} changes {len(events)} times. How large is it at the end?",
        "conceptual_evolution": (
            "One could think of all changes at once. They do not go together, so the pile is followed "
            "from one change to the next."
        ),
        "key_insight": "One running total is enough. Its changes go in the order in which they happen.",
        "solution_description": f"Begin with the first count, then {', then '.join(steps)}.",
        "step_by_step": "\n".join(numbered_steps),
        "pitfalls": "No change may be left out, and none may be done before the one in front of it.",
        "complexity": f"One operation a change: {len(events)} in all.",
    }


ROLE = Role("explainer", _EDITORIAL, explain)
