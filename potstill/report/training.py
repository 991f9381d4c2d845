"""The report's sections about the trainings: learning curves, what each student was trained on, how it was asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from potstill.report.charts import Curve, line_chart
from potstill.report.markup import Html, tag
from potstill.report.section import (
    NONE,
    Section,
    data_table,
    fold,
    format_value,
    make_section,
    settings_table,
)

# What a training's report calls a thing, and what people read.
COLUMNS = {
    "rows": "rows",
    "skipped": "left out",
    "steps": "updates",
    "tokens": "tokens seen",
    "loss_tokens": "tokens with a loss",
    "first_loss": "first loss",
    "last_loss": "last loss",
    "seconds": "seconds",
}
# Shown in charts and tables of their own.
_SHOWN_ELSEWHERE = ("arm", "loss_curve", "stats", "student")


def training_section(trainings: Mapping[str, Any]) -> Section | None:
    """Learning curves, and what each student was trained on and for how long."""
    reports: dict[str, Mapping[str, Any]] = {}
    for arm, report in trainings.items():
        # Of an arm with several stages each is shown, as ARM/STAGE; its own report is the last one's.
        if report and report.get("stages", 1) == 1:
            reports[arm] = report
    if not reports:
        return None
    hint = (
        "An update is one step of the optimizer. The loss is the objective's own, so that those of other objectives "
        "are other quantities."
    )
    rows: list[list[str]] = []
    details: list[Html] = []
    for arm, report in reports.items():
        rows.append([arm, *(_format_cell(name, report.get(name)) for name in COLUMNS)])
        details += _training_details(arm, report)
    columns = ["arm", *COLUMNS.values()]
    table = data_table(columns, rows, name="trainings", number_columns=len(COLUMNS))
    return make_section("Training", hint, *_curves(reports), table, *details)


def _format_cell(name: str, value: Any) -> str:
    """A cell of the table; of rows that were left out, how many."""
    if name == "skipped" and isinstance(value, Mapping):
        return f"{sum(value.values()):,}" if value else "0"
    return format_value(value)


def _curves(reports: Mapping[str, Mapping[str, Any]]) -> list[Html]:
    curves: list[Curve] = []
    for arm, report in reports.items():
        points = [(float(step), float(loss)) for step, loss in report.get("loss_curve", ())]
        if len(points) > 1:
            value = f"{points[0][1]:.3g} → {points[-1][1]:.3g}"
            curves.append(Curve(arm, tuple(points), value))
    if not curves:
        return []
    return [
        tag("h3", "Learning curves"),
        tag("p", "The loss over the updates, from the first to the last.", class_="hint"),
        line_chart(curves, "update"),
    ]


def _training_details(arm: str, report: Mapping[str, Any]) -> list[Html]:
    """The objective's statistics, and whatever else the training reported, folded away."""
    parts: list[Html] = []
    statistics = report.get("stats") or {}
    if statistics:
        rows: list[Sequence[str]] = []
        for name, (first, last) in statistics.items():
            rows.append((name, format_value(float(first)), format_value(float(last))))
        table = data_table(
            ("statistic", "first update", "last update"),
            rows,
            name=f"{arm}: statistics of the objective",
            number_columns=2,
        )
        parts.append(fold(f"{arm}: statistics of the objective", table))
    others: dict[str, Any] = {"student": report.get("student") or NONE}
    for name, value in report.items():
        if name not in COLUMNS and name not in _SHOWN_ELSEWHERE:
            others[name] = value
    if report.get("skipped"):
        others["left out"] = report["skipped"]
    name = f"{arm}: about the training"
    parts.append(fold(name, settings_table(others, name=name)))
    return parts
