"""The operators that choose, pair, weigh and mix; what they leave out goes to the ledger with the reason."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Container, Hashable, Sequence
from typing import Any

from potstill.difficulty import DIFFICULTY_POOLS, Pools, pool_of, weight_of
from potstill.errors import ConfigError, StageError
from potstill.records import Span, Trace
from potstill.traces import session
from potstill.traces.keys import (
    Key,
    checked,
    function_name,
    group_traces,
    problem,
    right,
    sound,
    unparsed,
    wrong,
)

Test = Callable[[Trace], bool | tuple[bool, str]]


def keep(test: Test, traces: Sequence[Trace]) -> list[Trace]:
    """Return the traces that pass a test; those that fail it go to the ledger with the reason.

    Args:
        test: a predicate; it returns a truth value, or (False, reason). Its name is what the ledger shows. The reason
            of a failed generation is always its error.
        traces: what is tested, errored traces included.
    """
    passing: list[Trace] = []
    drops: list[tuple[Trace, str]] = []
    for trace in traces:
        passed, reason = _apply(test, trace)
        if passed:
            passing.append(trace)
        elif trace.error:
            drops.append((trace, f"error: {trace.error}"))  # whatever the test says of its text
        else:
            drops.append((trace, reason or _failure_reason(test, trace)))
    session.record_drops("keep", function_name(test), drops)
    session.record_step("keep", function_name(test), len(traces), len(passing))
    return passing


def passes(test: Test, trace: Trace) -> bool:
    """Whether a trace passes a test that may give a reason."""
    return _apply(test, trace)[0]


def _apply(test: Test, trace: Trace) -> tuple[bool, str]:
    """What a test says of a trace, and its reason, "" where it gives none."""
    answer = test(trace)
    if isinstance(answer, tuple):
        return answer
    return answer, ""


def _failure_reason(test: Test, trace: Trace) -> str:
    """Why a healthy trace fails a test that gave no reason of its own."""
    if test in (sound, checked) and right(trace):
        if trace.scores.get("steps") == 0:
            return "right answer, but a step is wrong"
        return "right answer, no steps judged"
    if test in (right, wrong, unparsed, sound, checked):
        verdict = trace.verdict
        if verdict.reason:
            return f"{verdict.status}: {verdict.reason}"
        return verdict.status
    return f"not {function_name(test)}"


def among(others: Sequence[Trace], traces: Sequence[Trace], *, by: Key = problem) -> list[Trace]:
    """Return the traces whose key one of the others has too (a semi-join); the rest goes to the ledger.

    Args:
        others: only their keys count; failed generations among them don't.
        traces: what is chosen from; errored traces pass unchanged.
        by: the key that both have.
    """
    keys = {by(trace) for trace in others if not trace.error}
    result: list[Trace] = []
    drops: list[tuple[Trace, str]] = []
    for trace in traces:
        if trace.error or by(trace) in keys:
            result.append(trace)
        else:
            drops.append((trace, f"its {function_name(by)} is not among the others'"))
    session.record_drops("among", function_name(by), drops)
    session.record_step("among", function_name(by), len(traces), len(result))
    return result


def split_by(
    others: Sequence[Trace], traces: Sequence[Trace], *, by: Key = problem
) -> tuple[list[Trace], list[Trace]]:
    """Return the traces whose key one of the others has too, and the remaining ones; nothing is dropped.

    `with_errors, without_errors = split_by(attempts, problems)`. `among` is for those that are not used any more.

    Args:
        others: only their keys count; failed generations among them don't.
        traces: what is divided, in its order.
        by: the key that both have.
    """
    keys = {by(trace) for trace in others if not trace.error}
    matching = [trace for trace in traces if by(trace) in keys]
    remaining = [trace for trace in traces if by(trace) not in keys]
    return matching, remaining


def best(
    key: Callable[[Trace], Any], traces: Sequence[Trace], *, by: Key | None = None, k: int = 1
) -> list[Trace]:
    """Return the `k` traces of each group with the highest key, best first, groups in order; ties by id.

    A trace without a key (None) ranks below all that have one, an errored trace below those; so a group always yields
    min(k, its size) traces.

    Args:
        key: what is compared.
        traces: what is chosen from.
        by: the key of a group; one group for all without it.
        k: how many of each group.
    """
    if k < 0:
        raise ConfigError(f"best got k={k}", expected="how many of each group, 0 or more")
    result: list[Trace] = []
    drops: list[tuple[Trace, str]] = []
    for group in group_traces(traces, by).values():
        ranked = _rank(key, group)
        result += ranked[:k]
        for trace in ranked[k:]:
            reason = f"not among the best {k}"
            if trace.error:
                reason = f"error: {trace.error}"
            drops.append((trace, reason))
    session.record_drops("best", function_name(key), drops)
    session.record_step("best", function_name(key), len(traces), len(result))
    return result


def _rank(key: Callable[[Trace], Any], group: Sequence[Trace]) -> list[Trace]:
    # Sorted by id first, so that equal keys come in an order that depends on nothing else.
    with_key: list[tuple[Any, Trace]] = []
    without_key: list[Trace] = []
    errored: list[Trace] = []
    for trace in sorted(group, key=lambda trace: trace.id):
        if trace.error:
            errored.append(trace)
            continue
        value = key(trace)
        if isinstance(value, float) and math.isnan(value):
            raise ConfigError(
                f"{function_name(key)} of trace {trace.id} is nan",
                expected="something that can be ordered, or None",
            )
        if value is None:
            without_key.append(trace)
        else:
            with_key.append((value, trace))
    with_key.sort(key=lambda pair: pair[0], reverse=True)
    return [trace for _, trace in with_key] + without_key + errored


def pair(
    good: Sequence[Trace],
    bad: Sequence[Trace],
    *,
    by: Key = problem,
    k: int = 1,
    where: Callable[[Trace, Trace], bool] | None = None,
) -> list[Trace]:
    """Return the good traces with a bad one of their group as `rejected`: each with the first that no other took.

    Both sides must have the same learner's prompt. The given text that they share is masked on both; what they merely
    begin with alike is not.

    Args:
        good: the chosen side; errored traces pass unchanged.
        bad: the rejected side; errored traces are no rivals.
        by: the key of a group.
        k: pairs a group at most.
        where: a function of a good and a bad trace: whether they may be a pair. Without one all of a group may.

    Raises:
        StageError: the two sides of a pair have different prompts.
    """
    rivals = group_traces((trace for trace in bad if not trace.error), by)
    # Which rivals of each group are taken, by their places in it.
    taken_places: dict[Hashable, set[int]] = {}
    result: list[Trace] = []
    drops: list[tuple[Trace, str]] = []
    for trace in good:
        if trace.error:
            result.append(trace)
            continue
        group = rivals.get(by(trace), [])
        taken = taken_places.setdefault(by(trace), set())
        if not group:
            drops.append((trace, "no rival in its group"))
        elif len(taken) >= min(k, len(group)):
            drops.append((trace, f"its group has {len(taken)} pairs already"))
        else:
            place = _first_rival(trace, group, taken, where)
            if place is None:
                name = function_name(where) if where is not None else ""
                drops.append((trace, f"no free rival in its group for which {name}"))
                continue
            taken.add(place)
            result.append(with_rival(trace, group[place]))
    session.record_drops("pair", function_name(by), drops)
    session.record_step("pair", function_name(by), len(good), len(result))
    return result


def _first_rival(
    good: Trace,
    group: Sequence[Trace],
    taken: Container[int],
    where: Callable[[Trace, Trace], bool] | None,
) -> int | None:
    """The place of the first rival that is free and fits; None where there is none."""
    for place, rival in enumerate(group):
        if place not in taken and (where is None or where(good, rival)):
            return place
    return None


def with_rival(good: Trace, bad: Trace) -> Trace:
    """A good trace with a bad one as its rejected side; the given text that both begin with is masked.

    Raises:
        StageError: they have different prompts.
    """
    if good.prompt != bad.prompt:
        raise StageError(
            f"pair met different prompts: {good.id} and {bad.id} of problem {good.problem.id!r}",
            expected="one learner's prompt on both sides",
            fix="pose both from the same prompt, or group with by=line",
        )
    shared = 0  # characters of given text that both sides begin with
    for good_character, bad_character in zip(
        good.text[: good.prefix_length], bad.text[: bad.prefix_length]
    ):
        if good_character != bad_character:
            break
        shared += 1
    # Both sides have it word for word, so there is nothing to prefer in it.
    mask = (Span(0, shared, "masked", 0.0),) if shared else ()
    return good.annotate(spans=good.spans + mask, rejected=bad.annotate(spans=bad.spans + mask))


def weigh(fn: Callable[[Trace], float], traces: Sequence[Trace]) -> list[Trace]:
    """Set the row weight of each trace; an errored trace passes unchanged.

    Args:
        fn: from a trace to its weight.
        traces: what is weighed.

    Raises:
        ConfigError: a weight is not finite.
    """
    result: list[Trace] = []
    for trace in traces:
        if trace.error:
            result.append(trace)
            continue
        weight = fn(trace)
        if weight is None or not math.isfinite(weight):
            raise ConfigError(
                f"{function_name(fn)} weighs trace {trace.id} {weight}", expected="a finite number"
            )
        result.append(trace.annotate(weight=float(weight)))
    session.record_step("weigh", function_name(fn), len(traces), len(result))
    return result


def by_pass_rate(
    attempts: Sequence[Trace],
    traces: Sequence[Trace],
    *,
    pools: Pools = DIFFICULTY_POOLS,
    by: Key = problem,
) -> list[Trace]:
    """Weigh traces by how often their problem was solved: a pool a pass rate; those of a pool of weight 0 are dropped.

    Args:
        attempts: judged ones, all of each problem: right and wrong. Failed generations don't count.
        traces: what is weighed: problems, or rows. One whose problem nobody attempted stays as it is.
        pools: by name the highest pass rate, and the weight that the trace's own is multiplied by.
        by: the key that attempts and traces share.

    Returns:
        The traces with the scores "pass_rate" and "difficulty_pool", without those that were dropped.
    """
    rates: dict[Hashable, float] = {}
    for key, attempts_of_key in group_traces(attempts, by).items():
        judged = [attempt for attempt in attempts_of_key if not attempt.error]
        if judged:
            right_count = sum(attempt.verdict.status == "right" for attempt in judged)
            rates[key] = right_count / len(judged)
    pooled: list[Trace] = []
    for trace in traces:
        rate = rates.get(by(trace))
        if rate is None or trace.error:
            pooled.append(trace)
            continue
        scores = {**trace.scores, "pass_rate": rate, "difficulty_pool": pool_of(rate, pools)}
        weight = trace.weight * weight_of(rate, pools)
        pooled.append(trace.annotate(scores=scores, weight=weight))

    def has_weight(trace: Trace) -> tuple[bool, str]:
        pool = trace.scores.get("difficulty_pool")
        is_dropped = isinstance(pool, str) and pools[pool][1] == 0
        return not is_dropped, f"its problem is in the pool {pool}, which is dropped"

    return keep(has_weight, pooled)


def mix(*lists: Sequence[Trace], seed: int = 0) -> list[Trace]:
    """Shuffle the traces of all lists; the order depends on their ids and the seed only, not on how they came.

    Args:
        lists: lists of traces.
        seed: another seed gives another order.
    """
    result: list[Trace] = []
    for traces in lists:
        result += traces
    # A hash of seed and id is a shuffle that another order or number of rows does not change.
    result.sort(key=lambda trace: hashlib.sha256(f"{seed}:{trace.id}".encode()).digest())
    session.record_step("mix", str(seed), len(result), len(result))
    return result


def dedupe(key: Key, traces: Sequence[Trace]) -> list[Trace]:
    """Return the first trace of each key; errored traces pass.

    Args:
        key: what must differ between two traces.
        traces: what is looked through, in order.
    """
    # The ledger names the trace that each dropped one repeats.
    first_of_key: dict[Hashable, Trace] = {}
    result: list[Trace] = []
    drops: list[tuple[Trace, str]] = []
    for trace in traces:
        if trace.error:
            result.append(trace)
            continue
        value = key(trace)
        if value in first_of_key:
            drops.append((trace, f"same {function_name(key)}: {first_of_key[value].id}"))
        else:
            first_of_key[value] = trace
            result.append(trace)
    session.record_drops("dedupe", function_name(key), drops)
    session.record_step("dedupe", function_name(key), len(traces), len(result))
    return result
