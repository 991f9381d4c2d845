"""Arms that are trained and measured seed by seed, and their tables: what most studies are made of.

A study gives the recipe of a seed as plain data (docs/recipes.md). Each seed is a run folder of its own below the
study's, with the store, rows and students of any run, so it resumes as any run does. The figures of an arm are a list
with one entry a seed, on the same test problems.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from potstill.errors import StageError
from potstill.evaluation.intervals import Estimate
from potstill.evaluation.metrics import mean_tokens, status_share
from potstill.evaluation.paired import crossed_interval
from potstill.evaluation.results import Results
from potstill.evaluation.table import format_points
from potstill.records import Progress
from potstill.runs import experiment, recipe
from potstill.studies.chart import Dot
from potstill.studies.study import StudySettings

# What is counted over an arm's trainings, and its name in a training's report.
TRAINING_COUNTS = {
    "rows": "rows",
    "steps": "steps",
    "row_tokens": "tokens",
    "loss_tokens": "loss_tokens",
}
THREADS = 1  # the same figures on a machine of any size
UNTRAINED = "untrained"
Figures = Mapping[str, Any]
RunsByArm = Mapping[str, Sequence[Figures]]


def run_seeds(
    settings: StudySettings,
    recipe_of_seed: Callable[[int], Mapping[str, Any]],
    progress: Progress,
    figures_of: Callable[[Results, str], dict[str, Any]] | None = None,
) -> dict[str, list[dict[str, Any]]]:
    """Run a recipe once a seed, each in a folder of its own.

    Args:
        settings: of the study.
        recipe_of_seed: the recipe as plain data; its `seed` and `training.seed` are set here.
        progress: called with (label, done, total).
        figures_of: what is kept of an arm of a run; `arm_figures` without one.

    Returns:
        By arm, the untrained student first, the figures of each seed.
    """
    runs_by_arm: dict[str, list[dict[str, Any]]] = {}
    for seed in range(settings.seeds):
        progress("seeds", seed, settings.seeds)
        data = {**recipe_of_seed(seed), "seed": seed}
        data["training"] = {**data.get("training", {}), "seed": seed}
        results = experiment.execute(
            recipe.from_data(data),
            settings.out / f"seed-{seed}",
            progress=progress,
            threads=THREADS,
            retry_errors=settings.retry_errors,
        )
        # The untrained student is measured with every seed too: its samples are others.
        for name in results.evaluations:
            figures = (figures_of or arm_figures)(results, name)
            runs_by_arm.setdefault(name, []).append(figures)
    progress("seeds", settings.seeds, settings.seeds)
    return runs_by_arm


def arm_figures(results: Results, arm: str) -> dict[str, Any]:
    """What a run says of one arm, as plain JSON.

    Returns:
        "problems", ids in order, and "shares", the share of right answers to each; "tokens" of a mean answer;
        "unparsed", a share; of a trained arm "rows", "steps", "row_tokens" (read in training) and "loss_tokens"
        (learnt); and "calls" and "written_tokens" of its collection by role.
    """
    evaluation = results.evaluations[arm]
    calls: dict[str, int] = {}
    written_tokens: dict[str, int] = {}
    for role, cost in results.costs.get(arm, {}).items():
        if "/" not in role:  # not its evaluation or training
            calls[role] = cost.calls
            written_tokens[role] = cost.completion_tokens
    figures = {
        "problems": [row.problem for row in evaluation.rows],
        "shares": [row.right / row.n for row in evaluation.rows],
        "tokens": mean_tokens(evaluation).value,
        "unparsed": status_share(evaluation, "unparsed"),
        "calls": calls,
        "written_tokens": written_tokens,
    }
    for report in stage_reports(results, arm):
        for name, counted in TRAINING_COUNTS.items():
            figures[name] = figures.get(name, 0) + report[counted]
    return figures


def stage_reports(results: Results, arm: str) -> list[Mapping[str, Any]]:
    """The report of each training of an arm; none of an arm that trains nothing."""
    reports: list[Mapping[str, Any]] = []
    for report in results.training.values():
        # Of several stages, the last one's report also stands under the arm's own name.
        if report.get("arm") == arm and "stage" in report:
            reports.append(report)
    if not reports and results.training.get(arm):
        reports.append(results.training[arm])
    return reports


def score(runs: Sequence[Figures]) -> float:
    """avg@n in percent, the mean over seeds."""
    return sum(seed_scores(runs)) / len(runs)


def seed_scores(runs: Sequence[Figures]) -> list[float]:
    """avg@n in percent of each seed."""
    return [100 * sum(run["shares"]) / len(run["shares"]) for run in runs]


def difference(runs: Sequence[Figures], base: Sequence[Figures]) -> Estimate:
    """An arm's lead over another in [-1, 1], paired by problem and seed; both are levels of the interval.

    Args:
        runs: of the arm, one a seed.
        base: of the other, the same seeds in the same order.

    Raises:
        StageError: the two did not answer the same problems, or have other seeds.
    """
    if any(run["problems"] != base[0]["problems"] for run in [*runs, *base]):
        raise StageError("arms that answered other problems can't be paired")
    if len(runs) != len(base):
        raise StageError(f"arms of {len(runs)} and {len(base)} seeds can't be paired")
    differences: list[list[float]] = []
    for run, base_run in zip(runs, base, strict=True):
        pairs = zip(run["shares"], base_run["shares"], strict=True)
        differences.append([share - base_share for share, base_share in pairs])
    return crossed_interval(differences)


def sign(estimate: Estimate) -> Literal["above", "below", "undecided"]:
    """What an interval decides: all of it above 0, all of it below, or neither."""
    if estimate.low > 0:
        return "above"
    return "below" if estimate.high < 0 else "undecided"


def describe_difference(arm: str, base: str, estimate: Estimate) -> str:
    """The difference of two arms as a sentence, for a finding."""
    points = f"{format_points(estimate)} points"
    if sign(estimate) == "undecided":
        return f"Between {arm} and {base} no difference is shown ({points})."
    return f"{arm} is {sign(estimate)} {base} ({points})."


def effect_estimates(
    runs_by_arm: RunsByArm, effects: Mapping[str, tuple[str, str]]
) -> dict[str, Estimate]:
    """The difference of the two arms of each effect, paired by problem and seed; without those that have not run.

    Args:
        runs_by_arm: the figures of `run_seeds`.
        effects: by what two arms differ in, the arm that has it and the one that has not.
    """
    estimates: dict[str, Estimate] = {}
    for effect, (arm, base) in effects.items():
        if arm in runs_by_arm and base in runs_by_arm:
            estimates[effect] = difference(runs_by_arm[arm], runs_by_arm[base])
    return estimates


def effect_dots(estimates: Mapping[str, Estimate]) -> list[Dot]:
    """Differences in points, for a `DotChart`."""
    dots: list[Dot] = []
    for name, estimate in estimates.items():
        dots.append(Dot(name, 100 * estimate.value, 100 * estimate.low, 100 * estimate.high))
    return dots


def effects_table(
    runs_by_arm: RunsByArm,
    effects: Mapping[str, tuple[str, str]],
    estimates: Mapping[str, Estimate],
) -> list[dict[str, str]]:
    """A row an effect of `effect_estimates`, with the arms that it is the difference of."""
    rows: list[dict[str, str]] = []
    for effect, estimate in estimates.items():
        arm, base = effects[effect]
        arm_scores, base_scores = seed_scores(runs_by_arm[arm]), seed_scores(runs_by_arm[base])
        by_seed: list[str] = []
        for arm_score, base_score in zip(arm_scores, base_scores, strict=True):
            by_seed.append(f"{arm_score - base_score:+.1f}")
        rows.append(
            {
                "effect": effect,
                "difference of": f"{arm} - {base}",
                "points [95 %]": format_points(estimate),
                "seeds": ", ".join(by_seed),
            }
        )
    return rows


def arms_table(runs_by_arm: RunsByArm, base: str = UNTRAINED) -> list[dict[str, str]]:
    """A row an arm: its score, each seed's, the paired difference from the base, and what the arm took.

    Args:
        runs_by_arm: the figures of `run_seeds`, in the order of the rows.
        base: the arm that the others are compared with.
    """
    rows: list[dict[str, str]] = []
    for name, runs in runs_by_arm.items():
        row = {
            "arm": name,
            "avg@n": f"{score(runs):.1f}",
            "seeds": ", ".join(f"{value:.1f}" for value in seed_scores(runs)),
            f"vs {base}": ""
            if name == base
            else format_points(difference(runs, runs_by_arm[base])),
            "rows": "",
            "steps": "",
            "tokens learnt": "",
            "tokens an answer": f"{mean_figure(runs, 'tokens'):.0f}",
            "calls": format_by_role(runs, "calls"),
            "tokens written": format_by_role(runs, "written_tokens"),
        }
        if "rows" in runs[0]:
            row["rows"] = f"{mean_figure(runs, 'rows'):,.0f}"
            row["steps"] = f"{mean_figure(runs, 'steps'):,.0f}"
            row["tokens learnt"] = f"{mean_figure(runs, 'loss_tokens'):,.0f}"
        rows.append(row)
    return rows


def arm_dots(runs_by_arm: RunsByArm, base: str = UNTRAINED) -> list[Dot]:
    """Each arm's lead over the base in points, for a `DotChart`; without the base."""
    leads: dict[str, Estimate] = {}
    for name, runs in runs_by_arm.items():
        if name != base:
            leads[name] = difference(runs, runs_by_arm[base])
    return effect_dots(leads)


def mean_figure(runs: Sequence[Figures], name: str) -> float:
    """The mean of a figure over the seeds."""
    return float(sum(run[name] for run in runs) / len(runs))


def format_by_role(runs: Sequence[Figures], name: str) -> str:
    """The mean over seeds of a figure that is kept by role, such as `teacher 300, student 1,200`."""
    parts: list[str] = []
    for role in runs[0][name]:
        mean = sum(run[name].get(role, 0) for run in runs) / len(runs)
        parts.append(f"{role} {mean:,.0f}")
    return ", ".join(parts)
