"""The report's funnels: from problems to rows, operator by operator, and why texts were dropped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from potstill.evaluation.results import Funnel, FunnelStep
from potstill.report.charts import Bar, bar_chart
from potstill.report.markup import Html, tag
from potstill.report.section import Section, data_table, fold, make_section

MAX_PERIOD = 12  # operators of a stretch that is looked for again
MAX_REASONS = 40  # rows of a table of reasons
# What each operator does, for who has not read docs/api.md.
OPERATOR_GLOSSES = {
    "problems": "the problems that the run was given",
    "decontaminate": "takes out training problems that are evaluation problems",
    "sample": "a model continues each text, or answers each problem",
    "rewrite": "a model writes the text anew",
    "edit": "a rule changes the text; no model is asked",
    "segment": "cuts each text into units, such as steps",
    "verify": "a verifier judges each answer: right, wrong, unparsed or unjudged",
    "score": "notes a figure beside each text",
    "keep": "keeps the texts that pass a test",
    "best": "keeps the best texts of each group",
    "vote": "keeps a text with the answer that most texts of the group have",
    "dedupe": "keeps one of equal texts",
    "pair": "pairs a chosen text with a rejected one",
    "weigh": "gives each text a weight in the loss",
    "mix": "shuffles texts of several sources together",
    "each": "runs a search or a program on each problem",
    "train": "the rows that the student learns from",
    "import": "texts that were read from a file",
}


_NO_ROWS = FunnelStep("train", "rows", 0, 0)


def funnels_section(funnel_by_arm: Mapping[str, Funnel], *, ended: bool = True) -> Section | None:
    """From problems to rows, and why every dropped text was dropped.

    Args:
        funnel_by_arm: what the operators did, in program order.
        ended: whether the run came to its end; of one that did not, an arm may not have come to its rows.
    """
    if not funnel_by_arm:
        return None
    hint = (
        "One bar an operator, in program order: how many texts went in, how many came out. The pale part was dropped. "
        "(×3) says that a stretch of operators ran three times; its counts are added up."
    )
    funnels: list[Html] = []
    for arm, funnel in funnel_by_arm.items():
        funnels.append(tag("h3", arm))
        if ended or funnel.steps != (_NO_ROWS,):
            funnels.append(_draw_funnel(arm, funnel))
        else:
            funnels.append(tag("p", "The run ended before this arm began.", class_="soft"))
    used: set[str] = set()
    for funnel in funnel_by_arm.values():
        used.update(step.operator for step in funnel.steps)
    return make_section("From problems to rows", hint, _glossary(used), *funnels)


def _glossary(operators: set[str]) -> Html:
    """What the operators that the run used do."""
    lines: list[Html] = []
    for operator, gloss in OPERATOR_GLOSSES.items():
        if operator in operators:
            lines.append(tag("dt", operator))
            lines.append(tag("dd", gloss))
    return fold("What the operators do", tag("dl", *lines))


def fold_repeats(steps: Sequence[FunnelStep]) -> list[tuple[FunnelStep, int]]:
    """Stretches of steps that repeat at once (a method's further tries) as one, their counts added; with how often."""
    folded: list[tuple[FunnelStep, int]] = []
    for places in repeated_places(steps):
        repeats = [steps[place] for place in places]
        first = repeats[0]
        taken = sum(step.taken for step in repeats)
        returned = sum(step.returned for step in repeats)
        folded.append((FunnelStep(first.operator, first.label, taken, returned), len(places)))
    return folded


def repeated_places(steps: Sequence[FunnelStep]) -> list[list[int]]:
    """The places of the steps that `fold_repeats` makes one of, in its order."""
    names = [(step.operator, step.label) for step in steps]
    groups: list[list[int]] = []
    start = 0
    while start < len(names):
        period, times = _find_repeat(names[start:])
        stop = start + period * times
        for offset in range(period):
            groups.append(list(range(start + offset, stop, period)))
        start = stop
    return groups


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
    full = 0  # the longest bar
    bars: list[Bar] = []
    for step, times in fold_repeats(funnel.steps):
        label = f"{step.operator}: {step.label}" if step.label else step.operator
        if times > 1:
            label += f" (×{times})"
        full = max(full, step.taken, step.returned)
        lost = max(0, step.taken - step.returned)
        value = f"{step.taken:,} → {step.returned:,}"
        bars.append(Bar(label, ((step.returned, ""), (lost, "lost")), value))
    chart = bar_chart(bars, full) if bars else None
    return tag("div", chart, _list_drops(arm, funnel), class_="funnel")


def _list_drops(arm: str, funnel: Funnel) -> Html:
    dropped = sum(drop.count for drop in funnel.drops)
    if not dropped:
        return tag("p", "Nothing was dropped.", class_="soft")
    counts: Counter[tuple[str, str]] = Counter()
    for drop in funnel.drops:
        counts[drop.reason or "no reason given", f"{drop.operator} {drop.test}"] += drop.count
    rows: list[tuple[str, ...]] = []
    for (reason, dropped_by), count in counts.most_common(MAX_REASONS):
        rows.append((reason, dropped_by, f"{count:,}"))
    more = None
    if len(counts) > MAX_REASONS:
        more = tag("p", f"And {len(counts) - MAX_REASONS:,} more reasons.", class_="soft")
    table = data_table(
        ("reason", "dropped by", "texts"),
        rows,
        name=f"{arm}: why texts were dropped",
        number_columns=1,
    )
    return fold(f"{dropped:,} texts dropped, by reason", table, more)
