"""Which entries a list holds: a query and chosen facets as conditions in SQL."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from potstill.store.store import Store
from potstill.viewer import query as queries
from potstill.viewer.facets import (
    FACETS,
    NONE,
    NOTED_FACETS,
    Group,
    GroupChoice,
    choose_groups,
    read_groups,
    roles_of_models,
)
from potstill.viewer.index.words import has_words, share_indexed
from potstill.viewer.query import ExactText, Message, Query, Range, Values

# Above this share of all entries a list is read in its order rather than by the index of groups.
_SCANNED_SHARE = 0.1


class Condition(NamedTuple):
    """A condition in SQL with its arguments.

    Args:
        facet: the facet that it chooses in, if any.
        traces: of words, the SELECT of the traces that have them.
    """

    sql: str
    args: tuple[Any, ...] = ()
    facet: str = ""
    traces: str = ""


@dataclass(slots=True)
class Chosen:
    """What is asked of a list: a query as typed, and the chosen values of facets."""

    text: str = ""
    facets: Mapping[str, Sequence[str]] = field(default_factory=dict)


class Selection:
    """The entries of a list.

    Args:
        store: with the index attached.
        chosen: what is asked for.
        marks: by trace id, how it is marked.
    """

    def __init__(
        self, store: Store, chosen: Chosen, marks: Mapping[str, str] | None = None
    ) -> None:
        self.store, self.marks = store, marks or {}
        self.query: Query = queries.parse_query(chosen.text, list(FACETS))
        self.groups: list[Group] = read_groups(store)
        self.roles = roles_of_models(store)
        self.group_choices: dict[str, GroupChoice] = {}
        self.conditions: list[Condition] = []
        self.noted_choices: dict[str, list[tuple[str, ...]]] = {}
        self._add_values([*self.query.values, *_chosen_values(self.query, chosen.facets)])
        self._add_words()
        for condition in self.query.ranges:
            self._add_range(condition)

    @property
    def messages(self) -> list[Message]:
        """What the reader should know of the query."""
        return self.query.messages

    @property
    def literals(self) -> list[ExactText]:
        """What must be looked for text by text, after everything else."""
        return self.query.literals

    def indexed(self) -> dict[str, Any]:
        """How far the index is."""
        [(is_behind,)] = self.store.database.read(
            "SELECT count(*) FROM main.arms a LEFT JOIN view.arms k ON k.arm = a.arm "
            "WHERE k.arm IS NULL OR (a.finished AND NOT k.is_complete)"
        )
        # An arm that is being made is followed, and never counts as behind; its newest rows come within a second.
        share = 1.0
        if is_behind:
            [(there,)] = self.store.database.read("SELECT count(*) FROM made")
            [(read,)] = self.store.database.read("SELECT count(*) FROM view.entries")
            share = min(0.99, read / there) if there else 1.0
        words = share_indexed(self.store.database) if has_words(self.store.database) else 0.0
        return {
            "traces": share,
            "words": min(share, words),
            "has_words": has_words(self.store.database),
        }

    def where(self, *, without: str = "", prefer_order: bool = False) -> tuple[str, list[Any]]:
        """The condition of a WHERE clause, and its arguments.

        Args:
            without: a facet whose choice is not looked at.
            prefer_order: the statement reads entries in an order of their own and stops early, so that the index of
                groups is worth its sorting only for a small part of them.
        """
        # What is chosen in facets of groups is a set of groups; of all of them nothing need be said.
        parts: list[str] = ["1"]
        args: list[Any] = []
        fitting = choose_groups(self.groups, self.group_choices, self.roles, without=without)
        if len(fitting) < len(self.groups):
            column = 'e."group"'
            if prefer_order and self._share_of(fitting) > _SCANNED_SHARE:
                column = '+e."group"'  # the sign keeps SQLite from using the index
            numbers = ",".join(str(group.number) for group in fitting)
            parts.append(f"{column} IN ({numbers})")
        for condition in self.conditions:
            if not condition.facet or condition.facet != without:
                parts.append(condition.sql)
                args += condition.args
        return " AND ".join(parts), args

    def count(self) -> int:
        """How many entries there are, literals not looked at."""
        count = self.quick_count()
        if count is not None:
            return count
        where, args = self.where()
        [(count,)] = self.store.database.read(
            f"SELECT count(*) FROM view.entries e WHERE {where}", args
        )
        return int(count)

    def quick_count(self) -> int | None:
        """How many entries there are, where groups alone decide that: they know how many they have; else None."""
        if self.conditions:
            return None
        fitting = choose_groups(self.groups, self.group_choices, self.roles)
        return sum(self.count_by_group.get(group.number, 0) for group in fitting)

    @cached_property
    def count_by_group(self) -> dict[int, int]:
        """How many entries each group has, whatever is asked for."""
        return dict(
            self.store.database.read('SELECT "group", count(*) FROM view.entries GROUP BY 1')
        )

    def choose_entries(self, seqs: Sequence[int]) -> None:
        """Only these entries are left of the list, whatever literals it asked for."""
        self.query.literals.clear()
        listed = json.dumps(list(seqs))
        self.conditions.append(Condition("e.seq IN (SELECT value FROM json_each(?))", (listed,)))

    def _share_of(self, groups: Sequence[Group]) -> float:
        total = sum(self.count_by_group.values())
        return sum(self.count_by_group.get(group.number, 0) for group in groups) / max(1, total)

    def _add_values(self, chosen: Sequence[Values]) -> None:
        for values in chosen:
            if values.field in queries.ID_FIELDS:
                self._add_ids(values)
            elif values.field in NOTED_FACETS:
                self._add_noted(values)
            else:
                choice = self.group_choices.setdefault(values.field, GroupChoice([], set()))
                if values.is_negated:
                    choice.refused.update(values.values)
                else:
                    choice.allowed.append(frozenset(values.values))

    def _add_words(self) -> None:
        words = self.query.words
        if not words:
            return
        if not has_words(self.store.database):
            text = "this Python's SQLite has no full text search: write 'exactly these characters'"
            self.query.messages.append(Message("error", text))
            return
        # All words that must be there are one question to the index, each that must not be one of its own.
        matching = "SELECT rowid FROM view.words WHERE words MATCH ?"
        sql, args = "SELECT number FROM view.ids", []
        expression = queries.match_expression([term for term in words if not term.is_negated])
        if expression:
            sql, args = matching, [expression]
        for term in words:
            if term.is_negated:
                sql += f" EXCEPT {matching}"
                args.append(queries.match_expression([term]))
        self.conditions.append(Condition(f"e.trace IN ({sql})", tuple(args), traces=sql))

    def hold_words(self) -> None:
        """Look the words up once: for statements that would each do it anew."""
        for place, condition in enumerate(self.conditions):
            if condition.traces:
                read = self.store.database.read
                read("DROP TABLE IF EXISTS temp.found")
                read("CREATE TEMP TABLE found (trace INTEGER PRIMARY KEY)")
                read(f"INSERT INTO temp.found {condition.traces}", condition.args)
                self.conditions[place] = Condition("e.trace IN (SELECT trace FROM temp.found)")

    def _add_range(self, condition: Range) -> None:
        # What has no number is in no range, and so in the opposite of each.
        sql, args = _range_sql(condition)
        self.conditions.append(
            Condition(f"NOT ifnull({sql}, 0)" if condition.is_negated else sql, args)
        )

    def _add_ids(self, values: Values) -> None:
        listed = json.dumps(list(values.values))
        of_listed = "(SELECT value FROM json_each(?))"
        if values.field == "problem":
            sql = f"e.problem IN (SELECT number FROM view.problems WHERE id IN {of_listed})"
        elif values.field == "root":
            sql = f"e.root IN {of_listed}"
        elif values.field == "parent":
            sql = (
                "e.trace IN (SELECT d.child FROM view.descents d JOIN view.ids i ON i.number = d.parent "
                f"WHERE i.id IN {of_listed})"
            )
        else:
            # An id also by its beginning.
            sql = (
                "e.trace IN (SELECT i.number FROM view.ids i, json_each(?) v "
                "WHERE i.id >= v.value AND i.id < v.value || 'z')"
            )
        self.conditions.append(Condition(_negate(sql, values.is_negated), (listed,)))

    def _add_noted(self, values: Values) -> None:
        """A condition on what is noted beside entries: drops and their reasons, rows, marks."""
        if not values.is_negated:
            self.noted_choices.setdefault(values.field, []).append(values.values)
        # As reasons stand in the index.
        listed = json.dumps([queries.replace_unusable(value) for value in values.values])
        args: tuple[Any, ...] = (listed,)
        if values.field in ("dropped", "reason"):
            column = "test" if values.field == "dropped" else "reason"
            sql = f"e.seq IN (SELECT d.seq FROM view.drops d WHERE d.{column} IN (SELECT value FROM json_each(?)))"
            if NONE in values.values:
                sql = f"({sql} OR e.seq NOT IN (SELECT d.seq FROM view.drops d WHERE d.seq IS NOT NULL))"
        elif values.field == "row":
            is_row = "(e.seq IN (SELECT seq FROM view.placed))"
            sql = f"CASE WHEN {is_row} THEN 'yes' ELSE 'no' END IN (SELECT value FROM json_each(?))"
            if set(values.values) == {"yes"}:
                sql, args = is_row, ()
        else:
            marked = [trace for trace, mark in self.marks.items() if mark in values.values]
            ids = "e.trace {} (SELECT number FROM view.ids WHERE id IN (SELECT value FROM json_each(?)))"
            sql, args = ids.format("IN"), (json.dumps(marked),)
            if NONE in values.values:
                sql = f"({sql} OR {ids.format('NOT IN')})"
                args = (*args, json.dumps(list(self.marks)))
        self.conditions.append(Condition(_negate(sql, values.is_negated), args, values.field))


def _chosen_values(query: Query, facets: Mapping[str, Sequence[str]]) -> list[Values]:
    chosen = []
    for name, values in facets.items():
        if name in FACETS:
            chosen.append(Values(name, tuple(values)))
        else:
            query.messages.append(Message("error", f"there is no facet {name!r}", tuple(FACETS)))
    return chosen


def _negate(sql: str, is_negated: bool) -> str:
    return f"NOT {sql}" if is_negated else sql


def _range_sql(condition: Range) -> tuple[str, tuple[Any, ...]]:
    """A range as SQL: of a number's column, or of a score."""
    if condition.field.startswith(queries.SCORE_PREFIX):
        name = condition.field.removeprefix(queries.SCORE_PREFIX)
        score = (
            "SELECT 1 FROM view.scores s WHERE s.name = ? AND s.seq = e.seq AND s.value IS NOT NULL"
        )
        if condition.is_none:
            return f"NOT EXISTS ({score})", (name,)
        sql, ends = _between("s.value", condition)
        return f"EXISTS ({score} AND {sql})", (name, *ends)
    column = queries.NUMBERS[condition.field]
    if condition.is_none:
        return f"{column} IS NULL", ()
    return _between(column, condition)


def _between(column: str, condition: Range) -> tuple[str, tuple[Any, ...]]:
    above = ">=" if condition.has_low else ">"
    below = "<=" if condition.has_high else "<"
    return f"({column} {above} ? AND {column} {below} ?)", (condition.low, condition.high)
