"""Workers: killed in the middle, asked from threads, left behind by a parent that was killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import child
import pytest

from potstill import verifiers
from potstill.records import Problem
from potstill.traces import each
from potstill.verifiers import regex
from potstill.verifiers.math import equality
from potstill.verifiers.workers import pool

SLOW = Problem("slow", "?", r"(a+)+b", "regex")  # backtracks for ever on a row of a
SCHEMA = "CREATE TABLE t (a); INSERT INTO t VALUES (1), (2);"
PROC = Path("/proc")


def children(pid: int) -> set[int]:
    """The living child processes of a process."""
    found = set()
    for stat in PROC.glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it ended while we looked
        if int(fields[1]) == pid and fields[0] != "Z":
            found.add(int(stat.parent.name))
    return found


def state(pid: int) -> str:
    """The state letter of a process; "" where it is gone."""
    try:
        return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


needs_proc = pytest.mark.skipif(not PROC.is_dir(), reason="looks at /proc")


def test_items_of_all_kinds_go_to_workers_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, int]] = []
    ask = pool.ask

    def counting(
        operation: str, tasks: list[tuple[str, ...]], *, limit_s: float
    ) -> list[tuple[str, object]]:
        asked.append((operation, len(tasks)))
        return ask(operation, tasks, limit_s=limit_s)

    monkeypatch.setattr(pool, "ask", counting)
    items = [(Problem("r", "?", r"\d+", "regex"), f"<answer>{n % 5}</answer>") for n in range(20)]
    items += [
        (
            Problem("s", "?", "SELECT sum(a) FROM t", "table", table=SCHEMA),
            f"```sql\nSELECT {n}\n```",
        )
        for n in (3, 4)
    ]
    items += [(Problem("m", "?", "x^2+2x+1", "math"), "\\boxed{(x+1)^2}")] * 3
    found = verifiers.judge(items)
    assert [v.status for v in found] == ["right"] * 21 + ["wrong"] + ["right"] * 3
    assert asked == [("regex", 5), ("table", 2), ("math", 1)], "one call a kind, equal tasks once"


@pytest.mark.slow
def test_time_limits_hold_in_the_threads_of_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(regex, "LIMIT_S", 0.3)
    seen: list[tuple[str, bool]] = []

    def one(traces: list[object]) -> list[object]:
        [verdict] = verifiers.judge([(SLOW, "a" * 60)])
        seen.append((verdict.reason, threading.current_thread() is threading.main_thread()))
        return traces

    from potstill.records import blank

    start = time.monotonic()
    each(one, [blank(Problem(f"p{n}", "?")) for n in range(6)])  # type: ignore[arg-type]
    assert set(seen) == {("matching did not finish within 0.3 s", False)}
    assert time.monotonic() - start < 20


@pytest.mark.slow
@needs_proc
def test_a_worker_killed_in_the_middle_loses_nothing() -> None:
    """Others than we may kill a worker: the kernel, for memory. All are killed once while 60 items are judged.

    Once, because an item whose worker dies twice is given up: a second kill could hit the same one.
    """
    stop, killed = threading.Event(), []

    def killer() -> None:
        while not stop.wait(0.05) and not killed:
            mine = [
                pid
                for pid in children(os.getpid())
                if b"worker.py" in (PROC / str(pid) / "cmdline").read_bytes()
            ]
            for pid in mine:
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)

    thread = threading.Thread(target=killer)
    thread.start()
    try:
        items = [
            (Problem("p", "?", f"{n}x+{n}", "math"), f"\\boxed{{{n}(x+1)}}") for n in range(2, 62)
        ]
        found = equality.judge_all(items)
    finally:
        stop.set()
        thread.join()
    assert killed
    assert [v.status for v in found] == ["right"] * 60
    assert all(state(pid) in ("", "Z") for pid in killed)


PARENT = """
import json, sys
from potstill.records import Problem
from potstill.verifiers import regex
from potstill.verifiers.workers import pool
regex.LIMIT_S = 1.0
workers = pool._thread_pool().submit(lambda: pool._worker_of_thread("regex").process.pid).result()
print(json.dumps(workers), flush=True)
if sys.argv[1] == "busy":
    regex.judge(Problem("s", "?", r"(a+)+b", "regex"), "a" * 60)
sys.stdin.read()
"""


@pytest.mark.slow
@needs_proc
@pytest.mark.parametrize(
    ("doing", "how"), [("idle", "kill"), ("busy", "kill"), ("idle", "end"), ("busy", "interrupt")]
)
def test_no_worker_outlives_its_parent(doing: str, how: str) -> None:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with child.started([sys.executable, "-c", PARENT, doing], deadline=60, **pipes) as parent:
        worker = json.loads(parent.stdout.readline())
        assert state(worker) not in ("", "Z")
        time.sleep(0.2)
        if how == "end":
            parent.stdin.close()
        else:
            parent.send_signal(signal.SIGKILL if how == "kill" else signal.SIGINT)
        parent.wait()
        deadline = time.monotonic() + 20
        while state(worker) not in ("", "Z") and time.monotonic() < deadline:
            time.sleep(0.05)
        assert state(worker) in ("", "Z")


@pytest.mark.slow
@needs_proc
def test_dead_workers_are_reaped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(regex, "LIMIT_S", 0.2)
    for n in range(3):
        regex.judge(SLOW, "a" * (60 + n))
    zombies = [p for p in PROC.glob("[0-9]*/stat") if _is_zombie_of(p, os.getpid())]
    assert not zombies


def _is_zombie_of(stat: Path, pid: int) -> bool:
    try:
        fields = stat.read_text().rpartition(")")[2].split()
    except OSError:
        return False
    return (
        fields[0] == "Z"
        and int(fields[1]) == pid
        and "python" in stat.read_text().partition(")")[0]
    )
