"""`RUN/budget.json`: what the newest program in a run folder may spend, for who only looks at the folder.

It decides nothing: a program's limits are those that it was started with, and its file replaces the one before.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

from potstill.budget.amounts import Limit
from potstill.errors import StoreError
from potstill.runs import manifest
from potstill.runs.folder_layout import BUDGET_FILE


def write_limits(folder: Path, limits: Mapping[str, Limit]) -> None:
    """Write the limits by name (`amounts.limit_names`); without any there is no file."""
    path = folder / BUDGET_FILE
    if not limits:
        path.unlink(missing_ok=True)
        return
    by_name = {
        name: dataclasses.asdict(Limit(limit.tokens, limit.money)) for name, limit in limits.items()
    }
    manifest.write(path, {"limits": by_name})


def read_limits(folder: Path) -> dict[str, Limit]:
    """The limits by name; none where there is no file.

    Raises:
        StoreError: the file is no such file.
    """
    path = folder / BUDGET_FILE
    # A folder may come from anywhere: what is in it is checked as any file of a user's.
    try:
        document = json.loads(path.read_text("utf-8"))
        limits = {}
        for name, limit in document["limits"].items():
            limits[name] = Limit(int(limit["tokens"]), float(limit["money"]))
        return limits
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(
            f"{BUDGET_FILE} can't be read: {type(error).__name__}: {error}",
            fix=f"delete it: the next run in {folder} writes it anew",
        ) from error
