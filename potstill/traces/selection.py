"""The operators that choose, pair, weigh and mix; what they leave out goes to the ledger with the reason."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Hashable, Sequence
from itertools import takewhile
from typing import Any

from potstill.errors import ConfigError, StageError
from potstill.records import Span, Trace
from potstill.traces import session
from potstill.traces.keys import Key, grouped, name_of, problem, right, sound, unparsed, wrong

Test = Callable[[Trace], bool | tuple[bool, str]]


def keep(test: Test, traces: Sequence[Trace]) -> list[Trace]:
    """The traces that pass a named predicate; it returns a truth value, or (False, reason)."""
    kept: list[Trace] = []
    losses: list[tuple[Trace, str]] = []
    for trace in traces:
        answer = test(trace)
        passed, reason = answer if isinstance(answer, tuple) else (answer, "")
        if passed:
            kept.append(trace)
        else:
            losses.append((trace, reason or _why(test, trace)))
    session.dropped("keep", name_of(test), losses)
    session.step("keep", name_of(test), len(traces), len(kept))
    return kept


def _why(test: Test, trace: Trace) -> str:
    if trace.error:
        return f"error: {trace.error}"
    if test is sound and right(trace):
        return (
            "right answer, but a step is wrong"
            if trace.scores.get("steps") == 0
            else "right answer, no steps judged"
        )
    if test in (right, wrong, unparsed, sound):
        verdict = trace.verdict
        return f"{verdict.status}: {verdict.reason}" if verdict.reason else verdict.status
    return f"not {name_of(test)}"


def best(
    key: Callable[[Trace], Any], traces: Sequence[Trace], *, by: Key | None = None, k: int = 1
) -> list[Trace]:
    """The `k` traces of each group with the highest key, best first, groups in order; ties by id.

    A trace without a key (None) ranks below all that have one, an errored trace below those; so a group always yields
    min(k, its size) traces.
    """
    result, losses = [], []
    for group in grouped(traces, by).values():
        ranked = _ranked(key, group)
        result += ranked[:k]
        losses += [
            (t, f"error: {t.error}" if t.error else f"not among the best {k}") for t in ranked[k:]
        ]
    session.dropped("best", name_of(key), losses)
    session.step("best", name_of(key), len(traces), len(result))
    return result


def _ranked(key: Callable[[Trace], Any], group: Sequence[Trace]) -> list[Trace]:
    by_id = sorted(group, key=lambda t: t.id)
    keyed: list[tuple[Any, Trace]] = [(None if t.error else key(t), t) for t in by_id]
    scored = sorted(
        (pair for pair in keyed if pair[0] is not None), key=lambda pair: pair[0], reverse=True
    )
    return [t for _, t in scored] + sorted(
        (t for value, t in keyed if value is None), key=lambda t: bool(t.error)
    )


def pair(
    good: Sequence[Trace], bad: Sequence[Trace], *, by: Key = problem, k: int = 1
) -> list[Trace]:
    """The good traces with a bad one of their group as `rival`: the i-th with the i-th, at most `k` pairs a group.

    Both sides must have the same learner's prompt. The given text that they share is masked on both; what they merely
    begin with alike is not. Errored good traces pass unchanged, errored bad ones are no rivals.
    """
    rivals = grouped((t for t in bad if not t.error), by)
    used: dict[Hashable, int] = {}
    result: list[Trace] = []
    losses: list[tuple[Trace, str]] = []
    for trace in good:
        group, at = rivals.get(by(trace), []), used.get(by(trace), 0)
        if trace.error:
            result.append(trace)
        elif at >= min(k, len(group)):
            losses.append(
                (
                    trace,
                    "no rival in its group" if not group else f"its group has {at} pairs already",
                )
            )
        else:
            used[by(trace)] = at + 1
            result.append(_paired(trace, group[at]))
    session.dropped("pair", name_of(by), losses)
    session.step("pair", name_of(by), len(good), len(result))
    return result


def _paired(good: Trace, bad: Trace) -> Trace:
    if good.prompt != bad.prompt:
        raise StageError(
            f"pair met different prompts: {good.id} and {bad.id} of problem {good.problem.id!r}",
            expected="one learner's prompt on both sides",
            fix="pose both from the same prompt, or group with by=line",
        )
    given = zip(good.text[: good.given], bad.text[: bad.given])
    shared = sum(1 for _ in takewhile(lambda ab: ab[0] == ab[1], given))
    mask = (Span(0, shared, "given", 0.0),) if shared else ()
    return good.annotate(spans=good.spans + mask, rival=bad.annotate(spans=bad.spans + mask))


def weigh(fn: Callable[[Trace], float], traces: Sequence[Trace]) -> list[Trace]:
    """Set each trace's row weight."""
    result = [t if t.error else t.annotate(weight=_weight(fn, t)) for t in traces]
    session.step("weigh", name_of(fn), len(traces), len(result))
    return result


def _weight(fn: Callable[[Trace], float], trace: Trace) -> float:
    weight = float(fn(trace))
    if not math.isfinite(weight):
        raise ConfigError(
            f"{name_of(fn)} weighs trace {trace.id} {weight}", expected="a finite number"
        )
    return weight


def mix(*lists: Sequence[Trace], seed: int = 0) -> list[Trace]:
    """All traces in one order that depends on their ids and the seed only, not on how they came."""
    result = [t for traces in lists for t in traces]
    result.sort(key=lambda t: hashlib.sha256(f"{seed}:{t.id}".encode()).digest())
    session.step("mix", str(seed), len(result), len(result))
    return result


def dedupe(key: Key, traces: Sequence[Trace]) -> list[Trace]:
    """The first trace of each key; errored ones pass."""
    first: dict[Hashable, Trace] = {}
    kept, losses = [], []
    for trace in traces:
        if not trace.error and (seen := first.get(key(trace))):
            losses.append((trace, f"same {name_of(key)}: {seen.id}"))
            continue
        kept.append(trace)
        if not trace.error:
            first[key(trace)] = trace
    session.dropped("dedupe", name_of(key), losses)
    session.step("dedupe", name_of(key), len(traces), len(kept))
    return kept
