"""A correction as its writer answers it: read into its parts, and written again in one form.

With numbered steps (mathematics):          With options to choose from:

    Incorrect step: Step 2                       Mistakes: it takes the city for the country.
    Explanation: after 5 comes 5 * 2, not 5 + 2.  Corrected answer: (A) is a city. (B) is a country. So (B).
    Correct solution:
    ...
    Step 2: 5 * 2 = 10.
    Step 3: The answer is \\boxed{10}.

The first label ends the prompt, so the text begins behind it. `...` stands for the steps before the incorrect one and
is left out where step 1 is incorrect. What can't be read is a `str`, the reason, and never a correction with a part
missing: an answer that can't be read is no answer (the paper's extractor makes it a 0, which a gold answer of 0 then
takes).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from potstill.methods.errors.lema.steps import (
    beginning_of_chain,
    find_steps,
    join_steps,
    number_steps,
    step_number,
    strip_label,
)

ELLIPSIS = "..."
STEP, EXPLANATION, SOLUTION = "Incorrect step", "Explanation", "Correct solution"
MISTAKES, CORRECTED_ANSWER = "Mistakes", "Corrected answer"

# Labels may be in bold, behind a list mark or a heading.
_MARKUP = r"[*#_ \t]*"
_STEP = re.compile(rf"\s*{_MARKUP}(?:incorrect step{_MARKUP}:)?{_MARKUP}(?:step)?\s*(\d+)\b", re.I)
_EXPLANATION = re.compile(rf"^{_MARKUP}explanation{_MARKUP}:{_MARKUP}", re.I | re.M)
_SOLUTION = re.compile(rf"^{_MARKUP}correct(?:ed)? solution{_MARKUP}:{_MARKUP}", re.I | re.M)
_MISTAKES = re.compile(rf"^{_MARKUP}mistakes?{_MARKUP}:{_MARKUP}", re.I | re.M)
_CORRECTED = re.compile(rf"^{_MARKUP}corrected answer{_MARKUP}:{_MARKUP}", re.I | re.M)
# Three dots or more on a line of their own, or the one character.
_DOTS = re.compile(r"\s*(?:\.{3,}|…)[ \t]*(?:\n|$)")


class Correction(NamedTuple):
    """The parts of a correction.

    Args:
        explanation: why the step is incorrect; of a problem with options, which mistakes were made.
        steps: the correct solution's, without labels, from the incorrect step on or from the beginning.
        step: the incorrect step, counted from 1; None where the problem has options.
        from_start: whether the correct solution begins at step 1.
    """

    explanation: str
    steps: tuple[str, ...]
    step: int | None = None
    from_start: bool = True


def read_correction(
    text: str, *, has_options: bool, step_count: int | None = None
) -> Correction | str:
    """The parts of a correction, or why it has none that can be read.

    Args:
        text: what the corrector wrote, without its thought.
        has_options: whether the problem has options to choose from.
        step_count: steps of the wrong attempt, where they are to be compared with the step that it names.
    """
    if has_options:
        return _read_choice_correction(text)
    label = _STEP.match(text)
    if label is None:
        return "names no incorrect step"
    step = int(label[1])
    if step < 1 or (step_count is not None and step > step_count):
        return f"names step {step} of {step_count or 'a chain'}"
    parts = _split_parts(text[label.end() :], _EXPLANATION, _SOLUTION)
    if isinstance(parts, str):
        return parts
    explanation, solution = parts
    return _read_solution(explanation, solution, step)


def _read_choice_correction(text: str) -> Correction | str:
    """Problems with options have no step number: mistakes, then the whole answer."""
    # The label that ends the prompt may be repeated.
    label = _MISTAKES.match(text.lstrip())
    labelled = text if label is not None else f"Mistakes: {text.lstrip()}"
    parts = _split_parts(labelled, _MISTAKES, _CORRECTED)
    if isinstance(parts, str):
        return parts
    mistakes, answer = parts
    return Correction(mistakes, (answer,))


def _split_parts(
    text: str, first: re.Pattern[str], second: re.Pattern[str]
) -> tuple[str, str] | str:
    """What stands behind two labels, in their order."""
    first_label = first.search(text)
    if first_label is None:
        return "has no explanation"
    second_label = second.search(text, first_label.end())
    if second_label is None:
        return "has no correct solution"
    explanation = text[first_label.end() : second_label.start()].strip()
    solution = text[second_label.end() :].strip()
    # The prompt shows the original solution in braces; a writer may answer in the same way.
    if solution.startswith("{") and solution.endswith("}"):
        solution = solution[1:-1].strip()
    if not explanation:
        return "has an empty explanation"
    if not solution:
        return "has an empty solution"
    return explanation, solution


def _read_solution(explanation: str, solution: str, step: int) -> Correction | str:
    """The steps of the correct solution, and where it begins."""
    # Behind an ellipsis the steps go on from the incorrect one; without one the label says where they begin.
    dots = _DOTS.match(solution)
    body = solution[dots.end() :] if dots is not None else solution
    steps = [body[span.start : span.stop] for span in find_steps(body)]
    if not steps:
        return "has an empty solution"
    number = step_number(steps[0])
    unlabelled = tuple(strip_label(one) for one in steps)
    if dots is not None and number not in (None, step):
        return f"names step {step} and corrects from step {number} on"
    if dots is not None or number == step:
        return Correction(explanation, unlabelled, step, from_start=step == 1)
    # The whole solution was written again: the attempt's beginning is not used.
    if number == 1 or step == 1:
        return Correction(explanation, unlabelled, step, from_start=True)
    return f"names step {step} and does not say where its solution begins"


def correction_parts(correction: Correction) -> dict[str, str]:
    """The parts of a correction by their labels, in the order in which they are written."""
    if correction.step is None:
        return {MISTAKES: correction.explanation, CORRECTED_ANSWER: correction.steps[0]}
    if correction.from_start:
        solution = number_steps(correction.steps)
    else:
        # The steps before it are not copied.
        solution = f"{ELLIPSIS}\n{number_steps(correction.steps, first=correction.step)}"
    return {
        STEP: f"Step {correction.step}",
        EXPLANATION: correction.explanation,
        SOLUTION: f"\n{solution}",
    }


def write_parts(parts: Mapping[str, str]) -> str:
    """Labelled parts as one text; the first label ends the prompt and is not in it."""
    labelled: list[str] = []
    for label, part in parts.items():
        space = "" if part.startswith("\n") else " "
        labelled.append(f"{label}:{space}{part}")
    first_label = next(iter(parts))
    return "\n".join(labelled).removeprefix(f"{first_label}:").lstrip()


def splice_chain(attempt: str, correction: Correction) -> tuple[str, int]:
    """The right beginning of an attempt with the correct rest: `prefix_{<k} + suffix`, in the attempt's manner.

    Returns:
        The chain, and how many characters of it are the attempt's.
    """
    if correction.step is None:
        return correction.steps[0], 0
    if correction.from_start:
        return join_steps(attempt, correction.steps, first=1), 0
    beginning = beginning_of_chain(attempt, correction.step)
    suffix = join_steps(attempt, correction.steps, first=correction.step)
    return beginning + suffix, len(beginning)
