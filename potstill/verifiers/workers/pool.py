"""Worker processes that can be killed: one item's hang, crash or memory hunger costs that item and nothing else.

Each of at most as many threads as there are cores keeps one `worker` process and reuses it. A worker is started as a
plain child (`python worker.py`, with this process's import path), so it needs no importable `__main__`, works from any
thread, and shares no locks with us.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeAlias

from potstill.errors import ConfigError
from potstill.records import Problem, Verdict

Item: TypeAlias = tuple[Problem, str]
Task: TypeAlias = tuple[str, ...]

START_S = (
    120.0  # seconds for a worker to start and import; far more than it needs on a busy machine
)
STARTS = 5  # times that a worker may be killed while it starts, by the kernel for memory or by hand
PATIENCE = 10.0  # a worker gets this many times its computing time in wall time before it is killed
CHUNK = 16  # items a thread takes at once: a small call does not start a worker on every core
_START = os.path.join(os.path.dirname(os.path.abspath(__file__)), "worker.py")
_ROOT = os.path.dirname(
    os.path.dirname(os.path.dirname(os.path.dirname(_START)))
)  # of the package, however it is installed
_PACKAGES = {"math": "math-verify", "gym": "reasoning-gym"}

_threads: ThreadPoolExecutor | None = None
_starting = threading.Lock()
_mine = threading.local()


def ask(
    operation: str, tasks: Sequence[tuple[str, ...]], *, limit_s: float
) -> list[tuple[str, Any]]:
    """Run an operation of `worker` on each task, in parallel; ("done", result), ("failed", why) or ("killed", why).

    Args:
        limit_s: seconds of computing time an item may take before its worker dies.
    """
    chunks = [tasks[i : i + CHUNK] for i in range(0, len(tasks), CHUNK)]
    done = _executor().map(lambda chunk: [_one(operation, task, limit_s) for task in chunk], chunks)
    return [reply for replies in done for reply in replies]


def judge_all(
    operation: str,
    items: Sequence[Item],
    prepare: Callable[[Problem, str], Verdict | Task],
    finish: Callable[[Item, Task, tuple[str, Any]], Verdict],
    *,
    limit_s: float,
) -> list[Verdict]:
    """A verdict an item: `prepare` gives it or a worker's task, equal tasks are done once, `finish` reads the reply."""
    read = [prepare(problem, text) for problem, text in items]
    tasks = list(dict.fromkeys(task for task in read if not isinstance(task, Verdict)))
    replies = dict(zip(tasks, ask(operation, tasks, limit_s=limit_s) if tasks else (), strict=True))
    return [
        task if isinstance(task, Verdict) else finish(item, task, replies[task])
        for item, task in zip(items, read, strict=True)
    ]


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _executor() -> ThreadPoolExecutor:
    global _threads  # noqa: PLW0603  one pool a process, made when first needed
    with _starting:
        if _threads is None:
            _threads = ThreadPoolExecutor(cores(), thread_name_prefix="verifier")
        return _threads


def _forget() -> None:
    """After a fork: the child has none of the threads, and must not talk to the parent's workers."""
    global _threads, _starting
    _threads, _starting = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def _one(operation: str, task: tuple[str, ...], limit_s: float) -> tuple[str, Any]:
    """One item on this thread's worker; a crash is tried once more, as something else may have killed the worker."""
    reason = ""
    for _ in range(2):
        worker = _worker(operation)
        try:
            worker.send(operation, limit_s, list(task))
            reply = worker.receive(limit_s * PATIENCE)
        except BrokenPipeError:
            reply = None
        if reply is not None:
            return reply[0], reply[1]
        late, reason = worker.kill(limit_s)
        if late:
            break
    return "killed", reason


def _worker(operation: str) -> _Worker:
    """This thread's live worker, with the operation imported; one that is killed while it starts is started again."""
    why = ""
    for _ in range(STARTS):
        worker: _Worker | None = getattr(_mine, "worker", None)
        if worker is None or worker.process.poll() is not None:
            worker = _mine.worker = _Worker()
        why = "" if operation in worker.ready else worker.load(operation)
        if not why:
            return worker
    raise _unusable(operation, why)


def _unusable(operation: str, why: str) -> ConfigError:
    package = _PACKAGES.get(operation, "potstill")
    return ConfigError(
        f"the worker process of the {operation} verifier can't start: {why}",
        expected=f"{package}, importable by {sys.executable}",
        fix=f"pip install {package}",
    )


class _Worker:
    """One child process and the pipe to it."""

    def __init__(self) -> None:
        """Start the child; it imports nothing heavy until `load`."""
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-I",
                "-S",
                _START,
                *_absolute(sys.path),
                _ROOT,
            ],  # -S: the path is ours
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for us; a worker that it killed would look like a crash
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )
        assert self.process.stdout is not None
        self.fd = self.process.stdout.fileno()
        self.ready: set[str] = set()
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.fd, selectors.EVENT_READ)
        self.buffer = b""

    def load(self, operation: str) -> str:
        """Have the child import what an operation needs; why it died of that, or "".

        Raises:
            ConfigError: a package is missing, which is the user's to mend.
        """
        try:
            self.send(operation, 0, None)
            reply = self.receive(START_S)
        except BrokenPipeError:
            reply = None
        if reply is None:
            return self.kill(START_S)[1]
        if reply[0] != "done":
            raise _unusable(operation, reply[1])
        self.ready.add(operation)
        return ""

    def send(self, operation: str, limit_s: float, arguments: list[str] | None) -> None:
        """Write one task."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([operation, limit_s, arguments]).encode() + b"\n")
        self.process.stdin.flush()

    def receive(self, seconds: float) -> list[Any] | None:
        """Read one reply; None where the child died or the time is up."""
        while b"\n" not in self.buffer:
            if not self.selector.select(seconds):
                return None
            data = os.read(self.fd, 1 << 16)
            if not data:
                self.process.wait()  # it closed its end, so it is dying, and its status tells why
                return None
            self.buffer += data
        line, _, self.buffer = self.buffer.partition(b"\n")
        reply: list[Any] = json.loads(line)
        return reply

    def kill(self, limit_s: float = 0.0) -> tuple[bool, str]:
        """End the child for good; whether its time was up, and how it ended."""
        before = self.process.poll()
        self.process.kill()
        code = self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe:
                _close(pipe)
        self.selector.close()
        if getattr(_mine, "worker", None) is self:
            _mine.worker = None
        if before is None or code == -signal.SIGPROF:
            return True, f"did not finish within {limit_s:g} s"
        return False, f"crashed its worker process (exit status {code})"


def _close(pipe: Any) -> None:
    try:
        pipe.close()
    except BrokenPipeError:
        return  # an unsent task was in its buffer; the child is gone


def _absolute(paths: Iterable[str]) -> list[str]:
    return [os.path.abspath(path) for path in paths]
