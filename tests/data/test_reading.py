"""The one reader: every broken row is typed, named by file and line, and left out and listed on request."""

from __future__ import annotations

import gzip
import json
import os
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from potstill.data import files
from potstill.data.rows import read_traces
from potstill.errors import InputError

GOOD = [{"question": f"{n}?", "answer": n} for n in range(6)]
BOM = b"\xef\xbb\xbf"


def jsonl(*rows: Any) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def read(path: Path) -> list[dict[str, Any]]:
    return [row for _, row in files.read_rows(str(path))]


def put(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def broken(path: Path) -> InputError:
    with pytest.raises(InputError) as caught:
        read(path)
    assert path.name in caught.value.found and caught.value.fix
    return caught.value


def test_rows_come_with_their_lines_through_bom_crlf_and_blank_lines(tmp_path: Path) -> None:
    path = put(tmp_path, "a.jsonl", BOM + b'{"a": 1}\r\n\r\n \n{"a": "\xe2\x80\xa8 x"}\r\n{"a": 3}')
    assert list(files.read_rows(str(path))) == [
        ("line 1", {"a": 1}),
        ("line 4", {"a": "\u2028 x"}),
        ("line 5", {"a": 3}),
    ]


BROKEN = {
    "not JSON": (b'{"a": 1,}', "line 2, column 9: not JSON", "sed -n 2p"),
    "BOM in the middle": (BOM + b'{"a": 1}', "line 2: a byte order mark", "sed -i"),
    "NUL": (b'{"a": "x\0"}', "line 2, column 9: a NUL byte", "tr -d"),
    "invalid UTF-8": (b'{"a": "\xff"}', "line 2: not UTF-8 (byte 8 is 0xff)", "iconv"),
    "NaN": (b'{"a": NaN}', "line 2: NaN", "null"),
    "infinity": (b'{"a": -Infinity}', "line 2: -Infinity", "null"),
    "infinite": (b'{"a": 1e999}', "line 2: the number 1e999 is infinite", "null"),
    "not an object": (b"[1, 2]", "line 2: a JSON list", "one JSON object a line"),
    "half a character": (b'{"a": "\\ud800"}', "line 2: half a character", "half characters"),
    "too deep": (b"[" * 100_000, "line 2: nested too deeply", "--skip-bad"),
    "digits": (b'{"a": ' + b"9" * 5000 + b"}", "line 2: a number that can't be read", "--skip-bad"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_line_is_typed(name: str, tmp_path: Path) -> None:
    line, found, fix = BROKEN[name]
    path = put(tmp_path, "a.jsonl", jsonl(GOOD[0]) + line + b"\n" + jsonl(GOOD[1]))
    error = broken(path)
    assert found in error.found and fix in error.fix
    with files.skipping() as bad:
        assert read(path) == GOOD[:2]
    [only] = bad
    assert (only.file, only.where) == (str(path), "line 2")
    assert only.reason and "line 2" not in only.reason
    assert only.start.isascii() and only.start.isprintable() and len(only.start) <= 4 * 80
    assert only.start.startswith(repr(line[:3])[2:-1])


def test_a_file_that_ends_in_the_middle_of_a_line_says_so(tmp_path: Path) -> None:
    path = put(tmp_path, "a.jsonl", jsonl(*GOOD)[:-9])
    error = broken(path)
    assert "line 6" in error.found and "cut short" in error.found and "again" in error.fix
    with files.skipping() as bad:
        assert read(path) == GOOD[:5]
    assert [item.where for item in bad] == ["line 6"]
    whole = put(tmp_path, "b.jsonl", jsonl(*GOOD)[:-1])  # the last line end alone is no loss
    assert read(whole) == GOOD


@pytest.mark.slow
def test_a_line_that_is_too_long_is_refused_without_being_loaded(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with path.open("wb") as file:
        file.write(jsonl(GOOD[0]) + b'{"a": "')
        for _ in range(100):
            file.write(b"x" * 2**20)
        file.write(b'"}\n' + jsonl(GOOD[1]))
    assert "a line of 104,857,610 bytes" in broken(path).found
    tracemalloc.start()
    with files.skipping() as bad:
        assert read(path) == GOOD[:2]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (
        peak < 2.2 * files.MAX_LINE_BYTES
    )  # the line that was refused, as far as it was read, and its buffer
    assert [item.where for item in bad] == ["line 2"]


def test_the_limit_is_one_of_bytes(tmp_path: Path) -> None:
    path = put(tmp_path, "a.jsonl", b'{"a":1}\n{"a":12}\n{"a":1}')
    with path.open("rb") as file, files.skipping() as bad:
        assert [value for _, value in files.read_json_lines(file, path, max_bytes=7)] == [
            {"a": 1},
            {"a": 1},
        ]
    assert len(bad) == 1 and "9 bytes" in bad[0].reason


def test_rows_are_read_lazily(tmp_path: Path) -> None:
    path = put(tmp_path, "a.jsonl", jsonl(*GOOD) + b"{broken\n")
    rows = files.read_rows(str(path))
    assert next(rows) == ("line 1", GOOD[0])
    with pytest.raises(InputError, match="line 7"):
        list(rows)


KINDS = {
    "parquet as jsonl": ("a.jsonl", b"PAR1\x15\x04\n", "the content of a .parquet file", "mv"),
    "gz as jsonl": (
        "a.jsonl",
        gzip.compress(jsonl(*GOOD)),
        "the content of a .gz file",
        "a.jsonl.gz",
    ),
    "zip as csv": ("a.csv", b"PK\x03\x04zip\n", "the content of a .zip file", "mv"),
    "UTF-16": ("a.jsonl", '{"a": 1}\n'.encode("utf-16"), "UTF-16", "iconv -f UTF-16"),
    "jsonl as json": ("a.json", jsonl(*GOOD), "line 2, column 1", "mv"),
    "json cut short": ("a.json", json.dumps(GOOD).encode()[:-7], "line 1", ".jsonl is one"),
    "json text": ("a.json", b'"text"', "holds a JSON str", "list of objects"),
    "no kind": ("a.txt", b"x", "of no kind that can be read (.txt)", "mv"),
    "gz cut short": (
        "a.jsonl.gz",
        gzip.compress(jsonl(*GOOD) * 50)[:-20],
        "can't be read",
        "again",
    ),
    "csv twice": ("a.csv", b"a,b,a\n1,2,3\n", "two columns are called 'a'", "rename"),
    "csv fields": ("a.csv", b"a,b\n1,2\n1\n", "line 3: fewer fields", "quote"),
    "csv quote": ("a.csv", b'a,b\n1,2\n"1"x,2\n', "line 3", "quote"),
    "csv UTF-8": ("a.csv", b"a,b\n\xff,2\n", "line 2: not UTF-8", "--skip-bad"),
    "csv NUL": ("a.csv", b"a,b\n\0,2\n", "line 2: a NUL byte", "--skip-bad"),
    "empty": ("a.jsonl", b"", "is empty", "check how"),
    "empty json": ("a.json", b"", "is empty", "check how"),
    "empty csv": ("a.csv", b"", "is empty", "check how"),
    "empty parquet": ("a.parquet", b"", "is no parquet file", "head -c"),
}


@pytest.mark.parametrize("name", KINDS)
def test_a_wrong_file_says_what_it_is(name: str, tmp_path: Path) -> None:
    file, data, found, fix = KINDS[name]
    error = broken(put(tmp_path, file, data))
    assert found in error.found and fix in error.fix


def test_good_rows_of_csv_and_of_a_cut_gz_are_kept(tmp_path: Path) -> None:
    path = put(tmp_path, "a.csv", b'a,b\n1,2\n1\n\xff,1\n"1"x,2\n3,4\n')
    with files.skipping() as bad:
        assert read(path) == [{"a": "1", "b": "2"}, {"a": "3", "b": "4"}]
    assert [item.where for item in bad] == ["line 3", "line 4", "line 5"]
    packed = gzip.compress(jsonl(*[{"a": n, "b": str(n * n)} for n in range(5000)]))
    path = put(tmp_path, "b.jsonl.gz", packed[: len(packed) // 2])
    with files.skipping() as bad:
        kept = read(path)
    assert 1000 < len(kept) < 5000 and kept == [{"a": n, "b": str(n * n)} for n in range(len(kept))]
    assert "can't be read" in bad[-1].reason


def test_long_csv_fields_are_read(tmp_path: Path) -> None:
    long = "x" * 300_000
    assert read(put(tmp_path, "a.csv", f"a\n{long}\n".encode())) == [{"a": long}]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("semicolons.csv", b'a;b\n"1;5";2\n'),
        ("tabs.csv", b"a\tb\n1;5\t2\n"),
        ("tabs.tsv", b"a\tb\n1;5\t2\n"),
        ("commas.csv", b"a,b\n1;5,2\n"),
        ("break.csv", b'a;b\n"1;5";"2"\n"x\ny";3\n'),
    ],
)
def test_a_table_is_parted_by_what_parts_its_header(name: str, data: bytes, tmp_path: Path) -> None:
    rows = read(put(tmp_path, name, data))
    assert rows[0] == {"a": "1;5", "b": "2"}


def test_a_header_with_another_mark_in_a_name_is_still_parted_by_commas(tmp_path: Path) -> None:
    path = put(tmp_path, "a.csv", b"a (x;y;z),b\n1,2\n")
    assert read(path) == [{"a (x;y;z)": "1", "b": "2"}]


def test_a_row_of_semicolons_that_is_too_short_is_told_what_parts_it(tmp_path: Path) -> None:
    error = broken(put(tmp_path, "a.csv", b"a;b\n1;2\n1\n"))
    assert "line 3: fewer fields" in error.found and "parted by semicolons" in error.expected


def test_a_csv_file_in_another_encoding_is_told_how_it_becomes_utf8(tmp_path: Path) -> None:
    error = broken(put(tmp_path, "a.csv", b"a;b\nW\xe4s;2\n"))
    assert "not UTF-8" in error.found and "iconv -f LATIN1" in error.fix
    assert "quote" not in error.fix


needs_fd = pytest.mark.skipif(
    not Path("/dev/fd").is_dir(), reason="this system has no names for what is open (/dev/fd)"
)


@pytest.fixture
def piped() -> Iterator[Callable[[bytes], str]]:
    """Makes the path of a pipe that holds some bytes, and whose writer has gone."""
    readers = []

    def make(data: bytes) -> str:
        reader, writer = os.pipe()
        readers.append(reader)
        assert len(data) < 4096  # what a pipe holds without a reader
        os.write(writer, data)
        os.close(writer)
        return f"/dev/fd/{reader}"

    yield make
    for reader in readers:
        os.close(reader)


@needs_fd
@pytest.mark.parametrize(
    "data",
    [
        jsonl(*GOOD),
        gzip.compress(jsonl(*GOOD)),
        json.dumps(GOOD).encode(),
        json.dumps({"data": GOOD}, indent=1).encode(),
        b"",
    ],
    ids=["jsonl", "gz", "json", "json over lines", "empty"],
)
def test_a_pipe_is_known_by_its_content_and_read_as_often_as_one_likes(
    data: bytes, piped: Callable[[bytes], str]
) -> None:
    path = piped(data)
    for _ in range(2):
        if data:
            assert [row for _, row in files.read_rows(path)] == list(GOOD)
        else:
            with pytest.raises(InputError, match="is empty"):
                list(files.read_rows(path))
    assert files.source_name(path) == "pipe"


@needs_fd
def test_a_table_and_a_broken_line_through_a_pipe(piped: Callable[[bytes], str]) -> None:
    assert [row for _, row in files.read_rows(piped(b"a;b\n1;2\n"))] == [{"a": "1", "b": "2"}]
    with pytest.raises(InputError, match="line 2") as caught:
        list(files.read_rows(piped(jsonl(GOOD[0]) + b'{"a": }\n')))
    assert "sed" not in caught.value.fix  # nobody can look into a pipe again


def test_parquet_whole_cut_short_foreign_and_damaged(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = tmp_path / "a.parquet"
    rows = [
        {"a": n, "text": f"{n} " * 50, "score": float("nan") if n == 3 else 1.0}
        for n in range(4000)
    ]
    parquet.write_table(
        pyarrow.Table.from_pylist(rows), path, row_group_size=1000, write_page_checksum=True
    )
    found = list(files.read_rows(str(path)))
    assert found[3] == ("row 4", {**rows[3], "score": None})
    assert [row["a"] for _, row in found] == list(range(4000))
    data = path.read_bytes()
    assert "cut short" in broken(put(tmp_path, "cut.parquet", data[:-100])).found
    assert "is no parquet file" in broken(put(tmp_path, "csv.parquet", b"a,b\n1,2\n")).found
    group = parquet.ParquetFile(path).metadata.row_group(1).column(1)
    at = group.data_page_offset + 1500  # behind the header of the page, which holds statistics
    damaged = put(tmp_path, "bad.parquet", data[:at] + b"\xff" * 200 + data[at + 200 :])
    assert "damaged" in broken(damaged).found
    with files.skipping() as bad:
        kept = list(files.read_rows(str(damaged)))
    assert [row["a"] for _, row in kept] == [*range(1000), *range(2000, 4000)]
    assert [where for where, _ in kept[999:1001]] == ["row 1000", "row 2001"]
    assert [item.where for item in bad] == ["rows 1001 to 2000"]


def test_folders_and_missing_files_name_what_is_there(tmp_path: Path) -> None:
    put(tmp_path, "train.jsonl", jsonl(*GOOD))
    with pytest.raises(InputError, match="is a folder") as caught:
        read(tmp_path)
    assert caught.value.fix.endswith("train.jsonl")
    with pytest.raises(InputError, match="there is no file") as caught:
        read(tmp_path / "trian.jsonl")
    assert caught.value.nearest == ("train.jsonl",)


def test_no_good_row_at_all_is_an_error_that_tells_the_first_reason(tmp_path: Path) -> None:
    path = put(tmp_path, "a.jsonl", b"{\n[\n")
    with (
        files.skipping(),
        pytest.raises(InputError, match=r"no good row; of 2 bad ones the first is line 1: .*JSON"),
    ):
        read(path)


def test_outside_of_skipping_the_first_bad_row_stops(tmp_path: Path) -> None:
    path = put(tmp_path, "a.jsonl", b"{\n")
    with files.skipping(False) as bad, pytest.raises(InputError):
        read(path)
    assert bad == [] and files.skipped() == [] and files.notes() == []


def test_what_was_left_out_is_written_once_and_said(tmp_path: Path) -> None:
    path = put(tmp_path, "a.jsonl", jsonl(GOOD[0]) + b"\x1b[31m{\n")
    with files.skipping():
        read(path), read(path)
        assert len(files.save(tmp_path / "run")) == 1
        assert files.notes() == [
            "Bad rows left out: 1 of a.jsonl; bad_rows.jsonl lists them with the reasons."
        ]
    [line] = (tmp_path / "run" / "bad_rows.jsonl").read_text().splitlines()
    assert json.loads(line)["start"] == "\\x1b[31m{" and json.loads(line)["where"] == "line 2"
    with files.skipping():
        files.save(tmp_path / "run")
    assert not (tmp_path / "run" / "bad_rows.jsonl").exists()


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 10**6), st.binary(min_size=1, max_size=40), st.integers(0, 30))
@example(0, BOM, 0)
@example(0, b"\xff\xfe", 0)
@example(0, b"PAR1", 0)
@example(30, b"\n\n{}\n", 3)
@example(10**6, b"\0", 0)
def test_whatever_is_spliced_in_the_other_rows_are_kept(
    tmp_path: Path, at: int, junk: bytes, gone: int
) -> None:
    rows = [
        {"question": f"{n} é \u2028?", "answer": [n, None, {"x": "\U0001f600"}]} for n in range(8)
    ]
    parts = [
        json.dumps(row, ensure_ascii=n % 2 == 0).encode() + b"\n" for n, row in enumerate(rows)
    ]
    data = b"".join(parts)
    at %= len(data) + 1
    path = put(tmp_path, "a.jsonl", data[:at] + junk + data[at + gone :])
    starts = [sum(map(len, parts[:n])) for n in range(len(parts) + 1)]
    spared = [
        row
        for n, row in enumerate(rows)
        if starts[n + 1] <= at
        or (at + gone <= starts[n] and (at + gone < starts[n] or junk.endswith(b"\n")))
        if not (at < starts[n] == at + gone)
    ]
    try:
        read(path)
    except InputError as error:
        assert str(path) in error.found
    with files.skipping():
        try:
            kept = read(path)
        except InputError:
            kept = []
            assert not spared
    assert [row for row in kept if row in spared] == spared


@pytest.mark.slow  # imports datasets
def test_a_streamed_dataset_has_the_same_rows_in_the_same_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.chdir(tmp_path)
    Path("set").mkdir()
    for shard in range(3):
        rows = [
            {"question": f"{shard} and {n}?", "answer": f"{n} it is", "note": None}
            for n in range(50)
        ]
        text = "".join(f"{json.dumps(row)}\n" for row in rows)
        Path(f"set/train-{shard:05}.jsonl").write_text(text)
    streamed = list(files.read_rows("hf:set?streaming=1"))
    assert streamed == list(files.read_rows("hf:set")) and len(streamed) == 150
    assert [row for _, row in streamed] == [row for _, row in files.read_rows("set/train-*.jsonl")]
    assert read_traces("hf:set?streaming=1", mapping={"completion": "answer"}, limit=60).rows == 60


def test_hub_specs() -> None:
    parse = files.hub.parse_spec
    assert parse("openai/gsm8k")[:4] == ("openai/gsm8k", None, "train", None)
    assert parse("openai/gsm8k/main:test")[:4] == ("openai/gsm8k", "main", "test", None)
    assert parse("openai/gsm8k:test?config=main&revision=v1&streaming=1") == (
        "openai/gsm8k",
        "main",
        "test",
        "v1",
        True,
    )
    for wrong in ("", "a//b", "a/b/c/d", "a/b/c?config=d", "a?split=test", "a?streaming=yes"):
        with pytest.raises(InputError, match="can't be read as a dataset"):
            parse(wrong)


def test_a_dataset_that_is_not_there_offline_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    datasets, hub = pytest.importorskip("datasets"), pytest.importorskip("huggingface_hub")
    monkeypatch.setattr(
        datasets.config, "HF_HUB_OFFLINE", True
    )  # as HF_HUB_OFFLINE=1 sets them at import
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="can't be loaded") as caught:
        list(files.read_rows("hf:nobody/nothing-of-this-name:train"))
    assert "HF_HUB_OFFLINE" in caught.value.fix


def test_a_dataset_in_the_local_cache_is_read_as_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets = pytest.importorskip("datasets")
    put(tmp_path, "train.jsonl", jsonl(*GOOD))
    real = datasets.load_dataset

    def local(name: str, config: str | None, **options: Any) -> Any:
        assert (name, config) == ("me/mine", "small")
        options.pop("revision")
        return real(
            "json",
            data_files=str(tmp_path / "train.jsonl"),
            cache_dir=str(tmp_path / "cache"),
            **options,
        )

    monkeypatch.setattr(datasets, "load_dataset", local)
    assert list(files.read_rows("hf:me/mine/small")) == [
        (f"row {n}", row) for n, row in enumerate(GOOD, 1)
    ]
