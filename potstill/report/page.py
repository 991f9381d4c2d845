"""`report.html`: a run's results on one self-contained page. No script, no network, model text always escaped."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

from potstill import __version__
from potstill.data.atomic_write import write_text
from potstill.evaluation.compare import Comparison, standings
from potstill.evaluation.intervals import Estimate
from potstill.evaluation.metrics import average, pass_at, step_accuracy
from potstill.evaluation.results import Ending, Results
from potstill.evaluation.table import BASE, find_comparison, format_percent, format_points, table
from potstill.report.charts import Dot, dot_chart, make_scale
from potstill.report.examples import examples_section, held_out_section, rejected_section
from potstill.report.markup import Html, join_nodes, tag
from potstill.report.sections import (
    card,
    costs_section,
    funnels_section,
    lengths_section,
    method_sections,
    small_print,
    training_section,
)


def write_report(results: Results, path: Path, *, base: str = BASE) -> None:
    """Write the report atomically.

    Args:
        results: of a run.
        path: of the HTML file.
        base: the arm that the others are compared with.
    """
    write_text(path, render_page(results, base=base))


def render_page(results: Results, *, base: str = BASE) -> str:
    """The whole page as HTML text."""
    css = resources.files("potstill.report").joinpath("report.css").read_text(encoding="utf-8")
    sections = (
        _answer_section(results),
        _arms_section(results),
        _differences_section(results, base),
        _table_section(results, base),
        funnels_section(results),
        method_sections(results),
        examples_section(results),
        held_out_section(results),
        rejected_section(results),
        costs_section(results),
        lengths_section(results),
        training_section(results),
        small_print(results),
    )
    footer = tag(
        "footer",
        f"Written by potstill {__version__}. This page needs no network and runs no script.",
    )
    body = tag("body", tag("main", _page_header(results), *sections, footer))
    return f"<!doctype html>\n{tag('html', _page_head(results.title, css), body, lang='en')}\n"


def _page_head(title: str, css: str) -> Html:
    """The policy forbids everything but this one style sheet, by its digest."""
    css_digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'sha256-{css_digest}'; base-uri 'none'; form-action 'none'"
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


def _page_header(results: Results) -> Html:
    evaluations = list(results.evaluations.values())
    facts = [tag("li", tag("b", str(len(evaluations))), " arms")]
    if evaluations:
        facts.append(tag("li", tag("b", f"{len(evaluations[0].rows):,}"), " test problems"))
        facts.append(tag("li", tag("b", str(evaluations[0].n)), " draws a problem"))
    facts.append(tag("li", "seed ", tag("b", str(results.seed))))
    return tag(
        "header",
        tag("div", "Potstill report", class_="brand"),
        tag("h1", results.title),
        _ending_line(results.ending),
        tag("p", results.note, class_="note") if results.note else None,
        tag("ul", *facts, class_="facts"),
    )


def _ending_line(ending: Ending) -> Html | None:
    """Says that these are not the results of a whole run, and why; nothing where they are."""
    if ending.status == "finished":
        return None
    sentences = {
        "running": "This run has not come to its end: it is running, or it was killed.",
        "stopped": "This run was stopped before its end.",
        "failed": "This run failed before its end.",
    }
    hint = "The same command goes on from here; potstill report writes this page again."
    message = tag("pre", ending.message, tabindex=0) if ending.message else None
    return tag(
        "div", tag("p", tag("b", sentences[ending.status]), f" {hint}"), message, class_="ending"
    )


def _answer_section(results: Results) -> Html | None:
    """What the numbers say, whichever arm is ahead."""
    sentences = standings(results.evaluations.values())
    if not sentences:
        return None
    hint = (
        "Each sentence has its own 95 % interval; none is corrected for the number of comparisons."
    )
    return card(
        "What came out",
        "",
        tag("p", sentences[0], class_="lead"),
        tag("ul", *[tag("li", sentence) for sentence in sentences[1:]], class_="said"),
        tag("p", hint, class_="hint"),
    )


def _arms_section(results: Results) -> Html | None:
    evaluations = results.evaluations
    if not evaluations:
        return None
    dots: list[Dot] = []
    ends: list[float] = []
    step_estimates: dict[str, Estimate] = {}
    for name, evaluation in evaluations.items():
        estimate = average(evaluation)
        any_right = 100 * pass_at(evaluation, evaluation.n).value
        dots.append(Dot(name, in_percent(estimate), format_percent(estimate), other=any_right))
        ends += [*in_percent(estimate), any_right]
        accuracy_of_steps = step_accuracy(evaluation)
        if accuracy_of_steps is not None:
            step_estimates[name] = accuracy_of_steps
    n = next(iter(evaluations.values())).n
    hint = f"Filled: avg@{n} with its 95 % interval, clustered by problem. Hollow: pass@{n}, one of {n} draws is right."
    chart = dot_chart(dots, make_scale(ends, floor=0, ceiling=100), " %")
    return card("Arms", hint, chart, _steps_chart(step_estimates))


def _steps_chart(estimates: Mapping[str, Estimate]) -> Html | None:
    if not estimates:
        return None
    dots: list[Dot] = []
    ends: list[float] = []
    for name, estimate in estimates.items():
        dots.append(Dot(name, in_percent(estimate), format_percent(estimate)))
        ends += in_percent(estimate)
    axis = make_scale(ends, floor=0, ceiling=100)
    hint = tag("p", "The share of draws with a right answer and every step right.", class_="hint")
    return join_nodes(tag("h3", "Right in every step"), hint, dot_chart(dots, axis, " %"))


def in_percent(estimate: Estimate) -> Estimate:
    """A share and the ends of its interval, times 100."""
    return Estimate(*(100 * end for end in estimate))


def _differences_section(results: Results, base: str) -> Html | None:
    # First every arm against the base, then the comparisons that the run made beside these.
    comparisons: list[Comparison] = []
    dots: list[Dot] = []
    for name in results.evaluations:
        comparison = find_comparison(results, name, base)
        if isinstance(comparison, Comparison):
            comparisons.append(comparison)
            dots.append(_difference_dot(comparison, comparison.arm))
    for comparison in results.comparisons:
        if comparison.base != base:
            comparisons.append(comparison)
            dots.append(_difference_dot(comparison, f"{comparison.arm} − {comparison.base}"))
    if not dots:
        return None
    ends = [0.0]
    for dot in dots:
        ends += dot.estimate
    hint = (
        f"Paired by problem, in points of avg@n, against {base} where no other arm is named. "
        "An interval that touches the dashed line: not distinguishable."
    )
    chart = dot_chart(dots, make_scale(ends, floor=-100, ceiling=100), "", zero=True)
    sentences = [tag("li", f"{comparison.sentence}.") for comparison in comparisons]
    return card("Paired differences", hint, chart, tag("ul", *sentences, class_="said"))


def _difference_dot(comparison: Comparison, label: str) -> Dot:
    tone = "plain"
    if comparison.distinguishable:
        tone = "better" if comparison.difference.value > 0 else "worse"
    difference = comparison.difference
    return Dot(label, in_percent(difference), format_points(difference), tone)


def _table_section(results: Results, base: str) -> Html | None:
    rows = table(results, base=base)
    if not rows:
        return None
    # Verdicts and costs have sections of their own.
    columns = [name for name in rows[0] if name not in ("verdict", "cost")]
    head = tag("thead", tag("tr", *[tag("th", name, scope="col") for name in columns]))
    body = tag("tbody", *[_table_row(row, columns) for row in rows])
    hint = "Shares with 95 % intervals in brackets. Unparsed and failed draws count as not right."
    return card("Table", hint, tag("div", tag("table", head, body), class_="scroll"))


def _table_row(row: dict[str, str], columns: list[str]) -> Html:
    header, *others = columns
    cells = [tag("td", *_stack_value(row[name]), class_="tight") for name in others]
    return tag("tr", tag("th", row[header], scope="row"), *cells)


def _stack_value(value: str) -> list[Html | str]:
    """A value, with its interval on a line of its own."""
    number, bracket, interval = value.partition(" [")
    if not bracket:
        return [value]
    return [number, tag("small", f"[{interval}")]
