"""`kill -9` of runs that ask a server: nothing stored is asked again, nothing is probed, the end is that of a calm run.

The server is another process (or thread) that outlives the runs and counts every (prompt, seed) it answers.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import child
import pytest
from openai_server import process, serving

from potstill.data.trace_json import to_prompt
from potstill.evaluation.results import load, outcome
from potstill.models.model import Request, Sampling

CONCURRENCY = 8
# What a kill may lose: the calls that are out, and those that landed while the last portion was collected and committed
# (some milliseconds), into whose places others have left already.
LOST_A_KILL = 2 * CONCURRENCY
BOXED = "\\boxed{"

CHILD = """
import json, os, sys
from pathlib import Path
from potstill.methods import METHODS
from potstill.data.problems import load
from potstill.runs.driver import drive
from potstill.runs.sources import load_model, pose_all
from potstill.store import Store, with_cache
from potstill.traces import Session, using

problems, spec, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])

class Stub:
    id, weights = "model-stub", folder
    def write(self, requests):
        raise AssertionError("the student samples nothing here")

def train(stage):
    draft = folder / "rows.part"
    draft.write_text("".join(row.id + "\\n" for row in stage.rows))
    draft.replace(folder / "rows.txt")
    return Stub()

with Store.open(folder) as store:
    ledger = store.ledger("rft")
    sampler = with_cache(load_model(spec), store, role="sampler", arm="rft", seed=0)
    posed = pose_all(load(problems, kind="number"))
    with using(Session(ledger=ledger, verdict_cache=store.verdicts)):
        drive(METHODS["rft"], posed, {"student": Stub(), "sampler": sampler}, {"n": 4, "max_new_tokens": 64}, train)
    ledger.finish()
"""


class Asked(NamedTuple):
    """What the server counts: what it was shown, and the seed."""

    prompt: str
    seed: int


def write_problems(path: Path, golds: dict[str, str], count: int) -> Path:
    """Problems for which the server's first draw is right, where it is known."""
    questions = [f"How much are {i} and {i * i + 3}?" for i in range(count)]
    rows = [
        {"question": q, "answer": next((a for shown, a in golds.items() if q in shown), "-1")}
        for q in questions
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def first_draws(folder: Path) -> dict[str, str]:
    """The boxed numbers of a folder's first draws, by what the server was shown."""
    return {
        asked.prompt: text.rpartition(BOXED)[2].partition("}")[0]
        for asked, (draw, text) in completions(folder).items()
        if draw == 0
    }


def completions(folder: Path) -> dict[Asked, tuple[int, str]]:
    """The draw and text of each stored completion, by what the server counts it as."""
    path = folder / "store.sqlite"
    if not path.exists():
        return {}
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as connection:
        try:
            found = connection.execute(
                "SELECT model, payload, text FROM completions WHERE error = ''"
            ).fetchall()
        except sqlite3.OperationalError:
            return {}  # killed before the tables were made
    # What was scored is no sample: the server counts it apart.
    sampled = [row for row in found if ["score", True] not in json.loads(row[1])["settings"]]
    return {
        counted(model, json.loads(payload)): (json.loads(payload)["sample_index"], text)
        for model, payload, text in sampled
    }


def counted(model: str, payload: dict) -> Asked:
    """The server's name of a stored request."""
    prompt = to_prompt(payload["prompt"])
    settings = {name: tuple(v) if isinstance(v, list) else v for name, v in payload["settings"]}
    request = Request(
        prompt, payload["prefix"], Sampling(**settings), payload["sample_index"], payload["seed"]
    )
    turns = [("user", prompt)] if isinstance(prompt, str) else prompt
    return Asked(
        "\n\n".join(f"{role}: {content}" for role, content in turns), request.random_seed(model)
    )


def served(file: Path) -> list[Asked]:
    """Everything that the server answered, in order; seeds are cut to what it takes in a request."""
    lines = file.read_text().splitlines() if file.exists() else []
    return [Asked(row["prompt"], row["seed"]) for row in map(json.loads, lines)]


def matched(asked: set[Asked], answered: list[Asked]) -> Counter[Asked]:
    """How often each request was answered; a seed on the wire may have fewer bits than ours."""
    mask = (1 << max(seed.bit_length() for _, seed in answered)) - 1
    names = {Asked(prompt, seed & mask): Asked(prompt, seed) for prompt, seed in asked}
    assert len(names) == len(asked)
    return Counter(names.get(one, one) for one in answered)


class Kills:
    """Runs a command again and again, kills it at random moments, and keeps what was stored and served by then."""

    def __init__(self, command: list[str], folder: Path, count: Path, dice: random.Random) -> None:
        self.command, self.folder, self.count, self.dice = command, folder, count, dice
        self.kept: dict[Asked, tuple[int, str]] = {}
        self.moments: list[tuple[set[Asked], int]] = []

    def kill(self, some_time: bool) -> None:
        """At some time after the start, or a random number of completions after the last kill."""
        with started(self.command, self.count.with_suffix(".stderr")) as running:
            if some_time:
                time.sleep(self.dice.uniform(0.0, 1.5))
            else:
                more = len(self.kept) + self.dice.randint(1, 3 * CONCURRENCY)
                while running.poll() is None and len(completions(self.folder)) < more:
                    time.sleep(0.005)
                time.sleep(self.dice.uniform(0.0, 0.03))
            running.send_signal(signal.SIGKILL)
            running.wait()
        told = self.count.with_suffix(".stderr").read_text()
        assert running.returncode == -signal.SIGKILL, f"it ended before it was killed:\n{told}"
        now = completions(self.folder)
        assert self.kept.items() <= now.items(), "a stored completion was lost or asked for again"
        self.kept = now
        time.sleep(0.2)  # the server answers into the closed connections, and counts those
        self.moments.append((set(now), len(served(self.count))))

    def check(self, calm: dict[Asked, tuple[int, str]]) -> None:
        """After the last run to the end: like the calm one, and nothing twice but what was under way at a kill."""
        assert completions(self.folder) == calm
        answered = served(self.count)
        for stored, lines in self.moments:
            later = matched(set(calm), answered[lines:]) if answered[lines:] else Counter()
            assert not stored & later.keys(), "a stored completion was asked for again"
        times = matched(set(calm), answered)
        assert times.keys() == calm.keys(), "the server was asked something that no run needs"
        assert sum(times.values()) - len(calm) <= LOST_A_KILL * len(self.moments)


@contextmanager
def started(command: list[str], told: Path) -> Iterator[subprocess.Popen]:
    """The process of a command; what it says on stderr is kept."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with (
        told.open("w") as errors,
        child.started(
            command, stdout=subprocess.DEVNULL, stderr=errors, env=environment
        ) as running,
    ):
        yield running


def spec(url: str) -> str:
    return f"openai:test-model?url={url}&concurrency={CONCURRENCY}"


@pytest.mark.slow
def test_a_method_killed_while_it_asks_a_server(tmp_path):
    """Two kills of a method driven without training; also that nothing but completions is asked of the server."""
    count, problems = tmp_path / "count.jsonl", tmp_path / "problems.jsonl"
    others = []
    with serving(latency=0.02, count=str(count), keep=False) as server:
        other = server.other
        server.other = lambda *call: others.append(call) or other(*call)

        def command(folder: Path) -> list[str]:
            return [sys.executable, "-c", CHILD, str(problems), spec(server.url), str(folder)]

        write_problems(problems, {}, 20)
        child.run(command(tmp_path / "first"), check=False)  # no row is right
        write_problems(problems, first_draws(tmp_path / "first"), 20)
        child.run(command(tmp_path / "calm"))
        assert len((tmp_path / "calm" / "rows.txt").read_text().split()) >= 20
        count.write_text("")
        kills = Kills(command(tmp_path / "killed"), tmp_path / "killed", count, random.Random(3))
        for _ in range(2):
            kills.kill(some_time=False)
        assert 0 < len(kills.kept) < 80
        child.run(command(tmp_path / "killed"))
        kills.check(completions(tmp_path / "calm"))
        assert (tmp_path / "killed" / "rows.txt").read_text() == (
            tmp_path / "calm" / "rows.txt"
        ).read_text()
        before = len(served(count))
        child.run(command(tmp_path / "killed"))
        assert len(served(count)) == before
        assert not others, "the server was probed"


@pytest.mark.slow
@pytest.mark.long
def test_a_whole_run_killed_at_twenty_four_moments(tmp_path, tiny_checkpoint):
    """`potstill run rft` with training, its samples from a server: killed while it starts, asks, verifies, trains."""
    count, problems = tmp_path / "count.jsonl", tmp_path / "problems.jsonl"
    with process("--latency", "0.05", "--count", str(count)) as url:

        def command(folder: Path) -> list[str]:
            flags = [
                "--problems",
                problems,
                "--student",
                f"transformers:{tiny_checkpoint}",
                "--sampler",
                spec(url),
            ]
            flags += [
                "--kind",
                "number",
                "--set",
                "n=8",
                "--set",
                "max_new_tokens=64",
                "--threads",
                "1",
                "--quiet",
            ]
            return [
                *map(str, (sys.executable, "-m", "potstill", "run", "rft", "--out", folder, *flags))
            ]

        write_problems(problems, {}, 60)
        child.run(command(tmp_path / "first"), check=False)
        write_problems(problems, first_draws(tmp_path / "first"), 60)
        child.run(command(tmp_path / "calm"))
        count.write_text("")
        kills = Kills(command(tmp_path / "killed"), tmp_path / "killed", count, random.Random(11))
        for number in range(24):
            kills.kill(some_time=number % 4 == 3)
        assert len(kills.kept) > 0
        child.run(command(tmp_path / "killed"))
        kills.check(completions(tmp_path / "calm"))
    assert rows(tmp_path / "killed") == rows(tmp_path / "calm")
    assert all(rows(tmp_path / "calm").values())
    ends = [outcome(load(tmp_path / name / "results.json")) for name in ("killed", "calm")]
    assert ends[0] == ends[1]


def rows(folder: Path) -> dict[str, list[str]]:
    """The ids of the rows of each arm."""
    files = sorted((folder / "rows").glob("*.jsonl"))
    return {
        file.stem: [json.loads(line)["id"] for line in file.read_text().splitlines()]
        for file in files
    }
