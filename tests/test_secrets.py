"""No key in anything a run leaves or says: every file, table, Parquet column, report, export and line of output."""

from __future__ import annotations

import base64
import json
import os
import sqlite3
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, quote_plus

import child
import pytest
from openai_server import Reply, serving

from potstill.cli import main
from potstill.models.model import Completion, Request
from potstill.records import Problem, Trace
from potstill.store import Store, with_cache

KEY = "sk-Potstill/Test+Key=With%Signs_0123456789abcdef"
VARIABLE = "POTSTILL_SECRET_TEST_KEY"
ESCAPED = "".join(f"\\u{ord(letter):04x}" for letter in KEY)


def choice(text: str) -> dict[str, object]:
    """A choice of an answer with this text."""
    return {"message": {"content": text}, "finish_reason": "stop"}


# What a rude server says; the first answer is sound, so that a broken one later is no wrong address.
ECHOES = (
    "",
    Reply(
        500,
        json.dumps(
            {"error": {"message": f"crashed with headers {{'authorization': 'Bearer {KEY}'}}"}}
        ).encode(),
    ),
    Reply(429, json.dumps({"error": {"message": f"slow down, {KEY}", "code": KEY}}).encode()),
    Reply(400, json.dumps({"error": {"message": f"you sent Bearer {KEY}", "param": KEY}}).encode()),
    Reply(200, f'{{"choices": [{{"message": {{"content": "half {KEY}'.encode()),
    Reply(
        200,
        json.dumps({"choices": [choice(f"We see your key {KEY}.")], "model": KEY}).encode(),
    ),
    # As PHP writes it, with strokes escaped: the key is not among the bytes, and is in the text.
    Reply(
        200,
        json.dumps({"choices": [choice(f"Key: {KEY}, 7")]}).replace("/", "\\/").encode(),
    ),
    Reply(
        200,
        json.dumps({"choices": [choice("Key: SAID, 7")]}).replace("SAID", ESCAPED).encode(),
    ),
    Reply(200, json.dumps({"choices": [{"message": {"content": 5, "key": KEY}}]}).encode()),
    Reply(
        503, f"<html>{KEY}</html>".encode(), "text/html", (("retry-after", "0.01"), ("x-key", KEY))
    ),
)


def needles() -> list[bytes]:
    """The key and the shapes that it takes on its way into files: URL, JSON, base64 at each of its three offsets."""
    texts = [
        KEY,
        quote(KEY),
        quote(KEY, safe=""),
        quote_plus(KEY),
        json.dumps(KEY)[1:-1],
        json.dumps(KEY, indent=1)[1:-1],
    ]
    texts += [KEY.replace("/", "\\/"), KEY.encode().hex(), KEY[8:-8]]
    found = [text.encode() for text in texts]
    for lead in (b"", b"x", b"xx"):
        for code in (base64.b64encode, base64.urlsafe_b64encode):
            found.append(code(lead + KEY.encode())[4:-4])
    return found


def leaks(name: str, data: bytes) -> list[str]:
    return [f"{name}: {needle!r}" for needle in needles() if needle in data]


def texts_of(path: Path) -> Iterator[bytes]:
    """What stands in a file: its bytes; and the values of a database or a Parquet file, which packs or cuts them."""
    yield path.read_bytes()
    if path.suffix == ".sqlite":
        connection = sqlite3.connect(path)
        for (table,) in connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table'"
        ).fetchall():
            for row in connection.execute(f"SELECT * FROM {table}"):
                yield b"\n".join(
                    v if isinstance(v, bytes) else str(v).encode("utf-8", "surrogatepass")
                    for v in row
                )
        connection.close()
    if path.suffix == ".parquet":
        import pyarrow.parquet

        for row in pyarrow.parquet.read_table(path).to_pylist():
            yield repr(row).encode()


def searched(folder: Path) -> list[str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    found = [
        leak
        for path in files
        for text in texts_of(path)
        for leak in leaks(str(path.relative_to(folder)), text)
    ]
    return found + [leak for path in files for leak in leaks("a file's name", str(path).encode())]


class Outcome(NamedTuple):
    """What a command did: its exit code and what it wrote on stderr."""

    code: int
    err: str


@pytest.fixture
def command(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., Outcome]:
    """Run a command in this process and in the folder; whatever it writes is searched."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv(VARIABLE, KEY)

    def run_command(*words: str) -> Outcome:
        capfd.readouterr()
        code = main(list(words))
        out, err = capfd.readouterr()
        assert not leaks("stdout", out.encode())
        assert not leaks("stderr", err.encode())
        return Outcome(code, err)

    return run_command


def talkative_process(folder: Path, *words: str) -> Outcome:
    """A command in a process of its own, as talkative as Python makes it; whatever it writes is searched."""
    environment = {**os.environ, VARIABLE: KEY, "PYTHONASYNCIODEBUG": "1", "OMP_NUM_THREADS": "1"}
    line = [sys.executable, "-X", "dev", "-W", "default", "-m", "potstill", *words]
    done = child.run(line, check=False, text=False, cwd=folder, env=environment)
    assert not leaks("stdout", done.stdout)
    assert not leaks("stderr", done.stderr)
    return Outcome(done.returncode, done.stderr.decode())


def run(url: str, out: str, student: Path, *, deadline: float = 5) -> list[str]:
    teacher = f"openai:fake?url={url}&key={VARIABLE}&concurrency=1&deadline={deadline}"
    words = f"run sft --problems train.jsonl --kind regex --student transformers:{student} --teacher {teacher}"
    words += " --set n=1 --set training.num_train_epochs=1 --set training.learning_rate=1e-3"
    return [*words.split(), "--threads", "1", "--out", out]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pattern = {"answer": "(?s).*[0-9]+.*", "solution": "The answer is \\boxed{7}."}
    rows = [{"id": f"p{i}", "question": f"Question {i}?", **pattern} for i in range(12)]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


@pytest.mark.slow
def test_a_whole_run_with_a_server_that_says_the_key_again(
    folder: Path, tiny_checkpoint: Path, command: Callable[..., Outcome]
) -> None:
    with serving(key=KEY, reasoning="content") as server:
        server.next.extend(ECHOES)
        done = talkative_process(folder, *run(server.url, "runs/one", tiny_checkpoint))
        assert done.code == 0, done.err
        assert not server.next
        assert server.statuses[200] > 5
    with Store.open(folder / "runs" / "one", readonly=True) as store:
        told = [s.completion.error or s.completion.text for s in store.completions.iterate()]
        told += [t.attempt.error for t in store.attempts.iterate()]
        assert any("[key]" in text for text in told)  # the server did say it, and it was taken out
    for words in (
        "cache export runs/one --out runs/one/export.jsonl",
        "export runs/one --arm sft --format trl --out runs/one/rows/trl.jsonl",
        "report runs/one",
        "cache journal runs/one --json",
        "cache journal runs/one",
        "cache stats runs/one",
    ):
        assert command(*words.split()).code == 0
    names = {path.name for path in (folder / "runs" / "one").rglob("*")}
    assert {
        "store.sqlite",
        "sft.parquet",
        "report.html",
        "export.jsonl",
        "manifest.json",
        "results.json",
    } <= names
    assert searched(folder) == []


@pytest.mark.parametrize(
    "refusal", ["401", "403", "404", pytest.param("500", marks=pytest.mark.slow), "gone"]
)
def test_runs_that_are_refused(
    folder: Path, tiny_checkpoint: Path, command: Callable[..., Outcome], refusal: str
) -> None:
    said = json.dumps(
        {"error": {"message": f"Incorrect API key provided: {KEY}. Header: Bearer {KEY}"}}
    ).encode()
    with serving(key="another" if refusal == "401" else KEY) as server:
        if refusal.isdecimal() and refusal != "401":
            server.next.extend([Reply(int(refusal), said)] * 200)
        url = server.url if refusal != "gone" else "http://127.0.0.1:9/v1"
        done = command(*run(url, "runs/refused", tiny_checkpoint, deadline=0.5))
        assert done.code == 2, done.err
        told = {
            "401": "refuses the key",
            "403": "refuses the key",
            "404": "model",
            "500": "potstill: ",
            "gone": "can't be reached",
        }
        assert told[refusal] in done.err
        assert refusal in ("gone", "401") or server.statuses[int(refusal)]
    assert searched(folder) == []


def test_a_key_where_its_name_belongs_is_refused_and_not_repeated(
    folder: Path, tiny_checkpoint: Path, command: Callable[..., Outcome]
) -> None:
    for words in (
        f"openai:fake?url=http://127.0.0.1:9/v1&key={KEY}",
        f"openai:fake?url=http://user:{KEY}@127.0.0.1:9/v1",
        f"openai:fake?url=http://127.0.0.1:9/v1&api_key={KEY}",
    ):
        line = run("http://127.0.0.1:9/v1", "runs/named", tiny_checkpoint)
        line[line.index("--teacher") + 1] = words
        done = command(*line)
        assert done.code == 2
        assert "fix:" in done.err
        set_by_key = [word for word in line if word not in ("--teacher", words)]
        for more in (["--role", f"teacher={words}"], ["--set", f"roles.teacher={words}"]):
            assert command(*set_by_key, *more).code == 2
    assert searched(folder) == []


def test_the_search_finds_a_key(tmp_path: Path) -> None:
    """Packed in Parquet, cut by the pages of SQLite, in base64 within other text: a search that finds none can find."""

    class Rude:
        id = "model"

        def write(self, requests):
            return [Completion("word " * 1500 + KEY + " word" * 1500) for _ in requests]

    with Store.open(tmp_path / "run") as store:
        with_cache(Rude(), store, role="teacher", arm="sft", seed=0).write(
            [Request(name) for name in "abcdefgh"]
        )
        ledger = store.ledger("sft")
        ledger.add_traces([Trace(Problem("p", "q"), "q", f"text {KEY} " * 50)])
        ledger.finish()
    found = searched(tmp_path)
    assert any(line.startswith("run/store.sqlite") for line in found)
    assert any(line.startswith("run/traces/sft.parquet") for line in found)
    for lead in ("", "a", "ab"):
        assert leaks("x", b"so: " + base64.b64encode(f"{lead}{KEY} and more".encode()))
    assert leaks("x", f"http://host/?key={quote(KEY, safe='')}".encode())
    assert not leaks("x", b"sk-another-key")
