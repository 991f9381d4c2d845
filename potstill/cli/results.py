"""What `run` and `quickstart` say when they have come to their end."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from potstill.cli import show
from potstill.cli.progress import clock
from potstill.errors import BudgetSpent, PotstillError, StoreError
from potstill.evaluation.compare import standings
from potstill.evaluation.metrics import status_share
from potstill.evaluation.results import Results, sections_by_arm_to_json
from potstill.evaluation.rows import Evaluation
from potstill.evaluation.table import format_count, format_usd, table
from potstill.report import page
from potstill.store import Store, database

_UNREAD = 0.5
DROPS = 8  # reasons shown an arm; the report has them all


@contextmanager
def keeping(out: Path) -> Iterator[None]:
    """Say, where a run stops with an error, what becomes of what it made."""
    try:
        yield
    except StoreError:
        raise
    except PotstillError as error:
        if _holds(out) and not isinstance(error, BudgetSpent):
            error.add_note(
                f"what was generated is kept in {out}: the same command goes on from there; for other settings take "
                f"another --out (potstill cache export and import carry the completions over)"
            )
        raise


def _holds(out: Path) -> bool:
    if not (out / database.FILE).exists():
        return False
    with Store.open(out, readonly=True) as store:
        return not store.is_empty()


def finish(
    args: argparse.Namespace, results: Results, out: Path, seconds: float, *, funnels: bool
) -> None:
    """Write report.html and print the outcome."""
    page.write(results, out / "report.html")
    rows = sorted(str(path) for path in (out / "rows").glob("*.jsonl"))
    if args.json:
        show.document(_document(results, out, rows, seconds))
        return
    show.arms(table(results))
    if funnels or not results.evaluations:
        _funnels(results)
    _costs(results)
    for sentence in _sentences(results):
        show.say(sentence)
    if results.note:
        show.say(results.note)
    show.say()
    paths = [
        ("results", [str(out / "results.json")]),
        ("rows", rows),
        ("report", [str(out / "report.html")]),
    ]
    for name, files in paths:
        for file in files:
            show.say(f"{name:<8} {file}")
    show.say(f"took     {clock(seconds)}")


def _document(results: Results, out: Path, rows: Sequence[str], seconds: float) -> dict[str, Any]:
    funnels = {
        arm: {
            "steps": [step._asdict() for step in funnel.steps],
            "drops": [_drop(drop) for drop in funnel.drops],
        }
        for arm, funnel in results.funnels.items()
    }
    return {
        "out": str(out),
        "results": str(out / "results.json"),
        "report": str(out / "report.html"),
        "rows": rows,
        "seconds": round(seconds, 1),
        "table": table(results),
        "comparisons": [comparison.to_json() for comparison in results.comparisons],
        "funnels": funnels,
        "training": dict(results.training),
        "costs": {
            a: {role: cost._asdict() for role, cost in roles.items()}
            for a, roles in results.costs.items()
        },
        "sections": sections_by_arm_to_json(results),
        "notes": _sentences(results),
        "note": results.note,
    }


def _drop(drop: Any) -> dict[str, Any]:
    return {
        "operator": drop.operator,
        "test": drop.test,
        "reason": drop.reason,
        "count": drop.count,
    }


def _sentences(results: Results) -> list[str]:
    """What the numbers say, whichever arm is ahead; what the run noted; what makes the numbers say little."""
    measured = list(results.evaluations.values())
    ahead = standings(measured) if len(measured) > 1 else []
    return list(dict.fromkeys([*ahead, *results.notes, *unread(measured)]))


def unread(evaluations: Iterable[Evaluation]) -> list[str]:
    """A sentence an arm whose answers are mostly in no form that can be read: its score says little about reasoning."""
    said = []
    for evaluation in evaluations:
        share = status_share(evaluation, "unparsed")
        if share > _UNREAD:
            said.append(
                f"{evaluation.name}: {100 * share:.0f} % of the answers are in no form that the verifier reads, such "
                "as \\boxed{18}. Ask for it with --prompt, or allow longer answers (max_tokens)."
            )
    return said


def _funnels(results: Results) -> None:
    for arm, funnel in results.funnels.items():
        steps = [
            {
                "step": step.operator,
                "of": show.short(step.label, 40),
                "in": step.taken,
                "out": step.returned,
            }
            for step in funnel.steps
        ]
        show.table(steps, title=f"{arm}: from problems to rows")
        reasons = by_reason(funnel.drops)
        shown = [
            {"dropped": count, "by": by, "reason": reason}
            for (by, reason), count in reasons[:DROPS]
        ]
        show.table(shown, title=f"{arm}: why traces were dropped")
        if len(reasons) > DROPS:
            show.say(f"… and {len(reasons) - DROPS} more reasons, in the report")


def by_reason(drops: Sequence[Any]) -> list[tuple[tuple[str, str], int]]:
    """((operator and test, kind of reason), traces), most frequent first; what a reason quotes stands after a colon."""
    counts: dict[tuple[str, str], int] = {}
    for drop in drops:
        key = (f"{drop.operator} {drop.test}", drop.reason.split(":")[0])
        counts[key] = counts.get(key, 0) + drop.count
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _costs(results: Results) -> None:
    paid = any(
        cost.cost or cost.lost for roles in results.costs.values() for cost in roles.values()
    )
    rows = [
        {
            "arm": arm,
            "role": role,
            "calls": f"{cost.calls:,}",
            "tokens": format_count(cost.completion_tokens),
        }
        | ({"money": format_usd(cost.cost + cost.lost)} if paid else {})
        for arm, roles in results.costs.items()
        for role, cost in roles.items()
    ]
    show.table(rows, title="what it cost, by role")
