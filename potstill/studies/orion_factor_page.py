"""The page of `orion-factors`: what the figures of each factor say, chosen by their intervals.

The first level of a factor is its base: every other one is compared with it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import Any, NamedTuple

from potstill.evaluation.intervals import Estimate
from potstill.evaluation.table import format_points
from potstill.studies import arms
from potstill.studies.arms import UNTRAINED
from potstill.studies.chart import Chart, Dot, DotChart, LineChart
from potstill.studies.orion_sentences import format_size
from potstill.studies.study import StudyPage

REWRITING = "How well it rewrites"
SFT = "sft"
AXIS = "points of accuracy"
Z_95 = NormalDist().inv_cdf(0.975)  # two-sided 95 %
SETUP = """\
ORION has its student rewrite the teacher's right chains of thought, shown the question, the chain and wrong attempts of
its own ("errors"), and trains it on the rewrites that are right. Here each *factor* (a section below) is varied by
itself over its *levels* (the rows of its table), and at each level two students are trained: on rewrites made *with
errors* in sight, and on rewrites made *without*.

{train} training and {test} test stories of the built-in world, {n} answers a test story at temperature 0.6; each seed
has training stories of its own, and the tables say how many seeds there are. Every arm takes {steps} steps of 16 rows
at one rate (Muon, 1e-3) on at most {rows} rows, a seeded sample of the same problems in all arms; where an arm has
fewer, the table says so. Nothing was tuned arm by arm: what is read is the difference of two arms of ORION that differ
in nothing but whether the writer sees the student's errors, and whether that difference changes with the factor. The
level that all factors share is the paper's order of the prompt, the world's teacher and student, its stories of 4 to 8
events, and rows that are right in every step. Differences are paired by problem and seed, and both are levels of the
95 % intervals, with one seed the problems alone. Whether a factor changes what errors do is read of the difference
between the leads of two levels, each level's with that of its factor's first, again paired by problem and seed; harder
problems are other ones, so that pair is not. Intervals are not corrected for how many there are: one in twenty would
leave out 0 by chance. Every run folder is one that `potstill report` opens.

The built-in student was taught to rewrite by one prompt, with its errors behind the reference: the other orders are new
to it. The brief teacher is `world:oracle`, a program that is always right and writes in the student's own style. The
warmed students learnt solutions of {warm_rows} other stories before, by `sft_gold`, in {warm_steps} and in
{long_warm_steps} steps. Stories of 2 or 3 events are no easier ones: neither model ever saw so short a story.

**How to read the tables.** `untrained`, `sft` (trained on the teacher's chains as they are), `without errors` and `with
errors` are percent of right answers to the test stories, the mean over seeds. `with errors less without` is what the
sight of errors gains in points, with its 95 % interval; `than at the first level` by how much more than in the table's
first row. `rows` are those learnt, of each of the three; `first rewrites that pass` is the share of first tries at a
rewrite that may become rows.
"""
NOT_RUN = """\
- *Checkpoints of the built-in student during its training.* They are not shipped, and making them again takes about 20
  CPU minutes: `potstill world build student --work WORK`, then `potstill study orion-factors --role
  student=transformers:CHECKPOINT` for each. Harder stories and warmed students stand in for them.
- *The pretrained student.* Each level takes about as long there as all factors here:
  `potstill study orion-arms --world real-small --role student=transformers:CHECKPOINT`, with checkpoints of
  `potstill models warm-up`, or `--role teacher=world:gym-teacher?style=short` for another style.
"""
GOES_ON = "the command of this page measures it, in an estimated 10 CPU minutes a seed in all."


class LevelFigures(NamedTuple):
    """What is read of a level.

    Args:
        label: of the level.
        arms: the names of its setting and of its two arms: equal for levels of two factors that are one measurement.
        with_errors: the runs of the arm with errors.
        without_errors: those of the arm without.
        lead: of the first over the second.
        sft: the runs on the teacher's chains in the same setting.
        untrained: those of the untrained student.
    """

    label: str
    arms: tuple[str, str, str]
    with_errors: Sequence[Mapping[str, Any]]
    without_errors: Sequence[Mapping[str, Any]]
    lead: Estimate
    sft: Sequence[Mapping[str, Any]]
    untrained: Sequence[Mapping[str, Any]]


def describe_factors(figures: Mapping[str, Any]) -> StudyPage:
    """The page of all factors."""
    levels_by_factor: dict[str, list[LevelFigures]] = {}
    missing: list[str] = []
    for factor, levels in figures["factors"].items():
        for level in levels:
            measured = read_level(figures["settings"], level)
            if measured is not None:
                levels_by_factor.setdefault(factor, []).append(measured)
            else:
                missing.append(f"{factor}: {level['label']}")

    # A paragraph, a table and a figure each.
    sections: dict[str, str] = {}
    tables: dict[str, list[dict[str, str]]] = {}
    charts: dict[str, Chart] = {}
    # Of the whole page's figure, with the factor in each label.
    all_dots: list[Dot] = []
    for factor, level_figures in levels_by_factor.items():
        sections[factor] = describe_factor(factor, level_figures)
        tables[f"Figures: {factor[0].lower()}{factor[1:]}"] = [
            level_row(level, level_figures[0]) for level in level_figures
        ]
        dots = [to_dot(level.label, level.lead) for level in level_figures]
        charts[factor] = DotChart(f"{factor}: with errors less without", AXIS, dots, 0.0)
        all_dots += [to_dot(f"{factor}: {level.label}", level.lead) for level in level_figures]
    sections[REWRITING] = describe_rewriting(levels_by_factor)
    if rewriting_points(levels_by_factor):
        charts[REWRITING] = rewriting_chart(levels_by_factor)
    unmeasured = "".join(f"- *{label}.* Not measured yet: {GOES_ON}\n" for label in missing)
    sections["What was not run, and how to"] = NOT_RUN + unmeasured

    sizes = (
        "train",
        "test",
        "n",
        "seeds",
        "steps",
        "rows",
        "warm_rows",
        "warm_steps",
        "long_warm_steps",
    )
    return StudyPage(
        setup=SETUP.format(**{name: figures[name] for name in sizes}),
        tables=tables,
        chart=DotChart("ORION with its errors less ORION without", AXIS, all_dots, 0.0),
        finding=summarise(levels_by_factor, missing),
        sections=sections,
        charts=charts,
    )


def read_level(settings: Mapping[str, Any], level: Mapping[str, str]) -> LevelFigures | None:
    """The figures of a level's arms on the seeds that all of them have; None while there are none."""
    runs = settings[level["setting"]]
    names = (level["own"], level["none"], SFT, UNTRAINED)
    # Differences are paired by seed, so an arm that is further than the others waits for them.
    seeds = min(len(runs.get(name, ())) for name in names)
    if not seeds:
        return None
    with_errors, without_errors, sft, untrained = (runs[name][:seeds] for name in names)
    return LevelFigures(
        label=level["label"],
        arms=(level["setting"], level["own"], level["none"]),
        with_errors=with_errors,
        without_errors=without_errors,
        lead=arms.difference(with_errors, without_errors),
        sft=sft,
        untrained=untrained,
    )


def to_dot(label: str, estimate: Estimate) -> Dot:
    """An estimate in points."""
    return Dot(label, 100 * estimate.value, 100 * estimate.low, 100 * estimate.high)


def level_row(level: LevelFigures, base: LevelFigures) -> dict[str, str]:
    """A line of a factor's table, whose base is its first level."""
    return {
        "level": level.label,
        "seeds": str(len(level.with_errors)),
        "with errors less without": format_points(level.lead),
        "than at the first level": "–" if level is base else format_points(gap(level, base)),
        "with errors less sft": format_points(arms.difference(level.with_errors, level.sft)),
        "untrained": f"{arms.score(level.untrained):.1f}",
        "sft": f"{arms.score(level.sft):.1f}",
        "without errors": f"{arms.score(level.without_errors):.1f}",
        "with errors": f"{arms.score(level.with_errors):.1f}",
        "rows (sft, without, with)": ", ".join(
            f"{arms.mean_figure(runs, 'rows'):.0f}"
            for runs in (level.sft, level.without_errors, level.with_errors)
        ),
        "first rewrites that pass (without, with)": ", ".join(
            format_share(passing_share(runs)) for runs in (level.without_errors, level.with_errors)
        ),
    }


def passing_share(runs: Sequence[Mapping[str, Any]]) -> float | None:
    """How many of the first rewrites passed, over all seeds; None where nothing was rewritten."""
    # Counts are added up before the division: a seed with more rewrites weighs more.
    counted = [run["passing"] for run in runs if "passing" in run]
    whole = sum(total for _, total in counted)
    return sum(part for part, _ in counted) / whole if whole else None


def format_share(share: float | None) -> str:
    """A share in percent."""
    return "–" if share is None else f"{100 * share:.0f} %"


# Paragraphs.


def describe_factor(factor: str, levels: Sequence[LevelFigures]) -> str:
    """What the levels of a factor say of the errors, and whether the factor changes it."""
    sentences = [describe_lead(level) for level in levels]
    sentences.append(describe_change(factor, levels))
    apart = [level for level in levels if rows_differ(level)]
    if apart:
        labels = "; ".join(level.label for level in apart)
        sentences.append(f"The arms of these levels have unequal rows: {labels}.")
    return " ".join(sentences)


def describe_lead(level: LevelFigures) -> str:
    """A level's difference as a sentence."""
    sign = arms.sign(level.lead)
    if sign == "undecided":
        return f"*{level.label}*: no difference is shown ({format_points(level.lead)} points)."
    verb = "gains" if sign == "above" else "costs"
    return f"*{level.label}*: seeing errors {verb} {format_size(level.lead)} points."


def describe_change(factor: str, levels: Sequence[LevelFigures]) -> str:
    """At which levels errors do something else than at the first one."""
    if len(levels) < 2:
        return "Nothing is measured yet that it could be compared with."
    base = levels[0]
    changing = changing_levels(levels)
    if not changing:
        return f"No other level is shown to differ from *{base.label}*."
    sentences: list[str] = []
    for level in changing:
        estimate = gap(level, base)
        better = "better" if estimate.value > 0 else "worse"
        sentences.append(
            f"At *{level.label}* errors do {better} than at *{base.label}*, by {format_size(estimate)} points."
        )
    return " ".join(sentences)


def changing_levels(levels: Sequence[LevelFigures]) -> list[LevelFigures]:
    """The levels at which errors are shown to do something else than at the first one."""
    return [level for level in levels[1:] if arms.sign(gap(level, levels[0])) != "undecided"]


def gap(level: LevelFigures, base: LevelFigures) -> Estimate:
    """How much more errors gain at a level than at another, in [-1, 1].

    Paired by problem and seed where both levels have the same problems and seeds; else the two intervals, as of
    independent samples, are joined by the root of their squares.
    """
    if level.with_errors[0]["problems"] != base.with_errors[0]["problems"] or len(
        level.with_errors
    ) != len(base.with_errors):
        half = (level.lead.half**2 + base.lead.half**2) ** 0.5
        value = level.lead.value - base.lead.value
        return Estimate(value, value - half, value + half)
    return arms.difference(lead_runs(level), lead_runs(base))


def lead_runs(level: LevelFigures) -> list[dict[str, Any]]:
    """The lead of a level on each problem, as the runs of an arm, one a seed."""
    runs: list[dict[str, Any]] = []
    for run, run_without in zip(level.with_errors, level.without_errors, strict=True):
        pairs = zip(run["shares"], run_without["shares"], strict=True)
        leads = [own_share - none_share for own_share, none_share in pairs]
        runs.append({"problems": run["problems"], "shares": leads})
    return runs


def rows_differ(level: LevelFigures) -> bool:
    """Whether the arms of a level learnt unequally many rows, by more than a twentieth."""
    counts = [arms.mean_figure(runs, "rows") for runs in (level.with_errors, level.without_errors)]
    return max(counts) > 1.05 * min(counts)


def rewriting_points(
    levels_by_factor: Mapping[str, Sequence[LevelFigures]],
) -> dict[str, list[tuple[float, float]]]:
    """By factor, how many first rewrites with errors pass in percent, and the lead of the arm in points."""
    points: dict[str, list[tuple[float, float]]] = {}
    for factor, levels in levels_by_factor.items():
        for level in levels:
            share = passing_share(level.with_errors)
            if share is not None:
                points.setdefault(factor, []).append((100 * share, 100 * level.lead.value))
    return points


def rewriting_chart(levels_by_factor: Mapping[str, Sequence[LevelFigures]]) -> LineChart:
    """The leads by how well the student rewrites where it sees errors."""
    return LineChart(
        "With errors less without, by how well it rewrites",
        "first rewrites with errors in sight that pass, %",
        AXIS,
        rewriting_points(levels_by_factor),
        joined=False,
    )


def describe_rewriting(levels_by_factor: Mapping[str, Sequence[LevelFigures]]) -> str:
    """Whether errors cost less where the student rewrites well with them in sight."""
    points: list[tuple[float, float]] = []
    for series in rewriting_points(levels_by_factor).values():
        points += series
    # One measurement can be a level of several factors; it is one point.
    distinct = sorted(set(points))
    if len(distinct) < 3:
        return "Too few levels rewrote anything."
    correlation = pearson([x for x, _ in distinct], [y for _, y in distinct])
    low, high = fisher_interval(correlation, len(distinct))
    conclusion = "so that no relation is shown"
    if low > 0 or high < 0:
        direction = "less" if correlation > 0 else "more"
        conclusion = f"so that seeing errors costs {direction} where the student rewrites better"
    return (
        f"Over the {len(distinct)} levels the share of first rewrites that pass with errors in sight runs from "
        f"{distinct[0][0]:.0f} to {distinct[-1][0]:.0f} %, and the difference from "
        f"{min(y for _, y in distinct):+.1f} to {max(y for _, y in distinct):+.1f} points; their correlation is "
        f"{correlation:+.2f} [{low:+.2f}, {high:+.2f}] (Fisher's interval, as if the levels were independent, which "
        f"they are not: they share students and problems), {conclusion}."
    )


def fisher_interval(correlation: float, count: int) -> tuple[float, float]:
    """The 95 % interval of a correlation of so many pairs, by Fisher's transformation; without spread from -1 to 1.

    tanh(artanh(r) -+ z / sqrt(n - 3)) (R. A. Fisher, On the probable error of a coefficient of correlation, 1921).
    """
    if count <= 3 or abs(correlation) >= 1:
        return -1.0, 1.0
    half = Z_95 / math.sqrt(count - 3)
    centre = math.atanh(correlation)
    return math.tanh(centre - half), math.tanh(centre + half)


def pearson(xs: Sequence[float], ys: Sequence[float]) -> float:
    """Pearson's correlation; 0 where one side does not vary."""
    mean_x, mean_y = sum(xs) / len(xs), sum(ys) / len(ys)
    covariance = sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True))
    spread = sum((x - mean_x) ** 2 for x in xs) * sum((y - mean_y) ** 2 for y in ys)
    return float(covariance / spread**0.5) if spread else 0.0


def summarise(
    levels_by_factor: Mapping[str, Sequence[LevelFigures]], missing: Sequence[str]
) -> str:
    """The finding: where errors help, where they cost, which factors matter, and what is not measured yet."""
    # By setting and arms, so that a measurement which several factors share counts once.
    decisions: dict[tuple[str, str, str], str] = {}
    for levels in levels_by_factor.values():
        for level in levels:
            decisions[level.arms] = arms.sign(level.lead)
    counts = Counter(decisions.values())
    compared = {level.arms for levels in levels_by_factor.values() for level in levels[1:]}
    changing: dict[tuple[str, str, str], str] = {}
    for factor, levels in levels_by_factor.items():
        for level in changing_levels(levels):
            change = f"{factor.lower()}: {level.label}, {format_points(gap(level, levels[0]))}"
            changing.setdefault(level.arms, change)
    if not decisions:
        return "Nothing has been measured yet."
    sentences = [
        f"In {len(decisions)} settings of a small built-in world, students of rewrites that were made with their own "
        f"errors in sight are shown to be better than those made without in {counts['above']}, worse in "
        f"{counts['below']}, and neither in {counts['undecided']}."
    ]
    if missing:
        sentences.insert(0, f"{len(missing)} levels of the factors are not measured yet.")
    if changing:
        sentences.append(
            f"{len(changing)} of the {len(compared)} changes of one factor is shown to change what errors do, in "
            f"points ({'; '.join(changing.values())}); by chance one in twenty would be."
        )
    else:
        sentences.append("No factor is shown to change what errors do.")
    sentences.append("It is no evidence for large models.")
    return " ".join(sentences)
