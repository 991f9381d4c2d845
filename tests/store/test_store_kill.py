"""SIGKILL at random moments of a real process: nothing stored is paid twice, batches are whole, results equal."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import child
import pytest
from store_fakes import Planner, ask

from potstill.runs import manifest
from potstill.store import Store, with_cache
from potstill.store.admin import maintain

CHILD = """
import json, os, sys, time
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from store_fakes import Planner, ask
from potstill.records import Author, Problem, Trace
from potstill.runs import manifest
from potstill.store import Store, with_cache
from test_store_kill import PROMPTS, DRAWS

folder, log = Path(sys.argv[2]), os.open(sys.argv[3], os.O_WRONLY | os.O_CREAT | os.O_APPEND)

class Logging(Planner):
    size = 4
    def write(self, requests):
        for request in requests:
            os.write(log, (json.dumps([request.prompt, request.sample_index]) + "\\n").encode())
        time.sleep(0.003)
        return super().write(requests)

with Store.open(folder) as store:
    manifest.start(folder, {"seed": 5})
    results = {}
    for arm in ("sft", "orion"):
        ledger = store.ledger(arm)
        for draw in range(DRAWS):
            model = with_cache(Logging("model-logging"), store, role="teacher", arm=arm, seed=5)
            requests = ask(*PROMPTS[: 30 if arm == "sft" else None], sample_index=draw)
            done = model.write(requests)
            traces = [Trace(Problem(r.prompt, r.prompt), r.prompt, c.text, author=Author(model.id, "", (), draw))
                      for r, c in zip(requests, done)]
            ledger.add_traces(traces)
            ledger.add_step("sample", model.role, len(requests), len(done))
            results[f"{arm}{draw}"] = [trace.id for trace in traces]
        ledger.finish()
        results[arm] = [store.usage(arm), store.history.steps(arm), [t.id for t in store.history.traces(arm)]]
    manifest.write(folder / "results.json", results)
    manifest.finish(folder, ["results.json"])
"""

PROMPTS = [f"{'x' * (i % 7)}{i}" for i in range(50)]
DRAWS = 2


def lines(log: Path) -> list[tuple[str, int]]:
    return (
        [tuple(json.loads(line)) for line in log.read_text().splitlines()] if log.exists() else []
    )


@contextmanager
def started(folder: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with child.started([sys.executable, "-c", CHILD, Path(__file__).parent, folder, log]) as run:
        yield run


def batches_of(prompts: list[str], sample_index: int) -> list[list[str]]:
    planner = Planner()
    planner.size = 4
    requests = ask(*prompts, sample_index=sample_index, seed=5)
    return [[requests[i].key("model-logging") for i in batch] for batch in planner.plan(requests)]


def check_whole(stored: set[str]) -> None:
    """Every batch of an undisturbed run, less what an earlier call had stored, is there as a whole or not at all."""
    for draw in range(DRAWS):
        first = batches_of(PROMPTS[:30], draw)
        assert all(len(stored & set(batch)) in (0, len(batch)) for batch in first)
        earlier = {key for batch in first for key in batch}
        rest = [set(batch) - earlier for batch in batches_of(PROMPTS, draw)]
        assert all(len(stored & batch) in (0, len(batch)) for batch in rest)


@pytest.mark.slow
def test_killed_at_random_moments(tmp_path: Path):
    calm, calm_log = tmp_path / "calm", tmp_path / "calm.log"
    with started(calm, calm_log) as process:
        assert process.wait() == 0
    assert len(lines(calm_log)) == len(PROMPTS) * DRAWS

    rng = random.Random(20240607)
    known: set[tuple[str, int]] = set()
    folder, log = tmp_path / "killed", tmp_path / "killed.log"
    kills = 0
    while True:
        asked = len(lines(log))
        with started(folder, log) as process:
            if kills % 3 == 2:  # somewhere in the start-up or the fast-forward
                wait_for(process, lambda: False, rng.random() * 0.15)
            else:
                wanted = asked + rng.randrange(1, 13)
                wait_for(process, lambda: len(lines(log)) >= wanted, 60)  # noqa: B023
                time.sleep(rng.random() * 0.006)
            process.kill()
            process.wait()
        assert not known & set(lines(log)[asked:]), "something stored was asked for again"
        if process.returncode == 0:
            break
        kills += 1
        with Store.open(folder) as store:
            entries = list(store.completions.iterate())
        check_whole({entry.key for entry in entries})
        known = {(json.loads(entry.payload)["prompt"], entry.sample_index) for entry in entries}
        if kills == 6:
            break
    assert kills >= 4
    assert len(known) > 20

    with started(folder, log) as process:
        assert process.wait() == 0
    assert (folder / "results.json").read_bytes() == (calm / "results.json").read_bytes()
    assert manifest.is_finished(folder)
    with Store.open(folder) as store:
        assert maintain.check_store(store) == []


def wait_for(process: subprocess.Popen[bytes], done: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not done() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.001)


def run_and_die(folder: Path, statement: int) -> bool:
    """A forked process that kills itself before its n-th SQL statement; whether it lived to the end."""
    forked = os.fork()
    if forked == 0:
        with Store.open(folder) as store:
            left = iter(range(statement, -1, -1))
            die = lambda _: next(left) == 0 and os.kill(os.getpid(), signal.SIGKILL)  # noqa: E731
            store.database._connection.set_trace_callback(die)
            ledger = store.ledger("sft")
            with_cache(Planner(), store, role="teacher", arm="sft", seed=0).write(ask(*"abcde"))
            ledger.finish()
        os._exit(0)
    return child.reap(forked) == 0


@pytest.mark.slow
def test_killed_before_every_single_statement(tmp_path: Path):
    seen = set()
    statement = 0
    while not run_and_die(tmp_path / str(statement), statement):
        with Store.open(tmp_path / str(statement)) as store:
            kept = "".join(
                sorted(entry.completion.text[0] for entry in store.completions.iterate())
            )
            seen.add(kept)
            assert len(store.database.read("SELECT key FROM uses")) == len(kept)
            model = Planner()
            with_cache(model, store, role="teacher", arm="sft", seed=0).write(ask(*"abcde"))
            assert "".join(model.asked) == "abcde"[len(kept) :]
        statement += 1
    assert seen == {"", "abc", "abcde"}
    assert statement > 15
