"""`potstill.curate`: the command `potstill curate` as a function."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from potstill.data.row_files import ShardFormat
from potstill.data.urls import location_of
from potstill.errors import ConfigError
from potstill.records import Progress, no_progress
from potstill.runs.curation import curate as steps
from potstill.runs.curation.settings import CurationSettings


def curate(
    inputs: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    work: str | Path | None = None,
    parquet: bool = False,
    shard_bytes: int = ShardFormat().shard_bytes,
    processes: int = 1,
    progress: Progress = no_progress,
    **settings: Any,
) -> dict[str, Any]:
    """Make one clean set of rows of files of recorded answers, however large; docs/curating.md says how.

    `ps.curate("answers.jsonl", "clean", verify=True, keep="right", decontaminate=("test.jsonl",))`.
    After a kill the same call goes on; once it has finished, it reads its report again.

    Args:
        inputs: a file of rows or hf:NAME, or several.
        out: a new folder for the rows, or its URL.
        work: a folder on this machine for what is done so far; inside `out` where it is not given.
        parquet: write Parquet, not JSON lines.
        shard_bytes: of a file's rows, at most.
        processes: that check rows at once; with more than one a script needs `if __name__ == "__main__":`.
        progress: called with a step, and how far it is.
        settings: the fields of `CurationSettings`.

    Returns:
        The report: inputs, the counts of each step, rows and files.

    Raises:
        ConfigError: a setting that there is not, or that can't be.
        InputError: an input that can't be read.
    """
    names = [field.name for field in dataclasses.fields(CurationSettings) if field.name != "inputs"]
    for name in settings:
        if name not in names:
            raise ConfigError(f"curate has no setting {name!r}", available=names, wanted=name)
    several = [inputs] if isinstance(inputs, str | Path) else inputs
    location = location_of(str(out))
    return steps.curate(
        CurationSettings(tuple(map(str, several)), **settings),
        location,
        work_path=steps.work_folder_for(location, None if work is None else Path(work)),
        form=ShardFormat(suffix=".parquet" if parquet else ".jsonl", shard_bytes=shard_bytes),
        processes=processes,
        progress=progress,
    )
