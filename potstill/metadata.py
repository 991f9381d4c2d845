"""What is known of problems beside question and answer, put to use: conditions, orders, and strata.

Metadata are texts and numbers by name (`Problem.metadata`), such as `level`, `rating`, `date`, `topic` and `source`;
every problem also has a `length`, the words of its question. A value that is not there is never taken for another one:
a condition does not hold, an order refuses the problem, a stratum is called "no level". Standard library only.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

from potstill.errors import ConfigError, InputError
from potstill.records import MetadataValue, Problem

LENGTH = "length"
Order: TypeAlias = tuple[int, float | str]
"""What two values of one name are compared by: numbers before texts."""

_CONDITION = re.compile(r"\s*([^\s<>=!]+)\s*(<=|>=|!=|==|=|<|>)\s*([^\s<>=!].*?)\s*")
_NUMBER = re.compile(r"[+-]?\d+(?:\.\d+)?")
_DATE = re.compile(r"\d{4}-\d\d(?:-\d\d(?:[T ].*)?)?")
_DATE_BOUND = re.compile(r"\d{4}(?:-\d\d){0,2}")  # a year, a month or a day
_NUMBERED = re.compile(r"\D*?(\d+(?:\.\d+)?)")  # "Level 5", "grade-3"


def known_metadata(problem: Problem) -> dict[str, MetadataValue]:
    """The metadata of a problem, its length in words among them where its source says none."""
    return {LENGTH: len(problem.question.split()), **problem.metadata}


def names_of_metadata(problems: Iterable[Problem]) -> list[str]:
    """The names of all metadata that some of the problems have, in the order in which they first come."""
    names: dict[str, None] = {}
    for problem in problems:
        names.update(dict.fromkeys(problem.metadata))
    names[LENGTH] = None
    return list(names)


def check_names(names: Iterable[str], problems: Sequence[Problem]) -> None:
    """Refuse names of metadata that no problem has.

    Raises:
        ConfigError: there is such a name.
    """
    available = names_of_metadata(problems)
    for name in names:
        if name not in available:
            raise ConfigError(
                f"no problem has the metadata {name!r}",
                available=available,
                wanted=name,
                fix=f"--map {name}=COLUMN, or --map metadata={name}",
            )


# ---- Orders ----


def order_of(value: MetadataValue) -> Order | None:
    """By what a value is compared: a number, the number in "Level 5", or a date as text; None of any other text."""
    if not isinstance(value, str):
        return (0, float(value))
    if _DATE.fullmatch(value):
        return (1, value)
    numbered = _NUMBERED.fullmatch(value.strip())
    return (0, float(numbered[1])) if numbered else None


def orders_of(name: str, problems: Sequence[Problem], *, needed_by: str) -> dict[str, Order]:
    """By problem id, what the problems are compared by in one of their metadata; all of them must have it.

    Args:
        name: of the metadata.
        problems: that are compared.
        needed_by: who needs it, for the message: "explain's weights".

    Raises:
        InputError: a problem lacks it, or has a text without an order, or some have numbers and others dates.
    """
    require_metadata([name], problems, needed_by=needed_by)
    orders: dict[str, Order] = {}
    for problem in problems:
        value = known_metadata(problem)[name]
        order = order_of(value)
        if order is None or (orders and order[0] != next(iter(orders.values()))[0]):
            raise InputError(
                f"{needed_by} need the order of {name}, and problem {problem.id!r} has {value!r}",
                expected="numbers, texts with a number at their end (Level 5), or dates (2024-01-31) in all problems",
                fix=f"--map {name}=COLUMN names another column",
            )
        orders[problem.id] = order
    return orders


def require_metadata(names: Iterable[str], problems: Sequence[Problem], *, needed_by: str) -> None:
    """Refuse problems that lack metadata, before anything is asked or paid for.

    Raises:
        InputError: says how many lack which, and what metadata there are.
    """
    for name in names:
        lacking = [problem for problem in problems if name not in known_metadata(problem)]
        if lacking:
            raise InputError(
                f"{needed_by} need the {name} of each problem, and {len(lacking):,} of {len(problems):,} have none, "
                f"such as {lacking[0].id!r}",
                expected=f"problems with {name} in their metadata",
                available=names_of_metadata(problems),
                fix=f"--map {name}=COLUMN names its column; --where '{name}>…' leaves problems without it out",
            )


def ranks_of(name: str, problems: Sequence[Problem], *, needed_by: str) -> dict[str, float]:
    """By problem id, the share of the other problems that are lower in one of their metadata; equal ones count half.

    `rank_i = (#{j: v_j < v_i} + #{j != i: v_j = v_i} / 2) / (m - 1)`: 0 is the lowest of m, 1 the highest, and whatever
    the scale, the mean is 1/2. A single problem has 1/2.

    Args:
        name: of the metadata, such as `rating` or `date`.
        problems: that are ranked.
        needed_by: who needs it, for the message.

    Raises:
        InputError: a problem lacks it, or its value has no order.
    """
    # Where each value first stands among all of them in order, and how often it is there.
    orders = orders_of(name, problems, needed_by=needed_by)
    ranked = sorted(orders.values())
    first_place: dict[Order, int] = {}
    for place, order in enumerate(ranked):
        first_place.setdefault(order, place)
    counts: dict[Order, int] = {}
    for order in ranked:
        counts[order] = counts.get(order, 0) + 1
    if len(ranked) == 1:
        return dict.fromkeys(orders, 0.5)
    # Between the lowest and the highest place that a value has, so that equal values are treated alike.
    ranks: dict[str, float] = {}
    for problem_id, order in orders.items():
        lower_and_half = first_place[order] + (counts[order] - 1) / 2
        ranks[problem_id] = lower_and_half / (len(ranked) - 1)
    return ranks


# ---- Conditions ----


@dataclass(frozen=True)
class Condition:
    """A condition on a problem's metadata, such as `level>=4`, `topic=Algebra,Geometry` or `date<2024-01-01`.

    Args:
        text: as it was written.
        name: of the metadata.
        operator: "=", "!=", "<", "<=", ">" or ">=".
        values: what is compared with; several, between commas, for "=" and "!=" only: any of them.
    """

    text: str
    name: str
    operator: str
    values: tuple[str, ...]

    def holds(self, problem: Problem) -> bool:
        """Whether it holds; not where the problem has no such metadata.

        Raises:
            InputError: the problem's value has no order with the condition's.
        """
        value = known_metadata(problem).get(self.name)
        if value is None:
            return False
        if self.operator in ("=", "!="):
            is_among = any(_is_equal(value, text) for text in self.values)
            return is_among == (self.operator == "=")
        order = order_of(value)
        bound = _bound_of(self.values[0], order)
        if order is None or bound is None:
            raise InputError(
                f"{self.text!r}: the {self.name} of problem {problem.id!r} is {value!r}, which has no order with "
                f"{self.values[0]!r}",
                expected="a number or a date, as the problems have it",
                fix=f"{self.name}={value}",
            )
        return _COMPARISONS[self.operator](_cut_to_bound(order, bound), bound)


def parse_condition(text: str) -> Condition:
    """The condition that a text says.

    Raises:
        ConfigError: it is none.
    """
    match = _CONDITION.fullmatch(text)
    if match is None:
        raise ConfigError(
            f"{text!r} is no condition on metadata",
            expected="NAME and =, !=, <, <=, > or >=, and a value",
            fix="'level>=4', 'topic=Algebra,Geometry' or 'date<2024-01-01'",
        )
    name, operator, value = match.groups()
    if operator == "==":
        operator = "="
    values: tuple[str, ...] = (value,)
    if operator in ("=", "!="):
        values = tuple(part.strip() for part in value.split(",") if part.strip())
    return Condition(text, name, operator, values)


class Selection(NamedTuple):
    """The problems for which conditions hold.

    Args:
        problems: in their order.
        notes: a sentence for each condition on what it left.
        lacking: how many problems were left out because they have no such metadata.
    """

    problems: list[Problem]
    notes: list[str]
    lacking: int


def select_problems(problems: Sequence[Problem], conditions: Sequence[str]) -> Selection:
    """The problems for which all conditions hold.

    Raises:
        ConfigError: a text is no condition, or no problem has metadata of that name.
        InputError: no problem is left, or a value has no order.
    """
    remaining = list(problems)
    notes: list[str] = []
    total_lacking = 0
    for condition in map(parse_condition, conditions):
        # A name that nobody has is a mistake, and not a condition that never holds.
        check_names([condition.name], problems)
        # Each condition is asked of what the earlier ones left.
        lacking = sum(condition.name not in known_metadata(problem) for problem in remaining)
        passing = [problem for problem in remaining if condition.holds(problem)]
        note = f"{condition.text} holds for {len(passing):,} of {len(remaining):,} problems"
        total_lacking += lacking
        if lacking:
            note += f"; {lacking:,} have no {condition.name} and are left out"
        notes.append(note)
        remaining = passing
    if problems and not remaining:
        raise InputError(
            f"no problem is left: {'; '.join(notes)}",
            expected="conditions that hold for some problems",
        )
    return Selection(remaining, notes, total_lacking)


def _bound_of(text: str, order: Order | None) -> Order | None:
    """What a value of this order is compared with; None where the text is nothing of its kind."""
    # Dates are compared as texts, so that a year or a month is enough.
    if order is not None and order[0] == 1 and re.match(r"\d{4}(?:-|$)", text):
        return (1, text)
    if order is not None and order[0] == 0 and _NUMBER.fullmatch(text):
        return (0, float(text))
    return None


def _cut_to_bound(order: Order, bound: Order) -> Order:
    """A date no finer than what it is compared with, so that 2024 is the whole year and a day has all its hours."""
    kind, value = order
    if isinstance(value, str) and isinstance(bound[1], str):
        return kind, value[: len(bound[1])]
    return order


def _is_equal(value: MetadataValue, text: str) -> bool:
    if isinstance(value, str):
        if _DATE.fullmatch(value) and _DATE_BOUND.fullmatch(text):
            return value.startswith(text)
        return value.casefold() == text.casefold()
    return _NUMBER.fullmatch(text) is not None and float(text) == value


_COMPARISONS: Mapping[str, Callable[[Any, Any], bool]] = {
    "<": lambda value, bound: value < bound,
    "<=": lambda value, bound: value <= bound,
    ">": lambda value, bound: value > bound,
    ">=": lambda value, bound: value >= bound,
}
