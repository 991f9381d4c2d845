"""Scripted models that answer in the forms which the prompts of single methods ask for, for the conformance suite."""

from __future__ import annotations

from potstill.models.model import Request
from potstill.models.scripted import ScriptedModel, last_user, render
from potstill.world.scripted import solve_by_chance


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
