"""How wide the terminal is: apart from `show`, so that the list of commands needs nothing else of it."""

from __future__ import annotations

import os
from typing import TextIO

MIN_WIDTH = 40  # of a terminal that things are made to fit


def terminal_width(stream: TextIO) -> int:
    """The columns that lines should fit; 0 where nobody looks: a file or a pipe, unless COLUMNS says how wide it is."""
    if not stream.isatty() and not os.environ.get("COLUMNS"):
        return 0
    import shutil  # takes longer to load than the list of commands takes to print

    return max(MIN_WIDTH, shutil.get_terminal_size().columns)
