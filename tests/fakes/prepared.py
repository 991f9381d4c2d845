"""Processes that begin with torch imported: forked from one that imported it once, where a fresh one takes seconds.

Each has its own memory, working directory, environment, pipes and process group, ends as Python ends, and is killed as
any other is. What it imports, and when, is not what a fresh process does: a test about imports starts a fresh one.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import runpy
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from typing import Any, NoReturn

IMPORTED = (
    "potstill.training.fit",
    "potstill.models.local.generate",
    "potstill.cli.run",
    "transformers.models.qwen3.modeling_qwen3",
)
NUMBER = struct.Struct("<i")
_started: list[subprocess.Popen[bytes]] = []  # what is forgotten is closed


class PreparedProcess(subprocess.Popen):
    """A `Popen` of `python -c CODE`, `python -m MODULE` or `python FILE` that is forked from the prepared process."""

    _connection: socket.socket

    def _execute_child(self, args: list[str], *others: Any) -> None:
        cwd, env = others[4], others[5]
        p2cread, _, _, c2pwrite, _, errwrite = others[9:15]
        order = {
            "arguments": args[1:],
            "cwd": str(cwd or os.getcwd()),
            "env": dict(os.environ if env is None else env),
        }
        files = [p2cread, c2pwrite, errwrite]
        for number in range(3):
            if files[number] == -1:
                files[number] = number
        self._connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._connection.connect(_server_path())
        socket.send_fds(self._connection, [json.dumps(order).encode() + b"\n"], files)
        self.pid = self._read_number()
        self._child_created = True
        self._close_pipe_fds(*others[9:15])

    def _read_number(self) -> int:
        message = self._connection.recv(NUMBER.size, socket.MSG_WAITALL)
        assert len(message) == NUMBER.size, "the prepared process has died"
        return NUMBER.unpack(message)[0]

    def _try_wait(self, wait_flags: int) -> tuple[int, int]:
        """The process's id and status; an id of 0 where it runs on and nobody waits."""
        if wait_flags & os.WNOHANG and not select.select([self._connection], [], [], 0)[0]:
            return 0, 0
        status = self._read_number()
        self._connection.close()
        return self.pid, status

    def _internal_poll(self, *_: Any, **__: Any) -> int | None:
        if self.returncode is None and self._child_created:
            pid, status = self._try_wait(os.WNOHANG)
            if pid:
                self._handle_exitstatus(status)
        return self.returncode


@functools.cache
def _server_path() -> str:
    """Where the prepared process of this one listens; the first call starts it, and it ends with this process."""
    # It ends when its standard input does, so when this process has died, however it died.
    command = [sys.executable, os.path.abspath(__file__)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    path = process.stdout.readline().strip()
    assert path, "the process to fork from does not start"
    _started.append(process)
    return path


def serve(folder: str) -> None:
    """Fork a process for each order that comes to a socket in the folder, until standard input ends."""
    for name in IMPORTED:
        importlib.import_module(name)
    # pyarrow's allocator has a thread of its own, and knows what a fork is.
    assert threading.active_count() == 1, "a process with threads is not to be forked"
    gc.freeze()  # a collection in a fork would copy all pages
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # its children need no one to wait for them
    path = os.path.join(folder, "socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(path)
        listener.listen()
        print(path, flush=True)
        while True:
            ready, _, _ = select.select([listener, sys.stdin], [], [])
            if sys.stdin in ready:
                return
            connection, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                supervise(connection)
            connection.close()


def supervise(connection: socket.socket) -> NoReturn:
    """Fork the ordered process into a session of its own, and say its id and how it ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    message, files, _, _ = socket.recv_fds(connection, 1 << 20, 3)
    while not message.endswith(b"\n"):
        message += connection.recv(1 << 20)
    order = json.loads(message)
    pid = os.fork()
    if pid == 0:
        connection.close()
        os.setsid()
        become(order, files)
    for file in (0, 1, *files):  # whoever reads from the process sees the end when the process ends
        os.close(file)
    with contextlib.suppress(ConnectionError):  # nobody waits any longer
        connection.sendall(NUMBER.pack(pid))
        connection.sendall(NUMBER.pack(os.waitpid(pid, 0)[1]))
    os._exit(0)


def become(order: dict[str, Any], files: list[int]) -> NoReturn:
    """Run the ordered program in this process, and end."""
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(order["cwd"])
    os.environ.clear()
    os.environ.update(order["env"])
    try:
        run_program(*order["arguments"])
        status = 0
    except SystemExit as exit:
        status = exit.code if isinstance(exit.code, int) else int(exit.code is not None)
        if exit.code != status:
            print(exit.code, file=sys.stderr)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        status = 1
    # What Python does at its end, but for the taking down of a million objects, which takes a second.
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def run_program(first: str, *rest: str) -> None:
    """What `python FIRST REST` runs: `-c CODE`, `-m MODULE` or FILE."""
    name, *arguments = rest if first in ("-c", "-m") else (first, *rest)
    home = {"-c": "", "-m": os.getcwd()}.get(first, os.path.dirname(os.path.abspath(name)))
    folders = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:1] = [home, *filter(None, folders)]
    sys.argv = ["-c" if first == "-c" else name, *arguments]
    if first == "-c":
        exec(compile(name, "<string>", "exec"), {"__name__": "__main__"})
    elif first == "-m":
        runpy.run_module(name, run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(name, run_name="__main__")


if __name__ == "__main__":
    # Not a TemporaryDirectory: each fork would take it away at its end.
    folder = tempfile.mkdtemp(prefix="prepared-")
    serve(folder)
    shutil.rmtree(folder)
