"""A model that answers several batches at once behind the store: committed as they land, reserved one by one."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pytest
from store_fakes import Planner, answer, ask

from potstill.budget.amounts import Limit
from potstill.budget.budget import Budget
from potstill.errors import BudgetSpent
from potstill.models.model import Completion, Request
from potstill.store import Store, with_cache

PROMPTS = [f"prompt {n}" for n in range(12)]


class Replicas(Planner):
    """Batches of two, of which three are under way at once; the newest lands first."""

    size = 2

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.refusals = 0
        self.most_open = 0

    def answer_batches(
        self, batches: Iterable[Sequence[Request] | None]
    ) -> Iterator[tuple[int, list[Completion]]]:
        open_batches: list[tuple[int, Sequence[Request]]] = []
        source, is_drained, place = iter(batches), False, 0
        while open_batches or not is_drained:
            while len(open_batches) < 3 and not is_drained:
                batch = next(source, ())
                if batch is None:
                    self.refusals += 1
                    assert open_batches, "it would wait for ever"
                    break
                is_drained = batch == ()
                if not is_drained:
                    open_batches.append((place, batch))
                    place += 1
            self.most_open = max(self.most_open, len(open_batches))
            if open_batches:
                landed, requests = open_batches.pop()
                yield landed, self.write(requests)


def wrap(model: Replicas, store: Store, **options: Any) -> Any:
    return with_cache(model, store, role="student", arm="a", seed=3, **options)


def texts(completions: Sequence[Completion]) -> list[str]:
    return [completion.text for completion in completions]


EXPECTED = [answer(request, "model-plain").text for request in ask(*PROMPTS, seed=3)]


def test_answers_are_in_order_and_each_batch_is_committed_as_it_lands(store: Store) -> None:
    model, reports = Replicas(), []
    stored_counts = []
    model.before = lambda: stored_counts.append(len(list(store.completions.iterate())))
    progress = lambda label, done, total: reports.append((done, total))  # noqa: E731
    assert texts(wrap(model, store, progress=progress).write(ask(*PROMPTS))) == EXPECTED
    assert model.most_open == 3
    assert stored_counts == [0, 2, 4, 6, 8, 10]
    assert reports == [(done, 12) for done in (0, 2, 4, 6, 8, 10, 12, 12)]


def test_what_is_stored_is_not_asked_for_and_the_plan_stays(store: Store) -> None:
    wrap(Replicas(), store).write(ask(*PROMPTS[3:6]))
    model = Replicas()
    assert texts(wrap(model, store).write(ask(*PROMPTS))) == EXPECTED
    assert sorted(model.asked) == sorted({*PROMPTS} - {*PROMPTS[3:6]})
    sizes = sorted(len(call) for call in model.calls)
    assert sizes == [1, 2, 2, 2, 2]


def test_a_budget_stops_it_and_what_was_sent_is_stored(store: Store) -> None:
    model = Replicas()
    limited = wrap(model, store, budget=Budget({"student": Limit(tokens=1550)}))
    with pytest.raises(BudgetSpent, match=r"a/student: \d+ of 12 completions"):
        limited.write(ask(*PROMPTS))
    assert 0 < len(model.asked) < 12
    assert len(list(store.completions.iterate())) == len(model.asked)
    assert model.refusals > 0, "calls under way held what the next ones needed"
    assert not store.in_flight.take(["x"])[1]
    assert texts(wrap(model, store).write(ask(*PROMPTS))) == EXPECTED


def test_a_run_that_goes_on_unpaid_has_failures_for_the_rest(store: Store) -> None:
    budget = Budget({"student": Limit(tokens=1550)})
    answers = wrap(Replicas(), store, budget=budget, when_spent="train").write(ask(*PROMPTS))
    paid = [completion for completion in answers if not completion.error]
    assert 0 < len(paid) < 12
    assert budget.unpaid["student"] == 12 - len(paid)
    assert not any(budget.reserved_by_role()[""])


def test_a_failure_gives_up_keys_and_reservations(store: Store) -> None:
    budget = Budget({"student": Limit(tokens=10**6)})

    def fail() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        wrap(Replicas(before=fail), store, budget=budget).write(ask(*PROMPTS))
    assert not any(budget.reserved_by_role()[""])
    assert texts(wrap(Replicas(), store).write(ask(*PROMPTS))) == EXPECTED


def test_threads_that_ask_for_the_same_share_their_calls(store: Store) -> None:
    model = Replicas()
    cached, results = wrap(model, store), []
    calls = [PROMPTS, PROMPTS[::-1], PROMPTS[4:]]
    threads = [
        threading.Thread(target=lambda c=call: results.append((c, cached.write(ask(*c)))))
        for call in calls
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(results) == 3
    for prompts, completions in results:
        assert texts(completions) == [EXPECTED[PROMPTS.index(prompt)] for prompt in prompts]
    assert sorted(model.asked) == sorted(PROMPTS)
