"""What is not done yet is tried again, a limited number of times: the combinators `until` and `retry`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

from potstill.errors import ConfigError
from potstill.records import Trace
from potstill.traces import session
from potstill.traces.keys import Key, function_name, problem
from potstill.traces.selection import split_by
from potstill.traces.session import Share

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
        # A failed generation is a record: it stays among the results, and is not asked for again.
        errored += [trace for trace in again if trace.error]
        remaining = [trace for trace in again if not trace.error]
    reason = f"not done after {rounds} rounds"
    session.record_drops("until", function_name(fn), [(trace, reason) for trace in remaining])
    result += errored
    session.record_step("until", function_name(fn), len(traces), len(result))
    return result


class Retried(NamedTuple):
    """What came of `retry`.

    Args:
        passing: all that passed, try after try.
        first_share: how many passed at the first try, of as many as were tried; its label is empty.
    """

    passing: list[Trace]
    first_share: Share


def retry(
    attempt: Callable[[list[Trace], int], list[Trace]],
    traces: Sequence[Trace],
    tries: int,
    *,
    by: Key = problem,
) -> Retried:
    """Try each trace again until something of its group passes, at most `tries` times.

    Args:
        attempt: takes the traces and the number of the try, from 0, and returns what passed. It hands the number on as
            `sample_index=`, so that an equal request asks anew, and drops with `keep` what does not pass. Where it
            makes several of a trace, `first_share` is no share of the traces.
        traces: what the first try is made on; later tries are made on those of which nothing has passed.
        tries: how often `attempt` is called at most; it is not called on nothing.
        by: the key that a trace has in common with what passes of it.

    Raises:
        ConfigError: no try.
    """
    if tries < 1:
        raise ConfigError(f"retry got tries={tries}", expected="at least 1")
    remaining = list(traces)
    passing: list[Trace] = []
    first_share = Share("", 0, len(remaining))
    for number in range(tries):
        if not remaining:
            break
        passing += attempt(remaining, number)
        # What the first try came to says how well a model follows a prompt; later tries hide it.
        if number == 0:
            first_share = first_share._replace(part=len(passing))
        _, remaining = split_by(passing, remaining, by=by)
    return Retried(passing, first_share)
