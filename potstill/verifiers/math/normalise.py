"""One spelling for answers that people type in many: thousands, mixed and repeating numbers, brackets, times.

What math-verify can't read, or reads as something else, is written here as it reads it; nothing is evaluated. Text is
hostile and long: every pattern is anchored, or linear in a short answer.
"""

from __future__ import annotations

import re
from fractions import Fraction

from potstill.verifiers import number

_CURRENCY = re.compile(r"\\?[$€£¥₹]|\\(?:euro|pounds|yen)\b|\\text\{\s?(?:€|£|¥|USD|EUR|GBP)\s?\}")

_SPACED = re.compile(r"(?<![\d.])\d{1,3}(?:(?:\\[,;: ]|~|\{,\})\d{3})+(?!\d)")
_START = re.compile(r"[+-]?\s?\d{1,3}(?:([ '_’]|\\?\s)\d{3}(?:\1\d{3})*)(?!\d|\s?/)")
_DOTTED = re.compile(
    r"([+-]?\d{1,3}(?:\.\d{3}){2,}|[+-]?\d{1,3}(?:\.\d{3})+(?=,\d))(?:,(\d{1,2}))?"
)
_SCALED = re.compile(r"(.{1,40}?)\s?(?:\\text\{)?\s?(thousand|million|billion|trillion)s?\s?\}?")

_REPEATING = re.compile(r"(?<![\d.])(\d*)\.(\d*)\\(?:overline|bar|dot|overbar)\s?\{?(\d+)\}?(?!\d)")
_BRACKETED = re.compile(r"([+-]?\d*)\.(\d*)\((\d+)\)")
_ELLIPSIS = re.compile(r"(?<![\d.])(\d*)\.(\d*?)(?:(\d)\3{2,}|(\d{2,9}?)\4+)(?:\.{3}|\\[lc]?dots)")

_ISO = re.compile(r"([\[\](])([^\[\]()]{1,100},[^\[\]()]{1,100})([\[\])])")
_INTERVAL = re.compile(r"^\s?(?:[a-zA-Z]\s?\\in\s?)?[\[\](].*[,;].*[\[\])]|\\infty")
_LESS = {
    "<": True,
    "\\lt": True,
    "\\le": False,
    "\\leq": False,
    "\\leqslant": False,
    "\\leqq": False,
    "<=": False,
}
_MORE = {
    ">": True,
    "\\gt": True,
    "\\ge": False,
    "\\geq": False,
    "\\geqslant": False,
    "\\geqq": False,
    ">=": False,
}
_COMPARE = re.compile(
    r"(<=|>=|<|>|\\(?:leqslant|geqslant|leqq|geqq|leq|geq|le|ge|lt|gt)(?![a-zA-Z]))"
)
_OR = re.compile(r"\\text\s?\{\s*or\s*\}|\bor\b|\\lor\b|\\vee\b")

_TIME = re.compile(r"(\d{1,2})[:.](\d\d)(?::\d\d)?\s*(?:([ap])\.?\s?m\.?|o'clock)?", re.IGNORECASE)
_RANGE = re.compile(r"(-?\d+(?:\.\d+)?)\s?(?:-|--|\\?~|\bto\b)\s?(-?\d+(?:\.\d+)?)")
_NOTHING = re.compile(
    r"\\(?:emptyset|varnothing)|\\\{\s?\\\}|(?:the )?empty set|\{\s?\}|no (?:real )?solutions?|no solutions? exists?",
    re.IGNORECASE,
)
_BOXES = re.compile(r"\\(?:text|mathrm|textbf|mathbf|textit|mbox|textrm)\s?\{([^{}]*)\}")


def algebra(text: str) -> str:
    """The spelling that math-verify reads: repeating decimals as fractions, `]a, b[` as (a, b), no currency signs."""
    text = _CURRENCY.sub("", text).strip()
    text = _SPACED.sub(lambda m: re.sub(r"\D", "", m[0]), text)
    text = _REPEATING.sub(lambda m: _fraction(m[1], m[2], m[3]), text)
    text = _ELLIPSIS.sub(lambda m: _fraction(m[1], m[2], m[3] or m[4]), text)
    text = text.replace("\\varnothing", "\\emptyset")
    return _ISO.sub(_round, text) if "]" in text or "[" in text else text


def _fraction(whole: str, fixed: str, again: str) -> str:
    """`0.1` and 6 repeating is 1/6."""
    nines = 10 ** len(fixed + again) - 10 ** len(fixed)
    value = Fraction(int(whole + fixed + again) - int(whole + fixed or "0"), nines)
    return f"\\frac{{{value.numerator}}}{{{value.denominator}}}"


def _round(match: re.Match[str]) -> str:
    """`[0, 1[` is [0, 1), and `]0, 1]` is (0, 1]."""
    left, inner, right = match.groups()
    return f"{'(' if left == ']' else left}{inner}{')' if right == '[' else right}"


def exact(text: str) -> number.Value | None:
    """The number that all of the text is, however its thousands are set; None for anything else."""
    line = _CURRENCY.sub("", _BOXES.sub(r" \1 ", text)).strip()
    if len(line) > 100:
        return None
    scaled = _SCALED.fullmatch(line)
    if scaled:
        value = exact(scaled[1])
        return value and number.Value(value.value * number.SCALES[scaled[2]], value.percent)
    dotted = _DOTTED.fullmatch(line)
    if dotted:
        return number.Value(Fraction(f"{dotted[1].replace('.', '')}.{dotted[2] or 0}"))
    again = _BRACKETED.fullmatch(line)
    if again:
        line = _fraction(again[1].strip("+-"), again[2], again[3])
        line = f"-{line}" if again[1].startswith("-") else line
    line = (
        _START.sub(lambda m: re.sub(r"[^\d+-]", "", m[0]), algebra(line), count=1)
        if line[:1] not in "(["
        else line
    )
    return number.whole(line)


def as_interval(text: str, other: str) -> str:
    """An inequality of one letter as an interval, where the other answer is one: `2 \\le x < 5` is [2, 5)."""
    if not _INTERVAL.search(other) or not _COMPARE.search(text) or len(text) > 200:
        return text
    parts = [_interval(part.strip(" ,$")) for part in _OR.split(text)]
    return "\\cup ".join(p for p in parts if p) if all(parts) else text


def _interval(text: str) -> str:
    parts = [part.strip() for part in _COMPARE.split(text)]
    if len(parts) == 3:
        left, sign, right = parts
        if _letter(right):
            left, sign, right = right, _turned(sign), left
        if not _letter(left):
            return ""
        if sign in _LESS:
            return f"(-\\infty,{right}{')' if _LESS[sign] else ']'}"
        return f"{'(' if _MORE[sign] else '['}{right},\\infty)"
    if len(parts) == 5 and _letter(parts[2]):
        low, first, _, second, high = parts
        if first in _MORE and second in _MORE:
            low, first, second, high = high, _turned(second), _turned(first), low
        if first in _LESS and second in _LESS:
            return f"{'(' if _LESS[first] else '['}{low},{high}{')' if _LESS[second] else ']'}"
    return ""


def _letter(text: str) -> bool:
    return len(text) == 1 and text.isalpha()


def _turned(sign: str) -> str:
    """The comparison read from the other side; strict stays strict."""
    if sign in _LESS:
        return ">" if _LESS[sign] else "\\ge"
    return "<" if _MORE[sign] else "\\le"


def time_of_day(text: str) -> tuple[int, int, str] | None:
    """Hour, minute and "a", "p" or "" (not said, or on the 24-hour clock)."""
    match = _TIME.fullmatch(_BOXES.sub(r"\1", text).replace("~", " ").replace("\\", " ").strip())
    if not match or int(match[1]) > 24 or int(match[2]) > 59 or (not match[3] and ":" not in text):
        return None
    hour, half = int(match[1]), (match[3] or "").lower()
    if hour > 12 or (hour == 0 and not half):
        return (hour % 24) % 12 or 12, int(match[2]), "p" if 12 <= hour < 24 else "a"
    return hour, int(match[2]), half


def same_time(gold: str, answer: str) -> bool | None:
    """Whether two times of day are the same; None where they are no times, or nothing says more than their digits."""
    times = time_of_day(gold), time_of_day(answer)
    if times[0] is None or times[1] is None or not (times[0][2] or times[1][2]):
        return None
    return times[0][:2] == times[1][:2] and times[0][2] in ("", times[1][2])


def same_range(gold: str, answer: str) -> bool | None:
    """Whether `2-5` and "2 to 5" are the same range; None unless both are ranges (alone, 2-5 is -3)."""
    ends = [
        _RANGE.fullmatch(_BOXES.sub(r" \1 ", text).strip().replace("  ", " "))
        for text in (gold, answer)
    ]
    if ends[0] is None or ends[1] is None:
        return None
    return [Fraction(x) for x in ends[0].groups()] == [Fraction(x) for x in ends[1].groups()]


def nothing(text: str) -> bool:
    """Whether the answer says that there is none."""
    return bool(_NOTHING.fullmatch(_BOXES.sub(r"\1", text).strip()))
