"""The language in which traces are looked for: `answer 96 status:wrong tokens:>100 -arm:sft`; API.md has the table.

Reading a query never fails: what can't be understood is left out, and a message says so.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

WORD_FIELDS = ("text", "question")
ID_FIELDS = ("id", "parent", "root", "problem")
NUMBERS = {
    "tokens": "e.tokens",
    "length": "e.length",
    "prompt_tokens": "e.prompt_tokens",
    "reasoning_tokens": "e.reasoning_tokens",
    "draw": "e.draw",
    "weight": "e.weight",
    "steps": "e.steps",
    "wrong_steps": "e.wrong_steps",
    "first_wrong": "e.first_wrong",
    "position": "(SELECT min(l.position) FROM view.placed l WHERE l.seq = e.seq)",
    "seconds": "e.seconds",
    "cost": "e.cost",
    "created": "e.created",
}
"""Fields that hold numbers, and where they stand: `e` is an entry."""
SCORE_PREFIX = "score."

_TERM = re.compile(
    r"""(?P<minus>-)?
    (?:(?P<field>[a-z_]+(?:\.[^\s:"']+)?):(?P<values>(?:"(?:\\"|[^"])*"?|[^\s,"]+)(?:,(?:"(?:\\"|[^"])*"?|[^\s,"]+))*)
    |"(?P<phrase>(?:\\"|[^"])*)"?
    |'(?P<literal>[^']*)'?
    |(?P<word>\S+))""",
    re.VERBOSE,
)
_VALUE = re.compile(r'"((?:\\"|[^"])*)"?|([^\s,"]+)')
_WORD = re.compile(r"[^\W_]+")
_RANGE = re.compile(r"(?P<low>[^.]+(?:\.\d+)?)\.\.(?P<high>.+)")
# Lone surrogates are no UTF-8, and SQLite's JSON ends at a NUL.
_UNUSABLE = re.compile("[\x00\ud800-\udfff]")
_COMPARED = re.compile(r"(?P<sign><=|>=|<|>|=)?(?P<number>.+)")


class Message(NamedTuple):
    """What the reader of a query should know of it."""

    level: Literal["error", "info"]
    text: str
    available: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As the pages read it."""
        return {"level": self.level, "text": self.text, "available": list(self.available)}


class Words(NamedTuple):
    """Words one after another; with `is_prefix` the last one is the beginning of a word."""

    words: tuple[str, ...]
    is_prefix: bool = False
    column: str = "text"
    is_negated: bool = False


class ExactText(NamedTuple):
    """Exactly these characters of a text."""

    text: str
    is_negated: bool = False


class Values(NamedTuple):
    """One of the values of a field."""

    field: str
    values: tuple[str, ...]
    is_negated: bool = False


class Range(NamedTuple):
    """A number between two ends, or one that there is not (`is_none`)."""

    field: str
    low: float = -math.inf
    high: float = math.inf
    has_low: bool = True
    has_high: bool = True
    is_none: bool = False
    is_negated: bool = False


@dataclass(slots=True)
class Query:
    """A query that was read."""

    words: list[Words] = field(default_factory=list)
    literals: list[ExactText] = field(default_factory=list)
    values: list[Values] = field(default_factory=list)
    ranges: list[Range] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)


def parse_query(text: str, fields: Sequence[str]) -> Query:
    """Read a query.

    Args:
        text: as it was typed.
        fields: names of the facets that it may name, beside numbers, scores and ids.
    """
    query = Query()
    # What stands between two terms is white space: a term takes everything else.
    for match in _TERM.finditer(text):
        is_negated = match["minus"] is not None
        if match["field"] is not None:
            _add_field(query, match["field"], match["values"], fields, is_negated=is_negated)
        elif match["literal"] is not None:
            if match["literal"]:
                query.literals.append(ExactText(match["literal"], is_negated))
        else:
            phrase = match["phrase"]
            typed = match["word"] if phrase is None else phrase.replace('\\"', '"')
            _add_words(query, typed, "text", is_negated=is_negated)
    return query


def _add_words(query: Query, typed: str, column: str, *, is_negated: bool) -> None:
    # A star behind a phrase is of its last word.
    words = tuple(fold_words(typed))
    if not words:
        text = f"signs alone are not looked for ({typed}): write '{typed}' for exactly these characters"
        query.messages.append(Message("info", text))
        return
    query.words.append(Words(words, typed.endswith("*"), column, is_negated))


def _add_field(
    query: Query, name: str, typed: str, fields: Sequence[str], *, is_negated: bool
) -> None:
    # `status:right,"a b"` names two values.
    values = []
    for quoted, bare in _VALUE.findall(typed):
        values.append(bare or quoted.replace('\\"', '"'))
    if name in WORD_FIELDS:
        for value in values:
            _add_words(query, value, name, is_negated=is_negated)
    elif name in fields or name in ID_FIELDS:
        query.values.append(Values(name, tuple(values), is_negated))
    elif name in NUMBERS or name.startswith(SCORE_PREFIX):
        for value in values:
            condition = _parse_range(name, value, is_negated=is_negated)
            if condition is None:
                expected = f"{name}:>5, {name}:2..8, {name}:none"
                query.messages.append(Message("error", f"{value!r} is no number: {expected}"))
            else:
                query.ranges.append(condition)
    else:
        available = (*fields, *ID_FIELDS, *NUMBERS, f"{SCORE_PREFIX}NAME", "question")
        query.messages.append(Message("error", f"there is no field {name!r}", available))


def _parse_range(name: str, text: str, *, is_negated: bool) -> Range | None:
    if text in ("none", "any"):
        return Range(name, is_none=True, is_negated=is_negated ^ (text == "any"))
    between = _RANGE.fullmatch(text)
    try:
        if between:
            low, high = float(between["low"]), float(between["high"])
            return Range(name, low, high, is_negated=is_negated)
        compared = _COMPARED.fullmatch(text)
        assert compared is not None  # it matches any text that is not empty
        number = float(compared["number"])
    except ValueError:
        return None
    # Both ends are closed, but for `<` and `>`.
    sign = compared["sign"] or "="
    low = number if sign in (">", ">=", "=") else -math.inf
    high = number if sign in ("<", "<=", "=") else math.inf
    return Range(name, low, high, sign != ">", sign != "<", is_negated=is_negated)


def replace_unusable(text: str) -> str:
    """The text with U+FFFD for each character that a reason can hold and an address or SQLite's JSON can't."""
    return _UNUSABLE.sub("\ufffd", text)


def quote_value(value: str) -> str:
    """A value as it is written after `field:`."""
    if value and re.fullmatch(r"[\w.:-]+", value):
        return value
    escaped = value.replace('"', '\\"')
    return f'"{escaped}"'


def match_expression(words: Sequence[Words]) -> str:
    """What FTS5 is asked for where all of these must be found; "" for none."""
    terms = []
    for term in words:
        # Every word is quoted: FTS5 has words of its own, such as NEAR.
        phrase = " + ".join(f'"{word}"' for word in term.words)
        star = "*" if term.is_prefix else ""
        terms.append(f"{{{term.column}}} : ({phrase}{star})")
    return " AND ".join(terms)


def fold_words(text: str) -> list[str]:
    """The words of a text as they are compared: without case and accents."""
    return [fold_word(match[0]) for match in _WORD.finditer(text)]


def fold_word(word: str) -> str:
    """A word without case and accents."""
    if word.isascii():
        return word.lower()
    decomposed = unicodedata.normalize("NFD", word.casefold())
    return "".join(character for character in decomposed if unicodedata.category(character) != "Mn")


def find_hits(text: str, query: Query, column: str = "text") -> list[tuple[int, int]]:
    """Where a text has what a query looks for, as (start, stop) in order.

    Args:
        text: of a trace, or its question.
        query: whose words and literals are looked for; those that must not be there are not.
        column: which of the two texts it is.
    """
    hits: set[tuple[int, int]] = set()
    terms = [term for term in query.words if term.column == column and not term.is_negated]
    if terms:
        # Words are folded once for all terms; of ASCII, which most texts are, all at once.
        folded_text = text.lower() if text.isascii() else text
        words, places = [], []
        for match in _WORD.finditer(folded_text):
            words.append(match[0] if text.isascii() else fold_word(match[0]))
            places.append(match.span())
        for term in terms:
            for first in _find_words(words, term):
                hits.add((places[first][0], places[first + len(term.words) - 1][1]))
    for literal in query.literals if column == "text" else ():
        start = -1 if literal.is_negated else text.find(literal.text)
        while start >= 0:
            hits.add((start, start + len(literal.text)))
            start = text.find(literal.text, start + len(literal.text))
    return sorted(hits)


def _find_words(words: Sequence[str], term: Words) -> Iterator[int]:
    """The places of a term's first word where all of its words follow one another."""
    *before, last = term.words
    for place, word in enumerate(words):
        # The last word first: it may be the beginning of a word.
        if word == last or (term.is_prefix and word.startswith(last)):
            first = place - len(before)
            if first >= 0 and list(words[first:place]) == before:
                yield first
