"""Programs that compute an answer: `verify_programs` judges what they come to, `run_programs` writes it down.

A problem of the kind `code` has tests of its own, and `verify` runs them. These are for the other kinds, where a
program is a way to compute the answer.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from potstill.records import Span, Trace, Verdict, digest
from potstill.traces import session
from potstill.traces.editing import edit
from potstill.traces.verification import run_verifiers
from potstill.verifiers.code import output
from potstill.verifiers.code.output import Output

PRINTS = "\n\nThe program prints \\boxed{{{value}}}."
# The box keeps a verifier from reading a number in the program as the answer.
FAILS = "\n\nThe program failed: {failure}\nIt prints \\boxed{{nothing}}."
_NO_VALUE = "It prints \\boxed{nothing}."


def run_programs(traces: Sequence[Trace]) -> list[Trace]:
    """Put behind each program what it prints, or why it failed, as a tool's turn: shown, and not learnt.

    Args:
        traces: texts with a program, whose `solution()` is called where it defines one.

    Returns:
        The texts with the output behind them, in a form that verifiers read; an errored trace passes unchanged.

    Raises:
        ConfigError: no sandbox works here.
    """
    outputs = _outputs_by_text(traces)

    def show_output(trace: Any) -> dict[str, Any]:
        text = trace.text + write_output(outputs[trace.text])
        span = Span(len(trace.text), len(text), "tool")
        return {"text": text, "spans": (span,)}

    return edit(show_output, traces)


def verify_programs(traces: Sequence[Trace]) -> list[Trace]:
    """Annotate each program with the verdict on what it prints, by the verifier of its problem's kind.

    A program that fails is wrong, with the interpreter's message as the reason; a text without one is unparsed.

    Args:
        traces: texts with a program.

    Returns:
        The traces with their verdicts; an errored trace passes unchanged.

    Raises:
        ConfigError: no sandbox works here.
    """
    outputs = _outputs_by_text(traces)
    # The verifier reads a copy of the text that ends in the value.
    printing: list[Trace] = []
    for trace in traces:
        if not trace.error and outputs[trace.text].value:
            text = trace.text + write_output(outputs[trace.text])
            printing.append(dataclasses.replace(trace, text=text))
    verdicts = iter(run_verifiers(printing))

    annotated: list[Trace] = []
    for trace in traces:
        if not trace.error:
            ran = outputs[trace.text]
            verdict = next(verdicts).verdict if ran.value else _verdict_of_failure(ran)
            trace = trace.annotate(verdict=verdict)
        annotated.append(trace)
    session.record_traces([trace for trace in annotated if not trace.error])
    session.record_step("verify_programs", output.VERSION, len(traces), len(annotated))
    return annotated


def has_failed(trace: Trace) -> bool:
    """Whether the program of a text that `run_programs` returned came to nothing."""
    return trace.text.endswith(_NO_VALUE)


def write_output(ran: Output) -> str:
    """What stands behind a program that came to this."""
    if ran.value:
        return PRINTS.format(value=ran.value)
    return FAILS.format(failure=ran.failure)


def _verdict_of_failure(ran: Output) -> Verdict:
    if ran.failure == output.NO_PROGRAM:
        return Verdict("unparsed", None, ran.failure, output.VERSION)
    return Verdict("wrong", None, ran.failure, output.VERSION)


def _outputs_by_text(traces: Sequence[Trace]) -> dict[str, Output]:
    """What the program of each text comes to; a text that ran before, in this run or an earlier one, runs no more."""
    texts = list(dict.fromkeys(trace.text for trace in traces if not trace.error))
    keys = [digest("program", [output.VERSION, text]) for text in texts]

    def compute(missing: list[int]) -> list[list[str]]:
        return [list(ran) for ran in output.run_all([texts[index] for index in missing])]

    values = session.cached_values(keys, compute)
    return {text: Output(*value) for text, value in zip(texts, values, strict=True)}
