"""The report's sections about how the numbers came about, from the funnel to the fingerprints."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from potstill.evaluation.results import Cost, Funnel, FunnelStep, Length, Results
from potstill.evaluation.rows import Evaluation
from potstill.evaluation.table import format_count, format_usd
from potstill.report.charts import Bar, Range, bar_chart, make_scale, range_chart
from potstill.report.markup import Html, Node, join_nodes, tag

MAX_PERIOD = 12  # steps of a stretch that is looked for again


def card(title: str, hint: str, *children: Html | None) -> Html:
    """A titled section with a line that says how to read it."""
    hint_line = tag("p", hint, class_="hint") if hint else None
    return tag("section", tag("h2", title), hint_line, *children)


def data_table(
    columns: Sequence[str], rows: Sequence[Sequence[Node]], *, number_columns: int = 0
) -> Html:
    """A table whose last `number_columns` are right-aligned and whose first column is its row header."""
    first_number = len(columns) - number_columns
    classes = ["number" if place >= first_number else None for place in range(len(columns))]
    head_cells: list[Html] = []
    for name, css_class in zip(columns, classes, strict=True):
        head_cells.append(tag("th", name, scope="col", class_=css_class))
    body_rows: list[Html] = []
    for header, *cells in rows:
        row_cells = [tag("th", header, scope="row")]
        for cell, css_class in zip(cells, classes[1:], strict=True):
            row_cells.append(tag("td", cell, class_=css_class))
        body_rows.append(tag("tr", *row_cells))
    table = tag("table", tag("thead", tag("tr", *head_cells)), tag("tbody", *body_rows))
    return tag("div", table, class_="scroll")


def funnels_section(results: Results) -> Html | None:
    """From problems to rows, and why every dropped trace was dropped."""
    if not results.funnels:
        return None
    hint = "Each line is one operator over all traces, in program order: how many went in, how many came out."
    funnels = [_draw_funnel(arm, funnel) for arm, funnel in results.funnels.items()]
    return card("From problems to rows", hint, *funnels)


def fold_repeats(steps: Sequence[FunnelStep]) -> list[tuple[FunnelStep, int]]:
    """Stretches of steps that repeat at once (a method's further tries) as one, their counts added; with how often."""
    remaining = list(steps)
    folded: list[tuple[FunnelStep, int]] = []
    while remaining:
        period, times = _find_repeat([(step.operator, step.label) for step in remaining])
        for offset in range(period):
            repeats = remaining[offset : period * times : period]
            first = repeats[0]
            taken = sum(step.taken for step in repeats)
            returned = sum(step.returned for step in repeats)
            folded.append((FunnelStep(first.operator, first.label, taken, returned), times))
        del remaining[: period * times]
    return folded


def _find_repeat(names: Sequence[tuple[str, str]]) -> tuple[int, int]:
    """The shortest stretch at the beginning that repeats at once: its length, and how often it is there."""
    for period in range(1, min(MAX_PERIOD, len(names) // 2) + 1):
        times = 1
        while names[times * period : (times + 1) * period] == names[:period]:
            times += 1
        if times > 1:
            return period, times
    return 1, 1


def _draw_funnel(arm: str, funnel: Funnel) -> Html:
    steps = fold_repeats(funnel.steps)
    full = 0  # the longest bar
    bars: list[Bar] = []
    for step, times in steps:
        label = f"{step.operator}: {step.label}" if step.label else step.operator
        if times > 1:
            label += f" (×{times})"
        full = max(full, step.taken, step.returned)
        lost = max(0, step.taken - step.returned)
        value = f"{step.taken:,} → {step.returned:,}"
        bars.append(Bar(label, ((step.returned, ""), (lost, "lost")), value))
    chart = bar_chart(bars, full) if bars else None
    return join_nodes(tag("h3", arm), chart, *_list_drops(funnel))


def _list_drops(funnel: Funnel) -> list[Html]:
    if not funnel.drops:
        return [tag("p", "Nothing was dropped.", class_="soft")]
    rows: list[tuple[str, ...]] = []
    for drop in funnel.drops:
        reason = drop.reason or "no reason given"
        rows.append((reason, drop.operator, drop.test, f"{drop.count:,}"))
    dropped = sum(drop.count for drop in funnel.drops)
    return [
        tag("p", f"{dropped:,} traces dropped, each with a reason:", class_="soft"),
        data_table(("reason", "operator", "test", "traces"), rows, number_columns=1),
    ]


def method_sections(results: Results) -> Html | None:
    """What methods add to the report; sections of one title are one card, whose bars begin with the arm."""
    hints: dict[str, str] = {}
    bars_by_title: dict[str, list[Bar]] = {}
    for arm, sections in results.sections.items():
        for section in sections:
            hints.setdefault(section.title, section.hint)
            bars = [_share_bar(f"{arm}: {label}", *counts) for label, *counts in section.shares]
            bars_by_title.setdefault(section.title, []).extend(bars)
    cards: list[Html] = []
    for title, bars in bars_by_title.items():
        if bars:
            cards.append(card(title, hints[title], bar_chart(bars, 1.0)))
    return join_nodes(*cards) if cards else None


def _share_bar(label: str, part: int, whole: int) -> Bar:
    """Shares stand on one scale, whatever they are shares of."""
    share = part / max(1, whole)
    value = f"{part:,} of {whole:,} ({100 * share:.1f} %)" if whole else "none made"
    return Bar(label, ((share, ""),), value)


def costs_section(results: Results) -> Html | None:
    """Calls and tokens by arm and role."""
    costs: list[tuple[str, Cost]] = []
    for arm, cost_by_role in results.costs.items():
        for role, cost in cost_by_role.items():
            costs.append((f"{arm}: {role}", cost))
    if not costs:
        return None
    has_money = any(cost.cost or cost.lost for _, cost in costs)
    bars: list[Bar] = []
    rows: list[list[str]] = []
    for label, cost in costs:
        read, written = cost.prompt_tokens, cost.completion_tokens
        value = f"{format_count(read)} read, {format_count(written)} written"
        bars.append(Bar(label, ((read, "second"), (written, "")), value))
        counts = [f"{count:,}" for count in (cost.calls, cost.reused, cost.errors)]
        row = [label, *counts, f"{cost.seconds:,.1f}"]
        if has_money:
            row += [format_usd(cost.cost + cost.lost), format_usd(cost.lost)]
        rows.append(row)

    columns = ["role", "calls", "reused", "failed", "seconds"]
    if has_money:
        columns += ["money", "of it lost"]
    full = max(cost.prompt_tokens + cost.completion_tokens for _, cost in costs)
    hint = "Tokens, calls and seconds count all that an arm needed; reused calls had been paid by another arm or role."
    legend = tag(
        "p",
        tag("span", class_="key second"),
        "read (prompts)",
        tag("span", class_="key"),
        "written (completions)",
        class_="soft",
    )
    table = data_table(columns, rows, number_columns=len(columns) - 1)
    return card("Cost by role", hint, legend, bar_chart(bars, full), table)


def lengths_section(results: Results) -> Html | None:
    """How long rows and answers are, a scale for each unit."""
    ranges_by_unit: dict[str, list[Range]] = {}
    for arm, lengths in results.lengths.items():
        for what, length in lengths.items():
            if length.count:
                row = _length_range(f"{arm}: {what}", length)
                ranges_by_unit.setdefault(length.unit, []).append(row)
    if not ranges_by_unit:
        return None
    charts: list[Html] = []
    for ranges in ranges_by_unit.values():
        axis = make_scale([0.0, *(row.high for row in ranges)], floor=0)
        charts.append(range_chart(ranges, axis, ""))
    hint = "From the 10th to the 90th percentile, the dot is the median."
    return card("Lengths", hint, *charts)


def _length_range(label: str, length: Length) -> Range:
    median, mean = _format_length(length.p50), _format_length(length.mean)
    value = f"{median} {length.unit} (mean {mean}, {length.count:,} texts)"
    return Range(label, length.p10, length.p50, length.p90, value)


def _format_length(value: float) -> str:
    return f"{value:,.0f}" if value >= 20 else f"{value:.3g}"


def training_section(results: Results) -> Html | None:
    """What each student was trained on and for how long; lists are shown by their first and last value."""
    if not results.training:
        return None
    names: dict[str, None] = {}  # a set that keeps the order in which the names come
    for report in results.training.values():
        names |= dict.fromkeys(name for name in report if name != "arm")
    rows: list[list[str]] = []
    for arm, report in results.training.items():
        rows.append([arm, *(_format_value(report.get(name)) for name in names)])
    return card("Training", "", data_table(["arm", *names], rows))


def _format_value(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool | str):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    if isinstance(value, Sequence):
        if not value:
            return "–"
        return f"{_format_value(value[0])} → {_format_value(value[-1])}"
    return json.dumps(value, sort_keys=True)


def small_print(results: Results) -> Html:
    """Notes, the recipe and every fingerprint, folded away."""
    notes = recipe = fingerprints = None
    if results.notes:
        notes = tag("ul", *[tag("li", note) for note in results.notes], class_="said")
    if results.recipe:
        text = json.dumps(results.recipe, indent=2, default=str)
        recipe = _folded_away("Recipe", [tag("pre", text)])
    if results.evaluations:
        tables = [
            _fingerprint_table(name, evaluation) for name, evaluation in results.evaluations.items()
        ]
        fingerprints = _folded_away("Fingerprints", tables)
    method = tag(
        "p",
        "Intervals are 95 %, with the problem as the unit: Wilson on the effective number of draws for shares, "
        "Student’s t on paired differences. pass@k is the unbiased estimator. "
        "A tie in maj@k counts as its share of right answers.",
        class_="soft",
    )
    return card("Notes and fingerprints", "", notes, method, recipe, fingerprints)


def _folded_away(title: str, children: Sequence[Html]) -> Html:
    return tag("details", tag("summary", title), *children)


def _fingerprint_table(name: str, evaluation: Evaluation) -> Html:
    fingerprint = evaluation.fingerprint
    values: Mapping[str, str] = {
        **fingerprint.task,
        **fingerprint.run,
        "task": fingerprint.task_id,
    }
    rows: list[Html] = []
    for key, value in values.items():
        rows.append(tag("tr", tag("th", key, scope="row"), tag("td", value, class_="mono")))
    table = tag("div", tag("table", tag("tbody", *rows)), class_="scroll")
    return join_nodes(tag("h3", name), table)
