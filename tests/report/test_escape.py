"""Model text on a terminal and on a page."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.escape import terminal, visible


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;owned\x07title", "title"),
        ("\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x9b2Jgone", "gone"),
        ("\x1b(Bset", "set"),
        ("over\rwritten\x08\x07", "overwritten"),
        ("a\u202egnp.exe\u2066b\u200b", "agnp.exeb"),
        ("half \ud800 pair", "half  pair"),
        ("kept\n\tas it is, é 数 ≤", "kept\n\tas it is, é 数 ≤"),
    ],
)
def test_terminal(text: str, expected: str) -> None:
    assert terminal(text) == expected


def test_visible_shows_what_would_not_be_seen() -> None:
    assert visible("a\x1b[31m\u202eb\x7f\r\n\ud800") == "a␛[31m⟨U+202E⟩b␡␍\n⟨U+D800⟩"


@given(st.text(st.characters(codec=None)))
def test_nothing_unseen_gets_through(text: str) -> None:
    for shown in (terminal(text), visible(text)):
        assert not [
            c
            for c in shown
            if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") and c not in "\n\t"
        ]
        shown.encode("utf-8")
