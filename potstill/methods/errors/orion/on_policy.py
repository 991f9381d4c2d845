"""ORION's error exposure without rewriting: the prompt of its writer becomes the prompt of a teacher (ours)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from potstill.methods.errors.orion.filters import has_errors_to_show
from potstill.methods.errors.orion.prompt_length import attempts_of_draw, show_prompt
from potstill.methods.errors.orion.prompts import PROMPTS
from potstill.methods.errors.orion.settings import Settings
from potstill.records import Trace
from potstill.traces import keep, set_teacher_prompt, split_by


def teach_with_errors(
    problems: Sequence[Trace],
    bases: Sequence[Trace],
    attempts: Sequence[Trace],
    settings: Settings,
    *,
    by: Callable[[Trace], str],
) -> list[Trace]:
    """The problems, blank, each with a teacher's prompt that shows the reference and the student's wrong attempts.

    Args:
        problems: blank traces, as the student is asked them.
        bases: the teacher's chains. Problems without errors are shown the chain alone, or are left out.
        attempts: the wrong attempts.
        settings: of the method.
        by: the key under which a chain finds its attempts.
    """
    with_errors, without_errors = split_by(attempts, bases)
    if settings.no_errors != "reflect" and settings.errors != "none":
        without_errors = keep(has_errors_to_show, without_errors)
    prompt = PROMPTS[settings.prompt]
    with_prompts = set_teacher_prompt(
        partial(show_prompt, prompt.with_reference, settings),
        with_errors,
        context={"attempts": attempts_of_draw(list(attempts), settings, draw=0)},
        by=by,
    )
    with_prompts += set_teacher_prompt(
        partial(show_prompt, prompt.reference_alone, settings), without_errors
    )
    # The student writes on the bare problem; the chain is in the teacher's prompt alone.
    prompts = {base.problem.id: base.teacher_prompt for base in with_prompts if not base.error}
    rows = []
    for blank_problem in problems:
        if blank_problem.problem.id in prompts:
            teacher_prompt = prompts[blank_problem.problem.id]
            rows.append(blank_problem.annotate(teacher_prompt=teacher_prompt))
    return rows
