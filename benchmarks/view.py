"""How fast `potstill view` answers on a large store, which is made first: the aims stand in the table `AIMS`.

python benchmarks/view.py                       10,000 traces, 20,000 calls: a minute
python benchmarks/view.py --traces 100000 --calls 1000000 --folder /tmp/large
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from potstill.evaluation.results import Results, save
from potstill.evaluation.rows import Answer, Evaluation, Fingerprint, Row
from potstill.models.model import Completion, Request, Sampling
from potstill.records import Author, Problem, Span, Tokens, Trace, Verdict, blank, digest
from potstill.runs import manifest
from potstill.store import Store
from potstill.store.students import Student

SAMPLING = Sampling(temperature=0.6)
ARMS = ("sft", "rft", "orion", "orion-none", "orion-shuffled")
DRAWS = 8  # of each problem and arm
STAGE = "student-0123456789abcdef0123"
LONG = 32_000  # words of one long text, about as many tokens
REPEATS = 7
# Milliseconds, but for the two of them that say otherwise.
AIMS = {
    "start to first byte of Overview": 500,
    "page of 100 traces": 50,
    "page of 100, filtered": 50,
    "page of 100, by tokens": 50,
    "facets": 200,
    "facets of a search": 200,
    "search": 300,
    "search, last page": 300,
    "problem x arm": 300,
    "trace": 100,
    "trace of 32k words": 300,
    "costs": 500,
    "journal": 100,
    "compare": 300,
    "server RSS (MB)": 150,
    "idle CPU (%)": 1,
}


def main() -> None:
    """Make the store where there is none, then measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--traces", type=int, default=10_000)
    parser.add_argument("--calls", type=int, default=20_000)
    parser.add_argument("--length", type=int, default=2200, help="characters of a text")
    parser.add_argument(
        "--folder", type=Path, help="where the run lies, or is made (default: temporary)"
    )
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="potstill-view-") as temporary:
        folder = args.folder or Path(temporary) / "run"
        if not (folder / "store.sqlite").exists():
            began = time.monotonic()
            make_store(folder, args.traces, args.calls, args.length)
            print(f"made in {time.monotonic() - began:.0f} s", file=sys.stderr)
        figures = asyncio.run(measure(folder, Path(temporary) / "cache"))
    if args.json:
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        aim = f"aim {AIMS[name]:g}" if name in AIMS else ""
        print(f"{name:<50}{value:>10.1f}   {aim}")


def make_store(folder: Path, traces: int, calls: int, length: int) -> None:
    """A run with as many traces and calls, spread over arms and problems, and its results."""
    rng = random.Random(0)
    manifest.start(folder, {"arms": {arm: {"method": arm} for arm in ARMS}, "seed": 0})
    problem_count = max(1, traces // (DRAWS * len(ARMS)))
    problems = []
    for n in range(problem_count):
        question = f"Problem {n}: Ann has {n} shells and buys {n % 97} more, then sells half. How many are left?"
        problems.append(Problem(f"p{n}", question, str(n + n % 97), kind="story", source="made"))
    with Store.open(folder) as store:
        made = 0
        for number in range(len(ARMS)):
            made += fill_arm(store, number, problems, length, rng)
        fill_calls(store, calls - made, rng)
        store.students.put(
            Student(STAGE, "model-trained", folder / "students" / STAGE, {}, {"rows": 1})
        )
    save(make_results(problems, rng), folder / "results.json")


def fill_arm(
    store: Store, number: int, problems: list[Problem], length: int, rng: random.Random
) -> int:
    """All draws of an arm with verdicts, steps, scores, drops and rows; how many calls were stored with them."""
    arm = ARMS[number]
    ledger = store.ledger(arm)
    made, rows = 0, []
    for start in range(0, len(problems), 500):
        part, answered, dropped = [], [], []
        for problem in problems[start : start + 500]:
            part.append(blank(problem))
            for draw in range(DRAWS):
                size = length
                if (arm, problem.id, draw) == ("orion", "p0", 0):
                    size = LONG * 5
                trace = make_trace(problem, draw, size, rng, f"model-{number % 2}")
                part.append(trace)
                request = Request(problem.question, "", SAMPLING, draw)
                answered.append(
                    (request, Completion(trace.text, "stop", trace.tokens, "", 0.5, cost=0.0001))
                )
                if trace.verdict.status == "right":
                    rows.append(trace)
                else:
                    dropped.append(Dropped(trace, "keep", "sound", "wrong: another total"))
        store.completions.put(f"model-{number % 2}", "student", arm, answered)
        ledger.add_traces(part)
        ledger.add_drops(dropped)
        made += len(answered) if number < 2 else 0
    ledger.rows(STAGE, rows[:2000], label="1")
    ledger.finish()
    return made


class Dropped:
    """A dropped trace with the reason."""

    def __init__(self, trace: Trace, operator: str, test: str, reason: str) -> None:
        self.trace, self.operator, self.test, self.reason = trace, operator, test, reason


def make_trace(problem: Problem, draw: int, length: int, rng: random.Random, model: str) -> Trace:
    """A text of sentences with sums, judged step by step."""
    sentences, spans, position = [], [], 0
    while position < length:
        a, b = rng.randrange(100), rng.randrange(100)
        sentence = f"Then she takes {a} and adds {b}, which makes {a} + {b} = {a + b}"
        sentences.append(sentence)
        if len(spans) < 12:
            spans.append(
                Span(position, position + len(sentence), "step", 1.0, float(rng.random() > 0.1))
            )
        position += len(sentence) + 2
    text = ". ".join(sentences) + f". The answer is {rng.randrange(200)}"
    status = rng.choice(["right", "wrong", "wrong", "unparsed"])
    author = Author(model, digest("prompt", problem.question), SAMPLING.changed(), draw)
    trace = Trace(
        problem,
        problem.question,
        text=text,
        author=author,
        finish_reason="stop",
        operator="sample",
        parents=(blank(problem).id,),
        tokens=Tokens(40, len(text) // 4),
    )
    return trace.annotate(
        verdict=Verdict(status, str(rng.randrange(200)), "", "story@1"),
        spans=tuple(spans),
        scores={"steps": rng.random(), "run_teacher": rng.random()},
    )


def fill_calls(store: Store, count: int, rng: random.Random) -> None:
    """Further calls, of which no trace came."""
    for start in range(0, count, 5000):
        answered = []
        for n in range(start, min(count, start + 5000)):
            request = Request(f"Is step {n} right?", "", SAMPLING)
            answered.append(
                (request, Completion("Yes.", "stop", Tokens(9, 2), "", rng.random(), cost=0.00001))
            )
        store.completions.put("model-judge", "judge", ARMS[start // 5000 % len(ARMS)], answered)


def make_results(problems: list[Problem], rng: random.Random) -> Results:
    """Results of every arm on these problems, four answers each."""
    evaluations = {}
    for arm in ("untrained", *ARMS):
        rows = []
        for problem in problems[:1319]:
            answers = tuple(Answer(rng.choice(["right", "wrong"]), "1", None, 40) for _ in range(4))
            rows.append(Row(problem.id, answers))
        task = {"problems": "problems-0", "n": "4"}
        evaluations[arm] = Evaluation(arm, tuple(rows), Fingerprint(task, {"models": arm}))
    recipe = {"arms": {arm: {"method": arm} for arm in ARMS}}
    return Results("large", 0, evaluations=evaluations, recipe=recipe)


async def measure(folder: Path, cache: Path) -> dict[str, float]:
    """The figures of a server in a process of its own."""
    import aiohttp

    figures: dict[str, float] = {}
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache), "POTSTILL_CACHE": ""}
    command = [sys.executable, "-m", "potstill", "view", str(folder), "--json", "--no-open"]
    began = time.monotonic()
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert server.stdout is not None
    try:
        address = json.loads(server.stdout.readline())
        figures["start to listening"] = 1000 * (time.monotonic() - began)
        base = address["url"].partition("#")[0]
        headers = {"Authorization": f"Bearer {address['token']}"}
        async with aiohttp.ClientSession(base, headers=headers) as session:

            async def ask(path: str) -> Any:
                async with session.get(path) as answer:
                    return await answer.json()

            run = f"api/run/{folder.name}"
            await ask(run)
            figures["start to first byte of Overview"] = 1000 * (time.monotonic() - began)
            await wait_for_index(ask, run, figures, began)
            for name, path in (await paths_of(ask, run)).items():
                before = cpu_seconds(server.pid)
                figures[name] = await median_milliseconds(ask, path)
                used = cpu_seconds(server.pid) - before
                figures[f"{name}, CPU of the server"] = 1000 * used / REPEATS
        figures["server RSS (MB)"] = resident_megabytes(server.pid)
        figures["idle CPU (%)"] = await asyncio.to_thread(idle_share, server.pid)
    finally:
        server.terminate()
        server.wait()
    return figures


async def wait_for_index(
    ask: Callable[[str], Any], run: str, figures: dict[str, float], began: float
) -> None:
    """Note when lists are whole, and when words are."""
    indexed = {"traces": 0.0, "words": 0.0}
    while min(indexed["traces"], indexed["words"]) < 1:
        await asyncio.sleep(0.05)
        indexed = (await ask(f"{run}/traces?limit=1"))["indexed"]
        if indexed["traces"] == 1 and "lists whole after" not in figures:
            figures["lists whole after"] = 1000 * (time.monotonic() - began)
    figures["words whole after"] = 1000 * (time.monotonic() - began)
    # The calls come last.
    expected = (await ask(f"{run}/journal?limit=1"))["count"]
    while (await ask(f"{run}/costs"))["total"]["calls"] < expected:
        await asyncio.sleep(0.2)
    figures["calls whole after"] = 1000 * (time.monotonic() - began)


async def paths_of(ask: Callable[[str], Any], run: str) -> dict[str, str]:
    """What is measured."""
    short = (await ask(f"{run}/traces?q=operator:sample&limit=1"))["items"][0]["id"]
    long = (await ask(f"{run}/traces?sort=length&order=desc&limit=1"))["items"][0]["id"]
    name = run.rpartition("/")[2]
    return {
        "page of 100 traces": f"{run}/traces?limit=100",
        "page of 100, filtered": f"{run}/traces?q=arm:orion status:right tokens:>300&limit=100",
        "page of 100, by tokens": f"{run}/traces?sort=tokens&order=desc&limit=100",
        "facets": f"{run}/facets",
        "facets of a search": f"{run}/facets?q=answer",
        "search": f"{run}/traces?q=answer 96",
        "search, last page": f"{run}/traces?q=answer&after=end",
        "anchors": f"{run}/anchors?sort=tokens",
        "problem x arm": f"{run}/problems?limit=5000",
        "trace": f"{run}/trace/{short}",
        "trace of 32k words": f"{run}/trace/{long}",
        "costs": f"{run}/costs",
        "journal": f"{run}/journal",
        "compare": f"api/compare?a={name}:orion&b={name}:sft",
        "overview": run,
        "all runs": "api/runs",
    }


async def median_milliseconds(ask: Callable[[str], Any], path: str) -> float:
    """The median time of an answer, its JSON read included."""
    times = []
    for _ in range(REPEATS):
        began = time.monotonic()
        await ask(path)
        times.append(1000 * (time.monotonic() - began))
    return sorted(times)[REPEATS // 2]


def resident_megabytes(pid: int) -> float:
    """Memory of a process that lies in RAM."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def idle_share(pid: int, seconds: float = 5.0) -> float:
    """Per cent of a core that a process uses while nobody asks."""

    before = cpu_seconds(pid)
    time.sleep(seconds)
    return 100 * (cpu_seconds(pid) - before) / seconds


def cpu_seconds(pid: int) -> float:
    """What a process has used of the cores so far: on a busy machine it says more than the clock."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
