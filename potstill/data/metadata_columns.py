"""What a file's columns say of a problem beside its question and answer: its level, rating, date, topic and source.

These five are read from columns of their usual names. `--map level=COLUMN` names another column, `--map level=` reads
none, and `--map metadata=A,B` reads further columns, each under its own name.
"""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from potstill.errors import InputError
from potstill.records import MetadataValue, Problem

# The usual names of columns, best first; compared without case.
COLUMN_NAMES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "level": ("level", "difficulty", "difficulty_level"),
        "rating": ("rating", "cf_rating", "difficulty_rating", "elo"),
        "date": ("date", "contest_date", "release_date", "published", "created_at", "year"),
        "topic": (
            "topic",
            "subject",
            "category",
            "problem_type",
            "question_type",
            "domain",
            "type",
        ),
        "source": ("source", "data_source", "dataset", "origin"),
    }
)
FIELDS = tuple(COLUMN_NAMES)
OTHERS = "metadata"
"""The field of --map that takes further columns, each under its own name."""

MAX_CHARACTERS = 200  # of a value: more is a text and no label
_WHOLE_NUMBER = re.compile(r"[+-]?(?:0|[1-9]\d{0,17})")
_DECIMAL = re.compile(r"[+-]?\d{1,17}\.\d{1,17}(?:[eE][+-]?\d{1,3})?")


def is_metadata(values: Iterable[Any]) -> bool:
    """Whether all cells of a column are short texts, numbers or dates: what a label can be."""
    return all(_is_label(value) for value in values)


def read_cell(value: Any, field: str, column: str) -> MetadataValue | None:
    """A cell as a text or a number; None where it holds nothing.

    A text that is a number is the number, so that a CSV file and a JSON file say the same; 5.0 is 5. A date is its text
    in ISO 8601, a list of texts is joined by commas.

    Raises:
        InputError: an object, or a text of more than 200 characters.
    """
    # Only a column that the user named can hold anything else: others are not taken for metadata.
    if not _is_label(value):
        raise InputError(
            f"the {field} in column {column!r} is {str(value)[:60]!r}",
            expected=f"a number, a date, or a text of at most {MAX_CHARACTERS} characters",
            fix=f"--map {field}= to read none, or --map {field}=COLUMN",
        )
    # What tables and JSON have beside texts and numbers becomes a text.
    if isinstance(value, datetime.date):
        return value.isoformat()
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        value = ", ".join(str(item) for item in value if item is not None)
    # A text that is a number is one; NaN is how tables write that there is nothing.
    if isinstance(value, str):
        text = " ".join(value.split())
        return _read_number(text) if text else None
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return None
    return _whole_where_it_is(value)


def read_metadata(
    row: Mapping[str, Any], columns: Mapping[str, str], others: Iterable[str]
) -> dict[str, MetadataValue]:
    """The metadata of a row; what it says nothing of is left out.

    Args:
        row: of a file.
        columns: field -> column; "" for none.
        others: further columns, which are fields of their own.

    Raises:
        InputError: a cell that holds no label.
    """
    column_of_field = {column: column for column in others} | dict(columns)
    metadata: dict[str, MetadataValue] = {}
    for field, column in column_of_field.items():
        value = read_cell(row.get(column), field, column) if column else None
        if value is not None:
            metadata[field] = value
    return metadata


def cells_of_metadata(row: Mapping[str, Any], mapping: Mapping[str, str]) -> dict[str, Any]:
    """The cells of a row that may be metadata: columns of usual names, and those that --map names.

    Args:
        row: of a file.
        mapping: field -> column, as the user gave it.
    """
    names = {name for usual_names in COLUMN_NAMES.values() for name in usual_names}
    named: set[str] = set()
    for field in (*FIELDS, OTHERS):
        named.update(mapping.get(field, "").split(","))
    return {name: cell for name, cell in row.items() if name.lower() in names or name in named}


def columns_of(problem: Problem) -> dict[str, Any]:
    """What an exported row says of its problem: the five fields as columns that are read again, others in `metadata`.

    A derived problem also has `problem_parents`, the ids of the traces that it was made from.
    """
    # Other names stand apart: one of them might be that of a column with another meaning, such as `weight`.
    columns: dict[str, Any] = {}
    others: dict[str, MetadataValue] = {}
    for field, value in problem.metadata.items():
        if field in FIELDS:
            columns[field] = value
        else:
            others[field] = value
    if others:
        columns[OTHERS] = others
    if problem.parents:
        columns["problem_parents"] = list(problem.parents)
    return columns


def is_metadata_mapping(value: Any) -> bool:
    """Whether a value from outside is metadata: texts and finite numbers, by names that are texts."""
    if not isinstance(value, Mapping):
        return False
    for name, item in value.items():
        is_number = isinstance(item, int | float) and not isinstance(item, bool)
        is_value = isinstance(item, str) or (is_number and math.isfinite(item))
        if not isinstance(name, str) or not is_value:
            return False
    return True


def _is_label(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(isinstance(item, str | int | float) or item is None for item in value)
    if isinstance(value, str):
        return len(value) <= MAX_CHARACTERS
    return value is None or isinstance(value, int | float | datetime.date)


def _read_number(text: str) -> MetadataValue:
    """The number that a text is, or the text."""
    if _WHOLE_NUMBER.fullmatch(text):
        return int(text)
    if _DECIMAL.fullmatch(text) and math.isfinite(float(text)):
        return _whole_where_it_is(float(text))
    return text


def _whole_where_it_is(number: int | float) -> int | float:
    """A number, without its point where nothing stands behind it: tables hold whole numbers as floats."""
    if isinstance(number, float) and number.is_integer() and abs(number) < 1e15:
        return int(number)
    return number
