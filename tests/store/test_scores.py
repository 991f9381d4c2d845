"""Scores are calls: stored, resumed, limited and paid for as completions are, of a server and of a checkpoint."""

from __future__ import annotations

import math

import pytest
from openai_server import Reply, serving
from remote_fakes import RemoteModel
from store_fakes import Scorer

from potstill.budget.amounts import Limit
from potstill.budget.budget import Budget
from potstill.errors import BudgetSpent
from potstill.models import load
from potstill.models.model import Attempt, Completion, Request
from potstill.models.phase import in_phase
from potstill.models.scoring import StreamedScores, is_scoring, scored_completion
from potstill.records import Tokens
from potstill.store import Store, with_cache
from potstill.store.admin.journal import read_entries
from potstill.store.admin.transfer import export_completions, import_completions

PAIRS = [("q", f"answer {n}") for n in range(12)]


class RemoteScorer(RemoteModel):
    """Scores in a stream; each call reads ten tokens and costs a cent."""

    def likelihood(self, pairs):
        raise AssertionError("a streamed scorer is asked in a stream")

    def stream_scores(self, requests, permit=None):
        return self.stream(requests, permit)

    def completion(self, request: Request) -> Completion:
        assert is_scoring(request)
        if request.prefix in self.fails:
            return Completion("", "", error="server: 500", tries=(Attempt("rate: 429"),))
        length = float(len(request.prefix))
        return scored_completion([-length, -math.inf], Tokens(10), cost=0.01)


def wrap(model, store, budget=None, **rules):
    return with_cache(model, store, role="scorer", arm="sft", seed=3, budget=budget, **rules)


def test_scores_of_a_server_are_stored_and_counted_and_asked_for_once(store):
    model = RemoteScorer()
    assert isinstance(model, StreamedScores)
    pairs = [*PAIRS, ("q", ""), PAIRS[0]]
    first = wrap(model, store).likelihood(pairs)
    assert first == [[-float(len(text)), -math.inf] if text else [] for _, text in pairs]
    assert len(model.sent) == len(PAIRS), "an empty text costs nothing, equal ones are one call"
    usage = store.usage("sft")["scorer"]
    assert (usage["calls"], usage["prompt_tokens"]) == (12, 120)
    assert usage["cost"] == pytest.approx(0.12)
    again = RemoteScorer()
    assert wrap(again, store).likelihood(pairs) == first and not again.sent
    assert store.usage("sft")["scorer"] == usage


def test_a_scorer_stops_at_its_limit_and_a_larger_one_pays_for_the_rest(store):
    model = RemoteScorer()
    with pytest.raises(BudgetSpent, match="budget of the scorer is spent"):
        wrap(model, store, Budget({"scorer": Limit(tokens=1)})).likelihood(PAIRS)
    assert not model.sent
    with pytest.raises(BudgetSpent) as stopped:
        wrap(model, store, Budget({"scorer": Limit(tokens=400)})).likelihood(PAIRS)
    assert 0 < len(model.sent) < len(PAIRS)
    assert f"{len(model.sent)} of {len(PAIRS)}" in str(stopped.value)
    wrap(model, store, Budget({"scorer": Limit(tokens=10_000)})).likelihood(PAIRS)
    assert sorted(request.prefix for request in model.sent) == sorted(text for _, text in PAIRS)


def test_a_local_scorer_is_counted_and_limited_too(store):
    scorer = Scorer()
    with pytest.raises(BudgetSpent):
        wrap(scorer, store, Budget({"scorer": Limit(tokens=1)})).likelihood(PAIRS)
    assert not scorer.scored
    with in_phase("training"):
        wrap(scorer, store).likelihood([("q", "one three")])
    assert store.usage("sft")["scorer/training"]["prompt_tokens"] == 2


def test_a_score_that_failed_is_recorded_and_final_until_it_is_asked_for_again(store):
    failing = RemoteScorer(fails=frozenset({"answer 3"}))
    assert wrap(failing, store).likelihood(PAIRS)[3] == []
    assert store.usage("sft")["scorer"]["errors"] == 1
    healthy = RemoteScorer()
    store.retried_keys.clear()  # as in another process
    assert wrap(healthy, store).likelihood(PAIRS)[3] == [] and not healthy.sent
    assert wrap(healthy, store, retry_errors=True).likelihood(PAIRS)[3] == [-8.0, -math.inf]


def test_scores_are_in_the_journal_and_in_exports(store, tmp_path):
    wrap(RemoteScorer(), store).likelihood(PAIRS)
    entries = list(read_entries(store))
    assert len(entries) == len(PAIRS) and all(entry.is_scoring for entry in entries)
    assert {entry.payload["prefix"] for entry in entries} == {text for _, text in PAIRS}
    assert export_completions(store, tmp_path / "export.jsonl").lost == 0
    with Store.open(tmp_path / "other") as other:
        import_completions(other, tmp_path / "export.jsonl")
        model = RemoteScorer()
        assert wrap(model, other).likelihood(PAIRS[:1]) == [[-8.0, -math.inf]] and not model.sent


def test_a_scorer_on_a_server_with_a_budget_of_one_token_sends_nothing(store):
    with serving(scoring="prompt_logprobs") as server:
        scorer = load(f"openai:m?at=vllm&score=prompt_logprobs&url={server.url}")
        pairs = [("What is 1+1?", "It is two."), ("What is 1+1?", "It is three.")]
        with pytest.raises(BudgetSpent, match="scorer"):
            wrap(scorer, store, Budget({"scorer": Limit(tokens=1)})).likelihood(pairs)
        assert not server.calls
        scores = wrap(scorer, store, Budget({"scorer": Limit(tokens=5000)})).likelihood(pairs)
        assert all(scores)
        usage = store.usage("sft")["scorer"]
        # A chat's text is scored by two calls: one with it, one that says where it begins.
        assert usage["calls"] == 2 and len(server.calls) == 4
        assert usage["prompt_tokens"] > sum(map(len, scores))


def test_a_score_is_asked_for_again_where_the_answer_is_half_a_document(store):
    half = Reply(200, b'{"choices": [{"text": "x", "pro')
    with serving(scoring="prompt_logprobs") as server:
        scorer = load(f"openai:m?at=vllm&score=prompt_logprobs&url={server.url}")
        server.next += ["", half]  # the second call of the first try
        [logprobs] = wrap(scorer, store, Budget()).likelihood([("What is 1+1?", "It is two.")])
        assert logprobs and len(server.calls) == 4
    [attempt, _] = read_entries(store)
    assert attempt.error.startswith("malformed") and attempt.tokens["prompt"] > 0
