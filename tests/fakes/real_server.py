"""A real server in a process of its own: `transformers serve` on loopback, knowing nothing of this machine."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import child

PATIENCE = 180.0  # seconds until it must have loaded its model
COMMAND = "from transformers.cli.transformers import main; main()"


def installed() -> bool:
    """Whether `transformers serve` has what it needs."""
    try:
        from transformers.utils.import_utils import is_serve_available
    except ImportError:
        return False
    return bool(is_serve_available())


@contextmanager
def real_server(checkpoint: Path | str = "") -> Iterator[str]:
    """The URL of a server that answers for one checkpoint, or for any that a call names."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as home:
        keep = {
            name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ
        }
        clean = {"HOME": home, "HF_HOME": home, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
        flags = [
            "--port",
            str(port),
            "--host",
            "127.0.0.1",
            "--device",
            "cpu",
            "--dtype",
            "float32",
        ]
        command = [
            sys.executable,
            "-c",
            COMMAND,
            "serve",
            *([str(checkpoint)] if checkpoint else []),
            *flags,
        ]
        log = Path(home) / "log"
        with (
            log.open("wb") as out,
            child.started(
                command, deadline=900, env=keep | clean, stdout=out, stderr=out
            ) as server,
        ):
            _wait(f"http://127.0.0.1:{port}/health", server, log)
            yield f"http://127.0.0.1:{port}/v1"


def _wait(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            assert server.poll() is None, log.read_text()
            time.sleep(0.1)
    raise AssertionError(f"no answer within {PATIENCE} s: {log.read_text()}")
