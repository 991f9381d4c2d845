"""Lists and mappings whose items lie on the disk, for files of more rows than memory should hold.

They are scratch: made in a folder for one reading of a file, and gone with it. Items are pickled; nothing but what the
same process wrote is ever read.
"""

from __future__ import annotations

import pickle
import sqlite3
import tempfile
from array import array
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, final

T = TypeVar("T")


class Rows(Protocol[T]):
    """What is needed of a list of rows."""

    def append(self, item: T, /) -> None:
        """Add an item at the end."""
        ...

    def __getitem__(self, index: int, /) -> T: ...
    def __iter__(self) -> Iterator[T]: ...
    def __len__(self) -> int: ...


@dataclass(frozen=True)
class Storage:
    """Where a reader keeps rows and what it knows by key: in memory, or in scratch files."""

    new_rows: Callable[[], Rows[Any]] = list
    new_map: Callable[[], MutableMapping[str, Any]] = dict


IN_MEMORY = Storage()


@contextmanager
def on_disk(folder: Path | None = None) -> Iterator[Storage]:
    """A storage in scratch files of a folder, which go when the block ends; without a folder the system's own."""
    with tempfile.TemporaryDirectory(prefix="potstill-rows-", dir=folder) as scratch:
        opened: list[DiskRows[Any] | DiskMap] = []

        def new_rows() -> DiskRows[Any]:
            rows: DiskRows[Any] = DiskRows(Path(scratch) / f"rows-{len(opened)}")
            opened.append(rows)
            return rows

        def new_map() -> DiskMap:
            mapping = DiskMap(Path(scratch) / f"map-{len(opened)}")
            opened.append(mapping)
            return mapping

        try:
            yield Storage(new_rows, new_map)
        finally:
            for store in opened:
                store.close()


@final
class DiskRows(Generic[T]):
    """A list that can only grow; 8 bytes of memory an item."""

    def __init__(self, path: Path) -> None:
        """Begin empty."""
        self._file = path.open("w+b")
        self._offsets = array("q", [0])

    def append(self, item: T, /) -> None:
        """Add an item at the end."""
        self._file.seek(self._offsets[-1])
        self._file.write(pickle.dumps(item, pickle.HIGHEST_PROTOCOL))
        self._offsets.append(self._file.tell())

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __getitem__(self, index: int, /) -> T:
        place = range(len(self))[index]
        start, stop = self._offsets[place], self._offsets[place + 1]
        self._file.seek(start)
        item: T = pickle.loads(self._file.read(stop - start))
        return item

    def __iter__(self) -> Iterator[T]:
        for index in range(len(self)):
            yield self[index]

    def close(self) -> None:
        """Close the file."""
        self._file.close()


@final
class DiskMap(MutableMapping[str, Any]):
    """A mapping in an SQLite file; a few megabytes of memory, however many keys there are."""

    def __init__(self, path: Path) -> None:
        """Begin empty."""
        self._database = sqlite3.connect(path, isolation_level=None)
        # Scratch: what a crash destroys is made again.
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute("PRAGMA synchronous = OFF")
        self._database.execute(
            "CREATE TABLE items (key TEXT PRIMARY KEY, value BLOB) WITHOUT ROWID"
        )
        self._database.execute("BEGIN")

    def __getitem__(self, key: str) -> Any:
        sql = "SELECT value FROM items WHERE key = ?"
        row = self._database.execute(sql, (_encode(key),)).fetchone()
        if row is None:
            raise KeyError(key)
        return pickle.loads(row[0])

    def __setitem__(self, key: str, value: Any) -> None:
        data = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
        self._database.execute("INSERT OR REPLACE INTO items VALUES (?, ?)", (_encode(key), data))

    def __delitem__(self, key: str) -> None:
        deleted = self._database.execute("DELETE FROM items WHERE key = ?", (_encode(key),))
        if not deleted.rowcount:
            raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        for (key,) in self._database.execute("SELECT key FROM items"):
            yield _decode(key)

    def __len__(self) -> int:
        count: int = self._database.execute("SELECT count(*) FROM items").fetchone()[0]
        return count

    def close(self) -> None:
        """Close the file."""
        self._database.close()


def _encode(key: str) -> bytes:
    return key.encode("utf-8", "surrogatepass")


def _decode(key: bytes) -> str:
    return key.decode("utf-8", "surrogatepass")
