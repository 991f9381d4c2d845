"""`score` annotates traces with numbers; neither a text nor an id changes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

from potstill.errors import ConfigError, ModelError
from potstill.records import Trace
from potstill.traces import session

Score: TypeAlias = float | str | None
Scorer: TypeAlias = Callable[[Sequence[Trace]], Sequence[Score]]


def score(name: str, scorer: Scorer, traces: Sequence[Trace]) -> list[Trace]:
    """Annotate each trace with `scores[name]`.

    Args:
        name: under which the score is stored in the trace.
        scorer: takes the healthy traces in one call and returns a value for each, such as `length` or `nll(model)`;
            None where it can't tell.
        traces: what is scored.

    Returns:
        The traces with their score; an errored trace passes unchanged.

    Raises:
        ConfigError: the scorer returned another number of values than it got traces.
        ModelError: a value is not finite.
    """
    # One call for all, so that a scorer may ask a model in bulk.
    healthy = [trace for trace in traces if not trace.error]
    values = list(scorer(healthy)) if healthy else []
    if len(values) != len(healthy):
        raise ConfigError(
            f"the scorer {name!r} returned {len(values)} values",
            expected=f"{len(healthy)}, one a trace",
        )
    scored: list[Trace] = []
    for trace, value in zip(healthy, values, strict=True):
        scores = {**trace.scores, name: _check_value(name, trace, value)}
        scored.append(trace.annotate(scores=scores))
    session.record_traces(scored)

    remaining = iter(scored)
    result = [trace if trace.error else next(remaining) for trace in traces]
    session.record_step("score", name, len(traces), len(result))
    return result


def _check_value(name: str, trace: Trace, value: Score) -> Score:
    if value is None or isinstance(value, str):
        return value
    if not math.isfinite(value):
        raise ModelError(
            f"the scorer {name!r} gave {value} for trace {trace.id}",
            expected="a finite number or None",
        )
    return float(value)
