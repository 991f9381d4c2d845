"""Options of a multiple-choice question, in whatever shape a file keeps them, and which one its gold answer names.

Read are lists, {"text": [...], "label": [...]}, {"A": …, "B": …}, each also as JSON text, and columns A, B, C, D. They
are put in the order of their labels, since a prompt letters them anew. Null entries, with which tables fill rows of
fewer options, are left out.
"""

from __future__ import annotations

import json
import re
import string
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from potstill.errors import InputError
from potstill.verifiers import choice, extract

LETTERS = string.ascii_uppercase

_LETTERED = re.compile(r"\(?([A-Za-z])[).:]\s*")
_LABEL = re.compile(r"[(\[]?\s*(\w+)\s*[)\].:]?")
# Names of columns that hold one option each: A and B, option_a and "Option B", opa and opb, choice1 and choice2 …
_COLUMN_PREFIXES = ("option_", "option", "choice_", "choice", "opt_", "opt", "op", "")


class Options(NamedTuple):
    """The options in the order of their letters, and under which label the file knows each."""

    texts: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()

    def letter_of(self, label: str) -> str:
        """The letter that a prompt gives to the option of this label; "" where no option has it."""
        wanted = label.casefold()
        for letter, own_label in zip(LETTERS, self.labels, strict=False):
            if own_label.casefold() == wanted:
                return letter
        return ""


NO_OPTIONS = Options()


def read_options(value: Any) -> Options:
    """The options in one cell; none where it is empty.

    Raises:
        InputError: a cell in a shape that is not known.
    """
    value = _decode_json(value)
    if value is None or value in ("", [], {}):
        return Options()
    # Hugging Face's {"text": [...], "label": [...]}, or an object with a key for each option.
    if isinstance(value, Mapping):
        texts, labels = value.get("text"), value.get("label", value.get("labels"))
        if isinstance(texts, list) and isinstance(labels, list) and len(texts) == len(labels):
            return _order_by_label(labels, texts)
        if isinstance(texts, list):
            return _read_list(texts)
        return _order_by_label(list(value), list(value.values()))
    if isinstance(value, list | tuple):
        return _read_list(value)
    # A text with one lettered option a line.
    lines = str(value).strip().splitlines()
    if len(lines) > 1 and all(_LETTERED.match(line.strip()) for line in lines):
        return _read_list([line.strip() for line in lines])
    raise InputError(
        f"options that can't be read: {str(value)[:60]!r}",
        expected='a list, {"text": [...], "label": [...]}, {"A": …, "B": …}, or JSON text of one',
        fix="correct the row, or --map choices= to read no options",
    )


def option_columns(columns: Iterable[str]) -> tuple[str, ...]:
    """The columns that hold one option each, in their order; none where there are not two.

    Bare letters count as capitals alone, since `a` and `b` may be the numbers of a sum.
    """
    present = list(columns)
    for prefix in _COLUMN_PREFIXES:
        for labels in (LETTERS, string.digits[1:]):
            labelled = _labelled_columns(present, prefix, labels)
            if len(labelled) > 1:
                return labelled
    return ()


def read_option_columns(row: Mapping[str, Any], columns: Sequence[str]) -> Options:
    """The options of a row that has a column each; an empty column is no option."""
    labels = [column[-1].upper() for column in columns]
    return _order_by_label(labels, [row.get(column) or None for column in columns])


def gold_position(gold: Any, options: Options) -> int | None:
    """The number that a gold cell gives as an option's position; None where it is a label or no such number.

    One past the last is among them: the last one of a file that counts from 1.
    """
    if isinstance(gold, float) and gold.is_integer():
        gold = int(gold)
    if not isinstance(gold, int) or isinstance(gold, bool) or options.letter_of(str(gold)):
        return None
    return gold if 0 <= gold <= len(options.texts) else None


def read_gold_option(gold: Any, options: Options) -> str:
    """The gold option's letter where the gold answer is a label, a position or a sentence; else the gold as text.

    A number is a label where the options have numbers for labels, else a position counted from 0. A text that is
    neither stays as it is: the verifier compares it with the options' texts.
    """
    if isinstance(gold, float) and gold.is_integer():
        gold = int(gold)
    # A label, in brackets or bare.
    label = _LABEL.fullmatch(str(gold).strip())
    letter = options.letter_of(label[1]) if label else ""
    if letter:
        return letter
    if isinstance(gold, int) and not isinstance(gold, bool) and 0 <= gold < len(options.texts):
        return LETTERS[gold]
    # An option's own text, or a sentence that names one.
    text = str(gold).strip()
    if text in options.texts:
        return text
    for candidate in extract.candidates(text):
        named = choice.named_letters(candidate.text, options.texts)
        if candidate.mark != "last line" and len(named) == 1:
            return named[0]
    return text


def format_options(options: Sequence[str]) -> str:
    """Options as a prompt lists them: "A. iron", one a line."""
    lines = [f"{letter}. {text}" for letter, text in zip(LETTERS, options, strict=False)]
    return "\n".join(lines)


def _decode_json(value: Any) -> Any:
    """The list or object that stands in a cell as JSON text; any other cell as it is."""
    if not isinstance(value, str) or not value.strip().startswith(("[", "{")):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value


def _read_list(items: Sequence[Any]) -> Options:
    """A list of texts; letters that number them in order ("A)12", "B)13") are taken off."""
    # A list of objects with labels of their own.
    if all(isinstance(item, Mapping) and {"text", "label"} <= set(item) for item in items):
        own_labels = [item["label"] for item in items]
        return _order_by_label(own_labels, [item["text"] for item in items])

    # A list of texts, perhaps padded with null at its end.
    texts = [_option_text(item) for item in items if item is not None]
    if any(item is None for item in items[: len(texts)]):
        raise InputError(
            f"an option is null between others: {str(list(items))[:60]}",
            expected="null only behind the last option",
            fix="correct the row, or give the options labels",
        )

    # Letters in front are taken off where each option has its own, in order.
    marks = [mark for mark in map(_LETTERED.match, texts) if mark]
    letters = [mark[1].upper() for mark in marks]
    labels = tuple(LETTERS[: len(texts)])
    if letters == list(labels):
        texts = [mark.string[mark.end() :] for mark in marks]
    return Options(tuple(texts), labels)


def _order_by_label(labels: Sequence[Any], texts: Sequence[Any]) -> Options:
    """The options that are there, ordered by label where the labels are letters or numbers."""
    pairs = []
    for label, text in zip(labels, texts, strict=True):
        if text is None:
            continue
        name = str(label).strip()
        bare_label = _LABEL.fullmatch(name)
        if bare_label:
            name = bare_label[1]
        pairs.append((name, _option_text(text)))
    names = [label.casefold() for label, _ in pairs]
    if len(set(names)) < len(names):
        raise InputError(
            f"two options have one label: {', '.join(label for label, _ in pairs)}",
            expected="a label of its own for each option",
            fix="correct the row",
        )
    # Other labels than numbers and letters have no order but the file's.
    if all(name.isdecimal() for name in names):
        pairs.sort(key=lambda pair: int(pair[0]))
    elif all(len(name) == 1 for name in names):
        pairs.sort(key=lambda pair: pair[0].casefold())
    return Options(tuple(text for _, text in pairs), tuple(label for label, _ in pairs))


def _option_text(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()


def _labelled_columns(columns: Sequence[str], prefix: str, labels: str) -> tuple[str, ...]:
    """The columns `prefix` + A, B, C … (or 1, 2, 3 …) up to the first that is missing."""
    if prefix:
        labels = labels.lower()
        by_name = {column.lower().replace(" ", "_"): column for column in columns}
    else:
        by_name = dict(zip(columns, columns, strict=True))
    labelled: list[str] = []
    for label in labels:
        column = by_name.get(f"{prefix}{label}")
        if column is None:
            break
        labelled.append(column)
    return tuple(labelled)
