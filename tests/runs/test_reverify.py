"""Judging a run's traces again: what was never asked is left, what a model judged is read from its stored replies."""

from __future__ import annotations

from pathlib import Path

import pytest

from potstill.errors import ConfigError
from potstill.models.model import Completion
from potstill.records import Problem, blank
from potstill.runs import reverify
from potstill.store import Store, with_cache
from potstill.traces import Session, sample, using, verify
from potstill.verifiers import rubric


class Fixed:
    """Says one thing, and counts how often it is asked."""

    def __init__(self, id: str, text: str) -> None:
        self.id, self.text, self.asked = id, text, 0

    def write(self, requests):
        self.asked += len(requests)
        return [Completion(self.text) for _ in requests]


def test_a_judge_is_not_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    judge = Fixed("model-judge", "It is fine.\nVerdict: right")
    with Store.open(tmp_path) as store:
        ledger = store.ledger("sft")
        asking = with_cache(judge, store, role="judge", arm="sft", seed=7)
        roots = [blank(Problem(f"p{i}", f"Why {i}?", "Because.", kind="judge")) for i in range(3)]
        with using(Session(ledger=ledger, verdict_cache=store.verdicts, judge=asking)):
            model = with_cache(
                Fixed("model-teacher", "So."), store, role="teacher", arm="sft", seed=7
            )
            before = verify(sample(model, roots))
        ledger.finish()
        calls = judge.asked
        assert calls
        assert before[0].verdict.verifier.endswith(":model-judge")
        found = reverify.judge_again(store)
        assert [(line.traces, line.changed, line.after) for line in found.lines] == [
            (3, 0, before[0].verdict.verifier)
        ]
        monkeypatch.setattr(rubric, "VERSION", "judge@99")
        found = reverify.judge_again(store, ["judge"])
        assert [(line.traces, line.after) for line in found.lines] == [(3, "judge@99:model-judge")]
        assert judge.asked == calls
        assert found.unasked == 0


def test_traces_that_the_run_did_not_judge_are_counted(tmp_path: Path):
    with Store.open(tmp_path) as store:
        ledger = store.ledger("sft")
        roots = [blank(Problem(f"p{i}", f"What is {i}?", str(i), kind="number")) for i in range(3)]
        with using(Session(ledger=ledger, verdict_cache=store.verdicts)):
            model = with_cache(
                Fixed("m", "The answer is 1."), store, role="teacher", arm="sft", seed=0
            )
            made = sample(model, roots)
            verify(made[:2])
        seen: list[tuple[str, int, int]] = []
        found = reverify.judge_again(store, progress=lambda *step: seen.append(step))
        assert seen == [("sft: judged again", 0, 3), ("sft: judged again", 3, 3)], (
            "nothing is kept from before"
        )
        assert (sum(line.traces for line in found.lines), found.unasked) == (2, 1)
        with pytest.raises(ConfigError, match="no verifier of kind 'nmber'"):
            reverify.judge_again(store, ["nmber"])
