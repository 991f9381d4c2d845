"""Connecting to a cluster: what is refused, and that a cluster of our own ends with the process that started it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import child
import pytest

from potstill import extras
from potstill.cluster import connect
from potstill.errors import ConfigError

PROGRAM = """
import sys, time
from functools import partial
from cluster_workers import make_echo
from potstill.cluster.pool import ReplicaPool
for place, result in ReplicaPool(make_echo, replicas=1).map([1, ("sleep", 60.0)]):
    print("landed", flush=True)
"""


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "is_installed", lambda package: False)
    with pytest.raises(ConfigError, match=r"(?s)ray:world:student needs ray.*potstill\[ray\]"):
        connect.connect("ray:world:student")


def test_an_address_without_a_cluster_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "is_installed", lambda package: True)
    monkeypatch.setenv(connect.ADDRESS, "127.0.0.1:1")
    with pytest.raises(ConfigError, match=r"RAY_ADDRESS=127.0.0.1:1 can't be joined.*refused"):
        connect.connect()


@pytest.mark.slow
@pytest.mark.long  # it waits for a cluster to start and to end
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_nothing_stays_behind(number: signal.Signals, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="needs the extra potstill[ray]")
    command = [sys.executable, "-c", PROGRAM]
    with child.started(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "landed\n"
        assert processes_of(process.pid)
        process.send_signal(number)
        process.wait()
        for _ in range(600):  # after a kill Ray itself looks every now and then
            if not processes_of(process.pid):
                break
            time.sleep(0.1)
        assert not processes_of(process.pid)


def processes_of(session: int) -> list[str]:
    """The processes of a session, which was the program's own."""
    command = ["ps", "-o", "pid=,args=", "--sid", str(session)]
    listing = subprocess.run(command, check=False, capture_output=True, text=True)
    return [
        line for line in listing.stdout.splitlines() if not line.strip().startswith(str(session))
    ]
