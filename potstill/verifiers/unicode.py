"""One spelling for characters: digits of other scripts, full width, typographic signs; what can't be seen is gone."""

from __future__ import annotations

import re
import unicodedata

_SIGNS = {
    **{"−": "-", "‐": "-", "‑": "-", "‒": "-", "–": "-", "—": "-", "﹣": "-"},
    **{"×": "\\times ", "·": "\\cdot ", "⋅": "\\cdot ", "÷": "/", "⁄": "/", "∕": "/", "±": "\\pm "},
    **{
        "≤": "\\le ",
        "≥": "\\ge ",
        "≠": "\\ne ",
        "∞": "\\infty ",
        "π": "\\pi ",
        "∅": "\\emptyset ",
        "°": "^\\circ ",
    },
    **{
        "∪": "\\cup ",
        "∩": "\\cap ",
        "∈": "\\in ",
        "∖": "\\setminus ",
        "ℝ": "\\mathbb{R}",
        "…": "...",
    },
    **dict.fromkeys("\u00a0\u2002\u2003\u2009\u200a\u202f\u205f\u3000", " "),
}
_TABLE = str.maketrans(_SIGNS)
_ODD = re.compile(r"[^\t\n\r -~]")
_RAISED = re.compile(r"[⁰¹²³⁴-⁹⁺⁻ⁿ]+")
_ROOT = re.compile(r"√\s?(\d+|[a-zA-Z]|\([^()]*\)|\{[^{}]*\})")
_GROUP = re.compile("(?<=[0-9])[\u00a0\u2009\u202f](?=[0-9]{3}(?![0-9]))")


def fold(text: str) -> str:
    """ASCII for what has an ASCII or LaTeX spelling; control, bidirectional and zero-width characters are gone."""
    if text.isascii() and not _ODD.search(text):
        return text
    text = _GROUP.sub("", text)
    text = _RAISED.sub(
        lambda m: f"^{{{unicodedata.normalize('NFKC', m[0]).replace('−', '-')}}}", text
    )
    text = _ROOT.sub(lambda m: f"\\sqrt{{{m[1].strip('{}')}}}", text)
    return _ODD.sub(lambda m: _one(m[0]), text.translate(_TABLE))


def _one(character: str) -> str:
    category = unicodedata.category(character)
    if category in ("Cc", "Cf"):
        return ""
    if category == "Nd":
        return str(unicodedata.decimal(character))
    if category == "No" and "FRACTION" in unicodedata.name(character, ""):
        over, _, under = unicodedata.normalize("NFKC", character).partition("⁄")
        return f"\\frac{{{over}}}{{{under}}}"
    if "\uff01" <= character <= "\uff5e":
        return chr(ord(character) - 0xFEE0)
    return character
