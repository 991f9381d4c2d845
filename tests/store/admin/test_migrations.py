"""Stores of older schemas, made by the code that wrote them, opened by today's: read, the newest brought up to date."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sqlite3
from pathlib import Path

import pytest
from store_fakes import Plain, ask

from potstill.budget.amounts import Spent
from potstill.errors import InputError, StoreError
from potstill.models.model import Request, Sampling
from potstill.records import OLDER_SCHEMES, Verdict, digest
from potstill.runs import manifest as runs
from potstill.store import Store, with_cache
from potstill.store.admin import maintain, transfer
from potstill.store.admin.migrations import SCHEMA
from potstill.store.database import FILE

OLD = Path(__file__).parents[2] / "fixtures" / "store_schema_1.sql"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A run folder with a store of schema 1."""
    connection = sqlite3.connect(tmp_path / FILE)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.executescript(OLD.read_text("utf-8"))
    connection.close()
    return tmp_path


def schema_of(folder: Path) -> str:
    connection = sqlite3.connect(folder / FILE)
    try:
        return str(connection.execute("SELECT value FROM meta WHERE name = 'schema'").fetchone()[0])
    finally:
        connection.close()


def check(store: Store) -> None:
    """What the old code wrote is all there."""
    kept = {s.payload.split('"prompt":')[1][:4]: s for s in store.completions.iterate()}
    assert len(kept) == 4
    assert kept['"a",'].completion.text == "a: 1bb9faaa"
    assert (kept['"b",'].completion.error, kept['"b",'].completion.tokens.prompt) == ("time-out", 7)
    assert kept['"c\\u'].completion.text == "c\ud800: 723122aa"
    assert kept['"a",'].completion.logprobs == ()
    assert (kept['"a",'].completion.cost, kept['"a",'].tries, kept['"a",'].paid) == (None, 0, True)
    assert store.usage("sft")["teacher"] == {
        **{
            "calls": 4,
            "reused": 0,
            "prompt_tokens": 46,
            "completion_tokens": 80,
            "seconds": 1.75,
            "errors": 1,
        },
        "cost": 0.0,
    }
    assert store.attempts.spent_by_role() == {"teacher": Spent(126, 0.0)}
    assert (list(store.attempts.iterate()), store.attempts.open_intents()) == ([], [])
    (trace,) = store.history.traces("sft", "sample")
    assert trace.verdict == Verdict("wrong", "9", "9 is not 5", "number@1")
    assert maintain.check_store(store) == []
    assert maintain.store_stats(store)["completions"] == 4


def test_a_writer_is_refused_with_the_way_to_go_on(old: Path, tmp_path: Path):
    with pytest.raises(
        StoreError, match="older version of potstill: scheme potstill-1, schema 1"
    ) as caught:
        Store.open(old)
    assert "cache export" in caught.value.fix and "cache import" in caught.value.fix
    assert schema_of(old) == "1"
    with Store.open(old, readonly=True) as store:
        transfer.export_completions(store, tmp_path / "old.jsonl")
    with Store.open(tmp_path / "new") as store:
        transfer.import_completions(store, tmp_path / "old.jsonl", paid=True)
        model = Plain()
        again = with_cache(model, store, role="teacher", arm="sft", seed=0).write(ask("a", "z"))
        assert (model.asked, again[0].text) == (["z"], "a: 1bb9faaa")
        assert store.attempts.spent_by_role()["teacher"].tokens > 126


def test_a_reader_reads_an_old_store_and_changes_nothing(old: Path):
    before = hashlib.sha256((old / FILE).read_bytes()).hexdigest()
    with Store.open(old, readonly=True) as store:
        check(store)
        assert transfer.export_completions(store, old / "export.jsonl") == (4, 0)
    assert hashlib.sha256((old / FILE).read_bytes()).hexdigest() == before
    assert schema_of(old) == "1"


def test_the_manifest_of_an_older_schema_is_taken(old: Path):
    settings = {"seed": 0}
    runs.start(old, settings)
    manifest = runs.read(old)._asdict()
    runs.write(old / runs.FILE, {**manifest, "schema": "1"})
    runs.start(old, settings)
    runs.write(old / runs.FILE, {**manifest, "schema": "99"})
    with pytest.raises(StoreError, match="another version"):
        runs.start(old, settings)


def test_an_export_of_an_older_schema_is_taken(old: Path, tmp_path: Path):
    path = tmp_path / "old.jsonl"
    with Store.open(old, readonly=True) as store:
        transfer.export_completions(store, path)
    header, *rows = map(json.loads, path.read_text().splitlines())
    del header["digests"]
    for row in rows:
        for name in ("digest", "tries", "paid"):
            del row[name]
        for name in ("logprobs", "cost", "rate", "served", "tries"):
            del row["completion"][name]
    lines = map(json.dumps, [header | {"schema": "1"}, *rows])
    path.write_text("\n".join(lines) + "\n")
    with Store.open(tmp_path / "new") as store:
        assert transfer.import_completions(store, path) == (4, 0)
        assert store.attempts.spent_by_role() == {}


@pytest.fixture
def second(tmp_path: Path) -> Path:
    """A run folder with a store of schema 2, under potstill-2."""
    connection = sqlite3.connect(tmp_path / FILE)
    connection.executescript(OLD.with_name("store_schema_2.sql").read_text("utf-8"))
    connection.close()
    return tmp_path


def test_a_store_of_potstill_2_is_read_and_taken_over(second: Path, tmp_path: Path):
    with Store.open(second, readonly=True) as store:
        assert maintain.check_store(store) == []
        [trace] = store.history.traces("sft", "sample")
        assert (trace.id, trace.new) == ("trace-a9b40cf7b4f116c62d00", ": written")
        assert transfer.export_completions(store, tmp_path / "old.jsonl") == (4, 0)
    with pytest.raises(StoreError, match="scheme potstill-2, schema 2, which is only read"):
        Store.open(second)
    with Store.open(tmp_path / "new") as store:
        assert transfer.import_completions(store, tmp_path / "old.jsonl") == (4, 0)
        assert maintain.check_store(store) == []
        model = with_cache(Plain(), store, role="teacher", arm="sft", seed=0)
        how = Sampling(temperature=0.5)
        [again] = model.write([Request("a", sampling=how, sample_index=1)])
        [at_stop] = model.write([Request("d", "so", dataclasses.replace(how, stop=(". ",)))])
    assert again.text == "a: written" and again.finish_reason == "stop"
    assert at_stop.text == "d: written", "it was paid for once"
    assert (at_stop.finish_reason, at_stop.stop_string) == ("stop_string", ""), "nobody knows"


def test_a_store_of_schema_3_gets_times(tmp_path: Path):
    connection = sqlite3.connect(tmp_path / FILE)
    connection.executescript(OLD.with_name("store_schema_3.sql").read_text("utf-8"))
    connection.close()
    key = "verdict-0123456789abcdef0123"
    with Store.open(tmp_path, readonly=True) as store:
        assert store.history.step_times("sft") == [None, None]
        assert key in store.verdicts.get([key]) and store.verdicts.created(key) is None
        assert maintain.check_store(store) == []
        before = list(store.history.traces("sft"))
    assert schema_of(tmp_path) == "3"
    with Store.open(tmp_path) as store:
        # What is there keeps its ids, its verdicts and its unknown times; what is new has one.
        assert list(store.history.traces("sft")) == before
        store.verdicts.put({key: "null", "verdict-new": "null"})
        assert store.verdicts.created(key) is None and store.verdicts.created("verdict-new")
        assert store.verdicts.get([key])[key] != "null"
        store.ledger("sft").add_step("problems", "p.jsonl", 1, 1)
        assert store.history.step_times("sft") != [None]
        assert maintain.check_store(store) == []
    assert schema_of(tmp_path) == SCHEMA


@pytest.mark.parametrize("scheme", OLDER_SCHEMES)
def test_an_export_that_an_older_version_wrote_is_taken(scheme: str, tmp_path: Path):
    names = {"potstill-1": ("draw", "finish"), "potstill-2": ("sample_index", "finish_reason")}
    index, finish = names[scheme]
    request = {"prefix": "", "prompt": "a", index: 3, "seed": 0, "settings": []}
    key = digest("completion", ["model-plain", "a", "", [], 0, 3], scheme=scheme)
    completion = {"text": "paid", finish: "stop", "tokens": [1, 2, 0, 0], "error": "", "seconds": 1}
    row = {"key": key, "role": "teacher", "arm": "sft", "model": "model-plain", index: 3}
    row |= {"created": 1.0, "payload": request, "completion": completion}
    header = {"potstill": "completions", "scheme": scheme, "schema": scheme[-1]}
    path = tmp_path / "export.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in (header, row)))
    with Store.open(tmp_path / "new") as store:
        assert transfer.import_completions(store, path) == (1, 0)
        [stored] = store.completions.iterate()
        assert stored.key == Request("a", sample_index=3).key("model-plain")
        assert stored.completion.text == "paid" and maintain.check_store(store) == []
    row["payload"] = {**request, "prompt": "b"}
    path.write_text("".join(json.dumps(line) + "\n" for line in (header, row)))
    with Store.open(tmp_path / "other") as store, pytest.raises(InputError, match="was changed"):
        transfer.import_completions(store, path)
