"""An arm's traces and rows as Parquet: what is in them, who can read them, and what becomes of broken ones."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from potstill.errors import StoreError
from potstill.records import Author, Message, Problem, Span, Tokens, Trace, Verdict, blank
from potstill.store import Store
from potstill.store.admin import parquet

pa = pytest.importorskip("pyarrow")

PROBLEM = Problem("p1", "What is 2 + 2?", "4", kind="number")
ROOT = blank(PROBLEM, (Message("system", "Think."), Message("user", "What is 2 + 2?")))
WRONG = Trace(
    PROBLEM,
    ROOT.prompt,
    "<think>2 + 2 is 5.</think>The answer is 5.",
    operator="sample",
    parents=(ROOT.id,),
).annotate(verdict=Verdict("wrong", "5", "5 is not 4", "number@1"))
RIGHT = Trace(
    PROBLEM,
    ROOT.prompt,
    "<think>2 + 2 is 4.\ud800</think>The answer is 4.",
    prefix_length=7,
    finish_reason="stop",
    author=Author("model-1", "prompt-1", (("temperature", 0.7),), 3),
    parents=(ROOT.id, WRONG.id),
    root=WRONG.id,
    operator="rewrite",
    saw_gold=True,
).annotate(
    verdict=Verdict("right", "4", "", "number@1"),
    scores={"steps": 1.0, "perplexity": float("inf"), "label": "good", "none": None},
    spans=(Span(0, 7, "unit"), Span(7, 20, "step", 0.5, 1.0)),
    weight=0.25,
    tokens=Tokens(11, 22, 3, 4),
    rejected=WRONG,
    teacher_prompt="It is 4.",
)
FAILED = Trace(PROBLEM, ROOT.prompt, error="rate: 429", operator="sample", parents=(ROOT.id,))


def fill(
    store: Store, arm: str = "sft", traces: tuple[Trace, ...] = (ROOT, WRONG, RIGHT, FAILED)
) -> None:
    ledger = store.ledger(arm)
    ledger.add_traces(traces)
    ledger.rows("stage-1", [trace for trace in traces if trace.id == RIGHT.id])
    ledger.finish()


@pytest.fixture
def store(store: Store) -> Store:
    fill(store)
    return store


def test_every_field_of_a_trace_is_a_column(store: Store):
    rows = pa.parquet.read_table(store.folder / "traces" / "sft.parquet").to_pylist()
    assert [row["id"] for row in rows] == [t.id for t in (ROOT, WRONG, RIGHT, FAILED)]
    row = rows[2]
    assert json.loads(row.pop("prompt")) == [
        {"role": "system", "content": "Think."},
        {"role": "user", "content": "What is 2 + 2?"},
    ]
    assert row == {
        **{
            "id": RIGHT.id,
            "problem": "p1",
            "question": "What is 2 + 2?",
            "gold": "4",
            "kind": "number",
            "metadata": "{}",
        },
        "text": "<think>2 + 2 is 4.\ufffd</think>The answer is 4.",
        **{
            "reasoning": "2 + 2 is 4.\ufffd",
            "reply": "The answer is 4.",
            "prefix_length": 7,
            "finish_reason": "stop",
            "stop_string": "",
        },
        **{
            "operator": "rewrite",
            "parents": [ROOT.id, WRONG.id],
            "root": WRONG.id,
            "model": "model-1",
            "sample_index": 3,
        },
        **{
            "settings": '{"temperature":0.7}',
            "saw_gold": True,
            "error": "",
            "status": "right",
            "answer": "4",
        },
        **{"reason": "", "verifier": "number@1"},
        "scores": [
            {"name": "label", "value": None, "text": "good"},
            {"name": "none", "value": None, "text": None},
            {"name": "perplexity", "value": float("inf"), "text": None},
            {"name": "steps", "value": 1.0, "text": None},
        ],
        "spans": [
            {"start": 0, "stop": 7, "kind": "unit", "weight": 1.0, "score": None, "author": ""},
            {"start": 7, "stop": 20, "kind": "step", "weight": 0.5, "score": 1.0, "author": ""},
        ],
        **{
            "weight": 0.25,
            "prompt_tokens": 11,
            "completion_tokens": 22,
            "cached_tokens": 3,
            "reasoning_tokens": 4,
        },
        **{"rejected": WRONG.id, "rival_text": WRONG.text, "stage": None, "position": None},
        "teacher_prompt": '[{"role": "user", "content": "It is 4."}]',
    }
    assert (rows[0]["model"], rows[0]["status"], rows[3]["error"]) == (
        None,
        "unjudged",
        "rate: 429",
    )
    (trained,) = pa.parquet.read_table(store.folder / "rows" / "sft.parquet").to_pylist()
    assert (trained["id"], trained["stage"], trained["position"]) == (RIGHT.id, "stage-1", 0)


def test_others_can_read_it(store: Store):
    path = store.folder / "traces" / "sft.parquet"
    pandas = pytest.importorskip("pandas")
    assert list(pandas.read_parquet(path)["status"]) == ["unjudged", "wrong", "right", "unjudged"]
    assert pa.parquet.ParquetFile(path).metadata.row_group(0).column(0).compression == "ZSTD"


def test_the_datasets_library_can_read_it(
    store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets", reason="needs the extra potstill[data]")
    found = datasets.Dataset.from_parquet(
        str(store.folder / "rows" / "sft.parquet"), cache_dir=str(tmp_path / "hf")
    )
    assert (found[0]["reply"], found[0]["parents"]) == ("The answer is 4.", [ROOT.id, WRONG.id])


def test_a_file_that_fits_the_ledger_is_not_written_twice(store: Store):
    paths = [store.folder / kind / "sft.parquet" for kind in ("traces", "rows")]
    before = [path.stat().st_mtime_ns for path in paths]
    time.sleep(0.01)
    fill(store)
    assert [path.stat().st_mtime_ns for path in paths] == before
    fill(store, traces=(ROOT, WRONG, RIGHT.annotate(weight=0.5), FAILED))
    assert [path.stat().st_mtime_ns > old for path, old in zip(paths, before, strict=True)] == [
        True,
        True,
    ]
    assert pa.parquet.read_table(paths[1]).to_pylist()[0]["weight"] == 0.5


def test_an_arm_that_has_no_rows_any_more_has_no_file_of_rows(store: Store):
    ledger = store.ledger("sft")
    ledger.add_traces([ROOT])
    ledger.finish()
    assert not (store.folder / "rows" / "sft.parquet").exists()
    assert pa.parquet.read_table(store.folder / "traces" / "sft.parquet").num_rows == 1


@pytest.mark.parametrize("damage", ["cut", "empty", "middle", "foreign", "gone", "stale"])
def test_broken_files_are_named_and_written_again(store: Store, damage: str):
    path = store.folder / "traces" / "sft.parquet"
    data = path.read_bytes()
    {
        "cut": lambda: path.write_bytes(data[: len(data) // 2]),
        "empty": lambda: path.write_bytes(b""),
        "middle": lambda: path.write_bytes(data[:60] + bytes([data[60] ^ 1]) + data[61:]),
        "foreign": lambda: path.write_text("id,text\n1,hello\n"),
        "gone": path.unlink,
        "stale": lambda: pa.parquet.write_table(pa.table({"id": ["x"]}), path),
    }[damage]()
    found = parquet.find_faults(store.database, store.folder)
    assert [str(path) in line for line in found] == ([] if damage == "gone" else [True])
    assert parquet.rewrite_files(store.database, store.folder) == [path]
    assert parquet.find_faults(store.database, store.folder) == []
    assert path.read_bytes() == data


def test_a_write_that_fails_leaves_the_file_as_it_was(
    store: Store, monkeypatch: pytest.MonkeyPatch
):
    path = store.folder / "traces" / "sft.parquet"
    data = path.read_bytes()

    def full(number: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="No space left on device"):
        fill(store, traces=(ROOT, RIGHT))
    assert path.read_bytes() == data
    assert not list(store.folder.rglob("*.part"))


@pytest.mark.slow
def test_many_traces_come_in_groups(tmp_path: Path):
    many = [
        Trace(PROBLEM, "q", f"text {i}", operator="sample")
        for i in range(2 * parquet.ROW_GROUP + 3)
    ]
    with Store.open(tmp_path) as store:
        ledger = store.ledger("sft")
        ledger.add_traces(many)
        ledger.rows("stage-1", many[::-1])
        ledger.finish()
    opened = pa.parquet.ParquetFile(tmp_path / "traces" / "sft.parquet")
    assert (opened.num_row_groups, opened.metadata.num_rows) == (3, len(many))
    rows = pa.parquet.read_table(tmp_path / "rows" / "sft.parquet").to_pylist()
    assert [row["id"] for row in rows] == [t.id for t in many[::-1]]
    assert [row["position"] for row in rows] == list(range(len(many)))
