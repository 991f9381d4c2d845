"""`run.log`: what a run announced, with the time, one line each; every run of a folder adds to it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from potstill.escape import visible

FILE = "run.log"


@dataclass(frozen=True, slots=True)
class RunLog:
    """The log of a run folder."""

    folder: Path

    def write(self, text: str) -> None:
        """Add a line with the time in front; what follows a line break is set in."""
        stamp = time.strftime("%Y-%m-%d %H:%M:%S")
        line = visible(text).replace("\n", "\n" + " " * (len(stamp) + 2))
        with (self.folder / FILE).open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"{stamp}  {line}\n")
