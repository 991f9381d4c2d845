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
    """Annotate each trace with scores[name]: a number, or None where the scorer could not tell; errored ones pass.

    Args:
        scorer: takes the healthy traces in one call and returns a value for each, such as `length` or `nll(model)`.
    """
    healthy = [t for t in traces if not t.error]
    values = list(scorer(healthy)) if healthy else []
    if len(values) != len(healthy):
        raise ConfigError(
            f"the scorer {name!r} returned {len(values)} values",
            expected=f"{len(healthy)}, one a trace",
        )
    left = iter(_number(name, t, value) for t, value in zip(healthy, values, strict=True))
    result = [t if t.error else t.annotate(scores={**t.scores, name: next(left)}) for t in traces]
    session.made([t for t in result if not t.error])
    session.step("score", name, len(traces), len(result))
    return result


def _number(name: str, trace: Trace, value: Score) -> Score:
    if value is None or isinstance(value, str):
        return value
    if not math.isfinite(value):
        raise ModelError(
            f"the scorer {name!r} gave {value} for trace {trace.id}",
            expected="a finite number or None",
        )
    return float(value)
