"""A real Chromium that looks at a real server of three runs: a small quickstart, and two full of hostile texts."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from potstill.training.rollout_log import KeptRollout, RolloutLog

CHROMIUM = Path(os.environ.get("POTSTILL_CHROMIUM", "/usr/bin/chromium"))
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


class Served(NamedTuple):
    """A viewer's address, and what it shows."""

    url: str  # without the token
    token: str
    runs: Path


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """One a file: as long as it is open no test of another folder can run an event loop of its own."""
    api = pytest.importorskip("playwright.sync_api", reason="needs pip install 'potstill[e2e]'")
    if not CHROMIUM.exists():
        pytest.skip(f"needs Chromium at {CHROMIUM}: apt-get install chromium")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def quickstart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A quickstart of a few problems: real students, rows, tokens, results.

    A copy of the run that POTSTILL_VIEWED_RUN names takes its place: a minute less, or a larger run to look at.
    """
    folder = tmp_path_factory.mktemp("viewed") / "runs" / "quickstart"
    if "POTSTILL_VIEWED_RUN" in os.environ:
        shutil.copytree(os.environ["POTSTILL_VIEWED_RUN"], folder)
        return folder
    sizes = ["--limit", "24", "--test", "12", "--n", "2", "--threads", "1", "--quiet"]
    run_potstill(["quickstart", "--out", str(folder), *sizes])
    return folder


@pytest.fixture(scope="session")
def served(quickstart: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A viewer of three runs that takes notes."""
    from harmful_run import make_harmful_run
    from viewed_run import make_run

    write_rollouts(make_run(quickstart.parent / "hostile"))
    make_harmful_run(quickstart.parent / "harmful")
    index = tmp_path_factory.mktemp("index")
    with serve([str(quickstart.parent), "--notes", "--index", str(index)]) as said:
        served = Served(said["url"].split("#")[0], said["token"], quickstart.parent)
        wait_for_index(served)
        yield served


def write_rollouts(folder: Path) -> None:
    """What the run's student wrote at two evaluations of its training, hostile as everything in that run."""
    from viewed_run import HOSTILE, STAGE

    log = RolloutLog(folder / "students" / STAGE / "rollouts.jsonl")
    log.path.parent.mkdir(parents=True)
    for step, status in ((0, "wrong"), (10, "right")):
        text = f"before step {step}: {HOSTILE}"
        rollout = KeptRollout(step, "trace-0", "p0", HOSTILE, "5", text, 7, is_truncated=step == 0)
        log.append([rollout._replace(status=status, reason=HOSTILE)])


def wait_for_index(served: Served, *, seconds: float = 120) -> None:
    """Until every run's traces and words are indexed."""
    deadline = time.monotonic() + seconds
    for run in ("quickstart", "hostile", "harmful"):
        address = f"{served.url}api/run/{run}"
        request = urllib.request.Request(
            address, headers={"Authorization": f"Bearer {served.token}"}
        )
        while True:
            with urllib.request.urlopen(request, timeout=30) as answer:
                indexed = json.load(answer)["indexed"]
            if indexed["traces"] == indexed["words"] == 1:
                break
            assert time.monotonic() < deadline, indexed
            time.sleep(0.2)


class Server:
    """`potstill view` as a process of its own."""

    def __init__(self, arguments: list[str]) -> None:
        command = [sys.executable, "-m", "potstill", "view", *arguments, "--no-open", "--json"]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def __enter__(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.process.stderr and self.process.stderr.read()
        said: dict[str, Any] = json.loads(line)
        return said

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(20)
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()


serve = Server


def run_potstill(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "potstill", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-2000:]


class Tab:
    """A page of the browser that has the token, and what it complained of."""

    def __init__(self, page: Any, served: Served) -> None:
        self.page, self.served = page, served
        self.complaints: list[str] = []
        self.requests: list[str] = []
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self.requests.append(request.url))
        page.goto(f"{served.url}#token={served.token}")
        page.wait_for_selector("main h1")

    def _hear(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def open(self, address: str, *, wait: str = "main h1") -> Any:
        """Go to an address below `#/` and wait until it is drawn."""
        self.page.goto(f"{self.served.url}#/{address}")
        self.page.wait_for_selector(wait)
        self.page.wait_for_selector("[aria-busy=true]", state="detached")
        return self.page

    def trace_of(self, run: str, query: str) -> str:
        """The address of the first trace that a query finds."""
        [item] = self.get(f"run/{run}/traces?q={query}&limit=1")["items"]
        return f"run/{run}/trace/{item['id']}?arm={item['arm']}"

    def get(self, path: str) -> Any:
        """What the API says."""
        headers = {"Authorization": f"Bearer {self.served.token}"}
        answer = self.page.context.request.get(f"{self.served.url}api/{path}", headers=headers)
        return answer.json()


@pytest.fixture
def open_tab(browser: Any, served: Served) -> Iterator[Callable[..., Tab]]:
    """Opens tabs, each in a browser of its own."""
    contexts: list[Any] = []

    def open_one(**options: Any) -> Tab:
        defaults = {"viewport": {"width": 1280, "height": 900}, "color_scheme": "light"}
        contexts.append(browser.new_context(**{**defaults, **options}))
        contexts[-1].set_default_timeout(10_000)
        return Tab(contexts[-1].new_page(), served)

    yield open_one
    for context in contexts:
        context.close()


@pytest.fixture
def tab(open_tab: Callable[..., Tab]) -> Tab:
    """A tab of usual size."""
    return open_tab()
