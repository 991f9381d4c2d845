"""What a faulty server costs: the same requests through `openai:` and the store, clean and with faults, and none lost.

    python benchmarks/faults.py [--count 4000] [--rounds 3] [--json]

`429` refuses 5 % of the calls at random, `capacity` every call above half of the concurrency, `503` all calls for half
a second in every two; none says Retry-After. Wall time against the clean run, best of the rounds in turns; what the
server refused and what of it is recorded as attempts; rows lost (the server did not answer them, or the store or the
caller has them not or with an error); answers given twice. The exit code says whether 5 % of 429 cost at most 1.5 times
the clean run, every refusal is recorded, and nothing is lost or answered twice.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from openai_server import process  # noqa: E402

from potstill import models  # noqa: E402
from potstill.models.model import Request, Sampling  # noqa: E402
from potstill.store.cached_model import with_cache  # noqa: E402
from potstill.store.store import Store  # noqa: E402

LATENCY, AT_ONCE, SHARE, LIMIT = 0.05, 64, 0.05, 1.5
DOWN, EVERY = 0.5, 2.0  # seconds of a burst; from the start of one to that of the next
KINDS: dict[str, tuple[str, ...]] = {
    "clean": (),
    "429": ("--fail-429", str(SHARE)),
    "capacity": ("--capacity", str(AT_ONCE // 2)),
    "503": (),
}


def question(number: int) -> str:
    return f"Question {number}: a baker sells {number} loaves in the morning and half as many after lunch. How many?"


def control(url: str, **settings: Any) -> None:
    """Change what the server does."""
    data = json.dumps({"set": settings}).encode()
    urllib.request.urlopen(f"{url.removesuffix('/v1')}/control", data=data, timeout=30).read()


@contextmanager
def bursts(url: str) -> Iterator[None]:
    """The server answers 503 for half a second, then for one and a half it does not, again and again."""
    over = threading.Event()

    def run() -> None:
        while not over.wait(EVERY - DOWN):
            control(url, fail={"503": 1.0})
            over.wait(DOWN)
            control(url, fail={})

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def once(kind: str, count: int) -> dict[str, Any]:
    """One run: seconds, and what the server, the store and the caller count."""
    how = Sampling(max_new_tokens=256)
    requests = [Request(question(i), sampling=how) for i in range(count)]
    with tempfile.TemporaryDirectory() as folder:
        served = Path(folder) / "served.jsonl"
        with process("--latency", str(LATENCY), "--count", str(served), *KINDS[kind]) as url:
            model = models.load(f"openai:test-model?url={url}&concurrency={AT_ONCE}")
            with Store.open(Path(folder) / "store") as store:
                asked = with_cache(model, store, role="teacher", arm="a", seed=1)
                began = time.perf_counter()
                if kind == "503":
                    with bursts(url):
                        written = asked.write(requests)
                else:
                    written = asked.write(requests)
                seconds = time.perf_counter() - began
                stored = list(store.completions.iterate())
            with urllib.request.urlopen(f"{url.removesuffix('/v1')}/stats", timeout=30) as stats:
                statuses = json.load(stats)["statuses"]
        answered = Counter(
            json.loads(line)["prompt"] for line in served.read_text("utf-8").splitlines()
        )
    good = [
        sum(bool(c.text) and not c.error for c in found)
        for found in (written, [s.completion for s in stored])
    ]
    return {
        "seconds": seconds,
        "refused": sum(number for status, number in statuses.items() if status != "200"),
        "recorded": sum(s.tries for s in stored),
        "lost": count - min(*good, len(answered)),
        "twice": sum(answered.values()) - len(answered),
    }


def summary(runs: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """The best time of each kind and its ratio to the clean one; counts are sums over the rounds."""
    best = {kind: min(run["seconds"] for run in found) for kind, found in runs.items()}
    return {
        kind: {
            "seconds": round(best[kind], 3),
            "ratio": round(best[kind] / best["clean"], 3),
            **{
                name: sum(run[name] for run in found)
                for name in ("refused", "recorded", "lost", "twice")
            },
        }
        for kind, found in runs.items()
    }


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--count", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    runs: dict[str, list[dict[str, Any]]] = {kind: [] for kind in KINDS}
    for _ in range(given.rounds):
        for kind, found in runs.items():
            found.append(once(kind, given.count))
    results = summary(runs)
    if given.json:
        print(json.dumps({"count": given.count, "rounds": given.rounds, **results}))
    else:
        print(
            f"{given.count} requests, {1000 * LATENCY:g} ms, {AT_ONCE} at once, best of {given.rounds} rounds"
        )
        print(
            f"{'':10}{'seconds':>9}{'ratio':>7}{'refused':>9}{'recorded':>10}{'lost':>6}{'twice':>7}"
        )
        for kind, row in results.items():
            counts = f"{row['refused']:>9}{row['recorded']:>10}{row['lost']:>6}{row['twice']:>7}"
            print(f"{kind:10}{row['seconds']:>9.2f}{row['ratio']:>7.2f}{counts}")
    unlucky = any(
        row["lost"] or row["twice"] or row["refused"] != row["recorded"] for row in results.values()
    )
    sys.exit(unlucky or results["429"]["ratio"] > LIMIT)


if __name__ == "__main__":
    main()
