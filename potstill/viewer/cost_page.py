"""The page Money and time: what was used over time, by whom, how long calls took, what failed, what is under way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from potstill.budget.amounts import (
    Amount,
    Limit,
    Spent,
    format_amount,
    limit_names,
    to_picodollars,
)
from potstill.evaluation.table import format_usd
from potstill.models.phase import split_account
from potstill.store.store import Store
from potstill.viewer.index.calls import MINUTE, read_place, served_name

MAX_BUCKETS = 500  # of a chart
_SUMS = ("calls", "prompt_tokens", "completion_tokens", "cost", "seconds")


def describe_costs(store: Store, limits: Mapping[str, Limit] | None = None) -> dict[str, Any]:
    """Sums over time and in all, from the index by minutes.

    Args:
        store: with the index attached.
        limits: of the run, by name.
    """
    read = store.database.read
    [(first, last)] = read("SELECT min(minute), max(minute) FROM view.minutes")
    # Buckets of 1, 2, 4, … minutes, so that a run of days is no longer a chart than one of hours.
    bucket = 1
    while first is not None and (last - first) // bucket >= MAX_BUCKETS:
        bucket *= 2
    times: list[int] = []
    if first is not None:
        times = [minute * MINUTE for minute in range(first, last + 1, bucket)]
    paid = _describe_paid(store)
    spent = read_spent(store)
    return {
        "bucket": bucket * MINUTE,
        "times": times,
        "series": _read_series(store, first or 0, bucket, len(times)),
        "paid": paid,
        "failed": _describe_failed(store),
        "spent": _describe_spent(spent),
        "total": {**_describe_total(paid), **_read_span(store)},
        "limits": describe_limits(limits or {}, spent),
        "under_way": _describe_intents(store),
    }


def _read_series(store: Store, first: int, bucket: int, count: int) -> list[dict[str, Any]]:
    """A series for each arm, role and model: a number a bucket."""
    sums = ", ".join(f"sum({name})" for name in _SUMS)
    sql = f"""SELECT arm, role, model, (minute - ?) / ?, {sums} FROM view.minutes
        GROUP BY 1, 2, 3, 4 ORDER BY min(minute), 1, 2, 3"""
    series: dict[tuple[str, str, str], dict[str, list[float]]] = {}
    for arm, account, model, place, *values in store.database.read(sql, (first, bucket)):
        of_role = series.setdefault((arm, account, model), {name: [0] * count for name in _SUMS})
        for name, value in zip(_SUMS, values, strict=True):
            of_role[name][place] = value
    described = []
    for (arm, account, model), columns in series.items():
        role, phase = split_account(account)
        described.append({"arm": arm, "role": role, "phase": phase, "model": model, **columns})
    return described


def _describe_paid(store: Store) -> list[dict[str, Any]]:
    """What `potstill cache stats` calls paid, with cached and reasoning tokens and how long calls took."""
    fields = (
        *("completions", "errors", "prompt_tokens", "completion_tokens", "cost", "seconds"),
        *("cached_tokens", "reasoning_tokens"),
    )
    sql = """SELECT arm, role, model, sum(calls), sum(errors), sum(prompt_tokens), sum(completion_tokens), sum(cost),
            sum(seconds), sum(cached_tokens), sum(reasoning_tokens)
        FROM view.minutes GROUP BY arm, role, model ORDER BY 1, 2, 3"""
    # A model that two roles ask is looked up once.
    latencies: dict[str, tuple[float, float]] = {}
    paid = []
    for arm, role, model, *values in store.database.read(sql):
        if model not in latencies:
            latencies[model] = _read_latency(store, model)
        p50, p95 = latencies[model]
        row = {
            "arm": arm,
            "role": role,
            "model": model,
            "name": served_name(store.database, model),
        }
        paid.append({**row, **dict(zip(fields, values, strict=True)), "p50": p50, "p95": p95})
    return paid


def _read_latency(store: Store, model: str) -> tuple[float, float]:
    """Median and 95th percentile of the seconds that a call of a model took."""
    [(count,)] = store.database.read("SELECT count(*) FROM view.calls WHERE model = ?", (model,))
    # By the index over (model, seconds): the place of a percentile is counted off, nothing is sorted.
    percentiles = []
    for share in (0.5, 0.95):
        sql = "SELECT seconds FROM view.calls WHERE model = ? ORDER BY seconds LIMIT 1 OFFSET ?"
        rows: Sequence[Any] = store.database.read(sql, (model, int(share * max(0, count - 1))))
        percentiles.append(rows[0][0] if rows else 0.0)
    return percentiles[0], percentiles[1]


def _describe_failed(store: Store) -> list[dict[str, Any]]:
    """Attempts that became no completion, by the kind of failure."""
    sql = """SELECT role, model, substr(error, 1, instr(error || ':', ':') - 1), count(*), sum(billed),
            sum(prompt_tokens + completion_tokens), coalesce(sum(cost), 0.0)
        FROM attempts GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"""
    names = ("role", "model", "failure", "attempts", "billed", "tokens", "cost")
    return [dict(zip(names, row, strict=True)) for row in store.database.read(sql)]


def read_spent(store: Store) -> dict[str, Spent]:
    """By account what this run has paid: completions, billed attempts, and open calls at their worst."""
    # The same sums as `Attempts.spent_by_role`: calls by minute, and one by one those that the index has not read yet.
    sql = """SELECT role, sum(tokens), sum(cost) FROM (
            SELECT role, paid_tokens AS tokens, paid_cost AS cost FROM view.minutes
            UNION ALL SELECT role, (prompt_tokens + completion_tokens) * paid, coalesce(cost, 0) * paid
                FROM completions WHERE rowid > ?
            UNION ALL SELECT role, prompt_tokens + completion_tokens, coalesce(cost, 0) FROM attempts WHERE billed
            UNION ALL SELECT role, tokens, cost FROM intents)
        GROUP BY role ORDER BY role"""
    spent = store.database.read(sql, (read_place(store.database),))
    return {role: Spent(tokens, cost) for role, tokens, cost in spent}


def _describe_spent(spent: Mapping[str, Spent]) -> dict[str, dict[str, Any]]:
    described = {}
    for role, amount in spent.items():
        usd = format_usd(amount.cost)
        described[role] = {"tokens": amount.tokens, "usd": amount.cost, "shown": usd}
    return described


def describe_limits(
    limits: Mapping[str, Limit], spent: Mapping[str, Spent]
) -> list[dict[str, Any]]:
    """Each limit with what counts against it.

    Args:
        limits: by name, "" is that of the whole run.
        spent: by account.
    """
    described = []
    for name, limit in limits.items():
        used = Spent()
        for account, paid in spent.items():
            if name in limit_names(account):
                used = Spent(used.tokens + paid.tokens, used.cost + paid.cost)
        # The nearer end counts, of tokens and of money.
        shares = []
        if limit.tokens:
            shares.append(used.tokens / limit.tokens)
        if limit.money:
            shares.append(used.cost / limit.money)
        amount = Amount(used.tokens, to_picodollars(used.cost))
        described.append(
            {
                "limit": name,
                "tokens": limit.tokens,
                "usd": limit.money,
                "spent": {"tokens": used.tokens, "usd": used.cost},
                "share": max(shares, default=0.0),
                "shown": format_amount(amount, limit),
            }
        )
    return described


def _describe_total(paid: Sequence[dict[str, Any]]) -> dict[str, Any]:
    tokens = sum(row["prompt_tokens"] + row["completion_tokens"] for row in paid)
    usd = sum(row["cost"] for row in paid)
    calls = sum(row["completions"] for row in paid)
    seconds = sum(row["seconds"] for row in paid)
    shown = format_usd(usd)
    return {"calls": calls, "tokens": tokens, "usd": usd, "shown": shown, "seconds": seconds}


def _read_span(store: Store) -> dict[str, float | None]:
    """When the first and the newest completion were written down, in seconds since 1970."""
    times: dict[str, float | None] = {"first": None, "last": None}
    for name, order in (("first", "ASC"), ("last", "DESC")):
        sql = f"SELECT created FROM completions ORDER BY rowid {order} LIMIT 1"
        for (created,) in store.database.read(sql):
            times[name] = created
    return times


def _describe_intents(store: Store) -> list[dict[str, Any]]:
    """Calls that were sent to servers and have not come back."""
    sql = """SELECT role, arm, model, count(*), sum(tokens), sum(cost), min(created) FROM intents
        GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"""
    names = ("role", "arm", "model", "calls", "tokens", "cost", "since")
    return [dict(zip(names, row, strict=True)) for row in store.database.read(sql)]
