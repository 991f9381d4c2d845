"""One form for answers that people type in many: thousands, mixed and repeating numbers, brackets, times.

What math-verify can't read, or reads as something else, is written here as it reads it; nothing is evaluated. Text is
hostile and long: every pattern is anchored, or linear in a short answer.
"""

from __future__ import annotations

import re
from fractions import Fraction

from potstill.verifiers import number, number_words

_CURRENCY = re.compile(r"\\?[$€£¥₹]|\\(?:euro|pounds|yen)\b|\\text\{\s?(?:€|£|¥|USD|EUR|GBP)\s?\}")

# Thousands set apart by LaTeX spaces, by spaces or apostrophes, and by points; a number of thousands or millions.
_LATEX_THOUSANDS = re.compile(r"(?<![\d.])\d{1,3}(?:(?:\\[,;: ]|~|\{,\})\d{3})+(?!\d)")
_SPACED_THOUSANDS = re.compile(r"[+-]?\s?\d{1,3}(?:([ '_’]|\\?\s)\d{3}(?:\1\d{3})*)(?!\d|\s?/)")
_DOTTED_THOUSANDS = re.compile(
    r"([+-]?\d{1,3}(?:\.\d{3}){2,}|[+-]?\d{1,3}(?:\.\d{3})+(?=,\d))(?:,(\d{1,2}))?"
)
_SCALED = re.compile(r"(.{1,40}?)\s?(?:\\text\{)?\s?(thousand|million|billion|trillion)s?\s?\}?")

# Repeating decimals: `0.1\overline{6}`, `0.1(6)`, `0.1666...`.
_OVERLINED = re.compile(r"(?<![\d.])(\d*)\.(\d*)\\(?:overline|bar|dot|overbar)\s?\{?(\d+)\}?(?!\d)")
_BRACKETED = re.compile(r"([+-]?\d*)\.(\d*)\((\d+)\)")
_WITH_ELLIPSIS = re.compile(
    r"(?<![\d.])(\d*)\.(\d*?)(?:(\d)\3{2,}|(\d{2,9}?)\4+)(?:\.{3}|\\[lc]?dots)"
)

_SQUARE_INTERVAL = re.compile(r"([\[\](])([^\[\]()]{1,100},[^\[\]()]{1,100})([\[\])])")
_INTERVAL = re.compile(r"^\s?(?:[a-zA-Z]\s?\\in\s?)?[\[\](].*[,;].*[\[\])]|\\infty")
# Comparison signs, and whether each is strict.
_LESS = {
    "<": True,
    "\\lt": True,
    "\\le": False,
    "\\leq": False,
    "\\leqslant": False,
    "\\leqq": False,
    "<=": False,
}
_GREATER = {
    ">": True,
    "\\gt": True,
    "\\ge": False,
    "\\geq": False,
    "\\geqslant": False,
    "\\geqq": False,
    ">=": False,
}
# The bracket of an interval by whether its end is strict.
_LEFT_BRACKET, _RIGHT_BRACKET = {True: "(", False: "["}, {True: ")", False: "]"}
# One sign of each kind, by whether it is strict.
_LESS_SIGN, _GREATER_SIGN = {True: "<", False: "\\le"}, {True: ">", False: "\\ge"}
_COMPARISON = re.compile(
    r"(<=|>=|<|>|\\(?:leqslant|geqslant|leqq|geqq|leq|geq|le|ge|lt|gt)(?![a-zA-Z]))"
)
_THREE_LETTERS = re.compile(r"[a-zA-Z]{3}")
_UNEQUAL = re.compile(r"\\neq?(?![a-zA-Z])|\\not\s?=|!=")
_LONG_DECIMAL = re.compile(r"[+-]?\d*\.(\d{6,40})")
_TRIGONOMETRY = re.compile(r"(?:sin|cos|tan|cot|sec|csc)(?![a-z])|\\?cis(?![a-z])")
_DEGREES = re.compile(
    r"(-?\d+(?:\.\d+)?)\s*(?:\^\s*\{?\s*\\circ\s*\}?|(?:\\text\s?\{)?\s*degrees?\b\s*\}?)"
)
_NATURAL_LOGARITHM = re.compile(r"\\log\s?_\s?\{?\s?e\s?\}?(?![a-zA-Z])")
_ROMAN_LETTER = re.compile(r"\\(?:mathrm|text|operatorname|rm)\s?\{\s?([ie])\s?\}")
_OR = re.compile(r"\\text\s?\{\s*or\s*\}|\bor\b|\\lor\b|\\vee\b")

_TIME = re.compile(r"(\d{1,2})[:.](\d\d)(?::\d\d)?\s*(?:([ap])\.?\s?m\.?|o'clock)?", re.IGNORECASE)
_RANGE = re.compile(r"(-?\d+(?:\.\d+)?)\s?(?:-|--|\\?~|\bto\b)\s?(-?\d+(?:\.\d+)?)")
_NONE = re.compile(
    r"\\(?:emptyset|varnothing)|\\\{\s?\\\}|(?:the )?empty set|\{\s?\}|no (?:real )?solutions?|no solutions? exists?",
    re.IGNORECASE,
)
_TEXT_BOX = re.compile(r"\\(?:text|mathrm|textbf|mathbf|textit|mbox|textrm)\s?\{([^{}]*)\}")


def to_algebra(text: str) -> str:
    """Write a formula as math-verify reads it.

    Repeating decimals become fractions, `]a, b[` becomes (a, b), and currency signs go.
    """
    text = _CURRENCY.sub("", text).strip()
    text = _LATEX_THOUSANDS.sub(lambda match: re.sub(r"\D", "", match[0]), text)
    text = _OVERLINED.sub(
        lambda match: _repeating_decimal(match[1], match[2], repeating=match[3]), text
    )
    text = _WITH_ELLIPSIS.sub(
        lambda match: _repeating_decimal(match[1], match[2], repeating=match[3] or match[4]), text
    )
    text = _NATURAL_LOGARITHM.sub(r"\\ln ", text)
    text = text.replace("\\varnothing", "\\emptyset").replace("smallmatrix", "pmatrix")
    text = _ROMAN_LETTER.sub(r"\1", text)
    # Angles are in radians to algebra, unless it is told.
    if _TRIGONOMETRY.search(text):
        text = in_radians(text)
    if "]" in text or "[" in text:
        text = _SQUARE_INTERVAL.sub(_with_round_brackets, text)
    return text


def in_radians(text: str) -> str:
    """Write angles in degrees as multiples of pi."""
    return _DEGREES.sub(r"(\\frac{\1\\pi}{180})", text)


def says_radians(text: str) -> bool:
    """Whether a text could be an angle in radians: it has pi or an inverse function, and no degrees."""
    return not _DEGREES.search(text) and ("\\pi" in text or "arc" in text)


def _repeating_decimal(whole: str, fixed: str, *, repeating: str) -> str:
    """The fraction of a repeating decimal: `0.1` and 6 repeating is 1/6."""
    denominator = 10 ** len(fixed + repeating) - 10 ** len(fixed)
    numerator = int(whole + fixed + repeating) - int(whole + fixed or "0")
    value = Fraction(numerator, denominator)
    return f"\\frac{{{value.numerator}}}{{{value.denominator}}}"


def _with_round_brackets(match: re.Match[str]) -> str:
    """Write the open end of an interval with a round bracket: `[0, 1[` is [0, 1), and `]0, 1]` is (0, 1]."""
    left, ends, right = match.groups()
    if left == "]":
        left = "("
    if right == "[":
        right = ")"
    return f"{left}{ends}{right}"


def exact_number(text: str) -> number.Value | None:
    """Return the number that all of the text is, however its thousands are set; None for anything else."""
    line = _CURRENCY.sub("", _TEXT_BOX.sub(r" \1 ", text)).strip()
    if len(line) > 100:
        return None
    # "1.25 million"
    scaled = _SCALED.fullmatch(line)
    if scaled:
        value = exact_number(scaled[1])
        if value is None:
            return None
        return number.Value(value.value * number.SCALES[scaled[2]], value.percent)
    # "1.250.000,5"
    dotted = _DOTTED_THOUSANDS.fullmatch(line)
    if dotted:
        return number.Value(Fraction(f"{dotted[1].replace('.', '')}.{dotted[2] or 0}"))
    # "0.1(6)"
    bracketed = _BRACKETED.fullmatch(line)
    if bracketed:
        fraction = _repeating_decimal(
            bracketed[1].strip("+-"), bracketed[2], repeating=bracketed[3]
        )
        line = f"-{fraction}" if bracketed[1].startswith("-") else fraction
    # "1 250 000", but no tuple or interval that begins so
    if line[:1] not in "([":
        line = _SPACED_THOUSANDS.sub(
            lambda match: re.sub(r"[^\d+-]", "", match[0]), to_algebra(line), count=1
        )
    value = number.whole_number_text(line)
    if value is None and (not line.isascii() or _THREE_LETTERS.search(line)):
        in_words = number_words.read_words(line)
        value = None if in_words is None else number.Value(in_words)
    return value


def has_scale(text: str) -> bool:
    """Whether a number is in thousands or millions, and so may be meant in full or not."""
    return bool(_SCALED.fullmatch(_TEXT_BOX.sub(r" \1 ", text).strip()))


def is_rounded(gold: str, gold_number: number.Value, answer: str, value: number.Value) -> bool:
    """Whether one of two numbers is the other, rounded to six or more places of which the first is no zero."""
    for text, rounded, exact in ((gold, gold_number, value), (answer, value, gold_number)):
        decimal = _LONG_DECIMAL.fullmatch(text.strip())
        if decimal is None or not rounded.value:
            continue
        places = len(decimal[1])
        has_six_digits = abs(rounded.value) * 10**places >= 10**5
        if has_six_digits and round(exact.value, places) == rounded.value:
            return True
    return False


def has_comparison(text: str) -> bool:
    """Whether an inequality or "is not" sign stands in a text."""
    return bool(_COMPARISON.search(text) or _UNEQUAL.search(text))


def begins_with_comparison(text: str) -> bool:
    """Whether a text is one side of an inequality alone: `> 48`, `\\ne 48`."""
    sign = _COMPARISON.match(text.strip()) or _UNEQUAL.match(text.strip())
    return sign is not None


def as_interval(text: str, other: str) -> str:
    """Write an inequality of one letter as an interval, where the other answer is one: `2 \\le x < 5` is [2, 5)."""
    if not _INTERVAL.search(other) or not _COMPARISON.search(text) or len(text) > 200:
        return text
    intervals: list[str] = []
    for part in _OR.split(text):
        interval = _interval_of_inequality(part.strip(" ,$"))
        if not interval:
            return text
        intervals.append(interval)
    return "\\cup ".join(intervals)


def _interval_of_inequality(text: str) -> str:
    """The interval of `x < 5` or `2 < x < 5`; "" for anything else."""
    parts = [part.strip() for part in _COMPARISON.split(text)]
    # `x < 5`, or `5 > x`, which is turned round.
    if len(parts) == 3:
        left, sign, right = parts
        if _is_letter(right):
            left, sign, right = right, _reversed_sign(sign), left
        return _half_line(sign, right) if _is_letter(left) else ""
    # `2 < x < 5`, or `5 > x > 2`.
    if len(parts) == 5 and _is_letter(parts[2]):
        low, first, _, second, high = parts
        if first in _GREATER and second in _GREATER:
            low, first, second, high = high, _reversed_sign(second), _reversed_sign(first), low
        if first in _LESS and second in _LESS:
            return f"{_LEFT_BRACKET[_LESS[first]]}{low},{high}{_RIGHT_BRACKET[_LESS[second]]}"
    return ""


def _half_line(sign: str, bound: str) -> str:
    """The numbers below or above a bound, as an interval."""
    if sign in _LESS:
        return f"(-\\infty,{bound}{_RIGHT_BRACKET[_LESS[sign]]}"
    return f"{_LEFT_BRACKET[_GREATER[sign]]}{bound},\\infty)"


def _is_letter(text: str) -> bool:
    return len(text) == 1 and text.isalpha()


def _reversed_sign(sign: str) -> str:
    """The comparison read from the other side; strict stays strict."""
    if sign in _LESS:
        return _GREATER_SIGN[_LESS[sign]]
    return _LESS_SIGN[_GREATER[sign]]


def time_of_day(text: str) -> tuple[int, int, str] | None:
    """Return hour, minute and "a", "p" or "" (not said, or on the 24-hour clock); None for no time."""
    bare = _TEXT_BOX.sub(r"\1", text).replace("~", " ").replace("\\", " ").strip()
    match = _TIME.fullmatch(bare)
    if not match:
        return None
    hour, minute, half = int(match[1]), int(match[2]), (match[3] or "").lower()
    if hour > 24 or minute > 59:
        return None
    if not half and ":" not in text:  # 4.30 alone is a decimal
        return None
    if hour <= 12 and (hour > 0 or half):
        return hour, minute, half
    # On the 24-hour clock, whose hour 24 is midnight.
    half = "a"
    if 12 <= hour < 24:
        half = "p"
    return (hour % 24) % 12 or 12, minute, half


def is_same_time(gold: str, answer: str) -> bool | None:
    """Whether two times of day are the same.

    None where they are no times, or where neither says more than its digits.
    """
    gold_time, time = time_of_day(gold), time_of_day(answer)
    if gold_time is None or time is None or not (gold_time[2] or time[2]):
        return None
    return gold_time[:2] == time[:2] and gold_time[2] in ("", time[2])


def is_same_range(gold: str, answer: str) -> bool | None:
    """Whether `2-5` and "2 to 5" are the same range; None unless both are ranges (alone, 2-5 is -3)."""
    gold_ends, ends = _range_ends(gold), _range_ends(answer)
    if gold_ends is None or ends is None:
        return None
    return gold_ends == ends


def _range_ends(text: str) -> list[Fraction] | None:
    match = _RANGE.fullmatch(_TEXT_BOX.sub(r" \1 ", text).strip().replace("  ", " "))
    return [Fraction(end) for end in match.groups()] if match else None


def says_none(text: str) -> bool:
    """Whether the answer says that there is none."""
    return bool(_NONE.fullmatch(_TEXT_BOX.sub(r"\1", text).strip()))
