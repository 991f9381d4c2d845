"""Results as plain rows of strings: what the terminal and the report print, from one place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from potstill.evaluation.compare import Comparison, compare
from potstill.evaluation.intervals import Estimate
from potstill.evaluation.metrics import (
    average,
    cut_share,
    majority_at,
    mean_tokens,
    pass_at,
    status_share,
    step_accuracy,
    usage_per_answer,
)
from potstill.evaluation.results import Cost, Results
from potstill.evaluation.row_steps import shrink_notes
from potstill.evaluation.rows import Evaluation

BASE = "untrained"
NONE = "–"
NOTED_SHARE = 0.05  # share of cut or failed answers above which a note says so
NOTED_UNPARSED_SHARE = 0.5  # share of unreadable answers above which a note says so


def table(results: Results, *, base: str = BASE, ks: Sequence[int] = ()) -> list[dict[str, str]]:
    """One row an arm, columns in print order.

    Args:
        results: of a run, or of evaluations alone.
        base: the arm that the others are compared with; where it is absent, or was asked something else, those columns
            say so.
        ks: the k of pass@k and maj@k; n where there are none.
    """
    # Columns are named by n where all arms have the same.
    counts = {evaluation.n for evaluation in results.evaluations.values()}
    n = str(counts.pop()) if len(counts) == 1 else "n"
    rows: list[dict[str, str]] = []
    for evaluation in results.evaluations.values():
        rows.append(format_arm(results, evaluation, n, base, ks))
    return rows


def format_arm(
    results: Results, evaluation: Evaluation, n: str, base: str, ks: Sequence[int] = ()
) -> dict[str, str]:
    """The row of one arm; `n` names the columns of avg@n, and of pass@n and maj@n where there are no `ks`."""
    # pass and maj at the k that were asked for, else at n.
    pass_columns: dict[str, str] = {}
    majority_columns: dict[str, str] = {}
    for k in ks:
        pass_columns[f"pass@{k}"] = format_percent(pass_at(evaluation, k))
        majority_columns[f"maj@{k}"] = format_percent(majority_at(evaluation, k))
    if not ks:
        pass_columns[f"pass@{n}"] = format_percent(pass_at(evaluation, evaluation.n))
        majority_columns[f"maj@{n}"] = format_percent(majority_at(evaluation))

    # What not every arm has: steps that can be judged, a training, a base to be compared with.
    name = evaluation.name
    accuracy_of_steps = step_accuracy(evaluation)
    training_rows = results.training.get(name, {}).get("rows")
    comparison = find_comparison(results, name, base)
    if isinstance(comparison, Comparison):
        difference, verdict = format_points(comparison.difference), comparison.sentence
    else:
        difference, verdict = NONE, comparison
    return {
        "arm": name,
        "rows": NONE if training_rows is None else f"{training_rows:,}",
        f"avg@{n}": format_percent(average(evaluation)),
        **pass_columns,
        **majority_columns,
        "steps right": NONE if accuracy_of_steps is None else format_percent(accuracy_of_steps),
        "unparsed": f"{100 * status_share(evaluation, 'unparsed'):.1f} %",
        "cut": f"{100 * cut_share(evaluation):.1f} %",
        "errors": f"{100 * status_share(evaluation, 'error'):.1f} %",
        "tokens/answer": f"{mean_tokens(evaluation).value:.0f}",
        f"vs {base}": difference,
        "verdict": verdict,
        "cost": format_costs(results.costs.get(name, {})),
    }


def usage_table(evaluations: Iterable[Evaluation]) -> list[dict[str, str]]:
    """One row an arm and role: what an answer took of it, in calls, tokens and money."""
    rows: list[dict[str, str]] = []
    for evaluation in evaluations:
        for role, used in usage_per_answer(evaluation).items():
            rows.append(
                {
                    "arm": evaluation.name,
                    "an answer takes of": role,
                    "calls": f"{used.calls:.3g}",
                    "prompt tokens": f"{used.prompt_tokens:,.0f}",
                    "completion tokens": f"{used.completion_tokens:,.0f}",
                    "cost": format_usd(used.cost) if used.cost else NONE,
                }
            )
    return rows


def quality_notes(evaluations: Iterable[Evaluation]) -> list[str]:
    """Sentences about arms whose scores say less than they seem to: repeated draws, answers cut, failed or unread.

    And about arms whose answers a training made short.
    """
    evaluations = list(evaluations)
    notes = shrink_notes(evaluations, BASE)
    for evaluation in evaluations:
        if evaluation.repeats:
            notes.append(evaluation.repeat_note())
        cut = cut_share(evaluation)
        if cut > NOTED_SHARE:
            notes.append(
                f"{evaluation.name}: {100 * cut:.0f} % of the answers were cut at the token limit, so the score is "
                "that of a shorter budget. Allow longer answers (max_new_tokens)."
            )
        failed = status_share(evaluation, "error")
        if failed > NOTED_SHARE:
            notes.append(
                f"{evaluation.name}: {100 * failed:.0f} % of the answers are failed calls, which count as not right."
            )
        unparsed = status_share(evaluation, "unparsed")
        if unparsed > NOTED_UNPARSED_SHARE:
            notes.append(
                f"{evaluation.name}: {100 * unparsed:.0f} % of the answers are in no form that the verifier reads, "
                "such as \\boxed{18}. Ask for it with --prompt, or allow longer answers (max_new_tokens)."
            )
    return notes


def find_comparison(results: Results, name: str, base: str) -> Comparison | str:
    """The comparison of an arm with the base: the stored one, else a new one, else the reason why there is none."""
    if name == base:
        return "the base of the differences"
    for comparison in results.comparisons:
        if (comparison.arm, comparison.base) == (name, base):
            return comparison
    if base not in results.evaluations:
        return f"no arm {base} to compare with"
    # No stored comparison: the base was chosen after the run.
    arm, other = results.evaluations[name], results.evaluations[base]
    differs = arm.fingerprint.differs(other.fingerprint)
    if differs:
        return f"not compared (unequal: {', '.join(differs)})"
    return compare(arm, other)


def format_percent(estimate: Estimate) -> str:
    """A share with its interval: `61.2 % [57.9, 64.4]`."""
    value, low, high = (100 * end for end in estimate)
    return f"{value:.1f} % [{low:.1f}, {high:.1f}]"


def format_points(estimate: Estimate) -> str:
    """A difference with its interval, in points of 100: `+12.3 [+8.1, +16.5]`."""
    value, low, high = (100 * end for end in estimate)
    return f"{value:+.1f} [{low:+.1f}, {high:+.1f}]"


def format_costs(roles: Mapping[str, Cost]) -> str:
    """Calls and completion tokens of each role: `teacher 300 calls 41k tokens; student 1,200 calls 96k tokens`."""
    parts: list[str] = []
    for role, cost in roles.items():
        part = f"{role} {cost.calls:,} calls {format_count(cost.completion_tokens)} tokens"
        paid = cost.cost + cost.lost
        parts.append(f"{part} {format_usd(paid)}" if paid else part)
    return "; ".join(parts) or NONE


def format_usd(money: float) -> str:
    """Money as people read it, small amounts to four figures: `12.30 USD`, `0.004123 USD`."""
    return f"{money:,.2f} USD" if money >= 10 else f"{money:.4g} USD"


def format_count(count: int) -> str:
    """A count in three figures: 950, 41.2k, 3.1M."""
    if count < 1000:
        return str(count)
    if count < 1_000_000:
        return f"{count / 1000:.1f}k"
    return f"{count / 1_000_000:.1f}M"
