"""ELAD's intra score: stability or uncertainty, and what EGSS costs. Both signs on the same samples.

Arms of the method `elad` choose from one pool and are trained at equal steps. The pool's scores, costs and annotations
are measured beside them on the same stored samples (`elad_pool.py`), and read in `elad_tables.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from potstill.evaluation.intervals import Estimate
from potstill.evaluation.table import format_points
from potstill.methods.selecting.elad.settings import Selection, Settings
from potstill.records import Progress
from potstill.studies import arms
from potstill.studies.chart import DotChart
from potstill.studies.elad_pool import measure_pool
from potstill.studies.elad_tables import (
    annotation_costs,
    annotation_table,
    chosen_shares,
    confidence_figures,
    cost_table,
    detect_at_equal_length,
    detect_errors,
    detection_table,
    equal_cost_budget,
    equal_cost_table,
    format_plain,
    injection_rises,
    injection_table,
    noise_estimates,
    overlap_table,
    sign_table,
)
from potstill.studies.study import StudyPage, StudySettings

QUESTION = "Do changing or unchanged answers tell what a student has to learn, and is asking worth its cost?"
SIZES: Mapping[str, int] = {
    "pool": 100,
    "annotated": 20,
    "chains": 5,
    "injected": 30,
    "test": 150,
    "n": 1,
    "steps": 40,
}
ROLES: Mapping[str, str] = {"teacher": "world:oracle", "student": "world:student"}

ARMS: Mapping[str, tuple[Mapping[str, Any], float]] = {
    "random-half": ({"arm": "random"}, 0.5),
    "random": ({"arm": "random"}, 1.0),
    "random-double": ({"arm": "random"}, 2.0),
    "random-same-cost": ({"arm": "random-same-cost"}, 1.0),
    "random-same-length": ({"arm": "random-same-length"}, 1.0),
    "inter": ({"arm": "inter"}, 1.0),
    "inter-same-calls": ({"arm": "inter-same-calls"}, 1.0),
    "intra": ({"arm": "intra"}, 1.0),
    "egss-change": ({"arm": "egss"}, 1.0),
    "egss-same": ({"arm": "egss", "sign": "same"}, 1.0),
}
"""The values of the method in each arm, and how many times as many problems as `annotated` it annotates."""

BUYS_MORE = "random-same-cost"  # how many problems it annotates is measured in its run
TRAINING: Mapping[str, Any] = {"optimizer": "muon", "learning_rate": 1e-3, "batch_size": 8}
BASE = "random"
METHOD_SETTINGS: Mapping[str, Any] = {"seed_share": 0.0, "rounds": 1}

SETUP = """\
A pool of {pool} stories of the built-in world a seed, {seeds} seeds, each with a pool and samples of its own. Of each
story {chains} chains of the student at temperature 0.7; the first with the majority's answer stands for it, is probed,
and is what the teacher is shown. The probes: *branch* goes on with and without each step at temperature 0.7, *branch,
greedy* does so at 0, *drop-one* has the answer written behind all steps but one. All scores and arms stand on the same
stored samples. An arm annotates {annotated} stories in one round (`random-half` half of them, `random-double` twice as
many, `random-same-cost` as many as EGSS's cost buys at a price of 10), then trains from the same student for {steps}
steps of 8 rows at a rate of 1e-3 (Muon), and is measured on {test} test stories, answers a story: {n}, temperature 0.6.
Nothing was tuned arm by arm. Equal: stories, samples, steps. Not equal: what selecting took, which has a table of its
own. Intervals of differences between arms take seeds as a level: where few seeds differ much, they are very wide.

**The teacher is `world:oracle`, a program**: its verdicts on steps and its continuations are right, so every accepted
step and every revised answer is right, and no question of a fallible teacher can be asked here. Its tokens are words,
it has no parameters, and so no FLOPs: its price is a dial. Costs are in prompt tokens of the student; a completion
token counts {completion_price:g} of them. Figures on the pool are over the stories of all seeds. U_same is
1 - U_change, so its AUROC is 1 minus that of the change.
"""


def run_study(settings: StudySettings, progress: Progress) -> dict[str, Any]:
    """Train and measure every arm with every seed, then measure each seed's pool on the samples that the arms took."""
    runs = arms.run_seeds(settings, partial(recipe_of_seed, settings), progress)
    selections: dict[str, Selection] = {}
    counts: dict[str, int] = {}
    for name, (values, factor) in ARMS.items():
        if name != BUYS_MORE:
            selections[name] = Selection(
                n=settings.sizes["chains"], settings=Settings(**METHOD_SETTINGS), **values
            )
            counts[name] = round(factor * settings.sizes["annotated"])
    pools: list[dict[str, Any]] = []
    for seed in range(settings.seeds):
        progress("pools", seed, settings.seeds)
        pools.append(measure_pool(settings, seed, selections, counts))
    progress("pools", settings.seeds, settings.seeds)
    return {"arms": runs, "pools": pools, "seeds": settings.seeds, **settings.sizes}


def recipe_of_seed(settings: StudySettings, seed: int) -> dict[str, Any]:
    """The recipe of one seed: a pool of its own, the same test stories."""
    sizes = settings.sizes
    recipe_arms: dict[str, Any] = {}
    for name, (values, factor) in ARMS.items():
        share = factor * sizes["annotated"] / sizes["pool"]
        recipe_arms[name] = {"method": "elad", "values": {**values, "annotated": share}}
    return {
        "arms": recipe_arms,
        "values": {"n": sizes["chains"], "settings": dict(METHOD_SETTINGS)},
        "training": {**TRAINING, "max_steps": sizes["steps"]},
        "roles": dict(settings.roles),
        "problems": f"world:story?split=train&seed={seed}&size={sizes['pool']}",
        "evaluate": {
            "problems": f"world:story?split=test&size={sizes['test']}",
            "n": sizes["n"],
            "sampling": {"temperature": 0.6, "max_new_tokens": 160},
        },
        "overlap_n": 0,
    }


def describe_study(figures: Mapping[str, Any]) -> StudyPage:
    """Setup, tables, chart, and what came out."""
    runs = figures["arms"]
    sizes = {name: figures[name] for name in (*SIZES, "seeds")}
    compared = [name for name in ARMS if name != BUYS_MORE and ARMS[name][1] == 1.0]
    return StudyPage(
        setup=SETUP.format(completion_price=Settings().completion_price, **sizes),
        tables={
            "Arms": arms.arms_table(runs, base=BASE),
            "What the scores detect": detection_table(figures),
            "Change and noise": sign_table(figures),
            "A known error": injection_table(figures),
            "What the arms chose, and at what cost": cost_table(figures, compared),
            "At equal total cost": equal_cost_table(figures, compared),
            "Overlap of what was chosen": overlap_table(figures, compared),
            "Annotating the whole pool": annotation_table(figures),
        },
        chart=DotChart(
            f"Accuracy against the choice by chance of {figures['annotated']}",
            "points of accuracy",
            arms.arm_dots(runs, base=BASE),
            0.0,
        ),
        finding=write_finding(figures),
    )


def write_finding(figures: Mapping[str, Any]) -> str:
    """What came out, as one paragraph that the intervals choose."""
    runs = figures["arms"]
    change, same, inter = "EGSS (change)", "EGSS (same)", "entropy alone"
    chance = "chance"
    sentences = [
        *describe_sign(figures),
        *describe_noise(figures),
        describe_choice(figures),
        arms.describe_difference(change, same, lead(runs, "egss-change", "egss-same")),
        arms.describe_difference(change, inter, lead(runs, "egss-change", "inter")),
        arms.describe_difference(
            change, f"{chance} with as many stories", lead(runs, "egss-change", BASE)
        ),
        arms.describe_difference(
            change, f"{chance} at equal total cost", lead(runs, "egss-change", BUYS_MORE)
        ),
        *describe_costs(figures),
        "The teacher is a program that is never wrong and the world small: this is no evidence for fallible teachers, "
        "or for large models.",
    ]
    return " ".join(sentences)


def describe_choice(figures: Mapping[str, Any]) -> str:
    """How many of the chosen chains are wrong."""
    shares: list[str] = []
    for name in ("egss-change", "egss-same", "inter", BASE):
        shares.append(f"{name} {chosen_shares(figures, name)['wrong']:.0%}")
    return f"Of the chains that are chosen, so many are wrong: {', '.join(shares)}."


def lead(runs: arms.RunsByArm, arm: str, base: str) -> Estimate:
    """The difference of two arms, paired by problem and seed."""
    return arms.difference(runs[arm], runs[base])


def describe_sign(figures: Mapping[str, Any]) -> list[str]:
    """Which sign tells a wrong answer, by probe; what length has to do with it; and what a known error raises."""
    detections = detect_errors(figures)
    at_equal_length = detect_at_equal_length(figures)
    sentences: list[str] = []
    for probe in ("branch", "drop-one"):
        auroc = detections[f"change: {probe}"]["wrong answer"].auroc
        if auroc is None:
            continue
        sentences.append(f"Probed by {probe}, {telling_sign(auroc)} (AUROC {format_plain(auroc)}).")
        within = at_equal_length[f"change: {probe}"]
        if within is not None and telling_sign(within) != telling_sign(auroc):
            sentences.append(
                f"That is length: among chains with as many steps {telling_sign(within)} ({format_plain(within)})."
            )
    shown = []
    for name in ("inter", "inter, as many calls as branch", "noise: branch"):
        auroc = detections[name]["wrong answer"].auroc
        if auroc is not None:
            shown.append(f"{name} {format_plain(auroc)}")
    sentences.append(f"Beside them, from answers alone: {'; '.join(shown)}.")
    confidence = confidence_figures(figures)
    sentences.append(
        f"As a confidence the share of votes has an ECE of {confidence['calibration error']:.2f}, and answering the "
        f"surest first takes the risk from {confidence['share wrong']:.2f} to a mean of "
        f"{confidence['area under risk and coverage']:.2f}."
    )
    rises = injection_rises(figures)
    if "whole chain" in rises:
        rise = rises["whole chain"]
        names = {"above": "the change", "below": "the equality", "undecided": "neither sign"}
        sentences.append(
            f"With a known error in the chain {names[arms.sign(rise)]} rises ({format_points(rise)} points)."
        )
    return sentences


def telling_sign(auroc: Estimate) -> str:
    """Which answers go with wrong chains, by an AUROC of the change."""
    if auroc.low > 0.5:
        return "changed answers go with wrong ones"
    if auroc.high < 0.5:
        return "unchanged answers go with wrong ones"
    return "neither sign tells wrong answers from right ones"


def describe_noise(figures: Mapping[str, Any]) -> list[str]:
    """Whether a step's absence changes more answers than asking twice does."""
    estimates = noise_estimates(figures, "branch")
    points = format_points(estimates["above"])
    sampled = (
        f"{estimates['change']:.0%} of the answers change without a step, {estimates['noise']:.0%} when the same text "
        "is continued twice"
    )
    if arms.sign(estimates["above"]) == "above":
        return [f"Of this not all is noise: {sampled} ({points} points)."]
    sentences = [
        f"Sampled at 0.7 it is not shown to be more than noise: {sampled} ({points} points)."
    ]
    detections = detect_errors(figures)
    change = detections["change: branch"]["wrong answer"].auroc
    entropy = detections["inter, as many calls as branch"]["wrong answer"].auroc
    if change is not None and entropy is not None and entropy.high >= change.value:
        sentences.append(
            "So what the branch measures here is the student's uncertainty, and as many plain chains measure it as "
            "well."
        )
    return sentences


def describe_costs(figures: Mapping[str, Any]) -> list[str]:
    """What EGSS would have bought instead, and what the ways of annotating cost a row."""
    count = figures["annotated"]
    budgets = [equal_cost_budget(figures, "egss-change", price) for price in (10.0, 100.0)]
    shown = [str(budget) if budget < figures["pool"] else "the whole pool" for budget in budgets]
    costs = annotation_costs(figures)
    listed = ", ".join(f"{name} {cost:.0f}" for name, cost in costs.items())
    cheapest = min(costs, key=lambda name: costs[name])
    return [
        f"For what EGSS takes beside {count} annotations, chance annotates {shown[0]} stories where a teacher's token "
        f"costs 10 of the student's, and {shown[1]} where it costs 100.",
        f"An annotated row costs the teacher, in prompt tokens: {listed}; the cheapest is {cheapest}.",
    ]
