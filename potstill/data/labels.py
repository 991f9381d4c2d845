"""What a file itself says of its answers: right or wrong, as booleans, numbers, words, or lists of these.

A column is a label only where every value of it can be read as right or wrong. Ratings from 1 to 5 or shares such as
0.7 are a scale: a 1 of them is not a yes, so the whole column is left unread.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from potstill.errors import InputError

LABEL_NAMES = (
    "is_correct",
    "correct",
    "correctness",
    "label",
    "labels",
    "score",
    "scores",
    "reward",
    "rewards",
    "correctness_math_verify",
    "deepseek_grade",
)

_RIGHT_WORDS = ("true", "yes", "y", "correct", "right", "pass", "passed", "good", "1", "1.0", "+1")
_WRONG_WORDS = (
    *("false", "no", "n", "incorrect", "wrong", "fail", "failed", "bad"),
    *("0", "0.0", "-1", "-1.0"),
)
_WORDS: Mapping[str, bool] = {
    **dict.fromkeys(_RIGHT_WORDS, True),
    **dict.fromkeys(_WRONG_WORDS, False),
}


def read_label(value: Any) -> bool | None:
    """Whether one value says right or wrong; None where it says neither. -1 and 0 are wrong, 1 is right."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _WORDS.get(value.strip().casefold())
    if isinstance(value, int | float) and value in (-1, 0, 1):
        return value == 1
    return None


def is_label_column(values: Iterable[Any]) -> bool:
    """Whether all values of a column, those inside lists included, say right or wrong, and there is one."""
    readings = [read_label(value) for value in _scalars(values)]
    return bool(readings) and None not in readings


def label_at(value: Any, index: int, count: int, column: str) -> bool | None:
    """The label of completion `index` of `count`: a list has one each, a single value holds for all.

    Raises:
        InputError: a value that says neither right nor wrong, or another number of values than of completions.
    """
    if isinstance(value, list):
        # Several labels for one completion say the same thing, or belong to other completions.
        if count == 1 and len(value) > 1 and len({read_label(item) for item in value}) > 1:
            raise InputError(
                f"{len(value)} labels in {column!r} for one completion",
                expected="one label a completion",
                fix="name the column of the completions they belong to, or --map label= to read no label",
            )
        # One label each; tables fill the list up with null.
        is_too_short = 0 < len(value) < count
        is_too_long = count > 1 and any(item is not None for item in value[count:])
        if is_too_short or is_too_long:
            raise InputError(
                f"{len(value)} labels in {column!r} for {count} completions",
                expected="one label a completion, null where there is none",
                fix="correct the row, or --map label= to read no label",
            )
        value = value[index] if index < len(value) else None
    if value is None:
        return None
    label = read_label(value)
    if label is None:
        raise InputError(
            f"the label {value!r} in {column!r} says neither right nor wrong, unlike those before it",
            expected="true, false, 1, 0, correct, incorrect and the like",
            fix="correct the row, or --map label= to read no label",
        )
    return label


def _scalars(values: Iterable[Any]) -> Iterator[Any]:
    """The values, and in the place of lists what is in them; nothing for null."""
    for value in values:
        if isinstance(value, list):
            yield from _scalars(value)
        elif value is not None:
            yield value
