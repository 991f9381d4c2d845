"""`kill -9` at ten random moments of a quickstart, then the same command: equal rows and results, nothing twice."""

from __future__ import annotations

import json
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import child
import pytest

pytest.importorskip("torch", reason="needs the extra potstill[local]")

from potstill.evaluation.results import load, outcome

SIZES = [
    "--family",
    "story",
    "--limit",
    "24",
    "--test",
    "12",
    "--n",
    "2",
    "--threads",
    "1",
    "--quiet",
]
KILLS = 10


def command(folder: Path) -> list[str]:
    return [sys.executable, "-m", "potstill", "quickstart", "--out", str(folder), *SIZES]


def stored(folder: Path) -> dict[str, float]:
    """When each completion in a run folder was written, by key."""
    path = folder / "store.sqlite"
    if not path.exists():
        return {}
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as connection:
        try:
            return dict(connection.execute("SELECT key, created FROM completions"))
        except sqlite3.OperationalError:
            return {}  # killed before the tables were made


def rows(folder: Path) -> dict[str, list[str]]:
    files = sorted((folder / "rows").glob("*.jsonl"))
    return {
        file.stem: [json.loads(line)["id"] for line in file.read_text().splitlines()]
        for file in files
    }


@pytest.mark.slow
@pytest.mark.long  # CI kills a whole run at more moments in test_server_kill
def test_killed_ten_times(tmp_path):
    child.run(command(tmp_path / "calm"), deadline=900)
    dice, folder, kept = random.Random(7), tmp_path / "killed", {}
    for kill in range(KILLS):
        silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        with child.started(command(folder), deadline=900, **silent) as process:
            if kill % 3:  # into the work: some time after something new was stored
                while process.poll() is None and len(stored(folder)) <= len(kept):
                    time.sleep(0.02)
            time.sleep(dice.uniform(0.0, 0.4))
            process.send_signal(signal.SIGKILL)
            process.wait()
        assert process.returncode == -signal.SIGKILL, "it ended before it was killed"
        now = stored(folder)
        assert kept.items() <= now.items(), "a stored completion was lost or asked for again"
        assert not kill % 3 or len(now) > len(kept)
        kept = now
    assert kept.keys() < stored(tmp_path / "calm").keys()
    child.run(command(folder), deadline=900)

    assert kept.items() <= stored(folder).items()
    assert stored(folder).keys() == stored(tmp_path / "calm").keys()
    assert rows(folder) == rows(tmp_path / "calm")
    assert all(rows(folder).values())
    assert outcome(load(folder / "results.json")) == outcome(
        load(tmp_path / "calm" / "results.json")
    )
