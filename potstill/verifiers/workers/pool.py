"""Worker processes that can be killed: one item's hang, crash or memory hunger costs that item and nothing else.

Each of at most as many threads as there are cores keeps one `worker` process and reuses it. A worker is started as a
plain child (`python worker.py`, with this process's import path), so it needs no importable `__main__`, works from any
thread, and shares no locks with us.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import IO, Any, TypeAlias

from potstill.errors import ConfigError
from potstill.records import Problem, Verdict

Item: TypeAlias = tuple[Problem, str]
Task: TypeAlias = tuple[str, ...]
Reply: TypeAlias = tuple[str, Any]
"""("done", result), ("failed", reason) or ("killed", reason)."""

# Seconds for a worker to start and import; far more than it needs on a busy machine.
START_S = 120.0
MAX_STARTS = 5  # a worker may be killed while it starts, by the kernel for memory or by hand
WALL_FACTOR = (
    10.0  # a worker gets this many times its computing time in wall time before it is killed
)
CHUNK = 16  # items a thread takes at once: a small call does not start a worker on every core
EXIT_S = 30.0  # seconds for a worker that closed its pipe to be gone, before it is killed
_WORKER_FILE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "worker.py")
# The folder that holds the package, however it is installed.
_PACKAGE_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(_WORKER_FILE))))
_PACKAGE_OF_OPERATION = {"math": "math-verify", "gym": "reasoning-gym"}

_most_cores = 0  # 0 is all that there are
_threads: ThreadPoolExecutor | None = None
_threads_lock = threading.Lock()
_thread_state = threading.local()


def ask(operation: str, tasks: Sequence[Task], *, limit_s: float) -> list[Reply]:
    """Run an operation of `worker` on each task, in parallel.

    Args:
        operation: which one: "math", "regex", "gym", "table" or "query".
        tasks: the arguments of each call.
        limit_s: seconds of computing time an item may take before its worker dies.

    Returns:
        A reply for each task, in order.

    Raises:
        ConfigError: a package that the operation needs is missing, or its worker can't start.
    """

    def run_chunk(chunk: Sequence[Task]) -> list[Reply]:
        return [_run_task(operation, task, limit_s) for task in chunk]

    # A thread takes a chunk, so that a small call does not start a worker on every core.
    chunks = [tasks[start : start + CHUNK] for start in range(0, len(tasks), CHUNK)]
    replies: list[Reply] = []
    for replies_of_chunk in _thread_pool().map(run_chunk, chunks):
        replies += replies_of_chunk
    return replies


def judge_all(
    operation: str,
    items: Sequence[Item],
    prepare: Callable[[Problem, str], Verdict | Task],
    finish_reason: Callable[[Item, Task, Reply], Verdict],
    *,
    limit_s: float,
) -> list[Verdict]:
    """Judge items with an operation of `worker`; equal tasks are done once.

    Args:
        operation: as for `ask`.
        items: a problem and a text, each.
        prepare: gives a verdict where no worker is needed, else the worker's task.
        finish_reason: reads a worker's reply.
        limit_s: seconds of computing time an item may take.
    """
    # Equal tasks are one, and their reply is read once for each item.
    prepared = [prepare(problem, text) for problem, text in items]
    tasks = list(dict.fromkeys(task for task in prepared if not isinstance(task, Verdict)))
    replies: dict[Task, Reply] = {}
    if tasks:
        replies = dict(zip(tasks, ask(operation, tasks, limit_s=limit_s), strict=True))
    verdicts: list[Verdict] = []
    for item, task in zip(items, prepared, strict=True):
        if isinstance(task, Verdict):
            verdicts.append(task)
        else:
            verdicts.append(finish_reason(item, task, replies[task]))
    return verdicts


def use_cores(count: int) -> None:
    """Use at most so many cores; to be called before the first task."""
    global _most_cores  # noqa: PLW0603  of the process, as its pool is
    _most_cores = max(1, count)


def core_count() -> int:
    """Return how many cores this process may use."""
    available = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        available = len(os.sched_getaffinity(0))
    return min(available, _most_cores or available)


def _thread_pool() -> ThreadPoolExecutor:
    global _threads  # noqa: PLW0603  one pool a process, made when first needed
    with _threads_lock:
        if _threads is None:
            _threads = ThreadPoolExecutor(core_count(), thread_name_prefix="verifier")
        return _threads


def _forget_threads() -> None:
    """After a fork: the child has none of the threads, and must not talk to the parent's workers."""
    global _threads, _threads_lock
    _threads, _threads_lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_threads)


def _run_task(operation: str, task: Task, limit_s: float) -> Reply:
    """One item on this thread's worker; a crash is tried once more, as something else may have killed the worker."""
    reason = ""
    for _ in range(2):
        worker = _worker_of_thread(operation)
        reply = worker.call(operation, limit_s, list(task), wall_s=limit_s * WALL_FACTOR)
        if reply is not None:
            return reply[0], reply[1]
        was_late, reason = worker.kill(limit_s)
        if was_late:
            break
    return "killed", reason


def _worker_of_thread(operation: str) -> _Worker:
    """This thread's live worker, with the operation imported; one that is killed while it starts is started again."""
    reason = ""
    for _ in range(MAX_STARTS):
        worker: _Worker | None = getattr(_thread_state, "worker", None)
        if worker is None or worker.process.poll() is not None:
            worker = _thread_state.worker = _Worker()
        reason = "" if operation in worker.loaded else worker.load(operation)
        if not reason:
            return worker
    raise _start_error(operation, reason)


def _start_error(operation: str, reason: str) -> ConfigError:
    package = _PACKAGE_OF_OPERATION.get(operation, "potstill")
    return ConfigError(
        f"the worker process of the {operation} verifier can't start: {reason}",
        expected=f"{package}, importable by {sys.executable}",
        fix=f"pip install {package}",
    )


class _Worker:
    """One child process and the pipe to it."""

    def __init__(self) -> None:
        """Start the child; it imports nothing heavy until `load`."""
        import_path = [os.path.abspath(path) for path in sys.path]
        self.process = subprocess.Popen(
            # -S: the import path comes as arguments.
            [sys.executable, "-I", "-S", _WORKER_FILE, *import_path, _PACKAGE_ROOT],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            # Ctrl-C is for us; a worker that it killed would look like a crash.
            start_new_session=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )
        assert self.process.stdout is not None
        self.reply_fd = self.process.stdout.fileno()
        self.loaded: set[str] = set()
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.reply_fd, selectors.EVENT_READ)
        self.buffer = b""

    def load(self, operation: str) -> str:
        """Have the child import what an operation needs; return why it died of that, or "".

        Raises:
            ConfigError: a package is missing, which the user must install.
        """
        reply = self.call(operation, 0, None, wall_s=START_S)
        if reply is None:
            _, reason = self.kill(START_S)
            return reason
        if reply[0] != "done":
            raise _start_error(operation, reply[1])
        self.loaded.add(operation)
        return ""

    def call(
        self, operation: str, limit_s: float, arguments: list[str] | None, *, wall_s: float
    ) -> list[Any] | None:
        """Write one task and read its reply; None where the child died or the wall time is up."""
        try:
            self.send(operation, limit_s, arguments)
            return self.receive(wall_s)
        except BrokenPipeError:
            return None

    def send(self, operation: str, limit_s: float, arguments: list[str] | None) -> None:
        """Write one task."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([operation, limit_s, arguments]).encode() + b"\n")
        self.process.stdin.flush()

    def receive(self, wall_s: float) -> list[Any] | None:
        """Read one reply; None where the child died or the wall time is up."""
        while b"\n" not in self.buffer:
            if not self.selector.select(wall_s):
                return None
            data = os.read(self.reply_fd, 1 << 16)
            if not data:
                # It closed its end, so it is dying; its exit status tells why.
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.process.wait(EXIT_S)
                return None
            self.buffer += data
        line, _, self.buffer = self.buffer.partition(b"\n")
        reply: list[Any] = json.loads(line)
        return reply

    def kill(self, limit_s: float = 0.0) -> tuple[bool, str]:
        """End the child for good; return whether its time was up, and how it ended."""
        status_before = self.process.poll()
        self.process.kill()
        status = self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe:
                _close(pipe)
        self.selector.close()
        if getattr(_thread_state, "worker", None) is self:
            _thread_state.worker = None
        if status_before is None or status == -signal.SIGPROF:
            return True, f"did not finish within {limit_s:g} s"
        return False, f"crashed its worker process (exit status {status})"


def _close(pipe: IO[bytes]) -> None:
    try:
        pipe.close()
    except BrokenPipeError:
        return  # an unsent task was in its buffer; the child is gone
