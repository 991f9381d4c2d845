"""`ray:` on a real cluster of two nodes on this machine: the same bits, nodes that die, and what the cluster costs.

    python benchmarks/ray_cluster.py equal [--limit 300 --test 200 --n 4] [--kills 5]
    python benchmarks/ray_cluster.py speed [--requests 256] [--rounds 5]

`equal` runs the quickstart's stories three times: in one process; with `ray:` in front of the teacher and the student,
so that the trained students are sampled by replicas too; and so once more while one of the two nodes is killed at
`--kills` random moments, each time with all its processes, and another one joins. It compares results (without clocks),
rows, students and every stored completion, and counts completions that were stored twice.

`speed` lets two replicas of the built-in student write the same requests in turns: driven directly (a loop that gives
each replica of the same pool a batch and waits for it), and as a model behind the store. Then one replica, in turns
with the model in this process. Last, two replicas that sleep for a tenth of a second an item, which a busy machine does
not slow: what handing out an item costs. Medians; the ratios are of one run.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from potstill.cluster.connect import ADDRESS, disconnect
from potstill.cluster.pool import ReplicaPool
from potstill.evaluation.results import load as load_results
from potstill.evaluation.results import outcome
from potstill.models.model import Request, Sampling
from potstill.runs.sources import load_model
from potstill.store import Store, with_cache
from potstill.world.tasks import make_problems

NODE = {"num_cpus": 8, "object_store_memory": 100 << 20}  # logical CPUs: room for all models
ROLES = ("teacher", "student")


@contextmanager
def two_nodes() -> Iterator[Any]:
    """A cluster of two nodes, which commands started here find by RAY_ADDRESS."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_worker_niceness", "0")  # as `connect` has it on one machine
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    try:
        cluster.add_node(**NODE)
        os.environ[ADDRESS] = cluster.address
        yield cluster
    finally:
        disconnect()
        os.environ.pop(ADDRESS, None)
        cluster.shutdown()


# The same bits.


def compare_runs(args: argparse.Namespace) -> None:
    """Run the quickstart in one process, on a cluster, and on one whose nodes die; say what is equal."""
    base = Path(tempfile.mkdtemp(prefix="ray-cluster-"))
    print(f"folders: {base}", flush=True)
    seconds = run_quickstart(args, base / "alone", replicas=0)
    alone = read_run(base / "alone")
    count = len(alone["completions"])
    print(f"one process: {count} completions, {seconds:.0f} s", flush=True)
    with two_nodes() as cluster:
        seconds = run_quickstart(args, base / "cluster", replicas=args.replicas)
        verdict = differences(alone, read_run(base / "cluster"))
        print(f"two nodes: {verdict}; {seconds:.0f} s", flush=True)

        moments = sorted(random.Random(args.seed).sample(range(1, count), args.kills))
        killer = NodeKiller(cluster, base / "killed", moments)
        seconds = run_quickstart(args, base / "killed", replicas=args.replicas, watch=killer)
        verdict = differences(alone, read_run(base / "killed"))
        places = ", ".join(map(str, killer.killed_at))
        print(f"a node killed at completions {places}: {verdict}; {seconds:.0f} s", flush=True)


def run_quickstart(
    args: argparse.Namespace,
    folder: Path,
    *,
    replicas: int,
    watch: Callable[[], None] | None = None,
) -> float:
    """The quickstart's stories; its wall-clock seconds. `watch` is called now and then meanwhile."""
    command = [sys.executable, "-m", "potstill", "quickstart", "--family", "story", "--quiet"]
    command += ["--threads", "1", "--limit", str(args.limit), "--test", str(args.test)]
    command += ["--n", str(args.n), "--out", str(folder)]
    if replicas:
        for role in ROLES:
            spec = f"ray:world:{role}?replicas={replicas}&threads=1"
            command += ["--set", f"roles.{role}={spec}"]
    began = time.monotonic()
    log = folder.with_suffix(".log")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with (
        log.open("w") as file,
        subprocess.Popen(
            command, stdout=file, stderr=subprocess.STDOUT, env=environment
        ) as process,
    ):
        while process.poll() is None:
            time.sleep(0.2)
            if watch is not None:
                watch()
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}\n{log.read_text()[-3000:]}")
    return time.monotonic() - began


def read_run(folder: Path) -> dict[str, Any]:
    """What a run left, without clocks."""
    rows = {}
    for path in sorted((folder / "rows").glob("*.jsonl")):
        rows[path.name] = path.read_text()
    completions: dict[str, Any] = {}
    repeated = 0
    with Store.open(folder, readonly=True) as store:
        for stored in store.completions.iterate():
            repeated += stored.key in completions
            completions[stored.key] = stored.completion._replace(seconds=0.0)
        attempts = len(list(store.attempts.iterate()))
        students = sorted(student.model for student in store.students.all())
    return {
        "results": outcome(load_results(folder / "results.json")),
        "rows": rows,
        "students": students,
        "completions": completions,
        "written twice": repeated + attempts,
    }


def differences(alone: dict[str, Any], other: dict[str, Any]) -> str:
    """In a line, what of two runs is not equal."""
    parts = ("results", "rows", "students", "completions")
    unequal = [name for name in parts if alone[name] != other[name]]
    verdict = f"DIFFERENT: {', '.join(unequal)}" if unequal else "equal"
    return f"{verdict}; {len(other['completions'])} completions, {other['written twice']} of them twice"


class NodeKiller:
    """Kills the cluster's second node, with all its processes, each time a store has so many completions."""

    def __init__(self, cluster: Any, folder: Path, moments: list[int]) -> None:
        self.cluster, self.folder, self.moments = cluster, folder, moments
        self.killed_at: list[int] = []

    def __call__(self) -> None:
        """Kill the node if it is time; another one joins."""
        count = self.count_completions()
        if len(self.killed_at) == len(self.moments) or count < self.moments[len(self.killed_at)]:
            return
        self.killed_at.append(count)
        [node] = self.cluster.worker_nodes
        kill_processes(node)
        self.cluster.remove_node(node, allow_graceful=False)
        self.cluster.add_node(**NODE)

    def count_completions(self) -> int:
        """How many the run has stored so far."""
        if not (self.folder / "store.sqlite").exists():
            return 0
        with Store.open(self.folder, readonly=True) as store:
            return int(store.database.read("SELECT count(*) FROM completions")[0][0])


def kill_processes(node: Any) -> None:
    """Kill a node's own processes and the workers that they started, at once."""
    own = [info.process.pid for infos in node.all_processes.values() for info in infos]
    listing = subprocess.run(
        ["ps", "-eo", "pid=,ppid="], check=True, capture_output=True, text=True
    ).stdout
    pairs = [tuple(map(int, line.split())) for line in listing.splitlines()]
    for pid in [*own, *(pid for pid, parent in pairs if parent in own)]:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue  # it was a process of one that has just died


# What the cluster costs.


def measure_speed(args: argparse.Namespace) -> dict[str, Any]:
    """Throughput of two replicas beside the same ones driven directly, and of one beside this process."""
    import torch

    torch.set_num_threads(1)
    sampling = Sampling(max_new_tokens=args.tokens)
    questions = [problem.question for problem in make_problems("story", size=args.requests)]
    requests = [Request(question, sampling=sampling) for question in questions]
    checkpoint = load_model("world:student").weights  # type: ignore[attr-defined]
    spec = f"transformers:{checkpoint}?batch={args.batch}&threads=1"
    with two_nodes():
        replicas: Any = load_model(f"ray:{spec}&replicas=2")
        batches = [[requests[i] for i in batch] for batch in replicas.plan(requests)]
        behind_store(replicas, requests[: 4 * args.batch])  # starts them
        direct = Direct(replicas._pool)
        both = take_turns(
            {
                "driven directly": lambda: direct.write(batches),
                "ray: behind the store": lambda: behind_store(replicas, requests),
            },
            args.rounds,
        )
        one: Any = load_model(f"ray:{spec}&replicas=1")
        alone = load_model(spec)
        behind_store(one, requests[: args.batch])
        behind_store(alone, requests[: args.batch])
        single = take_turns(
            {
                "transformers:": lambda: behind_store(alone, requests),
                "ray: with one replica": lambda: behind_store(one, requests),
            },
            args.rounds,
        )
        sleepers = measure_sleepers(args.rounds)
    extra = both["ray: behind the store"]["median"] - both["driven directly"]["median"]
    return {
        "requests": len(requests),
        "batches": len(batches),
        "two replicas": both,
        "throughput of directly driven": round(
            both["driven directly"]["median"] / both["ray: behind the store"]["median"], 3
        ),
        "overhead a request, ms": round(1000 * extra / len(requests), 3),
        "one replica": single,
        "one replica, of transformers:": round(
            single["transformers:"]["median"] / single["ray: with one replica"]["median"], 3
        ),
        "two replicas that sleep": sleepers,
        "sleeping, of directly driven": round(
            sleepers["driven directly"]["median"] / sleepers["ReplicaPool"]["median"], 3
        ),
    }


def make_sleeper() -> Callable[[float], float]:
    """A worker that takes no time of the machine."""

    def sleep(seconds: float) -> float:
        time.sleep(seconds)
        return seconds

    return sleep


def measure_sleepers(rounds: int) -> dict[str, Any]:
    """Items of a tenth of a second on two replicas, by the pool and driven directly."""
    pool = ReplicaPool(make_sleeper, replicas=2)
    items = [0.1] * 100
    list(pool.map([0.1] * 8))
    while len(pool.places()) < 2:
        list(pool.map([0.1] * 2))
    direct = Direct(pool)
    return take_turns(
        {
            "driven directly": lambda: direct.write(items),
            "ReplicaPool": lambda: list(pool.map(items)),
        },
        rounds,
    )


class Direct:
    """The replicas of a pool without the pool: each gets a batch, and the next one when it is done."""

    def __init__(self, pool: ReplicaPool[Any, Any]) -> None:
        self.handles = [actor.handle for actor in pool._dispatcher._actors]

    def write(self, batches: list[Any]) -> None:
        """Write all batches."""
        import ray

        waiting = list(batches)
        running = {}
        for handle in self.handles:
            running[handle.work.remote(waiting.pop(0))] = handle
        while running:
            [done], _ = ray.wait(list(running))
            handle = running.pop(done)
            ray.get(done)
            if waiting:
                running[handle.work.remote(waiting.pop(0))] = handle


def behind_store(model: Any, requests: list[Request]) -> None:
    """Write the requests as a run does, into an empty store."""
    with tempfile.TemporaryDirectory() as folder, Store.open(Path(folder)) as store:
        with_cache(model, store, role="student", arm="a", seed=0).write(requests)


def take_turns(ways: dict[str, Callable[[], object]], rounds: int) -> dict[str, dict[str, float]]:
    """Seconds of each way, in turns."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - began)
    table = {}
    for name, values in seconds.items():
        table[name] = {
            "median": round(statistics.median(values), 3),
            "least": round(min(values), 3),
            "most": round(max(values), 3),
        }
    return table


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("equal", "speed"))
    parser.add_argument("--limit", type=int, default=300)
    parser.add_argument("--test", type=int, default=200)
    parser.add_argument("--n", type=int, default=4)
    parser.add_argument("--replicas", type=int, default=2)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0, help="of the random moments (0)")
    parser.add_argument("--requests", type=int, default=256)
    parser.add_argument("--batch", type=int, default=16, help="rows of a batch (16)")
    parser.add_argument(
        "--tokens", type=int, default=64, help="new tokens of an answer at most (64)"
    )
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    if args.what == "equal":
        compare_runs(args)
        return
    report = measure_speed(args)
    for name, value in report.items():
        if isinstance(value, dict):
            print(f"{name}:")
            for way, numbers in value.items():
                print(f"  {way:24}  {numbers}")
        else:
            print(f"{name}: {value}")


if __name__ == "__main__":
    main()
