"""Calls of many threads become one batch, and each gets its own completions."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from potstill.errors import ConfigError, ModelError
from potstill.models import load
from potstill.models.local.batcher import RequestBatcher
from potstill.models.model import Completion, Request, RowProgress


class Slow:
    """Echoes prompts; the first call waits until the others have queued."""

    def __init__(self, waiting: int) -> None:
        self.sizes: list[int] = []
        self.gate, self._waiting = threading.Event(), waiting

    def __call__(self, requests, report=None):
        self.sizes.append(len(requests))
        if len(self.sizes) == 1:
            assert self.gate.wait(10)
        if report is not None:
            report([RowProgress(tokens) for tokens in range(len(requests))])
        return [Completion(str(r.prompt).upper()) for r in requests]


def _queued(gather: RequestBatcher, count: int) -> None:
    while len(gather._waiting) < count:
        threading.Event().wait(0.001)


def test_what_is_asked_while_a_batch_is_computed_forms_the_next():
    slow = Slow(5)
    gather = RequestBatcher(slow)
    with ThreadPoolExecutor(6) as pool:
        first = pool.submit(gather, [Request("first")])
        while not slow.sizes:
            threading.Event().wait(0.001)
        others, reports = [], [[] for _ in range(5)]
        for i in range(5):
            # The last thread wants to know nothing.
            report = reports[i].append if i < 4 else None
            others.append(pool.submit(gather, [Request(f"a{i}"), Request(f"b{i}")], report))
        _queued(gather, 5)
        slow.gate.set()
        assert [c.text for c in first.result()] == ["FIRST"]
        assert [[c.text for c in f.result()] for f in others] == [
            [f"A{i}", f"B{i}"] for i in range(5)
        ]
    assert slow.sizes == [1, 10]
    # Each thread is told of its own two of the ten rows, in whatever order they queued.
    assert reports.pop() == []
    for [(first_row, second_row)] in reports:
        assert first_row.tokens % 2 == 0 and second_row.tokens == first_row.tokens + 1
    assert len({rows[0][0] for rows in reports}) == 4


def test_lanes_share_what_waits():
    slow = Slow(5)
    gather = RequestBatcher(slow, lanes=2)
    with ThreadPoolExecutor(6) as pool:
        first = pool.submit(gather, [Request("first")])
        while not slow.sizes:
            threading.Event().wait(0.001)
        # The second lane is free: a thread alone is served at once, beside the first.
        assert [c.text for c in gather([Request("second")])] == ["SECOND"]
        others = [pool.submit(gather, [Request(f"a{i}")]) for i in range(5)]
        assert [f.result()[0].text for f in others] == [f"A{i}" for i in range(5)]
        slow.gate.set()
        first.result()
    assert slow.sizes[:2] == [1, 1] and sum(slow.sizes) == 7


def test_a_thread_alone_is_served_at_once():
    calls = []
    gather = RequestBatcher(
        lambda requests, _: calls.append(len(requests)) or [Completion("x") for _ in requests]
    )
    assert len(gather([Request("a")])) == len(gather([Request("b")])) == 1
    assert calls == [1, 1]


@pytest.mark.parametrize("failure", [ModelError("no"), KeyboardInterrupt()])
def test_a_failure_reaches_every_thread_and_the_next_call_works(failure):
    answers = [failure, None]

    def write(requests, report):
        if (now := answers.pop(0)) is not None:
            raise now
        return [Completion("fine") for _ in requests]

    gather = RequestBatcher(write)
    with pytest.raises(type(failure)):
        gather([Request("a")])
    assert gather([Request("a")])[0].text == "fine"


def test_a_spec_says_whether_calls_are_write_batched(tiny_checkpoint):
    from potstill.models.local.transformers import TransformersModel

    for spec, wanted in (("", True), ("?gather=1", True), ("?gather=0", False)):
        model = load(f"transformers:{tiny_checkpoint}{spec}")
        assert isinstance(model, TransformersModel)
        assert isinstance(model._write_batched, RequestBatcher) is wanted
    with pytest.raises(ConfigError, match="gather=maybe"):
        load(f"transformers:{tiny_checkpoint}?gather=maybe")
