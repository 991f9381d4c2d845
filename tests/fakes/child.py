"""Child processes that can't hang a test: each has a deadline, takes Ctrl-C, and is dead and reaped at the end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from prepared import PreparedProcess

DEADLINE = 120.0  # seconds; far more than any of them needs on a busy machine


@contextmanager
def started(
    command: Sequence[object], *, deadline: float = DEADLINE, prepared: bool = False, **options: Any
) -> Iterator[subprocess.Popen[Any]]:
    """A running process, killed with all that it started when the block ends, or at its deadline, which is a failure.

    A test that reads from the process or waits for it needs no time-out of its own: the deadline ends both.
    A `prepared` one is this Python with torch imported already (`prepared.py`), for a test that is not about imports.
    """
    process = _start(command, options, prepared)
    timer = threading.Timer(deadline, _kill_group, [process])
    timer.start()
    try:
        yield process
        late = not timer.is_alive()
    finally:
        timer.cancel()
        _kill_group(process)
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe:
                with suppress(OSError):  # what was never flushed to a dead process
                    pipe.close()
        process.wait()
    assert not late, f"killed at its deadline of {deadline:g} s: {_line(command)}"


def run(
    command: Sequence[object],
    *,
    deadline: float = DEADLINE,
    check: bool = True,
    input: str | bytes | None = None,
    prepared: bool = False,
    **options: Any,
) -> subprocess.CompletedProcess[Any]:
    """`subprocess.run` with a deadline; what the process started is killed with it. Output is captured as text."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options}
    if input is not None:
        options["stdin"] = subprocess.PIPE
    with started(command, deadline=deadline, prepared=prepared, **options) as process:
        out, err = process.communicate(input)
    status = f"status {process.returncode}: {_line(command)}"
    assert not check or process.returncode == 0, f"{status}\n{err}"
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def reap(pid: int, deadline: float = DEADLINE) -> int:
    """The status of a forked process when it has ended; at the deadline it is killed, which is a failure."""
    until = time.monotonic() + deadline
    while time.monotonic() < until:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return status
        time.sleep(0.005)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    raise AssertionError(f"a forked process was still running after {deadline:g} s")


def _start(
    command: Sequence[object], options: dict[str, Any], prepared: bool
) -> subprocess.Popen[Any]:
    if prepared:
        assert str(command[0]) == sys.executable, "only this Python can be prepared"
        return PreparedProcess([str(word) for word in command], **options)
    # A process in the background of a shell ignores SIGINT, and hands that on to what it starts; a handler of ours is
    # not handed on, so with one the child begins with the system's default.
    words = [str(word) for word in command]
    if threading.current_thread() is not threading.main_thread():  # only there may a handler be set
        return subprocess.Popen(words, start_new_session=True, **options)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen(words, start_new_session=True, **options)
    finally:
        signal.signal(signal.SIGINT, before)


def _kill_group(process: subprocess.Popen[Any]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _line(command: Sequence[object]) -> str:
    return " ".join(str(word) for word in command)[:300]
