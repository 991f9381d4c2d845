"""What a real Chromium says of the viewer's pages on a large run: when they are painted, nodes, memory."""

from __future__ import annotations

import os
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

CHROMIUM = Path(os.environ.get("POTSTILL_CHROMIUM", "/usr/bin/chromium"))
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"]
TIMEOUT = 120_000  # milliseconds, on a machine with other work
SETTLED = 3000  # after which a page that nothing happens on asks for nothing more
TRACE_ROW = ".list .line[data-read]"

# Milliseconds from a change of the address until what a selector names is painted.
PAINT = """([hash, selector]) => new Promise((done) => {
  const began = performance.now();
  const look = () => {
    if (document.querySelector(selector) && !document.querySelector("[aria-busy=true]"))
      requestAnimationFrame(() => setTimeout(() => done(performance.now() - (hash === null ? 0 : began))));
    else requestAnimationFrame(look);
  };
  if (hash !== null) location.hash = hash;
  requestAnimationFrame(look);
})"""


class Served(Protocol):
    """A viewer that runs."""

    url: str
    token: str

    def ask(self, path: str) -> Any:
        """The document at a path."""
        ...


@contextmanager
def open_browser() -> Iterator[Any]:
    """A Chromium; None where there is none, or no playwright."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        yield None
        return
    if not CHROMIUM.exists():
        yield None
        return
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield browser
        browser.close()


class Tab:
    """A tab that has the token, with the clock of its main thread."""

    def __init__(self, browser: Any, server: Served) -> None:
        self.server = server
        self.context = browser.new_context(viewport={"width": 1280, "height": 900})
        self.context.set_default_timeout(TIMEOUT)
        token = f"localStorage.setItem('potstill.token', '{server.token}')"
        self.context.add_init_script(token)
        self.page = self.context.new_page()
        self._devtools = self.context.new_cdp_session(self.page)
        self._devtools.send("Performance.enable", {"timeDomain": "threadTicks"})

    def metric(self, name: str) -> float:
        """One of the browser's own measures."""
        for metric in self._devtools.send("Performance.getMetrics")["metrics"]:
            if metric["name"] == name:
                return float(metric["value"])
        raise KeyError(name)

    def load(self, address: str, selector: str) -> dict[str, Any]:
        """Load the page itself and paint it: from the beginning of the navigation."""
        self.page.goto(f"{self.server.url}#/{address}", wait_until="commit")
        clock = self.page.evaluate(PAINT, [None, selector])
        return {"clock": clock, "cpu": 1000 * self.metric("TaskDuration")}

    def paint(self, address: str, selector: str) -> dict[str, Any]:
        """Go from one page to another."""
        used = self.metric("TaskDuration")
        clock = self.page.evaluate(PAINT, [f"#/{address}", selector])
        return {"clock": clock, "cpu": 1000 * (self.metric("TaskDuration") - used)}

    def heap_megabytes(self) -> float:
        """Memory of the page's objects, after what is no longer used was taken away."""
        self._devtools.send("HeapProfiler.collectGarbage")
        return self.metric("JSHeapUsedSize") / 2**20


def measure_start(browser: Any, server: Served, run: str, name: str) -> dict[str, Any]:
    """The overview from an empty tab."""
    tab = Tab(browser, server)
    painted = tab.load(f"run/{run}", "main table")
    tab.context.close()
    return {"name": f"{name}: overview painted", "unit": "ms", "aim": 1000, **painted}


def measure(browser: Any, server: Served, run: str) -> list[dict[str, Any]]:
    """Pages one after another in one tab, then its memory."""
    tab = Tab(browser, server)
    tab.load(f"run/{run}", "main table")
    api = f"api/run/{run}"
    rewrite = server.ask(f"{api}/traces?q=operator:rewrite%20row:yes&limit=1")["items"][0]["id"]
    longest = server.ask(f"{api}/traces?sort=length&order=desc&limit=1")["items"][0]["id"]
    count = server.ask(f"{api}/facets?q=-status:blank")["count"]
    pages: dict[str, tuple[str, str, float | None]] = {
        "traces painted": ("traces?q=-status:blank", TRACE_ROW, None),
        "search painted": ("traces?q=answer%2096", f"{TRACE_ROW} mark", None),
        "problems painted": ("problems", TRACE_ROW, None),
        "trace painted": (f"trace/{rewrite}?arm=orion", "#the-text", None),
        "trace of 32k words painted": (f"trace/{longest}?arm=sft", "#the-text", 300),
        "money painted": ("costs", "main table", None),
        "journal painted": ("journal", "main table", None),
    }
    figures = []
    for name, (address, selector, aim) in pages.items():
        # From a page that has nothing in common with it.
        tab.paint("nowhere", "main h1")
        painted = tab.paint(f"run/{run}/{address}", selector)
        figures.append({"name": name, "unit": "ms", "aim": aim, **painted})
    # The last of all rows, by one key.
    tab.paint(f"run/{run}/traces?q=-status:blank", TRACE_ROW)
    tab.page.focus(".list")
    used = tab.metric("TaskDuration")
    began = tab.page.evaluate("performance.now()")
    tab.page.keyboard.press("End")
    tab.page.wait_for_selector(f"#trace-{count - 1}[aria-selected=true][data-read]")
    clock = tab.page.evaluate("performance.now()") - began
    cpu = 1000 * (tab.metric("TaskDuration") - used)
    name = f"End key in {count:,} rows"
    figures.append({"name": name, "unit": "ms", "clock": clock, "cpu": cpu})
    nodes = tab.page.evaluate("document.querySelectorAll('*').length")
    figures.append({"name": "DOM nodes there", "unit": "", "clock": nodes, "aim": 5000})
    heap = tab.heap_megabytes()
    figures.append({"name": "tab heap after all pages", "unit": "MB", "clock": heap, "aim": 100})
    tab.context.close()
    return figures


@contextmanager
def following(browser: Any, server: Served, run: str) -> Iterator[None]:
    """Somebody who looks at the overview: a tab, or without a browser the live stream that a tab would read."""
    if browser is not None:
        tab = Tab(browser, server)
        tab.load(f"run/{run}", "main table")
        tab.page.wait_for_timeout(SETTLED)
        yield
        tab.context.close()
        return
    request = urllib.request.Request(
        f"{server.url}api/live?run={run}", headers={"Authorization": f"Bearer {server.token}"}
    )
    with urllib.request.urlopen(request) as stream:
        threading.Thread(target=lambda: list(stream), daemon=True).start()
        yield
