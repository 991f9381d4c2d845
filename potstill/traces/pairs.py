"""The operator `pair_all`: pairs that are traces of their own, so that one text may stand in several of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any, TypeAlias

from potstill.records import Trace
from potstill.traces import requests, session
from potstill.traces.generation import moved_fields
from potstill.traces.keys import Key, function_name, group_traces, problem
from potstill.traces.prompts import RenderedPrompt
from potstill.traces.selection import with_rival

Rank: TypeAlias = Callable[[Trace, Trace], Any]


def pair_all(
    good: Sequence[Trace],
    bad: Sequence[Trace],
    *,
    by: Key = problem,
    k: int | None = None,
    rank: Rank | None = None,
    where: Callable[[Trace, Trace], bool] | None = None,
) -> list[Trace]:
    """Pair every good trace with every bad one of its group, or the first `k` of these combinations.

    A pair is a new trace with the text of its good side, whose parents are both sides: the good side may be a row by
    itself, and be in other pairs. Where each text is in one pair only, use `pair`.

    Args:
        good: the chosen side; errored traces pass unchanged.
        bad: the rejected side; errored traces are no rivals.
        by: the key of a group.
        k: pairs a group at most; all without it.
        rank: from a good and a bad trace to a number or text: the lowest come first. Without it the order is that of
            the good traces, then that of the bad ones.
        where: a function of a good and a bad trace: whether they may be a pair. Without one all of a group may.

    Returns:
        The pairs, group after group. A good trace that is in none goes to the ledger.

    Raises:
        StageError: the two sides of a pair have different prompts.
    """
    rivals_of = group_traces((trace for trace in bad if not trace.error), by)
    result = [trace for trace in good if trace.error]
    drops: list[tuple[Trace, str]] = []
    pairs: list[Trace] = []
    for key, group in group_traces((trace for trace in good if not trace.error), by).items():
        rivals = rivals_of.get(key, [])
        combinations = list(product(group, rivals))
        if where is not None:
            combinations = [sides for sides in combinations if where(*sides)]
        if rank is not None:
            combinations.sort(key=lambda sides: rank(*sides))
        chosen = combinations[:k]
        pairs += [_pair_of(*sides) for sides in chosen]
        # Whoever is in no pair is said, with the reason.
        used_ids = {trace.id for trace, _ in chosen}
        ids_with_rival = {trace.id for trace, _ in combinations}
        for trace in group:
            if trace.id not in ids_with_rival:
                drops.append((trace, "no rival in its group"))
            elif trace.id not in used_ids:
                drops.append((trace, f"not among the first {k} pairs of its group"))
    session.record_traces(pairs)
    session.record_drops("pair_all", function_name(by), drops)
    session.record_step("pair_all", function_name(by), len(good), len(result) + len(pairs))
    return [*result, *pairs]


def _pair_of(good: Trace, bad: Trace) -> Trace:
    """A trace with the text of the good side, made of both."""
    rendered = RenderedPrompt(good.prompt, sources=(bad,))
    copy = requests.derive_trace(good, "pair", rendered, prompt=good.prompt, **moved_fields(good))
    return with_rival(copy, bad)
