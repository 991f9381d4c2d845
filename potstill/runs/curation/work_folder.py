"""The folder in which a curation keeps what it has done, so that the same command goes on after a kill.

Each input's traces lie in shards of `SHARD_ROWS`; beside each shard lies what was found out about its rows. Every file
is written whole or not at all, and depends on the settings and the inputs alone: what is there need not be made again.

    command.json              the fingerprint of the command
    input-0/00000.jsonl …     traces in the order of the input
    input-0/import.json       how the input was read; written last
    rows/00000.jsonl …        a line a row: id, verdict, why it was dropped
    bands/00000.parquet …     keys of the rows' signatures
    near-duplicates.json      the near-duplicates among all rows
"""

from __future__ import annotations

import json
import shutil
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from potstill.data import atomic_write
from potstill.data.trace_files import LineFile
from potstill.data.trace_json import from_own_json
from potstill.errors import ConfigError
from potstill.records import Trace, Verdict

SHARD_ROWS = 20_000
_COMMAND_FILE = "command.json"


@dataclass(frozen=True, slots=True)
class Shard:
    """A stretch of the rows of one input.

    Args:
        number: among the shards of all inputs.
        input: the place of its input.
        start: the place of its first row among all rows.
        rows: how many it has.
        path: of its trace file.
    """

    number: int
    input: int
    start: int
    rows: int
    path: Path


class WorkFolder:
    """The files of a curation that is under way."""

    def __init__(self, path: Path, fingerprint: str) -> None:
        """Make the folder, or take up what the same command has left.

        Raises:
            ConfigError: another command works there, or the inputs have changed since.
        """
        self.path = path
        # Written first, so that whatever lies here later has a command that it belongs to.
        command_file = path / _COMMAND_FILE
        if command_file.is_file():
            stored = json.loads(command_file.read_text("utf-8"))["fingerprint"]
            if stored != fingerprint:
                raise ConfigError(
                    f"{path} holds the work of another command, or of inputs that have changed since",
                    expected="the same command over the same files, to go on",
                    fix=f"rm -r {path}, or another folder with --out",
                )
        elif path.is_dir() and any(path.iterdir()):
            raise ConfigError(f"{path} holds other files", expected="a folder of its own")
        else:
            atomic_write.write_text(command_file, json.dumps({"fingerprint": fingerprint}) + "\n")

    @staticmethod
    def is_begun(path: Path) -> bool:
        """Whether a command has begun its work in a folder."""
        return (path / _COMMAND_FILE).is_file()

    def input_folder(self, index: int) -> Path:
        """Where the traces of an input lie."""
        return self.path / f"input-{index}"

    def rows_file(self, shard: Shard) -> Path:
        """What was found out about each row of a shard."""
        return self.path / "rows" / f"{shard.number:05}.jsonl"

    def bands_file(self, shard: Shard) -> Path:
        """The keys of its rows' signatures."""
        return self.path / "bands" / f"{shard.number:05}.parquet"

    def remove(self) -> None:
        """Delete the folder."""
        shutil.rmtree(self.path)


def read_json_lines(path: Path) -> Iterator[Any]:
    """The values of a file of JSON lines that the curation wrote itself."""
    with path.open("rb") as file:
        for line in file:
            yield json.loads(line)


def read_shard(shard: Shard) -> Iterator[Trace]:
    """The traces of a shard."""
    with shard.path.open("rb") as file:
        for line in file:
            yield from_own_json(line)


def in_portions(traces: Iterator[Trace], size: int) -> Iterator[list[Trace]]:
    """The traces in lists of this size."""
    while portion := list(islice(traces, size)):
        yield portion


class ShardedTraces:
    """The traces of all shards by their place among all rows, read when they are asked for.

    Args:
        shards: in their order.
        work: the folder with what was found out about the rows.
    """

    def __init__(self, shards: Sequence[Shard], work: WorkFolder) -> None:
        """Open nothing yet."""
        self._starts = [shard.start for shard in shards]
        self._shards = shards
        self._work = work
        self._traces: dict[int, LineFile] = {}
        self._findings: dict[int, LineFile] = {}

    def __getitem__(self, row: int) -> Trace:
        """The trace as it was imported."""
        shard = self._shard_of(row)
        if shard.number not in self._traces:
            self._traces[shard.number] = LineFile(shard.path)
        return from_own_json(self._traces[shard.number][row - shard.start])

    def judged(self, row: int) -> Trace:
        """The trace with the verdict of the curation, where it was judged."""
        shard = self._shard_of(row)
        if shard.number not in self._findings:
            self._findings[shard.number] = LineFile(self._work.rows_file(shard))
        # The trace file is as it was imported; verdicts lie beside it.
        verdict = json.loads(self._findings[shard.number][row - shard.start])["verdict"]
        trace = self[row]
        return trace.annotate(verdict=Verdict(*verdict)) if verdict else trace

    def _shard_of(self, row: int) -> Shard:
        return self._shards[bisect_right(self._starts, row) - 1]
