"""Whatever a model wrote is shown as it is, runs nothing, and leaves the page usable."""

from __future__ import annotations

from typing import Any

import pytest
from conftest import Tab
from harmful_run import ARM, BOMBS, LONG_LINE, SCRIPT

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("browser")]

PAGES = ("", "problems", "traces", "training", "costs", "journal", "compare", "files")
WITH_ARM = ("", "traces", "costs", "journal")  # pages that name the arm


def trace_with(tab: Tab, text: str, operator: str = "sample") -> str:
    """The address of the one trace of an operator that has a word."""
    return tab.trace_of("harmful", f"operator:{operator} {text}")


def assert_nothing_ran(page: Any) -> None:
    assert page.evaluate("window.xss") is None
    assert page.locator("main img, main script").count() == 0


def test_names_questions_and_reasons_show_literally(tab: Tab):
    for name in PAGES:
        page = tab.open(f"run/harmful/{name}".rstrip("/"))
        assert_nothing_ran(page)
        if name in WITH_ARM:
            assert ARM in page.text_content("main"), name
    page = tab.open(trace_with(tab, "answer"))
    assert_nothing_ran(page)
    shown = page.text_content("main")
    for part in (
        f"shells and sells 14. How many are left? {SCRIPT}",
        f"reason {SCRIPT}",
        "U+202E",
        "U+D800",
    ):
        assert part in shown
    page = tab.open("run/harmful/problem/p0")
    assert_nothing_ran(page)
    assert SCRIPT in page.text_content("main")
    assert tab.complaints == []


def test_a_line_of_a_megabyte_is_shown_whole(tab: Tab):
    page = tab.open(trace_with(tab, "0123456789"))
    assert len(page.text_content("section:has(#the-text) pre")) == len(LONG_LINE)
    for key in ("7", "6", "4"):
        page.keyboard.press(key)
    page.wait_for_selector("text=This text has no ancestor.")
    assert tab.complaints == []


def test_bad_formulas_leave_the_page_usable_and_the_text_is_copied_as_it_is(tab: Tab):
    tab.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = tab.open(trace_with(tab, "frac"))
    page.keyboard.press("6")
    page.wait_for_selector(".math math")
    # What can't be set stands as it was written, and nothing lies over the rest of the page.
    assert r"$\frac{$" in page.text_content(".math") and "1,500 of" in page.text_content("main")
    assert_nothing_ran(page)
    assert page.locator(".math a").count() == 0
    box = page.locator("main").bounding_box()
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280
    assert box["height"] < 100_000
    page.click("button:has-text('copy the text')")
    page.wait_for_selector("button:has-text('copied')")
    assert page.evaluate("navigator.clipboard.readText()") == "\n".join(BOMBS)
    page.keyboard.press("6")
    page.wait_for_selector(".math", state="detached")
    assert tab.complaints == []


def test_a_sentence_without_end_is_compared_with_its_ancestor(tab: Tab):
    page = tab.open(trace_with(tab, "again", "rewrite") + "&layers=difference")
    page.wait_for_selector("pre[aria-label=Differences]")
    address = tab.get("run/harmful/traces?q=operator:rewrite&sort=length&order=desc")["items"][1]
    page = tab.open(f"run/harmful/trace/{address['id']}?layers=difference")
    page.wait_for_selector("pre[aria-label=Differences] ins")
    assert tab.complaints == []
