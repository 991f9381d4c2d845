"""One exact number: `#### 18`, `A: 18`, "The answer is $1,200.", `\\boxed{\\frac{1}{2}}`, 25%; compared as fractions.

The answer is marked or on the last line, and it must be one number there: "3 or 5" and "6 hours 30 minutes" can't be
told, and what can't be told is unparsed, never wrong. Units are not compared. 25% equals 25 and 0.25.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import NamedTuple

from potstill.records import Problem, Verdict
from potstill.verifiers import claims, extract, number_words
from potstill.verifiers.unicode import normalise_characters

VERSION = "number@4"
MAX_CHARACTERS = (
    300  # of a number with its wording; anything longer is no number, and may be an attack
)
_MAX_ANSWER = 2_000  # characters of a candidate before its markup is taken out
_MAX_DECIMALS = 40  # a value with more decimals is written as a fraction


class Value(NamedTuple):
    """A number read from a text: its exact value (25 for 25%) and whether it was a percentage."""

    value: Fraction
    percent: bool = False

    def __str__(self) -> str:
        """One form per value, so that votes over 18, 18.0 and 18.00 agree."""
        digits = _format_fraction(self.value)
        return f"{digits}%" if self.percent else digits

    def equals(self, gold: Value) -> bool:
        """Exact equality; a percentage beside a bare number may be meant either way."""
        if self.percent == gold.percent:
            return self.value == gold.value
        percentage, bare = (self, gold) if self.percent else (gold, self)
        return bare.value in (percentage.value, percentage.value / 100)


class _Reading(NamedTuple):
    """The number of a text as it is written and in full ("5 million" may be meant as either), and what marked it."""

    as_written: Value
    in_full: Value
    mark: str


_DIGITS = r"(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)"
# A whole or decimal number; then a mixed number's fraction or a denominator, a power of ten, and a percent sign.
_NUMBER = re.compile(
    rf"(?<![\w.])(?P<whole>{_DIGITS})"
    r"(?:\s{1,3}(?P<mixed_numerator>\d+)\s?/\s?(?P<mixed_denominator>\d+)"
    rf"|\s?/\s?(?P<denominator>{_DIGITS}))?"
    r"(?:[eE](?P<exponent>[+-]?\d{1,3})(?!\w)"
    r"|\s?(?:x|×|\*|\\times)\s{0,3}10\s?\^\s?\{?\s?(?P<power_of_ten>-?\d{1,3})(?!\d)\s?\}?)?"
    r"(?![eE][+-]?\d)(?:\s?(?P<percent>%|percent\b))?"
)
SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_SCALE_WORD = re.compile(r"\b(thousand|million|billion|trillion)s?\b", re.IGNORECASE)
# The same in short, and as counted in India: "1.2M", "300k", "12 lakh".
_SHORT_SCALE = re.compile(r"(?<=\d)(?:([kKMB])|\s?(bn|mn|mil|mln|mio|lakhs?|crores?))(?![\w/^])")
_SHORT_SCALES = {
    "k": 3,
    "m": 6,
    "b": 9,
    "bn": 9,
    "mn": 6,
    "mil": 6,
    "mln": 6,
    "mio": 6,
    "lakh": 5,
    "crore": 7,
}
# Where an explanation begins.
_EXPLANATION = re.compile(r"\(|\bbecause\b|\bsince\b|[.!?](?=\s|$)|;", re.IGNORECASE)
# Patterns and what stands in their place, in this order.
_MARKUP = (
    (re.compile(r"<<[^>\n]*(?:>>|$)"), " "),  # GSM8K's calculator notes
    (re.compile(r"</?[a-z]{1,10}(?:\s[^<>=]{0,100}=[^<>]{0,200})?>"), " "),
    (re.compile(r"\\[!,]|\\(?:left|right|displaystyle)\b|\{,\}(?=\d)|\*\*|`"), ""),
    (re.compile(r"\\[dt]?frac\s?\{([^{}]*)\}\s?\{([^{}]*)\}"), r" \1/\2"),
    (re.compile(r"\\[dt]?frac\s?(\d)\s?(\d)(?!\d)"), r" \1/\2"),
    # Powers of units, `\\text{cm}^2` and "m/s^2"; those of letters are part of a formula.
    (re.compile(r"(\\(?:text|mathrm|mbox)\s?\{[^{}]*\})\s?\^\s?\{?\s?-?[1-4]\s?\}?(?!\d)"), r"\1"),
    (
        re.compile(r"(?<![a-zA-Z\\])([a-zA-Z]{2,12}|[ms])\s?\^\s?\{?\s?-?[1-4]\s?\}?(?![\w^])"),
        r"\1",
    ),
    (re.compile(r"\\(?:text|mathrm|mathbf|textbf|mbox)\s?\{([^{}]*)\}"), r" \1 "),
    (re.compile(r"\^\s?\{?\\circ\}?|\\[()\[\]]|\\?[$£€]|\\ |~"), " "),  # degrees, currencies
    (re.compile(r"(?<=\d)['’_](?=\d{3}(?!\d))"), ""),  # between thousands
    (re.compile(r"\\%"), "%"),
    (re.compile(r"(?<!\d)(?<!\d\s)\b(?:minus|negative)\s+(?=[\d$])", re.IGNORECASE), "-"),
    (re.compile(r"[−–](?=\s?[\d.$])"), "-"),
)


# An unknown, beside or behind the number: `5x`, `5 + x`; but "5x as many" are five times as many.
_UNKNOWN = re.compile(
    r"\d\s?[xyzn](?![a-zA-Z])(?!\s+[a-z]|\s?\d)|\d\s?[-+*/]\s?[b-hj-z](?![a-zA-Z])"
)
# "1.250.000", and "1.250.000,50" with its decimals.
_DOTTED_THOUSANDS = re.compile(r"(?<![\w.,])(\d{1,3}(?:\.\d{3}){2,})(?:,(\d{1,2}))?(?![\d]|[.,]\d)")
_SEVERAL_POINTS = re.compile(r"\d\.\d+\.\d")
_PLAIN_NUMBER = re.compile(r"[0-9]{1,15}(?:\.[0-9]{1,15})?\.?")
_AFTER_IDEOGRAPH = re.compile(
    r"(?<=[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af])(?=[\d-])"  # no word ends here
)
_AND_PART = re.compile(
    r"(?<![\d.,])(\d+)\s+and\s+((?:an?|one|two|three|four|five)\s+(?:half|thirds?|quarters?|fifths?|eighths?))\b"
)
_QUOTATION = re.compile(r"^\s?>+\s")  # in Markdown
# Relations with an equals sign in them, which would be taken for equations.
_RELATIONS = (
    (re.compile(r"[=-]>"), " "),
    (re.compile(r">="), r"\\ge "),
    (re.compile(r"<="), r"\\le "),
    (re.compile(r"!=|\\not\s?="), r"\\ne "),
)
_EITHER_SIGN = re.compile(r"\\pm(?![a-zA-Z])|\+/-|\bplus or minus\b", re.IGNORECASE)
# "I first thought 48, but it is 72."
_CORRECTION = re.compile(
    r"\b(?:but|no|actually|instead|rather)\b[,:]?\s+(?:(?:it|that|this|the (?:right |correct |final |actual )?\w+)"
    r"(?:\s+(?:is|was|must be|should be)|['’]s)\s+)(?:actually |really |in fact )?",
    re.IGNORECASE,
)
_NO_NUMBER = "no number"
_COPULA = re.compile(r"\b(?:is|are|equals|be|was|were)\b|[:=是为為]", re.IGNORECASE)
# Words that may follow "one" or "two" where these are no answer.
_NO_UNITS = frozenset(
    (
        "of can cannot could must may might is are has have had should does do would will more less other another "
        + "by at that which who to and or way but if not"
    ).split()
)


def judge(problem: Problem, text: str) -> Verdict:
    """Right where the text's one final number equals the gold number exactly."""
    reading = _read_text(text)
    answer = None if isinstance(reading, str) else str(reading.in_full)
    if problem.answer is None:
        return Verdict("unjudged", answer, "the problem has no gold answer", VERSION)
    gold = read_number(problem.answer)
    if isinstance(gold, str):
        reason = f"the gold answer {problem.answer[:60]!r} is no number: {gold}"
        return Verdict("unjudged", answer, reason, VERSION)
    if isinstance(reading, str):
        return Verdict("unparsed", None, reading, VERSION)
    for value in dict.fromkeys((reading.as_written, reading.in_full)):
        if value.equals(gold):
            return Verdict("right", str(value), f"equal ({reading.mark})", VERSION)
    reason = f"{reading.as_written} is not {gold} ({reading.mark})"
    return Verdict("wrong", answer, reason[:200], VERSION)


def read(problem: Problem, text: str) -> str | None:
    """Return the text's one final number; "5 million" in full."""
    reading = _read_text(text)
    return None if isinstance(reading, str) else str(reading.in_full)


def equal(problem: Problem, first: str, second: str) -> bool:
    """Whether two answers are one number; a percentage beside a bare number may be meant either way."""
    values = read_number(first), read_number(second)
    if isinstance(values[0], str) or isinstance(values[1], str):
        return first.strip() == second.strip()
    return values[0].equals(values[1])


def gold_text(problem: Problem) -> str:
    """Return a text that gives the gold answer."""
    return f"The answer is {problem.answer}."


def _read_text(text: str) -> _Reading | str:
    """The number that the first readable candidate gives, or a string that says why there is none."""
    reasons: list[str] = []
    for candidate in extract.candidates(text):
        value = read_number(candidate.text)
        if isinstance(value, str):
            reasons.append(f"{value} ({candidate.mark})")
            continue
        scaled = scaled_value(candidate.text, value)
        return _Reading(value, scaled or value, candidate.mark)
    reasons.append("nothing that could be an answer")
    return reasons[0]


def read_number(text: str) -> Value | str:
    """Return the one number of a short text, or a string that says why there is none."""
    line = text.strip()
    if _PLAIN_NUMBER.fullmatch(line):
        return Value(Fraction(line.removesuffix(".")))
    if len(line) > _MAX_ANSWER:
        return f"an answer of {len(line)} characters"
    stated = _QUOTATION.sub("", _without_markup(normalise_characters(line)))
    if not stated.isascii():
        stated = _AFTER_IDEOGRAPH.sub(" ", stated)
    if "." in stated:
        stated = _DOTTED_THOUSANDS.sub(_without_dots, stated)
    if " and " in stated:
        stated = _AND_PART.sub(_mixed_number, stated)
    line = claims.claimed_part(stated)
    if "=" in line or ">" in line:
        for pattern, sign in _RELATIONS:
            line = pattern.sub(sign, line)
    # Of an equation the last side counts, and of a sentence what stands before its explanation.
    line = re.split(r"[=≈]|\\approx", line.rstrip(" =."))[-1]
    explanation = _EXPLANATION.search(line)
    if explanation and _NUMBER.search(line[: explanation.start()]):
        line = line[: explanation.start()]
    if len(line) > MAX_CHARACTERS:
        return f"an answer of {len(line)} characters"
    obstacle = _why_no_number(line)
    if obstacle:
        return obstacle
    corrections = _CORRECTION.split(line)
    value = _only_number(corrections[-1])
    if value != _NO_NUMBER:
        return value
    in_words = _number_in_words(line)
    # Of "one cannot say" only "one" is left when the denial is taken out.
    is_pronoun = line != stated and in_words == Value(Fraction(1))
    return value if in_words is None or is_pronoun else in_words


def _why_no_number(line: str) -> str:
    """Say why a line with digits gives no number; "" where it may."""
    if claims.has_bound(line):
        return "a bound, not a number"
    if _EITHER_SIGN.search(line):
        return "two numbers, by either sign"
    if _UNKNOWN.search(line):
        return "a formula with an unknown"
    return "a number with several points" if _SEVERAL_POINTS.search(line) else ""


def _without_dots(match: re.Match[str]) -> str:
    """ "1.250.000,5" as "1250000.5"."""
    return f"{match[1].replace('.', '')}.{match[2] or 0}"


def _mixed_number(match: re.Match[str]) -> str:
    """ "5 and a half" as "5 1/2"."""
    part = number_words.read_words(match[2])
    return f" {match[1]} {part}" if part else match[0]


def scaled_value(text: str, value: Value) -> Value | None:
    """Return the value in millions or so, where the text says one such word; "5 million" may be meant in full."""
    words = _SCALE_WORD.findall(text[:MAX_CHARACTERS])
    short = _SHORT_SCALE.findall(text[:MAX_CHARACTERS])
    if len(words) + len(short) != 1:
        return None
    if words:
        factor = SCALES[words[0].lower()]
    else:
        factor = 10 ** _SHORT_SCALES["".join(short[0]).lower().removesuffix("s")]
    return Value(value.value * factor, value.percent)


def whole_number_text(text: str) -> Value | None:
    """Return the number that all of a short text is, units and words excluded; None for anything else."""
    text = _without_markup(text).strip().removesuffix(".")
    if len(text) > MAX_CHARACTERS:
        return None
    match = _NUMBER.fullmatch(re.sub(r"^[+-]?\s?", "", text))
    if match is None:
        return None
    return _value_of_match(match, negative=text.startswith("-"))


def _without_markup(text: str) -> str:
    for pattern, replacement in _MARKUP:
        text = pattern.sub(replacement, text)
    return text


def _only_number(line: str) -> Value | str:
    values: list[Value] = []
    for match in _NUMBER.finditer(line):
        value = _value_of_match(match, negative=_ends_with_minus_sign(line[: match.start()]))
        if value is None:
            return "a number that can't be evaluated"
        values.append(value)
    if not values:
        return _NO_NUMBER
    if len(set(values)) > 1:
        return f"{len(set(values))} different numbers"
    return values[0]


def _number_in_words(line: str) -> Value | None:
    """The number that a line without digits says in words: all of it, or what "is" introduces, units aside."""
    parts = [line, *_COPULA.split(line)[-1:]]
    for part in parts:
        words = part.strip(" .,;:!?*_\"'。").split()
        # The longest beginning that is a number; at most two words of units may follow.
        for unit_words in range(min(3, len(words))):
            count = len(words) - unit_words
            value = number_words.read_words(" ".join(words[:count]))
            following = {word.lower().strip(",.") for word in words[count:]}
            if value is None or following & _NO_UNITS:
                continue
            return Value(value, percent=words[count:] == ["percent"])
    return None


def _ends_with_minus_sign(before: str) -> bool:
    """Whether a minus sign stands before the number, and not a subtraction or a dash after a word."""
    head = before.rstrip()
    if not head.endswith("-"):
        return False
    left_of_dash = head[:-1].rstrip()
    if not left_of_dash:
        return True
    # "total - 18" and "x-18" have a space on both sides of the dash or on neither; "is -18" has one before it only.
    spaced_alike = head != before or left_of_dash == head[:-1]
    last = left_of_dash[-1]
    is_operand = last.isalnum() if spaced_alike else last.isdigit()
    return not is_operand and last not in ")%"


def _value_of_match(match: re.Match[str], *, negative: bool) -> Value | None:
    """Evaluate a match of `_NUMBER`; None where it divides by zero."""
    # A mixed number's fraction or a denominator, and then a power of ten.
    part = match.groupdict()
    value = Fraction(part["whole"].replace(",", ""))
    if part["mixed_numerator"]:
        denominator = int(part["mixed_denominator"])
        if not denominator:
            return None
        value += Fraction(int(part["mixed_numerator"]), denominator)
    if part["denominator"]:
        divisor = Fraction(part["denominator"].replace(",", ""))
        if not divisor:
            return None
        value /= divisor
    exponent = part["exponent"] or part["power_of_ten"]
    if exponent:
        value *= Fraction(10) ** int(exponent)
    if negative:
        value = -value
    return Value(value, bool(part["percent"]))


def _format_fraction(value: Fraction) -> str:
    """An integer or a terminating decimal as digits, else numerator/denominator."""
    if value.denominator == 1:
        return str(value.numerator)
    decimals = _decimal_places(value.denominator)
    if decimals is None or decimals > _MAX_DECIMALS:
        return f"{value.numerator}/{value.denominator}"
    digits = str(abs(value.numerator) * 10**decimals // value.denominator).rjust(decimals + 1, "0")
    sign = "-" if value < 0 else ""
    return f"{sign}{digits[:-decimals]}.{digits[-decimals:]}".rstrip("0")


def _decimal_places(denominator: int) -> int | None:
    """How many decimals a fraction with this denominator has; None where they never end."""
    places = 0
    for factor in (10, 2, 5):
        while denominator % factor == 0:
            denominator //= factor
            places += 1
    return places if denominator == 1 else None
