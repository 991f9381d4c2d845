"""The journal: every call of a run, whatever came of it, with what the verifiers said of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from potstill.budget.amounts import Intent
from potstill.models.model import Attempt, Completion
from potstill.records import Problem, Tokens, blank
from potstill.store import Store, with_cache
from potstill.store.admin import journal
from potstill.store.attempts import DIED
from potstill.traces import Session, sample, using, verify

RATE = Attempt("rate: 429", seconds=0.5)
ANSWERS = {
    "one": Completion(
        "<think>It is 1.</think>The answer is 1.", "stop", Tokens(3, 9, 1, 4), "", 1.5, cost=0.25
    ),
    "two": Completion(
        "The answer is 1.", "stop", Tokens(3, 5), "", 1.0, cost=0.5, tries=(RATE,), served="m-0613"
    ),
    "three": Completion("It is long and", "length", Tokens(3, 500)),
    "four": Completion("", "", Tokens(3), "refused: I can't help with that"),
}


class Fixed:
    """Answers by prompt."""

    id = "model-fixed"

    def write(self, requests):
        return [ANSWERS[r.prompt] for r in requests]


@pytest.fixture
def store(store: Store) -> Store:
    for arm in ("sft", "rft"):
        ledger = store.ledger(arm)
        roots = [
            blank(Problem(f"p{i}", name, str(i), kind="number"))
            for i, name in enumerate(ANSWERS, start=1)
        ]
        with using(Session(ledger=ledger, verdict_cache=store.verdicts)):
            ledger.add_traces(roots)
            model = with_cache(Fixed(), store, role="teacher", arm=arm, seed=3)
            verify(sample(model, roots if arm == "sft" else roots[:1], temperature=0.5))
        ledger.finish()
    store.attempts.record_intents(
        [Intent("completion-lost", "teacher", "sft", "model-fixed", 90, 1.0)]
    )
    store.attempts.adopt_intents()
    return store


def by_prompt(entries: list[journal.Entry]) -> dict[str, list[journal.Entry]]:
    found: dict[str, list[journal.Entry]] = {}
    for entry in entries:
        found.setdefault(entry.payload.get("prompt", "?"), []).append(entry)
    return found


def test_every_call_is_there_with_all_that_is_known(store: Store):
    found = by_prompt(list(journal.read_entries(store)))
    assert {name: len(calls) for name, calls in found.items()} == {
        "one": 1,
        "two": 2,
        "three": 1,
        "four": 1,
        "?": 1,
    }
    (one,) = found["one"]
    assert (one.reasoning, one.reply) == ("It is 1.", "The answer is 1.")
    assert one.payload == {
        "prompt": "one",
        "prefix": "",
        "settings": [["temperature", 0.5]],
        "seed": 3,
        "sample_index": 0,
    }
    assert (one.finish_reason, one.cost, one.seconds, one.tokens) == (
        "stop",
        0.25,
        1.5,
        Tokens(3, 9, 1, 4)._asdict(),
    )
    assert (one.arm, one.role, one.model) == ("sft", "teacher", "model-fixed")
    assert [(v.arm, v.operator, v.status, v.answer) for v in one.verdicts] == [
        ("sft", "sample", "right", "1"),
        ("rft", "sample", "right", "1"),
    ]
    assert all(v.verifier.startswith("number@") for v in one.verdicts)
    rate, two = found["two"]
    assert (rate.number, rate.is_completion, rate.error, rate.seconds) == (
        1,
        False,
        "rate: 429",
        0.5,
    )
    assert (two.number, two.is_completion, two.served) == (2, True, "m-0613")
    assert [(v.status, v.answer, v.reason != "") for v in two.verdicts] == [("wrong", "1", True)]
    (three,), (four,) = found["three"], found["four"]
    assert (three.finish_reason, three.reply, three.verdicts[0].status) == (
        "length",
        "It is long and",
        "unparsed",
    )
    assert (four.error, four.verdicts[0].status) == ("refused: I can't help with that", "")
    (died,) = found["?"]
    assert (died.key, died.error, died.cost) == ("completion-lost", DIED, 1.0)


@pytest.mark.parametrize(
    ("status", "prompts"),
    [
        ("right", ["one"]),
        ("wrong", ["two"]),
        ("length", ["three"]),
        ("refused", ["four"]),
        ("rate", ["two"]),
        ("error", ["two", "four", "?"]),
        ("stop", ["one", "two"]),
        ("nothing", []),
    ],
)
def test_by_status(store: Store, status: str, prompts: list[str]):
    assert [
        e.payload.get("prompt", "?") for e in journal.read_entries(store, status=status)
    ] == prompts


def test_by_arm(store: Store):
    assert [e.payload["prompt"] for e in journal.read_entries(store, arm="rft")] == ["one"]
    (one,) = journal.read_entries(store, arm="rft", status="right")
    assert [v.arm for v in one.verdicts] == ["rft"]
    assert len(list(journal.read_entries(store, arm="sft"))) == 6


def test_the_same_prompt_with_another_beginning_keeps_its_own_verdict(tmp_path: Path):
    class Goes(Fixed):
        def write(self, requests):
            return [
                Completion("The answer is 2." if r.prefix == "Well. " else "The answer is 3.")
                for r in requests
            ]

    with Store.open(tmp_path) as store:
        ledger = store.ledger("sft")
        roots = [blank(Problem("p", "q", "2", kind="number"))]
        with using(Session(ledger=ledger, verdict_cache=store.verdicts)):
            model = with_cache(Goes(), store, role="teacher", arm="sft", seed=0)
            verify([*sample(model, roots, prefix="Well. "), *sample(model, roots, prefix="So. ")])
        found = {
            e.payload["prefix"]: [v.status for v in e.verdicts] for e in journal.read_entries(store)
        }
        assert found == {"Well. ": ["right"], "So. ": ["wrong"]}


def test_a_reader_beside_the_writer_and_more_than_a_portion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(journal, "_COMPLETIONS_AT_ONCE", 2)
    with Store.open(tmp_path) as store:
        ledger = store.ledger("sft")
        roots = [blank(Problem(name, name, "1", kind="number")) for name in ANSWERS]
        with using(Session(ledger=ledger)):
            verify(sample(with_cache(Fixed(), store, role="teacher", arm="sft", seed=0), roots))
        with Store.open(tmp_path, readonly=True) as reader:
            assert [
                e.payload["prompt"] for e in journal.read_entries(reader) if e.is_completion
            ] == list(ANSWERS)
            assert [len(e.verdicts) for e in journal.read_entries(reader) if e.is_completion] == [
                1,
                1,
                1,
                1,
            ]
