"""One exact number: `#### 18`, `A: 18`, "The answer is $1,200.", `\\boxed{\\frac{1}{2}}`, 25%; compared as fractions.

The answer is marked or on the last line, and it must be one number there: "3 or 5" and "6 hours 30 minutes" can't be
told, and what can't be told is unparsed, never wrong. Units are not compared. 25% equals 25 and 0.25.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import NamedTuple

from potstill.records import Problem, Verdict
from potstill.verifiers import extract
from potstill.verifiers.unicode import fold

VERSION = "number@2"
LONGEST = 300  # characters of a number with its wording; anything longer is no number, and may be an attack


class Value(NamedTuple):
    """A number read from a text: its exact value (25 for 25%) and whether it was a percentage."""

    value: Fraction
    percent: bool = False

    def __str__(self) -> str:
        """One form per value, so that votes over 18, 18.0 and 18.00 agree."""
        return _plain(self.value) + ("%" if self.percent else "")

    def equals(self, gold: Value) -> bool:
        """Exact equality; a percentage beside a bare number may be meant either way."""
        if self.percent == gold.percent:
            return self.value == gold.value
        share, bare = (self, gold) if self.percent else (gold, self)
        return bare.value in (share.value, share.value / 100)


_DIGITS = r"(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)"
_NUMBER = re.compile(
    rf"(?<![\w.])(?P<whole>{_DIGITS})"
    r"(?:\s{1,3}(?P<over>\d+)\s?/\s?(?P<under>\d+)"
    rf"|\s?/\s?(?P<below>{_DIGITS}))?"
    r"(?:[eE](?P<e>[+-]?\d{1,3})(?!\w)|\s?(?:x|×|\*|\\times)\s?10\s?\^\s?\{?\s?(?P<ten>-?\d{1,3})(?!\d)\s?\}?)?"
    r"(?![eE][+-]?\d)(?:\s?(?P<percent>%|percent\b))?"
)
SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_SCALE = re.compile(r"\b(thousand|million|billion|trillion)s?\b", re.IGNORECASE)
_CUT = re.compile(r"\(|\bbecause\b|\bsince\b|[.!?](?=\s|$)|;", re.IGNORECASE)
_MARKUP = (
    (re.compile(r"<<[^>\n]*(?:>>|$)"), " "),  # GSM8K's calculator notes
    (re.compile(r"\\[!,]|\\(?:left|right|displaystyle)\b|\{,\}(?=\d)|\*\*|`"), ""),
    (re.compile(r"\\[dt]?frac\s?\{([^{}]*)\}\s?\{([^{}]*)\}"), r" \1/\2"),
    (re.compile(r"\\[dt]?frac\s?(\d)\s?(\d)(?!\d)"), r" \1/\2"),
    (re.compile(r"\\(?:text|mathrm|mathbf|textbf|mbox)\s?\{([^{}]*)\}"), r" \1 "),
    (re.compile(r"\^\s?\{?\\circ\}?|\\[()\[\]]|\\?[$£€]|\\ |~"), " "),
    (re.compile(r"(?<=\d)['’_](?=\d{3}(?!\d))"), ""),
    (re.compile(r"\\%"), "%"),
    (re.compile(r"[−–](?=\s?[\d.$])"), "-"),
)


def judge(problem: Problem, text: str) -> Verdict:
    """Right where the text's one final number equals the gold number exactly."""
    if problem.answer is None:
        return Verdict("unjudged", None, "the problem has no gold answer", VERSION)
    gold = read(problem.answer)
    if isinstance(gold, str):
        return Verdict(
            "unjudged",
            None,
            f"the gold answer {problem.answer[:60]!r} is no number: {gold}",
            VERSION,
        )
    reasons: list[str] = []
    for found in extract.candidates(text):
        value = read(found.text)
        if isinstance(value, str):
            reasons.append(f"{value} ({found.mark})")
            continue
        if value.equals(gold):
            return Verdict("right", str(value), f"equal ({found.mark})", VERSION)
        large = scaled(found.text, value)
        if large and large.equals(gold):
            return Verdict("right", str(large), f"equal ({found.mark})", VERSION)
        return Verdict("wrong", str(value), f"{value} is not {gold} ({found.mark})"[:200], VERSION)
    return Verdict(
        "unparsed", None, reasons[0] if reasons else "nothing that could be an answer", VERSION
    )


def read(text: str) -> Value | str:
    """The one number of a short text, or why there is none."""
    line = text.strip()
    if len(line) > 2_000:
        return f"an answer of {len(line)} characters"
    line = fold(line)
    for pattern, replacement in _MARKUP:
        line = pattern.sub(replacement, line)
    line = re.split(r"[=≈]|\\approx", line.rstrip(" =."))[-1]
    cut = _CUT.search(line)
    if cut and _NUMBER.search(line[: cut.start()]):
        line = line[: cut.start()]
    if len(line) > LONGEST:
        return f"an answer of {len(line)} characters"
    return _only(line)


def scaled(text: str, value: Value) -> Value | None:
    """The value in millions or so, where the text says one such word; "5 million" may be meant as 5 or in full."""
    words = _SCALE.findall(text[:LONGEST])
    return Value(value.value * SCALES[words[0].lower()], value.percent) if len(words) == 1 else None


def whole(text: str) -> Value | None:
    """The number that all of a short text is, units and words excluded; None for anything else."""
    for pattern, replacement in _MARKUP:
        text = pattern.sub(replacement, text)
    text = text.strip().removesuffix(".")
    sign = re.match(r"[+-]?\s?", text)
    match = _NUMBER.fullmatch(text[sign.end() :] if sign else text)
    return _value(match, negative=text.startswith("-")) if match and len(text) <= LONGEST else None


def _only(line: str) -> Value | str:
    values: list[Value] = []
    for match in _NUMBER.finditer(line):
        value = _value(match, negative=_negative(line[: match.start()]))
        if value is None:
            return "a number that can't be evaluated"
        values.append(value)
    if not values:
        return "no number"
    if len(set(values)) > 1:
        return f"{len(set(values))} different numbers"
    return values[0]


def _negative(before: str) -> bool:
    """Whether a minus sign stands before the number, and not a subtraction or a dash after a word."""
    head = before.rstrip()
    if not head.endswith("-"):
        return False
    rest = head[:-1].rstrip()
    if not rest:
        return True
    if head != before or rest == head[:-1]:  # "total - 18" and "x-18" are no signs, "is -18" is one
        return not rest[-1].isalnum() and rest[-1] not in ")%"
    return not rest[-1].isdigit() and rest[-1] not in ")%"


def _value(match: re.Match[str], *, negative: bool) -> Value | None:
    part = match.groupdict()
    value = Fraction(part["whole"].replace(",", ""))
    if part["over"]:
        if not int(part["under"]):
            return None
        value += Fraction(int(part["over"]), int(part["under"]))
    if part["below"]:
        below = Fraction(part["below"].replace(",", ""))
        if not below:
            return None
        value /= below
    power = part["e"] or part["ten"]
    if power:
        value *= Fraction(10) ** int(power)
    return Value(-value if negative else value, bool(part["percent"]))


def _plain(value: Fraction) -> str:
    """An integer or a terminating decimal as digits, else numerator/denominator."""
    if value.denominator == 1:
        return str(value.numerator)
    rest, places = value.denominator, 0
    while rest % 10 == 0 or rest % 2 == 0 or rest % 5 == 0:
        rest, places = rest // (10 if rest % 10 == 0 else 2 if rest % 2 == 0 else 5), places + 1
    if rest != 1 or places > 40:
        return f"{value.numerator}/{value.denominator}"
    digits = str(abs(value.numerator) * 10**places // value.denominator).rjust(places + 1, "0")
    sign = "-" if value < 0 else ""
    return f"{sign}{digits[:-places]}.{digits[-places:]}".rstrip("0")
