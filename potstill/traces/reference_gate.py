r"""What keeps a text from being copied of the reference that its writer saw: gates for its rows, and a hidden end.

A right answer that stands in the reference proves nothing. With a small pretrained student more than half of the
rewrites with the right answer had no step at all ("So the answer is \boxed{8}."), and training on them lost 40 points.
So a row must show at least a share of the reference's steps, and of the words of these steps; detours count on neither
side (`reasoning_steps`). The default shares let right solutions by other writers pass, and nothing without a step: of
2,001 recorded right solutions of GSM8K problems, measured against the data set's own, 99 % pass; of 728 of 100 MATH
problems 98 %; of the rewrites of the built-in student and of a small pretrained one that are right in every step, made
of chains with detours, all. A right answer behind a reference's last step alone passes on a quarter of GSM8K: where the
solution is that short. All of these are English texts: the words of a detour are known in English alone, so elsewhere a
reference's checks are steps that its rewrites must have half of (`reasoning_steps`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple, TypeAlias

from potstill.errors import ConfigError
from potstill.records import Trace
from potstill.traces.editing import edit
from potstill.traces.keys import Key, group_traces, problem
from potstill.traces.reasoning_steps import (
    count_words,
    find_reasoning_steps,
    reference_part,
    sum_steps,
    without_last_line,
)
from potstill.traces.selection import keep

HideEnd: TypeAlias = Literal["nothing", "answer", "last-line", "last-steps"]
HIDDEN = "[hidden]"  # stands where the answer stood
HIDDEN_END = "hidden"  # the score of a reference: the text that its readers were not shown
_PROGRAM = re.compile(r"^[ \t]*```.*?(?:^[ \t]*```|\Z)", re.DOTALL | re.MULTILINE)
_BOX = re.compile(r"(\\boxed\{)[^{}]*(?:\{[^{}]*\}[^{}]*)*(\})")


@dataclass(frozen=True, slots=True)
class ReferenceGate:
    """What a text must show that was written with a reference in view, and what of the reference is hidden.

    Args:
        min_step_share: a row has at least this share of its reference's steps; 0 asks for none.
        min_length_share: and at least this share of its words; 0 asks for none.
        hide_end: what the writer is not shown of the reference's end: "nothing", the "answer" (its statement is cut,
            and where it is a result it is masked), the "last-line", or the "last-steps". It goes by what the text says,
            and what was hidden is noted; ORION's `settings.hidden_share` cuts a length off, whatever stands there.
        hidden_steps: how many steps "last-steps" hides, with all that stands behind them. The first one stays; a
            reference of one step loses its answer.
    """

    min_step_share: float = 0.5
    min_length_share: float = 1 / 3
    hide_end: HideEnd = "nothing"
    hidden_steps: int = 2

    def __post_init__(self) -> None:
        """Refuse shares that no text has, and steps that can't be counted."""
        if not 0 <= self.min_step_share <= 1 or not 0 <= self.min_length_share <= 1:
            raise ConfigError(
                f"min_step_share={self.min_step_share}, min_length_share={self.min_length_share}",
                expected="shares from 0 to 1",
                fix="--set gate.min_step_share=0.5",
            )
        if self.hidden_steps < 1:
            raise ConfigError(f"hidden_steps={self.hidden_steps}", expected="1 or more")


def refuse_hidden_end(gate: ReferenceGate, method: str, why: str) -> None:
    """Refuse a hidden end where a method has no reference whose end could be hidden.

    Args:
        gate: of the method.
        method: its name.
        why: nothing can be hidden, as the end of the message.

    Raises:
        ConfigError: the gate hides something.
    """
    if gate.hide_end != "nothing":
        raise ConfigError(
            f"{method} can't hide the end of a reference (gate.hide_end={gate.hide_end}): {why}",
            fix="--set gate.hide_end=nothing",
        )


class Measure(NamedTuple):
    """How much a text says: its steps, and the words of these."""

    steps: int
    words: int


def keep_reasoned(
    traces: Sequence[Trace],
    references: Sequence[Trace] | None = None,
    *,
    by: Key = problem,
    gate: ReferenceGate = ReferenceGate(),
) -> list[Trace]:
    """Keep the texts that reason as their reference does; the others go to the ledger with the counts.

    Args:
        traces: texts whose writer saw a reference; errored traces fall out, as in every `keep`.
        references: what the writers saw, found by `by`: of several the shortest counts. None is the problem's own
            solution, unless that is a program.
        by: the key under which a trace finds its reference. A trace without one passes.
        gate: how much of the reference's steps and length is asked for.

    Returns:
        The traces that pass. A reason reads "too few steps: 2 where the reference has 6".
    """
    # Of several references of one key the one with the fewest steps is the measure.
    measure_by_key: dict[Any, Measure] = {}
    for key, group in group_traces(references or (), by).items():
        measures = [measure_reference(t, t.text) for t in group if not t.error]
        if measures:
            measure_by_key[key] = min(measures)

    def reasons_enough(trace: Trace) -> bool | tuple[bool, str]:
        if trace.error:
            return False  # the ledger's reason is then the error
        # Whoever copies the mask of a hidden answer has not worked it out.
        if HIDDEN in trace.text:
            return False, "copies the mark of what was hidden"
        reference = measure_by_key.get(by(trace))
        if references is None and trace.problem.solution and trace.problem.kind != "code":
            reference = measure_reference(trace, trace.problem.solution)
        if reference is None:
            return True
        return compare_with_reference(measure_text(trace, trace.text), reference, gate)

    return keep(reasons_enough, traces)


def compare_with_reference(
    written: Measure, reference: Measure, gate: ReferenceGate
) -> tuple[bool, str]:
    """Whether a text says enough beside its reference, or why not."""
    if written.steps < math.ceil(gate.min_step_share * reference.steps):
        return False, f"too few steps: {written.steps} where the reference has {reference.steps}"
    if written.words < math.floor(gate.min_length_share * reference.words):
        return False, f"too short: {written.words} words where the reference has {reference.words}"
    return True, ""


def measure_text(trace: Trace, text: str) -> Measure:
    """The steps of a text about a trace's problem, and the words of these steps."""
    steps = find_reasoning_steps(text, question=trace.question, answer=trace.problem.answer)
    return Measure(sum_steps(steps), count_words(text, steps))


def measure_reference(trace: Trace, text: str) -> Measure:
    """The same of the part of a reference that others are measured by; lines of programs are no steps there."""
    prose = _PROGRAM.sub("\n", text)
    part = reference_part(prose, question=trace.question, answer=trace.problem.answer)
    return measure_text(trace, part)


def hide_ends(references: list[Trace], gate: ReferenceGate) -> list[Trace]:
    """Cut the end off references that their readers are not to see: edited traces, with the score `hidden`.

    The score is the text from the first hidden character on, so that `potstill show` tells what a writer did not see.
    """
    if gate.hide_end == "nothing":
        return references
    return edit(partial(hide_end, gate), references)


def hide_end(gate: ReferenceGate, trace: Any) -> dict[str, Any]:
    """The text of a reference without its end, and what was hidden of it: a function for `edit`."""
    shortened = shorten(gate, trace)
    hidden_text = trace.text[len(_common_beginning(trace.text, shortened)) :]
    return {"text": shortened, "scores": {HIDDEN_END: hidden_text.strip()}}


def shorten(gate: ReferenceGate, trace: Any) -> str:
    """The text of a reference as its reader sees it."""
    if gate.hide_end == "last-line":
        return without_last_line(trace.text)
    steps = find_reasoning_steps(trace.text, question=trace.question, answer=trace.verdict.answer)
    if gate.hide_end == "last-steps":
        # Without its first step there would be no reference.
        first_hidden = max(1, len(steps) - gate.hidden_steps)
        if first_hidden < len(steps):
            return str(trace.text[: steps[first_hidden].start].rstrip())
    # The answer: what stands behind the last step states it, and within the steps it is masked where it is a result.
    end = steps[-1].stop if steps else 0
    shortened = str(trace.text[:end])
    # A thought that was closed behind its last step is closed again.
    if "</think>" in trace.text and "</think>" not in shortened and "<think>" in shortened:
        shortened += "\n</think>"
    return mask_results(shortened, trace.verdict.answer)


def mask_results(text: str, answer: str | None) -> str:
    """The text with the answer masked where it stands in a box, or behind an equals sign, as a result."""
    text = _BOX.sub(rf"\1{HIDDEN}\2", text)
    if not answer:
        return text
    return re.sub(rf"(=\s{{0,3}}\$?){re.escape(answer)}(?!\w|[.,]\d)", rf"\1{HIDDEN}", text)


def _common_beginning(first: str, second: str) -> str:
    """What both texts begin with."""
    length = 0
    for first_character, second_character in zip(first, second, strict=False):
        if first_character != second_character:
            break
        length += 1
    return first[:length]
