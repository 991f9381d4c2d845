"""Write the tables of docs/methods.md: what to try first, from `potstill.methods.goals`, with calls counted here.

Calls are those of a rehearsal (`potstill methods NAME` prints the same). Texts that a student writes in its training
are those of a plan (`potstill plan NAME`), without those of evaluations. What stands between the tables is written by
hand. `make papers` runs this; tests/test_docs_methods.py says when it must be run again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from potstill.data.atomic_write import write_text
from potstill.methods.catalogue import MethodEntry, method_entry
from potstill.methods.goals import GOALS, Goal, Kind
from potstill.runs.cast import scripted_roles
from potstill.runs.dry_run import drive_with_stand_ins
from potstill.runs.recipe import from_data
from potstill.runs.rehearsal import STUDENT, Rehearsal, rehearse_method
from potstill.runs.stand_in import Assumptions
from potstill.world.scripted import scripted_stories

PAGE = Path(__file__).parent / "methods.md"
PLANNED_STORIES = 2400  # so many that the few texts of evaluations don't count
MANY_STORIES = 64  # where of a few stories no row is left
HEADERS: dict[Kind, str] = {"have": "you have", "problem": "what goes wrong"}


class MethodCalls(NamedTuple):
    """What a method asks with its defaults.

    Args:
        others: calls of other models than the student, a problem.
        student: calls of the student a problem, until its last training.
        in_training: texts that the student writes while it is trained, a problem.
        answer: calls that one answer takes at test time.
        is_whole: whether the method came to its end; if not, it asks for more than was counted.
    """

    others: float
    student: float
    in_training: float
    answer: float
    is_whole: bool = True

    @property
    def text(self) -> str:
        """In short: `1+6.9`, or `1+1+33` with what the student writes in its training."""
        figures = [self.others, self.student]
        if self.in_training >= 0.1:
            figures.append(self.in_training)
        text = "+".join(format_count(figure) for figure in figures)
        if self.is_whole:
            return text
        return f"at least {text}" if any(figures) else "not on stories"


def count_calls(name: str) -> MethodCalls:
    """Count what a method asks, by a rehearsal, and by a plan where it trains on texts of its own."""
    entry = method_entry(name)
    rehearsal = rehearse_method(entry)
    if rehearsal.stopped:
        rehearsal = max(
            rehearsal, rehearse_method(entry, size=MANY_STORIES), key=lambda tried: tried.progress
        )
    student = rehearsal.calls.get(STUDENT, 0.0)
    return MethodCalls(
        others=sum(rehearsal.calls.values()) - student,
        student=student,
        in_training=count_rollouts(entry, rehearsal),
        answer=sum(rehearsal.answer_calls.values()),
        is_whole=not rehearsal.stopped,
    )


def count_rollouts(entry: MethodEntry, rehearsal: Rehearsal) -> float:
    """The texts that a student writes in its trainings, a problem, as `potstill plan` counts them."""
    if rehearsal.stopped or all(objective == "sft" for objective, _ in rehearsal.rows):
        return 0.0
    # A teacher whose distribution is learnt must have weights here.
    roles = dict.fromkeys(scripted_roles(entry), "world:teacher") | {STUDENT: "world:student"}
    recipe = from_data({"method": entry.name, "roles": roles, "problems": "world:story"})
    stories = scripted_stories(PLANNED_STORIES)
    plan = drive_with_stand_ins(recipe, stories, [], {"": Assumptions()})
    assert not plan.unreached(), plan.unreached()
    calls = 0.0
    for group, role_calls, share in plan.groups:
        if group.role == STUDENT and group.phase == "training" and group.is_trained:
            calls += role_calls.calls / share
    return calls / len(stories)


def format_count(count: float) -> str:
    """Large counts are whole."""
    return f"{count:.0f}" if count >= 10 else f"{count:.1f}".removesuffix(".0")


def guide_methods() -> list[str]:
    """Every method that the guide names, once."""
    return sorted({name for goal in GOALS for name in goal.methods})


def goal_table(kind: Kind, calls: dict[str, MethodCalls]) -> str:
    """A table of the page."""
    lines = [f"| {HEADERS[kind]} | try first (calls a problem) | why these |", "|---|---|---|"]
    lines += [goal_row(goal, calls) for goal in GOALS if goal.kind == kind]
    return "\n".join(lines)


def goal_row(goal: Goal, calls: dict[str, MethodCalls]) -> str:
    """A row of a table: the situation, its methods with their calls, the reason."""
    methods = ", ".join(f"`{name}` ({calls[name].text})" for name in goal.methods)
    return f"| {goal.situation} | {methods} | {goal.reason} |"


def answer_sentence(calls: dict[str, MethodCalls]) -> str:
    """Which methods ask more than once for one answer."""
    named = []
    for name, count in calls.items():
        if count.answer > 1:
            named.append(f"`{name}` {format_count(count.answer)}")
    return (
        f"Calls that one answer takes at test time, where it is more than one: {', '.join(named)}."
    )


def fill(page: str, name: str, text: str) -> str:
    """The page with a text between `<!-- NAME -->` and `<!-- end -->`."""
    pattern = re.compile(rf"<!-- {name} -->\n.*?<!-- end -->", re.DOTALL)
    filled, count = pattern.subn(lambda _: f"<!-- {name} -->\n\n{text}\n\n<!-- end -->", page)
    if count != 1:
        raise ValueError(f"{PAGE.name} has {count} places for {name}, not one")
    return filled


def make_page(page: str, names: Iterable[str]) -> str:
    """The page with its tables written anew."""
    calls = {name: count_calls(name) for name in names}
    page = fill(page, "have", goal_table("have", calls))
    page = fill(page, "problem", goal_table("problem", calls))
    return fill(page, "answers", answer_sentence(calls))


if __name__ == "__main__":
    write_text(PAGE, make_page(PAGE.read_text("utf-8"), guide_methods()))
