"""Taking a run up again: how soon the first new request leaves, how fast stored answers replay, in how much memory.

python benchmarks/resume.py [--rows 1000000] [--json] [--folder DIR]

Fills a store with ROWS completions, then starts fresh processes on it. "first new request": from the start of the
process, interpreter and imports included, until the model draws the one request that is not stored, which comes after
all that are. "replay": stored completions a second through a cached model's `write`, what they are needed for entered;
beside it, in the same process, a bare SELECT of the same rows in the same order. CPU time stands beside both: on a
machine that others use, only that says what they cost. "peak": resident memory of a process
that iterates over all rows (`answers`), and over a tenth of them.
"""

from __future__ import annotations

import argparse
import itertools
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from potstill.models.model import Completion, Request, Sampling, SpendingPermit
from potstill.records import Tokens
from potstill.store import Store, with_cache
from potstill.store.completions import _ANSWERS

FIRST_LIMITS = {1_000: 0.5, 1_000_000: 5.0}
REPLAY_LIMIT = 20_000
REPLAYED = 100_000
HOW = Sampling(temperature=0.7, max_new_tokens=2048)
PROMPT = "Janet has {} eggs. How many are left when she eats two of them every day for a week?"
TEXT = "First we count the eggs. Then we take away two for each of seven days. " * 8


class FakeRemoteModel:
    """A streamed model that answers at once; remembers when it was first asked."""

    id = "model-benchmark"

    def __init__(self) -> None:
        """Not asked yet."""
        self.first = self.cpu = 0.0
        self.asked = 0

    def write(self, requests: Any) -> list[Completion]:
        """Not used: it streams."""
        raise NotImplementedError

    def stream(
        self, requests: Iterable[Request], permit: SpendingPermit | None = None
    ) -> Iterator[list[tuple[int, Completion]]]:
        """One completion at a time."""
        for place, request in enumerate(requests):
            self.first, self.cpu = self.first or time.time(), self.cpu or time.process_time()
            self.asked += 1
            yield [(place, answer(request))]


def asked(count: int) -> Iterator[Request]:
    """The requests of a run, four draws a prompt."""
    return (Request(PROMPT.format(i // 4), "", HOW, i % 4, 7) for i in range(count))


def answer(request: Request) -> Completion:
    """About 600 characters."""
    return Completion(f"{TEXT}{request.prompt}", "stop", Tokens(20, 150), "", 0.5)


def fill(folder: Path, rows: int) -> float:
    """Make a store of so many completions; the seconds it took."""
    began = time.perf_counter()
    with Store.open(folder) as store:
        store.ledger("sft")
        source = asked(rows)
        while batch := list(itertools.islice(source, 5000)):
            store.completions.put(
                FakeRemoteModel.id,
                "teacher",
                "sft",
                [(request, answer(request)) for request in batch],
            )
    return time.perf_counter() - began


def child(task: str, folder: Path, rows: int, began: float) -> dict[str, float]:
    """What a fresh process measures."""
    with Store.open(folder) as store:
        store.ledger("sft")
        remote_model = FakeRemoteModel()
        model: Any = with_cache(remote_model, store, role="teacher", arm="sft", seed=7)
        if task == "first":
            new = Request(
                "How many new eggs?", "", HOW, int(began * 1e6), 7
            )  # new in every repetition
            for _ in model.answers(itertools.chain(asked(rows), [new])):
                if remote_model.first:
                    break
            assert remote_model.asked == 1
            return {"seconds": remote_model.first - began, "cpu": remote_model.cpu}
        if task == "iterate":
            count = sum(1 for _ in model.answers(asked(rows)))
            assert (count, remote_model.asked) == (rows, 0)
            return {"peak": peak()}
        return replayed(store, model, list(asked(rows)))


def replayed(store: Store, model: Any, requests: list[Request]) -> dict[str, float]:
    """Rows a second through `write`, and through a bare SELECT before and after it."""
    keys = [request.key(FakeRemoteModel.id) for request in requests]

    def bare() -> float:
        began = time.perf_counter()
        assert len(store.database.read_by_keys(_ANSWERS, keys)) == len(keys)
        return len(keys) / (time.perf_counter() - began)

    before = bare()
    began, used = time.perf_counter(), time.process_time()
    answers = model.write(requests)
    rate, cpu = (
        len(answers) / (time.perf_counter() - began),
        len(answers) / (time.process_time() - used),
    )
    return {"rate": rate, "cpu": cpu, "select": (before + bare()) / 2}


def peak() -> float:
    """MB of resident memory at most so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def fresh(task: str, folder: Path, rows: int) -> dict[str, float]:
    """What a fresh process says."""
    command = [
        sys.executable,
        __file__,
        "--child",
        task,
        "--folder",
        str(folder),
        "--rows",
        str(rows),
    ]
    done = subprocess.run(
        [*command, "--began", repr(time.time())], capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{task} failed:\n{done.stderr}")
    found: dict[str, float] = json.loads(done.stdout)
    return found


def measure(folder: Path, rows: int) -> dict[str, Any]:
    """Everything, for one size of store."""
    path = folder / str(rows)
    filled = fill(path, rows)
    first = min((fresh("first", path, rows) for _ in range(3)), key=lambda found: found["seconds"])
    replay = fresh("replay", path, min(rows, REPLAYED))
    return {
        "rows": rows,
        "written_per_second": round(rows / filled),
        "first_new_request_seconds": round(first["seconds"], 3),
        "first_new_request_cpu_seconds": round(first["cpu"], 3),
        "replay_per_second": round(replay["rate"]),
        "replay_per_cpu_second": round(replay["cpu"]),
        "select_per_second": round(replay["select"]),
        "replay_to_select": round(replay["rate"] / replay["select"], 3),
        "peak_mb_all": round(fresh("iterate", path, rows)["peak"], 1),
        "peak_mb_tenth": round(fresh("iterate", path, max(1, rows // 10))["peak"], 1),
    }


def shown(found: dict[str, Any]) -> str:
    """The measures of one store as lines."""
    return (
        f"{found['rows']:,} stored rows (written at {found['written_per_second']:,}/s)\n"
        f"  first new request   {found['first_new_request_seconds']:.3f} s after the start of the process "
        f"({found['first_new_request_cpu_seconds']:.3f} s of CPU)\n"
        f"  replay              {found['replay_per_second']:,}/s ({found['replay_per_cpu_second']:,} a second of CPU), "
        f"{found['replay_to_select']:.2f} of a bare SELECT ({found['select_per_second']:,}/s)\n"
        f"  peak memory         {found['peak_mb_all']:.1f} MB iterating over all, "
        f"{found['peak_mb_tenth']:.1f} MB over a tenth"
    )


def missed(found: dict[str, Any]) -> list[str]:
    """The limits that were not held."""
    limit = FIRST_LIMITS.get(found["rows"], 5.0)
    late = (
        [f"first new request after {limit} s"] if found["first_new_request_seconds"] > limit else []
    )
    slow = (
        [f"replay below {REPLAY_LIMIT}/s"]
        if found["replay_per_second"] < REPLAY_LIMIT <= found["rows"]
        else []
    )
    return [f"{found['rows']:,} rows: {what}" for what in late + slow]


def main() -> None:
    """Measure and print; exit code 1 where a limit is not held."""
    parser = argparse.ArgumentParser(description="resuming a run from its store")
    parser.add_argument(
        "--rows", type=int, default=1_000_000, help="of the large store; the small one has 1,000"
    )
    parser.add_argument(
        "--folder", type=Path, help="where to put the stores (about 1.6 GB a million rows)"
    )
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--began", type=float, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        print(json.dumps(child(given.child, given.folder, given.rows, given.began)))
        return
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        found = [measure(Path(folder), rows) for rows in sorted({1_000, given.rows})]
    print(json.dumps(found) if given.json else "\n".join(map(shown, found)))
    misses = [miss for one in found for miss in missed(one)]
    for miss in misses:
        print(miss, file=sys.stderr)
    sys.exit(1 if misses else 0)


if __name__ == "__main__":
    main()
