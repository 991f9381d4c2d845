"""What the study elad-sign reads from its figures: detection, noise, known errors, overlaps, costs, annotations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias, get_args

from potstill.evaluation.correlation import pairwise_auc
from potstill.evaluation.cost_curves import (
    CostPoint,
    cost_to_reach,
    interpolate,
    matched_budget,
)
from potstill.evaluation.detection import (
    Detection,
    area_under_risk_coverage,
    calibration_error,
    detect,
)
from potstill.evaluation.intervals import Estimate, difference_interval
from potstill.evaluation.selections import above_noise, overlaps
from potstill.evaluation.table import format_points
from potstill.methods.selecting.elad.settings import Settings
from potstill.studies.arms import mean_figure, score
from potstill.studies.elad_pool import PROBES

Figures: TypeAlias = Mapping[str, Any]
Where: TypeAlias = Literal["whole chain", "the wrong step", "the other steps"]
# Scores of an item that are no probe's, by name.
ITEM_SCORES = {
    "inter": "inter",
    "inter, as many calls as branch": "inter_same_calls",
    "length": "length",
}
PRICES = (1.0, 10.0, 100.0)  # of a teacher's token in tokens of the student


# What the scores detect.


def all_items(figures: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The problems of all pools; each seed's are others."""
    items: list[Mapping[str, Any]] = []
    for pool in figures["pools"]:
        items += pool["items"]
    return items


def item_scores(items: Sequence[Mapping[str, Any]]) -> dict[str, list[float | None]]:
    """Each score by name, a value an item."""
    scores: dict[str, list[float | None]] = {}
    for name, key in ITEM_SCORES.items():
        scores[name] = [item[key] for item in items]
    for probe in PROBES:
        scores[f"change: {probe}"] = [item[probe]["change"] for item in items]
    scores["noise: branch"] = [item["branch"]["noise"] for item in items]
    scores["inter + change: branch"] = [add_scores(item, 1.0) for item in items]
    scores["inter + same: branch"] = [add_scores(item, -1.0) for item in items]
    return scores


def add_scores(item: Mapping[str, Any], direction: float) -> float | None:
    """H of an item but for a constant: the order is all that counts."""
    if item["inter"] is None or item["branch"]["change"] is None:
        return None
    return float(item["inter"] + direction * item["branch"]["change"])


def detect_errors(figures: Mapping[str, Any]) -> dict[str, dict[str, Detection]]:
    """By score, how well it detects a wrong answer, and an error that the teacher finds where the answer is right."""
    items = all_items(figures)
    scores = item_scores(items)
    is_right = [item["right"] for item in items]
    detections: dict[str, dict[str, Detection]] = {}
    for name, values in scores.items():
        # A chain whose verdicts can't be read is neither one with an error nor one without.
        right_values: list[float | None] = []
        has_error: list[bool] = []
        for item, value in zip(items, values, strict=True):
            if item["right"] and item["first_error"] is not None:
                right_values.append(value)
                has_error.append(item["first_error"] > 0)
        detections[name] = {
            "wrong answer": detect(values, [not right for right in is_right]),
            "error behind a right answer": Detection(None, None, 0, 0),
        }
        if has_error:
            detections[name]["error behind a right answer"] = detect(right_values, has_error)
    return detections


def detect_at_equal_length(figures: Figures) -> dict[str, Estimate | None]:
    """By score, how often, of two chains with as many steps, the wrong one has the higher score; ties count half."""
    items = all_items(figures)
    estimates: dict[str, Estimate | None] = {}
    for name, values in item_scores(items).items():
        scored: list[float] = []
        wrong: list[float] = []
        lengths: list[int] = []
        for value, item in zip(values, items, strict=True):
            if value is not None:
                scored.append(value)
                wrong.append(float(not item["right"]))
                lengths.append(item["length"])
        estimates[name] = pairwise_auc(scored, wrong, lengths).estimate
    return estimates


def detection_table(figures: Figures) -> list[dict[str, str]]:
    """A row a score."""
    rows: list[dict[str, str]] = []
    at_equal_length = detect_at_equal_length(figures)
    for name, by_event in detect_errors(figures).items():
        estimate = at_equal_length[name]
        row = {"score": name}
        row["wrong answer, equal number of steps: AUC"] = ""
        if estimate is not None:
            row["wrong answer, equal number of steps: AUC"] = format_plain(estimate)
        for event, detection in by_event.items():
            row[f"{event}: AUROC"] = format_auroc(detection)
            precision = detection.average_precision
            row[f"{event}: AP"] = "" if precision is None else f"{precision:.2f}"
            row[f"{event}: events"] = f"{detection.events} of {detection.scored}"
        rows.append(row)
    return rows


def format_auroc(detection: Detection) -> str:
    """An AUROC with its interval; nothing where there is nothing to tell apart."""
    return "" if detection.auroc is None else format_plain(detection.auroc)


def format_plain(estimate: Estimate) -> str:
    """A figure with its interval."""
    return f"{estimate.value:.2f} [{estimate.low:.2f}, {estimate.high:.2f}]"


# What a step's absence changes.


def noise_estimates(figures: Mapping[str, Any], probe: str) -> dict[str, Any]:
    """Change, its noise floor, and what is left above it, over the items that have both."""
    both = [
        item[probe]
        for item in all_items(figures)
        if item[probe]["change"] is not None and item[probe]["noise"] is not None
    ]
    changes = [one["change"] for one in both]
    floors = [one["noise"] for one in both]
    return {
        "change": sum(changes) / len(changes),
        "noise": sum(floors) / len(floors),
        "above": above_noise(changes, floors),
    }


def locate_first_error(figures: Mapping[str, Any], probe: str) -> Detection:
    """How well the answer that one step changes tells the first wrong step from the others of its chain."""
    changed: list[float | None] = []
    is_first_error: list[bool] = []
    problems: list[str] = []
    for item in all_items(figures):
        if not item["first_error"]:
            continue
        for step, with_step, without_step in item[probe]["probes"]:
            if step:
                is_readable = with_step is not None and without_step is not None
                changed.append(float(with_step != without_step) if is_readable else None)
                is_first_error.append(step == item["first_error"])
                problems.append(item["problem"])
    if not changed:
        return Detection(None, None, 0, 0)
    return detect(changed, is_first_error, problems)


def injection_rises(figures: Figures) -> dict[str, Estimate]:
    """By how much a known error raises U_change: of its whole chain, at its own step, and at the others."""
    estimates: dict[str, Estimate] = {}
    for where in get_args(Where):
        rises: list[float] = []
        for pool in figures["pools"]:
            for injected in pool["injected"]:
                before = change_share(injected["before"], where, injected["step"])
                after = change_share(injected["after"], where, injected["step"])
                if before is not None and after is not None:
                    rises.append(after - before)
        if rises:
            estimates[where] = difference_interval(rises)
    return estimates


def change_share(probes: Sequence[Any], where: Where, wrong_step: int) -> float | None:
    """The share of changed answers among the readable probes of some steps; None where there are none."""
    changes: list[bool] = []
    for step, with_step, without_step in probes:
        is_wrong_step = step == wrong_step
        is_meant = where == "whole chain" or is_wrong_step == (where == "the wrong step")
        if step and is_meant and with_step is not None and without_step is not None:
            changes.append(with_step != without_step)
    return sum(changes) / len(changes) if changes else None


def sign_table(figures: Figures) -> list[dict[str, str]]:
    """A row a probe: change, noise, what is left, and whether the changed step is the wrong one."""
    rows: list[dict[str, str]] = []
    for probe in PROBES:
        estimates = noise_estimates(figures, probe)
        location = locate_first_error(figures, probe)
        rows.append(
            {
                "probe": probe,
                "answers changed": f"{estimates['change']:.2f}",
                "of equal texts (noise)": f"{estimates['noise']:.2f}",
                "above noise, points [95 %]": format_points(estimates["above"]),
                "change at a step against it being the first wrong one: AUROC": format_auroc(
                    location
                ),
            }
        )
    return rows


def injection_table(figures: Figures) -> list[dict[str, str]]:
    """What a known error does to U_change; U_same falls by as much."""
    rows: list[dict[str, str]] = []
    for where, estimate in injection_rises(figures).items():
        rows.append({"where": where, "rise of U_change, points [95 %]": format_points(estimate)})
    return rows


# Confidence.


def confidence_figures(figures: Figures) -> dict[str, float]:
    """The agreement of the chains as a confidence in their majority: ECE, risk, and AURC."""
    confidences: list[float] = []
    correct: list[bool] = []
    for item in all_items(figures):
        if item["agreement"] is not None:
            confidences.append(item["agreement"])
            correct.append(item["right"])
    return {
        "calibration error": calibration_error(confidences, correct),
        "share wrong": 1 - sum(correct) / len(correct),
        "area under risk and coverage": area_under_risk_coverage(confidences, correct),
    }


# What is chosen.


def overlap_table(figures: Figures, names: Sequence[str]) -> list[dict[str, str]]:
    """A row a pair of scores: the Jaccard index of what they choose, and what chance would share; means over seeds."""
    totals: dict[tuple[str, str], list[float]] = {}
    for pool in figures["pools"]:
        selections = {name: pool["chosen"][name] for name in names}
        for overlap in overlaps(selections, len(pool["items"])):
            total = totals.setdefault((overlap.first, overlap.second), [0.0, 0.0, 0.0])
            total[0] += overlap.jaccard
            total[1] += overlap.shared
            total[2] += overlap.by_chance or 0.0
    seeds = len(figures["pools"])
    rows: list[dict[str, str]] = []
    for (first, second), (index, shared, by_chance) in totals.items():
        rows.append(
            {
                "one": first,
                "other": second,
                "Jaccard index": f"{index / seeds:.2f}",
                "shared": f"{shared / seeds:.1f}",
                "by chance": f"{by_chance / seeds:.1f}",
            }
        )
    return rows


def chosen_shares(figures: Figures, name: str) -> dict[str, float]:
    """Of what an arm chose: the share whose chain is wrong, and the mean number of steps."""
    wrong: list[bool] = []
    lengths: list[int] = []
    for pool in figures["pools"]:
        ids = set(pool["chosen"][name])
        for item in pool["items"]:
            if item["problem"] in ids:
                wrong.append(not item["right"])
                lengths.append(item["length"])
    return {"wrong": sum(wrong) / len(wrong), "length": sum(lengths) / len(lengths)}


# Costs, in prompt tokens of the student.


def mean_cost(figures: Figures, name: str) -> float:
    """What was asked under a name in a pool, completion tokens at their price in prompt tokens; a mean over seeds."""
    total = 0.0
    for pool in figures["pools"]:
        calls = pool["costs"][name]
        total += calls["prompt_tokens"] + Settings().completion_price * calls["completion_tokens"]
    return total / len(figures["pools"])


def equal_cost_budget(figures: Figures, name: str, price: float) -> int:
    """B': how many stories a choice by chance annotates at the total cost of this arm, at a price of the teacher."""
    count = figures["annotated"]
    by_chance = total_cost(figures, "random", price)
    # What the arm pays beyond as many annotations by chance; where its own annotations are cheaper, less.
    extra = max(0.0, total_cost(figures, name, price) - by_chance)
    return matched_budget(count, extra, by_chance / count)


def chance_curve(figures: Figures, price: float) -> list[CostPoint]:
    """Accuracy of choices by chance against their total cost: half, as many, twice as many, as many as EGSS's buys."""
    runs = figures["arms"]
    points: list[CostPoint] = []
    for name in ("random-half", "random", "random-double"):
        points.append(CostPoint(name, total_cost(figures, name, price), score(runs[name])))
    # What it annotated was measured in its run, at the price of the method's settings.
    each = total_cost(figures, "random", price) / figures["annotated"]
    cost = each * mean_figure(runs["random-same-cost"], "rows")
    if all(point.cost != cost for point in points):
        points.append(CostPoint("random-same-cost", cost, score(runs["random-same-cost"])))
    return points


def total_cost(figures: Figures, name: str, price: float) -> float:
    """What selecting and annotating cost an arm, at a price of the teacher."""
    selecting = mean_cost(figures, f"selecting, {name}")
    return selecting + price * mean_cost(figures, f"annotating, {name}")


def equal_cost_table(figures: Figures, names: Sequence[str]) -> list[dict[str, str]]:
    """A row an arm: its accuracy, that of chance at the same total cost, and what chance pays for the arm's accuracy.

    Between its points the curve of chance is straight; beyond them it is not known.
    """
    rows: list[dict[str, str]] = []
    for name in names:
        accuracy = score(figures["arms"][name])
        row = {"arm": name, "avg@n": f"{accuracy:.1f}"}
        for price in PRICES[1:]:
            curve = chance_curve(figures, price)
            cost = total_cost(figures, name, price)
            is_covered = (
                min(point.cost for point in curve) <= cost <= max(point.cost for point in curve)
            )
            reached = cost_to_reach(curve, accuracy)
            column = f"at a price of {price:g}"
            row[f"cost {column}"] = f"{cost:,.0f}"
            row[f"chance at that cost, {column}"] = "not covered"
            if is_covered:
                row[f"chance at that cost, {column}"] = f"{interpolate(curve, cost):.1f}"
            row[f"chance's cost of its avg@n, {column}"] = "not reached"
            if reached is not None:
                # Below the cheapest point nothing was measured: what is reached there may be had for less.
                cheapest = min(curve, key=lambda point: point.cost)
                bound = "at most " if cheapest.value >= accuracy else ""
                row[f"chance's cost of its avg@n, {column}"] = f"{bound}{reached:,.0f}"
        rows.append(row)
    return rows


def cost_table(figures: Figures, names: Sequence[str]) -> list[dict[str, str]]:
    """A row an arm: what choosing took, what annotating took, and what chance would have annotated instead."""
    rows: list[dict[str, str]] = []
    for name in names:
        shares = chosen_shares(figures, name)
        row = {
            "arm": name,
            "chosen chains that are wrong": f"{shares['wrong']:.0%}",
            "steps of a chosen chain": f"{shares['length']:.1f}",
            "selecting": f"{mean_cost(figures, f'selecting, {name}'):,.0f}",
            "annotating (price 1)": f"{mean_cost(figures, f'annotating, {name}'):,.0f}",
        }
        for price in PRICES:
            budget = equal_cost_budget(figures, name, price)
            pool = figures["pool"]
            row[f"B' at a price of {price:g}"] = f"{budget}" if budget <= pool else f"> {pool}"
        rows.append(row)
    return rows


def sum_annotations(figures: Figures) -> dict[str, dict[str, float]]:
    """By way of annotating, its figures summed over the pools, with "cost" in prompt tokens of the teacher."""
    sums: dict[str, dict[str, float]] = {}
    for pool in figures["pools"]:
        for name, counts in pool["annotations"].items():
            total = sums.setdefault(name, {})
            for key, value in counts.items():
                total[key] = total.get(key, 0.0) + value
    for total in sums.values():
        completions = Settings().completion_price * total["completion_tokens"]
        total["cost"] = total["prompt_tokens"] + completions
    return sums


def annotation_costs(figures: Figures) -> dict[str, float]:
    """By way of annotating, what a row costs in prompt tokens of the teacher."""
    costs: dict[str, float] = {}
    for name, total in sum_annotations(figures).items():
        costs[name] = total["cost"] / max(1.0, total["rows"])
    return costs


def annotation_table(figures: Figures) -> list[dict[str, str]]:
    """A row a way of annotating, over all pools: what it took, what it revised, what it got wrong."""
    rows: list[dict[str, str]] = []
    for name, total in sum_annotations(figures).items():
        made = max(1.0, total["rows"])
        row = {
            "annotation": name,
            "rows": f"{total['rows']:.0f} of {total['chains']:.0f}",
            "calls a row": f"{total['calls'] / made:.1f}",
            "prompt tokens a row": f"{total['prompt_tokens'] / made:.0f}",
            "completion tokens a row": f"{total['completion_tokens'] / made:.0f}",
            "cost a row": f"{total['cost'] / made:.0f}",
            "revised": "",
            "right answers revised": "",
            "false alarms": "",
            "accepted steps that are wrong": f"{total['misled']:.0f}",
            "gold match": f"{total['gold_match'] / made:.0%}",
        }
        if name != "fresh-chain":
            row["revised"] = f"{total['revised'] / total['chains']:.0%}"
            row["right answers revised"] = (
                f"{total['right_revised']:.0f} of {total['right_chains']:.0f}"
            )
            row["false alarms"] = f"{total['false_alarms']:.0f}"
        rows.append(row)
    return rows
