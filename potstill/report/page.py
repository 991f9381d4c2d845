"""`report.html`: a run's results on one self-contained page. No script, no network, model text always escaped."""

from __future__ import annotations

import base64
import hashlib
from importlib import resources
from pathlib import Path

from potstill import __version__
from potstill.data.atomic_write import write_text
from potstill.evaluation.compare import Comparison, standings
from potstill.evaluation.intervals import Estimate
from potstill.evaluation.metrics import average, pass_at, step_accuracy
from potstill.evaluation.results import Results
from potstill.evaluation.table import BASE, find_comparison, format_percent, format_points, table
from potstill.report.charts import Dot, scale, whiskers
from potstill.report.markup import Html, join, tag
from potstill.report.sections import (
    costs,
    examples,
    funnels,
    lengths,
    method_sections,
    section,
    small_print,
    training,
)


def write(results: Results, path: Path, *, base: str = BASE) -> None:
    """Write the report atomically.

    Args:
        base: the arm that the others are compared with.
    """
    write_text(path, page(results, base=base))


def page(results: Results, *, base: str = BASE) -> str:
    """The whole page as HTML text."""
    css = resources.files("potstill.report").joinpath("report.css").read_text(encoding="utf-8")
    sections = (
        _answer(results),
        _arms(results),
        _differences(results, base),
        _table(results, base),
        funnels(results),
        method_sections(results),
        examples(results),
        costs(results),
        lengths(results),
        training(results),
        small_print(results),
    )
    footer = tag(
        "footer",
        f"Written by potstill {__version__}. This page needs no network and runs no script.",
    )
    body = tag("body", tag("main", _header(results), *sections, footer))
    return f"<!doctype html>\n{tag('html', _head(results.title, css), body, lang='en')}\n"


def _head(title: str, css: str) -> Html:
    """The policy forbids everything but this one style sheet, by its digest."""
    allowed = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'sha256-{allowed}'; base-uri 'none'; form-action 'none'"
    )
    return tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("title", title),
        tag("style", Html(css)),
    )


def _header(results: Results) -> Html:
    evaluations = list(results.evaluations.values())
    facts = [("arms", str(len(evaluations)))]
    if evaluations:
        facts += [
            ("test problems", f"{len(evaluations[0].rows):,}"),
            ("draws a problem", str(evaluations[0].n)),
        ]
    chips = [tag("li", tag("b", value), f" {name}") for name, value in facts]
    return tag(
        "header",
        tag("div", "Potstill report", class_="brand"),
        tag("h1", results.title),
        tag("p", results.note, class_="note") if results.note else None,
        tag("ul", *chips, tag("li", "seed ", tag("b", str(results.seed))), class_="facts"),
    )


def _answer(results: Results) -> Html | None:
    """What the numbers say, whichever arm is ahead."""
    said = standings(results.evaluations.values())
    if not said:
        return None
    hint = (
        "Each sentence has its own 95 % interval; none is corrected for the number of comparisons."
    )
    listed = tag("ul", *[tag("li", sentence) for sentence in said[1:]], class_="said")
    return section(
        "What came out", "", tag("p", said[0], class_="lead"), listed, tag("p", hint, class_="hint")
    )


def _arms(results: Results) -> Html | None:
    evaluations = results.evaluations
    if not evaluations:
        return None
    dots = [
        Dot(
            name,
            _percents(average(e)),
            format_percent(average(e)),
            other=100 * pass_at(e, e.n).value,
        )
        for name, e in evaluations.items()
    ]
    ends = [end for dot in dots for end in (*dot.estimate, dot.other or 0.0)]
    stepped = {
        name: found for name, e in evaluations.items() if (found := step_accuracy(e)) is not None
    }
    n = next(iter(evaluations.values())).n
    hint = f"Filled: avg@{n} with its 95 % interval, clustered by problem. Hollow: pass@{n}, one of {n} draws is right."
    return section(
        "Arms", hint, whiskers(dots, scale(ends, floor=0, ceiling=100), " %"), _steps(stepped)
    )


def _steps(found: dict[str, Estimate]) -> Html | None:
    if not found:
        return None
    dots = [
        Dot(name, _percents(estimate), format_percent(estimate)) for name, estimate in found.items()
    ]
    axis = scale([end for dot in dots for end in dot.estimate], floor=0, ceiling=100)
    hint = tag("p", "The share of draws with a right answer and every step right.", class_="hint")
    return join(tag("h3", "Right in every step"), hint, whiskers(dots, axis, " %"))


def _percents(estimate: Estimate) -> Estimate:
    return Estimate(*(100 * end for end in estimate))


def _differences(results: Results, base: str) -> Html | None:
    found = [find_comparison(results, name, base) for name in results.evaluations if name != base]
    compared = [item for item in found if isinstance(item, Comparison)]
    further = [c for c in results.comparisons if c.base != base]
    dots = [_difference(c, c.arm) for c in compared] + [
        _difference(c, f"{c.arm} − {c.base}") for c in further
    ]
    if not dots:
        return None
    axis = scale([0.0, *(end for dot in dots for end in dot.estimate)], floor=-100, ceiling=100)
    hint = (
        f"Paired by problem, in points of avg@n, against {base} where no other arm is named. "
        "An interval that touches the dashed line: not distinguishable."
    )
    sentences = [tag("li", f"{c.sentence}.") for c in (*compared, *further)]
    chart = whiskers(dots, axis, "", zero=True)
    return section("Paired differences", hint, chart, tag("ul", *sentences, class_="said"))


def _difference(comparison: Comparison, label: str) -> Dot:
    tone = "plain"
    if comparison.distinguishable:
        tone = "better" if comparison.difference.value > 0 else "worse"
    return Dot(label, _percents(comparison.difference), format_points(comparison.difference), tone)


def _table(results: Results, base: str) -> Html | None:
    rows = table(results, base=base)
    if not rows:
        return None
    columns = [
        name for name in rows[0] if name not in ("verdict", "cost")
    ]  # costs have a section of their own
    head = tag("thead", tag("tr", *[tag("th", name, scope="col") for name in columns]))
    body = tag("tbody", *[_table_row(row, columns) for row in rows])
    hint = "Shares with 95 % intervals in brackets. Unparsed and failed draws count as not right."
    return section("Table", hint, tag("div", tag("table", head, body), class_="scroll"))


def _table_row(row: dict[str, str], columns: list[str]) -> Html:
    first, *others = columns
    cells = [tag("td", *_stacked(row[name]), class_="tight") for name in others]
    return tag("tr", tag("th", row[first], scope="row"), *cells)


def _stacked(value: str) -> list[Html | str]:
    """A value with its interval, or the roles of a cost, on lines of their own."""
    if " calls " in value:
        return [tag("small", part) for part in value.split("; ")]
    head, bracket, tail = value.partition(" [")
    return [head, tag("small", f"[{tail}")] if bracket else [value]
