"""The list of instruments, and the page that describes them."""

from __future__ import annotations

import re
from pathlib import Path

import potstill
from potstill.evaluation import instruments

PAGE = Path(__file__).resolve().parents[2] / "docs" / "instruments.md"
KEYWORDS = {"after_shared"}


def test_every_name_is_there_and_listed() -> None:
    assert instruments.__all__ == sorted(instruments.__all__)
    assert all(hasattr(instruments, name) for name in instruments.__all__)


def test_the_page_names_what_there_is() -> None:
    text = PAGE.read_text("utf-8")
    called = set(re.findall(r"`(?:ps\.)?([a-z_0-9]+)(?:\(|`)", text))
    functions = {name for name in called if "_" in name}
    there = {*instruments.__all__, *potstill.__all__} | KEYWORDS
    assert not functions - there and len(functions) > 20
    # And whatever computes something is on the page.
    computing = [name for name in instruments.__all__ if name[0].islower()]
    assert not [name for name in computing if not re.search(rf"\b{name}\b", text)]
