"""The header of a GGUF file: its metadata and the table of its tensors, read within bounds before a library sees it.

A file from anywhere may say that it holds 2**60 names; the readers of `gguf` and transformers would count that far.
Layout (version 2 and 3, little-endian): `GGUF`, version, number of tensors, number of metadata entries; then each entry
(key, type, value), then each tensor (name, dimensions, type, offset), then the tensors' bytes.
Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, final

from potstill.errors import ModelError

MAGIC = b"GGUF"
VERSIONS = (2, 3)
STRING, ARRAY = 8, 9  # types of values
# The format of each type of number, for struct.
NUMBER_FORMATS = {
    0: "<B",  # uint8
    1: "<b",
    2: "<H",  # uint16
    3: "<h",
    4: "<I",  # uint32
    5: "<i",
    6: "<f",  # float32
    7: "<?",
    10: "<Q",  # uint64
    11: "<q",
    12: "<d",  # float64
}
Value = str | int | float | bool

# More than any model has: the largest published ones have some 100 entries, 2,000 tensors and 300,000 tokens.
MAX_ENTRIES = 4_096
MAX_TENSORS = 65_536
MAX_ITEMS = 4_000_000  # of an array
MAX_NAME = 1_024  # bytes of a key or a tensor's name
MAX_STRING = 1 << 20  # bytes of a value; a chat template has some thousand
MAX_DIMENSIONS = 4
MAX_WEIGHTS_PER_BYTE = 8  # the smallest formats take more than a bit a weight


@final
@dataclass(frozen=True, slots=True)
class GgufHeader:
    """What a GGUF file says of itself.

    Args:
        metadata: texts and numbers by key; of an array its length.
        weights_of_tensor: how many numbers each tensor holds, by name.
    """

    metadata: dict[str, Value]
    weights_of_tensor: dict[str, int]

    @property
    def architecture(self) -> str:
        """Such as `llama` or `qwen3`."""
        return str(self.metadata.get("general.architecture", ""))

    @property
    def weight_count(self) -> int:
        """Numbers of all tensors."""
        return sum(self.weights_of_tensor.values())


def read_header(file: Path) -> GgufHeader:
    """Read the header of a GGUF file.

    Raises:
        ModelError: it is no GGUF file, is cut off, or names more than it can hold.
    """
    size = file.stat().st_size
    with file.open("rb") as stream:
        try:
            return _HeaderReader(stream, size).read()
        except (struct.error, ValueError) as error:
            raise ModelError(
                f"{file} can't be read as GGUF: {error}",
                expected="a whole GGUF file of version 2 or 3",
                fix="download the file again",
            ) from error


@final
class _HeaderReader:
    """Reads a header from start to end; whatever is wrong is a ValueError or a struct.error."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self._stream, self._size = stream, size

    def read(self) -> GgufHeader:
        if self._stream.read(len(MAGIC)) != MAGIC:
            raise ValueError("it does not begin with GGUF")
        version = self._read_number("<I")
        if version not in VERSIONS:
            raise ValueError(f"its version is {version}")
        tensor_count = self._read_count("tensors", MAX_TENSORS)
        entry_count = self._read_count("metadata entries", MAX_ENTRIES)

        metadata: dict[str, Value] = {}
        for _ in range(entry_count):
            key = self._read_string(MAX_NAME)
            if key in metadata:
                raise ValueError(f"it has {key!r} twice")
            metadata[key] = self._read_value(self._read_number("<I"))

        weights_of_tensor: dict[str, int] = {}
        for _ in range(tensor_count):
            name = self._read_string(MAX_NAME)
            if name in weights_of_tensor:
                raise ValueError(f"it has the tensor {name!r} twice")
            weights_of_tensor[name] = self._read_weight_count(name)
        header = GgufHeader(metadata, weights_of_tensor)
        self._check_size(header)
        return header

    def _check_size(self, header: GgufHeader) -> None:
        data_bytes = self._size - self._stream.tell()
        if header.weight_count > MAX_WEIGHTS_PER_BYTE * data_bytes:
            raise ValueError(
                f"its tensors hold {header.weight_count:,} numbers, and {data_bytes:,} bytes follow the header"
            )

    def _read_weight_count(self, name: str) -> int:
        dimension_count = self._read_number("<I")
        if dimension_count > MAX_DIMENSIONS:
            raise ValueError(f"the tensor {name!r} has {dimension_count} dimensions")
        sizes = [int(self._read_number("<Q")) for _ in range(int(dimension_count))]
        self._read_number("<I")  # its format, which the library checks
        offset = self._read_number("<Q")
        if offset > self._size:
            raise ValueError(f"the tensor {name!r} begins at {offset:,}, after the file's end")
        return math.prod(sizes)

    def _read_value(self, value_type: int | float) -> Value:
        """A text or a number; of an array the length, its items are passed over."""
        if value_type == STRING:
            return self._read_string(MAX_STRING)
        if value_type != ARRAY:
            return self._read_number(self._format_of(value_type))
        item_type = self._read_number("<I")
        count = self._read_count("items in an array", MAX_ITEMS)
        if item_type == STRING:
            for _ in range(count):
                self._read_string(MAX_STRING)
        else:
            self._skip(count * struct.calcsize(self._format_of(item_type)))
        return count

    def _format_of(self, value_type: int | float) -> str:
        number_format = NUMBER_FORMATS.get(int(value_type))
        if number_format is None:
            raise ValueError(f"it has a value of the unknown type {value_type}")
        return number_format

    def _read_number(self, number_format: str) -> int | float:
        content = self._stream.read(struct.calcsize(number_format))
        [number] = struct.unpack(number_format, content)
        assert isinstance(number, int | float)
        return number

    def _read_count(self, what: str, most: int) -> int:
        count = int(self._read_number("<Q"))
        if count > most:
            raise ValueError(f"it says that it has {count:,} {what}, more than {most:,}")
        return count

    def _read_string(self, most: int) -> str:
        length = self._read_count("bytes in a text", most)
        content = self._stream.read(length)
        if len(content) < length:
            raise ValueError("it ends within a text")
        return content.decode("utf-8")  # a UnicodeDecodeError is a ValueError

    def _skip(self, length: int) -> None:
        if self._stream.tell() + length > self._size:
            raise ValueError("it ends within an array")
        self._stream.seek(length, 1)
