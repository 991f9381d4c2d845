"""axe finds nothing on any page: light and dark, wide and narrow."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Tab, run_potstill

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("browser")]

PAGES = ("", "problems", "traces", "training", "costs", "journal", "files")
RUN_AXE = "axe.run(document, {resultTypes: ['violations']})"


@pytest.fixture(scope="module")
def axe() -> str:
    package = pytest.importorskip(
        "axe_playwright_python", reason="needs pip install 'potstill[e2e]'"
    )
    return (Path(package.__file__).parent / "axe.min.js").read_text("utf-8")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_axe_finds_nothing(open_tab: Callable[..., Tab], axe: str, scheme: str, width: int):
    tab = open_tab(color_scheme=scheme, viewport={"width": width, "height": 900})
    # Scored once: a second call finds everything there.
    run = tab.served.runs / "quickstart"
    run_potstill(["score", str(run), "--arm", "orion", "--threads", "1", "--quiet"])
    addresses = ["", *(f"run/quickstart/{name}".rstrip("/") for name in PAGES)]
    addresses.append("run/hostile/training")
    addresses.append("run/quickstart/compare?a=quickstart:rft&b=quickstart:untrained")
    addresses.append(
        tab.trace_of("quickstart", "arm:orion row:yes") + "&layers=steps,learnt,surprise"
    )
    addresses.append(
        "run/quickstart/problem/" + tab.get("run/quickstart/problems?limit=1")["rows"][0]["problem"]
    )
    findings = []
    for address in addresses:
        page = tab.open(address)
        page.evaluate(axe)
        for violation in page.evaluate(RUN_AXE)["violations"]:
            nodes = [node["html"][:160] for node in violation["nodes"][:3]]
            findings.append((address, violation["id"], nodes))
    assert findings == []
