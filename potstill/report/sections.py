"""The report's sections about how the numbers came about, from the funnel to the fingerprints."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from potstill.evaluation.results import (
    Cost,
    Example,
    Funnel,
    FunnelStep,
    Passage,
    Results,
)
from potstill.evaluation.table import format_count, format_usd
from potstill.report.charts import Bar, Range, bars, ranges, scale
from potstill.report.markup import Html, Node, join, tag

_HEADINGS = {
    "error": "The student’s error",
    "teacher": "The teacher’s trace",
    "rewrite": "The rewrite",
    "answer": "The trained student’s answer",
}


def section(title: str, hint: str, *children: Html | None) -> Html:
    """A titled card with a line that says how to read it."""
    return tag(
        "section", tag("h2", title), tag("p", hint, class_="hint") if hint else None, *children
    )


def grid(columns: Sequence[str], rows: Sequence[Sequence[Node]], numbers: int = 0) -> Html:
    """A table whose last `numbers` columns are right-aligned and whose first is its row header."""
    first_number = len(columns) - numbers
    kinds = ["number" if at >= first_number else None for at in range(len(columns))]
    head = tag(
        "tr",
        *[
            tag("th", name, scope="col", class_=kind)
            for name, kind in zip(columns, kinds, strict=True)
        ],
    )
    body = [
        tag(
            "tr",
            tag("th", row[0], scope="row"),
            *[tag("td", c, class_=k) for c, k in zip(row[1:], kinds[1:], strict=True)],
        )
        for row in rows
    ]
    return tag("div", tag("table", tag("thead", head), tag("tbody", *body)), class_="scroll")


def funnels(results: Results) -> Html | None:
    """From problems to rows, and why every dropped trace was dropped."""
    if not results.funnels:
        return None
    hint = "Each line is one operator over all traces, in program order: how many went in, how many came out."
    found = [_funnel(arm, funnel) for arm, funnel in results.funnels.items()]
    return section("From problems to rows", hint, *found)


def folded(steps: Sequence[FunnelStep], longest: int = 12) -> list[tuple[FunnelStep, int]]:
    """Stretches of steps that repeat at once (a method's further tries) as one, their counts added; with how often."""
    left, found = list(steps), []
    while left:
        names = [(s.operator, s.label) for s in left]
        for period in range(1, min(longest, len(left) // 2) + 1):
            times = 1
            while names[times * period : (times + 1) * period] == names[:period]:
                times += 1
            if times > 1:
                break
        else:
            period, times = 1, 1
        for i in range(period):
            same = left[i : period * times : period]
            taken, returned = sum(s.taken for s in same), sum(s.returned for s in same)
            found.append((FunnelStep(*names[i], taken, returned), times))
        del left[: period * times]
    return found


def _funnel(arm: str, funnel: Funnel) -> Html:
    steps = folded(funnel.steps)
    full = max((max(s.taken, s.returned) for s, _ in steps), default=0)
    drawn = [
        Bar(
            (f"{s.operator}: {s.label}" if s.label else s.operator)
            + (f" (×{times})" if times > 1 else ""),
            ((s.returned, ""), (max(0, s.taken - s.returned), "lost")),
            f"{s.taken:,} → {s.returned:,}",
        )
        for s, times in steps
    ]
    dropped = sum(d.count for d in funnel.drops)
    rows = [
        (d.reason or "no reason given", d.operator, d.test, f"{d.count:,}") for d in funnel.drops
    ]
    reasons = grid(("reason", "operator", "test", "traces"), rows, numbers=1) if rows else None
    said = tag(
        "p",
        f"{dropped:,} traces dropped, each with a reason:" if rows else "Nothing was dropped.",
        class_="soft",
    )
    return join(tag("h3", arm), bars(drawn, full) if drawn else None, said, reasons)


def method_sections(results: Results) -> Html | None:
    """What methods add to the report; sections of one title are one card, whose bars begin with the arm."""
    hints: dict[str, str] = {}
    bars_by_title: dict[str, list[Bar]] = {}
    for arm, sections in results.sections.items():
        for added in sections:
            hints.setdefault(added.title, added.hint)
            drawn = [_share_bar(f"{arm}: {label}", *counts) for label, *counts in added.shares]
            bars_by_title.setdefault(added.title, []).extend(drawn)
    cards = [
        section(title, hints[title], bars(drawn, 1.0))
        for title, drawn in bars_by_title.items()
        if drawn
    ]
    return join(*cards) if cards else None


def _share_bar(label: str, part: int, whole: int) -> Bar:
    """Shares stand on one scale, whatever they are shares of."""
    share = part / max(1, whole)
    value = f"{part:,} of {whole:,} ({100 * share:.1f} %)" if whole else "none made"
    return Bar(label, ((share, ""),), value)


def examples(results: Results) -> Html | None:
    """Real traces side by side, the first wrong step marked."""
    if not results.examples:
        return None
    hint = "Written by models, shown as they are. The first wrong step is marked where steps can be judged."
    return section("Examples", hint, *[_example(e) for e in results.examples])


def _example(example: Example) -> Html:
    gold = "" if example.gold is None else f"Gold answer {example.gold}. "
    found = [(name, getattr(example, name)) for name in _HEADINGS]
    columns = [_passage(_HEADINGS[name], passage) for name, passage in found if passage is not None]
    return tag(
        "div",
        tag("p", example.question, class_="question"),
        tag("p", f"{gold}Arm {example.arm}.", class_="soft"),
        tag("div", *columns, class_="passages"),
        class_="example",
    )


def _passage(heading: str, passage: Passage) -> Html:
    known = (
        passage.status if passage.status in ("right", "wrong", "error", "unparsed") else "unjudged"
    )
    badge = tag("span", known, class_=f"badge {known}") if passage.status else None
    text = tag("pre", marked(passage), tabindex=0, role="region", aria_label=heading)
    return tag("div", tag("h4", tag("span", heading), badge), text, class_="passage")


def marked(passage: Passage) -> Html:
    """The text with its first wrong step marked; spans that don't lie in the text are ignored."""
    size = len(passage.text)
    wrong = [
        s
        for s in passage.spans
        if s.score is not None and s.score < 1 and 0 <= s.start < s.stop <= size
    ]
    if not wrong:
        return join(passage.text or "(nothing)")
    first = min(wrong, key=lambda s: (s.start, s.stop))
    before, step, after = (
        passage.text[: first.start],
        passage.text[first.start : first.stop],
        passage.text[first.stop :],
    )
    return join(before, tag("mark", step, title="first wrong step"), after)


def costs(results: Results) -> Html | None:
    """Calls and tokens by arm and role."""
    spent = [
        (arm, role, cost) for arm, roles in results.costs.items() for role, cost in roles.items()
    ]
    if not spent:
        return None
    full = max(cost.prompt_tokens + cost.completion_tokens for _, _, cost in spent)
    drawn = [
        Bar(f"{arm}: {role}", ((c.prompt_tokens, "second"), (c.completion_tokens, "")), _tokens(c))
        for arm, role, c in spent
    ]
    paid = any(c.cost or c.lost for _, _, c in spent)
    rows = [
        (
            f"{arm}: {role}",
            f"{c.calls:,}",
            f"{c.reused:,}",
            f"{c.errors:,}",
            f"{c.seconds:,.1f}",
            *_money(c, paid),
        )
        for arm, role, c in spent
    ]
    hint = "Tokens, calls and seconds count all that an arm needed; reused calls had been paid by another arm or role."
    keys = tag(
        "p",
        *(
            tag("span", class_="key second"),
            "read (prompts)",
            tag("span", class_="key"),
            "written (completions)",
        ),
        class_="soft",
    )
    columns = (
        "role",
        "calls",
        "reused",
        "failed",
        "seconds",
        *(("money", "of it lost") if paid else ()),
    )
    return section(
        "Cost by role", hint, keys, bars(drawn, full), grid(columns, rows, numbers=len(columns) - 1)
    )


def _money(cost: Cost, shown: bool) -> tuple[str, ...]:
    """All that was paid, and what of it went to tries that brought nothing."""
    return (format_usd(cost.cost + cost.lost), format_usd(cost.lost)) if shown else ()


def _tokens(cost: Cost) -> str:
    return (
        f"{format_count(cost.prompt_tokens)} read, {format_count(cost.completion_tokens)} written"
    )


def lengths(results: Results) -> Html | None:
    """How long rows and answers are, a scale for each unit."""
    found = [
        (f"{arm}: {what}", item)
        for arm, items in results.lengths.items()
        for what, item in items.items()
        if item.count
    ]
    if not found:
        return None
    charts = []
    for unit in dict.fromkeys(item.unit for _, item in found):
        rows = [
            Range(
                label,
                i.p10,
                i.p50,
                i.p90,
                f"{_figure(i.p50)} {unit} (mean {_figure(i.mean)}, {i.count:,} texts)",
            )
            for label, i in found
            if i.unit == unit
        ]
        charts.append(ranges(rows, scale([0.0, *(row.high for row in rows)], floor=0), ""))
    return section(
        "Lengths", "From the 10th to the 90th percentile, the dot is the median.", *charts
    )


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 20 else f"{value:.3g}"


def training(results: Results) -> Html | None:
    """What each student was trained on and for how long; lists are shown by their first and last value."""
    if not results.training:
        return None
    names = list(
        dict.fromkeys(
            name for report in results.training.values() for name in report if name != "arm"
        )
    )
    rows = [
        [arm, *[_brief(report.get(name)) for name in names]]
        for arm, report in results.training.items()
    ]
    return section("Training", "", grid(["arm", *names], rows))


def _brief(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool | str):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    if isinstance(value, Sequence):
        return (
            " → ".join(_brief(item) for item in dict.fromkeys((0, -1)) for item in [value[item]])
            if value
            else "–"
        )
    return json.dumps(value, sort_keys=True)


def small_print(results: Results) -> Html:
    """Notes, the recipe and every fingerprint, folded away."""
    notes = (
        tag("ul", *[tag("li", note) for note in results.notes], class_="said")
        if results.notes
        else None
    )
    recipe = (
        _fold("Recipe", [tag("pre", json.dumps(results.recipe, indent=2, default=str))])
        if results.recipe
        else None
    )
    prints = [
        join(
            tag("h3", name),
            _pairs({**e.fingerprint.task, **e.fingerprint.run, "task": e.fingerprint.task_id}),
        )
        for name, e in results.evaluations.items()
    ]
    method = tag(
        "p",
        "Intervals are 95 %, with the problem as the unit: Wilson on the effective number of draws for shares, "
        "Student’s t on paired differences. pass@k is the unbiased estimator. "
        "A tie in maj@k counts as its share of right answers.",
        class_="soft",
    )
    return section(
        "Notes and fingerprints",
        "",
        notes,
        method,
        recipe,
        _fold("Fingerprints", prints) if prints else None,
    )


def _fold(title: str, children: Sequence[Html]) -> Html:
    return tag("details", tag("summary", title), *children)


def _pairs(items: Mapping[str, str]) -> Html:
    rows = [
        tag("tr", tag("th", name, scope="row"), tag("td", value, class_="mono"))
        for name, value in items.items()
    ]
    return tag("div", tag("table", tag("tbody", *rows)), class_="scroll")
