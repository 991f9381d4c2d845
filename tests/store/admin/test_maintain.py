"""Looking after a store: numbers, damage found, unused completions, JSONL there and back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from store_fakes import Plain, ask

from potstill.errors import InputError, StoreError
from potstill.models.phase import in_training
from potstill.records import Message, Problem, Trace, blank, digest
from potstill.store import Store, with_cache
from potstill.store.admin.maintain import GcResult, check_store, collect_garbage, store_stats
from potstill.store.admin.transfer import ImportCounts, export_completions, import_completions
from potstill.traces.session import Drop


@pytest.fixture
def store(store: Store) -> Store:
    ledger = store.ledger("sft")
    model = Plain(fails={"b"})
    requests = ask("a", "b", "c\ud800") + ask((Message("user", "d"),))
    with_cache(model, store, role="teacher", arm="sft", seed=0).write(requests)
    with_cache(model, store, role="judge", arm="orion", seed=0).write(ask("a", "z"))
    root = blank(Problem("p", "q"))
    child = Trace(root.problem, "q", "t", parents=(root.id,), operator="sample")
    ledger.add_traces([root, child])
    ledger.add_drops([Drop(child, "keep", "right", "wrong")])
    store.verdicts.put({"verdict-1": '["right"]', "verdict-2": '["wrong"]'})
    return store


def test_stats(store: Store):
    found = store_stats(store)
    assert {
        name: found[name]
        for name in ("completions", "verdicts", "traces", "drops", "students", "unused")
    } == {
        "completions": 5,
        "verdicts": 2,
        "traces": 2,
        "drops": 1,
        "students": 0,
        "unused": 0,
    }
    paid = [(p["arm"], p["role"], p["model"], p["completions"], p["errors"]) for p in found["paid"]]
    assert paid == [
        ("orion", "judge", "model-plain", 1, 0),
        ("sft", "teacher", "model-plain", 4, 1),
    ]
    assert found["bytes"] > 4096
    assert found["arms"] == {"sft": False}


def test_verify_names_every_damage(store: Store):
    assert check_store(store) == []
    key = store.completions.get([ask("a")[0].key("model-plain")]).popitem()[0]
    with store.database.transaction() as connection:
        connection.execute(
            "UPDATE completions SET payload = replace(payload, '\"a\"', '\"A\"') WHERE key = ?",
            (key,),
        )
        connection.execute("UPDATE completions SET payload = '{' WHERE arm = 'orion'")
        connection.execute(
            'UPDATE traces SET record = replace(record, \'"text":"t"\', \'"text":"T"\')'
        )
        connection.execute("DELETE FROM traces WHERE operator = 'problem'")
        connection.execute(
            "INSERT INTO drops (arm, id, operator, test, reason) VALUES ('sft', 'trace-x', '', '', '')"
        )
        connection.execute("INSERT INTO uses VALUES ('sft', 'teacher', 'completion-x', 1)")
    found = check_store(store)
    assert len(found) == 6
    for start in (
        f"completion {key}: its payload has the key completion-",
        "completion completion-",
        "trace trace-",
        "trace trace-",
        "drops of arm sft: trace-x is not in traces",
        "uses of arm sft: completion-x is not in completions",
    ):
        assert any(line.startswith(start) for line in found), (start, found)
    assert sum("was changed" in line for line in found) == 1
    assert sum("its parent" in line for line in found) == 1
    assert sum("can't be read" in line for line in found) == 1


def test_gc_keeps_what_an_interrupted_arm_will_want_again(store: Store):
    ledger = store.ledger("sft")  # the arm begins again, and is killed after one call
    with_cache(Plain(), store, role="teacher", arm="sft", seed=0).write(ask("a"))
    assert collect_garbage(store, dry_run=False) == GcResult(0, 0, True)
    ledger.finish()  # it came to its end, and b, c and d were not needed any more
    unused = collect_garbage(store)
    assert (unused.completions, unused.deleted) == (3, False)
    assert unused.bytes > 200
    assert store_stats(store)["completions"] == 5
    assert collect_garbage(store, dry_run=False) == GcResult(3, unused.bytes, True, traces=2)
    assert store_stats(store)["completions"] == 2
    assert collect_garbage(store, dry_run=False) == GcResult(0, 0, True)
    assert check_store(store) == []
    model = Plain()
    with_cache(model, store, role="teacher", arm="sft", seed=0).write(ask("a", "b", "z"))
    assert model.asked == ["b"]


def test_export_and_import(store: Store, tmp_path: Path):
    path = tmp_path / "cache.jsonl"
    assert export_completions(store, path) == (5, 0)
    with Store.open(tmp_path / "other") as other:
        with_cache(Plain(), other, role="student", arm="mine", seed=0).write(ask("a"))
        assert import_completions(other, path) == ImportCounts(new=4, known=1)
        assert import_completions(other, path) == ImportCounts(new=0, known=5)
        theirs = {s.key: s for s in store.completions.iterate()}
        mine = {s.key: s for s in other.completions.iterate()}
        own = ask("a")[0].key("model-plain")
        assert mine[own].arm == "mine"
        assert {k: s for k, s in mine.items() if k != own} == {
            k: s._replace(paid=False) for k, s in theirs.items() if k != own
        }
        model = Plain()
        out = with_cache(model, other, role="t", arm="x", seed=0).write(
            ask("a", "b", "c\ud800", "z")
        )
        assert model.asked == []
        assert (out[1].error, out[2].text[:2]) == ("time-out", "c\ud800")


def rewritten(line: str, *, has_digest: bool = False, **values: Any) -> str:
    """A line of an export with other values, by hand: without a digest, or with a right one."""
    row = json.loads(line)
    del row["digest"]
    for name, value in values.items():
        part = row["completion"] if name in row["completion"] else row
        part[name] = value
    if has_digest:
        row["digest"] = digest("export", row)
    return json.dumps(row)


@pytest.mark.parametrize(
    "values",
    [
        {"finish_reason": 3},
        {"finish_reason": "finished"},
        {"text": None},
        {"error": ["x"]},
        {"tokens": [1, 2, 3]},
        {"tokens": [1, -2, 3, 4]},
        {"tokens": [1, 2.5, 3, 4]},
        {"tokens": [10**30, 2, 3, 4]},
        {"cost": -1.0},
        {"cost": 1e300},
        {"cost": "free"},
        {"seconds": -1},
        {"logprobs": ["x"]},
        {"sample_index": 7},
        {"sample_index": True},
        {"created": "now"},
        {"paid": 1},
        {"role": 4},
        {"payload": []},
        {"colour": "red", "completion": {}},
    ],
    ids=str,
)
def test_values_that_no_export_holds_are_refused(
    store: Store, tmp_path: Path, values: dict[str, Any]
):
    path = tmp_path / "cache.jsonl"
    export_completions(store, path)
    header, line, *_ = path.read_text().splitlines()
    path.write_text(f"{header}\n{rewritten(line, has_digest=True, **values)}\n")
    with (
        Store.open(tmp_path / "other") as other,
        pytest.raises(InputError, match="line 2 is no line of an export"),
    ):
        import_completions(other, path)


def test_bad_imports(store: Store, tmp_path: Path):
    path = tmp_path / "cache.jsonl"
    export_completions(store, path)
    lines = path.read_text().splitlines()
    with Store.open(tmp_path / "other") as other:
        for bad in (
            lines[1].replace('"prompt": "a"', '"prompt": "A"'),
            lines[1].replace('"text": "', '"text": "Changed. '),
            lines[1].replace('"cost": null', '"cost": 0.0'),
            rewritten(lines[1]),
            lines[1][:-10],
            "[]",
        ):
            assert bad != lines[1]
            path.write_text("\n".join([lines[0], lines[2], bad]) + "\n")
            with pytest.raises(InputError, match="line 3"):
                import_completions(other, path)
        path.write_text(lines[0].replace("potstill-3", "potstill-0") + "\n")
        with pytest.raises(StoreError, match="another version of potstill: scheme potstill-0"):
            import_completions(other, path)
        for text in ("", "{}\n", json.dumps([1]) + "\n"):
            path.write_text(text)
            with pytest.raises(InputError, match="is not an export"):
                import_completions(other, path)
        assert store_stats(other)["completions"] == 0


def test_what_the_training_of_a_deleted_student_asked_is_deleted_after_it(tmp_path):
    with Store.open(tmp_path) as store:
        store.ledger("arm").finish()
        teacher = with_cache(Plain(), store, role="teacher", arm="arm", seed=0)
        with in_training("student-1"):
            teacher.write(ask("q"))
        store.ledger("arm").finish()  # another run, which needs nothing of it
        (tmp_path / "students" / "student-1").mkdir(parents=True)
        assert collect_garbage(store, dry_run=False, students=True).completions == 0
        assert collect_garbage(store, dry_run=False).completions == 1
