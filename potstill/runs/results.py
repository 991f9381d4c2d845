"""What a run has to say, read back from its store: funnels, costs, trainings, lengths, examples, comparisons."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from potstill.data.learner_prompt import list_templates
from potstill.errors import PotstillError
from potstill.evaluation.compare import Comparison, compare
from potstill.evaluation.results import (
    WORLD_NOTE,
    Cost,
    Ending,
    Example,
    Funnel,
    FunnelDrop,
    FunnelStep,
    Length,
    Results,
    summarize_lengths,
)
from potstill.evaluation.row_steps import (
    RowSteps,
    short_rows_notes,
    stepless_notes,
    summarize_steps,
)
from potstill.evaluation.rows import Evaluation
from potstill.methods.catalogue import method_entry
from potstill.methods.role_annotations import role_of
from potstill.models import identity
from potstill.models.model import Model
from potstill.records import Trace
from potstill.runs.examples import (
    collect_held_out_examples,
    collect_rejected_examples,
    collect_training_examples,
)
from potstill.runs.folder_layout import UNTRAINED
from potstill.runs.recipe import Recipe
from potstill.runs.stages import read_rows, stage_rows, stage_title
from potstill.store.history import DropCount
from potstill.store.store import Store


def describe_run(
    recipe: Recipe, models: Mapping[str, Model], problems: Sequence[Trace], *, title: str
) -> Results:
    """What is known of a run before anything is asked.

    Args:
        recipe: of the run.
        models: by role.
        problems: to train on, as the learner sees them.
        title: of the report.
    """
    return Results(
        title=title,
        seed=recipe.seed,
        note=WORLD_NOTE if recipe.problems.startswith("world:") else "",
        ending=Ending("running"),
        recipe=deciding_settings(recipe),
        models={role: model.id for role, model in models.items()},
        prompts=list_templates(problems),
    )


def gather_results(
    described: Results, store: Store, evaluations: Mapping[str, Evaluation]
) -> Results:
    """The results with everything that the store holds of the run's arms, as far as these have come.

    Args:
        described: what `describe_run` said, or the results of an unfinished run.
        store: of the run.
        evaluations: by arm, the untrained student's first.
    """
    arms = list(described.recipe["arms"])
    rows_by_arm = {arm: stage_rows(store, arm) for arm in arms}
    examples: list[Example] = []
    notes: list[str] = []
    funnels: dict[str, Funnel] = {}
    for arm, rows in rows_by_arm.items():
        names = names_of_models(described, arm)
        funnels[arm] = collect_funnel(store, arm, names)
        examples += collect_training_examples(store, arm, rows, names)
        examples += collect_rejected_examples(store, arm, names)
        note = coverage_note(store, arm, rows, names)
        if note:
            notes.append(note)
    for arm, evaluation in evaluations.items():
        if arm in arms:
            examples += collect_held_out_examples(store, evaluation)
    measured_only = [name for name in evaluations if name not in arms]
    # A measurement that was broken off has no result, and cost something all the same.
    costs = {
        arm: collect_costs(store, arm) for arm in dict.fromkeys((*measured_only, UNTRAINED, *arms))
    }
    if not costs[UNTRAINED]:
        del costs[UNTRAINED]
    trainings: dict[str, dict[str, object]] = {}
    for arm in arms:
        trainings |= collect_trainings(store, arm)
    rows_by_title = rows_by_arm | rows_of_stages(store, arms)
    row_steps = collect_row_steps(rows_by_title)
    notes += stepless_notes(row_steps)
    for arm, rows in rows_by_arm.items():
        notes += short_rows_notes(arm, rows, evaluations.get(UNTRAINED))
    return dataclasses.replace(
        described,
        evaluations=dict(evaluations),
        funnels=funnels,
        costs=costs,
        training=trainings,
        lengths=collect_lengths(rows_by_title, evaluations),
        row_steps=row_steps,
        notes=list(dict.fromkeys([*described.notes, *notes])),
        examples=examples,
    )


def names_of_models(described: Results, arm: str) -> dict[str, str]:
    """The role of each model id in an arm; a model that plays several of the arm's roles has all their names."""
    method = described.recipe["arms"][arm]["method"]
    try:
        roles = {role.name for role in method_entry(method).roles}
    except PotstillError:  # a method of a file that is no longer there
        roles = {role_of(key) for key in described.models}
    names: dict[str, str] = {}
    for key, model_id in described.models.items():
        if role_of(key) in roles:
            names[model_id] = f"{names[model_id]} and {key}" if model_id in names else key
    return names


def deciding_settings(recipe: Recipe) -> dict[str, Any]:
    """What decides a run's results: the recipe without what it may cost, its models without how they are reached."""
    settings = recipe.to_json()
    settings["roles"] = {role: identity(spec) for role, spec in recipe.roles.items()}
    return settings


def compare_arms(evaluations: Mapping[str, Evaluation], compare_arm: str) -> list[Comparison]:
    """Every arm against the first evaluation, which is the untrained student's; then one arm against all others."""
    if not evaluations:
        return []
    base, *arms = evaluations  # the untrained student is measured first
    pairs = [(arm, base) for arm in arms]
    if compare_arm in arms:
        pairs += [(compare_arm, other) for other in arms if other != compare_arm]
    return [compare(evaluations[arm], evaluations[other]) for arm, other in pairs]


def collect_costs(store: Store, arm: str) -> dict[str, Cost]:
    """By role, what an arm needed, whoever paid first, and what its own failed tries cost."""
    lost = store.attempts.wasted_cost(arm)
    cut = store.completions.count_cut(arm)
    costs: dict[str, Cost] = {}
    for role, usage in store.usage(arm).items():
        costs[role] = Cost(**usage, lost=lost.get(role, 0.0), cut=cut.get(role, 0))  # type: ignore[arg-type]
    return costs


def collect_funnel(
    store: Store,
    arm: str,
    names: Mapping[str, str],
    drops_by_reason: Sequence[DropCount] | None = None,
) -> Funnel:
    """Steps with roles for model ids; drops counted by reason, without the ids of single traces in it.

    Args:
        store: of the run.
        arm: of the run.
        names: the roles of model ids.
        drops_by_reason: what the store says of them, where that was asked already.
    """
    steps: list[FunnelStep] = []
    for step in store.history.steps(arm):
        label = names.get(step.label, step.label)
        steps.append(FunnelStep(step.operator, label, step.taken, step.returned))
    stages = store.history.stages(arm)
    for stage in stages:
        # Of several stages, which one's rows these are.
        label = "rows" if len(stages) == 1 else f"rows of {stage.label}"
        steps.append(FunnelStep("train", label, len(stage.row_ids), len(stage.row_ids)))
    if not stages:
        steps.append(FunnelStep("train", "rows", 0, 0))

    # By frequency: inside `each` drops come in an order of chance.
    if drops_by_reason is None:
        drops_by_reason = store.history.count_drops_by_reason(arm)
    drops = []
    for count in drops_by_reason:
        drops.append(FunnelDrop(count.operator, count.test, count.reason, count.drops))
    return Funnel(tuple(steps), tuple(drops))


def collect_trainings(store: Store, arm: str) -> dict[str, dict[str, object]]:
    """The report of an arm's last stage under the arm's name; of several stages each under `ARM/LABEL` too."""
    reports: dict[str, Mapping[str, Any]] = {}
    for stage in store.history.stages(arm):
        student = store.students.get(stage.stage)
        if student is not None:
            reports[stage.label] = student.report
    if not reports:
        return {arm: {}}
    trainings: dict[str, dict[str, object]] = {}
    if len(reports) > 1:
        for label, report in reports.items():
            trainings[stage_title(arm, label)] = {**report, "arm": arm, "stage": label}
    last_report = list(reports.values())[-1]
    trainings[arm] = {**last_report, "arm": arm, "stages": len(reports)}
    return trainings


def coverage_note(store: Store, arm: str, rows: Iterable[Trace], names: Mapping[str, str]) -> str:
    """For how many problems an arm has rows, by how often the untrained student solved them: filters drop hard ones."""
    # Of each problem, whether each of the student's own samples was right.
    is_right_by_problem: dict[str, list[bool]] = {}
    for trace in store.history.traces(arm, "sample"):
        if trace.author and "student" in names.get(trace.author.model, "").split(" and "):
            is_right = trace.verdict.status == "right"
            is_right_by_problem.setdefault(trace.problem.id, []).append(is_right)
    if not is_right_by_problem:
        return ""

    problems_by_frequency: dict[str, set[str]] = {
        "never": set(),
        "sometimes": set(),
        "always": set(),
    }
    for problem_id, is_right_list in is_right_by_problem.items():
        frequency = "sometimes" if any(is_right_list) else "never"
        if all(is_right_list):
            frequency = "always"
        problems_by_frequency[frequency].add(problem_id)
    covered = {row.problem.id for row in rows}
    counts: list[str] = []
    for frequency, problem_ids in problems_by_frequency.items():
        counts.append(f"{len(covered & problem_ids)} of {len(problem_ids)} it {frequency} solved")
    return f"{arm}: rows by how often the student solved the problem in its own attempts: {', '.join(counts)}."


def collect_lengths(
    rows_by_arm: Mapping[str, list[Trace]], evaluations: Mapping[str, Evaluation]
) -> dict[str, dict[str, Length]]:
    """By arm, how long its rows and its answers are, and how surprising its rows were before the training."""
    lengths: dict[str, dict[str, Length]] = {}
    for arm, rows in rows_by_arm.items():
        lengths[arm] = {"rows": summarize_lengths([row.tokens.completion for row in rows])}
        perplexities: list[float] = []
        for row in rows:
            perplexity = row.scores.get("perplexity")
            if perplexity is not None:
                perplexities.append(float(perplexity))
        if perplexities:
            lengths[arm]["rows before training"] = summarize_lengths(perplexities, "perplexity")
    for arm, evaluation in evaluations.items():
        lengths.setdefault(arm, {}).update(answer_lengths(evaluation))
    return lengths


def collect_row_steps(rows_by_title: Mapping[str, list[Trace]]) -> dict[str, RowSteps]:
    """How much the rows of each arm reason, and of each stage where there are several; without rows there is none."""
    row_steps: dict[str, RowSteps] = {}
    for title, rows in rows_by_title.items():
        steps = summarize_steps(rows)
        if steps.rows:
            row_steps[title] = steps
    return row_steps


def rows_of_stages(store: Store, arms: Iterable[str]) -> dict[str, list[Trace]]:
    """The rows of each stage as `ARM/LABEL`, of the arms that have several."""
    rows: dict[str, list[Trace]] = {}
    for arm in arms:
        stages = store.history.stages(arm)
        if len(stages) < 2:
            continue
        for stage in stages:
            rows[stage_title(arm, stage.label)] = read_rows(store, arm, stage.row_ids)
    return rows


def answer_lengths(evaluation: Evaluation) -> dict[str, Length]:
    """How long all answers of an evaluation are, the right ones and the wrong ones."""
    tokens: list[int] = []
    tokens_by_status: dict[str, list[int]] = {"right": [], "wrong": []}
    for row in evaluation.rows:
        for answer in row.answers:
            tokens.append(answer.tokens)
            if answer.status in tokens_by_status:
                tokens_by_status[answer.status].append(answer.tokens)
    lengths = {"answers": summarize_lengths(tokens)}
    for status, status_tokens in tokens_by_status.items():
        lengths[f"{status} answers"] = summarize_lengths(status_tokens)
    return lengths
