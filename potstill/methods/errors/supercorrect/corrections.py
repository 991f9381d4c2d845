"""From corrections of wrong solutions to pairs on the first wrong step: what is usable, and what each side holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from potstill.methods.errors.supercorrect.format import (
    Step,
    read_solution,
    write_cause_start,
    write_correction,
    write_correction_start,
    write_step_start,
)
from potstill.methods.errors.supercorrect.prompts import LEAKS
from potstill.methods.errors.supercorrect.settings import Settings
from potstill.records import Trace
from potstill.traces import edit, line, mentions_none

PARTS = {"both": ("cause", "correction"), "cause": ("cause",), "correction": ("correction",)}


# What a text must be.


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
    fault = read_fault(trace.text, attempt_by_line[trace.line].text)
    return fault is not None, "faults a step that the solution does not have"


def is_self_contained(trace: Trace) -> tuple[bool, str]:
    """It does not speak of the reference, which the learner never sees."""
    return mentions_none(LEAKS, trace)


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
    """Cause and correction of the first wrong step, as far as the settings want them."""
    fault = read_fault(correction.text, attempts[0].text)
    if fault is None:
        return None
    parts = PARTS[settings.parts]
    content = write_correction(
        fault.corrected.cause if "cause" in parts else "",
        fault.corrected.correction if "correction" in parts else "",
        xml=settings.xml,
    )
    step_start = write_step_start(fault.number, xml=settings.xml, on_line=True)
    return as_side(fault.steps_before + step_start, content, fault.number)


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
    fault = read_fault(correction.text, attempts[0].text)
    if fault is None:
        return None
    step_start = write_step_start(fault.number, xml=settings.xml)
    content = fault.corrected.correction + "\n"
    return as_side(fault.steps_before + step_start, content, fault.number)


def cut_to_wrong_step(
    settings: Settings, attempts: list[Trace], corrections: Sequence[Trace]
) -> list[Trace]:
    """Each attempt cut behind the step that its correction faults (Step-DPO's rejected side)."""
    context = {"corrections": corrections}
    return edit(partial(wrong_step, settings), attempts, context=context, by=line)


def wrong_step(
    settings: Settings, attempt: Any, corrections: Sequence[Any]
) -> dict[str, Any] | None:
    """The attempt's own step that the correction faults."""
    fault = read_fault(corrections[0].text, attempt.text)
    if fault is None:
        return None
    step_start = write_step_start(fault.number, xml=settings.xml)
    return as_side(fault.steps_before + step_start, fault.attempted.text + "\n", fault.number)


def begin_fault(
    settings: Settings, posed: list[Trace], attempts: Sequence[Trace], chosen: Sequence[Trace]
) -> list[Trace]:
    """The beginning of a correction: the attempt's steps up to the one that the chosen correction faults."""
    context = {"attempts": attempts, "chosen": chosen}
    return edit(partial(text_to_cause, settings), posed, context=context, by=line)


def text_to_cause(
    settings: Settings, posed: Any, attempts: Sequence[Any], chosen: Sequence[Any]
) -> dict[str, Any] | None:
    """The attempt's steps before the faulted one, that one as attempted, and the beginning of its cause."""
    fault = read_fault(chosen[0].text, attempts[0].text)
    if fault is None:
        return None
    text = fault.steps_before + write_step_start(fault.number, xml=settings.xml)
    text += f"{fault.attempted.text}\n{write_cause_start(xml=settings.xml)}"
    return {"text": text, "prefix_length": len(text), "finish_reason": "cut"}


def begin_correction(settings: Settings, begun: Any) -> dict[str, Any]:
    """A cause with the beginning of its correction behind it."""
    text = begun.text.rstrip() + write_correction_start(xml=settings.xml)
    return {"text": text, "finish_reason": "cut"}


def prompt_of_attempt(correction: Any, attempts: Sequence[Any]) -> Any:
    """What the learner sees of the problem of a corrected solution: a prompt function."""
    return attempts[0].prompt


class Fault(NamedTuple):
    """The first wrong step: its number, the attempt's text before it, and the step as attempted and as corrected."""

    number: int
    steps_before: str
    attempted: Step
    corrected: Step


def read_fault(correction: str, attempt: str) -> Fault | None:
    """The step that a correction faults first; None where it faults none that the attempt has."""
    solution, attempted = read_solution(correction), read_solution(attempt)
    if solution is None or attempted is None:
        return None
    number = solution.first_fault
    if not 1 <= number <= len(attempted.steps):
        return None
    step = attempted.steps[number - 1]
    return Fault(number, attempt[: step.start], step, solution.steps[number - 1])


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
    if not causes:
        return None
    mark = "<Correction>" if settings.xml else "\nCorrection: "
    _, _, correction = side.new.partition(mark)
    content = write_correction(causes[0].text, "", xml=settings.xml)
    content += mark.lstrip() + correction
    return as_side(side.text[: side.prefix_length], content, int(side.scores["k"]))
