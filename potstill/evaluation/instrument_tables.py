"""The instruments' figures as rows of strings for tables, and as plain JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from potstill.evaluation.answer_scores import measure_agreement, measure_scores
from potstill.evaluation.cost_curves import CostPoint, iso_cost, pareto_front
from potstill.evaluation.curves import CurvePoint, curve_fronts, k_curve, powers_of_two
from potstill.evaluation.intervals import Estimate
from potstill.evaluation.metrics import average
from potstill.evaluation.nested import (
    Shape,
    find_shape_cost,
    largest_shape,
    measure_diversity,
    solve_surface,
    surface_points,
)
from potstill.evaluation.results import Results
from potstill.evaluation.rows import Evaluation, Fingerprint
from potstill.evaluation.table import NONE, format_count, format_percent, format_usd
from potstill.evaluation.total_cost import (
    PARTS,
    STUDENT_PARTS,
    spending_by_arm,
    sum_spending,
)

ON_FRONT = "*"  # marks what no other row beats in tokens and accuracy
ON_MONEY_FRONT = "$"  # the same for money


def curve_rows(evaluations: Sequence[Evaluation], ks: Sequence[int] = ()) -> list[dict[str, str]]:
    """A row an arm and k: pass@k, maj@k, what k answers take, and whether another row is better for less."""
    # One front over all arms: that is what they are compared for.
    points: list[CurvePoint] = []
    for evaluation in evaluations:
        points += k_curve(evaluation, ks)
    fronts = {ON_FRONT: curve_fronts(points)}
    # A column of dashes says nothing.
    has_money = any(point.usd for point in points)
    if has_money:
        fronts[ON_MONEY_FRONT] = curve_fronts(points, "usd")
    rows: list[dict[str, str]] = []
    for point in points:
        row = {
            "arm": point.arm,
            "k": str(point.k),
            "pass@k": format_percent(point.passed),
            "maj@k": format_percent(point.majority),
            "tokens a problem": f"{point.tokens:,.0f}",
        }
        if has_money:
            row["cost a problem"] = format_usd(point.usd)
        for title, measure in (("pass front", "passed"), ("maj front", "majority")):
            marks = [mark for mark, front in fronts.items() if point[:2] in front[measure]]
            row[title] = " ".join(marks)
        rows.append(row)
    return rows


def curve_json(evaluation: Evaluation, ks: Sequence[int] = ()) -> list[dict[str, Any]]:
    """The curve of one arm as JSON."""
    entries: list[dict[str, Any]] = []
    for point in k_curve(evaluation, ks):
        values = point._asdict()
        values["passed"] = point.passed._asdict()
        values["majority"] = point.majority._asdict()
        entries.append(values)
    return entries


def score_rows(evaluations: Sequence[Evaluation]) -> list[dict[str, str]]:
    """A row an arm and score: how well it detects wrong answers."""
    rows: list[dict[str, str]] = []
    for evaluation in evaluations:
        for value in measure_scores(evaluation):
            detection = value.detection
            precision = detection.average_precision
            rows.append(
                {
                    "arm": evaluation.name,
                    "score": value.score,
                    "detects that": value.event,
                    "AUROC": NONE if detection.auroc is None else format_ratio(detection.auroc),
                    "AUPRC": NONE if precision is None else f"{precision:.3f}",
                    "events": f"{detection.events:,} of {detection.scored:,}",
                    "without score": f"{detection.unscored:,}",
                }
            )
    return rows


def agreement_notes(evaluations: Sequence[Evaluation]) -> list[str]:
    """A sentence an arm on agreement as a confidence."""
    notes: list[str] = []
    for evaluation in evaluations:
        agreement = measure_agreement(evaluation)
        if agreement is None:
            continue
        note = (
            f"{evaluation.name}: agreement as the confidence in the elected answer has an ECE of "
            f"{agreement.calibration_error:.3f}; answering the surest first, {100 * agreement.area:.1f} % are wrong on "
            f"average over all coverages, {100 * agreement.risk:.1f} % of all {agreement.problems:,}"
        )
        if agreement.without_votes:
            note += f" ({agreement.without_votes:,} problems have no vote)"
        notes.append(f"{note}.")
    return notes


def scores_json(evaluation: Evaluation) -> dict[str, Any]:
    """The scores of one arm and its agreement, as JSON."""
    scores: list[dict[str, Any]] = []
    for value in measure_scores(evaluation):
        detection = value.detection
        document = detection._asdict()
        document["auroc"] = None if detection.auroc is None else detection.auroc._asdict()
        scores.append({"score": value.score, "event": value.event, **document})
    agreement = measure_agreement(evaluation)
    return {"scores": scores, "agreement": None if agreement is None else agreement._asdict()}


def surface_shapes(evaluation: Evaluation) -> list[Shape]:
    """The shapes that a table shows: powers of two and the largest, of plans and of programs."""
    largest = largest_shape(evaluation)
    # Ten by ten shapes are a table nobody reads; the JSON document has all of them.
    shapes: list[Shape] = []
    for plans in powers_of_two(largest.plans):
        shapes += [Shape(plans, programs) for programs in powers_of_two(largest.programs)]
    return shapes


def surface_rows(evaluation: Evaluation) -> list[dict[str, str]]:
    """A row a shape of a nested evaluation: solve@(M,T), and its cost where the roles tell it.

    The best that its cost buys is marked: nothing that costs no more solves as much.
    """
    surface = solve_surface(evaluation, surface_shapes(evaluation))
    # Without a cost there is no front: shapes of one number of programs may differ by the plans that they take.
    cost = find_shape_cost(evaluation)
    front: set[str] = set()
    if cost is not None:
        front = {point.name for point in pareto_front(surface_points(surface, cost))}
    rows: list[dict[str, str]] = []
    for shape, estimate in surface.items():
        row = {
            "arm": evaluation.name,
            "plans M": str(shape.plans),
            "programs T": str(shape.programs),
            "programs in all": str(shape.plans * shape.programs),
            "solve@(M,T)": format_percent(estimate),
        }
        if cost is not None:
            row["tokens a problem"] = f"{cost.of(shape):,.0f}"
            row["front"] = ON_FRONT if str(shape) in front else ""
        rows.append(row)
    return rows


def iso_cost_rows(evaluation: Evaluation) -> list[dict[str, str]]:
    """Many plans with one program each, or one plan with many programs, for the same tokens; and the best shape.

    A row a number of plans: what M x 1 takes is the budget. Nothing where the roles don't tell the cost.
    """
    cost = find_shape_cost(evaluation)
    if cost is None:
        return []
    surface = solve_surface(evaluation)
    # Whatever one plan can buy, against everything.
    points = surface_points(surface, cost)
    one_plan = [point for point in points if point.name.startswith("1x")]
    rows: list[dict[str, str]] = []
    for plans in powers_of_two(largest_shape(evaluation).plans):
        shape = Shape(plans, 1)
        budget = cost.of(shape)
        [long, best] = [iso_cost(choices, [budget])[0].best for choices in (one_plan, points)]
        rows.append(
            {
                "arm": evaluation.name,
                "tokens a problem": f"{budget:,.0f}",
                "many plans": str(shape),
                "solve": f"{100 * surface[shape].value:.1f} %",
                "one plan": NONE if long is None else long.name,
                "it solves": NONE if long is None else f"{100 * long.value:.1f} %",
                "best shape": NONE if best is None else best.name,
                "best solves": NONE if best is None else f"{100 * best.value:.1f} %",
            }
        )
    return rows


def diversity_note(evaluation: Evaluation) -> str:
    """A sentence on whether plans bring other answers than more programs of one plan."""
    diversity = measure_diversity(evaluation)
    shares: list[str] = []
    for where, share in (("one plan", diversity.same_plan), ("two plans", diversity.other_plans)):
        if share is not None:
            shares.append(f"{100 * share:.0f} % of the pairs of answers from {where} are equal")
    shares.append(f"a problem has {diversity.distinct:.2f} different answers on average")
    return f"{evaluation.name}: {'; '.join(shares)}."


def surface_json(evaluation: Evaluation) -> dict[str, Any]:
    """solve@(M,T) of every shape, its cost, and the best that each cost on the front buys, as JSON."""
    surface = solve_surface(evaluation)
    cost = find_shape_cost(evaluation)
    shapes: list[dict[str, Any]] = []
    for shape, estimate in surface.items():
        entry: dict[str, Any] = {**shape._asdict(), **estimate._asdict()}
        if cost is not None:
            entry["tokens"] = cost.of(shape)
        shapes.append(entry)
    bought: list[dict[str, Any]] = []
    if cost is not None:
        for row in iso_cost(surface_points(surface, cost)):
            best = None if row.best is None else row.best._asdict()
            bought.append({"budget": row.budget, "best": best, "affordable": row.affordable})
    diversity = measure_diversity(evaluation)._asdict()
    return {"shapes": shapes, "iso_cost": bought, "diversity": diversity}


def total_cost_rows(
    results: Results, parameters: Mapping[str, float], selecting: Sequence[str] = ()
) -> list[dict[str, str]]:
    """A row an arm of a run: avg@n beside what selection, generation and training took, in tokens, money and FLOPs.

    Args:
        results: of the run.
        parameters: role -> how many its model has, where that is known.
        selecting: roles whose calls while rows are made are selection.
    """
    rows: list[dict[str, str]] = []
    points: list[CostPoint] = []
    for arm, spending in spending_by_arm(results, parameters, selecting).items():
        if arm not in results.evaluations:
            continue
        evaluation = results.evaluations[arm]
        accuracy = average(evaluation)
        row = {"arm": arm, f"avg@{evaluation.n}": format_percent(accuracy)}
        # What measuring took stands in the report: it is no part of what a student costs.
        for part in STUDENT_PARTS:
            tokens = sum_spending(spending, [part]).tokens
            row[f"{part} tokens"] = format_count(round(tokens)) if tokens else NONE
        total = sum_spending(spending)
        row["tokens in all"] = format_count(round(total.tokens))
        row["money"] = format_usd(total.usd) if total.usd else NONE
        row["FLOPs"] = NONE if total.flops is None else f"{total.flops:.3g}"
        rows.append(row)
        points.append(CostPoint(arm, total.tokens, accuracy.value))
    # An arm is on the front where no other one is as good for no more tokens.
    front = {point.name for point in pareto_front(points)} if points else set()
    for row in rows:
        row["front"] = ON_FRONT if row["arm"] in front else ""
    return rows


def flops_notes(results: Results, parameters: Mapping[str, float]) -> list[str]:
    """Which roles have no FLOPs because nobody knows the size of their models."""
    unknown: set[str] = set()
    for spending in spending_by_arm(results, parameters).values():
        for entry in spending:
            if entry.part in STUDENT_PARTS and entry.flops is None and entry.tokens:
                unknown.add(entry.role)
    notes: list[str] = []
    for role in sorted(unknown):
        notes.append(
            f"Nobody has said how many parameters the {role} has, so sums with it have no FLOPs: --parameters {role}=N."
        )
    return notes


def total_cost_json(
    results: Results, parameters: Mapping[str, float], selecting: Sequence[str] = ()
) -> dict[str, Any]:
    """By arm, each part's spending and the sum over selection, generation and training, as JSON."""
    document: dict[str, Any] = {}
    for arm, spending in spending_by_arm(results, parameters, selecting).items():
        parts: dict[str, Any] = {part: sum_spending(spending, [part])._asdict() for part in PARTS}
        document[arm] = {**parts, "total": sum_spending(spending)._asdict()}
    return document


def fingerprint_line(fingerprint: Fingerprint) -> str:
    """What was measured, in one line: the ids of problems and prompts, sampling, verifiers, models, and the whole's."""
    # The whole fingerprint, libraries included, stands in the JSON document; this is what a reader asks first.
    task, run = fingerprint.task, fingerprint.run
    parts = [f"{name} {value}" for name, value in task.items()]
    parts += [f"{name} {run[name]}" for name in ("models", "seed") if run.get(name)]
    return f"fingerprint {fingerprint.id}: {'; '.join(parts)}"


def format_ratio(estimate: Estimate) -> str:
    """A value between 0 and 1 with its interval: `0.812 [0.764, 0.851]`."""
    value, low, high = estimate
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"
