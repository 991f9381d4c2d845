"""Answers that algebra would misread: numerals with a base, sequences with dots, sets beside tuples, words.

Each function compares two answers where they are of its form, and returns None where they are not.
"""

from __future__ import annotations

import itertools
import re
from fractions import Fraction

from potstill.verifiers import number_words

_TEXT_BOX = re.compile(r"\\(?:text|mathrm|textbf|mathbf|textit|mbox|textrm|rm)\s?\{([^{}]*)\}")

# `101_2`, `(2F)_{16}`, `101_{\text{two}}`, "101 base 2".
_NUMERAL = re.compile(
    r"(-?)\(?\s?([0-9A-Za-z]{1,60}(?:\.[0-9A-Za-z]{1,60})?)\s?\)?\s?(?:_\s?\{?\s?\(?(?:base\s)?|\(?(?:in\s)?base[\s-])"
    r"([a-z]{3,12}|\d{1,2})\s?\)?\s?\}?",
    re.IGNORECASE,
)
_DOTS = re.compile(r"\\[lc]?dots[bcimo]?(?![a-zA-Z])|\.\.\.")
_MAX_TERMS = 10_000  # of a sequence that is written out
_ASSIGNMENT = re.compile(r"^[^=<>]{1,40}(?:=|\\in(?![a-zA-Z]))\s?(?=\\?[({\[])")
_CLOSING = {"(": ")", "[": "]", "\\{": "\\}", "{": "}", "\\lbrace": "\\rbrace"}
_BRACKET = re.compile(r"\\[{}]|\\[lr]brace(?![a-zA-Z])|[()\[\]{}]")
# Products that are commonly written of neighbours in the alphabet; "no" and "on" are words, in capitals all are.
_SHORT_WORDS = frozenset({"no", "on", "ne", "nw", "se", "sw", "en", "wn", "es", "ws"})


def is_same_numeral(gold: str, answer: str) -> bool | None:
    """Whether numerals with a base have one value; a number without a base is decimal. None unless one has a base."""
    gold_numeral, numeral = _read_numeral(gold), _read_numeral(answer)
    if gold_numeral is None and numeral is None:
        return None
    values = []
    for text, read in ((gold, gold_numeral), (answer, numeral)):
        value = read if read is not None else _read_number(text)
        if value is None:
            return None
        values.append(value)
    return values[0] == values[1]


def _read_numeral(text: str) -> Fraction | None:
    match = _NUMERAL.fullmatch(_TEXT_BOX.sub(r"\1", text).strip())
    if match is None:
        return None
    sign, digits, base_text = match.groups()
    base = int(base_text) if base_text.isdecimal() else number_words.read_words(base_text)
    # A variable with an index, such as `x_2`, begins with a letter.
    if base is None or not 2 <= base <= 36 or not (digits[0].isdigit() or base > 10):
        return None
    whole, _, decimals = digits.partition(".")
    try:
        value = Fraction(int(whole + decimals, int(base)), int(base) ** len(decimals))
    except ValueError:
        return None
    return -value if sign else value


def _read_number(text: str) -> Fraction | None:
    bare = text.replace(",", "").strip()
    return Fraction(bare) if re.fullmatch(r"-?\d{1,100}(?:\.\d{1,100})?", bare) else None


def is_same_sequence(gold: str, answer: str) -> bool | None:
    """Whether lists of which one has dots for terms left out are the same; None without dots between commas."""
    gold_terms, terms = _split_terms(gold), _split_terms(answer)
    if not _has_gap(gold_terms) and not _has_gap(terms):
        return None
    if gold_terms == terms:
        return True
    # A list without a beginning is read from its end.
    if gold_terms[0] == terms[0] == "...":
        gold_terms, terms = gold_terms[::-1], terms[::-1]
    if gold_terms[0] == terms[0] == "...":
        # Without an end either: the same step, from a term that both have.
        steps = _step(gold_terms[1:-1]), _step(terms[1:-1])
        return steps[0] is not None and steps[0] == steps[1] and gold_terms[1] in terms
    # Where the dots stand for nothing that can be computed, only the written terms can be compared.
    written_out = _write_out(gold_terms), _write_out(terms)
    if None not in written_out:
        return written_out[0] == written_out[1]
    if gold_terms[-1] != "..." or terms[-1] != "...":
        return False
    # Both go on for ever: by the same step from the same beginning.
    steps = _step(gold_terms[:-1]), _step(terms[:-1])
    return steps[0] is not None and steps[0] == steps[1] and gold_terms[0] == terms[0]


def _split_terms(text: str) -> list[str]:
    """The terms of a list between commas, without white space and enclosing brackets; dots are "..."."""
    bare = _DOTS.sub("...", text).strip()
    bare = re.sub(r"^(?:\\\{|[(\[{])(.*?)(?:\\\}|[)\]}])$", r"\1", bare)
    return [re.sub(r"\s+", "", term) for term in bare.split(",")]


def _has_gap(terms: list[str]) -> bool:
    """Whether dots stand beside at least two other terms."""
    return "..." in terms and len(terms) - terms.count("...") >= 2


def _write_out(terms: list[str]) -> list[Fraction] | None:
    """All terms of a finite list of numbers; dots go on by the step before them, or by 1."""
    gap = terms.index("...") if "..." in terms else len(terms)
    before, after = _read_numbers(terms[:gap]), _read_numbers(terms[gap + 1 :])
    if gap == len(terms) or not before or not after:
        return before if gap == len(terms) else None
    step = _step(terms[:gap]) or Fraction(1 if after[0] > before[-1] else -1)
    count = (after[0] - before[-1]) / step
    if count.denominator != 1 or not 0 < count <= _MAX_TERMS:
        return None
    between = [before[-1] + step * place for place in range(1, int(count))]
    return [*before, *between, *after]


def _step(terms: list[str]) -> Fraction | None:
    """The step of an arithmetic progression, None for another list."""
    values = _read_numbers(terms)
    if values is None or len(values) < 2:
        return None
    steps = {second - first for first, second in itertools.pairwise(values)}
    return steps.pop() if len(steps) == 1 and 0 not in steps else None


def _read_numbers(terms: list[str]) -> list[Fraction] | None:
    values: list[Fraction] = []
    for term in terms:
        if not re.fullmatch(r"-?\d{1,30}(?:\.\d{1,30}|/[1-9]\d{0,29})?", term):
            return None
        values.append(Fraction(term))
    return values


def are_set_and_tuple(gold: str, answer: str) -> bool:
    """Whether one answer is a set in braces and the other a list in round or square brackets."""
    kinds = {_bracket_kind(gold), _bracket_kind(answer)}
    return "set" in kinds and "tuple" in kinds


def _bracket_kind(text: str) -> str:
    """ "set" or "tuple" where one pair of brackets encloses a whole list, else "" (also for intervals like `[0,1)`)."""
    bare = _ASSIGNMENT.sub("", text.strip())
    tokens = list(_BRACKET.finditer(bare))
    if len(tokens) < 2 or tokens[0].start() != 0 or tokens[-1].end() != len(bare):
        return ""
    opening = tokens[0].group()
    if _CLOSING.get(opening) != tokens[-1].group():
        return ""
    # The first bracket must stay open to the end, and a comma must stand directly in it.
    depth = 0
    has_comma = False
    for token, following in zip(tokens, [*tokens[1:], None], strict=True):
        depth += 1 if token.group() in _CLOSING else -1
        if following is None:
            break
        if depth == 0:
            return ""
        has_comma = has_comma or (depth == 1 and "," in bare[token.end() : following.start()])
    if not has_comma:
        return ""
    return "tuple" if opening in "([" else "set"


def is_same_letter_string(gold: str, answer: str) -> bool | None:
    """Whether two answers of letters alone are one word; None unless both are, and for products such as `xy`."""
    words = [_TEXT_BOX.sub(r"\1", text).strip() for text in (gold, answer)]
    if not all(word.isalpha() and word.isascii() and len(word) > 1 for word in words):
        return None
    if all(_is_product(word) for word in words):
        return None
    return words[0].casefold() == words[1].casefold()


def is_same_word_list(gold: str, answer: str) -> bool | None:
    """Whether lists of letter strings hold the same ones, in any order; None where one is no such list."""
    lists: list[list[str]] = []
    for text in (gold, answer):
        bare = _TEXT_BOX.sub(r"\1", text).strip().removeprefix("\\{").removesuffix("\\}")
        words = [word.strip() for word in bare.split(",")]
        if not all(word.isalpha() and word.isascii() for word in words):
            return None
        lists.append(words)
    if len(lists[0] + lists[1]) < 3 or all(
        len(word) == 1 or _is_product(word) for word in lists[0] + lists[1]
    ):
        return None
    gold_words, answer_words = (sorted(word.casefold() for word in words) for words in lists)
    return gold_words == answer_words


def _is_product(word: str) -> bool:
    """Whether letters are variables beside each other: two small ones, or neighbours in the alphabet such as `abc`."""
    if not word.islower() or word in _SHORT_WORDS:
        return False
    codes = sorted({ord(letter) for letter in word})
    are_neighbours = codes[-1] - codes[0] == len(word) - 1 == len(codes) - 1
    return len(word) == 2 or are_neighbours
