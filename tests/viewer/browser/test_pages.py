"""The pages in a real browser: nothing complains, nothing hostile runs, what is shown is what the API says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from conftest import Tab, run_potstill

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("browser")]

PAGES = ("", "problems", "traces", "training", "costs", "journal", "compare", "files")
ROW = "arm:orion row:yes"


@pytest.mark.parametrize("run", ["quickstart", "hostile", "harmful"])
def test_no_page_complains(tab: Tab, run: str):
    for name in PAGES:
        tab.open(f"run/{run}/{name}".rstrip("/"))
    tab.open(tab.trace_of(run, "status:wrong" if run == "harmful" else ROW))
    problems = tab.get(f"run/{run}/problems?limit=1")["rows"]
    for row in problems:
        tab.open(f"run/{run}/problem/{row['problem']}")
    assert tab.complaints == []
    # No page asks another server for anything.
    own = (tab.served.url, "data:", "blob:")
    assert [url for url in tab.requests if not url.startswith(own)] == []


def test_results_without_manifest_and_store_have_an_overview(tab: Tab):
    document = tab.get("run/quickstart") | {"manifest": None, "funnels": {}}
    tab.page.route("**/api/run/quickstart", lambda route: route.fulfill(json=document))
    page = tab.open("run/quickstart")
    assert document["standings"][0] in page.inner_text("main")
    assert tab.complaints == []


def test_a_page_that_cannot_be_drawn_says_so_and_leaves_the_others(tab: Tab):
    tab.page.route("**/api/run/quickstart", lambda route: route.fulfill(json={}))
    page = tab.open("run/quickstart", wait='h1:has-text("can\'t be drawn")')
    assert "TypeError" in page.inner_text(".notice.bad")
    tab.open("run/quickstart/files", wait="h1:text-is('Files')")


def test_the_untrained_student_is_what_an_arm_is_compared_with_at_first(tab: Tab):
    page = tab.open("run/quickstart/compare", wait="h2:has-text('untrained')")
    assert page.locator("label:has-text('base') select").input_value() == "quickstart:untrained"


def test_the_token_stays_in_no_address(tab: Tab):
    page = tab.open("run/quickstart")
    assert tab.served.token not in page.url
    assert all(tab.served.token not in url for url in tab.requests[1:])
    page.go_back()
    assert tab.served.token not in page.url


def test_hostile_texts_show_literally(tab: Tab):
    page = tab.open(tab.trace_of("hostile", "arm:orion status:wrong"))
    text = page.inner_text("pre.text >> nth=-1")
    assert "<img src=x onerror=alert(1)></script>" in page.inner_text("main")
    assert "U+202E" in page.inner_text("main") and "U+0000" in page.inner_text("main")
    assert "U+D800" in page.inner_text("main"), text
    assert page.locator("main img").count() == 0


def test_a_row_shows_its_descent(tab: Tab):
    page = tab.open(tab.trace_of("quickstart", "arm:orion row:yes steps:>0 draw:0"))
    titles = page.locator(".descent h3").all_inner_texts()
    assert titles[:2] == ["The student's error", "The teacher's chain"]
    assert titles[2].startswith("The row (")
    verdicts = page.locator(".descent .passage >> nth=0").inner_text()
    assert "wrong" in verdicts


def test_surprise_is_shown_by_number_and_line(tab: Tab):
    address = tab.trace_of("quickstart", "arm:sft row:yes")
    page = tab.open(f"{address}&layers=surprise", wait=".notice code")
    # Nothing is known before the command that the page names has run.
    assert page.inner_text(".notice code") == "potstill score RUN --arm sft"
    run = tab.served.runs / "quickstart"
    run_potstill(["score", str(run), "--arm", "sft", "--threads", "1", "--quiet"])
    page = tab.open(f"{address}&layers=surprise,learnt&moment=before", wait="#the-text")
    page.reload()
    page.wait_for_selector("[data-nats]")
    said = tab.get(address.replace("?", "/tokens?"))
    expected = sum(
        value is not None and value <= -1 and weight > 0
        for value, weight in zip(said["logprobs"]["before"], weights_of(said), strict=True)
    )
    assert page.locator("[data-nats]").count() == expected > 0
    marked = page.locator("[data-nats] >> nth=0")
    assert "cold" in marked.get_attribute("class")
    assert marked.evaluate("element => getComputedStyle(element).borderBottomStyle") != "none"
    assert f"{said['mean_nats']['after']:.3f}" in page.inner_text("main")
    # By keyboard, and what the training changed.
    page.focus("pre[aria-label='The text as it was trained on']")
    page.keyboard.press("ArrowRight")
    page.wait_for_selector(f".detail:has-text('token {said['text_start']} ')")
    assert "(rank" in page.inner_text(".detail")
    page.select_option("select:has(option[value=difference])", "difference")
    page.wait_for_selector("[data-nats^='\u2212']")
    assert "moment=difference" in page.url
    assert tab.complaints == []


def test_rollouts_are_walked_through(tab: Tab):
    page = tab.open("run/hostile/training", wait="#rollouts")
    page.wait_for_selector("article:has-text('before step 10')")
    assert "after" not in page.inner_text("section:has(#rollouts) .row")
    page.click("[aria-label='earlier evaluation']")
    page.wait_for_selector("article:has-text('before step 0')")
    text = page.inner_text("section:has(#rollouts)")
    assert "before step 1, 1 of 2" in text and "cut at the limit" in text
    assert "<img src=x onerror=alert(1)>" in text and "U+202E" in text
    assert page.locator("section:has(#rollouts) img").count() == 0
    assert "look=0" in page.url and tab.complaints == []


def weights_of(tokens: dict[str, Any]) -> list[float]:
    return [weight for length, weight in tokens["weights"] for _ in range(length)]


def test_n_goes_to_the_wrong_steps(tab: Tab):
    page = tab.open(tab.trace_of("quickstart", "arm:orion wrong_steps:>1"))
    count = page.locator("section:has(#the-text) [data-wrong]").count()
    page.keyboard.press("n")
    page.wait_for_selector("section:has(#the-text) .step.wrong:focus")
    assert f"Wrong step 1 of {count}" in page.inner_text("section:has(#the-text)")


def test_a_search_is_highlighted_and_kept(tab: Tab):
    page = tab.open("run/quickstart/traces")
    page.fill("input[type=search]", '"the answer"')
    page.wait_for_selector(".list mark")
    told = tab.get('run/quickstart/facets?q="the answer"')["count"]
    page.wait_for_selector(f"[aria-live=polite]:has-text('{told:,} traces')")
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    page.wait_for_selector(".line[aria-selected=true]")
    page.keyboard.press("Enter")
    page.wait_for_selector("#the-text")
    assert page.locator("pre mark").count() > 0
    page.go_back()
    page.wait_for_selector(".list mark")
    assert page.input_value("input[type=search]") == '"the answer"'


def test_a_permalink_restores_the_page(tab: Tab, open_tab: Callable[..., Tab]):
    page = tab.open("run/quickstart/traces?f.status=wrong&f.arm=orion&sort=tokens&order=desc")
    first = page.locator(".list .line[data-read] >> nth=0").inner_text()
    other = open_tab().open(page.url.split("#/")[1])
    assert other.locator(".list .line[data-read] >> nth=0").inner_text() == first
    assert other.locator(".facets input:checked").count() == 2


def test_the_end_key_shows_the_last_trace(tab: Tab):
    page = tab.open("run/quickstart/traces")
    count = tab.get("run/quickstart/facets?q=")["count"]
    page.focus(".list")
    page.keyboard.press("End")
    page.wait_for_selector(f"#trace-{count - 1}[aria-selected=true][data-read]")
    assert page.evaluate("document.querySelectorAll('*').length") < 5000


def test_two_arms_are_compared(tab: Tab):
    page = tab.open("run/quickstart/compare?a=quickstart:rft&b=quickstart:untrained")
    said: dict[str, Any] = tab.get("compare?a=quickstart:rft&b=quickstart:untrained")
    assert said["comparison"]["shown"] in page.inner_text("main")
    page.click("main details summary >> nth=0")
    page.wait_for_selector("main article.passage")


def test_arms_of_other_tasks_are_refused_with_what_differs(tab: Tab):
    page = tab.open("compare?a=quickstart:orion&b=walk:orion")
    page.wait_for_selector("text=These two can't be compared")
    assert page.locator("table[aria-label], table").inner_text().count("problems")
    assert page.locator(".whiskers").count() == 0


def test_a_note_marks_a_trace(tab: Tab):
    # A trace that no other test marks: each press of the key sets the next mark.
    page = tab.open(tab.trace_of("quickstart", "arm:sft row:yes"))
    page.wait_for_selector("h2:has-text('Notes')")
    page.keyboard.press("m")
    page.wait_for_selector("main .badge:has-text('good')")
    assert tab.get("run/quickstart/facets?q=mark:good")["count"] >= 1
