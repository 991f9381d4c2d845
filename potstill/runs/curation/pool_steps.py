"""What a curation decides of all rows together: near-duplicates, and the mix."""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from potstill.data import atomic_write
from potstill.errors import ConfigError
from potstill.records import Progress
from potstill.runs.curation.row_steps import ROW, band_column
from potstill.runs.curation.settings import CurationSettings
from potstill.runs.curation.work_folder import (
    Shard,
    ShardedTraces,
    WorkFolder,
    read_json_lines,
)
from potstill.traces import minhash
from potstill.traces.near_duplicates import compared_text, read_content

_DUPLICATES_FILE = "near-duplicates.jsonl"


def find_duplicates(
    shards: Sequence[Shard],
    settings: CurationSettings,
    traces: ShardedTraces,
    work: WorkFolder,
    progress: Progress,
) -> minhash.NearDuplicates:
    """The near-duplicates among the rows that passed their tests; from the folder where they are there already."""
    file = work.path / _DUPLICATES_FILE
    if file.is_file():
        return _read_duplicates(file)
    # Only texts of one bucket are read again, to be compared word by word.
    text_of = compared_text(settings.compared)

    def content_of(row: int) -> minhash.TextContent:
        text = text_of(traces[row])
        return read_content(text, settings.ngram, same_numbers=settings.same_numbers)

    duplicates = minhash.find_near_duplicates(
        sum(shard.rows for shard in shards),
        _band_reader(shards, work),
        content_of,
        settings.banding,
        progress,
    )
    _write_duplicates(duplicates, file)
    return duplicates


def _write_duplicates(duplicates: minhash.NearDuplicates, file: Path) -> None:
    with atomic_write.writing(file) as lines:
        lines.write(f"{json.dumps([duplicates.compared, duplicates.other_numbers])}\n".encode())
        for duplicate in duplicates:
            lines.write(f"{json.dumps(duplicate)}\n".encode())


def _read_duplicates(file: Path) -> minhash.NearDuplicates:
    lines = read_json_lines(file)
    compared, other_numbers = next(lines)
    duplicates = minhash.NearDuplicates(compared=compared, other_numbers=other_numbers)
    for values in lines:
        duplicates.add(minhash.NearDuplicate(*values))
    return duplicates


def _band_reader(
    shards: Sequence[Shard], work: WorkFolder
) -> Callable[[int], tuple[Sequence[int], Any]]:
    """What reads the keys of one band from all shards."""
    import pyarrow
    import pyarrow.parquet

    # Which rows take part is the same for all bands, and is read once.
    rows = array("q")
    for shard in shards:
        places = pyarrow.parquet.read_table(work.bands_file(shard), columns=[ROW])[ROW]
        for chunk in places.chunks:
            rows.extend(shard.start + place for place in chunk.to_pylist())

    def keys_of_band(band: int) -> tuple[Sequence[int], Any]:
        name = band_column(band)
        # One column of each file: the other bands stay on the disk.
        tables = [
            pyarrow.parquet.read_table(work.bands_file(shard), columns=[name]) for shard in shards
        ]
        return rows, pyarrow.concat_tables(tables)[name].combine_chunks()

    return keys_of_band


@dataclass(frozen=True, slots=True)
class Mix:
    """The rows of the output in their order, and those that the mix has no place for."""

    order: Sequence[int]
    surplus: Sequence[int]
    notes: tuple[str, ...]


def choose_mix(
    rows_by_input: Sequence[Sequence[int]],
    id_of: Callable[[int], str],
    settings: CurationSettings,
) -> Mix:
    """As many rows of each input as its share says, and all rows in their order.

    Of each input those are taken whose hash of seed and id comes first, so that more rows hold all of fewer. Without
    shares the rows of all inputs are one pool. No row is taken twice: the input that has too few for its share decides
    how many there are.
    """
    pools: list[Sequence[int]] = list(rows_by_input)
    if not settings.shares:
        merged = array("q")
        for rows in rows_by_input:
            merged.extend(rows)
        pools = [merged]
    # Chosen by chance, in the order of the input or by chance again.
    counts, notes = _counts_of_mix(pools, settings)
    order, surplus = array("q"), array("q")
    for pool, count in zip(pools, counts, strict=True):
        chosen = pool
        if count < len(pool):
            ranked = sort_by_chance(pool, id_of, settings.seed)
            chosen, left_out = ranked[:count], ranked[count:]
            surplus.extend(left_out)
        order.extend(chosen)
    if settings.shuffle or settings.shares:
        order = sort_by_chance(order, id_of, settings.seed)
    else:
        order = array("q", sorted(order))
    return Mix(order, array("q", sorted(surplus)), notes)


def _counts_of_mix(
    pools: Sequence[Sequence[int]], settings: CurationSettings
) -> tuple[list[int], tuple[str, ...]]:
    """How many rows of each pool the mix takes, and what a person should know of that."""
    total = sum(len(pool) for pool in pools)
    if not settings.shares:
        count = min(settings.rows or total, total)
        counts = [count]
    else:
        # Fractions, so that no row is lost to rounding: 0.1 is a tenth.
        shares = [Fraction(str(settings.shares[name])) for name in settings.inputs]
        whole = sum(shares)
        # So many rows that no input has to give more than it has.
        possible = min(len(pool) * whole / share for pool, share in zip(pools, shares, strict=True))
        total = int(possible)
        count = min(settings.rows or total, total)
        counts = [int(count * share / whole) for share in shares]
    if not sum(counts):
        raise ConfigError(
            "no row is left for the mix",
            expected="rows of each input",
            fix="other filters or shares",
        )
    if settings.rows > total:
        return counts, (f"{settings.rows:,} rows were asked for, and the inputs give {total:,}",)
    return counts, ()


def sort_by_chance(rows: Sequence[int], id_of: Callable[[int], str], seed: int) -> array[int]:
    """The rows in the order in which the operator `mix` has them: by SHA-256 of seed and id.

    Equal ids stay in the order of the input. Of the hash 64 bits count, which two of a million ids share with a
    probability of 3 in 100 million.
    """
    import pyarrow
    import pyarrow.compute

    keys = array("Q")
    for row in rows:
        hashed = hashlib.sha256(f"{seed}:{id_of(row)}".encode()).digest()
        keys.append(int.from_bytes(hashed[:8], "big"))
    places = pyarrow.compute.sort_indices(pyarrow.array(keys, pyarrow.uint64()))
    return array("q", _values_at(rows, places))


def _values_at(rows: Sequence[int], places: Any) -> Iterator[int]:
    for place in places:
        yield rows[place.as_py()]
