"""`potstill view` as a process: what it prints, that it takes the next free port, and that it ends with its run."""

from __future__ import annotations

import json
import queue
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import child
import pytest
from viewed_run import make_run

from potstill.cli.viewing import viewing
from potstill.store import Store

pytestmark = pytest.mark.slow


def start(folder: Path, cache: Path, *options: str) -> list[str]:
    return [
        sys.executable,
        "-m",
        "potstill",
        "view",
        str(folder),
        "--json",
        "--index",
        str(cache),
        *options,
    ]


def test_it_serves_with_its_token_on_the_next_free_port(tmp_path: Path):
    folder = make_run(tmp_path / "runs" / "one")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        command = start(tmp_path / "runs", tmp_path / "cache", "--port", str(port))
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        with child.started(command, text=True, **pipes) as viewer:
            address = json.loads(viewer.stdout.readline())
            url, _, _ = address["url"].partition("#")
            assert url != f"http://127.0.0.1:{port}/" and address["pid"] == viewer.pid
            request = urllib.request.Request(f"{url}api/runs")
            request.add_header("Authorization", f"Bearer {address['token']}")
            with urllib.request.urlopen(request, timeout=30) as answer:
                [run] = json.load(answer)["runs"]
            viewer.send_signal(signal.SIGINT)
            logged, complaints = viewer.communicate()
            assert viewer.returncode == 0
    # After the one line for who started it, the token is written nowhere.
    assert address["token"] not in logged + complaints
    assert run["name"] == folder.name


def test_a_socket_is_for_its_owner_alone(tmp_path: Path):
    path = tmp_path / "view.sock"
    command = start(make_run(tmp_path / "run"), tmp_path / "cache", "--socket", str(path))
    with child.started(command, stdout=subprocess.PIPE, text=True) as viewer:
        assert json.loads(viewer.stdout.readline())["token"]
        assert path.stat().st_mode & 0o777 == 0o600
        viewer.terminate()
        assert viewer.wait(30) == 0
    assert not path.exists()


def test_a_viewer_beside_a_run_is_announced_and_ends_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("BROWSER", "true")
    monkeypatch.setenv("POTSTILL_CACHE", str(tmp_path / "cache"))
    announced: queue.Queue[str] = queue.Queue()
    with viewing(make_run(tmp_path / "run"), announced.put):
        line = announced.get(timeout=60)
        address = line.split()[-1]
    assert line.startswith("view     http://127.0.0.1:")
    with pytest.raises(OSError):
        urllib.request.urlopen(address.partition("#")[0], timeout=5)


def test_no_run_is_said(tmp_path: Path, potstill):
    done = potstill("view", str(tmp_path))
    assert done.code == 2 and "no run in" in done.err


def test_marked_rows_are_exported_alone(tmp_path: Path, potstill):
    folder = make_run(tmp_path / "run")
    with Store.open(folder, readonly=True) as store:
        [stage] = store.history.stages("orion")
    note = {"trace": stage.row_ids[1], "mark": "good"}
    (folder / "notes.jsonl").write_text(json.dumps(note) + "\n")
    done = potstill("export", folder, "--arm", "orion", "--format", "trl", "--marked", "good")
    assert done.code == 0 and len(done.out.splitlines()) == 1
    assert (
        potstill("export", folder, "--arm", "orion", "--format", "trl", "--marked", "bad").code == 2
    )
