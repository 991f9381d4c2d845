"""The tries before a completion, the calls of a dead process, and what each role has spent."""

from __future__ import annotations

from pathlib import Path

from store_fakes import ask, store_failed_tries

from potstill.budget.amounts import Intent, Spent
from potstill.models.model import Attempt, Completion
from potstill.records import Tokens
from potstill.store import Store
from potstill.store.admin import transfer
from potstill.store.attempts import DIED

RATE = Attempt("rate: 429", seconds=0.1)
BROKEN = Attempt("malformed: not JSON \ud800", Tokens(5, 7, 1, 2), 0.25, 1.5, "half \ud800", True)


def put(store: Store, prompt: str, done: Completion, role: str = "teacher") -> str:
    request = ask(prompt)[0]
    store.completions.put("model", role, "sft", [(request, done)])
    return request.key("model")


def test_a_completion_comes_back_as_it_was_but_for_its_tries(store: Store):
    logprobs = (-0.1, -1 / 3, 0.0, -float("inf"))
    done = Completion("t", "stop", Tokens(1, 2), "", 0.5, logprobs, 0.125, served="gpt \ud800")
    key = put(store, "a", done._replace(tries=(RATE, BROKEN)))
    assert store.completions.get([key])[key] == done
    assert next(store.completions.iterate()).tries == 2
    assert [(t.number, t.attempt) for t in store.attempts.by_key([key])[key]] == [
        (1, RATE),
        (2, BROKEN),
    ]
    free = put(store, "b", Completion("t"))
    assert store.completions.get([free])[free] == Completion("t")
    assert store.attempts.by_key([free, "absent"]) == {}


def test_a_failure_that_is_asked_again_stays_in_the_journal(store: Store):
    failed = Completion("part", "", Tokens(3, 4), "timeout: 600 s", 600.0, cost=0.5, tries=(RATE,))
    key = put(store, "a", failed)
    assert put(store, "a", Completion("t", "stop", Tokens(3, 9), cost=1.0, tries=(BROKEN,))) == key
    assert store.completions.get([key])[key].text == "t"
    again = Attempt("timeout: 600 s", Tokens(3, 4), 0.5, 600.0, "part", True)
    assert [t.attempt for t in store.attempts.by_key([key])[key]] == [RATE, again, BROKEN]
    assert store.attempts.spent_by_role() == {"teacher": Spent(7 + 12 + 12, 0.5 + 1.0 + 0.25)}


def test_spent_counts_each_thing_once(store: Store):
    store.attempts.record_intents(
        [Intent("x", "teacher", "sft", "m", 100, 1.0), Intent("y", "judge", "sft", "m", 10, 0.5)]
    )
    assert store.attempts.spent_by_role() == {"judge": Spent(10, 0.5), "teacher": Spent(100, 1.0)}
    store.attempts.record_intents([Intent("x", "teacher", "sft", "m", 150, 1.5)])
    assert store.attempts.spent_by_role()["teacher"] == Spent(150, 1.5)
    key = ask("a")[0].key("model")
    store.attempts.record_intents([Intent(key, "teacher", "sft", "model", 1000, 8.0)])
    put(store, "a", Completion("t", "stop", Tokens(3, 9), cost=1.0))
    assert store.attempts.spent_by_role()["teacher"] == Spent(162, 2.5)
    store_failed_tries(store, "m", "teacher", "sft", [("x", BROKEN), ("x", RATE)])
    assert store.attempts.spent_by_role()["teacher"] == Spent(24, 1.25)
    store.attempts.withdraw_intents(["y"])
    assert store.attempts.open_intents() == []
    assert store.attempts.spent_by_role() == {"teacher": Spent(24, 1.25)}


def test_the_calls_of_a_dead_process_are_counted_at_their_worst(tmp_path: Path):
    key = ask("a")[0].key("model")
    with Store.open(tmp_path / "run") as store:
        store.attempts.record_intents([Intent(key, "teacher", "sft", "model", 1000, 8.0)])
    with Store.open(tmp_path / "run") as store:
        assert store.attempts.spent_by_role() == {"teacher": Spent(1000, 8.0)}
        assert (store.attempts.adopt_intents(), store.attempts.adopt_intents()) == (1, 0)
        assert store.attempts.spent_by_role() == {"teacher": Spent(1000, 8.0)}
        (tried,) = store.attempts.iterate()
        assert (tried.key, tried.number, tried.attempt.error, tried.attempt.billed) == (
            key,
            1,
            DIED,
            True,
        )
        # The answer that is asked for again was perhaps paid twice, and that is what is counted.
        put(store, "a", Completion("t", "stop", Tokens(3, 9), cost=1.0, tries=(BROKEN,)))
        assert store.attempts.spent_by_role() == {"teacher": Spent(1024, 9.25)}
        assert [t.number for t in store.attempts.by_key([key])[key]] == [1, 2]


def test_what_was_imported_was_paid_elsewhere(store: Store, tmp_path: Path):
    done = Completion(
        "t", "stop", Tokens(3, 9), "", 0.5, (-0.5, -float("inf")), 1.0, served="m-2026"
    )
    key = put(store, "a", done._replace(tries=(RATE,)))
    transfer.export_completions(store, tmp_path / "e.jsonl")
    with Store.open(tmp_path / "other") as other:
        assert transfer.import_completions(other, tmp_path / "e.jsonl") == (1, 0)
        assert other.completions.get([key])[key] == done
        assert next(other.completions.iterate()).tries == 1
        assert other.attempts.spent_by_role() == {}
        assert list(other.attempts.iterate()) == []
        other.completions.record_use("mine", "teacher", [key])
        assert other.usage("mine")["teacher"]["cost"] == 1.0


def test_a_rescued_run_has_paid_what_it_had_paid(store: Store, tmp_path: Path):
    put(store, "a", Completion("t", "stop", Tokens(3, 9), cost=1.0, tries=(RATE, BROKEN)))
    store_failed_tries(store, "m", "judge", "sft", [("completion-x", BROKEN)])
    transfer.export_completions(store, tmp_path / "e.jsonl")
    with Store.open(tmp_path / "other") as other:
        for _ in range(2):
            transfer.import_completions(other, tmp_path / "e.jsonl", paid=True)
            assert (
                other.attempts.spent_by_role()
                == store.attempts.spent_by_role()
                == {"judge": Spent(12, 0.25), "teacher": Spent(24, 1.25)}
            )
            assert list(other.attempts.iterate()) == list(store.attempts.iterate())
