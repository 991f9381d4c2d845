"""The folder on this machine for what can be fetched or made again."""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "POTSTILL_CACHE"


def cache_folder() -> Path:
    """`$POTSTILL_CACHE`, or `potstill` in the user's own cache folder; it need not be there yet."""
    if os.environ.get(VARIABLE):
        return Path(os.environ[VARIABLE]).expanduser().absolute()
    user_cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(user_cache).expanduser().absolute() / "potstill"
