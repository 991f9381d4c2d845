"""A copy of a run in a real browser, from file:// and offline: the server's numbers, no complaint, nothing hostile."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from conftest import Served, Tab, run_potstill
from leaky_run import SECRET_VARIABLE, SECRETS, make_leaky_run

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("browser")]

PAGES = ("", "problems", "traces", "training", "costs", "journal", "compare", "files")
QUERIES = (
    {"q": ""},
    {"q": "answer 96"},
    {"q": '"the answer"'},
    {"q": "answ* -wrong"},
    {"q": "'\\boxed{'"},
    {"q": "arm:orion row:yes steps:>3"},
    {"q": "-status:blank tokens:10..40 -arm:sft"},
    {"q": "status:right,wrong draw:0 score.steps:>0.5"},
    {"q": "question:has dropped:none"},
    {"q": "first_wrong:none", "f.arm": "orion", "f.status": "right"},
    {"q": "", "f.operator": "rewrite", "f.status": ["right", "wrong"]},
    {"q": "colour:red tokens:many +"},
    {"q": "-dropped:none", "sort": "tokens", "order": "desc"},
    {"q": "arm:orion", "sort": "problem"},
    {"q": "status:wrong", "sort": "first_wrong"},
)


class Copy:
    """A copy in a tab that is offline, and what the browser complained of."""

    def __init__(self, page: Any, address: str, run: str) -> None:
        self.page, self.address, self.run = page, address, run
        self.complaints: list[str] = []
        self.requests: list[str] = []
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self.requests.append(request.url))
        page.goto(address)
        page.wait_for_selector("main h1")

    def _hear(self, message: Any) -> None:
        self.complaints.append(message.text)

    def open(self, address: str) -> Any:
        """Go to an address below `#/` and wait until it is drawn."""
        self.page.goto(f"{self.address}#/{address}")
        self.page.wait_for_selector("main h1")
        self.page.wait_for_selector("[aria-busy=true]", state="detached")
        return self.page

    def get(self, path: str) -> Any:
        """What the pages are answered."""
        # As text: a lone surrogate does not come through as a value.
        text = self.page.evaluate("path => potstill.get(path).then(JSON.stringify)", path)
        return json.loads(text)


@pytest.fixture(scope="module")
def copies(served: Served, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a copy of each run in one file, of one run in a folder, and of one that is full of secrets."""
    folder = tmp_path_factory.mktemp("copies")
    leaky = make_leaky_run(tmp_path_factory.mktemp("leaky") / "leaky")
    index = str(tmp_path_factory.mktemp("index-of-copies"))
    runs = {f"{run}.html": served.runs / run for run in ("quickstart", "hostile", "harmful")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(SECRET_VARIABLE, SECRETS["environment"])
        for name, run in {**runs, "folder": runs["quickstart.html"], "leaky.html": leaky}.items():
            run_potstill(["view", str(run), "--share", str(folder / name), "--index", index])
    return folder


@pytest.fixture
def open_copy(browser: Any, copies: Path) -> Iterator[Callable[..., Copy]]:
    contexts: list[Any] = []

    def open_one(name: str, run: str, **options: Any) -> Copy:
        defaults = {"viewport": {"width": 1280, "height": 900}, "offline": True}
        contexts.append(browser.new_context(**{**defaults, **options}))
        contexts[-1].set_default_timeout(15_000)
        return Copy(contexts[-1].new_page(), f"file://{copies / name}", run)

    yield open_one
    for context in contexts:
        context.close()


@pytest.mark.parametrize(
    ("name", "run"),
    [
        ("quickstart.html", "quickstart"),
        ("hostile.html", "hostile"),
        ("harmful.html", "harmful"),
        ("leaky.html", "leaky"),
        ("folder/index.html", "quickstart"),
    ],
)
def test_no_page_of_a_copy_complains(open_copy: Callable[..., Copy], name: str, run: str):
    copy = open_copy(name, run)
    assert copy.page.url.endswith(f"#/run/{run}")
    for page in PAGES:
        copy.open(f"run/{run}/{page}".rstrip("/"))
        assert copy.page.evaluate("document.querySelector('main h1').offsetTop") < 200
    [item] = copy.get(f"run/{run}/traces?q=-status:blank&sort=steps&order=desc&limit=1")["items"]
    copy.open(f"run/{run}/trace/{item['id']}?arm={quote(item['arm'], safe='')}")
    for layer in "1234567":
        copy.page.keyboard.press(layer)
    copy.page.wait_for_selector("[aria-busy=true]", state="detached")
    copy.page.wait_for_timeout(200)
    assert copy.complaints == []
    assert [url for url in copy.requests if not url.startswith(("file:", "data:", "blob:"))] == []


def fitting_values(answer: dict[str, Any]) -> list[dict[str, Any]]:
    """The facets, without values that were chosen and are nowhere."""
    facets = []
    for facet in answer["facets"]:
        facets.append({**facet, "values": [value for value in facet["values"] if value["of"]]})
    return facets


def read_main(page: Any) -> str:
    """All that a page says, once its lists are read."""
    page.wait_for_selector(".line:not([data-read])", state="detached")
    text: str = page.inner_text("main")
    return text


def test_a_copy_finds_what_the_server_finds(open_copy: Callable[..., Copy], tab: Tab):
    copy = open_copy("quickstart.html", "quickstart")
    for query in QUERIES:
        asked = urlencode(query, doseq=True)
        there, here = (one.get(f"run/quickstart/facets?{asked}") for one in (tab, copy))
        assert here["count"] == there["count"], query
        assert fitting_values(here) == fitting_values(there), query
        assert here["ranges"] == there["ranges"], query
        assert [m["text"] for m in here["messages"]] == [m["text"] for m in there["messages"]]
        path = f"run/quickstart/traces?{asked}&limit=1000&columns=question"
        there, here = (one.get(path)["items"] for one in (tab, copy))
        assert [item["key"] for item in here] == [item["key"] for item in there], query
        for ours, theirs in zip(here[:5], there[:5], strict=True):
            assert {name: ours[name] for name in theirs} == theirs


def test_a_copy_says_the_numbers_of_the_server(open_copy: Callable[..., Copy], tab: Tab):
    copy = open_copy("quickstart.html", "quickstart")
    addresses = [f"run/quickstart/{page}" for page in ("problems", "training", "costs")]
    addresses += [
        "run/quickstart",
        "run/quickstart?base=sft",
        "run/quickstart/problems?set=train&f.solved=never&f.teacher=student+errs%2C+teacher+right",
        "run/quickstart/problems?sort=spread&order=desc",
        "run/quickstart/problems?q=coins&sort=sft",
        "run/quickstart/compare?a=quickstart:rft&b=quickstart:untrained&f.direction=gained",
        tab.trace_of("quickstart", "arm:orion row:yes") + "&layers=learnt",
        tab.trace_of("quickstart", "arm:orion row:yes") + "&layers=overlap,steps",
    ]
    problem = tab.get("run/quickstart/problems?limit=1")["rows"][0]["problem"]
    addresses.append(f"run/quickstart/problem/{problem}")
    for address in addresses:
        # From another page: a page shows its old data until the new ones come.
        tab.open("run/quickstart/files")
        copy.open("run/quickstart/files")
        there, here = read_main(tab.open(address)), read_main(copy.open(address))
        # The server of these tests takes notes, and a copy takes none.
        assert here == there.partition("\n\nNotes\n")[0], address


def test_no_secret_is_in_a_copy(open_copy: Callable[..., Copy]):
    copy = open_copy("leaky.html", "leaky")
    page = copy.page
    shown: list[str] = []
    for name in PAGES:
        copy.open(f"run/leaky/{name}".rstrip("/"))
        shown.append(page.content())
    [item] = copy.get("run/leaky/traces?q=arm:leaky+-status:blank")["items"]
    copy.open(f"run/leaky/trace/{item['id']}")
    shown.append(page.content())
    copy.open("run/leaky/problem/p-leak")
    shown.append(page.content())
    # The trace is there, with dots for what it gave away.
    assert "x ••••••••" in "".join(shown)
    assert not [name for name, secret in SECRETS.items() if secret[:12] in "".join(shown)]


def test_hostile_texts_show_literally_in_a_copy(open_copy: Callable[..., Copy], tab: Tab):
    copy = open_copy("hostile.html", "hostile")
    page = copy.open(tab.trace_of("hostile", "arm:orion status:wrong"))
    text = page.inner_text("main")
    assert "<img src=x onerror=alert(1)></script>" in text
    assert all(name in text for name in ("U+202E", "U+0000", "U+D800"))
    assert page.locator("main img").count() == 0


def test_a_copy_says_what_it_does_not_hold(open_copy: Callable[..., Copy]):
    copy = open_copy("quickstart.html", "quickstart")
    assert "no part of a copy" in copy.open("run/quickstart/journal").inner_text("main")
    page = copy.open("run/quickstart/files")
    page.click("main table button.mono >> nth=0")
    page.wait_for_selector("main .notice:has-text('no part of a copy')")
    assert "A copy made on" in page.inner_text("footer")
    # A whole id: of thousands of traces one begins with almost any few letters.
    page.goto(f"{copy.address}#/run/quickstart/trace/trace-{'f' * 20}")
    page.wait_for_selector("main .notice:has-text('does not hold the trace')")
