"""Rows at URLs, as sets of shards, and compressed; the server is fsspec's own in memory."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from potstill.data import files, problems, uploads
from potstill.data.row_files import ShardFormat, parse_size, row_lines, write_file, write_shards
from potstill.data.urls import Url, local_path
from potstill.errors import ConfigError, InputError
from potstill.models import load as load_model
from potstill.models.model import Request

ROWS = [{"question": f"What is {number} + 1?", "answer": str(number + 1)} for number in range(20)]
FORM = ShardFormat("train", ".jsonl", shard_bytes=300)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POTSTILL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def folder() -> Iterator[Url]:
    """A folder of a server."""
    import fsspec

    name = f"/{uuid.uuid4().hex}"
    yield Url(f"memory:/{name}")
    filesystem = fsspec.filesystem("memory")
    if filesystem.exists(name):
        filesystem.rm(name, recursive=True)


def read(spec: object) -> list[dict[str, Any]]:
    return [row for _, row in files.read_rows(str(spec))]


def content_of(folder: Url) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in folder.names()}


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".parquet"])
def test_rows_come_back_from_a_url(folder: Url, cache: Path, suffix: str) -> None:
    written = write_file(row_lines(ROWS), folder / f"rows{suffix}")
    assert written.rows == len(ROWS)
    assert read(folder / f"rows{suffix}") == ROWS
    assert problems.load(str(folder / f"rows{suffix}"))[3].answer == "4"
    assert not list((cache / "uploads").iterdir())


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".parquet"])
def test_a_set_of_shards_is_read_as_one_file(folder: Url, tmp_path: Path, suffix: str) -> None:
    form = ShardFormat("train", suffix, shard_bytes=300)
    for place in (folder, tmp_path / "set"):
        written = write_shards(row_lines(ROWS), place, form)
        assert written.files == 4
        assert read(place) == read(place / f"*{suffix}") == ROWS
    places = [place for place, _ in files.read_rows(str(folder))]
    assert len(set(places)) == len(ROWS) and places[0].startswith(f"train-00000{suffix}, ")
    local = {file.name: file.read_bytes() for file in (tmp_path / "set").iterdir()}
    assert local == content_of(folder)


def test_shards_of_parquet_share_their_columns(tmp_path: Path) -> None:
    import pyarrow.parquet

    rows = [*ROWS, {"question": "?", "answer": "1", "level": 3.5}, {"question": "!", "level": 2}]
    write_shards(row_lines(rows), tmp_path, ShardFormat("train", ".parquet", shard_bytes=300))
    schemas = {str(pyarrow.parquet.read_schema(file)) for file in tmp_path.glob("*.parquet")}
    assert len(schemas) == 1


def test_what_a_broken_call_has_sent_is_not_sent_again(
    folder: Url, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = folder / "undisturbed"
    write_shards(row_lines(ROWS), undisturbed, FORM)
    broken = folder / "broken"

    def break_off() -> Iterator[bytes]:
        yield from row_lines(ROWS[:13])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_shards(break_off(), broken, FORM)
    for spec in (broken, broken / "train-*.jsonl"):
        with pytest.raises(InputError, match="incomplete set of shards: 2 have arrived"):
            read(spec)

    written = write_shards(row_lines(ROWS), broken, FORM)
    assert (written.files, written.sent) == (4, 2)
    assert content_of(broken) == content_of(undisturbed)
    assert write_shards(row_lines(ROWS), broken, FORM).sent == 0


def test_a_shorter_set_replaces_a_longer_one(folder: Url) -> None:
    write_shards(row_lines(ROWS), folder, FORM)
    assert write_shards(row_lines(ROWS[:8]), folder, FORM).sent == 1
    assert read(folder) == read(folder / "train-*.jsonl") == ROWS[:8]


def test_a_shard_that_changed_is_named(folder: Url) -> None:
    write_shards(row_lines(ROWS), folder, FORM)
    shard = folder / "train-00001.jsonl"
    content = shard.read_bytes()
    shard.write_bytes(content.replace(b"What", b"whaT"))
    with pytest.raises(InputError, match=r"train-00001\.jsonl has another SHA-256"):
        read(folder)
    shard.write_bytes(content[:-1])
    with pytest.raises(InputError, match=r"train-00001\.jsonl has .* bytes, and shards\.json says"):
        read(folder)
    shard.delete()
    with pytest.raises(InputError, match=r"train-00001\.jsonl is missing"):
        read(folder)


def test_what_cannot_be_sent_stays_here(
    folder: Url, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fsspec.implementations.memory

    def refuse(*args: object, **options: object) -> None:
        raise PermissionError("Access Denied")

    monkeypatch.setattr(fsspec.implementations.memory.MemoryFileSystem, "put_file", refuse)
    with pytest.raises(InputError, match=r"no permission .*; what was to be sent is in") as caught:
        write_file(row_lines(ROWS), folder / "rows.jsonl")
    [kept] = (cache / "uploads").rglob("rows.jsonl")
    assert str(kept) in caught.value.found and read(kept) == ROWS


def test_two_processes_do_not_write_to_one_url(folder: Url) -> None:
    with (
        uploads.spool_folder(folder),
        pytest.raises(ConfigError, match="another process is writing"),
    ):
        write_shards(row_lines(ROWS), folder, FORM)


@pytest.mark.parametrize(
    "url",
    [
        "s3://user:secret-word@host/rows.jsonl",
        "https://bucket.s3.amazonaws.com/rows.jsonl?X-Amz-Signature=abcdef0123456789",
        "https://host/rows.jsonl?api_key=abcdef0123456789",
    ],
)
def test_a_url_with_a_key_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(ConfigError, match="holds a key or a password") as caught:
        read(url)
    assert "secret-word" not in str(caught.value) and "abcdef" not in str(caught.value)


def test_errors_of_urls_say_what_to_do(folder: Url, tmp_path: Path) -> None:
    write_file(row_lines(ROWS), folder / "rows.jsonl")
    for spec, message in (
        (f"{folder}/row.jsonl", "(?s)there is no file .*nearest: +rows.jsonl"),
        (f"{folder}/*.csv", "no file is called"),
        ("nowhere://bucket/x.jsonl", "the protocol nowhere:// is unknown"),
        (str(tmp_path / "*.jsonl"), "no file is called"),
    ):
        with pytest.raises(InputError, match=message):
            read(spec)
    with pytest.raises(ConfigError, match="https is for reading"):
        write_file(row_lines(ROWS), Url("https://host/rows.jsonl"))


def test_a_recording_is_read_from_a_url(folder: Url) -> None:
    rows = [{**row, "completion": f"It is {row['answer']}."} for row in ROWS]
    write_file(row_lines(rows), folder / "answers.jsonl")
    model = load_model(f"recorded:{folder}/answers.jsonl?completion=completion")
    [completion] = model.write([Request("What is 3 + 1?")])
    assert completion.text == "It is 4."


def test_a_run_folder_is_no_url() -> None:
    with pytest.raises(ConfigError, match=r"(?s)is a URL, .*potstill export RUN"):
        local_path("s3://bucket/run")


def test_compressed_files_are_read(tmp_path: Path) -> None:
    import pyarrow

    lines = b"".join(row_lines(ROWS))
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(lines))
    (tmp_path / "a.jsonl.bz2").write_bytes(bz2.compress(lines))
    (tmp_path / "a.jsonl.xz").write_bytes(lzma.compress(lines))
    with (
        pyarrow.OSFile(str(tmp_path / "a.jsonl.zst"), "wb") as file,
        pyarrow.CompressedOutputStream(file, "zstd") as packed,
    ):
        packed.write(lines)
    for file in tmp_path.iterdir():
        assert read(file) == ROWS
        file.write_bytes(file.read_bytes()[:-9])
        with pytest.raises(InputError, match="can't be read"):
            read(file)


def test_sizes_are_read() -> None:
    assert parse_size("500MB") == 500 * 10**6 and parse_size("1.5 gb") == 15 * 10**8
    for text in ("", "5", "0MB", "-1MB", "1TB5"):
        with pytest.raises(ConfigError, match="is no size"):
            parse_size(text)


def test_a_manifest_leads_nowhere_else(tmp_path: Path) -> None:
    write_shards(row_lines(ROWS), tmp_path, FORM)
    manifest = json.loads((tmp_path / "shards.json").read_text())
    manifest["shards"][0]["name"] = "../other.jsonl"
    (tmp_path / "shards.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match="names of files beside it"):
        read(tmp_path)
