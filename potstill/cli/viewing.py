"""The viewer beside a run: a process of its own, started once the run folder is there, ended with the run."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from potstill.store import database

WAIT_SECONDS = 0.2  # between two looks for the run's store
END_SECONDS = 5.0  # that the viewer has to end


@contextmanager
def viewing(folder: Path, announce: Callable[[str], None]) -> Iterator[None]:
    """Show a run in the browser for the length of the block.

    Args:
        folder: of the run; it need not be there yet.
        announce: told where the page is, or why there is none.
    """
    is_over = threading.Event()
    thread = threading.Thread(
        target=_view, args=(folder, announce, is_over), name="potstill-view", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join(END_SECONDS + 1)


def _view(folder: Path, announce: Callable[[str], None], is_over: threading.Event) -> None:
    # A wrong recipe never makes a folder: then there is nothing to look at.
    while not (folder / database.FILE).exists():
        if is_over.wait(WAIT_SECONDS):
            return
    command = [sys.executable, "-m", "potstill", "view", str(folder), "--json", "--with-parent"]
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as viewer:  # type: ignore[call-overload]
        address = viewer.stdout.readline()
        if address.startswith("{"):
            url = json.loads(address)["url"]
            announce(f"view     {url}")
            webbrowser.open(url)
        else:
            announce(f"the viewer did not start: {viewer.stderr.read().strip()[-300:]}")
        is_over.wait()
        viewer.terminate()
        try:
            viewer.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            viewer.kill()
