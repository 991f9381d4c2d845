"""A chain as steps and an answer: where the probes cut it, and what the teacher is shown of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial

from potstill.methods.selecting.elad.settings import Settings
from potstill.records import Trace
from potstill.traces import read, segment
from potstill.traces.prompts import TraceView


def cut_into_steps(chains: Sequence[Trace], settings: Settings) -> list[Trace]:
    """The chains with a unit a step; the last one may be the answer."""
    return segment(partial(step_starts, settings.step_pattern, settings.max_steps), chains)


def step_starts(pattern: str, max_steps: int, text: str) -> list[int]:
    """Where steps begin; in a long text several sentences are one step, so that there are at most `max_steps`."""
    starts = [match.start() for match in re.finditer(pattern, text)]
    if len(starts) <= max_steps:
        return starts
    # The last sentence stays by itself, for it is the one that may give the answer.
    *others, last = starts
    merged: list[int] = []
    for number in range(1, max_steps):
        merged.append(others[number * len(others) // max_steps])
    return [*merged, last]


def count_steps(chain: Trace) -> int:
    """How many of a chain's units are steps: all but a last one that gives the answer by itself."""
    units = chain.units
    if units and read(chain, units[-1]) is not None:
        return len(units) - 1
    return len(units)


def text_of_steps(chain: Trace, count: int) -> str:
    """The first steps of a chain, as they stand in it."""
    return "".join(chain.units[:count])


def text_without_step(chain: Trace, index: int, count: int) -> str:
    """The first `count` steps of a chain without the one at `index`."""
    steps = list(chain.units[:count])
    del steps[index]
    return "".join(steps).lstrip()


def blanks_before(chain: Trace, index: int) -> str:
    """The blanks with which the unit at `index` begins; those of the last unit behind the end of the chain."""
    units = chain.units
    if not units:
        return ""
    unit = units[min(index, len(units) - 1)]
    blanks = unit[: len(unit) - len(unit.lstrip())]
    return blanks or " "


def numbered_steps(chain: Trace | TraceView, count: int) -> str:
    """The first units of a chain, numbered, a line each."""
    lines: list[str] = []
    for number, unit in enumerate(chain.units[:count], 1):
        lines.append(f"{number}. {unit.strip()}")
    return "\n".join(lines)
