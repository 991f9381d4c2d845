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

_KILL, _CPU = 9, 24  # signals
_ERRORS = 20_000  # bytes of standard error that are kept
_GRACE = 5.0  # seconds that a program which hung up has to end
_VERDICT = 100_000  # bytes that the tests' side may report

Variants = Sequence[Sequence[str]]


class Ended(NamedTuple):
    """How a program ended: its class ("pass" where nothing went wrong), why, and what it printed."""

    outcome: str
    why: str
    output: bytes = b""


def whole(kind: str, variants: Variants, stdin: str, limits: Limits) -> Ended:
    """Run a program on an input, and collect what it prints."""
    return _twice(lambda: _whole(kind, variants, stdin, limits))


def unit(kind: str, variants: Variants, tests: dict[str, Any], limits: Limits) -> Ended:
    """Run unit tests (prefix, tests, entry) against a program, each in a sandbox of its own."""
    return _twice(lambda: _unit(kind, variants, tests, limits))


def _twice(run: Callable[[], Ended]) -> Ended:
    """Once more where a sandbox did not start: that says nothing of the program."""
    ended = run()
    return run() if ended.outcome == "sandbox" else ended


def _whole(kind: str, variants: Variants, stdin: str, limits: Limits) -> Ended:
    with sandbox.job({"variants": variants, "limits": sandbox.limits_of(limits, kind)}) as job:
        command = sandbox.program(kind, "serve", "program", [job.fileno()], limits)
        with (
            _input(stdin) as given,
            _running(kind, command, [job.fileno()], given, subprocess.PIPE) as process,
        ):
            begun = time.monotonic()
            output, errors, over = _read_all(process, limits)
            if over:
                return Ended(*over)
            status = process.wait()
        if not _started(job):
            return Ended("sandbox", _last_line(errors))
    outcome, why = _ending(status, time.monotonic() - begun, limits)
    return Ended(outcome, (outcome in ("runtime", "syntax") and _last_line(errors)) or why, output)


def _unit(kind: str, variants: Variants, tests: dict[str, Any], limits: Limits) -> Ended:
    jobs = [{"variants": variants, "limits": sandbox.limits_of(limits, kind)}]
    jobs += [{**tests, "limits": sandbox.limits_of(limits, kind)}]
    verdict_in, verdict_out = os.pipe()
    ours, theirs = socket.socketpair()
    with contextlib.ExitStack() as stack:
        verdict = stack.enter_context(open(verdict_in, "rb", buffering=0))
        files = [stack.enter_context(sandbox.job(content)) for content in jobs]
        with (
            ours,
            theirs,
            open(verdict_out, "wb", buffering=0),
        ):  # ours to close once both have inherited them
            fds = [files[0].fileno(), theirs.fileno()]
            command = sandbox.program(kind, "serve", "serve", fds, limits)
            program = stack.enter_context(_running(kind, command, fds, out=subprocess.PIPE))
            fds = [files[1].fileno(), ours.fileno(), verdict_out]
            command = sandbox.program(kind, "harness", "main", fds, limits)
            harness = stack.enter_context(_running(kind, command, fds))
        begun = time.monotonic()
        found = _verdict(verdict, program, limits)
        if found and found[0] == "lost":
            with contextlib.suppress(subprocess.TimeoutExpired):
                program.wait(_GRACE)
        lost, taken = program.poll(), time.monotonic() - begun
        if found[:1] == ["output"]:
            return Ended(found[0], found[1])  # the program ran, even if its tests had not begun
        if not all(map(_started, files)):
            return Ended("sandbox", "it did not start")
        if not found:
            outcome, why = _ending(harness.wait(), taken, limits)
            return Ended(
                "runtime" if outcome == "pass" else outcome, f"its tests did not end: {why}"
            )
    if found[0] != "lost":
        return Ended(found[0], found[1])
    outcome, why = _ending(lost, taken, limits)
    return Ended("runtime", found[1]) if outcome == "pass" else Ended(outcome, why)


@contextlib.contextmanager
def _running(
    kind: str,
    command: list[str],
    fds: Sequence[int],
    given: IO[bytes] | None = None,
    out: int = subprocess.DEVNULL,
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that does not outlive the block: ending it ends its process namespace."""
    with (
        tempfile.TemporaryDirectory()
        if kind == sandbox.TRUSTED
        else contextlib.nullcontext() as folder
    ):
        process = subprocess.Popen(
            command,
            stdin=given or subprocess.DEVNULL,
            stdout=out,
            stderr=out,
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
def _input(text: str) -> Iterator[IO[bytes]]:
    """The input as a nameless file that can only be read."""
    handle, path = tempfile.mkstemp()
    try:
        with open(handle, "wb") as file:
            file.write(text.encode("utf-8", "surrogatepass"))
        given = open(path, "rb")  # noqa: SIM115  closed below
    finally:
        os.unlink(path)
    with given:
        yield given


def _read_all(
    process: subprocess.Popen[bytes], limits: Limits
) -> tuple[bytes, bytes, tuple[str, str] | None]:
    """Standard output and error to their end; or the limit that was hit first."""
    assert process.stdout and process.stderr
    kept: dict[str, list[bytes]] = {"out": [], "err": []}
    sizes = {"out": 0, "err": 0}
    most = {"out": limits.output, "err": limits.output}
    deadline = time.monotonic() + limits.wall
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ, "out")
        selector.register(process.stderr, selectors.EVENT_READ, "err")
        while selector.get_map():
            left = deadline - time.monotonic()
            if left <= 0:
                return b"", b"", ("time", f"more than {limits.wall:g} s on the clock")
            for key, _ in selector.select(left):
                data = os.read(key.fd, 1 << 16)
                if not data:
                    selector.unregister(key.fileobj)
                    continue
                sizes[key.data] += len(data)
                if sizes[key.data] > most[key.data]:
                    return b"", b"", _flood(limits)
                if key.data == "out" or sizes["err"] <= _ERRORS + len(data):
                    kept[key.data].append(data)
                else:
                    kept["err"] = [(kept["err"][-1] + data)[-_ERRORS:]]
    return b"".join(kept["out"]), b"".join(kept["err"]), None


def _late(limits: Limits) -> list[str]:
    return ["time", f"more than {limits.wall:g} s on the clock"]


def _flood(limits: Limits) -> tuple[str, str]:
    return "output", f"prints more than {limits.output:,} bytes"


def _verdict(pipe: IO[bytes], program: subprocess.Popen[bytes], limits: Limits) -> list[str]:
    """What the tests' side says: [outcome, why]; [] where it ended without a word. What the program prints is counted.

    The tests may take as long as the program may, and the program may print so much.
    """
    assert program.stdout and program.stderr
    data, printed, deadline = b"", {"out": 0, "err": 0}, time.monotonic() + limits.wall
    with selectors.DefaultSelector() as selector:
        for file, name in ((pipe, "verdict"), (program.stdout, "out"), (program.stderr, "err")):
            selector.register(file, selectors.EVENT_READ, name)
        while len(data) < _VERDICT and pipe in {key.fileobj for key in selector.get_map().values()}:
            ready = selector.select(max(0.0, deadline - time.monotonic()))
            if not ready:
                return _late(limits)
            for key, _ in ready:
                part = os.read(key.fd, 1 << 16)
                if not part:
                    selector.unregister(key.fileobj)
                elif key.data == "verdict":
                    data += part
                else:
                    printed[key.data] += len(part)
            if max(printed.values()) > limits.output or time.monotonic() >= deadline:
                return [*_flood(limits)] if max(printed.values()) > limits.output else _late(limits)
    try:
        outcome, why = json.loads(data)
    except ValueError:
        return []
    return [str(outcome), str(why)]


def _started(job: IO[bytes]) -> bool:
    """Whether somebody read the job: the file's position is shared with whoever inherited it."""
    return os.lseek(job.fileno(), 0, os.SEEK_CUR) > 0


def _ending(status: int | None, taken: float, limits: Limits) -> tuple[str, str]:
    """The class of an exit status. The clock tells whether SIGKILL came for time."""
    if status == 0:
        return "pass", ""
    if status in (SYNTAX, MEMORY):
        return ("syntax", "it does not compile") if status == SYNTAX else ("memory", "MemoryError")
    if status is None:
        return "runtime", "the program ended before its tests did"
    signal = -status if status < 0 else status - 128
    busy = taken >= limits.seconds + 1  # where the hard limit is
    if signal == _CPU or (signal == _KILL and busy):
        return "time", f"more than {limits.seconds} s of computing"
    return "runtime", f"signal {signal}" if 0 < signal < 65 else f"exit status {status}"


def _last_line(errors: bytes) -> str:
    lines = errors.decode("utf-8", "replace").strip().splitlines()
    return "".join(c if c.isprintable() else " " for c in lines[-1][:200]) if lines else ""
