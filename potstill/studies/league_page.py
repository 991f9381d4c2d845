"""The page of the league: one table of all methods, what they cost, and what the intervals allow to say."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from potstill.evaluation.intervals import Estimate
from potstill.evaluation.table import format_points
from potstill.studies import arms
from potstill.studies.chart import DotChart
from potstill.studies.league_entries import PROGRAM
from potstill.studies.league_run import BATCH, TRIALS, trial_name
from potstill.studies.page import LINE_WIDTH
from potstill.studies.study import StudyPage

Figures = Mapping[str, Any]
SHOWN_DOTS = 40  # of a figure that still can be read
PHASES = ("collection", "training")

SETUP = """\
{about} Every method of the catalogue is run on the same {train} training stories a seed (other ones with each seed),
by the same student, with `world:teacher` in the role of every teacher. Equal are: the problems; the optimizer (Muon)
and its {steps} steps of {batch} rows, over all trainings of a method together; {trials}; and the budget: about
{tokens:,} tokens, read and written by all models together, while rows are collected (a method that needs more, by
what its trial used, gets fewer problems). Then each is measured on {test} test stories with {n} answer(s) at
temperature 0.6, with {seeds} seed(s). Intervals are of the paired difference from the untrained student, at 95 %,
over problems and seeds; they are not corrected for the number of methods, so one in twenty of those without any
effect leaves out 0.

What is not equal, and stands in the table: rows, tokens that are learnt, calls, and tokens that are written in
training (rewards and on-policy divergences). Values are the methods' defaults, whatever their authors' models were,
but for those that are named below; prompts too, so a method whose prompts the built-in models were never taught finds
few rows, or none. Marks behind a name: † a program (`world:oracle`, which follows prompts and makes no mistake of its
own) plays a role, ‡ another model than the student is asked at test time too, and the score is of both. **This is a
league of what the built-in world can carry, and no ranking of papers.** Nothing was tuned but the rate.
"""
ABOUT = {
    "whole": "**The built-in world's stories.** Teacher and student are checkpoints of 0.86 million parameters.",
    "short": "**The built-in world's stories, in short**: no tuning and half the steps. Teacher and student are "
    "checkpoints of 0.86 million parameters.",
}


def describe_league(figures: Mapping[str, Figures]) -> StudyPage:
    """The page of all worlds that have figures; the first one's finding and figure."""
    worlds = list(figures)
    tables: dict[str, list[dict[str, str]]] = {}
    for world in worlds:
        tables[table_title(world)] = league_table(figures[world])
    first = figures[worlds[0]]
    return StudyPage(
        setup="\n".join(describe_setup(world, figures[world]) for world in worlds),
        tables=tables,
        chart=lead_chart(first),
        finding=describe_finding(first),
        sections={
            "Not in the table": describe_missing(first),
            "Who plays what": describe_roles(first),
        },
    )


def table_title(world: str) -> str:
    """The heading of a world's table."""
    return "League" if world == "whole" else "League, short form"


def describe_setup(world: str, figures: Figures) -> str:
    """How a world's league was made."""
    sizes = figures["sizes"]
    rates = " or ".join(f"{trial['learning_rate']:g}" for trial in TRIALS[: sizes["trials"]])
    trials = f"the rate, {rates}, the better one on {sizes['dev']} dev stories"
    if sizes["trials"] < 2:
        trials = f"the rate, {rates}"
    text = SETUP.format(
        **{**sizes, "trials": trials},
        about=ABOUT[world],
        batch=BATCH,
        seeds=figures["seeds"],
    )
    paragraphs = [fill_lines(paragraph) for paragraph in text.split("\n\n")]
    return "\n\n".join(paragraphs)


def fill_lines(paragraph: str) -> str:
    """A paragraph in lines of the page's width."""
    return textwrap.fill(" ".join(paragraph.split()), LINE_WIDTH, break_on_hyphens=False)


def ranked(figures: Figures) -> list[tuple[str, Figures, Estimate]]:
    """The methods that were measured, with their lead over the untrained student, the highest first."""
    entries: list[tuple[str, Figures, Estimate]] = []
    untrained = figures["untrained"]
    for name, method in figures["methods"].items():
        runs = method["runs"]
        if runs and not method["stopped"]:
            # While the study runs, some methods have more seeds than others.
            entries.append((name, method, arms.difference(runs, untrained[: len(runs)])))
    return sorted(entries, key=lambda entry: -entry[2].value)


def league_table(figures: Figures) -> list[dict[str, str]]:
    """A row a method, the untrained student among them by its score."""
    untrained = figures["untrained"]
    rows: list[dict[str, str]] = []
    base = {
        "method": "*untrained*",
        "family": "",
        "avg@n": f"{arms.score(untrained):.1f}" if untrained else "",
        "vs untrained": "",
        "tokens an answer": f"{arms.mean_figure(untrained, 'tokens'):.0f}" if untrained else "",
    }
    for name, method, lead in ranked(figures):
        if lead.value < 0 and base not in rows:
            rows.append(base)
        rows.append(method_row(name, method, lead, figures))
    if base not in rows:
        rows.append(base)
    columns = list(rows[0] if len(rows[0]) > len(base) else rows[-1])
    return [{column: row.get(column, "") for column in columns} for row in rows]


def method_row(name: str, method: Figures, lead: Estimate, figures: Figures) -> dict[str, str]:
    """What the table says of a method."""
    runs = method["runs"]
    row = {
        "method": marked_name(name, method),
        "family": method["family"],
        "avg@n": f"{arms.score(runs):.1f}",
        "vs untrained": format_points(lead),
        "tokens an answer": f"{arms.mean_figure(runs, 'tokens'):.0f}",
        "seeds": ", ".join(f"{value:.0f}" for value in arms.seed_scores(runs)),
        "rate": f"{TRIALS[method['chosen']]['learning_rate']:g}" if runs[0].get("steps") else "",
        "rows": format_mean(runs, "rows"),
        "steps": format_mean(runs, "steps"),
        "tokens learnt": format_mean(runs, "loss_tokens"),
    }
    problems = figures["sizes"]["train"]
    for role in ("teacher", "student"):
        calls = [run["calls"].get(role, 0) for run in runs]
        row[f"{role} calls a problem"] = f"{sum(calls) / len(calls) / problems:.1f}"
    others = [sum(calls_of_others(run)) for run in runs]
    row["other calls a problem"] = f"{sum(others) / len(others) / problems:.1f}"
    for phase in PHASES:
        tokens = [run["tokens_by_phase"].get(phase, 0) for run in runs]
        row[f"tokens in {phase}"] = f"{sum(tokens) / len(tokens):,.0f}"
    row["CPU s"] = f"{sum(method['cpu'].values()):.0f}"
    return row


def marked_name(name: str, method: Figures) -> str:
    """A method's name with the marks that its score must be read with."""
    specs = " ".join(map(str, method["roles"].values()))
    program = " †" if PROGRAM in specs else ""
    helper = " ‡" if any(run["helpers"] for run in method["runs"]) else ""
    return f"{name}{program}{helper}"


def calls_of_others(run: Figures) -> list[int]:
    """The calls of the roles that are neither teacher nor student."""
    return [count for role, count in run["calls"].items() if role not in ("teacher", "student")]


def format_mean(runs: Sequence[Figures], name: str) -> str:
    """The mean of a figure over the seeds; 0 of a method that trains nothing."""
    return f"{sum(run.get(name, 0) for run in runs) / len(runs):,.0f}"


def lead_chart(figures: Figures) -> DotChart:
    """Every method's lead over the untrained student in points."""
    dots = arms.effect_dots({name: lead for name, _, lead in ranked(figures)})
    if len(dots) > 2 * SHOWN_DOTS:
        dots = dots[:SHOWN_DOTS] + dots[-SHOWN_DOTS:]
    return DotChart(
        "Lead over the untrained student", "points, with 95 % intervals", dots, reference=0.0
    )


def describe_finding(figures: Figures) -> str:
    """How many methods are shown to gain or to lose, and whether the first is shown to be ahead of the next ones."""
    entries = ranked(figures)
    if not entries:
        return "Nothing has been measured yet."
    signs = [arms.sign(lead) for _, _, lead in entries]
    seeds = figures["seeds"]
    sentences = [
        f"Of {len(figures['methods'])} methods {len(entries)} were measured: {signs.count('above')} are above the "
        f"untrained student, {signs.count('below')} below it, and of {signs.count('undecided')} neither is shown.",
    ]
    unfinished = [name for name, method, _ in entries if len(method["runs"]) < seeds]
    if unfinished:
        sentences.append(f"{len(unfinished)} of them have fewer than {seeds} seeds yet.")
    # Who is helped at test time does not answer alone.
    alone = [entry for entry in entries if not any(run["helpers"] for run in entry[1]["runs"])]
    if not alone:
        return " ".join(sentences)
    first, method, lead = alone[0]
    sentences.append(
        f"Of those whose student answers alone the first is {marked_name(first, method)} "
        f"({format_points(lead)} points)."
    )
    level = 0
    for _, other, _ in alone[1:]:
        seeds_of_both = min(len(method["runs"]), len(other["runs"]))
        pair = (method["runs"][:seeds_of_both], other["runs"][:seeds_of_both])
        if arms.sign(arms.difference(*pair)) == "above":
            break
        level += 1
    if level:
        sentences.append(f"It is not shown to be ahead of the {level} that follow.")
    else:
        sentences.append("It is shown to be ahead of the next one.")
    sentences.append("Ranks within overlapping intervals mean nothing.")
    return " ".join(sentences)


def describe_missing(figures: Figures) -> str:
    """The methods that were not measured, each with the reason."""
    lines: list[str] = []
    for name, method in figures["methods"].items():
        if method["left_out"]:
            lines.append(f"- `{name}` is left out: {method['left_out']}.")
        elif method["stopped"]:
            # What was found; what to do about it is for who runs it.
            reason = method["stopped"].splitlines()[0].replace(trial_name(0), "it")
            lines.append(f"- `{name}` stopped: {reason}")
        elif not method["runs"]:
            lines.append(f"- `{name}` has not been measured yet.")
    return "\n".join(lines) or "Every method was measured."


def describe_roles(figures: Figures) -> str:
    """The methods whose roles are not all played by the study's teacher and student."""
    lines: list[str] = []
    for name, method in figures["methods"].items():
        if method["roles"]:
            parts: list[str] = []
            for role, model in method["roles"].items():
                models = model if isinstance(model, list) else [model]
                parts.append(f"{role} is " + " and ".join(f"`{spec}`" for spec in models))
            lines.append(f"- `{name}`: {', '.join(parts)}")
    return "\n".join(lines) or "All of them by the study's teacher and student."
