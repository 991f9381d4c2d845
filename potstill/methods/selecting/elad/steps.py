"""A chain as steps and an answer: where the probes cut it, and what the teacher is shown of it."""

from __future__ import annotations

from potstill.records import Trace
from potstill.traces import read
from potstill.traces.prompts import TraceView


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
