"""Scripted models that answer in the forms which the prompts of single methods ask for, for the conformance suite."""

from __future__ import annotations

import re

from potstill.models.model import Request
from potstill.models.scripted import ScriptedModel, last_user, render
from potstill.verifiers.story import required_equations
from potstill.world.oracle.role import read_story
from potstill.world.scripted import solve_by_chance
from potstill.world.story import write_equation


def write_under_headings(request: Request) -> str:
    """A solution under the headings of a simple problem, where a prompt asks for headings; else a chain."""
    chain = solve_by_chance(request, skill=0.85)
    if "**Analysis:**" not in render(request.prompt):
        return chain
    return f"**Analysis:** A story.\n**Approach:** Event by event.\n**Summary:** Done.\n**Solution:** {chain}"


def write_at_length(request: Request) -> str:
    """A chain that says all that it says many times; under headings where a prompt asks for them."""
    if "**Analysis:**" in render(request.prompt):
        return write_under_headings(request)
    return "Let me think about it again and again. " * 20 + solve_by_chance(request, skill=0.85)


LONG_WINDED = ScriptedModel(write_at_length, name="long-winded")
HEADINGS = ScriptedModel(write_under_headings, name="headings")


def write_step_by_step(request: Request) -> str:
    """A flow or an outline of two steps where one is asked for, one equation a step, and a chain behind all."""
    prompt = render(request.prompt)
    if "numbered list" in last_user(request.prompt):
        return "1. Go through the events.\n2. Look at the total."
    if "The step due now" in prompt:
        return "Let me see what happens next."
    return solve_by_chance(request, skill=0.85)


STEP_BY_STEP = ScriptedModel(write_step_by_step, name="step-by-step")


def name_missing_equations(request: Request) -> str:
    """What a numbered solution of a story lacks: each equation that stands in no step, behind the step before it."""
    prompt = render(request.prompt)
    question, story = read_story(prompt)
    steps = re.split(r"Step \d+:\n", prompt.partition(question)[2])[1:]
    parts: list[str] = []
    place = 0
    for equation in required_equations(story):
        written = write_equation(equation)
        found = [number for number, step in enumerate(steps, 1) if written in step]
        if found:
            place = found[0]
            continue
        parts.append(
            f"Missing Step {len(parts) + 1}:\nThe missing step should be placed between Step {place} and "
            f"Step {place + 1}.\nThe missing step is:\n{written}"
        )
    return "\n".join(parts) or "No missing steps."


GAP_FINDER = ScriptedModel(name_missing_equations, name="gap-finder")
