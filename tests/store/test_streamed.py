"""Remote models: looked up ahead, sent while looking, committed as they land, shared between threads."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from remote_fakes import FAILED, RemoteModel
from store_fakes import Plain, answer, ask

from potstill.budget.amounts import Limit
from potstill.budget.budget import Budget
from potstill.errors import BudgetSpent, ModelError, StoreError
from potstill.models.model import Model, Streamed
from potstill.store import Store, streaming, with_cache

NAMES = [f"q{i}" for i in range(60)]


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(streaming, "LOOKUP_CHUNK", 10)


def wrap(model, store, arm="sft", **more):
    return with_cache(model, store, role="teacher", arm=arm, seed=0, **more)


def kept(store, names=NAMES, model="model-remote"):
    """Which of the prompts have a stored completion."""
    there = store.completions.get([request.key(model) for request in ask(*names)])
    return {name for name in names if ask(name)[0].key(model) in there}


@pytest.mark.parametrize("elsewhere", [False, True])
@pytest.mark.parametrize("dice", range(5))
def test_answers_stand_in_their_places_whatever_lands_first(store, dice, elsewhere):
    model = RemoteModel(seed=dice, draws_elsewhere=elsewhere)
    wrapped = wrap(model, store)
    expected = [answer(request, model.id) for request in ask(*NAMES)]
    assert wrapped.write(ask(*NAMES[20:40])) == expected[20:40]
    assert wrapped.write(ask(*NAMES)) == expected
    assert sorted(model.asked) == sorted(NAMES)
    assert wrapped.write(ask(*reversed(NAMES))) == expected[::-1]
    assert len(model.sent) == len(NAMES)
    assert store.usage("sft")["teacher"]["calls"] == 60


def test_what_is_handed_on_is_committed_in_one_transaction_a_portion(store):
    model, seen, transactions = RemoteModel(), [], []
    store.database._connection.set_trace_callback(
        lambda sql: transactions.append(sql) if sql == "COMMIT" else None
    )
    with Store.open(store.folder, readonly=True) as reader:
        for place, completion in wrap(model, store).answers(iter(ask(*NAMES))):
            found = reader.completions.get([ask(NAMES[place])[0].key(model.id)])
            assert list(found.values()) == [completion]
            seen.append(place)
    assert sorted(seen) == list(range(60))
    assert len(transactions) == len(model.portions) < 60


def test_a_second_answer_is_like_the_first_though_tries_are_kept_apart(store):
    first = wrap(RemoteModel(), store).write(ask("abc"))
    assert wrap(RemoteModel(), store).write(ask("abc")) == first
    key = ask("abc")[0].key("model-remote")
    assert [tried.attempt.error for tried in _attempts(store, key)] == ["rate: 429"]


def _attempts(store, key):
    return store.attempts.by_key([key]).get(key, [])


def test_the_first_chunk_is_sent_before_the_second_is_drawn(store):
    drawn, at_first = [], []

    def requests():
        for request in ask(*NAMES):
            drawn.append(request)
            yield request

    model = RemoteModel(room=4, land=lambda: at_first.append(len(drawn)))
    assert len(dict(wrap(model, store).answers(requests()))) == 60
    assert at_first[0] == 10
    assert at_first == sorted(at_first)


def test_a_new_request_leaves_before_old_answers_are_read(store, monkeypatch):
    wrap(RemoteModel(), store).write(ask(*NAMES[:-1]))
    model, read = RemoteModel(), []
    get = store.completions.get
    monkeypatch.setattr(
        store.completions,
        "get",
        lambda keys: read.append((len(keys), len(model.sent))) or get(keys),
    )
    out = wrap(model, store).write(ask(*NAMES))
    assert out == [answer(request, model.id) for request in ask(*NAMES)]
    assert model.asked == NAMES[-1:]
    # the missing one itself is looked up once more after it was claimed; everything old after it was sent
    assert read[0] == (1, 0)
    assert all(sent == 1 for _, sent in read[1:])
    assert sum(count for count, _ in read) == 60


def test_notes_of_old_answers_do_not_grow_without_end(store, monkeypatch):
    monkeypatch.setattr(streaming, "MAX_NOTES", 20)
    wrap(RemoteModel(), store).write(ask(*NAMES))
    longest = []
    note = streaming.RequestStream._note_stored

    def noted(self, places, keys):
        note(self, places, keys)
        longest.append(self._note_count)

    monkeypatch.setattr(streaming.RequestStream, "_note_stored", noted)
    model = RemoteModel(room=100)
    wanted = ["new", *NAMES, "newer"]
    assert wrap(model, store).write(ask(*wanted)) == [
        answer(request, model.id) for request in ask(*wanted)
    ]
    assert model.asked == ["new", "newer"]
    assert max(longest) <= 30


def test_nothing_missing_never_touches_the_model(store):
    first = wrap(RemoteModel(), store).write(ask(*NAMES))
    model = RemoteModel()
    assert wrap(model, store).write(ask(*NAMES)) == first
    assert wrap(model, store).write([]) == []
    assert model.streams == 0


@pytest.mark.parametrize("error", [ModelError("401"), KeyboardInterrupt(), StoreError("full")])
def test_what_landed_before_an_exception_is_kept_and_the_rest_is_asked_later(store, error):
    turns = []

    def fail_later():
        turns.append(1)
        if len(turns) == 6:
            raise error

    model = RemoteModel(land=fail_later)
    with pytest.raises(type(error)):
        wrap(model, store).write(ask(*NAMES))
    landed = kept(store)
    assert len(landed) == sum(model.portions) > 0
    assert sorted(landed | {r.prompt for r in model.cancelled}) == sorted(model.asked)
    again = RemoteModel()
    assert wrap(again, store).write(ask(*NAMES)) == [
        answer(request, model.id) for request in ask(*NAMES)
    ]
    assert sorted(again.asked) == sorted(set(NAMES) - landed)


@pytest.mark.parametrize("committed", [False, True])
def test_an_interrupt_around_the_commit_loses_nothing_and_pays_once(store, monkeypatch, committed):
    put, turns = store.completions.put, []

    def interrupted(*args, **more):
        turns.append(1)
        if len(turns) == 1 and not committed:
            raise KeyboardInterrupt
        put(*args, **more)
        if len(turns) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(store.completions, "put", interrupted)
    model = RemoteModel()
    with pytest.raises(KeyboardInterrupt):
        wrap(model, store).write(ask("abc", "de", "fgh"))
    assert len(kept(store, ["abc", "de", "fgh"])) == model.portions[0]
    assert len(turns) == (1 if committed else 2)
    assert sum(len(_attempts(store, r.key(model.id))) for r in ask("abc", "fgh")) <= 2


def test_closing_cancels_what_is_under_way_and_frees_its_keys(store):
    model = RemoteModel(room=20)
    answers = wrap(model, store).answers(ask(*NAMES))
    place, _ = next(answers)
    answers.close()
    assert place in range(20)
    assert len(kept(store)) == model.portions[0]
    assert len(model.cancelled) == 20 - model.portions[0]
    with ThreadPoolExecutor(1) as pool:  # in another thread, which must not wait for the closed one
        again = pool.submit(wrap(RemoteModel(), store).write, ask(*NAMES)).result(5)
    assert again == [answer(request, model.id) for request in ask(*NAMES)]


def test_equal_requests_are_asked_once_wherever_they_stand(store):
    model = RemoteModel(room=3)
    wanted = ["a", "b", "a", *NAMES, "a", "q3", "b"]
    assert wrap(model, store).write(ask(*wanted)) == [
        answer(request, model.id) for request in ask(*wanted)
    ]
    assert sorted(model.asked) == sorted(set(wanted))


def test_threads_share_calls_and_neither_hang_nor_pay_twice(store):
    model = RemoteModel(room=4)
    wrapped = wrap(model, store)
    parts = [NAMES[i:] + NAMES[:i] for i in range(0, 60, 4)]
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda part: wrapped.write(ask(*part)), parts, timeout=30))
    assert sorted(model.asked) == sorted(NAMES)
    expected = {name: answer(ask(name)[0], model.id) for name in NAMES}
    assert all(
        result == [expected[n] for n in part] for part, result in zip(parts, results, strict=True)
    )


def test_one_who_waits_does_its_own_first_and_takes_over_from_a_failing_owner(store):
    entered, go = threading.Event(), threading.Event()

    def fail():
        entered.set()
        assert go.wait(5)
        raise ModelError("the server fell over")

    other = RemoteModel(land=lambda: go.set() if "mine" in other.asked else None)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(wrap(RemoteModel(land=fail), store).write, ask("shared"))
        assert entered.wait(5)
        second = pool.submit(wrap(other, store).write, ask("shared", "mine"))
        with pytest.raises(ModelError, match="fell over"):
            first.result(5)
        assert second.result(5) == [answer(request, other.id) for request in ask("shared", "mine")]
    assert other.asked == ["mine", "shared"]


def test_a_failure_is_final_until_retried_and_then_once(store):
    first = wrap(RemoteModel(fails=frozenset({"b"})), store).write(ask("a", "b"))
    assert first[1] == FAILED
    healthy = RemoteModel()
    assert (
        wrap(healthy, store, retry_errors=True).write(ask("a", "b")) == first
    )  # this process made it itself
    folder = store.folder
    store.close()
    with Store.open(folder) as again:
        still = RemoteModel(fails=frozenset({"b"}))
        for arm in ("sft", "rft"):
            assert wrap(still, again, arm, retry_errors=True).write(ask("a", "b")) == first
        assert still.asked == ["b"]
        assert wrap(healthy, again).write(ask("a", "b")) == first
    with Store.open(folder) as third:
        assert [c.error for c in wrap(healthy, third, retry_errors=True).write(ask("a", "b"))] == [
            "",
            "",
        ]
        assert healthy.asked == ["b"]
        assert third.usage("sft")["teacher"]["errors"] == 0


def test_a_model_that_answers_too_little_too_much_or_twice_is_refused(store):
    class Silent(RemoteModel):
        def stream(self, requests, permit=None):
            yield from (portion[1:] for portion in super().stream(requests, permit))

    class Strange(RemoteModel):
        def stream(self, requests, permit=None):
            yield from (
                [(place + 1, done) for place, done in portion]
                for portion in super().stream(requests, permit)
            )

    class Twice(RemoteModel):
        def stream(self, requests, permit=None):
            yield from (portion * 2 for portion in super().stream(requests, permit))

    for kind, told in (
        (Silent, "gave no completion for"),
        (Strange, "not under way"),
        (Twice, "not under way"),
    ):
        with pytest.raises(ModelError, match=told):
            wrap(kind(f"model-{kind.__name__}"), store).write(ask("x", "y", "z"))


def test_a_cached_model_is_no_streamed_one(store):
    assert isinstance(RemoteModel(), Streamed)
    wrapped = wrap(RemoteModel(), store)
    assert isinstance(wrapped, Model)
    assert not isinstance(wrapped, Streamed)


def test_progress_is_told_portion_by_portion(store):
    seen = []
    model = RemoteModel()
    wrap(model, store, progress=lambda *step: seen.append(step)).write(ask(*NAMES))
    made = [sum(model.portions[: i + 1]) for i in range(len(model.portions))]
    assert [step[1] for step in seen] == [0, *made], (
        "the first report says that nothing was kept from before"
    )
    assert {(label, total) for label, _, total in seen} == {("sft/teacher", 60)}


def test_a_spent_budget_stops_cleanly_and_a_larger_one_goes_on(store):
    model = RemoteModel()
    limit = 1500  # room for two calls at their worst, and for about thirty at what they really use
    budget = Budget({"": Limit(tokens=limit)})
    with pytest.raises(BudgetSpent, match="of 60"):
        wrap(model, store, budget=budget).write(ask(*NAMES))
    assert model.stopped_by_permit == 1
    assert 10 < len(model.sent) < 60
    assert not model.cancelled
    assert kept(store) == set(model.asked)
    assert 0 < budget.spent_by_role()[""].tokens <= limit
    assert not any(budget.reserved_by_role()[""])
    rest = RemoteModel()
    larger = Budget({"": Limit(tokens=10_000_000)})
    out = wrap(rest, store, budget=larger).write(ask(*NAMES))
    assert out == [answer(request, model.id) for request in ask(*NAMES)]
    assert sorted(rest.asked + model.asked) == sorted(NAMES)


def test_a_model_that_is_not_streamed_answers_in_order(store):
    wrapped = wrap(Plain(), store)
    expected = [answer(request, "model-plain") for request in ask(*NAMES)]
    assert list(wrapped.answers(iter(ask(*NAMES)))) == list(enumerate(expected))


def test_old_answers_are_read_while_new_ones_are_under_way(store):
    new = NAMES[::10]  # one in each chunk
    wrap(RemoteModel(), store).write(ask(*(name for name in NAMES if name not in new)))
    model, at = RemoteModel(room=1), {}
    for place, _ in wrap(model, store).answers(ask(*NAMES)):
        at[place] = len(model.portions)
    assert at == {place: place // 10 + 1 for place in range(60)}
