"""The pages Runs and Overview: what came out, arms, differences, funnels, all as the report has them."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from potstill import __version__
from potstill.errors import PotstillError
from potstill.evaluation import results as results_file
from potstill.evaluation.compare import Comparison, standings
from potstill.evaluation.metrics import average, majority_at, pass_at
from potstill.evaluation.results import FunnelStep, Results
from potstill.evaluation.rows import Evaluation
from potstill.evaluation.table import (
    BASE,
    find_comparison,
    format_percent,
    format_points,
    quality_notes,
    table,
)
from potstill.report.funnels import OPERATOR_GLOSSES, fold_repeats, repeated_places
from potstill.runs import manifest
from potstill.runs.budget_file import read_limits
from potstill.store.history import DropCount
from potstill.store.store import Store
from potstill.viewer.cost_page import describe_limits, read_spent
from potstill.viewer.index.calls import count_calls, has_all_calls
from potstill.viewer.query import quote_value
from potstill.viewer.reader import ArmDrops, RunReader
from potstill.viewer.run_state import read_state

MAX_SUMMED_CALLS = (
    50_000  # whose costs are summed up for a line without an index: some tens of milliseconds
)
MAX_REASONS = 200  # of an arm's drops that are listed


def describe_runs(readers: Mapping[str, RunReader], *, takes_notes: bool) -> dict[str, Any]:
    """The page of all runs."""
    # A copy: another request may find a new run meanwhile.
    runs = [describe_run(reader) for reader in list(readers.values())]
    return {"potstill": __version__, "notes": takes_notes, "runs": runs}


def describe_run(reader: RunReader) -> dict[str, Any]:
    """A run in a line; of one that can't be read, why."""
    line: dict[str, Any] = {
        "run": reader.run.name,
        "name": reader.folder.name,
        "path": reader.run.readable_path,
        "error": None,
    }
    try:
        results = reader.saved_results()
        line |= {"state": read_state(reader.folder).to_json(), "title": results.title}
        line |= _summarize(results)
        line |= _count_store(reader)
    except PotstillError as error:
        line["error"] = error.to_json()
        line["state"] = {"status": "unreadable", "text": "can't be read", "since": 0.0, "pid": None}
    return line


def _summarize(results: Results) -> dict[str, Any]:
    evaluations = list(results.evaluations.values())
    best: dict[str, Any] | None = None
    if evaluations:
        # As `standings` ranks them.
        winner = min(
            evaluations, key=lambda evaluation: (-average(evaluation).value, evaluation.name)
        )
        estimate = average(winner)
        best = {
            "arm": winner.name,
            "n": winner.n,
            "avg": estimate._asdict(),
            "shown": format_percent(estimate),
        }
    return {
        "arms": list(results.recipe.get("arms", {})) or list(results.evaluations),
        "measured": list(results.evaluations),
        "best": best,
        "problems": len(evaluations[0].rows) if evaluations else 0,
        "task": evaluations[0].fingerprint.task_id if evaluations else "",
    }


def _count_store(reader: RunReader) -> dict[str, Any]:
    """What is counted in the store: traces and calls, what was spent, the limits, and when it began and changed."""
    counts: dict[str, Any] = {
        "traces": 0,
        "calls": 0,
        "tokens": 0,
        "cost": 0.0,
        "is_counted": True,
        "limits": [],
        "began": None,
        "changed": read_state(reader.folder).since,
    }
    if not reader.has_store:
        return counts
    with reader.store() as store:
        read = store.database.read
        [(counts["traces"],)] = read("SELECT count(*) FROM made")
        counts["calls"] = count_calls(store.database)
        for (created,) in read("SELECT created FROM completions ORDER BY rowid LIMIT 1"):
            counts["began"] = created
        # A large table of completions is summed up by the index alone, which may be on its way.
        if counts["calls"] > MAX_SUMMED_CALLS and not has_all_calls(store.database):
            return {**counts, "tokens": None, "cost": None, "is_counted": False}
        spent = read_spent(store)
    made_by = reader.folder / manifest.FILE
    if made_by.exists():
        # Before the first call, or with the first one: what is copied has the time of its copy.
        times = [time for time in (counts["began"], made_by.stat().st_mtime) if time is not None]
        counts["began"] = min(times)
    # Everything that was paid, whatever it was for.
    counts["tokens"] = sum(amount.tokens for amount in spent.values())
    counts["cost"] = sum(amount.cost for amount in spent.values())
    counts["limits"] = describe_limits(read_limits(reader.folder), spent)
    return counts


def describe_overview(reader: RunReader, base: str = "") -> dict[str, Any]:
    """The overview of a run, finished or not.

    Args:
        reader: of the run.
        base: the arm that the others are compared with.
    """
    saved = reader.saved_results()
    document: dict[str, Any] = {
        "run": reader.run.name,
        "name": reader.folder.name,
        "path": reader.run.readable_path,
        "state": read_state(reader.folder).to_json(),
    }
    made_by = reader.manifest()
    document["manifest"] = made_by._asdict() if made_by is not None else None
    if not reader.has_store:
        return {**document, **_describe_results(saved, base, {}), "funnels": {}, "counts": {}}
    with reader.store() as store:
        results = saved if reader.has_results() else _update_results(saved, store)
        arms = store.history.arms()
        document |= _describe_results(results, base, arms)
        funnels: dict[str, Any] = {}
        for arm in _program_arms(results, arms):
            funnels[arm] = _describe_funnel(reader, results, store, arm)
        document["funnels"] = funnels
        counts = {"completions": count_calls(store.database)}
        for name, source in (("traces", "made"), ("rows", "rows"), ("drops", "drops")):
            [(counts[name],)] = store.database.read(f"SELECT count(*) FROM {source}")
        document["counts"] = counts
    return document


def _update_results(saved: Results, store: Store) -> Results:
    """The results of an unfinished run, with what its store says of arms that they do not know yet.

    The run itself writes down its results every now and then; what an arm needed is a long question to a large store.
    """
    # Only now: they load all that makes a run, and a finished one is read without them.
    from potstill.runs.results import collect_costs, collect_trainings

    costs = dict(saved.costs)
    for arm in (*saved.evaluations, *_program_arms(saved, store.history.arms())):
        if not costs.get(arm):
            costs[arm] = collect_costs(store, arm)
    training = dict(saved.training)
    for arm in saved.recipe.get("arms", {}):
        if not training.get(arm):
            training |= collect_trainings(store, arm)
    return dataclasses.replace(
        saved, costs={arm: cost for arm, cost in costs.items() if cost}, training=training
    )


def _program_arms(results: Results, arms: Mapping[str, bool]) -> list[str]:
    """The arms that make rows: the recipe's, or where there is no recipe those that the store has."""
    return list(results.recipe.get("arms", {})) or list(arms)


def _describe_results(results: Results, base: str, arms: Mapping[str, bool]) -> dict[str, Any]:
    """What a run's results say, with the strings that the report shows."""
    evaluations = results.evaluations
    # The untrained student is the base, unless it was not measured or another one is asked for.
    if not base:
        base = BASE if BASE in evaluations or not evaluations else next(iter(evaluations))
    rows = {row["arm"]: row for row in table(results, base=base)}
    names = list(dict.fromkeys([*evaluations, *_program_arms(results, arms)]))
    listed = [_describe_arm(results, name, base, arms, rows.get(name)) for name in names]
    return {
        "title": results.title,
        "note": results.note,
        "seed": results.seed,
        "standings": standings(evaluations.values()),
        "quality": quality_notes(evaluations.values()),
        "notes": list(results.notes),
        "base": base,
        "bases": list(evaluations),
        "arms": listed,
        "columns": list(next(iter(rows.values()))) if rows else [],
        "comparisons": [describe_comparison(comparison) for comparison in results.comparisons],
        "sections": results_file.sections_by_arm_to_json(results),
        "lengths": results_file.map_values(results.lengths, results_file.lengths_to_json),
        "models": dict(results.models),
        "prompts": list(results.prompts),
        "fingerprints": {
            name: evaluation.fingerprint.to_json() for name, evaluation in evaluations.items()
        },
    }


def _describe_arm(
    results: Results,
    name: str,
    base: str,
    arms: Mapping[str, bool],
    shown: Mapping[str, str] | None,
) -> dict[str, Any]:
    evaluation = results.evaluations.get(name)
    report = results.training.get(name, {})
    settings = results.recipe.get("arms", {}).get(name, {})
    arm: dict[str, Any] = {
        "arm": name,
        "method": settings.get("method", ""),
        "is_measured": evaluation is not None,
        "is_trained": bool(report),
        "is_finished": bool(arms.get(name, evaluation is not None)),
        "rows": report.get("rows"),
        "rows_query": f"arm:{quote_value(name)} row:yes",
        "measures": None,
        "with_k": [],
        "shown": shown,
        "difference": None,
        "no_difference": "",
        "costs": {role: cost._asdict() for role, cost in results.costs.get(name, {}).items()},
        "answers_query": f"arm:{quote_value(name if name == BASE else f'{name} evaluated')}",
    }
    if evaluation is None:
        arm["no_difference"] = "not measured yet"
        return arm
    # Each measure with its interval, and the strings that the terminal and the report print of it.
    arm["measures"] = results_file.measures_to_json(evaluation)
    arm["with_k"] = _describe_ks(evaluation)
    comparison = find_comparison(results, name, base)
    if isinstance(comparison, Comparison):
        arm["difference"] = describe_comparison(comparison)
    else:
        arm["no_difference"] = comparison
    return arm


def _describe_ks(evaluation: Evaluation) -> list[dict[str, Any]]:
    """pass@k and maj@k for powers of two."""
    measured = []
    for power in range(evaluation.n.bit_length()):
        k = 2**power
        passed, voted = pass_at(evaluation, k), majority_at(evaluation, k)
        measured.append({"k": k, "pass": passed._asdict(), "maj": voted._asdict()})
    return measured


def describe_comparison(comparison: Comparison) -> dict[str, Any]:
    """A comparison with the strings that the report shows."""
    return {
        **comparison.to_json(),
        "shown": format_points(comparison.difference),
        "counts_sentence": comparison.counts_sentence,
    }


def _read_drops(reader: RunReader, store: Store, arm: str) -> ArmDrops:
    """What an arm dropped; of one that has come to its end it is counted once."""
    sql = "SELECT generation FROM arms WHERE arm = ? AND finished"
    for (generation,) in store.database.read(sql, (arm,)):
        key = (arm, generation)
        if key not in reader.finished_drops:
            reader.finished_drops[key] = _count_drops(store, arm)
        return reader.finished_drops[key]
    return _count_drops(store, arm)


def _count_drops(store: Store, arm: str) -> ArmDrops:
    by_reason = store.history.count_drops_by_reason(arm)
    return ArmDrops(store.history.count_drops_by_test(arm), by_reason)


def _describe_funnel(reader: RunReader, results: Results, store: Store, arm: str) -> dict[str, Any]:
    """An arm's way from problems to rows; each line with the query that lists its traces."""
    drops = _read_drops(reader, store, arm)
    stored = results.funnels.get(arm)
    is_known = arm in results.recipe.get("arms", {})
    # As the results have it; else from the store, as far as it has come.
    if stored is None or not stored.steps or results.ending.status != "finished":
        from potstill.runs.results import collect_funnel, names_of_models

        names = names_of_models(results, arm) if is_known else {}
        stored = collect_funnel(store, arm, names, drops.by_reason)
    # A trace may be dropped by several tests, and twice by one: drops are counted, and traces are listed.
    by_test = {f"{count.operator} {count.test}": count for count in drops.by_test}
    traces_by_reason = {count[:3]: count.traces for count in drops.by_reason}

    # The steps in program order, stretches that repeat folded as the report folds them.
    of_arm = f"arm:{quote_value(arm)}"
    steps = []
    ended = _step_times(store, arm, len(stored.steps))
    folded_steps = fold_repeats(stored.steps)
    # A test may stand twice in a program: what was dropped is told apart by the operator that had made it.
    tests = Counter(f"{step.operator} {step.label}" for step, _ in folded_steps)
    makers = _makers_of_drops(store, arm, [test for test, count in tests.items() if count > 1])
    maker = ""
    folded = zip(folded_steps, repeated_places(stored.steps), strict=True)
    for (step, times), places in folded:
        times_of_step = [ended[place] for place in places]
        test = f"{step.operator} {step.label}"
        query, traces = _list_of_step(store, arm, step, by_test.get(test))
        if any(step.operator in of_test for of_test in makers.values()):
            maker = step.operator
        if query and len(makers.get(test, {})) > 1 and step.operator != "train":
            query = f"{query} operator:{quote_value(maker)}"
            traces = makers[test].get(maker, 0)
        steps.append(
            {
                **step._asdict(),
                "gloss": OPERATOR_GLOSSES.get(step.operator, ""),
                "times": times,
                "ended": max(filter(None, times_of_step), default=None),
                "dropped": max(0, step.taken - step.returned),
                "drops": by_test[test].drops if test in by_test else 0,
                "query": query,
                "traces": traces,
            }
        )
    # Then why traces were dropped, the most frequent reason first.
    reasons = []
    for reason in stored.drops[:MAX_REASONS]:
        test = f"{reason.operator} {reason.test}"
        query = f"{of_arm} dropped:{quote_value(test)} reason:{quote_value(reason.reason)}"
        traces = traces_by_reason.get((reason.operator, reason.test, reason.reason), 0)
        reasons.append({**dataclasses.asdict(reason), "query": query, "traces": traces})
    dropped = sum(count.drops for count in by_test.values())
    return {"steps": steps, "reasons": reasons, "dropped": dropped}


def _step_times(store: Store, arm: str, count: int) -> list[float | None]:
    """When each line of a funnel ended: operators, then a training a stage; None where it is not known."""
    times = store.history.step_times(arm)
    for stage in store.history.stages(arm):
        sql = "SELECT created FROM students WHERE stage = ?"
        trained = store.database.read(sql, (stage.stage,))
        times.append(trained[0][0] if trained else None)
    return [*times, *[None] * count][:count]


def _makers_of_drops(store: Store, arm: str, tests: Sequence[str]) -> dict[str, dict[str, int]]:
    """Of each test, how many of the traces that it dropped each operator had made."""
    if not tests:
        return {}
    sql = """SELECT d.operator || ' ' || d.test, t.operator, count(DISTINCT d.id)
        FROM drops d JOIN traces t ON t.id = d.id
        WHERE d.arm = ? AND d.operator || ' ' || d.test IN (SELECT value FROM json_each(?)) GROUP BY 1, 2"""
    makers: dict[str, dict[str, int]] = {}
    for test, operator, traces in store.database.read(sql, (arm, json.dumps(list(tests)))):
        makers.setdefault(test, {})[operator] = traces
    return makers


def _list_of_step(
    store: Store, arm: str, step: FunnelStep, dropped: DropCount | None
) -> tuple[str | None, int]:
    """The query that lists what a step dropped, or the rows that were trained on; None where no list belongs to it."""
    of_arm = f"arm:{quote_value(arm)}"
    if step.operator == "train" and step.returned:
        [(rows,)] = store.database.read("SELECT count(DISTINCT id) FROM rows WHERE arm = ?", (arm,))
        return f"{of_arm} row:yes", int(rows)
    if dropped is not None:
        test = f"{step.operator} {step.label}"
        return f"{of_arm} dropped:{quote_value(test)}", dropped.traces
    return None, 0
