"""What people read before a run begins: its arms and problems, the calls that it will make, how long they may take."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from potstill.models.model import Model
from potstill.records import Trace
from potstill.runs.dry_run import drive_with_stand_ins
from potstill.runs.preflight import recorded_models
from potstill.runs.recipe import Recipe
from potstill.runs.run_log import format_duration
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
        opening = " ".join(prompt.split())
        if len(opening) > MAX_PROMPT_CHARS:
            opening = f"{opening[: MAX_PROMPT_CHARS - 1]}…"
        lines.append(f"the learner sees: {opening}{more}")
    return lines


def expected_calls(
    recipe: Recipe,
    models: Mapping[str, Model],
    problems: Sequence[Trace],
    tests: Sequence[Trace],
    *,
    rows_only: bool = False,
) -> Counter[str]:
    """About how many calls a run makes, by role and phase.

    Stand-ins answer in the place of the models, half of the time rightly; nobody is asked.

    Raises:
        PotstillError: the methods can't be rehearsed with made-up answers.
    """
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
    calls: Counter[str] = Counter()
    for group, role_calls, share in driven.groups:
        calls[group.account] += round(role_calls.calls / share)
    return calls


def describe_calls(calls: Mapping[str, int], seconds_a_call: Mapping[str, float]) -> str:
    """A sentence about the calls to come, and how long they may take.

    Args:
        calls: by role and phase.
        seconds_a_call: of earlier calls in the folder, by role and phase.
    """
    by_role = ", ".join(f"{role} {count:,}" for role, count in calls.items() if count)
    sentence = f"about {round_count(sum(calls.values())):,} calls: {by_role}"
    timed = [role for role in calls if role in seconds_a_call]
    if not timed:
        return f"{sentence}; how long they take is said once some have been answered"
    expected = format_duration(sum(calls[role] * seconds_a_call[role] for role in timed))
    unknown = [role for role in calls if calls[role] and role not in seconds_a_call]
    sentence += f"; about {expected} at the rates of earlier calls in this folder"
    if unknown:
        sentence += f", without those of {', '.join(unknown)}, whose rate is not known yet"
    return sentence


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
