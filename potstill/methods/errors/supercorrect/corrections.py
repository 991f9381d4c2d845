"""From corrections of wrong solutions to pairs on the first wrong step: what is usable, and what each side holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from potstill.methods.errors.supercorrect.format import (
    Step,
    read_solution,
    write_correction,
    write_step_start,
)
from potstill.methods.errors.supercorrect.prompts import LEAKS
from potstill.methods.errors.supercorrect.settings import Settings
from potstill.records import Trace
from potstill.traces import edit, line

PARTS = {"both": ("cause", "correction"), "cause": ("cause",), "correction": ("correction",)}


# What a text must be.


def is_finished(trace: Trace) -> bool | tuple[bool, str]:
    """The author stopped by itself."""
    if trace.error:
        return False  # the ledger's reason is then the error
    return trace.finish_reason == "stop", "not finished"


def has_template(trace: Trace) -> tuple[bool, str]:
    """It can be read as numbered steps with an answer."""
    return read_solution(trace.text) is not None, "no steps, or no answer behind them"


def finds_fault(trace: Trace) -> tuple[bool, str]:
    """A correction that names a first wrong step, its cause and its correction."""
    solution = read_solution(trace.text)
    if solution is None:
        return False, "no steps, or no answer behind them"
    if not solution.first_fault:
        return False, "finds no wrong step"
    step = solution.steps[solution.first_fault - 1]
    if not step.cause:
        return False, "no cause in its first wrong step"
    return bool(step.correction), "no correction in its first wrong step"


def faults_step_of(attempt_by_line: Mapping[str, Trace], trace: Trace) -> tuple[bool, str]:
    """The step that a correction faults is there in the solution that it corrects."""
    solution, attempted = read_solution(trace.text), read_solution(attempt_by_line[trace.line].text)
    assert solution is not None and attempted is not None
    is_there = solution.first_fault <= len(attempted.steps)
    return is_there, "faults a step that the solution does not have"


def is_self_contained(trace: Trace) -> tuple[bool, str]:
    """It does not speak of the reference, which the learner never sees; a word of the question is no leak."""
    question = trace.question.lower()
    for match in LEAKS.finditer(trace.text):
        if match[0].lower() not in question:
            return False, f"mentions {match[0]!r}"
    return True, ""


def is_not_right(trace: Trace) -> tuple[bool, str]:
    """A failed self-correction; one that is right by chance would be a false negative."""
    return trace.verdict.status != "right", "right after all"


# What the sides of a pair hold. `edit` keeps their authors; the given beginning is masked by `pair`.


def cut_to_fault(
    settings: Settings, corrections: list[Trace], attempts: Sequence[Trace]
) -> list[Trace]:
    """Each correction cut to cause and correction of step k, behind the attempt's steps before k."""
    context = {"attempts": attempts}
    return edit(partial(correction_of_fault, settings), corrections, context=context, by=line)


def correction_of_fault(
    settings: Settings, correction: Any, attempts: Sequence[Any]
) -> dict[str, Any] | None:
    """Cause and correction of the first wrong step, behind the attempt's steps before it."""
    solution, attempted = read_solution(correction.text), read_solution(attempts[0].text)
    if solution is None or attempted is None or solution.first_fault > len(attempted.steps):
        return None
    number = solution.first_fault
    step = solution.steps[number - 1]
    parts = PARTS[settings.parts]
    shown = attempts[0].text[: attempted.steps[number - 1].start]
    shown += write_step_start(number, xml=settings.xml)
    content = write_correction(
        step.cause if "cause" in parts else "",
        step.correction if "correction" in parts else "",
        xml=settings.xml,
    )
    return as_side(shown, content, number)


def cut_to_step(
    settings: Settings, corrections: list[Trace], attempts: Sequence[Trace]
) -> list[Trace]:
    """Each correction cut to the right step k behind the attempt's steps before it (Step-DPO's chosen side)."""
    context = {"attempts": attempts}
    return edit(partial(right_step, settings), corrections, context=context, by=line)


def right_step(
    settings: Settings, correction: Any, attempts: Sequence[Any]
) -> dict[str, Any] | None:
    """The corrected step, as a step of a solution that never went wrong."""
    side = correction_of_fault(settings, correction, attempts)
    solution = read_solution(correction.text)
    if side is None or solution is None:
        return None
    number = solution.first_fault
    shown = side["text"][: side["prefix_length"]]
    return as_side(shown, solution.steps[number - 1].correction + "\n", number)


def cut_to_wrong_step(
    settings: Settings, attempts: list[Trace], corrections: Sequence[Trace]
) -> list[Trace]:
    """Each attempt cut behind the step that its correction faults (Step-DPO's rejected side)."""
    context = {"corrections": corrections}
    return edit(partial(wrong_step, settings), attempts, context=context, by=line)


def wrong_step(
    settings: Settings, attempt: Any, corrections: Sequence[Any]
) -> dict[str, Any] | None:
    """The attempt's own step that the correction faults, behind those before it."""
    side = correction_of_fault(settings, corrections[0], [attempt]) if corrections else None
    attempted = read_solution(attempt.text)
    if side is None or attempted is None:
        return None
    number = int(side["scores"]["k"])
    step: Step = attempted.steps[number - 1]
    return as_side(side["text"][: side["prefix_length"]], step.text + "\n", number)


def as_side(shown: str, content: str, number: int) -> dict[str, Any]:
    """One side of a pair on step `number`: what it was shown, and what it says there. It does not end its solution."""
    return {
        "text": shown + content,
        "prefix_length": len(shown),
        "finish_reason": "cut",
        "scores": {"k": float(number)},
    }


def differ_on_one_step(good: Trace, bad: Trace) -> bool:
    """Whether both sides speak of the same step of the same solution, and say different things."""
    same_beginning = good.text[: good.prefix_length] == bad.text[: bad.prefix_length]
    return same_beginning and good.new != bad.new


# The shuffled cause.


def cause_alone(correction: Any) -> str | None:
    """The cause of the first wrong step: what another problem's side gets in the shuffled control."""
    solution = read_solution(correction.text)
    if solution is None or not solution.first_fault:
        return None
    return solution.steps[solution.first_fault - 1].cause


def swap_cause(settings: Settings, side: Any, causes: Sequence[Any]) -> dict[str, Any] | None:
    """A chosen side with another problem's cause; dropped where there is none."""
    shown, content = side.text[: side.prefix_length], side.new
    if not causes:
        return None
    _, _, after_cause = content.partition("</Cause>\n" if settings.xml else "\n")
    swapped = write_correction(causes[0].text, "", xml=settings.xml) + after_cause
    return as_side(shown, swapped, int(side.scores["k"]))
