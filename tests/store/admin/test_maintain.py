"""Looking after a store: numbers, damage found, unused completions, JSONL there and back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from store_fakes import Plain, ask

from potstill.errors import InputError, StoreError
from potstill.records import Message, Problem, Trace, blank
from potstill.store import Store, cached
from potstill.store.admin.maintain import Gone, gc, stats, verify
from potstill.store.admin.transfer import Imported, export, import_
from potstill.traces.session import Drop


@pytest.fixture
def store(tmp_path: Path):
    with Store.open(tmp_path / "run") as opened:
        ledger = opened.ledger("sft")
        model = Plain(fails={"b"})
        requests = ask("a", "b", "c\ud800") + ask((Message("user", "d"),))
        cached(model, opened, role="teacher", arm="sft", seed=0).write(requests)
        cached(model, opened, role="judge", arm="orion", seed=0).write(ask("a", "z"))
        root = blank(Problem("p", "q"))
        child = Trace(root.problem, "q", "t", parents=(root.id,), operator="sample")
        ledger.made([root, child])
        ledger.dropped([Drop(child, "keep", "right", "wrong")])
        opened.judgements.put({"verdict-1": '["right"]', "verdict-2": '["wrong"]'})
        yield opened


def test_stats(store: Store):
    found = stats(store)
    assert {
        name: found[name]
        for name in ("completions", "judgements", "traces", "drops", "students", "unused")
    } == {
        "completions": 5,
        "judgements": 2,
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
    assert verify(store) == []
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
    found = verify(store)
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
    cached(Plain(), store, role="teacher", arm="sft", seed=0).write(ask("a"))
    assert gc(store, dry_run=False) == Gone(0, 0, True)
    ledger.finish()  # it came to its end, and b, c and d were not needed any more
    unused = gc(store)
    assert (unused.completions, unused.deleted) == (3, False)
    assert unused.bytes > 200
    assert stats(store)["completions"] == 5
    assert gc(store, dry_run=False) == Gone(3, unused.bytes, True, traces=2)
    assert stats(store)["completions"] == 2
    assert gc(store, dry_run=False) == Gone(0, 0, True)
    assert verify(store) == []
    model = Plain()
    cached(model, store, role="teacher", arm="sft", seed=0).write(ask("a", "b", "z"))
    assert model.asked == ["b"]


def test_export_and_import(store: Store, tmp_path: Path):
    path = tmp_path / "cache.jsonl"
    assert export(store, path) == (5, 0)
    with Store.open(tmp_path / "other") as other:
        cached(Plain(), other, role="student", arm="mine", seed=0).write(ask("a"))
        assert import_(other, path) == Imported(new=4, known=1)
        assert import_(other, path) == Imported(new=0, known=5)
        theirs = {s.key: s for s in store.completions.all()}
        mine = {s.key: s for s in other.completions.all()}
        own = ask("a")[0].key("model-plain")
        assert mine[own].arm == "mine"
        assert {k: s for k, s in mine.items() if k != own} == {
            k: s._replace(paid=False) for k, s in theirs.items() if k != own
        }
        model = Plain()
        out = cached(model, other, role="t", arm="x", seed=0).write(ask("a", "b", "c\ud800", "z"))
        assert model.asked == []
        assert (out[1].error, out[2].text[:2]) == ("time-out", "c\ud800")


def test_bad_imports(store: Store, tmp_path: Path):
    path = tmp_path / "cache.jsonl"
    export(store, path)
    lines = path.read_text().splitlines()
    with Store.open(tmp_path / "other") as other:
        for bad in (
            lines[1].replace('"prompt":"a"', '"prompt":"A"'),
            lines[1][:-10],
            "[]",
            lines[1].replace('"finish":"stop"', '"finish":3'),
        ):
            assert bad != lines[1]
            path.write_text("\n".join([lines[0], lines[2], bad]) + "\n")
            with pytest.raises(InputError, match="line 3"):
                import_(other, path)
        path.write_text(lines[0].replace("potstill-1", "potstill-0") + "\n")
        with pytest.raises(StoreError, match="another version of potstill: scheme potstill-0"):
            import_(other, path)
        for text in ("", "{}\n", json.dumps([1]) + "\n"):
            path.write_text(text)
            with pytest.raises(InputError, match="is not an export"):
                import_(other, path)
        assert stats(other)["completions"] == 0
