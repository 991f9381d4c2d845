"""The caching wrapper: the batch rule, sharing between threads, retries, and being exactly as able as its model."""

from __future__ import annotations

import math
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from store_fakes import Local, Plain, Planner, Scorer, Trained, answer, ask

from potstill.budget.amounts import Limit
from potstill.budget.budget import Budget
from potstill.errors import ModelError
from potstill.models.model import (
    Completion,
    Model,
    Planned,
    Request,
    RowProgress,
    Sampling,
    Scored,
    Trainable,
)
from potstill.models.scoring import to_passages
from potstill.models.scripted import ScriptedModel
from potstill.records import Message, Tokens
from potstill.store import Store, with_cache
from potstill.store.cached_model import UNPLANNED_BATCH


def test_second_call_is_served_and_equal(store: Store):
    model = Plain()
    wrapped = with_cache(model, store, role="teacher", arm="sft", seed=7)
    first = wrapped.write(ask("a", "b", "c"))
    fourth = answer(ask("d", seed=7)[0], model.id)
    assert wrapped.write(ask("c", "a", "d", "c")) == [first[2], first[0], fourth, first[2]]
    assert model.asked == ["a", "b", "c", "d"]
    assert {request.seed for call in model.calls for request in call} == {7}


def test_another_model_behind_the_same_name_is_said_once(tmp_path: Path):
    class Served(Plain):
        name = "a-1.gguf"

        def write(self, requests):
            return [completion._replace(served=self.name) for completion in super().write(requests)]

    def write(prompt: str) -> list[str]:
        """What is said, in a process of its own."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with_cache(model, store, role="teacher", arm="sft", seed=0).write(ask(prompt))
        return [str(warning.message) for warning in caught]

    model = Served()
    with Store.open(tmp_path / "run") as store:
        assert write("a") == write("b") == []
    with Store.open(tmp_path / "run") as store:
        model.name = "b-2.gguf\x1b[31m"
        [message] = write("c")
        assert r"teacher: the server says that 'b-2.gguf\x1b[31m' answers" in message
        assert "that it was 'a-1.gguf'" in message
        assert write("d") == []
        model.name = "a-1.gguf"
        assert write("e") == []


def test_seed_draw_and_settings_are_in_the_key(store: Store):
    model = Plain()
    for seed, draw in ((1, 0), (1, 1), (2, 0), (1, 0)):
        with_cache(model, store, role="teacher", arm="sft", seed=seed).write(
            ask("a", sample_index=draw)
        )
    with_cache(model, store, role="teacher", arm="sft", seed=1).write([Request("a")])
    assert [(c[0].seed, c[0].sample_index, c[0].sampling.temperature) for c in model.calls] == [
        (1, 0, 0.5),
        (1, 1, 0.5),
        (2, 0, 0.5),
        (1, 0, 1.0),
    ]


def test_equal_requests_in_one_call_are_asked_once(store: Store):
    model = Planner()
    out = with_cache(model, store, role="teacher", arm="sft", seed=0).write(
        ask("a", "bb", "a", "ccc", "a", "dddd")
    )
    assert sorted(model.asked) == ["a", "bb", "ccc", "dddd"]
    assert out[0] == out[2] == out[4]


def test_plan_sees_every_request_and_only_the_missing_are_asked(store: Store):
    everything = ask("a", "bb", "ccc", "dddd", "eeeee", "ffffff", "ggggggg")
    with_cache(Planner(), store, role="teacher", arm="other", seed=0).write(
        [everything[i] for i in (0, 4, 3, 5)]
    )
    model = Planner()
    out = with_cache(model, store, role="teacher", arm="sft", seed=0).write(everything)
    # plan of seven: [a bb ccc] [dddd eeeee ffffff] [ggggggg]; the second is stored whole, so it is not sent at all
    assert [[r.prompt for r in call] for call in model.calls] == [["bb", "ccc"], ["ggggggg"]]
    assert out == [answer(request, model.id) for request in everything]


def test_nothing_missing_never_calls_the_model_or_its_plan(store: Store):
    class Pruned(Planner):
        def plan(self, requests):
            raise AssertionError("a pruned checkpoint was loaded")

        write = plan

    first = with_cache(Planner(), store, role="student", arm="sft", seed=0).write(ask("a", "b"))
    assert (
        with_cache(Pruned(), store, role="student", arm="sft", seed=0).write(ask("b", "a"))
        == first[::-1]
    )


def test_without_a_plan_requests_go_together_in_order_and_in_portions(store: Store):
    model = Plain()
    prompts = [f"p{i}" for i in range(UNPLANNED_BATCH + 5)]
    with_cache(model, store, role="teacher", arm="sft", seed=0).write(ask(*prompts))
    assert [len(call) for call in model.calls] == [UNPLANNED_BATCH, 5]
    assert model.asked == prompts


def test_an_interrupt_leaves_whole_batches(store: Store):
    calls = []

    def interrupt() -> None:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt

    requests = ask(*"abcdefghijk")
    model = Planner(before=interrupt)
    with pytest.raises(KeyboardInterrupt):
        with_cache(model, store, role="teacher", arm="sft", seed=0).write(requests)
    kept = store.completions.get([request.key(model.id) for request in requests])
    assert sorted(c.text[0] for c in kept.values()) == list("abcdef")
    again = Planner()
    out = with_cache(again, store, role="teacher", arm="sft", seed=0).write(requests)
    assert [[r.prompt for r in call] for call in again.calls] == [list("ghi"), list("jk")]
    assert out == [answer(request, model.id) for request in requests]


def test_threads_that_miss_the_same_key_share_one_call(store: Store):
    entered, go = threading.Event(), threading.Event()

    def wait() -> None:
        entered.set()
        assert go.wait(5)

    model = Plain(before=wait)
    wrapped = with_cache(model, store, role="teacher", arm="sft", seed=0)
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(wrapped.write, ask("a", "b"))
        assert entered.wait(5)
        others = [pool.submit(wrapped.write, ask("b", "a")) for _ in range(7)]
        go.set()
        answers = first.result(5)
        assert all(other.result(5) == answers[::-1] for other in others)
    assert model.asked == ["a", "b"]


def test_overlapping_batches_in_many_threads_neither_hang_nor_pay_twice(store: Store):
    model = Planner()
    wrapped = with_cache(model, store, role="teacher", arm="sft", seed=0)
    names = [f"q{i}" for i in range(30)]
    with ThreadPoolExecutor(8) as pool:
        parts = [names[i:] + names[:i] for i in range(0, 30, 3)]
        results = list(pool.map(lambda part: wrapped.write(ask(*part)), parts, timeout=20))
    assert sorted(model.asked) == sorted(names)
    expected = {name: answer(ask(name)[0], model.id) for name in names}
    assert all(
        result == [expected[n] for n in part] for part, result in zip(parts, results, strict=True)
    )


def test_a_failing_owner_hands_the_key_to_who_waits(store: Store):
    entered, go = threading.Event(), threading.Event()
    turns = []

    def fail_first() -> None:
        turns.append(1)
        if len(turns) == 1:
            entered.set()
            assert go.wait(5)
            raise ModelError("the model fell over")

    wrapped = with_cache(Plain(before=fail_first), store, role="teacher", arm="sft", seed=0)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(wrapped.write, ask("a"))
        assert entered.wait(5)
        second = pool.submit(wrapped.write, ask("a"))
        go.set()
        with pytest.raises(ModelError, match="fell over"):
            first.result(5)
        assert second.result(5)[0].text.startswith("a: ")


def test_a_failure_is_final_until_retried_and_then_once(store: Store):
    failing = Plain(fails={"b"})
    first = with_cache(failing, store, role="teacher", arm="sft", seed=0).write(ask("a", "b"))
    assert (first[1].error, first[1].finish_reason, first[1].tokens) == ("time-out", "", Tokens(7))
    healthy = Plain()
    assert (
        with_cache(healthy, store, role="teacher", arm="sft", seed=0).write(ask("a", "b")) == first
    )
    assert healthy.asked == []
    # this process made the failure itself: asking again at once would be the retry loop that `retry_errors` is not
    assert with_cache(healthy, store, role="teacher", arm="sft", seed=0, retry_errors=True).write(
        ask("b")
    ) == [first[1]]
    folder = store.folder
    store.close()
    with Store.open(folder) as again:
        still = Plain(fails={"b"})
        for arm in ("sft", "rft"):
            wrapped = with_cache(still, again, role="teacher", arm=arm, seed=0, retry_errors=True)
            assert [c.error for c in wrapped.write(ask("a", "b"))] == ["", "time-out"]
        assert still.asked == ["b"]
    with Store.open(folder) as third:
        wrapped = with_cache(healthy, third, role="teacher", arm="sft", seed=0, retry_errors=True)
        assert [c.error for c in wrapped.write(ask("a", "b"))] == ["", ""]
        assert healthy.asked == ["b"]
        assert third.usage("sft")["teacher"]["errors"] == 0


@pytest.mark.parametrize(
    ("model", "planned", "scored", "trainable"),
    [
        (Plain(), False, False, False),
        (Planner(), True, False, False),
        (Scorer(), False, True, False),
        (Trained(), False, False, True),
        (Local(), True, True, True),
    ],
)
def test_a_cached_model_can_exactly_what_its_model_can(
    store: Store, model, planned, scored, trainable
):
    wrapped = with_cache(model, store, role="any", arm="sft", seed=3)
    assert isinstance(wrapped, Model)
    assert wrapped.id == model.id
    assert [isinstance(wrapped, kind) for kind in (Planned, Scored, Trainable)] == [
        planned,
        scored,
        trainable,
    ]
    if trainable:
        assert wrapped.weights == Path("checkpoint")
    if planned:
        assert wrapped.plan(ask("ccc", "bb", "a", "dddd")) == [[2, 1, 0], [3]]


def test_wrapping_a_cached_model_asks_the_store_once(store: Store):
    inner = Local()
    wrapped = with_cache(
        with_cache(inner, store, role="a", arm="x", seed=1), store, role="b", arm="y", seed=2
    )
    wrapped.write(ask("q"))
    assert wrapped.inner is inner
    assert (store.usage("x"), list(store.usage("y"))) == ({}, ["b"])


def test_likelihoods_are_kept_by_model_prompt_and_text(store: Store):
    model = Scorer()
    wrapped = with_cache(model, store, role="judge", arm="sft", seed=0)
    chat = (Message("user", "q"),)
    first = wrapped.likelihood([("q", "one three"), ("", "x"), ("q", "one three"), (chat, "one")])
    assert first == [[-1.0, -5 / 3], [-math.inf], [-1.0, -5 / 3], [-1.0]]
    assert wrapped.likelihood([("", "x"), ("new", "one")]) == [[-math.inf], [-1.0]]
    asked = [[("q", "one three"), ("", "x"), (chat, "one")], [("new", "one")]]
    assert model.scored == [to_passages(pairs) for pairs in asked]
    other = Scorer("model-other")
    with_cache(other, store, role="judge", arm="sft", seed=0).likelihood([("q", "one three")])
    assert len(other.scored) == 1


def test_progress_and_wrong_counts(store: Store):
    seen = []
    wrapped = with_cache(
        Planner(),
        store,
        role="teacher",
        arm="sft",
        seed=0,
        progress=lambda *step: seen.append(step),
    )
    wrapped.write(ask(*"abcde"))
    assert seen == [("sft/teacher", 0, 5), ("sft/teacher", 3, 5), ("sft/teacher", 5, 5)]

    class Short(Plain):
        def write(self, requests):
            return super().write(requests)[1:]

    class Forgetful(Planner):
        def plan(self, requests):
            return super().plan(requests)[1:]

    with pytest.raises(ModelError, match="returned 1 results for 2 requests"):
        with_cache(Short("model-short"), store, role="teacher", arm="sft", seed=0).write(
            ask("x", "y")
        )
    with pytest.raises(ModelError, match="does not hold every one of 4 requests"):
        with_cache(Forgetful("model-forgetful"), store, role="teacher", arm="sft", seed=0).write(
            ask(*"wxyz")
        )


class Reporting(Planner):
    """Says how far it is; memory runs out once, and the batch is written again in halves."""

    def write_reporting(self, requests, report):
        for tokens in (2, 4, 1, 3):
            report([RowProgress(tokens, tokens > 3) for _ in requests])
        return [answer._replace(tokens=Tokens(1, 5)) for answer in self.write(requests)]


def test_progress_moves_within_a_batch_and_never_back(store: Store):
    counts, tokens = [], []

    class Watcher:
        def __call__(self, label, done, total):
            counts.append(done)

        def count_answers(self, label, count):
            counts.append(f"{count} stored")

        def count_tokens(self, label, count):
            tokens.append(count)

        def show_traffic(self, label, traffic):
            raise AssertionError("nothing goes to a server")

    wrapped = with_cache(Reporting(), store, role="student", arm="sft", seed=0, progress=Watcher())
    assert len(wrapped.write(ask(*"abcde"))) == 5
    # Batches of three and two; the last request counts once its batch is in the store.
    first, second = [0, 0, 3, 3, 3, "3 stored"], [3, 3, 4, 4, 4, "2 stored", 5]
    assert counts == first + second
    assert tokens == [6, 6, 3, 4, 4, 2]


def test_hostile_text_comes_back_as_it_was(store: Store):
    texts = [
        "\ud800 alone",
        "nul \0 inside",
        "'; DROP TABLE completions; --",
        "</script>\u2028",
        "",
    ]

    class Hostile(Plain):
        def write(self, requests):
            return [Completion(text, "length", Tokens(1, 2, 3, 4), "", 0.1) for text in texts]

    requests = ask(*(f"{i}\udfff" for i in range(len(texts))))
    written = with_cache(Hostile(), store, role="teacher", arm="sft", seed=0).write(requests)
    kept = store.completions.get([request.key("model-plain") for request in requests])
    assert [kept[request.key("model-plain")] for request in requests] == written
    assert [c.text for c in written] == texts


class Boastful:
    """A model of an installed package whose numbers can't be right."""

    id = "model-boastful"
    priced = "gpt-4o-mini"

    def __init__(self) -> None:
        self.call_count = 0

    def write(self, requests: list[Request]) -> list[Completion]:
        self.call_count += 1
        tokens = Tokens(10**30, -7, True, 3)  # type: ignore[arg-type]
        return [Completion("4", "stop", tokens, "", math.inf, cost=1e300) for _ in requests]


def test_numbers_that_can_not_be_right_are_left_out_and_told(store: Store):
    budget = Budget({"": Limit(money=5.0)})
    wrapped = with_cache(Boastful(), store, role="teacher", arm="sft", seed=0, budget=budget)
    [completion] = wrapped.write(ask("a"))
    assert (completion.text, completion.seconds) == ("4", 0.0)
    assert completion.tokens.reasoning == 3 and 0 < completion.tokens.prompt < 10**4
    assert completion.cost is not None and 0 < completion.cost < 0.01
    assert any("can't be right" in note and "cost=1e+300" in note for note in budget.notes())


def test_what_was_paid_for_is_stored_even_where_counting_it_fails(
    store: Store, monkeypatch: pytest.MonkeyPatch
):
    def fail(*_: object) -> None:
        raise OverflowError("no such number")

    model, budget = Boastful(), Budget()
    wrapped = with_cache(model, store, role="teacher", arm="sft", seed=0, budget=budget)
    with monkeypatch.context() as patch:
        patch.setattr(budget, "settle", fail)
        with pytest.raises(OverflowError):
            wrapped.write(ask("a"))
    assert wrapped.write(ask("a"))[0].text == "4"
    assert model.call_count == 1


def test_a_stop_string_comes_back_from_the_store(store: Store):
    model = ScriptedModel(["one. two", "all of it"])
    requests = [Request("q", sampling=Sampling(stop=(". ",)), sample_index=i) for i in (0, 1)]
    first = with_cache(model, store, role="teacher", arm="sft", seed=0).write(requests)
    again = with_cache(model, store, role="teacher", arm="sft", seed=0).write(requests)
    assert len(model.calls) == 2 and first == again
    assert [(c.finish_reason, c.stop_string) for c in again] == [
        ("stop_string", ". "),
        ("stop", ""),
    ]
    [stored, _] = store.completions.iterate()
    assert stored.completion.stop_string == ". "
