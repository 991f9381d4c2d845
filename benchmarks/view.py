"""How fast `potstill view` is on a large run, beside the aim of each figure.

python benchmarks/view.py                       10,000 traces, 20,000 calls, in a temporary folder
python benchmarks/view.py --traces 100000 --calls 1000000 --folder /tmp/large
make bench-view                                 the same large run, in runs/bench-view

The run is made first where there is none (`large_run.py`). `clock` is the median wall time of seven requests or more,
`CPU` what the server's process used of a core for one of them: where other work runs on the machine only that says
something. With playwright and Chromium (`pip install 'potstill[e2e]'`) pages are painted too: there CPU is that of the
tab's main thread.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import view_browser
from large_run import Sizes, add_size_arguments, make_run
from live_writer import LIVE_SECONDS, Writer

from potstill.viewer.reader import RunReader
from potstill.viewer.run_folders import find_runs
from potstill.viewer.trace_page import RunFacts, TracePage

REPEATS = 7
IDLE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table.

    Args:
        clock: by the clock; None where only the other one means anything.
        cpu: of a core; None where it was not measured.
        aim: None for what has none.
    """

    name: str
    unit: str
    clock: float | None = None
    cpu: float | None = None
    aim: float | None = None


def main() -> None:
    """Make the run where there is none, then measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add_size_arguments(parser)
    parser.add_argument(
        "--folder", type=Path, help="where the run lies, or is made (default: temporary)"
    )
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--no-browser", action="store_true", help="only what the server does")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="potstill-view-") as temporary:
        folder = args.folder or Path(temporary) / "run"
        if not (folder / "results.json").exists():
            used = time.process_time()
            make_run(folder, Sizes(args.traces, args.calls, args.length))
            made = time.process_time() - used
            print(f"made with {made:.0f} s of CPU", file=sys.stderr)
        with view_browser.open_browser() if not args.no_browser else nullcontext() as browser:
            if browser is None:
                print("no browser: nothing is painted", file=sys.stderr)
            figures = []
            table = sys.stderr if args.json else sys.stdout
            print(f"{'':<44}{'clock':>10}{'CPU':>10}{'aim':>8}", file=table)
            for figure in measure(folder, Path(temporary), browser):
                print(format_figure(figure), file=table, flush=True)
                figures.append(figure)
    if args.json:
        print(json.dumps([asdict(figure) for figure in figures]))


def format_figure(figure: Figure) -> str:
    """A line of the table; it ends in ! where the CPU time misses the aim, or the clock where that is all there is."""
    parts = [f"{figure.name:<44}"]
    for value in (figure.clock, figure.cpu):
        parts.append(f"{'' if value is None else format(value, ',.1f'):>10}")
    parts.append(f"{'' if figure.aim is None else format(figure.aim, 'g'):>8} {figure.unit}")
    decisive = figure.cpu if figure.cpu is not None else figure.clock
    is_missed = figure.aim is not None and decisive is not None and decisive > figure.aim
    return "".join(parts) + (" !" if is_missed else "")


def measure(folder: Path, temporary: Path, browser: Any) -> Iterator[Figure]:
    """All figures, of one viewer after another."""
    index = temporary / "index"
    # First with an empty cache, as somebody who has just copied the run here.
    with serve(folder, index) as server:
        yield from measure_start(server, browser, folder.name, "not indexed")
        yield from wait_for_index(server)
    with serve(folder, index) as server:
        yield from measure_start(server, browser, folder.name, "indexed")
        for name, (path, aim) in list_requests(server).items():
            yield time_requests(server, name, path, aim)
        yield time_lineage(folder, index)
        yield Figure("server RSS", "MB", clock=server.resident_megabytes(), aim=150)
        yield measure_idle(server, "nobody looks")
        if browser is not None:
            for values in view_browser.measure(browser, server, folder.name):
                yield Figure(**values)
            with view_browser.following(browser, server, folder.name):
                yield measure_idle(server, "a tab is open")
            megabytes = server.resident_megabytes()
            yield Figure("server RSS, at the end", "MB", clock=megabytes, aim=150)
    yield from measure_live(folder, index, browser)


class Server:
    """`potstill view` of one run as a process of its own."""

    def __init__(self, folder: Path, index: Path) -> None:
        self.started = time.monotonic()
        command = [sys.executable, "-m", "potstill", "view", str(folder), "--json", "--no-open"]
        self.process = subprocess.Popen(
            [*command, "--index", str(index)], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        address = json.loads(self.process.stdout.readline())
        self.url, self.token = address["url"].partition("#")[0], address["token"]
        self.run = f"api/run/{quote(folder.name)}"
        self._connection = http.client.HTTPConnection(self.url.split("/")[2])

    def ask(self, path: str) -> Any:
        """The document at a path."""
        return json.loads(self.read(path))

    def read(self, path: str) -> bytes:
        """The answer's body."""
        headers = {"Authorization": f"Bearer {self.token}"}
        self._connection.request("GET", f"/{path}", headers=headers)
        response = self._connection.getresponse()
        body = response.read()
        assert response.status == 200, (path, response.status, body[:500])
        return body

    def cpu_seconds(self) -> float:
        """What the process has used of the cores so far."""
        return process_cpu_seconds(self.process.pid)

    def resident_megabytes(self) -> float:
        """Its memory that lies in RAM."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * resource.getpagesize() / 2**20

    def close(self) -> None:
        """End the process."""
        self._connection.close()
        self.process.terminate()
        self.process.wait(30)
        assert self.process.stdout is not None
        self.process.stdout.close()


def process_cpu_seconds(pid: int) -> float:
    """What a process has used of the cores so far, in user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def serve(folder: Path, index: Path) -> Iterator[Server]:
    """A viewer that ends with the block."""
    server = Server(folder, index)
    try:
        yield server
    finally:
        server.close()


def measure_start(server: Server, browser: Any, run: str, name: str) -> Iterator[Figure]:
    """How long it takes to the first answers, from the start of the process, and until a tab shows the overview."""
    for what, path in (("page", ""), ("overview", server.run)):
        server.read(path)
        clock = 1000 * (time.monotonic() - server.started)
        cpu = 1000 * server.cpu_seconds()
        yield Figure(f"start, {name}: first byte, {what}", "ms", clock, cpu, aim=500)
    if browser is not None:
        yield Figure(**view_browser.measure_start(browser, server, run, f"start, {name}"))


def wait_for_index(server: Server) -> Iterator[Figure]:
    """How long it takes until lists are whole, then words, then calls."""
    missing = {"lists", "words", "calls"}
    while missing:
        time.sleep(2)
        indexed = server.ask(f"{server.run}/traces?limit=1")["indexed"]
        [line] = server.ask("api/runs")["runs"]
        is_whole = {
            "lists": indexed["traces"] == 1,
            "words": indexed["words"] == 1,
            "calls": line["is_counted"],
        }
        for what in sorted(missing):
            if is_whole[what]:
                missing.remove(what)
                clock = time.monotonic() - server.started
                yield Figure(f"{what} indexed", "s", clock, server.cpu_seconds())


def list_requests(server: Server) -> dict[str, tuple[str, float | None]]:
    """By name, the paths that are timed, and what each may take in milliseconds."""
    run = server.run
    traces, facets = f"{run}/traces?limit=100", f"{run}/facets"
    rewrite = server.ask(f"{run}/traces?q=operator:rewrite%20row:yes&limit=1")["items"][0]["id"]
    longest = server.ask(f"{run}/traces?sort=length&order=desc&limit=1")["items"][0]["id"]
    name = run.rpartition("/")[2]
    dropped = quote('arm:orion dropped:"keep sound"')
    phrase = quote('"89 + 20 = 109"')
    return {
        "page of 100 traces": (traces, 50),
        "page, last": (f"{traces}&after=end", 50),
        "page, arm, verdict and tokens": (
            f"{traces}&q=arm:orion%20status:right%20tokens:%3E300",
            50,
        ),
        "page, dropped by a test": (f"{traces}&q={dropped}", 50),
        "page, rows": (f"{traces}&q=row:yes", 50),
        "page, a score in a range": (f"{traces}&q=score.steps:%3E0.9", 50),
        "page, sorted by tokens": (f"{traces}&sort=tokens&order=desc", 50),
        "page, sorted by a score": (f"{traces}&sort=score.steps&order=desc", 50),
        "page, sorted by seconds": (f"{traces}&sort=seconds&order=desc", 50),
        "anchors of the list": (f"{run}/anchors?q=-status:blank", None),
        "anchors, sorted by tokens": (f"{run}/anchors?sort=tokens", None),
        "facets": (facets, 200),
        "facets, two chosen": (f"{facets}?f.arm=orion&f.status=right", 200),
        "search with facets, all traces": (f"{facets}?q=answer", 300),
        "search, two words": (f"{traces}&q=answer%2096", 300),
        "search, a phrase": (f"{traces}&q={phrase}", 300),
        "search, last page of all traces": (f"{traces}&q=answer&after=end", 300),
        "search, exact characters": (f"{traces}&q={quote(chr(39) + '89 + 20' + chr(39))}", 300),
        "problem x arm, measured": (f"{run}/problems?limit=100000", 300),
        "problem x arm, page of 100": (f"{run}/problems?limit=100&sort=spread&order=desc", 300),
        "problem x arm, trained on": (f"{run}/problems?set=train&limit=100000", 300),
        "a problem": (f"{run}/problem/train-7", None),
        "trace": (f"{run}/trace/{rewrite}", 100),
        "trace of 32k words": (f"{run}/trace/{longest}", 300),
        "costs": (f"{run}/costs", 500),
        "journal": (f"{run}/journal", None),
        "journal, a role": (f"{run}/journal?role=student", None),
        "journal, wrong answers": (f"{run}/journal?status=wrong", None),
        "compare": (f"api/compare?a={name}:orion&b={name}:sft", None),
        "overview again": (run, None),
        "all runs": ("api/runs", None),
    }


def time_requests(server: Server, name: str, path: str, aim: float | None) -> Figure:
    """Median clock and mean CPU time of a request."""
    clocks = []
    used = server.cpu_seconds()
    # The clock of a process's CPU time ticks a hundred times a second: quick requests are asked more often.
    while len(clocks) < REPEATS or server.cpu_seconds() - used < 0.2:
        began = time.monotonic()
        server.read(path)
        clocks.append(1000 * (time.monotonic() - began))
    cpu = 1000 * (server.cpu_seconds() - used) / len(clocks)
    return Figure(name, "ms", sorted(clocks)[len(clocks) // 2], cpu, aim)


def time_lineage(folder: Path, index: Path) -> Figure:
    """The ancestors of a rewrite, asked for in this process: the page of a trace holds much else."""
    [run] = find_runs([folder]).values()
    reader = RunReader(run, index)
    with reader.store() as store:
        sql = """SELECT r.id FROM rows r JOIN traces t ON t.id = r.id
            WHERE t.operator = 'rewrite' AND r.arm = 'orion' LIMIT 1"""
        [(rewrite,)] = store.database.read(sql)
        trace = store.history.trace(rewrite, "orion")
        assert trace is not None
        began, used = time.monotonic(), time.process_time()
        for _ in range(REPEATS):
            TracePage(RunFacts(store), trace, "orion").lineage()
        cpu = 1000 * (time.process_time() - used) / REPEATS
        clock = 1000 * (time.monotonic() - began) / REPEATS
    return Figure("lineage", "ms", clock, cpu, aim=20)


def measure_idle(server: Server, name: str) -> Figure:
    """Per cent of a core that the viewer takes while nobody asks for anything."""
    used = server.cpu_seconds()
    time.sleep(IDLE_SECONDS)
    share = 100 * (server.cpu_seconds() - used) / IDLE_SECONDS
    return Figure(f"CPU, {name}", "%", cpu=share, aim=1)


def measure_live(folder: Path, index: Path, browser: Any) -> list[Figure]:
    """What a viewer takes while a run writes, and what the run takes with it and without."""
    alone = Writer(folder)
    alone.wait()
    server = Server(folder, index)
    try:
        with view_browser.following(browser, server, folder.name):
            beside = Writer(folder)
            used, began = server.cpu_seconds(), time.monotonic()
            beside.wait()
            share = (server.cpu_seconds() - used) / (time.monotonic() - began)
    finally:
        server.close()
    return [
        Figure(f"a run writes for {LIVE_SECONDS} s: viewer", "%", cpu=100 * share, aim=2),
        Figure("the run's own CPU, nobody looks", "s", cpu=alone.cpu_seconds),
        Figure("the run's own CPU, a viewer beside it", "s", cpu=beside.cpu_seconds),
    ]


if __name__ == "__main__":
    main()
