"""The page of `orion-arms`: what the figures of its worlds say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

from potstill.evaluation.table import format_points
from potstill.studies import arms
from potstill.studies.chart import Dot, DotChart
from potstill.studies.orion_leads import WorldPage, judge_claim, kind_of, lead, other_arms
from potstill.studies.orion_sentences import summary_sentences, write_finding
from potstill.studies.orion_worlds import (
    ARMS,
    OWN,
    REGIMES,
    UNTRAINED,
    WRITTEN_ARMS,
    Regime,
    World,
)
from potstill.studies.study import StudyPage

NONE = "–"
CPU_MINUTES = "CPU minutes, at least"  # what a kill without a warning cost is not counted
SETUP = """\
ORION has its student rewrite the teacher's right chains of thought, shown the question, the chain and wrong attempts of
its own, and trains it on the rewrites that pass: this arm is called *own*. *Baselines* are other methods; *controls*
are ORION with one thing changed. What each arm learns from stands in the tables "Rows".

Every arm starts from the same student, teacher and training problems, and is measured on the same test problems.
*Matched* arms learn equally many rows in equally many steps: as many rows as the smallest arm has, a seeded sample with
as many problems as possible and of the same problems in all arms (`training.max_train_samples`); an arm with fewer rows
than `min_rows` is left out and named. *Unmatched* arms learn all their rows, in the steps that these take. Every arm is
tuned on a dev split with the same trials, on seed 0; the best one is then used with every seed. Each seed has training
problems, samples and an order of rows of its own. Differences are paired by problem and seed, and both are levels of
the 95 % intervals. All numbers come from the run folders of the study, each of which `potstill report` opens.

**How to read the tables.** `avg@n` is the percent of right answers, the mean over problems, n answers each, and seeds;
`every step` counts those of them in which no step is wrong; `pass@n` the problems with one right answer of n. `own
less` an arm is ORION's lead over it in points, paired, and `over 2 points` whether the whole interval is above 2
("yes"), not above it ("no"), or neither ("open"). `tokens an answer` is what was written for one, by EULER its errors
too, which the answers of a problem share. `rows`, `steps` and `tokens learnt` are those of all stages of an arm: EULER
trains its error model first, so it has more of each than it is matched with. `perplexity before` is that of the rows
under the untrained student, near 1 for its own words; `tokens written for it` are those of all calls that made the
rows. In the tables "Rows", `copied` is the share of a row's runs of eight words that stand in the other text,
`P(answer) before the last line` how probable the untrained student finds the gold answer behind a row without its last
line, and `kept of never solved` how many of the problems that the untrained student solved in none of its samples have
a row.
"""


def describe_worlds(worlds: Mapping[str, tuple[World, Mapping[str, Any]]]) -> StudyPage:
    """The page of all worlds, by name."""
    pages = [WorldPage(world, figures) for world, figures in worlds.values()]
    tables: dict[str, Sequence[Mapping[str, str]]] = {}
    for page in pages:
        tables |= score_tables(page)
    for page in pages:
        tables |= work_tables(page)
    # What is the same in all worlds, then what is particular to each.
    setup = [SETUP]
    dots: list[Dot] = []
    for page in pages:
        setup.append(describe_setup(page))
        dots += lead_dots(page)
    if not dots:
        dots.append(Dot("nothing is measured yet", 0.0, 0.0, 0.0))
    # What somebody saw in the rows comes before the rows themselves.
    sections: dict[str, str] = {}
    for page in pages:
        if page.figures["reading"]:
            sections[f"What the rows say: {page.world.title}"] = page.figures["reading"]
    for page in pages:
        if page.figures["rows"]:
            sections[f"Ten rows of each arm: {page.world.title}"] = shown_rows(page)
    sentences = summary_sentences(pages)
    return StudyPage(
        setup="\n\n".join(text.strip() for text in setup),
        tables=tables,
        chart=DotChart(
            "ORION less each arm, at equal rows and steps", "points of accuracy", dots, 0.0
        ),
        finding=write_finding(sentences),
        sections=sections,
        summary={"sentences": sentences, "leads": lead_summary(pages)},
    )


def score_tables(page: WorldPage) -> dict[str, list[dict[str, str]]]:
    """What came out in a world: ORION less each arm, and the arms."""
    tables: dict[str, list[dict[str, str]]] = {}
    for regime in page.world.regimes:
        leads = lead_table(page, regime)
        if leads:
            tables[f"ORION less each arm: {page.title(regime)}"] = leads
        if page.cells(regime):
            tables[f"Arms: {page.title(regime)}"] = arms_table(page, regime)
    return tables


def work_tables(page: WorldPage) -> dict[str, list[dict[str, str]]]:
    """How it came about in a world: the trials, the rows, the cost."""
    tables: dict[str, list[dict[str, str]]] = {}
    for regime in page.world.regimes:
        if page.figures["trials"].get(regime):
            tables[f"Trials on the dev split: {page.title(regime)}"] = trials_table(page, regime)
    if page.figures["rows"]:
        tables[f"Rows: {page.world.title}"] = rows_table(page)
    if page.figures["cpu"]:
        tables[f"Cost: {page.world.title}"] = cost_table(page)
    return tables


def describe_setup(page: WorldPage) -> str:
    """What is particular to a world: its models, sizes, trials, and what is not there yet."""
    sizes = page.figures["sizes"]
    parts = [
        page.world.about,
        f"{sizes['train']} training, {sizes['dev']} dev and {sizes['test']} test problems, "
        f"{page.figures['seeds']} seeds; "
        f"{sizes['samples']} samples of the student a training problem, "
        f"{describe_answers(sizes['n'])} a test problem and {sizes['dev_n']} a dev problem at temperature "
        f"{page.world.sampling['temperature']}; matched trainings take "
        f"{sizes['steps']} steps of {page.world.training['batch_size']} rows.",
    ]
    matched_rows = page.figures["matched_rows"]
    if matched_rows:
        counts = ", ".join(str(count) for count in matched_rows.values())
        parts.append(f"Rows of a matched arm, by seed: {counts}.")
    left_out = describe_left_out(page)
    if left_out:
        parts.append(left_out)
    missing = describe_missing(page)
    if missing:
        parts.append(f"**Not measured yet:** {', '.join(missing)}.")
    return " ".join(parts)


def describe_answers(count: int) -> str:
    """How many answers, as words."""
    return "1 answer" if count == 1 else f"{count} answers"


def describe_missing(page: WorldPage) -> list[str]:
    """The missing cells, those of a regime of which nothing is measured in one word."""
    parts: list[str] = []
    for regime in page.world.regimes:
        if not page.cells(regime):
            parts.append(f"everything {regime}")
    for cell in missing_cells(page):
        if page.cells(cell.regime):
            parts.append(f"{cell.arm} {cell.regime} with seed {cell.seed}")
    return parts


def describe_left_out(page: WorldPage) -> str:
    """Which arms have too few rows to be matched, with how many they have."""
    least = page.figures["sizes"]["min_rows"]
    parts: list[str] = []
    for seed, counts in page.figures["row_counts"].items():
        for name, count in counts.items():
            if count < least:
                parts.append(f"{name} ({count} rows with seed {seed})")
    if not parts:
        return ""
    return f"Left out of the matched comparison, with fewer than {least} rows: {', '.join(parts)}."


class Cell(NamedTuple):
    """A place in a world's grid."""

    regime: Regime
    arm: str
    seed: int


def missing_cells(page: WorldPage) -> list[Cell]:
    """The cells of the grid that are not measured; arms that were left out are none."""
    missing: list[Cell] = []
    for regime in page.world.regimes:
        cells = page.cells(regime)
        for name in [UNTRAINED, *page.world.arms]:
            if is_left_out(page, regime, name):
                continue
            for seed in range(page.figures["seeds"]):
                if str(seed) not in cells.get(name, {}):
                    missing.append(Cell(regime, name, seed))
    return missing


def is_left_out(page: WorldPage, regime: Regime, arm: str) -> bool:
    """Whether an arm has too few rows to be matched with some seed."""
    if regime != "matched" or arm == UNTRAINED:
        return False
    least = page.figures["sizes"]["min_rows"]
    return any(counts.get(arm, least) < least for counts in page.figures["row_counts"].values())


# Differences.


def lead_table(page: WorldPage, regime: Regime) -> list[dict[str, str]]:
    """A row an arm: ORION's lead over it, in answers and in steps, and what that says of the claim."""
    cells = page.cells(regime)
    rows: list[dict[str, str]] = []
    for name in other_arms(page, regime):
        # Of the same answers: right, right in every step, and any of them right.
        answers = lead(cells, OWN, name)
        if answers is None:
            continue
        steps = lead(cells, OWN, name, "step_shares")
        passes = lead(cells, OWN, name, "passes")
        rows.append(
            {
                "own less": name,
                "kind": kind_of(name),
                "answers, points [95 %]": format_points(answers),
                "every step, points": format_points(steps) if steps is not None else NONE,
                f"pass@{page.figures['sizes']['n']}": (
                    format_points(passes) if passes is not None else NONE
                ),
                "over 2 points": judge_claim(answers),
            }
        )
    return rows


def lead_dots(page: WorldPage) -> list[Dot]:
    """ORION's lead over each matched arm in points."""
    regime = page.world.regimes[0]
    cells = page.cells(regime)
    dots: list[Dot] = []
    for name in other_arms(page, regime):
        estimate = lead(cells, OWN, name)
        if estimate is not None:
            label = f"{page.world.title}: own - {name}"
            dots.append(Dot(label, *(100 * end for end in estimate)))
    return dots


def lead_summary(pages: Sequence[WorldPage]) -> list[dict[str, Any]]:
    """ORION's lead over each arm, by world and regime, in points, for other pages and programs."""
    entries: list[dict[str, Any]] = []
    for page in pages:
        for regime in page.world.regimes:
            for name in other_arms(page, regime):
                estimate = lead(page.cells(regime), OWN, name)
                if estimate is None:
                    continue
                points = [round(100 * end, 1) for end in estimate]
                entries.append(
                    {
                        "world": page.world.title,
                        "regime": regime,
                        "own_less": name,
                        "points": points[0],
                        "low": points[1],
                        "high": points[2],
                        "over_2_points": judge_claim(estimate),
                    }
                )
    return entries


# Tables.


def arms_table(page: WorldPage, regime: Regime) -> list[dict[str, str]]:
    """A row an arm: its scores, what it learnt, and what that took."""
    rows: list[dict[str, str]] = []
    cells = page.cells(regime)
    n = page.figures["sizes"]["n"]
    for name in [UNTRAINED, *page.world.arms]:
        if name not in cells:
            continue
        runs = list(cells[name].values())
        row = {
            "arm": name,
            f"avg@{n}": f"{arms.score(runs):.1f}",
            "seeds": ", ".join(f"{value:.1f}" for value in arms.seed_scores(runs)),
            "every step": format_share(runs, "step_shares"),
            f"pass@{n}": format_share(runs, "passes"),
            "vs untrained": NONE,
            "tokens an answer": f"{arms.mean_figure(runs, 'tokens'):.0f}",
            "unparsed": f"{100 * arms.mean_figure(runs, 'unparsed'):.1f} %",
            "rows": NONE,
            "steps": NONE,
            "tokens learnt": NONE,
            "perplexity before": NONE,
            "tokens written for it": arms.format_by_role(runs, "written_tokens") or NONE,
            "seconds of training": NONE,
        }
        # Only what was trained has rows, steps and a lead.
        if "rows" in runs[0]:
            estimate = lead(cells, name, UNTRAINED)
            row["vs untrained"] = format_points(estimate) if estimate is not None else NONE
            row["rows"] = f"{arms.mean_figure(runs, 'rows'):,.0f}"
            row["steps"] = f"{arms.mean_figure(runs, 'steps'):,.0f}"
            row["tokens learnt"] = f"{arms.mean_figure(runs, 'loss_tokens'):,.0f}"
            row["seconds of training"] = f"{arms.mean_figure(runs, 'train_seconds'):.0f}"
            if all("perplexity" in run for run in runs):
                row["perplexity before"] = f"{arms.mean_figure(runs, 'perplexity'):.2f}"
        rows.append(row)
    return rows


def format_share(runs: Sequence[Mapping[str, Any]], shares: str) -> str:
    """The mean of a measure over problems and seeds, in percent."""
    values: list[float] = []
    for run in runs:
        if any(share is None for share in run[shares]):
            return NONE
        values.append(100 * sum(run[shares]) / len(run[shares]))
    return f"{sum(values) / len(values):.1f}"


def trials_table(page: WorldPage, regime: Regime) -> list[dict[str, str]]:
    """A row an arm: the score of each trial on the dev split, the chosen one in bold."""
    rows: list[dict[str, str]] = []
    trials = page.world.trials[regime]
    for name, scores in page.figures["trials"][regime].items():
        row = {"arm": name}
        for number, trial in enumerate(trials):
            text = NONE
            if number < len(scores):
                text = f"{scores[number]:.1f}"
            if page.figures["choices"][regime].get(name) == number:
                text = f"**{text}**"
            row[describe_trial(trial)] = text
        rows.append(row)
    return rows


def describe_trial(trial: Mapping[str, Any]) -> str:
    """The settings of a trial, short."""
    words = {"learning_rate": "rate", "num_train_epochs": "epochs", "max_steps": "steps"}
    parts: list[str] = []
    for name, value in trial.items():
        text = f"{value:g}" if isinstance(value, int | float) else str(value)
        parts.append(f"{words.get(name, name)} {text}")
    return ", ".join(parts)


def rows_table(page: WorldPage) -> list[dict[str, str]]:
    """A row an arm: what its rows are made of, with seed 0."""
    rows: list[dict[str, str]] = []
    probabilities = page.figures["answer_probability"]
    for name, figures in page.figures["rows"].items():
        counts = [str(by_arm.get(name, NONE)) for by_arm in page.figures["row_counts"].values()]
        row = {
            "arm": name,
            "learns from": ARMS[name].learns,
            "rows by seed": ", ".join(counts),
            "words a row": format_number(figures["words"], ".0f"),
            "without a step": format_percent(figures["stepless"]),
            "copied from the teacher": format_percent(figures["copied"]["teacher"]),
            "teacher's words in it": format_percent(figures["chain_recall"]),
            "copied from shown errors": format_percent(figures["copied"]["errors"]),
            "P(answer) before the last line": format_number(probabilities.get(name), ".2f"),
        }
        for difficulty, (covered, total) in figures["kept"].items():
            row[f"kept of {difficulty} solved"] = f"{covered} of {total}"
        rows.append(row)
    return rows


def format_number(value: float | None, form: str) -> str:
    """A number, or a dash where there is none."""
    return NONE if value is None else format(value, form)


def format_percent(value: float | None) -> str:
    """A share in percent, or a dash where there is none."""
    return NONE if value is None else f"{value:.0%}"


def cost_table(page: WorldPage) -> list[dict[str, str]]:
    """CPU seconds by run folder, and what the cells that are missing would take at the same price."""
    rows: list[dict[str, str]] = []
    total = 0.0
    for name, seconds in page.figures["cpu"].items():
        total += seconds
        rows.append({"run folder": name, CPU_MINUTES: f"{seconds / 60:.1f}"})
    rows.append({"run folder": "all so far", CPU_MINUTES: f"{total / 60:.1f}"})
    # What is missing, and the whole grid of all arms, at the mean price of the cells that are measured.
    measured = page.count_measured()
    if not measured:
        return rows
    counts = {"missing": len(missing_cells(page))}
    if set(page.world.arms) <= set(WRITTEN_ARMS):
        of_all = (1 + len(WRITTEN_ARMS)) * len(REGIMES) * page.figures["seeds"]
        counts["of all arms, matched and unmatched"] = of_all
    for name, count in counts.items():
        minutes = total * count / measured / 60
        if count:
            rows.append(
                {"run folder": f"{count} cells {name}, estimated", CPU_MINUTES: f"{minutes:.0f}"}
            )
    return rows


def shown_rows(page: WorldPage) -> str:
    """Ten rows of each arm of seed 0, to be read; what they are is model output, shown as text."""
    parts: list[str] = []
    for name, figures in page.figures["rows"].items():
        lines = [f"<details><summary>{name}: {ARMS[name].learns}</summary>", ""]
        for number, row in enumerate(figures["shown"], 1):
            lines += [f"{number}. {as_text(row['question'])} **{as_text(row['answer'])}**<br>"]
            # Where the learner is asked more than the question, that is part of the row.
            if row.get("prompt"):
                lines += [f"   asked: {as_text(row['prompt'])}<br>"]
            lines += [f"   → {as_text(row['text'])}"]
        lines += ["", "</details>"]
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def as_text(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    # Model output: no HTML of its own, and no Markdown.
    escaped = escape(text, quote=False)
    for character in "\\`*_{}[]#|~$":
        escaped = escaped.replace(character, f"\\{character}")
    return " ⏎ ".join(line.strip() for line in escaped.splitlines() if line.strip())
