"""What a program comes to: the value of its `solution()`, or what it prints last. No tests, and no gold answer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from potstill.verifiers.code import execute, extract, sandbox, straight_line
from potstill.verifiers.code.execute import RunResult
from potstill.verifiers.code.sandbox import Limits
from potstill.verifiers.placement import current_place
from potstill.verifiers.workers import pool

VERSION = "output@1"
NO_PROGRAM = "no program"
_WANTED = extract.Wanted(entry=straight_line.ENTRY)
_MOST_CHARACTERS = 100  # of a value, and of a message
_PLACE_OR_GUESS = re.compile(r"\. Did you mean.*| \(<answer>.*")
_DECIMALS = 6  # of a float: 17.999999999999996 is 18


class Output(NamedTuple):
    """What a program came to.

    Args:
        value: the last line that it printed; "" where there is none.
        failure: why there is none, such as "NameError: name 'x' is not defined".
    """

    value: str
    failure: str = ""


def run_all(texts: Sequence[str], *, limits: Limits | None = None) -> list[Output]:
    """What the program of each text comes to.

    Args:
        texts: answers with a program in them, fenced or not.
        limits: of one program.

    Raises:
        ConfigError: no sandbox works here, and a program needs one.
    """
    usual_limits = limits or Limits()
    place = current_place()
    if place is not None:
        return place.run_programs(texts, usual_limits)
    workers = max(1, min(len(texts), pool.core_count()))
    with ThreadPoolExecutor(workers, thread_name_prefix="output") as threads:
        return list(threads.map(lambda text: run_text(text, usual_limits), texts))


def run_text(text: str, limits: Limits) -> Output:
    """What the program of a text comes to; arithmetic is computed here, the rest in a sandbox."""
    program = extract.extract_program(text, _WANTED)
    if program is None:
        return Output("", NO_PROGRAM)
    has_entry = extract.defines_name(program.text, straight_line.ENTRY)
    variants = program.variants
    result = None
    if has_entry:
        result = _compute_first(variants)
        variants = [[*variant, f"print({straight_line.ENTRY}())"] for variant in variants]
    if result is None:
        result = execute.run_program(sandbox.choose_sandbox(), variants, "", limits)
    if result.outcome != "pass":
        # The interpreter's guess and place are not known of what is computed here.
        message = _PLACE_OR_GUESS.sub("", result.detail or result.outcome)
        return Output("", message[:_MOST_CHARACTERS])
    lines = result.output.decode("utf-8", "replace").split("\n")
    printed = [line.strip() for line in lines if line.strip()]
    if not printed:
        return Output("", "it prints nothing")
    return Output(_round(printed[-1])[:_MOST_CHARACTERS])


def _compute_first(variants: Sequence[Sequence[str]]) -> RunResult | None:
    """What the first variant that compiles comes to, where all up to it are arithmetic; None where they are not."""
    result: RunResult | None = None
    for variant in variants:
        result = straight_line.compute("\n".join(variant))
        if result is None or result.outcome != "syntax":
            return result
    return result


def _round(value: str) -> str:
    """A float without the noise of binary fractions, a whole one as an integer; other text as it is."""
    if not any(mark in value for mark in ".eE"):
        return value
    try:
        number = round(float(value), _DECIMALS)
        return str(int(number)) if number == int(number) else str(number)
    except (ValueError, OverflowError):
        return value
