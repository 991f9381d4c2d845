"""axe finds nothing on any page: light and dark, wide, narrow and enlarged; and no page is wider than its window."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Tab, run_potstill

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("browser")]

PAGES = ("", "problems", "traces", "training", "costs", "journal", "files")
ROW = "arm:orion row:yes"
RUN_AXE = "axe.run(document, {resultTypes: ['violations']})"


@pytest.fixture(scope="module")
def axe() -> str:
    package = pytest.importorskip(
        "axe_playwright_python", reason="needs pip install 'potstill[e2e]'"
    )
    return (Path(package.__file__).parent / "axe.min.js").read_text("utf-8")


# 640: a window of 1280 at 200 %.
@pytest.mark.parametrize(
    ("width", "scheme"),
    [(1280, "light"), (1280, "dark"), (640, "light"), (390, "light"), (390, "dark")],
)
def test_axe_finds_nothing(open_tab: Callable[..., Tab], axe: str, scheme: str, width: int):
    tab = open_tab(color_scheme=scheme, viewport={"width": width, "height": 900})
    # Scored once: a second call finds everything there.
    run = tab.served.runs / "quickstart"
    run_potstill(["score", str(run), "--arm", "orion", "--threads", "1", "--quiet"])
    addresses = ["", *(f"run/quickstart/{name}".rstrip("/") for name in PAGES)]
    addresses.append("run/hostile/training")
    addresses.append("run/quickstart/compare?a=quickstart:rft&b=quickstart:untrained")
    addresses.append(tab.trace_of("quickstart", ROW) + "&layers=steps,learnt,surprise")
    addresses.append(
        "run/quickstart/problem/" + tab.get("run/quickstart/problems?limit=1")["rows"][0]["problem"]
    )
    if (width, scheme) == (390, "light"):
        # Where it is narrowest: long names, formulas, and two texts beside each other.
        addresses += ["run/harmful", "run/harmful/traces", "run/harmful/costs?of=cost"]
        addresses.append(tab.trace_of("harmful", "operator:rewrite frac") + "&layers=math")
        addresses.append(tab.trace_of("quickstart", ROW) + "&layers=difference")
    findings = []
    for address in addresses:
        page = tab.open(address)
        page.evaluate(axe)
        for violation in page.evaluate(RUN_AXE)["violations"]:
            nodes = [node["html"][:160] for node in violation["nodes"][:3]]
            findings.append((address, violation["id"], nodes))
        if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
            findings.append((address, "is scrolled sideways", []))
    assert findings == []
