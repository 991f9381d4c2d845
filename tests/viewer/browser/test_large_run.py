"""A large run in a real browser: its figures, its last row, and a search before all words are indexed.

Small where tests run often (POTSTILL_LARGE_TRACES, 5,000); POTSTILL_LARGE_RUN names a run of `make bench-view` instead.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import child
import pytest
from conftest import Served, Tab, serve

from potstill.viewer.index import words
from potstill.viewer.index.indexer import build_index
from potstill.viewer.reader import RunReader
from potstill.viewer.run_folders import find_runs

BENCHMARKS = Path(__file__).resolve().parents[3] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))
from view_browser import PAINT, TRACE_ROW

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("browser, own runs")]

TRACES = int(os.environ.get("POTSTILL_LARGE_TRACES", "5000"))
CALLS_PER_TRACE = 4
# The specification's figures are those of an idle machine; POTSTILL_PATIENCE=1 asks for them.
PATIENCE = float(os.environ.get("POTSTILL_PATIENCE", "8"))
MEGABYTES_OF_SERVER = 150
MEGABYTES_OF_TAB = 100
WRITTEN = "-status:blank"


class Large(NamedTuple):
    """A viewer of the large run, the process that serves it, and the run's name."""

    served: Served
    pid: int
    run: str


@pytest.fixture(scope="module")
def large_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if "POTSTILL_LARGE_RUN" in os.environ:
        return Path(os.environ["POTSTILL_LARGE_RUN"])
    folder = tmp_path_factory.mktemp("large") / "run"
    sizes = ["--traces", str(TRACES), "--calls", str(CALLS_PER_TRACE * TRACES)]
    child.run([sys.executable, BENCHMARKS / "large_run.py", folder, *sizes], deadline=600)
    return folder


@pytest.fixture(scope="module")
def half_indexed(large_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an index that has all lists, and the words of the first thousand traces."""
    folder = tmp_path_factory.mktemp("index")
    [run] = find_runs([large_run]).values()
    reader = RunReader(run, folder)
    build_index(reader, with_words=False)
    with reader.open_store() as store:
        assert words.index_next_words(store.database)
    return folder


def open_large(large_run: Path, index: Path, *flags: str) -> Iterator[Large]:
    with serve([str(large_run), "--index", str(index), *flags]) as said:
        served = Served(said["url"].split("#")[0], said["token"], large_run.parent)
        yield Large(served, said["pid"], large_run.name)


@pytest.fixture
def without_words(large_run: Path, half_indexed: Path) -> Iterator[Large]:
    """A viewer that reads no further words, so that the index stays half done."""
    yield from open_large(large_run, half_indexed, "--no-words")


@pytest.fixture(scope="module")
def large(large_run: Path, half_indexed: Path) -> Iterator[Large]:
    """A viewer that goes on with the half-done index."""
    yield from open_large(large_run, half_indexed)


@pytest.fixture
def open_page(browser: Any) -> Iterator[Any]:
    contexts: list[Any] = []

    def open_one(large: Large) -> Tab:
        contexts.append(browser.new_context(viewport={"width": 1280, "height": 900}))
        contexts[-1].set_default_timeout(60_000)
        return Tab(contexts[-1].new_page(), large.served)

    yield open_one
    for context in contexts:
        context.close()


def test_a_search_before_all_words_are_indexed_answers_and_says_how_far(
    without_words: Large, open_page: Any
):
    tab = open_page(without_words)
    found = tab.get(f"run/{without_words.run}/facets?q=answer")
    assert 0 < found["count"] <= words.PORTION
    share = found["indexed"]["words"]
    assert 0 < share < 1
    page = tab.open(f"run/{without_words.run}/traces?q=answer", wait=f"{TRACE_ROW} mark")
    assert f"Words of {int(100 * share)} % of the traces" in page.inner_text("form [role=status]")
    assert f"{found['count']:,} traces" in page.inner_text("main")


def test_the_same_search_finds_all_once_the_words_are_indexed(large: Large, open_page: Any):
    tab = open_page(large)
    wait_for_words(tab, large.run)
    written = tab.get(f"run/{large.run}/facets?q={WRITTEN}")["count"]
    assert tab.get(f"run/{large.run}/facets?q=answer")["count"] == written
    page = tab.open(f"run/{large.run}/traces?q=answer", wait=f"{TRACE_ROW} mark")
    assert page.locator("form [role=status]").count() == 0


def wait_for_words(tab: Tab, run: str) -> None:
    for _ in range(1200):
        if tab.get(f"run/{run}/traces?limit=1")["indexed"]["words"] == 1:
            return
        tab.page.wait_for_timeout(250)
    raise AssertionError("the words were not indexed within five minutes")


def test_the_end_key_shows_the_last_of_all_rows(large: Large, open_page: Any):
    tab = open_page(large)
    address = f"run/{large.run}/traces?q={WRITTEN}"
    page = tab.open(address, wait=TRACE_ROW)
    count = tab.get(f"run/{large.run}/facets?q={WRITTEN}")["count"]
    last = tab.get(f"{address}&after=end&limit=1")["items"][0]
    page.focus(".list")
    page.keyboard.press("End")
    row = page.wait_for_selector(f"#trace-{count - 1}[aria-selected=true][data-read]")
    assert last["id"] in row.query_selector("a").get_attribute("href")
    assert row.bounding_box()["y"] + row.bounding_box()["height"] <= 900
    assert page.evaluate("document.querySelectorAll('*').length") < 5000


def test_the_figures_of_a_large_run(large: Large, open_page: Any):
    tab = open_page(large)
    wait_for_words(tab, large.run)
    tab.page.goto(f"{large.served.url}#/run/{large.run}")
    tab.page.reload(wait_until="commit")
    painted = {"overview": tab.page.evaluate(PAINT, [None, "main table"])}
    api = f"run/{large.run}/traces"
    longest = tab.get(f"{api}?sort=length&order=desc&limit=1")["items"][0]
    pages = {
        "search": ("traces?q=answer%2096", f"{TRACE_ROW} mark"),
        "long trace": (f"trace/{longest['id']}?arm={longest['arm']}", "#the-text"),
    }
    for name, (address, selector) in pages.items():
        painted[name] = tab.page.evaluate(PAINT, [f"#/run/{large.run}/{address}", selector])
    aims = {"overview": 1000, "search": 300, "long trace": 300}
    assert [n for n in aims if painted[n] > aims[n] * PATIENCE] == [], painted
    # Memory, of the server and of the tab.
    pages_of_memory = int(Path(f"/proc/{large.pid}/statm").read_text().split()[1])
    assert pages_of_memory * os.sysconf("SC_PAGE_SIZE") / 2**20 < MEGABYTES_OF_SERVER
    heap = tab.page.evaluate("performance.memory.usedJSHeapSize") / 2**20
    assert heap < MEGABYTES_OF_TAB
    assert tab.complaints == []
