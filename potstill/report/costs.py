"""The report's sections about what a run used: calls, tokens and money by role, and how long texts are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from potstill.evaluation.intervals import Estimate
from potstill.evaluation.results import Cost, Length
from potstill.evaluation.rows import Evaluation
from potstill.evaluation.table import format_count, format_usd, usage_table
from potstill.report.charts import Dot, Range, dot_chart, make_length_scale, range_chart
from potstill.report.markup import Html, tag
from potstill.report.section import Section, data_table, make_section


def costs_section(
    cost_by_arm: Mapping[str, Mapping[str, Cost]], evaluations: Sequence[Evaluation]
) -> Section | None:
    """Calls and tokens by arm and role."""
    costs: list[tuple[str, Cost]] = []
    for arm, cost_by_role in cost_by_arm.items():
        for role, cost in cost_by_role.items():
            costs.append((f"{arm}: {role}", cost))
    if not costs:
        return None

    # A line a role; money where anything cost any.
    has_money = any(cost.cost or cost.lost for _, cost in costs)
    rows: list[list[str]] = []
    for label, cost in costs:
        counts = (cost.calls, cost.reused, cost.cut, cost.errors)
        row = [label, *(f"{count:,}" for count in counts)]
        row.append(f"{cost.seconds:,.1f}")
        if has_money:
            money = cost.cost + cost.lost
            row += [format_usd(money), format_usd(cost.lost)]
        rows.append(row)
    columns = ["role", "calls", "reused", "cut", "failed", "seconds"]
    if has_money:
        columns += ["money", "of it lost"]
    hint = "Tokens, calls and seconds count all that an arm needed; reused calls had been paid by another arm or role."
    table = data_table(columns, rows, name="cost by role", number_columns=len(columns) - 1)
    return make_section(
        "Cost by role", hint, *_token_chart(costs), table, *_usage_parts(evaluations)
    )


def _usage_parts(evaluations: Sequence[Evaluation]) -> list[Html]:
    """What an answer takes of each role; nothing where no evaluation says it."""
    rows = usage_table(evaluations)
    if not rows:
        return []
    columns = list(rows[0])
    cells = [list(row.values()) for row in rows]
    title = tag("h3", "What an answer takes")
    return [title, data_table(columns, cells, name="what an answer takes", number_columns=4)]


def _token_chart(costs: list[tuple[str, Cost]]) -> list[Html]:
    dots: list[Dot] = []
    counts: list[float] = []
    for label, cost in costs:
        read, written = cost.prompt_tokens, cost.completion_tokens
        counts += [float(read), float(written)]
        value = f"{format_count(written)} written, {format_count(read)} read"
        # A count has no interval: the whisker is a point.
        at_written = Estimate(float(written), float(written), float(written))
        dots.append(Dot(label, at_written, value, other=float(read)))
    axis = make_length_scale(counts)
    legend = tag(
        "p",
        tag("span", class_="key"),
        "tokens written (completions)",
        tag("span", class_="key hollow-key"),
        "tokens read (prompts)",
        " on a logarithmic axis" if axis.is_log else None,
        class_="soft",
    )
    return [legend, dot_chart(dots, axis, "")]


def lengths_section(length_by_arm: Mapping[str, Mapping[str, Length]]) -> Section | None:
    """How long rows and answers are, a scale for each unit."""
    ranges_by_unit: dict[str, list[Range]] = {}
    for arm, lengths in length_by_arm.items():
        for what, length in lengths.items():
            if length.count:
                row = _length_range(f"{arm}: {what}", length)
                ranges_by_unit.setdefault(length.unit, []).append(row)
    if not ranges_by_unit:
        return None
    charts: list[Html] = []
    for unit, ranges in ranges_by_unit.items():
        ends: list[float] = []
        for row in ranges:
            ends += [row.low, row.high]
        axis = make_length_scale(ends)
        scale = ", logarithmic axis" if axis.is_log else ""
        charts.append(tag("h3", f"In {unit}{scale}"))
        charts.append(range_chart(ranges, axis, ""))
    hint = "From the 10th to the 90th percentile, the dot is the median."
    return make_section("Lengths", hint, *charts)


def _length_range(label: str, length: Length) -> Range:
    median, mean = _format_length(length.p50), _format_length(length.mean)
    value = f"{median} {length.unit} (mean {mean}, {length.count:,} texts)"
    return Range(label, length.p10, length.p50, length.p90, value)


def _format_length(value: float) -> str:
    return f"{value:,.0f}" if value >= 20 else f"{value:.3g}"
