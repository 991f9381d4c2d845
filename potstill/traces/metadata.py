"""The metadata of a trace's problem as a predicate to keep by, and as a key to group by."""

from __future__ import annotations

from potstill.metadata import known_metadata, parse_condition
from potstill.records import MetadataValue, Trace
from potstill.traces.keys import Key
from potstill.traces.selection import Test


def where(condition: str) -> Test:
    """Return a predicate for `keep`: the problem's metadata meet a condition, such as `where("level>=4")`.

    A problem that lacks the metadata does not pass, and the ledger says so.

    Args:
        condition: NAME, one of = != < <= > >=, and a value (`potstill.metadata.Condition`).

    Raises:
        ConfigError: the text is no condition. When it is asked, InputError: a value has no order with the condition's.
    """
    parsed = parse_condition(condition)

    def holds(trace: Trace) -> tuple[bool, str]:
        value = known_metadata(trace.problem).get(parsed.name)
        if value is None:
            return False, f"no {parsed.name}"
        return parsed.holds(trace.problem), f"its {parsed.name} does not meet {condition}: {value}"

    holds.__name__ = f"where({condition})"
    return holds


def by_metadata(name: str) -> Key:
    """Return a key: the problem's metadata of this name, None where it has none.

    Args:
        name: such as "topic"; "length" is the words of the question.
    """

    def key(trace: Trace) -> MetadataValue | None:
        return known_metadata(trace.problem).get(name)

    key.__name__ = name
    return key
