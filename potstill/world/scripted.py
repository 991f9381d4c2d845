"""A scripted teacher and student that solve the world's stories by chance, in milliseconds.

They stand in for real models where a method is checked or tried: what they write is a function of the request alone,
so equal requests get equal completions, and a run can be repeated, stopped and resumed.
"""

from __future__ import annotations

import re
from pathlib import Path
from random import Random

from potstill.models.model import Request
from potstill.models.scripted import ScriptedModel, last_user, render
from potstill.records import Trace, blank
from potstill.verifiers.story import Equation, Story, apply_event, parse_story, required_equations
from potstill.world import story
from potstill.world.oracle.role import RoleInput
from potstill.world.oracle.roles import template_corrector
from potstill.world.oracle.stepped import asked_form

TEACHER_SKILL = 0.85
STUDENT_SKILL = 0.4
REWRITING_SKILL = 0.75  # the student's, where its prompt shows it another solution
CORRECTING_SKILL = 0.3  # the student's, where it corrects a solution in steps
ANSWERED = 0.93  # share of chains that come to an answer at all
NO_WEIGHTS = Path("scripted-weights")  # a scripted student is trainable in name only

_STORY = re.compile(r"\w+ has \d+ \w+\.(?: Then \w+ [^.\n]+\.)+ How many \w+ does \w+ have now\?")
_SECTION = re.compile(r"<(?!think\b)(\w+)>[^<>]*</\1>")
_BOXED_NUMBER = re.compile(r"\\boxed\{-?\d")
_OTHER_REPLIES = (
    "Yes.",
    "No.",
    "Yes, the step is right. \\boxed{7}",
    "No: the sum is \\boxed{12}.",
)


def scripted_stories(size: int, *, seed: int = 5) -> list[Trace]:
    """Blank traces of different stories."""
    return [blank(problem) for problem in story.problems("story", size=size, seed=seed)]


def scripted_teacher(*, fail: float = 0.0, name: str = "") -> ScriptedModel:
    """A strong model; `fail` is the share of its calls that fail, another name makes another model."""
    return ScriptedModel(teacher_reply, fail=fail, name=name)


def scripted_student(*, fail: float = 0.0, name: str = "") -> ScriptedModel:
    """A weak model that a stage can train in name; it solves more where a prompt shows it another solution."""
    return ScriptedModel(student_reply, fail=fail, name=name, weights=NO_WEIGHTS)


def solve_by_chance(request: Request, skill: float, *, answered: float = ANSWERED) -> str:
    """A brief chain for the first story of the prompt, of a conversation for the first one of its last turn.

    With chance 1 - skill one step slips and the slip is carried on; with chance 1 - answered there is no answer. A
    prompt that asks for numbered steps gets them. A prompt without a story gets one of a few short replies, so that a
    judge's questions are answered too.
    """
    # The tests' figures hang on this label and on the order of the draws.
    rng = Random(request.random_seed("fumble"))
    parsed = _first_story(request)
    if parsed is None:
        return rng.choice(_OTHER_REPLIES)
    slip = rng.randrange(len(parsed.events)) if rng.random() > skill else -1
    equations = _solve_with_slip(parsed, slip, rng)
    is_answered = rng.random() < answered
    if asked_form(render(request.prompt)).has_steps:
        return _write_in_steps(request, equations, is_answered=is_answered)
    ending = " I give up."
    if is_answered:
        ending = f" The answer is \\boxed{{{equations[-1].result}}}."
    steps = " ".join(story.write_equation(equation) for equation in equations)
    return f"Let me think about this story from its beginning to its end. {steps}{ending}"


def teacher_reply(request: Request) -> str:
    """What the scripted teacher writes: the sections that a prompt names (`<idea>…</idea>`), a chain otherwise."""
    sections = dict.fromkeys(_SECTION.findall(render(request.prompt)))
    if not sections:
        return solve_by_chance(request, TEACHER_SKILL)
    draft = request.random_seed("draft")
    return "\n".join(f"<{name}>Draft {draft} of the {name}.</{name}>" for name in sections)


def student_reply(request: Request) -> str:
    """What the scripted student writes."""
    if template_corrector.ROLE.pattern.search(render(request.prompt)):
        return correct_by_chance(request, CORRECTING_SKILL)
    shown_solution = _BOXED_NUMBER.search(render(request.prompt)) is not None
    return solve_by_chance(request, REWRITING_SKILL if shown_solution else STUDENT_SKILL)


def correct_by_chance(request: Request, skill: float) -> str:
    """A correction of a solution in steps: the oracle's, or with chance 1 - skill one with another cause and result."""
    rng = Random(request.random_seed("fumble"))
    correction = template_corrector.correct_steps(RoleInput(render(request.prompt), "", rng))
    if rng.random() < skill:
        return correction
    wrong = correction.replace("\\boxed{", "\\boxed{9").replace("does not make", "makes more than")
    return re.sub(r"(Correction(?:>\n|: ))", r"\g<1>9", wrong, count=1)


def _write_in_steps(request: Request, equations: list[Equation], *, is_answered: bool) -> str:
    form = asked_form(render(request.prompt))
    text = ""
    for number, equation in enumerate(equations, 1):
        text += form.step(number, story.write_equation(equation))
    if is_answered:
        text += form.part("Answer", f"\\boxed{{{equations[-1].result}}}")
    return text


def _first_story(request: Request) -> Story | None:
    # Earlier turns of a conversation are worked examples: the last one asks.
    match = _STORY.search(last_user(request.prompt)) or _STORY.search(render(request.prompt))
    return parse_story(match[0]) if match else None


def _solve_with_slip(parsed: Story, slip: int, rng: Random) -> list[Equation]:
    """The story's equations; the one at `slip` ends 1 to 9 too high, and the others go on from there."""
    total = parsed.start
    equations = []
    for index, (event, right) in enumerate(
        zip(parsed.events, required_equations(parsed), strict=True)
    ):
        result = apply_event(total, event)
        if index == slip:
            result += rng.randint(1, 9)
        equations.append(right._replace(left=total, result=result))
        total = result
    return equations
