"""Numbers in words: "forty-two", "minus three and a half", "two thirds", "a dozen", 四十二, 사십이.

A text counts only if all of it is one number. English, and the numerals of Chinese, Japanese and Korean.
"""

from __future__ import annotations

import re
from fractions import Fraction
from types import MappingProxyType

MAX_CHARACTERS = 120

_BELOW_TWENTY = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    + "sixteen seventeen eighteen nineteen"
)
_UNITS = MappingProxyType({word: value for value, word in enumerate(_BELOW_TWENTY.split())})
_TENS_FROM_TWENTY = "twenty thirty forty fifty sixty seventy eighty ninety"
_TENS = MappingProxyType(
    {word: 10 * tens for tens, word in enumerate(_TENS_FROM_TWENTY.split(), start=2)}
)
_SCALES = MappingProxyType(
    {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
)
_PARTS_FROM_HALF = (
    "half third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth"  # a half is 1/2
)
_PARTS = MappingProxyType(
    {word: parts for parts, word in enumerate(_PARTS_FROM_HALF.split(), start=2)}
    | {"halve": 2, "quarter": 4, "hundredth": 100, "thousandth": 1000}
)
_SIGNS = ("minus", "negative")

# Digits and powers of ten of Han numerals (everyday and financial forms) and of Sino-Korean ones.
_HAN_DIGITS = MappingProxyType(
    {
        character: value
        for value, characters in enumerate(
            (
                "零〇○영공",
                "一壱壹일",
                "二贰貳弐两兩이",
                "三叁參参삼",
                "四肆사",
                "五伍오",
                "六陆陸육",
                "七柒칠",
                "八捌팔",
                "九玖구",
            )
        )
        for character in characters
    }
)
_HAN_TENS = MappingProxyType(
    {**dict.fromkeys("十拾십", 10), **dict.fromkeys("百佰백", 100), **dict.fromkeys("千仟천", 1000)}
)
_HAN_SCALES = MappingProxyType(
    {
        **dict.fromkeys("万萬만", 10**4),
        **dict.fromkeys("亿億억", 10**8),
        **dict.fromkeys("兆조", 10**12),
    }
)
_HAN_NUMERAL = re.compile(
    rf"[负負마-]?[{''.join([*_HAN_DIGITS, *_HAN_TENS, *_HAN_SCALES])}]{{1,40}}"
)


def read_words(text: str) -> Fraction | None:
    """Return the number that all of a text says in words; None for anything else, also for digits alone."""
    text = text.strip().strip(".。").strip()
    if not text or len(text) > MAX_CHARACTERS:
        return None
    # 三分之二 is 2/3, 二点五 is 2.5.
    denominator, is_fraction, numerator = text.partition("分之")
    if is_fraction and _HAN_NUMERAL.fullmatch(denominator) and _HAN_NUMERAL.fullmatch(numerator):
        divisor = _read_han(denominator)
        return _read_han(numerator) / divisor if divisor else None
    whole, is_decimal, decimals = text.replace("點", "点").partition("点")
    if is_decimal and _HAN_NUMERAL.fullmatch(whole) and all(one in _HAN_DIGITS for one in decimals):
        digits = "".join(str(_HAN_DIGITS[one]) for one in decimals)
        return _read_han(whole) + Fraction(int(digits or 0), 10 ** len(digits))
    if _HAN_NUMERAL.fullmatch(text):
        return _read_han(text)
    words = re.findall(r"[a-z]+|\d+|\S", re.sub(r"(?<=[a-z])-(?=[a-z])", " ", text.lower()))
    if not any(word.isalpha() for word in words):
        return None
    is_negative = words[0] in _SIGNS
    value = _read_english(words[1:] if is_negative else words)
    if value is None:
        return None
    return -value if is_negative else value


def _read_english(words: list[str]) -> Fraction | None:
    """A number with or without a fraction: "five and a half", "three quarters", "two point five"."""
    if "point" in words:
        return _read_decimal(words)
    # "half", "a half", "two thirds"; and the same behind a whole number and "and".
    fraction = _read_part(words)
    if fraction is not None:
        return fraction
    if "and" in words:
        place = len(words) - 1 - words[::-1].index("and")
        whole, part = _read_whole(words[:place]), _read_part(words[place + 1 :])
        if words[:place] and words[0].isdecimal() and place == 1:  # "5 and a half"
            whole = int(words[0])
        if whole is not None and part is not None:
            return whole + part
    whole = _read_whole(words)
    return None if whole is None else Fraction(whole)


def _read_part(words: list[str]) -> Fraction | None:
    """A fraction of one: "half", "a quarter", "two thirds"."""
    if not words:
        return None
    denominator = _PARTS.get(words[-1]) or _PARTS.get(words[-1].removesuffix("s"))
    if denominator is None:
        return None
    if words[:-1] in ([], ["a"], ["an"], ["one"]):
        return Fraction(1, denominator)
    numerator = _read_whole(words[:-1])
    return None if numerator is None else Fraction(numerator, denominator)


def _read_decimal(words: list[str]) -> Fraction | None:
    """Digits named one by one behind "point"."""
    place = words.index("point")
    whole = _read_whole(words[:place]) if place else 0
    decimals = [_UNITS.get(word, 10) for word in words[place + 1 :]]
    if whole is None or not decimals or max(decimals) > 9:
        return None
    digits = "".join(str(digit) for digit in decimals)
    return whole + Fraction(int(digits), 10 ** len(digits))


def _read_whole(words: list[str]) -> int | None:
    """A whole number: units after tens after hundreds, for each scale from the largest down."""
    if words[:1] in (["a"], ["an"]) and len(words) > 1 and words[1] not in _UNITS:
        words = ["one", *words[1:]]
    if words[-1:] == ["dozen"]:
        count = 1 if words == ["dozen"] else _read_whole(words[:-1])
        return None if count is None else 12 * count
    total = group = 0
    last_scale, last_value = 10**15, 10**3
    is_number = False
    for index, word in enumerate(words):
        if word == "and" and is_number and index + 1 < len(words):
            continue
        if word in _SCALES:
            scale = _SCALES[word]
            if not group or scale >= last_scale:
                return None
            total, group, last_scale, last_value = total + group * scale, 0, scale, 10**3
        elif word == "hundred":
            if not 0 < group < 100 or last_value <= 0:
                return None
            group, last_value = group * 100, 100
        else:
            value = _TENS.get(word, _UNITS.get(word))
            if value is None or value >= last_value or (last_value == 10 and value > 9):
                return None
            # After tens come units; after units nothing but "hundred" or a scale.
            group += value
            last_value = 10 if word in _TENS else 0
            if word in _UNITS and index + 1 < len(words) and words[index + 1] == "hundred":
                last_value = 1
        is_number = True
    return total + group if is_number else None


def _read_han(text: str) -> Fraction:
    """A numeral of Han characters or Hangul: 四十二, 三万五千, 二〇二四."""
    is_negative = text[0] in "负負마-"
    characters = text[1:] if is_negative else text
    if all(character in _HAN_DIGITS for character in characters):
        # Digits one by one; a single one is itself.
        value = int("".join(str(_HAN_DIGITS[character]) for character in characters))
    else:
        value = _read_han_places(characters)
    return Fraction(-value if is_negative else value)


def _read_han_places(characters: str) -> int:
    total = section = digit = 0
    for character in characters:
        if character in _HAN_DIGITS:
            digit = _HAN_DIGITS[character]
        elif character in _HAN_TENS:
            section += (digit or 1) * _HAN_TENS[character]
            digit = 0
        else:
            total += (section + digit or 1) * _HAN_SCALES[character]
            section = digit = 0
    return total + section + digit
