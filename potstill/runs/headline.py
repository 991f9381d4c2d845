"""What people read before a run begins: its arms and problems, the calls that it will make, how long they may take."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from potstill.errors import PotstillError
from potstill.models.model import Model
from potstill.records import Trace
from potstill.runs.dry_run import drive_with_stand_ins
from potstill.runs.preflight import recorded_models
from potstill.runs.recipe import Recipe
from potstill.runs.stand_in import Assumptions
from potstill.store.store import Store

FEW_PROBLEMS = 6  # that stand-ins are driven on: a headline may not take long
PAUSE_SECONDS = 300  # between two answers: a run ended there
MAX_PROMPT_CHARS = 100  # of the learner's prompt


def headline(
    recipe: Recipe, problems: Sequence[Trace], tests: Sequence[Trace], prompts: Sequence[str]
) -> list[str]:
    """Which arms run on which problems, and what the learner sees.

    Args:
        recipe: of the run.
        problems: to train on.
        tests: to measure on.
        prompts: the templates of what the learner sees.
    """
    arms = f"{len(recipe.arms)} arms: " if len(recipe.arms) > 1 else "arm "
    line = f"{arms}{', '.join(recipe.arms)}; {len(problems):,} problems"
    if tests:
        line += f", measured on {len(tests):,}"
    lines = [line]
    for prompt in prompts[:1]:
        more = f" (and {len(prompts) - 1} others)" if len(prompts) > 1 else ""
        shown = " ".join(prompt.split())
        if len(shown) > MAX_PROMPT_CHARS:
            shown = f"{shown[: MAX_PROMPT_CHARS - 1]}…"
        lines.append(f"the learner sees: {shown}{more}")
    return lines


def expected_calls(
    recipe: Recipe,
    models: Mapping[str, Model],
    problems: Sequence[Trace],
    tests: Sequence[Trace],
    *,
    rows_only: bool = False,
) -> Counter[str]:
    """About how many calls a run makes, by role and phase; empty where its methods can't be rehearsed.

    Stand-ins answer in the place of the models, half of the time rightly; nobody is asked.
    """
    try:
        driven = drive_with_stand_ins(
            recipe,
            problems,
            tests,
            {"": Assumptions()},
            recorded_models(models),
            extra_roles=[key for key in models if key not in recipe.roles],
            rows_only=rows_only,
            count=FEW_PROBLEMS,
        )
    except PotstillError:
        # The run itself will say this better, or need not stop at it: made-up answers are not the models'.
        return Counter()
    calls: Counter[str] = Counter()
    for group, role_calls, share in driven.groups:
        calls[group.account] += round(role_calls.calls / share)
    return calls


def describe_calls(calls: Mapping[str, int], store: Store) -> str:
    """A sentence about the calls to come, and how long they may take at the rates of this folder's earlier calls."""
    by_role = ", ".join(f"{role} {count:,}" for role, count in calls.items() if count)
    sentence = f"about {round_count(sum(calls.values())):,} calls: {by_role}"
    seconds = seconds_by_role(store)
    known = [role for role in calls if role in seconds]
    if not known:
        return f"{sentence}; how long they take is known once some have been answered"
    expected = sum(calls[role] * seconds[role] for role in known)
    return f"{sentence}; {format_minutes(expected)} at the rates of earlier calls in this folder"


def seconds_by_role(store: Store) -> dict[str, float]:
    """The seconds from one stored answer to the next, by role and phase; pauses between runs do not count."""
    sql = (
        "SELECT role, avg(gap) FROM (SELECT role, created - lag(created) OVER (PARTITION BY role ORDER BY created) "
        f"AS gap FROM completions) WHERE gap < {PAUSE_SECONDS} GROUP BY role"
    )
    return {role: float(seconds) for role, seconds in store.database.read(sql) if seconds}


def round_count(count: int) -> int:
    """A count in two figures: it is an estimate."""
    digits = len(str(count)) - 2
    return count if digits < 1 else round(count, -digits)


def format_minutes(seconds: float) -> str:
    """About how long: seconds, minutes or hours."""
    if seconds < 90:
        return f"about {seconds:.0f} s"
    if seconds < 5400:
        return f"about {seconds / 60:.0f} min"
    return f"about {seconds / 3600:.1f} h"
