"""What a run has to say, read back from its store: funnels, costs, trainings, lengths, examples, comparisons."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from potstill.evaluation.compare import Comparison, compare
from potstill.evaluation.results import (
    WORLD_NOTE,
    Cost,
    Example,
    Funnel,
    FunnelDrop,
    FunnelStep,
    Length,
    Results,
    summarize_lengths,
    to_passage,
)
from potstill.evaluation.rows import Evaluation
from potstill.models import identity
from potstill.records import Trace
from potstill.runs.recipe import Recipe
from potstill.store.store import Store

EXAMPLES = 6  # an arm


def gather(
    store: Store,
    recipe: Recipe,
    evaluations: Mapping[str, Evaluation],
    *,
    title: str,
    names: Mapping[str, str],
) -> Results:
    """The results of a run whose arms have come to their end; `names` are the roles of model ids."""
    arms = list(recipe.arms)
    rows = {arm: trained_on(store, arm) for arm in arms}
    ran = [*(name for name in evaluations if name not in arms), *arms]
    world = recipe.problems.startswith("world:")
    return Results(
        title=title,
        seed=recipe.seed,
        note=WORLD_NOTE if world else "",
        recipe=settled(recipe),
        evaluations=dict(evaluations),
        comparisons=_comparisons(evaluations, recipe.compare),
        funnels={arm: _funnel(store, arm, names) for arm in arms},
        costs={arm: _costs(store, arm) for arm in ran},
        training={arm: _training(store, arm) for arm in arms},
        lengths=_lengths(rows, evaluations),
        notes=[note for arm in arms if (note := _kept(store, arm, rows[arm], names))],
        examples=[example for arm in arms for example in _examples(store, arm, rows[arm])],
    )


def settled(recipe: Recipe) -> dict[str, Any]:
    """What decides a run's results: the recipe without what it may cost, its models without how they are reached."""
    return recipe.to_json() | {
        "roles": {role: identity(spec) for role, spec in recipe.roles.items()}
    }


def _costs(store: Store, arm: str) -> dict[str, Cost]:
    """By role, what an arm needed, whoever paid first, and what its own failed tries cost."""
    lost = store.attempts.wasted_cost(arm)
    costs: dict[str, Cost] = {}
    for role, usage in store.usage(arm).items():
        costs[role] = Cost(**usage, lost=lost.get(role, 0.0))  # type: ignore[arg-type]
    return costs


def _comparisons(evaluations: Mapping[str, Evaluation], compare_arm: str) -> list[Comparison]:
    """Every arm against the first evaluation, which is the untrained student's; then one arm against all others."""
    if not evaluations:
        return []
    base, *arms = evaluations
    pairs = [(arm, base) for arm in arms]
    if compare_arm in arms:
        pairs += [(compare_arm, other) for other in arms if other != compare_arm]
    return [compare(evaluations[arm], evaluations[other]) for arm, other in pairs]


def trained_on(store: Store, arm: str) -> list[Trace]:
    """The rows of an arm's last stage."""
    stages = store.history.row_ids(arm)
    last = list(stages.values())[-1] if stages else []
    return [trace for key in last if (trace := store.history.trace(key, arm))]


def _funnel(store: Store, arm: str, names: Mapping[str, str]) -> Funnel:
    """Steps with roles for model ids; drops counted by reason, without the ids of single traces in it."""
    counts = Counter(
        (d.operator, d.test, re.sub(r"trace-[0-9a-f]{20}", "another trace", d.reason))
        for d in store.history.drops(arm)
    )
    steps = [
        FunnelStep(s.operator, names.get(s.label, s.label), s.taken, s.returned)
        for s in store.history.steps(arm)
    ]
    trained = sum(len(ids) for ids in store.history.row_ids(arm).values())
    steps.append(FunnelStep("train", "rows", trained, trained))
    return Funnel(tuple(steps), tuple(FunnelDrop(*key, count) for key, count in counts.items()))


def _training(store: Store, arm: str) -> dict[str, object]:
    """The last stage's report, with the number of stages."""
    stages = store.history.row_ids(arm)
    reports = [student.report for key in stages if (student := store.students.get(key))]
    return {**reports[-1], "arm": arm, "stages": len(reports)} if reports else {}


def _kept(store: Store, arm: str, rows: Iterable[Trace], names: Mapping[str, str]) -> str:
    """For how many problems an arm has rows, by how often the untrained student solved them: filters drop hard ones."""
    marks: dict[str, list[bool]] = {}
    for t in store.history.traces(arm, "sample"):
        if t.author and names.get(t.author.model) == "student":
            marks.setdefault(t.problem.id, []).append(t.verdict.status == "right")
    if not marks:
        return ""
    kept = {row.problem.id for row in rows}
    told = []
    for often, test in (
        ("never", lambda m: not any(m)),
        ("sometimes", lambda m: any(m) and not all(m)),
        ("always", all),
    ):
        those = [problem for problem, found in marks.items() if test(found)]
        told.append(f"{len(kept.intersection(those))} of {len(those)} it {often} solved")
    return f"{arm}: rows by how often the student solved the problem in its own attempts: {', '.join(told)}."


def _lengths(
    rows: Mapping[str, list[Trace]], evaluations: Mapping[str, Evaluation]
) -> dict[str, dict[str, Length]]:
    found: dict[str, dict[str, Length]] = {}
    for arm, traces in rows.items():
        found[arm] = {"rows": summarize_lengths([t.tokens.completion for t in traces])}
        surprise = [
            float(value) for t in traces if (value := t.scores.get("perplexity")) is not None
        ]
        if surprise:
            found[arm]["rows before training"] = summarize_lengths(surprise, "perplexity")
    for arm, evaluation in evaluations.items():
        answers = [answer for row in evaluation.rows for answer in row.answers]
        told = found.setdefault(arm, {})
        told["answers"] = summarize_lengths([a.tokens for a in answers])
        for status in ("right", "wrong"):
            told[f"{status} answers"] = summarize_lengths(
                [a.tokens for a in answers if a.status == status]
            )
    return found


def shown(rows: Iterable[Trace]) -> list[Trace]:
    """The rows that the report shows: rewrites made from a wrong attempt first, then by id."""
    return sorted(rows, key=lambda t: (t.operator != "rewrite" or len(t.parents) < 2, t.id))[
        :EXAMPLES
    ]


def _examples(store: Store, arm: str, rows: Iterable[Trace]) -> list[Example]:
    """Rows beside what they came from, and what the trained student answers to the same problem."""
    answers = {t.problem.id: t for t in store.history.traces(examples_of(arm), "sample")}
    return [_example(store, arm, row, answers.get(row.problem.id)) for row in shown(rows)]


def _example(store: Store, arm: str, row: Trace, answer: Trace | None) -> Example:
    family = store.history.ancestry(row.id, arm)
    errors = [t for t in family if t.verdict.status == "wrong"]
    sources = [t for t in family[1:] if t.text and t.verdict.status == "right"]
    rewritten = row.operator == "rewrite"
    teacher = sources[0] if sources else None if rewritten else row
    return Example(
        row.question,
        row.problem.answer,
        arm,
        error=to_passage(errors[0]) if errors else None,
        teacher=to_passage(teacher) if teacher else None,
        rewrite=to_passage(row) if rewritten else None,
        answer=to_passage(answer) if answer else None,
    )


def examples_of(arm: str) -> str:
    """The ledger that keeps a trained student's answers to the problems of its example rows."""
    return f"{arm} examples"
