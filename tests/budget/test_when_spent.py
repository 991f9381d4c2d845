"""`when_spent: train`: what the budget does not allow is a failure that nobody keeps, and what is there is unbiased."""

from __future__ import annotations

import pytest
from remote_fakes import RemoteModel
from store_fakes import Plain, Planner, answer, ask

from potstill.budget.amounts import Amount, Limit
from potstill.budget.budget import Budget
from potstill.errors import BudgetSpent
from potstill.store import streaming, with_cache

NAMES = [f"q{i:03}" for i in range(150)]
MODELS = {"streamed": RemoteModel, "whole batches": Plain, "planned": Planner}


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "LOOKUP_CHUNK", 10)


def wrap(model, store, budget, **more):
    return with_cache(
        model, store, role="teacher", arm="sft", seed=0, budget=budget, when_spent="train", **more
    )


@pytest.mark.parametrize("kind", MODELS)
def test_the_unpaid_are_failures_that_are_not_stored_and_are_paid_for_later(store, kind):
    model, requests = MODELS[kind](), ask(*NAMES)
    limit = 44_500 if kind == "whole batches" else 4_000  # room for a batch of 64 at its worst
    budget = Budget({"teacher": Limit(tokens=limit)})
    out = wrap(model, store, budget).write(requests)
    whole = [answer(request, model.id) for request in requests]
    paid = [place for place, completion in enumerate(out) if not completion.error]
    assert 0 < len(paid) < len(NAMES)
    assert [out[place] for place in paid] == [whole[place] for place in paid]
    assert {c.error.split(":")[0] for c in out if c.error} == {"budget"}
    assert set(store.completions.get([r.key(model.id) for r in requests])) == {
        requests[p].key(model.id) for p in paid
    }
    assert budget.spent_by_role()["teacher"].tokens <= limit and not any(
        budget.reserved_by_role()["teacher"]
    )
    [note] = budget.notes()
    assert (
        f"before {len(NAMES) - len(paid)} calls of the teacher" in note
        and "--budget teacher=" in note
    )
    # A larger budget pays for the rest, and for nothing twice.
    rest = MODELS[kind]()
    assert wrap(rest, store, Budget({"teacher": Limit(tokens=10_000_000)})).write(requests) == whole
    assert sorted(rest.asked) == sorted(NAMES[p] for p in range(len(NAMES)) if p not in paid)


@pytest.mark.parametrize("kind", ["streamed", "planned"])
def test_the_place_in_the_file_does_not_decide_what_is_paid(store, kind):
    requests = ask(*NAMES)
    out = wrap(MODELS[kind](), store, Budget({"": Limit(tokens=3_000)})).write(requests)
    paid = [place for place, completion in enumerate(out) if not completion.error]
    assert 20 < len(paid) < 130
    assert min(paid) < 30 and max(paid) > 120 and abs(sum(paid) / len(paid) - 75) < 20


def test_draws_are_sent_one_round_after_the_other(store):
    model = RemoteModel(room=1)
    requests = [
        request
        for name in NAMES[:40]
        for draw in range(3)
        for request in ask(name, sample_index=draw)
    ]
    out = wrap(model, store, Budget({"": Limit(tokens=2_500)})).write(requests)
    draws = [request.sample_index for request in model.sent]
    assert draws == sorted(draws) and set(draws) == {0, 1}
    assert [c.error for c in out[::3]] == [""] * 40, "every problem has its first draw"
    assert all(c.error for c in out[2::3])


def test_the_same_budget_again_asks_for_nothing(store):
    requests = ask(*NAMES)
    first = wrap(RemoteModel(room=1), store, Budget({"": Limit(tokens=3_000)})).write(requests)
    spent = sum(c.tokens.prompt + c.tokens.completion for c in first)
    again = RemoteModel(room=1)
    budget = Budget({"": Limit(tokens=3_000)}, spent={"teacher": Amount(spent)})
    assert wrap(again, store, budget).write(requests) == first
    assert again.sent == []


def test_stop_is_what_happens_without_it(store):
    with pytest.raises(BudgetSpent):
        with_cache(
            RemoteModel(),
            store,
            role="teacher",
            arm="sft",
            seed=0,
            budget=Budget({"": Limit(tokens=3_000)}),
        ).write(ask(*NAMES))
