"""The runs that a server shows: found at its start, and looked for again while somebody looks at it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import final

from potstill.viewer.reader import RunReader
from potstill.viewer.run_folders import RunFolder, find_runs, list_run_folders, name_folders

MIN_SECONDS = 2.0  # between two searches
MAX_SHARE = 0.01  # of the time that may go into searching


@final
class RunCatalogue:
    """Runs below some paths, with a reader for each.

    Args:
        paths: runs, and folders of runs.
        make_reader: opens a run.
        now: a clock in seconds.

    Raises:
        InputError: there is no run yet.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        make_reader: Callable[[RunFolder], RunReader],
        *,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._paths, self._make_reader, self._now = paths, make_reader, now
        self._lock = threading.Lock()
        self._next_search = 0.0
        # One object for the life of the server: the indexer and the answers read from it.
        self.readers: dict[str, RunReader] = {}
        for name, run in find_runs(paths).items():
            self.readers[name] = make_reader(run)

    def refresh(self) -> None:
        """Take in runs that were begun since, and let go of those whose folder is gone."""
        with self._lock:
            began = self._now()
            if began < self._next_search:
                return
            folders = list_run_folders(self._paths)
            # Runs that were begun since; the names of those that are there stay, whatever theirs are.
            open_folders = {reader.folder for reader in self.readers.values()}
            new_folders = [folder for folder in folders if folder not in open_folders]
            for name, run in name_folders(new_folders, self.readers).items():
                self.readers[name] = self._make_reader(run)
            # And those whose folder was deleted or moved.
            for name, reader in list(self.readers.items()):
                if reader.folder not in folders:
                    del self.readers[name]
            # A tree of thousands of runs is searched less often.
            ended = self._now()
            self._next_search = ended + max(MIN_SECONDS, (ended - began) / MAX_SHARE)
