"""The report's sections about what came out: sentences, arms, paired differences, the table of arms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from potstill.evaluation.compare import Comparison, standings
from potstill.evaluation.intervals import Estimate
from potstill.evaluation.metrics import average, majority_at, pass_at, step_accuracy
from potstill.evaluation.results import Results
from potstill.evaluation.rows import Evaluation
from potstill.evaluation.table import (
    find_comparison,
    format_percent,
    format_points,
    quality_notes,
    table,
)
from potstill.report.charts import Bar, Dot, bar_chart, dot_chart, make_scale
from potstill.report.markup import Html, join_nodes, tag
from potstill.report.section import Section, data_table, make_section


def answer_section(results: Results) -> Section | None:
    """What the numbers say, whichever arm is ahead, and what makes them say little."""
    evaluations = list(results.evaluations.values())
    sentences = standings(evaluations)
    if not sentences:
        return None
    hint = (
        "Each sentence has its own 95 % interval; none is corrected for the number of comparisons."
    )
    sentences += quality_notes(evaluations)
    return make_section(
        "What came out",
        "",
        tag("p", sentences[0], class_="lead"),
        tag("ul", *[tag("li", sentence) for sentence in sentences[1:]], class_="said"),
        tag("p", hint, class_="hint"),
    )


def arms_section(results: Results) -> Section | None:
    """avg@n and pass@n of every arm, and where steps are judged, how many answers are right in every one."""
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
    return make_section("Arms", hint, chart, _steps_chart(step_estimates))


def _steps_chart(estimates: Mapping[str, Estimate]) -> Html | None:
    if not estimates:
        return None
    dots: list[Dot] = []
    ends: list[float] = []
    for name, estimate in estimates.items():
        dots.append(Dot(name, in_percent(estimate), format_percent(estimate)))
        ends += in_percent(estimate)
    axis = make_scale(ends, floor=0, ceiling=100)
    hint = tag(
        "p",
        "The share of answers that are right, and right in every step of their reasoning.",
        class_="hint",
    )
    return join_nodes(tag("h3", "Right in every step"), hint, dot_chart(dots, axis, " %"))


def in_percent(estimate: Estimate) -> Estimate:
    """A share and the ends of its interval, times 100."""
    return Estimate(*(100 * end for end in estimate))


def differences_section(results: Results, base: str) -> Section | None:
    """First every arm against the base, then the comparisons that the run made beside these."""
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
    sentences: list[Html] = []
    for comparison in comparisons:
        sentences.append(tag("li", f"{comparison.sentence}.", _counts_line(comparison)))
    return make_section("Paired differences", hint, chart, tag("ul", *sentences, class_="said"))


def _counts_line(comparison: Comparison) -> Html | None:
    if not comparison.counts_sentence:
        return None
    return tag("small", f"{comparison.counts_sentence}.", class_="soft")


def _difference_dot(comparison: Comparison, label: str) -> Dot:
    tone = "plain"
    if comparison.distinguishable:
        tone = "better" if comparison.difference.value > 0 else "worse"
    difference = comparison.difference
    return Dot(label, in_percent(difference), format_points(difference), tone)


def table_section(results: Results, base: str) -> Section | None:
    """The table of arms, and pass@k and maj@k for powers of two."""
    rows = table(results, base=base)
    if not rows:
        return None
    # Verdicts and costs have sections of their own.
    columns = [name for name in rows[0] if name not in ("verdict", "cost")]
    cells: list[list[Html | str]] = []
    for row in rows:
        cells.append([_stack_value(row[name]) for name in columns])
    hint = (
        "Shares with 95 % intervals in brackets. Unparsed, cut and failed answers: an unparsed or a failed one counts "
        "as not right; a cut one, which the token limit ended, counts as what it says."
    )
    arms = data_table(columns, cells, name="table of arms")
    return make_section("Table", hint, arms, _table_of_k(list(results.evaluations.values())))


def _stack_value(value: str) -> Html | str:
    """A value, with its interval on a line of its own."""
    number, bracket, interval = value.partition(" [")
    if not bracket:
        return value
    return join_nodes(number, tag("small", f"[{interval}"))


def _table_of_k(evaluations: Sequence[Evaluation]) -> Html | None:
    smallest_n = min(evaluation.n for evaluation in evaluations)
    ks = [2**power for power in range(smallest_n.bit_length())]
    if len(ks) < 2:
        return None
    rows: list[list[str]] = []
    for evaluation in evaluations:
        row = [evaluation.name]
        for estimate_at in (pass_at, majority_at):
            for k in ks:
                row.append(f"{100 * estimate_at(evaluation, k).value:.1f} %")
        rows.append(row)
    columns = ["arm", *(f"pass@{k}" for k in ks), *(f"maj@{k}" for k in ks)]
    table_of_k = data_table(columns, rows, name="pass@k and maj@k", number_columns=2 * len(ks))
    return join_nodes(tag("h3", "With k answers"), table_of_k)


def method_sections(results: Results) -> list[Section]:
    """What methods add to the report; sections of one title are one, whose bars begin with the arm."""
    hints: dict[str, str] = {}
    bars_by_title: dict[str, list[Bar]] = {}
    for arm, sections in results.sections.items():
        for section in sections:
            hints.setdefault(section.title, section.hint)
            bars = [_share_bar(f"{arm}: {label}", *counts) for label, *counts in section.shares]
            bars_by_title.setdefault(section.title, []).extend(bars)
    drawn: list[Section] = []
    for title, bars in bars_by_title.items():
        if bars:
            drawn.append(make_section(title, hints[title], bar_chart(bars, 1.0)))
    return drawn


def _share_bar(label: str, part: int, whole: int) -> Bar:
    """Shares stand on one scale, whatever they are shares of."""
    share = part / max(1, whole)
    value = f"{part:,} of {whole:,} ({100 * share:.1f} %)" if whole else "none made"
    return Bar(label, ((share, ""),), value)
