"""Results as plain rows of strings: what the terminal and the report print, from one place."""

from __future__ import annotations

from collections.abc import Mapping

from potstill.evaluation.compare import Comparison, compare
from potstill.evaluation.intervals import Estimate
from potstill.evaluation.metrics import average, majority_at, pass_at, status_share, steps, tokens
from potstill.evaluation.results import Cost, Results
from potstill.evaluation.rows import Evaluation

BASE = "untrained"
NONE = "–"


def table(results: Results, *, base: str = BASE) -> list[dict[str, str]]:
    """One row an arm, columns in print order.

    Args:
        base: the arm that the others are compared with; where it is absent, or was asked something else, those columns
            say so.
    """
    shared = {e.n for e in results.evaluations.values()}
    n = str(shared.pop()) if len(shared) == 1 else "n"
    return [_row(results, name, e, n, base) for name, e in results.evaluations.items()]


def _row(results: Results, name: str, evaluation: Evaluation, n: str, base: str) -> dict[str, str]:
    stepped = steps(evaluation)
    compared = against(results, name, base)
    rows = results.training.get(name, {}).get("rows")
    return {
        "arm": name,
        "rows": NONE if rows is None else f"{rows:,}",
        f"avg@{n}": percent(average(evaluation)),
        f"pass@{n}": percent(pass_at(evaluation, evaluation.n)),
        f"maj@{n}": percent(majority_at(evaluation)),
        "steps": percent(stepped) if stepped else NONE,
        "unparsed": f"{100 * status_share(evaluation, 'unparsed'):.1f} %",
        "errors": f"{100 * status_share(evaluation, 'error'):.1f} %",
        "tokens/answer": f"{tokens(evaluation).value:.0f}",
        f"vs {base}": points(compared.difference) if isinstance(compared, Comparison) else NONE,
        "verdict": compared.sentence if isinstance(compared, Comparison) else compared,
        "cost": cost(results.costs.get(name, {})),
    }


def against(results: Results, name: str, base: str) -> Comparison | str:
    """The comparison of an arm with the base: the stored one, else a new one, else the reason why there is none."""
    if name == base:
        return "the base of the differences"
    for comparison in results.comparisons:
        if (comparison.arm, comparison.base) == (name, base):
            return comparison
    if base not in results.evaluations:
        return f"no arm {base} to compare with"
    arm, other = results.evaluations[name], results.evaluations[base]
    differs = arm.fingerprint.differs(other.fingerprint)
    return f"not compared (unequal: {', '.join(differs)})" if differs else compare(arm, other)


def percent(estimate: Estimate) -> str:
    """A share with its interval: `61.2 % [57.9, 64.4]`."""
    value, low, high = (100 * end for end in estimate)
    return f"{value:.1f} % [{low:.1f}, {high:.1f}]"


def points(estimate: Estimate) -> str:
    """A difference with its interval, in points of 100: `+12.3 [+8.1, +16.5]`."""
    value, low, high = (100 * end for end in estimate)
    return f"{value:+.1f} [{low:+.1f}, {high:+.1f}]"


def cost(roles: Mapping[str, Cost]) -> str:
    """Calls and completion tokens of each role: `teacher 300 calls 41k tokens; student 1,200 calls 96k tokens`."""
    parts = [
        f"{role} {c.calls:,} calls {short(c.completion_tokens)} tokens{_paid(c)}"
        for role, c in roles.items()
    ]
    return "; ".join(parts) or NONE


def _paid(cost: Cost) -> str:
    return f" {usd(cost.cost + cost.lost)}" if cost.cost or cost.lost else ""


def usd(money: float) -> str:
    """Money as people read it, small amounts to four figures: `12.30 USD`, `0.004123 USD`."""
    return f"{money:,.2f} USD" if money >= 10 else f"{money:.4g} USD"


def short(count: int) -> str:
    """A count in three figures: 950, 41.2k, 3.1M."""
    if count < 1000:
        return str(count)
    return f"{count / 1000:.1f}k" if count < 1_000_000 else f"{count / 1_000_000:.1f}M"
