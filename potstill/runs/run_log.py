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


def format_duration(seconds: float) -> str:
    """Seconds as people read them: `8 s`, `4:05`, `2:03:04`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, hours = whole // 60 % 60, whole // 3600
    if hours:
        return f"{hours}:{minutes:02}:{whole % 60:02}"
    return f"{minutes}:{whole % 60:02}"
