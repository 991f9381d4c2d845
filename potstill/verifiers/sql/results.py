"""Whether two results of queries are the same: as multisets, in order where the gold query orders, numbers by value."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

RELATIVE, ABSOLUTE = 1e-6, 1e-9  # how far two numbers may lie apart
CLOSE = 1_000  # rows that are matched one by one, where rounding alone did not match them

Row = tuple[Any, ...]
_NUMBER = re.compile(r"\s*[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?\s*")


def same(
    gold: Sequence[Row], found: Sequence[Row], keys: Sequence[int] | None, *, ordered: bool
) -> str:
    """ "" where the results are the same, else how they differ.

    Args:
        keys: the columns by which the gold rows are ordered, where all are known: rows of equal keys may swap places.
        ordered: whether order counts at all.
    """
    if gold and found and len(gold[0]) != len(found[0]):
        return f"{len(found[0])} columns, not {len(gold[0])}"
    if len(gold) != len(found):
        return f"{_rows(len(found))}, not {len(gold)}"
    mine, yours = (
        [tuple(map(value, row)) for row in gold],
        [tuple(map(value, row)) for row in found],
    )
    if ordered and keys is None:
        return "" if all(map(_close, mine, yours)) else _other(mine, yours)
    if ordered and keys is not None:
        for begin, end in _ties(mine, keys):
            if not _matched(mine[begin:end], yours[begin:end]):
                return _other(mine, yours)
        return ""
    return "" if _matched(mine, yours) else "other rows"


def value(cell: Any) -> Any:
    """A number where the cell is one or is written as one, else text, bytes or None."""
    if cell is None or isinstance(cell, bytes):
        return cell
    if isinstance(cell, bool | int):
        return int(cell)
    if isinstance(cell, str):
        return _number(cell) if _NUMBER.fullmatch(cell) and len(cell) < 40 else cell
    try:
        number = float(cell)  # float, Decimal
    except (TypeError, ValueError, OverflowError):
        return str(cell)
    return int(number) if math.isfinite(number) and number == int(number) else number


def _number(text: str) -> int | float:
    number = float(text)
    if re.fullmatch(r"\s*[+-]?\d+\s*", text):
        return int(text)
    return int(number) if math.isfinite(number) and number == int(number) else number


def _rows(count: int) -> str:
    return f"{count} row" + "s" * (count != 1)


def _other(gold: Sequence[Row], found: Sequence[Row]) -> str:
    return "the rows in another order" if _matched(gold, found) else "other rows"


def _ties(rows: Sequence[Row], keys: Sequence[int]) -> list[tuple[int, int]]:
    """Where runs of rows with equal keys begin and end."""
    cuts = [0] + [
        i for i in range(1, len(rows)) if not _close(_key(rows[i - 1], keys), _key(rows[i], keys))
    ]
    return list(zip(cuts, [*cuts[1:], len(rows)], strict=True)) if rows else []


def _key(row: Row, keys: Sequence[int]) -> Row:
    return tuple(row[k] for k in keys)


def _matched(gold: Sequence[Row], found: Sequence[Row]) -> bool:
    """Equal as multisets: by rounded values first, what is left one by one within the tolerance."""
    if len(gold) != len(found):
        return False
    left, right = Counter(map(_rounded, gold)), Counter(map(_rounded, found))
    both = left & right
    mine, yours = _rest(gold, both), _rest(found, both)
    if len(mine) > CLOSE:
        return False
    for row in mine:
        at = next((i for i, other in enumerate(yours) if _close(row, other)), None)
        if at is None:
            return False
        yours.pop(at)
    return True


def _rest(rows: Sequence[Row], matched: Counter[Any]) -> list[Row]:
    left, rest = Counter(matched), []
    for row in rows:
        key = _rounded(row)
        if left[key]:
            left[key] -= 1
        else:
            rest.append(row)
    return rest


def _rounded(row: Row) -> tuple[Any, ...]:
    """A form in which most equal rows are equal; integers stay exact, so that long ids are not rounded together."""
    return tuple((type(c).__name__, float(f"{c:.6g}") if isinstance(c, float) else c) for c in row)


def _close(row: Row, other: Row) -> bool:
    return len(row) == len(other) and all(map(_near, row, other))


def _near(one: Any, other: Any) -> bool:
    if isinstance(one, int) and isinstance(other, int):
        return one == other
    if isinstance(one, int | float) and isinstance(other, int | float):
        return math.isclose(one, other, rel_tol=RELATIVE, abs_tol=ABSOLUTE) or (
            math.isnan(one) and math.isnan(other)
        )
    return type(one) is type(other) and one == other
