"""Whether two results of queries are the same: as multisets, in order where the gold query orders, numbers by value."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

RELATIVE_TOLERANCE, ABSOLUTE_TOLERANCE = 1e-6, 1e-9  # how far two numbers may lie apart
MAX_PAIRWISE = 1_000  # rows that are matched one by one, where rounding alone did not match them

Row = tuple[Any, ...]
# Text that is a number; a code such as 02134, 1e5 or +49 is none.
_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)?(?:\.\d+)?(?<=\d)")
_INTEGER = re.compile(r"-?\d+")


def find_difference(
    gold: Sequence[Row], result: Sequence[Row], keys: Sequence[int] | None, *, ordered: bool
) -> str:
    """Say how two results differ; "" where they are the same.

    Args:
        gold: the rows of the gold query.
        result: the rows of the candidate.
        keys: the columns by which the gold rows are ordered, where all are known: rows of equal keys may swap places.
        ordered: whether order counts at all.
    """
    if gold and result and len(gold[0]) != len(result[0]):
        return f"{len(result[0])} columns, not {len(gold[0])}"
    if len(gold) != len(result):
        rows_found = "1 row" if len(result) == 1 else f"{len(result)} rows"
        return f"{rows_found}, not {len(gold)}"
    # Cells that are written differently and mean the same become equal.
    gold_rows = [tuple(map(normalise_cell, row)) for row in gold]
    rows = [tuple(map(normalise_cell, row)) for row in result]
    if not ordered:
        return "" if _same_multiset(gold_rows, rows) else "other rows"
    if keys is None:
        in_order = all(map(_close_rows, gold_rows, rows))
    else:
        in_order = _same_up_to_ties(gold_rows, rows, keys)
    if in_order:
        return ""
    return "the rows in another order" if _same_multiset(gold_rows, rows) else "other rows"


def normalise_cell(cell: Any) -> Any:
    """Return a number where the cell is one or is written as one, else text, bytes or None."""
    if cell is None or isinstance(cell, bytes):
        return cell
    if isinstance(cell, bool | int):
        return int(cell)  # sqlite has no booleans
    if isinstance(cell, str):
        return _parse_number(cell) if _NUMBER.fullmatch(cell) and len(cell) < 40 else cell
    try:
        number = float(cell)  # float, Decimal
    except (TypeError, ValueError, OverflowError):
        return str(cell)
    return _whole_or_float(number)


def _parse_number(text: str) -> int | float:
    if _INTEGER.fullmatch(text):
        return int(text)
    return _whole_or_float(float(text))


def _whole_or_float(number: float) -> int | float:
    return int(number) if math.isfinite(number) and number == int(number) else number


def _same_up_to_ties(gold: Sequence[Row], rows: Sequence[Row], keys: Sequence[int]) -> bool:
    """Whether rows are in the same order, but for those whose keys the gold rows have in common."""
    start = 0
    for stop in range(1, len(gold) + 1):
        is_tie = stop < len(gold) and _close_rows(
            _key_cells(gold[stop - 1], keys), _key_cells(gold[stop], keys)
        )
        if is_tie:
            continue
        if not _same_multiset(gold[start:stop], rows[start:stop]):
            return False
        start = stop
    return True


def _key_cells(row: Row, keys: Sequence[int]) -> Row:
    return tuple(row[key] for key in keys)


def _same_multiset(gold: Sequence[Row], rows: Sequence[Row]) -> bool:
    """Whether rows are equal as multisets: by rounded values first, what is left one by one within the tolerance."""
    if len(gold) != len(rows):
        return False
    # Rounded rows are hashed, so that large results need no comparison of each row with each.
    matched = Counter(map(_round_row, gold)) & Counter(map(_round_row, rows))
    unmatched_gold = _without_matched(gold, matched)
    unmatched = _without_matched(rows, matched)
    if len(unmatched_gold) > MAX_PAIRWISE:
        return False  # too many to be explained by rounding, and too slow to compare
    # Rounding may have separated two numbers that are close: match what is left one by one.
    for gold_row in unmatched_gold:
        for index, row in enumerate(unmatched):
            if _close_rows(gold_row, row):
                unmatched.pop(index)
                break
        else:
            return False
    return True


def _without_matched(rows: Sequence[Row], matched: Counter[Any]) -> list[Row]:
    remaining = Counter(matched)
    unmatched: list[Row] = []
    for row in rows:
        key = _round_row(row)
        if remaining[key]:
            remaining[key] -= 1
        else:
            unmatched.append(row)
    return unmatched


def _round_row(row: Row) -> tuple[Any, ...]:
    """A form in which most equal rows are equal; integers stay exact, so that long ids are not rounded together."""
    cells: list[tuple[str, Any]] = []
    for cell in row:
        rounded = float(f"{cell:.6g}") if isinstance(cell, float) else cell
        cells.append((type(cell).__name__, rounded))
    return tuple(cells)


def _close_rows(row: Row, other: Row) -> bool:
    return len(row) == len(other) and all(map(_close_cells, row, other))


def _close_cells(one: Any, other: Any) -> bool:
    if isinstance(one, int) and isinstance(other, int):
        return one == other
    if isinstance(one, int | float) and isinstance(other, int | float):
        if math.isnan(one) and math.isnan(other):
            return True
        return math.isclose(one, other, rel_tol=RELATIVE_TOLERANCE, abs_tol=ABSOLUTE_TOLERANCE)
    return type(one) is type(other) and one == other
