"""What the pages show is what the results, the store and the lists say, to the shown digit."""

from __future__ import annotations

import json
from typing import Any

import pytest
from conftest import Served, Tab

from potstill.evaluation import results as results_file
from potstill.evaluation.table import NONE, table

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("browser")]


@pytest.fixture(scope="module")
def saved(served: Served) -> dict[str, Any]:
    """results.json of the quickstart, as it was written."""
    return json.loads((served.runs / "quickstart" / "results.json").read_text("utf-8"))


def points(value: float) -> str:
    return f"{100 * value:+.1f}"


def test_every_measure_and_difference_is_that_of_the_results(tab: Tab, saved: dict[str, Any]):
    path = tab.served.runs / "quickstart" / "results.json"
    results = results_file.load(path)
    for base in results.evaluations:
        page = tab.open(f"run/quickstart?base={base}")
        page.wait_for_selector(f"th:has-text('vs {base}')")
        lines = {line["arm"]: line for line in table(results, base=base)}
        for row in page.locator("section:has(#arms) tbody tr").all():
            shown = row.inner_text()
            line = lines[row.locator("th").inner_text().split("\n")[0].split()[0]]
            for column, value in line.items():
                if column != "verdict" and value != NONE:
                    assert value in shown, (base, column)
    for comparison in saved["comparisons"]:
        arm, base = comparison["arm"], comparison["base"]
        page = tab.open(f"compare?a=quickstart:{arm}&b=quickstart:{base}")
        page.wait_for_selector(f"h2:text-is({json.dumps(comparison['sentence'])})")
        interval = f"[{points(comparison['low'])}, {points(comparison['high'])}]"
        shown = f"{points(comparison['difference'])} {interval}"
        assert shown in page.inner_text("main"), (arm, base)


def test_cells_of_the_matrix_are_the_draws_of_the_evaluations(tab: Tab, saved: dict[str, Any]):
    matrix = tab.get("run/quickstart/problems?set=test&sort=problem&limit=1000")
    cells = 0
    for row in matrix["rows"]:
        for arm, evaluation in saved["evaluations"].items():
            [measured] = [one for one in evaluation["rows"] if one["problem"] == row["problem"]]
            right = measured["draws"]["status"].count("right")
            cell = row["cells"][arm]
            assert (cell["right"], cell["n"]) == (right, measured["n"])
            cells += 1
    assert cells == len(saved["evaluations"]) * matrix["of"]
    page = tab.open("run/quickstart/problems?sort=problem&order=asc")
    first, column = matrix["rows"][0], matrix["columns"][0]["column"]
    drawn = page.locator(".list .line[data-read] >> nth=0").inner_text()
    assert f"{first['cells'][column]['right']}/{first['cells'][column]['n']}" in drawn


@pytest.mark.parametrize("run", ["quickstart", "harmful"])
def test_a_click_on_a_number_of_the_funnel_lists_as_many(tab: Tab, run: str):
    overview = tab.get(f"run/{run}")
    funnel = next(iter(overview["funnels"].values()))
    lines = {".funnel a": funnel["steps"], "table a": funnel["reasons"]}
    clicked = 0
    for selector, of_funnel in lines.items():
        for place, line in enumerate([line for line in of_funnel if line["query"]][:3]):
            page = tab.open(f"run/{run}")
            first = page.locator("details.card:has(.funnel) >> nth=0")
            first.locator(selector).nth(place).click()
            page.wait_for_selector(f"[aria-live=polite]:has-text('{line['traces']:,} traces')")
            clicked += 1
    assert clicked


def test_costs_add_up_and_limits_are_shown(tab: Tab):
    costs = tab.get("run/quickstart/costs")
    page = tab.open("run/quickstart/costs")
    assert f"{costs['total']['calls']:,}" in page.inner_text(".facts")
    assert sum(row["completions"] for row in costs["paid"]) == costs["total"]["calls"]
    shown = page.locator("section:has-text('Paid, by role') tbody tr").count()
    assert shown == len(costs["paid"])
    page = tab.open("run/harmful/costs?of=cost")
    for limit in tab.get("run/harmful/costs")["limits"]:
        assert limit["shown"] in page.inner_text("section:has(h2:text-is('Limits'))")
    assert "is the dashed line" in page.inner_text("figure")


def test_facets_in_the_page_sum_to_its_count(tab: Tab):
    query = "q=answer&f.status=wrong&f.status=right&f.author=student"
    page = tab.open(f"run/quickstart/traces?{query}")
    count = tab.get(f"run/quickstart/facets?{query}")["count"]
    page.wait_for_selector(f"[aria-live=polite]:has-text('{count:,} traces')")
    shown = page.locator("fieldset:has(legend:text-is('operator')) .count").all_inner_texts()
    assert sum(int(text.replace(",", "")) for text in shown) == count > 0


def test_learnt_tokens_are_those_that_the_training_counted(tab: Tab):
    run = tab.served.runs / "quickstart"
    rows = tab.get("run/quickstart/traces?q=arm:orion row:yes&limit=1000")["items"]
    learnt = 0
    for row in rows:
        tokens = tab.get(f"run/quickstart/trace/{row['id']}/tokens?arm=orion")
        learnt += tokens["learnt"]
        trace = tab.get(f"run/quickstart/trace/{row['id']}?arm=orion")
        joined = "".join(tokens["texts"])
        assert trace["problem"]["question"] in joined[: joined.rindex(trace["text"])]
    fit = json.loads((run / "students" / tokens["student"] / "fit.json").read_text("utf-8"))
    assert learnt * tokens["num_train_epochs"] == fit["loss_tokens"]
    # Each token is drawn, grey where it is given; one that ends inside a character has its text in a later one.
    page = tab.open(f"run/quickstart/trace/{rows[-1]['id']}?arm=orion&layers=learnt")
    page.wait_for_selector(".token.on")
    weights = []
    for length, weight in tokens["weights"]:
        weights += [weight] * length
    drawn = [weight for weight, text in zip(weights, tokens["texts"], strict=True) if text]
    assert page.locator(".token.off").count() == drawn.count(0)
    assert page.locator(".token").count() == len(drawn)
