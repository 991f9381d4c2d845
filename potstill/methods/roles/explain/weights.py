"""Row weights: easier and more recent problems weigh more (the amount and the form are inferred)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from potstill.errors import ConfigError
from potstill.methods.roles.explain.settings import Settings
from potstill.records import MetadataValue, Trace
from potstill.traces import weigh


def weigh_rows(rows: Sequence[Trace], settings: Settings) -> list[Trace]:
    """Rows with the weights w = 1 + e (1/2 - difficulty) + r (recency - 1/2).

    Difficulty and recency are mid-ranks among the rows, from 0 to 1, so that the scale of a rating does not matter and
    the mean weight is 1. A row whose problem does not say one of them has the mean rank there.
    """
    difficulty = ranks_by_metadata(rows, settings.difficulty)
    recency = ranks_by_metadata(rows, settings.recency)

    def row_weight(trace: Trace) -> float:
        easiness = 0.5 - difficulty.get(trace.problem.id, 0.5)
        newness = recency.get(trace.problem.id, 0.5) - 0.5
        return 1 + settings.easy_weight * easiness + settings.recent_weight * newness

    return weigh(row_weight, rows)


def ranks_by_metadata(rows: Sequence[Trace], names: Sequence[str]) -> dict[str, float]:
    """The mid-rank, from 0 to 1, of each row's problem by the first of these metadata that a row has.

    Raises:
        ConfigError: some values are texts and others are numbers.
    """
    value_by_problem: dict[str, MetadataValue] = {}
    used_name = next(filter(partial(is_said, rows), names), "")
    for row in rows:
        if not row.error and used_name in row.problem.metadata:
            value_by_problem[row.problem.id] = row.problem.metadata[used_name]
    values = list(value_by_problem.values())
    if len({isinstance(value, str) for value in values}) > 1:
        raise ConfigError(
            f"explain can't order the problems by {used_name!r}: some are texts and some are numbers",
            fix=f"--map {used_name}=COLUMN names a column of one kind",
        )
    ranks: dict[str, float] = {}
    for problem_id, value in value_by_problem.items():
        below = sum(other < value for other in values)  # type: ignore[operator]
        equal = sum(other == value for other in values)
        ranks[problem_id] = (below + equal / 2) / len(values)
    return ranks


def is_said(rows: Sequence[Trace], name: str) -> bool:
    """Whether any row's problem has this metadata."""
    return any(name in row.problem.metadata for row in rows)
