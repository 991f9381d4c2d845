"""The header of a GGUF file is read within bounds, whatever it says."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from gguf_made import entry, small_file, tensor, text

from potstill.errors import ModelError
from potstill.models.local.gguf_header import read_header

NAME = entry("general.architecture", 8, text("llama"))
WORDS = entry("tokenizer.ggml.tokens", 9, struct.pack("<IQ", 8, 2) + text("a") + text("b"))
IDS = entry("ids", 9, struct.pack("<IQ", 4, 3) + bytes(12))
WEIGHTS = tensor("w", 4, 2) + tensor("b", 4)
GOOD = small_file(NAME, WORDS, IDS, tensors=WEIGHTS, tensor_count=2, data=bytes(48))
MANY = struct.pack("<Q", 1 << 60)


def test_what_a_header_says(tmp_path: Path) -> None:
    file = tmp_path / "m.gguf"
    file.write_bytes(GOOD)
    header = read_header(file)
    assert (header.architecture, header.weight_count) == ("llama", 12)
    assert header.metadata["tokenizer.ggml.tokens"] == 2 and header.metadata["ids"] == 3
    assert header.weights_of_tensor == {"w": 8, "b": 4}


def test_a_file_that_was_cut_off_is_refused_wherever_it_was(tmp_path: Path) -> None:
    file = tmp_path / "m.gguf"
    header_length = len(GOOD) - 48
    for length in range(0, header_length + 1, 7):  # so that no tensor has any byte
        file.write_bytes(GOOD[:length])
        with pytest.raises(ModelError, match="can't be read as GGUF") as refusal:
            read_header(file)
        assert refusal.value.fix


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK\x03\x04 a wheel", "does not begin with GGUF"),
        (small_file(version=1), "its version is 1"),
        (b"GGUF" + struct.pack("<I", 3) + MANY + MANY, "1,152,921,504,606,846,976 tensors"),
        (b"GGUF" + struct.pack("<IQ", 3, 0) + MANY, "metadata entries"),
        (small_file(entry("k", 8, MANY)), "bytes in a text"),
        (small_file(entry("k", 9, struct.pack("<I", 8) + MANY)), "items in an array"),
        (small_file(entry("k", 9, struct.pack("<IQ", 4, 9) + b"few")), "ends within an array"),
        (small_file(entry("k", 9, struct.pack("<IQ", 9, 1))), "unknown type 9"),
        (small_file(entry("k", 77, b"")), "unknown type 77"),
        (small_file(NAME, NAME), "'general.architecture' twice"),
        (small_file(entry("k", 8, struct.pack("<Q", 1) + b"\xff")), "utf-8"),
        (small_file(tensors=tensor("w", 1, 1, 1, 1, 1), tensor_count=1), "5 dimensions"),
        (
            small_file(tensors=tensor("w", 1, offset=1 << 40), tensor_count=1),
            "after the file's end",
        ),
        (small_file(tensors=2 * tensor("w", 1), tensor_count=2, data=b"1" * 8), "'w' twice"),
        (
            small_file(tensors=tensor("w", 1 << 40), tensor_count=1, data=bytes(9)),
            "1,099,511,627,776 numbers, and 9 bytes",
        ),
    ],
)
def test_what_no_model_has_is_refused(content: bytes, message: str, tmp_path: Path) -> None:
    file = tmp_path / "m.gguf"
    file.write_bytes(content)
    with pytest.raises(ModelError, match=message):
        read_header(file)
