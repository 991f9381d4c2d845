"""The whole journey by keyboard alone, addresses that restore a page, and pages on paper and in forced colours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from conftest import Tab

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("browser")]

ROW = "arm:orion row:yes"
MATCHES = "document.activeElement.matches(selector)"


def tab_to(page: Any, selector: str, *, key: str = "Tab") -> None:
    """Press Tab until what is focused fits."""
    for _ in range(80):
        page.keyboard.press(key)
        if page.evaluate(f"selector => {MATCHES}", selector):
            return
    raise AssertionError(f"{selector} is not reached by {key}")


def press(page: Any, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


def test_the_whole_journey_by_keyboard(tab: Tab):
    page = tab.page
    page.wait_for_selector("[data-row]")
    # Runs: go to the quickstart, tick it, open it.
    while not page.evaluate(f"selector => {MATCHES}", "a[href='#/run/quickstart']"):
        press(page, "j")
    press(page, "x")
    assert page.is_checked("input[aria-label='Compare quickstart']")
    press(page, "Enter")
    page.wait_for_selector("nav[aria-label='Pages of the run']")
    # Overview: the list of traces, by the navigation.
    page.wait_for_selector("h2:has-text('Where the traces went')")
    tab_to(page, "nav a[href*='/traces']", key="Shift+Tab")
    press(page, "Enter")
    page.wait_for_selector(".list .line[data-read]")
    # Traces: the facets, a search, the first two, one of them.
    page.wait_for_selector(".facets input")
    press(page, "f")
    assert page.evaluate(f"selector => {MATCHES}", ".facets input")
    press(page, "/")
    page.keyboard.type(f" {ROW} steps:>0")
    # Quicker than the list is read: the row is opened once it is there.
    press(page, "Enter", "Escape", "j", "Enter")
    page.wait_for_selector("#the-text")
    # A trace: layers, the parent, back; a mark.
    press(page, "2")
    page.wait_for_selector("button[aria-pressed=true]:has-text('learnt')")
    first = page.url
    press(page, "p")
    page.wait_for_url(lambda url: url != first)
    page.wait_for_selector("#the-text")
    press(page, "Escape")
    page.wait_for_url(first)
    page.wait_for_selector("h2:has-text('Notes')")
    press(page, "m")
    page.wait_for_selector("main .badge:has-text('good')")
    # Compare: the first flip is opened and folded.
    press(page, "c")
    page.wait_for_selector("main summary[data-row]")
    press(page, "j", "Enter")
    page.wait_for_selector("details.flip[open] article.passage")
    # Help says the keys of this page, and closes.
    press(page, "?")
    page.wait_for_selector("dialog[open]")
    assert "next wrong step" not in page.inner_text("dialog")
    press(page, "Escape")
    page.wait_for_selector("dialog", state="detached")
    assert tab.complaints == []


def test_no_key_fires_in_a_field_or_with_ctrl(tab: Tab):
    page = tab.open("run/quickstart/traces")
    page.focus("input[type=search]")
    page.keyboard.type("jc?")
    assert page.locator("dialog").count() == 0 and "/traces" in page.url
    press(page, "Escape", "Control+c", "Meta+j")
    assert "/traces" in page.url and page.locator(".line[aria-selected=true]").count() == 0


def test_reload_back_and_a_copied_address_restore_filters_layers_and_selection(
    tab: Tab, open_tab: Callable[..., Tab]
):
    tab.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = tab.open("run/quickstart/traces?q=arm%3Aorion%20row%3Ayes&f.status=right")
    page.wait_for_selector(".list .line[data-read]")
    press(page, "j", "j", "j")
    page.wait_for_selector("#trace-2[aria-selected=true][data-read]")
    chosen = page.inner_text("#trace-2")
    page.reload()
    page.wait_for_selector("#trace-2[aria-selected=true][data-read]")
    assert page.inner_text("#trace-2") == chosen and page.is_checked(".facets input:checked")
    press(page, "Enter")
    page.wait_for_selector("#the-text")
    press(page, "2", "7", "y")
    page.wait_for_selector("button[aria-pressed=true]:has-text('spaces')")
    layers = page.locator("[aria-label=Layers] [aria-pressed=true]").all_inner_texts()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert tab.served.token not in copied
    other = open_tab().open(copied.split("#/")[1])
    other.wait_for_selector("#the-text")
    assert other.locator("[aria-label=Layers] [aria-pressed=true]").all_inner_texts() == layers
    page.go_back()
    page.wait_for_selector("#trace-2[aria-selected=true][data-read]")


def test_what_was_sought_is_scrolled_to_in_the_trace(tab: Tab):
    address = tab.trace_of("harmful", "again operator:rewrite -frac -answer") + "&q=again"
    page = tab.open(address, wait="pre mark")
    page.wait_for_function(
        "() => { const box = document.querySelector('pre mark').getBoundingClientRect();"
        " return box.top >= 0 && box.bottom <= innerHeight; }"
    )


def test_a_printed_trace_is_whole_and_light(open_tab: Callable[..., Tab]):
    tab = open_tab(color_scheme="dark")
    page = tab.open(tab.trace_of("quickstart", ROW))
    page.select_option("select[aria-label=Theme]", "dark")
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert (
        page.evaluate("getComputedStyle(document.querySelector('.card')).color") == "rgb(0, 0, 0)"
    )
    prompt = page.locator("details:has(summary:has-text('As the learner sees it')) pre")
    assert prompt.bounding_box()["height"] > 10
    assert page.locator("button:visible, select:visible").count() == 0


def test_forced_colours_keep_what_is_chosen_and_what_is_wrong(open_tab: Callable[..., Tab]):
    tab = open_tab(forced_colors="active")
    page = tab.open(tab.trace_of("quickstart", "arm:orion wrong_steps:>0"))
    chosen, other = (
        page.evaluate(f"getComputedStyle(document.querySelector({selector!r})).backgroundColor")
        for selector in (
            "[aria-label=Layers] [aria-pressed=true]",
            "[aria-label=Layers] [aria-pressed=false]",
        )
    )
    assert chosen != other
    assert (
        page.evaluate("getComputedStyle(document.querySelector('.step.wrong')).borderTopStyle")
        == "solid"
    )
