"""Rows that come and go: each becomes what it would alone, whatever happens beside it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the extra potstill[local]")
from tiny import tiny_checkpoint as make_checkpoint

from potstill.errors import ModelError
from potstill.models.local import running_batch
from potstill.models.local.engine import Engine
from potstill.models.local.running_batch import Row, RunningBatch
from potstill.models.local.transformers import TransformersModel
from potstill.models.model import Sampling

pytestmark = pytest.mark.slow  # many rows are written

LIMITS = (5, 40, 120, 64)


@pytest.fixture(scope="module")
def model(tiny_checkpoint: Path) -> TransformersModel:
    return TransformersModel(tiny_checkpoint, dtype="float32", device="cpu", threads=1)


@contextmanager
def running(model: TransformersModel) -> Iterator[Engine]:
    engine = Engine(model)
    engine.start()
    try:
        yield engine
    finally:
        engine.close(0.0)


def make_rows(model: TransformersModel, count: int = 12) -> list[Row]:
    """Rows of several lengths; one of them wants a single token, and one its prompt scored and none."""
    end_ids = frozenset(model.end_ids)
    rows = []
    for index in range(count):
        prompt = model.encoder.encode_prompt("Add 3. " * (1 + index % 5))
        limit = LIMITS[index % len(LIMITS)]
        rows.append(Row(prompt, Sampling(), seed=index, max_new_tokens=limit, end_ids=end_ids))
    rows[3].max_new_tokens = 1
    rows[4].max_new_tokens, rows[4].prompt_logprobs = 0, 2
    return rows


def write(
    engine: Engine, rows: Sequence[Row], on_change: Callable[[Row], None] | None = None
) -> list[list[int]]:
    """The new tokens of rows."""
    finished = threading.Semaphore(0)

    def note_end(row: Row) -> None:
        if on_change is not None:
            on_change(row)
        if row.finish_reason:
            finished.release()

    for row in rows:
        row.on_change = note_end
    engine.submit(rows)
    for _ in rows:
        assert finished.acquire(timeout=60)
    return [row.ids for row in rows]


def test_rows_wait_where_the_cache_is_full(
    model: TransformersModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(model) as engine:
        expected = write(engine, make_rows(model))
    # Room for about three rows, which outgrow it: they are put back and read again.
    monkeypatch.setattr(TransformersModel, "cache_positions", 400)
    monkeypatch.setattr("potstill.models.local.engine.PLANNED_NEW_TOKENS", 1)
    most_rows = 0
    put_back: list[int] = []
    admit = RunningBatch.admit

    def watch(batch: RunningBatch, newcomers: Sequence[Row]) -> None:
        nonlocal most_rows
        put_back.extend(len(row.ids) for row in newcomers if row.ids)
        admit(batch, newcomers)
        most_rows = max(most_rows, len(batch.rows))

    monkeypatch.setattr(RunningBatch, "admit", watch)
    with running(model) as engine:
        assert write(engine, make_rows(model)) == expected
    assert put_back and most_rows < len(expected)


def test_rows_are_tried_again_where_memory_runs_out(
    model: TransformersModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(model) as engine:
        expected = write(engine, make_rows(model))
    advance, steps = RunningBatch.advance, []
    read_beginnings = running_batch.read_beginnings

    def run_out_reading(model: Any, beginnings: Sequence[Any], *args: Any, **options: Any) -> Any:
        if len(beginnings) > 1:
            raise torch.OutOfMemoryError("none left")
        return read_beginnings(model, beginnings, *args, **options)

    def run_out(batch: RunningBatch) -> None:
        steps.append(len(batch.rows))
        if len(batch.rows) > 4:
            raise torch.OutOfMemoryError("none left")
        advance(batch)

    monkeypatch.setattr(RunningBatch, "advance", run_out)
    with running(model) as engine:
        assert write(engine, make_rows(model)) == expected
        assert engine.counts.failed_rows == 0
    assert max(steps) > 4
    monkeypatch.setattr(running_batch, "read_beginnings", run_out_reading)
    with running(model) as engine:
        assert write(engine, make_rows(model)) == expected


def test_a_row_that_is_given_up_leaves_the_others_alone(model: TransformersModel) -> None:
    with running(model) as engine:
        expected = write(engine, make_rows(model))
        rows = make_rows(model)
        engine.submit([rows[2]])
        engine.cancel([rows[2]])
        others = [row for index, row in enumerate(rows) if index != 2]
        assert write(engine, others) == [*expected[:2], *expected[3:]]
        assert rows[2].finish_reason == "cancelled" and engine.counts.cancelled_rows == 1


def test_rows_that_have_begun_are_finished_by_their_own_weights(
    model: TransformersModel, tmp_path: Path
) -> None:
    other = TransformersModel(make_checkpoint(tmp_path / "other", seed=1), threads=1)
    with running(model) as engine, running(other) as other_engine:
        before, after = write(engine, make_rows(model)), write(other_engine, make_rows(model))
        assert before != after
        updates: list[Any] = []

        def update_in_the_middle(row: Row) -> None:
            if len(row.ids) == 3 and not updates:
                updates.append(engine.update_weights(other.weights))

        rows = make_rows(model)
        assert write(engine, rows, update_in_the_middle) == before
        assert updates[0].result(60) == other.id
        later = make_rows(model)
        assert write(engine, later) == after
        assert {row.written_by for row in later} == {other.id}
        assert {row.written_by for row in rows} == {model.id}


def test_weights_of_another_kind_are_refused(model: TransformersModel, tmp_path: Path) -> None:
    wider = make_checkpoint(tmp_path / "wider", hidden_size=48)
    with running(model) as engine, pytest.raises(ModelError, match="hidden_size is 48"):
        engine.update_weights(wider)
