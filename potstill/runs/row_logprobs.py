"""`logprobs.parquet` beside a student: how likely each token of its rows was before its training, and is after it.

One row for each of `tokens.parquet`, in the same order; of the first rows, where not all were scored. The parts of a
scoring that was stopped lie in the folder `scoring` until the next one ends.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, final

from potstill.data.atomic_write import write_text, writing
from potstill.errors import InputError

LOGPROBS_FILE = "logprobs.parquet"
SCORING_FOLDER = "scoring"
MODELS_FILE = "models.json"  # in that folder: which models the parts are of
METADATA_KEY = b"potstill.logprobs"
PART_ROWS = 64  # rows that are scored, and kept, together

Moment = Literal["before", "after"]
MOMENTS: tuple[Moment, Moment] = ("before", "after")


class ScoredModels(NamedTuple):
    """The content ids of the checkpoint that a training began with, and of the student that it made."""

    before: str
    after: str


@dataclass(frozen=True, slots=True)
class RowRange:
    """Rows of a file that are scored together: from `start` up to `stop`, all in one row group."""

    group: int
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


class RowScores(NamedTuple):
    """Of each token of a row its log-probability and its rank; None of the first one, and of a row that is too long."""

    logprobs: Sequence[float | None]
    ranks: Sequence[int | None]


@contextmanager
def open_parquet(path: Path, fix: str) -> Iterator[Any]:
    """An open Parquet file; whatever is wrong with it is an InputError that names what mends it."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            yield file
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise InputError(
            f"{path.name} of {path.parent.name} can't be read: {str(error).splitlines()[0]}",
            fix=fix,
        ) from error


@final
class LogprobsFolder:
    """The files of a scoring, beside a student; a process that is killed loses the part that it was computing.

    Args:
        student_folder: where the student lies.
        models: whose scores these are; files of other models are begun anew.
    """

    def __init__(self, student_folder: Path, models: ScoredModels) -> None:
        self._models = models
        self.path = student_folder / LOGPROBS_FILE
        self._parts = student_folder / SCORING_FOLDER

    def begin(self) -> None:
        """Make the folder of parts; those of other models are thrown away."""
        models_file = self._parts / MODELS_FILE
        content = json.dumps(self._models._asdict())
        if models_file.is_file() and models_file.read_text("utf-8") != content:
            # Not the folder: it has the lock of this process.
            for part in self._parts.glob("*.parquet"):
                part.unlink()
        write_text(models_file, content)

    def count_finished(self) -> int:
        """How many rows the finished file has, of these models."""
        if not self.path.is_file():
            return 0
        with open_parquet(self.path, f"delete {self.path}") as file:
            metadata = json.loads((file.schema_arrow.metadata or {}).get(METADATA_KEY, b"{}"))
            return int(file.metadata.num_rows) if metadata == self._models._asdict() else 0

    def has_part(self, moment: Moment, rows: RowRange) -> bool:
        """Whether these rows were scored by an earlier call that was stopped."""
        path = self._part_path(moment, rows)
        if not path.is_file():
            return False
        with open_parquet(path, f"delete {path}") as file:
            return int(file.metadata.num_rows) == len(rows)

    def write_part(self, moment: Moment, rows: RowRange, scores: Sequence[RowScores]) -> None:
        """Keep the scores of some rows, whole or not at all."""
        import pyarrow as pa
        from pyarrow import parquet

        columns = {
            "logprobs": pa.array([row.logprobs for row in scores], pa.list_(pa.float32())),
            "ranks": pa.array([row.ranks for row in scores], pa.list_(pa.int32())),
        }
        with writing(self._part_path(moment, rows)) as file:
            parquet.write_table(pa.table(columns), file)

    def join(self, tokens_path: Path, parts: Sequence[RowRange], finished: int) -> None:
        """Write the file from what it had and the parts of both moments, then delete the parts.

        Args:
            tokens_path: names the rows.
            parts: all in order; without any the file stays as it is.
            finished: rows that the file has already.
        """
        if parts or not finished:
            self._write_file(tokens_path, parts, finished)
        shutil.rmtree(self._parts)

    def _write_file(self, tokens_path: Path, parts: Sequence[RowRange], finished: int) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        schema = pa.schema(
            [("trace", pa.string()), ("side", pa.string())]
            + [(moment, pa.list_(pa.float32())) for moment in MOMENTS]
            + [(f"{moment}_ranks", pa.list_(pa.int32())) for moment in MOMENTS],
            metadata={METADATA_KEY: json.dumps(self._models._asdict())},
        )
        with (
            writing(self.path) as file,
            parquet.ParquetWriter(file, schema, compression="zstd") as out,
        ):
            if finished:
                with open_parquet(self.path, f"delete {self.path}") as old:
                    for group in range(old.num_row_groups):
                        out.write_table(old.read_row_group(group).cast(schema))
            for rows in parts:
                names = read_rows(tokens_path, rows, ["trace", "side"])
                columns = {"trace": names.column("trace"), "side": names.column("side")}
                for moment in MOMENTS:
                    table = parquet.read_table(self._part_path(moment, rows))
                    columns[moment] = table.column("logprobs")
                    columns[f"{moment}_ranks"] = table.column("ranks")
                out.write_table(pa.table(columns).select(schema.names).cast(schema))

    def _part_path(self, moment: Moment, rows: RowRange) -> Path:
        return self._parts / f"{moment}-{rows.start:08d}.parquet"


def plan_parts(tokens_path: Path, first: int, stop: int) -> list[RowRange]:
    """The parts in which the rows of `tokens.parquet` from `first` up to `stop` are scored, each within a row group."""
    parts: list[RowRange] = []
    with open_parquet(tokens_path, "train the student again") as file:
        group_start = 0
        for group in range(file.num_row_groups):
            group_stop = group_start + file.metadata.row_group(group).num_rows
            end = min(group_stop, stop)
            for start in range(max(group_start, first), end, PART_ROWS):
                parts.append(RowRange(group, start, min(start + PART_ROWS, end)))
            group_start = group_stop
    return parts


def read_rows(path: Path, rows: RowRange, columns: Sequence[str]) -> Any:
    """Some rows of `tokens.parquet` as a table."""
    with open_parquet(path, "train the student again") as file:
        group_start = sum(file.metadata.row_group(group).num_rows for group in range(rows.group))
        table = file.read_row_group(rows.group, columns=list(columns))
        return table.slice(rows.start - group_start, len(rows))


def scored_tables(path: Path, tokens_path: Path) -> Iterator[tuple[Any, Any]]:
    """The scores of some rows, and the weights of the same rows' tokens, until all that have scores were read."""
    with open_parquet(path, f"delete {path}") as file:
        start = 0
        for group in range(file.num_row_groups):
            scores = file.read_row_group(group)
            # A group of scores is a part, and so within one of the tokens.
            for rows in plan_parts(tokens_path, start, start + len(scores)):
                table = read_rows(tokens_path, rows, ["run_lengths", "run_weights"])
                yield scores.slice(rows.start - start, len(rows)), table
            start += len(scores)
