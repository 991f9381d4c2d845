"""Model text made safe to look at: it may hold terminal escapes, control characters, bidi overrides, surrogates."""

from __future__ import annotations

import re
import unicodedata

# CSI (ESC [ ... letter), OSC and other strings (ESC ] ... BEL or ESC \), then any other two-character escape.
_ESCAPES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x80-\x9f]*(?:\x07|\x1b\\|\x9c)"
    r"|\x1b[ -/]*[0-~]"
)
_KEPT = "\n\t"
_HIDDEN = (
    "Cc",
    "Cf",
    "Cs",
    "Co",
    "Cn",
    "Zl",
    "Zp",
)  # control, format, surrogate, private, unassigned, separators


def terminal(text: str) -> str:
    """Text without terminal escapes and unseen characters; the printing library's own markup is the caller's part."""
    return "".join(c for c in _ESCAPES.sub("", text) if not _unseen(c))


def visible(text: str) -> str:
    """Text in which every unseen character has a stand-in, for a page: ␛ for a control, ⟨U+202E⟩ for the rest."""
    return "".join(_stand_in(c) if _unseen(c) else c for c in text)


def _unseen(char: str) -> bool:
    return char not in _KEPT and (unicodedata.category(char) in _HIDDEN)


def _stand_in(char: str) -> str:
    code = ord(char)
    if code < 0x20:
        return chr(0x2400 + code)
    return "␡" if code == 0x7F else f"⟨U+{code:04X}⟩"
