"""One program against its tests, in sandboxes: how it ended, and what it printed or how its tests went.

Whole programs are compared out here, where the expected output never leaves us. For unit tests two sandboxes run side
by side, joined by one socket: the program's, and the tests' own. Neither can see the other's processes or files.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import IO, Any, NamedTuple

from potstill.verifiers.code import sandbox
from potstill.verifiers.code.inside.serve import MEMORY, SYNTAX
from potstill.verifiers.code.sandbox import Limits

_SIGKILL, _SIGXCPU = 9, 24
_GRACE_S = 5.0  # seconds that a program which hung up has to end
_VERDICT_BYTES = 100_000  # that the tests' side may report
_READ_BYTES = 1 << 16

Variants = Sequence[Sequence[str]]


class RunResult(NamedTuple):
    """How a program ended: its class ("pass" where nothing went wrong), the detail, and what it printed."""

    outcome: str
    detail: str
    output: bytes = b""


class _Output(NamedTuple):
    """What a program printed to its end, or the limit that it hit first."""

    stdout: bytes = b""
    stderr: bytes = b""
    limit: RunResult | None = None


def run_program(kind: str, variants: Variants, stdin: str, limits: Limits) -> RunResult:
    """Run a program on an input, and collect what it prints.

    Args:
        kind: the sandbox.
        variants: what to try to compile, best first.
        stdin: the program's standard input.
        limits: what it may use.
    """
    return _retry_start(lambda: _run_program(kind, variants, stdin, limits))


def run_unit_tests(
    kind: str, variants: Variants, tests: dict[str, Any], limits: Limits
) -> RunResult:
    """Run unit tests against a program, each in a sandbox of its own.

    Args:
        kind: the sandbox.
        variants: what to try to compile of the program, best first.
        tests: `prefix`, `tests` and `entry` for the tests' side.
        limits: what each side may use.
    """
    return _retry_start(lambda: _run_unit_tests(kind, variants, tests, limits))


def _retry_start(run: Callable[[], RunResult]) -> RunResult:
    """Once more where a sandbox did not start: that says nothing of the program."""
    result = run()
    return run() if result.outcome == "sandbox" else result


def _run_program(kind: str, variants: Variants, stdin: str, limits: Limits) -> RunResult:
    job_content = {"variants": variants, "limits": sandbox.limits_of_job(limits, kind)}
    with contextlib.ExitStack() as stack:
        job = stack.enter_context(sandbox.write_job(job_content))
        command = sandbox.sandbox_command(kind, "serve", "program", [job.fileno()], limits)
        input_file = stack.enter_context(_input_file(stdin))
        process = stack.enter_context(
            _start_process(kind, command, [job.fileno()], input_file, subprocess.PIPE)
        )
        begun = time.monotonic()
        output = _read_output(process, limits)
        if output.limit:
            return output.limit
        # Both pipes are closed. A program may close them and go on, so its end has a deadline too.
        seconds_left = begun + limits.wall - time.monotonic()
        status = _wait(process, max(_GRACE_S, seconds_left))
        if status is None:
            return _time_result(limits)
        if not _was_read(job):
            return RunResult("sandbox", _last_line(output.stderr))
    result = _result_of_status(status, time.monotonic() - begun, limits)
    detail = result.detail
    if result.outcome in ("runtime", "syntax"):
        detail = _last_line(output.stderr) or detail
    return RunResult(result.outcome, detail, output.stdout)


def _run_unit_tests(
    kind: str, variants: Variants, tests: dict[str, Any], limits: Limits
) -> RunResult:
    verdict_in, verdict_out = os.pipe()
    tests_socket, program_socket = socket.socketpair()
    with contextlib.ExitStack() as stack:
        verdict_pipe = stack.enter_context(open(verdict_in, "rb", buffering=0))
        # These are ours to close once both processes have inherited them.
        with tests_socket, program_socket, open(verdict_out, "wb", buffering=0):
            # The program's side, which answers calls, and the tests' side, which makes them.
            program_job = stack.enter_context(
                sandbox.write_job(
                    {"variants": variants, "limits": sandbox.limits_of_job(limits, kind)}
                )
            )
            tests_job = stack.enter_context(
                sandbox.write_job({**tests, "limits": sandbox.limits_of_job(limits, kind)})
            )
            fds = [program_job.fileno(), program_socket.fileno()]
            command = sandbox.sandbox_command(kind, "serve", "serve", fds, limits)
            program = stack.enter_context(
                _start_process(kind, command, fds, stdout=subprocess.PIPE)
            )
            fds = [tests_job.fileno(), tests_socket.fileno(), verdict_out]
            command = sandbox.sandbox_command(kind, "harness", "main", fds, limits)
            harness = stack.enter_context(_start_process(kind, command, fds))

        # The verdict ends it; what the program prints meanwhile only counts against its limit.
        begun = time.monotonic()
        verdict = _read_verdict(verdict_pipe, program, limits)
        if verdict and verdict.outcome == "lost":
            _wait(program, _GRACE_S)
        program_status, seconds = program.poll(), time.monotonic() - begun
        if verdict and verdict.outcome == "output":
            return verdict  # the program ran, even if its tests had not begun
        if not (_was_read(program_job) and _was_read(tests_job)):
            return RunResult("sandbox", "it did not start")
        if verdict is None:
            return _result_without_verdict(harness, seconds, limits)
    if verdict.outcome != "lost":
        return verdict
    ended = _result_of_status(program_status, seconds, limits)
    return RunResult("runtime", verdict.detail) if ended.outcome == "pass" else ended


def _result_without_verdict(
    harness: subprocess.Popen[bytes], seconds: float, limits: Limits
) -> RunResult:
    """The tests' side closed its pipe without a word, so it is ending."""
    status = _wait(harness, _GRACE_S)
    if status is None:
        return _time_result(limits)
    ended = _result_of_status(status, seconds, limits)
    outcome = "runtime" if ended.outcome == "pass" else ended.outcome
    return RunResult(outcome, f"its tests did not end: {ended.detail}")


def _wait(process: subprocess.Popen[bytes], seconds: float) -> int | None:
    """The exit status of a process; None where it has not ended in time."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        return process.wait(seconds)
    return None


@contextlib.contextmanager
def _start_process(
    kind: str,
    command: list[str],
    fds: Sequence[int],
    stdin: IO[bytes] | None = None,
    stdout: int = subprocess.DEVNULL,
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that does not outlive the block: ending it ends its process namespace."""
    with contextlib.ExitStack() as stack:
        folder = None
        if kind == sandbox.TRUSTED:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
        process = subprocess.Popen(
            command,
            stdin=stdin or subprocess.DEVNULL,
            stdout=stdout,
            stderr=stdout,
            pass_fds=fds,
            env={},
            cwd=folder,
            start_new_session=True,  # Ctrl-C is for us
        )
        with process:
            try:
                yield process
            finally:
                process.kill()


@contextlib.contextmanager
def _input_file(text: str) -> Iterator[IO[bytes]]:
    """The input as a nameless file that can only be read."""
    handle, path = tempfile.mkstemp()
    try:
        with open(handle, "wb") as file:
            file.write(text.encode("utf-8", "surrogatepass"))
        input_file = open(path, "rb")  # noqa: SIM115  closed below
    finally:
        os.unlink(path)
    with input_file:
        yield input_file


def _read_output(process: subprocess.Popen[bytes], limits: Limits) -> _Output:
    """Read standard output and error to their end, or until a limit is hit."""
    assert process.stdout and process.stderr
    printed = {"stdout": bytearray(), "stderr": bytearray()}
    deadline = time.monotonic() + limits.wall
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ, "stdout")
        selector.register(process.stderr, selectors.EVENT_READ, "stderr")
        while selector.get_map():
            seconds_left = deadline - time.monotonic()
            if seconds_left <= 0:
                return _Output(limit=_time_result(limits))
            for key, _ in selector.select(seconds_left):
                data = os.read(key.fd, _READ_BYTES)
                if not data:
                    selector.unregister(key.fileobj)
                    continue
                printed[key.data] += data
                if len(printed[key.data]) > limits.output:
                    return _Output(limit=_output_result(limits))
    return _Output(bytes(printed["stdout"]), bytes(printed["stderr"]))


def _read_verdict(
    pipe: IO[bytes], program: subprocess.Popen[bytes], limits: Limits
) -> RunResult | None:
    """Read what the tests' side says; None where it ended without a word. What the program prints is counted.

    The tests may take as long as the program may, and the program may print so much.
    """
    assert program.stdout and program.stderr
    data = b""
    printed = {"stdout": 0, "stderr": 0}
    deadline = time.monotonic() + limits.wall
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ, "verdict")
        selector.register(program.stdout, selectors.EVENT_READ, "stdout")
        selector.register(program.stderr, selectors.EVENT_READ, "stderr")
        pipe_is_open = True
        while pipe_is_open and len(data) < _VERDICT_BYTES:
            ready = selector.select(max(0.0, deadline - time.monotonic()))
            if not ready:
                return _time_result(limits)
            for key, _ in ready:
                part = os.read(key.fd, _READ_BYTES)
                if not part:
                    selector.unregister(key.fileobj)
                    pipe_is_open = pipe_is_open and key.data != "verdict"
                elif key.data == "verdict":
                    data += part
                else:
                    printed[key.data] += len(part)
            if max(printed.values()) > limits.output:
                return _output_result(limits)
            if time.monotonic() >= deadline:
                return _time_result(limits)
    try:
        outcome, detail = json.loads(data)
    except ValueError:
        return None
    return RunResult(str(outcome), str(detail))


def _time_result(limits: Limits) -> RunResult:
    return RunResult("time", f"more than {limits.wall:g} s on the clock")


def _output_result(limits: Limits) -> RunResult:
    return RunResult("output", f"prints more than {limits.output:,} bytes")


def _was_read(job: IO[bytes]) -> bool:
    """Whether somebody read the job: the file's position is shared with whoever inherited it."""
    return os.lseek(job.fileno(), 0, os.SEEK_CUR) > 0


def _result_of_status(status: int | None, seconds: float, limits: Limits) -> RunResult:
    """The class of an exit status. The clock tells whether SIGKILL came for time."""
    if status == 0:
        return RunResult("pass", "")
    if status == SYNTAX:
        return RunResult("syntax", "it does not compile")
    if status == MEMORY:
        return RunResult("memory", "MemoryError")
    if status is None:
        return RunResult("runtime", "the program ended before its tests did")
    # bwrap and enter.py exit with 128 and the signal's number.
    signal = -status if status < 0 else status - 128
    was_busy = seconds >= limits.seconds + 1  # where the hard limit is
    if signal == _SIGXCPU or (signal == _SIGKILL and was_busy):
        return RunResult("time", f"more than {limits.seconds} s of computing")
    if 0 < signal < 65:
        return RunResult("runtime", f"signal {signal}")
    return RunResult("runtime", f"exit status {status}")


def _last_line(stderr: bytes) -> str:
    """The last line of standard error, with spaces for what can't be printed."""
    lines = stderr.decode("utf-8", "replace").strip().splitlines()
    if not lines:
        return ""
    return "".join(c if c.isprintable() else " " for c in lines[-1][:200])
