"""The combinator `until`: what is not done yet is tried again, a limited number of rounds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from potstill.errors import ConfigError
from potstill.records import Trace
from potstill.traces import session
from potstill.traces.keys import function_name

Attempt: TypeAlias = Callable[[list[Trace], int], tuple[list[Trace], list[Trace]]]


def until(fn: Attempt, traces: Sequence[Trace], rounds: int) -> list[Trace]:
    """Call `fn` on the traces, then on those that it wants to try again, for at most so many rounds.

    Args:
        fn: takes the traces and the number of the round, from 0; returns what is done, and what is tried again: the
            same traces, or others that came of them. It is not called on nothing, and never sees an errored trace.
        traces: what the first round is called on.
        rounds: how often `fn` is called at most.

    Returns:
        What was done, round after round; then the traces that had failed, unchanged. What is still to be tried after
        the last round goes to the ledger.

    Raises:
        ConfigError: no round.
    """
    if rounds < 1:
        raise ConfigError(f"until got rounds={rounds}", expected="at least 1")
    errored = [trace for trace in traces if trace.error]
    remaining = [trace for trace in traces if not trace.error]
    result: list[Trace] = []
    for number in range(rounds):
        if not remaining:
            break
        returned = fn(remaining, number)
        is_pair = isinstance(returned, tuple) and len(returned) == 2
        if not is_pair or not all(isinstance(part, list | tuple) for part in returned):
            raise ConfigError(
                f"{function_name(fn)} returned {returned!r:.60}",
                expected="two lists of traces: what is done, and what to try again",
                fix="return done, again",
            )
        done, again = returned
        result += done
        errored += [trace for trace in again if trace.error]
        remaining = [trace for trace in again if not trace.error]
    reason = f"not done after {rounds} rounds"
    session.record_drops("until", function_name(fn), [(trace, reason) for trace in remaining])
    result += errored
    session.record_step("until", function_name(fn), len(traces), len(result))
    return result
