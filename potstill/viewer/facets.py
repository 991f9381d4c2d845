"""What lists of traces are filtered and counted by: facets, and the groups of equal entries.

A group is a combination of values that is there. Whatever is chosen in facets of groups is a choice of group numbers,
and all their counts come from one count by group. A few facets are not of groups, because a trace has several values of
them, or because they change without it: drops and their reasons, rows, marks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from potstill.models.phase import split_account
from potstill.runs.folder_layout import UNTRAINED, evaluation_ledger, examples_ledger
from potstill.store.store import Store
from potstill.viewer.index.index_file import GROUP_COLUMNS

NONE = "none"
NOTED_FACETS = ("dropped", "reason", "row", "mark")
"""Facets that are not of groups."""
MULTIPLE_FACETS = ("dropped", "reason")
"""Facets of which a trace may have several values, or none."""
LEDGERS = ("rows", "evaluation", "examples")


class Group(NamedTuple):
    """The values that all entries of a group have."""

    number: int
    arm: str
    operator: str
    status: str
    finish: str
    model: str
    saw_gold: int
    is_prefixed: int
    failure: str
    kind: str
    source: str


@dataclass(frozen=True, slots=True)
class Facet:
    """One facet.

    Args:
        label: for people.
        value_of: the value of a group, given the roles of model ids; None for a facet that is not of groups.
    """

    label: str
    value_of: Callable[[Group, Mapping[str, str]], str] | None = None


def ledger_of(arm: str) -> str:
    """What the list of an arm's name is of: the rows that it makes, its measurement, or its answers to row problems."""
    if arm == UNTRAINED or arm.endswith(evaluation_ledger("")):
        return "evaluation"
    return "examples" if arm.endswith(examples_ledger("")) else "rows"


def arm_of_ledger(ledger: str) -> str:
    """The arm that a list belongs to."""
    for suffix in (evaluation_ledger(""), examples_ledger("")):
        if ledger.endswith(suffix):
            return ledger.removesuffix(suffix)
    return ledger


FACETS: Mapping[str, Facet] = {
    "arm": Facet("arm", lambda group, _: group.arm),
    "ledger": Facet("part of the run", lambda group, _: ledger_of(group.arm)),
    "operator": Facet("operator", lambda group, _: group.operator),
    "status": Facet("verdict", lambda group, _: group.status),
    "author": Facet("written by", lambda group, roles: author_of(group.model, roles)),
    "finish": Facet("ended by", lambda group, _: group.finish or NONE),
    "dropped": Facet("dropped by"),
    "reason": Facet("why dropped"),
    "row": Facet("in a row"),
    "mark": Facet("marked"),
    "gold": Facet("saw the gold answer", lambda group, _: "saw" if group.saw_gold else "not"),
    "prefix": Facet("begun by another", lambda group, _: "given" if group.is_prefixed else NONE),
    "cut": Facet("cut at the limit", lambda group, _: "yes" if group.finish == "length" else "no"),
    "errored": Facet("failed", lambda group, _: group.failure or "no"),
    "kind": Facet("kind of problem", lambda group, _: group.kind or NONE),
    "source": Facet("source of the problem", lambda group, _: group.source or NONE),
}


def author_of(model: str, roles: Mapping[str, str]) -> str:
    """Who wrote a trace: a role, a trained student's arm, or the model's id where it has no name."""
    return roles.get(model, model) if model else NONE


def roles_of_models(store: Store) -> dict[str, str]:
    """A name for each model id: the role it was asked in first, and of a trained student its arm."""
    roles: dict[str, str] = {}
    # From the index by minutes: the table of completions is too large to be read for each list.
    sql = "SELECT role, model FROM view.minutes GROUP BY role, model ORDER BY min(minute), role"
    models_by_role = store.database.read(sql)
    if not models_by_role:
        models_by_role = list(store.completions.first_models().items())
    for account, model in models_by_role:
        roles.setdefault(model, split_account(account)[0])
    # A student goes by the first arm that trained it.
    stages: dict[str, str] = {}
    for arm, stage in store.database.read("SELECT DISTINCT arm, stage FROM rows ORDER BY rowid"):
        stages.setdefault(stage, arm)
    for student in store.students.all():
        if student.stage in stages:
            roles[student.model] = f"trained {stages[student.stage]}"
    return roles


def read_groups(store: Store) -> list[Group]:
    """All groups of the index."""
    sql = f"SELECT number, {', '.join(GROUP_COLUMNS)} FROM view.groups ORDER BY number"
    return [Group(*row) for row in store.database.read(sql)]


def choose_groups(
    groups: Sequence[Group],
    chosen: Mapping[str, GroupChoice],
    roles: Mapping[str, str],
    *,
    without: str = "",
) -> list[Group]:
    """The groups that fit what is chosen; with `without` one facet's choice is not looked at."""
    # Some hundreds of groups, so Python is fast enough, and roles need not be in the index.
    fitting = []
    for group in groups:
        is_fitting = True
        for name, choice in chosen.items():
            value_of = FACETS[name].value_of
            assert value_of is not None  # only facets of groups are chosen among
            if name != without and not choice.holds(value_of(group, roles)):
                is_fitting = False
        if is_fitting:
            fitting.append(group)
    return fitting


@dataclass(slots=True)
class GroupChoice:
    """What is chosen of a facet: sets of which each must have the value, and values that it must not be."""

    allowed: list[frozenset[str]]
    refused: set[str]

    def holds(self, value: str) -> bool:
        """Whether a value fits."""
        return value not in self.refused and all(value in values for values in self.allowed)

    def names(self, value: str) -> bool:
        """Whether a value was chosen."""
        return any(value in values for values in self.allowed)
