"""A scripted student that solves stories in the thought template, with slips, and corrects itself badly."""

from __future__ import annotations

from random import Random

from potstill.models.model import Request
from potstill.models.scripted import ScriptedModel, render
from potstill.verifiers.story import apply_event, required_equations
from potstill.world.oracle.role import RoleInput, read_story
from potstill.world.oracle.roles.template_corrector import correct_steps
from potstill.world.oracle.stepped import Form, asked_form
from potstill.world.scripted import NO_WEIGHTS
from potstill.world.story import write_equation

SKILL = 0.4
CORRECTING_SKILL = 0.3  # the others correct the right step wrongly, or another step


def stepping_student(*, fail: float = 0.0, name: str = "") -> ScriptedModel:
    """The student; what it writes is a function of the request alone."""
    return ScriptedModel(answer, fail=fail, name=name, weights=NO_WEIGHTS)


def answer(request: Request) -> str:
    prompt = render(request.prompt)
    rng = Random(request.random_seed("stepping"))
    if "A student's solution is wrong." in prompt:
        return correct(prompt, rng)
    return solve(prompt, rng)


def solve(prompt: str, rng: Random) -> str:
    """Steps with a slip that is carried on; a story that asks for no steps gets plain equations."""
    _, story = read_story(prompt)
    equations = required_equations(story)
    slip = -1 if rng.random() < SKILL else rng.randrange(len(equations))
    form = asked_form(prompt)
    total, text = story.start, ""
    for index, (equation, event) in enumerate(zip(equations, story.events, strict=True)):
        result = apply_event(total, event) + (rng.randint(1, 9) if index == slip else 0)
        line = write_equation(equation._replace(left=total, result=result))
        text += form.step(index + 1, line) if is_asked(form, prompt) else f"{line} "
        total = result
    if not is_asked(form, prompt):
        return f"{text}The answer is \\boxed{{{total}}}."
    return text + form.part("Answer", f"\\boxed{{{total}}}")


def is_asked(form: Form, prompt: str) -> bool:
    return form.xml or "'Step 1:'" in prompt


def correct(prompt: str, rng: Random) -> str:
    """The oracle's correction, or one that is a wrong guess of the student's."""
    right = correct_steps(RoleInput(prompt, "", rng, slip_rate=0.0))
    if rng.random() < CORRECTING_SKILL:
        return right
    wrong = right.replace("\\boxed{", "\\boxed{9").replace("does not make", "makes more than")
    return wrong.replace("Correction>\n", "Correction>\n9", 1)
