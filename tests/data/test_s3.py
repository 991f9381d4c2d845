"""Rows on a real S3 server of this machine (moto): written, killed half-way, gone on with, read back; and refusals."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import child
import pytest

from potstill.cli import main
from potstill.data import files, uploads
from potstill.data.row_files import ShardFormat, row_lines, write_file, write_shards
from potstill.data.urls import Url
from potstill.errors import InputError

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("s3")]

KEY = "AKIAPOTSTILLTEST0001"
SECRET = "potstill/secret+of=moto0123456789abcdefg"
ROWS = [
    {"question": f"What is {number} + 1?", "answer": str(number + 1), "text": "x" * 900}
    for number in range(400)
]
FORM = ShardFormat("train", ".jsonl", shard_bytes=20_000)
# Writes until somebody speaks to it in the middle, which nobody does.
WRITER = """
import sys
from test_s3 import FORM, ROWS
from potstill.data.row_files import row_lines, write_shards
from potstill.data.urls import Url

def lines():
    yield from row_lines(ROWS[:300])
    sys.stdin.read()

write_shards(lines(), Url(sys.argv[1]), FORM)
"""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    server_module = pytest.importorskip("moto.server", reason="needs moto[s3] and flask")
    pytest.importorskip("s3fs", reason="needs the extra potstill[s3]")
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Url]:
    """A bucket of the server, whose address and keys stand where the library looks for them."""
    import s3fs

    for name, value in (
        ("AWS_ENDPOINT_URL", server),
        ("AWS_ACCESS_KEY_ID", KEY),
        ("AWS_SECRET_ACCESS_KEY", SECRET),
        ("AWS_DEFAULT_REGION", "us-east-1"),
        ("AWS_MAX_ATTEMPTS", "1"),
        ("POTSTILL_CACHE", str(tmp_path / "cache")),
    ):
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    name = f"bucket-{os.urandom(4).hex()}"
    s3fs.S3FileSystem().mkdir(name)
    yield Url(f"s3://{name}")
    s3fs.S3FileSystem.clear_instance_cache()


def read(spec: object) -> list[dict[str, Any]]:
    return [row for _, row in files.read_rows(str(spec))]


def content_of(folder: Url) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in folder.names()}


def test_a_killed_upload_goes_on(bucket: Url) -> None:
    undisturbed, killed = bucket / "undisturbed", bucket / "killed"
    total = write_shards(row_lines(ROWS), undisturbed, FORM).files
    command = [sys.executable, "-c", WRITER, str(killed)]
    with child.started(command, cwd=Path(__file__).parent, stdin=subprocess.PIPE) as process:
        while len(killed.names()) < 5 and process.poll() is None:
            time.sleep(0.01)
        process.kill()
    arrived = killed.names()
    assert "shards.json" not in arrived and 5 <= len(arrived) < total
    with pytest.raises(InputError, match="incomplete set of shards"):
        read(killed)

    # What a killed process left half-sent is ended; that of others in the folder is not.
    filesystem, path = killed.filesystem()
    name, _, folder = path.partition("/")
    for file in ("train-00007.jsonl", "others.bin"):
        filesystem.call_s3("create_multipart_upload", Bucket=name, Key=f"{folder}/{file}")
    written = write_shards(row_lines(ROWS), killed, FORM)
    assert written.files == total and written.sent < total - 2
    uploads_left = filesystem.call_s3("list_multipart_uploads", Bucket=name)["Uploads"]
    assert [upload["Key"] for upload in uploads_left] == [f"{folder}/others.bin"]
    assert content_of(killed) == content_of(undisturbed)
    assert read(killed) == ROWS


def test_a_large_file_is_sent_in_parts(bucket: Url, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "PART_BYTES", 5 * 2**20)
    rows = [{"text": str(number) * 10_000} for number in range(400)]
    write_file(row_lines(rows), bucket / "large.jsonl")
    details = (bucket / "large.jsonl").details() or {}
    assert "-" in details["ETag"]  # as S3 calls what came in parts
    assert read(bucket / "large.jsonl") == rows


def test_commands_read_and_write_urls(
    bucket: Url, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = [{**row, "completion": f"\\boxed{{{row['answer']}}}"} for row in ROWS[:30]]
    for start in (0, 10, 20):
        write_file(row_lines(answers[start : start + 10]), bucket / f"raw/part-{start}.jsonl.gz")
    traces = f"{bucket}/traces.jsonl"
    assert main(["import", f"{bucket}/raw/*.gz", "--judge", "--out", traces, "--quiet"]) == 0
    command = ["export", traces, "--format", "trl", "--parquet", "--shard-size", "2KB"]
    assert main([*command, "--out", f"{bucket}/set"]) == 0
    assert main([*command, "--out", str(tmp_path / "set")]) == 0
    local = {file.name: file.read_bytes() for file in (tmp_path / "set").iterdir()}
    assert local == content_of(bucket / "set")
    assert len(read(bucket / "set")) == 30 and b"train-*.parquet" in local["README.md"]
    capsys.readouterr()
    assert main([*command, "--out", f"{bucket}/set", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["sent"] == 0
    assert not list((tmp_path / "cache" / "uploads").iterdir())


def test_refusals_say_what_to_do_and_lose_nothing(
    bucket: Url, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import s3fs

    with pytest.raises(InputError, match="there is no nowhere-at-all"):
        write_file(row_lines(ROWS), Url("s3://nowhere-at-all/rows.jsonl"))
    [kept] = (tmp_path / "cache" / "uploads").rglob("rows.jsonl")
    assert read(kept) == ROWS
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(InputError, match=r"(?s)can't be read .*check the network") as caught:
        read(bucket / "rows.jsonl")
    assert SECRET not in str(caught.value) and KEY not in str(caught.value)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(InputError, match=r"(?s)no permission .*AWS_PROFILE"):
        read(bucket / "rows.jsonl")
