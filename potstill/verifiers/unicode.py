"""Unicode normalisation of answers: digits of other scripts, full width, typographic signs, invisible characters."""

from __future__ import annotations

import re
import unicodedata

_SIGNS = {
    # minus signs, hyphens and dashes
    "−": "-",
    "‐": "-",
    "‑": "-",
    "‒": "-",
    "–": "-",
    "—": "-",
    "﹣": "-",
    # operators
    "×": "\\times ",
    "·": "\\cdot ",
    "⋅": "\\cdot ",
    "÷": "/",
    "⁄": "/",
    "∕": "/",
    "±": "\\pm ",
    # relations, constants and sets
    "≤": "\\le ",
    "≥": "\\ge ",
    "≠": "\\ne ",
    "∞": "\\infty ",
    "π": "\\pi ",
    "∅": "\\emptyset ",
    "°": "^\\circ ",
    "∪": "\\cup ",
    "∩": "\\cap ",
    "∈": "\\in ",
    "∖": "\\setminus ",
    "ℝ": "\\mathbb{R}",
    "…": "...",
    # spaces of other widths
    **dict.fromkeys("\u00a0\u2002\u2003\u2009\u200a\u202f\u205f\u3000", " "),
}
_SIGN_TABLE = str.maketrans(_SIGNS)
_NOT_PRINTABLE_ASCII = re.compile(r"[^\t\n\r -~]")
_SUPERSCRIPTS = re.compile(r"[⁰¹²³⁴-⁹⁺⁻ⁿ]+")
_ROOT = re.compile(r"√\s?(\d+|[a-zA-Z]|\([^()]*\)|\{[^{}]*\})")
_THOUSANDS_SPACE = re.compile("(?<=[0-9])[\u00a0\u2009\u202f](?=[0-9]{3}(?![0-9]))")


def normalise_characters(text: str) -> str:
    """Write in ASCII or LaTeX what has such a form; drop control, bidirectional and zero-width characters."""
    if text.isascii() and not _NOT_PRINTABLE_ASCII.search(text):
        return text
    text = _THOUSANDS_SPACE.sub("", text)
    text = _SUPERSCRIPTS.sub(_exponent, text)
    text = _ROOT.sub(lambda match: f"\\sqrt{{{match[1].strip('{}')}}}", text)
    text = text.translate(_SIGN_TABLE)
    return _NOT_PRINTABLE_ASCII.sub(lambda match: _normalise_character(match[0]), text)


def _exponent(match: re.Match[str]) -> str:
    digits = unicodedata.normalize("NFKC", match[0]).replace("−", "-")
    return f"^{{{digits}}}"


def _normalise_character(character: str) -> str:
    category = unicodedata.category(character)
    if category in ("Cc", "Cf"):  # control and format characters can't be seen
        return ""
    if category == "Nd":  # a digit of any script
        return str(unicodedata.decimal(character))
    if category == "No" and "FRACTION" in unicodedata.name(character, ""):
        numerator, _, denominator = unicodedata.normalize("NFKC", character).partition("⁄")
        return f"\\frac{{{numerator}}}{{{denominator}}}"
    if "\uff01" <= character <= "\uff5e":  # full width
        return chr(ord(character) - 0xFEE0)
    return character
