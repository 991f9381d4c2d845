"""How alike two queries are as texts, by their letters and clause by clause; nothing runs.

    text     2 M / T: of all T characters of both, the share in matching stretches M (`difflib`)
    clauses  mean over the clauses that either query has of the F1 of what stands in them

A query in brackets is one part of the clause that it stands in. Clauses of one name, such as two joins, count as one.
"""

from __future__ import annotations

import difflib
from collections.abc import Set
from typing import NamedTuple

from potstill.verifiers.sql import statements

MAX_CHARACTERS = 2_000  # of a query; what stands behind them is not compared
CLAUSES = frozenset(
    (
        *("WITH", "SELECT", "FROM", "JOIN", "ON", "WHERE", "GROUP", "HAVING", "ORDER", "LIMIT"),
        *("OFFSET", "UNION", "INTERSECT", "EXCEPT"),
    )
)
_ENDS_OF_PARTS = CLAUSES | {",", "AND", "OR"}
_WITHOUT_MEANING = frozenset(("BY", "INNER", "OUTER", "AS", "ASC", ";"))
_QUOTES = ("'", '"', "`", "[")


class QuerySimilarity(NamedTuple):
    """How alike two queries are, each from 0 to 1.

    Args:
        text: by their letters.
        clauses: by what their clauses say.
    """

    text: float = 0.0
    clauses: float = 0.0


def compare_queries(gold: str, candidate: str) -> QuerySimilarity:
    """Compare a query with the gold one; an empty query is like none."""
    # Line breaks and indents mean nothing to a query.
    gold = " ".join(gold[:MAX_CHARACTERS].split())
    candidate = " ".join(candidate[:MAX_CHARACTERS].split())
    if not gold or not candidate:
        return QuerySimilarity()
    text = difflib.SequenceMatcher(None, candidate, gold).ratio()
    return QuerySimilarity(text, clause_f1(gold, candidate))


def clause_f1(gold: str, candidate: str) -> float:
    """Mean F1 over the clauses that either query has; 0 where neither has one."""
    gold_clauses, clauses = read_clauses(gold), read_clauses(candidate)
    # A clause that only one of them has scores 0.
    names = gold_clauses.keys() | clauses.keys()
    if not names:
        return 0.0
    scores = [f1(gold_clauses.get(name, set()), clauses.get(name, set())) for name in names]
    return sum(scores) / len(scores)


def f1(gold: Set[str], candidate: Set[str]) -> float:
    """`2 |A & B| / (|A| + |B|)`: the harmonic mean of precision and recall."""
    if not gold and not candidate:
        return 1.0
    return 2 * len(gold & candidate) / (len(gold) + len(candidate))


def read_clauses(query: str) -> dict[str, set[str]]:
    """The parts of each clause of a query, by the clause's first word: columns, tables, conditions."""
    clauses: dict[str, set[str]] = {}
    name, depth = "", 0
    part: list[str] = []
    for token in statements.split_tokens(query, max_characters=MAX_CHARACTERS):
        word = token.upper()
        # A clause's word, a comma, AND or OR end a part, outside of brackets.
        if depth == 0 and word in _ENDS_OF_PARTS:
            _add_part(clauses, name, part)
            part = []
            if word in CLAUSES:
                name = word
                clauses.setdefault(name, set())
            continue
        if not token.strip() or word in _WITHOUT_MEANING:
            continue
        if token == "(":
            depth += 1
        elif token == ")":
            depth = max(0, depth - 1)
        part.append(token if token.startswith(_QUOTES) else token.lower())
    _add_part(clauses, name, part)
    return clauses


def _add_part(clauses: dict[str, set[str]], name: str, part: list[str]) -> None:
    """Add a part to its clause; what stands before the first clause belongs to none."""
    if name and part:
        clauses[name].add(" ".join(part))
