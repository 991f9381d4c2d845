"""A thread that writes rows as they come: what `potstill serve` asks, and whoever wants answers while others are made.

A row waits in a queue until there is room in the running batch. Between two tokens of the rows under way, newcomers are
read, prompts are scored, and rows that nobody waits for any more are taken out. A failure reaches the rows that it
concerns, never the thread.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import final

import torch

from potstill.errors import ModelError, PotstillError
from potstill.models.local import checkpoint
from potstill.models.local.running_batch import Row, RunningBatch, read_rows
from potstill.models.local.transformers import (
    PLANNED_NEW_TOKENS,
    SCORE_TOKENS,
    TransformersModel,
)

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")

log = logging.getLogger("potstill.engine")


@dataclass(slots=True)
class EngineCounts:
    """What an engine has done since it was started."""

    rows: int = 0
    prompt_tokens: int = 0
    new_tokens: int = 0
    failed_rows: int = 0
    cancelled_rows: int = 0
    steps: int = 0
    weight_updates: int = 0
    busy_seconds: float = 0.0


class EngineClosedError(ModelError):
    """The engine takes no more rows."""


@final
class Engine:
    """Writes rows on one checkpoint.

    Args:
        model: whose `max_rows` and `cache_positions` bound the rows that are written together.
        max_waiting: rows that may wait; more are refused.
    """

    def __init__(self, model: TransformersModel, *, max_waiting: int = 4096) -> None:
        self.model, self.max_waiting = model, max_waiting
        self.counts = EngineCounts()
        self._max_rows = model.max_rows  # halved where memory runs out
        self._changed = threading.Condition()
        self._waiting: deque[Row] = deque()  # for room in the batch
        self._readers: deque[Row] = deque()  # to be read once, for which no room is needed
        self._cancelled: list[Row] = []
        self._update: tuple[TransformersModel, Future[str]] | None = None
        self._state = "open"  # then "closing", where nothing is taken any more, then "closed"
        self._batch: RunningBatch | None = None
        self._thread = threading.Thread(target=self._run, name="potstill-engine", daemon=True)
        self._loaded: Future[None] = Future()

    def start(self) -> None:
        """Load the weights and begin; raises what loading raises."""
        self._thread.start()
        self._loaded.result()

    @property
    def waiting_rows(self) -> int:
        """Rows that wait for room."""
        return len(self._waiting) + len(self._readers)

    @property
    def running_rows(self) -> int:
        """Rows that are being written."""
        return len(self._batch.rows) if self._batch is not None else 0

    def has_room(self, count: int) -> bool:
        """Whether so many more rows may wait."""
        return self.waiting_rows + count <= self.max_waiting

    def submit(self, rows: Sequence[Row]) -> None:
        """Write rows; each says at its end, by `on_change`, what became of it.

        Raises:
            EngineClosedError: the engine is closing.
        """
        with self._changed:
            if self._state != "open":
                raise EngineClosedError("the server is shutting down")
            for row in rows:
                self._queue_of(row).append(row)
            self._changed.notify_all()

    def cancel(self, rows: Sequence[Row]) -> None:
        """Stop writing rows, of which nobody is told; those that are finished stay as they are."""
        with self._changed:
            self._cancelled.extend(rows)
            self._changed.notify_all()

    def update_weights(self, path: Path) -> Future[str]:
        """Go on with another checkpoint of the same architecture and tokenizer, loaded in the calling thread.

        Rows that have begun are finished by the weights that they began with; those that wait get the new ones.

        Returns:
            The content id of the new checkpoint, once it writes.

        Raises:
            ModelError: the checkpoint can't be loaded or is of another kind, or another update is under way.
        """
        current = self.model
        check_same_kind(current.weights, path)
        dtype = str(current.dtype).removeprefix("torch.")
        model = TransformersModel(
            path,
            dtype=dtype,
            device=current.device,
            batch=current.max_rows,
            chat=current.encoder.chat,
        )
        _ = model.model, model.id  # loaded here, while the other one goes on writing
        done: Future[str] = Future()
        with self._changed:
            if self._update is not None:
                raise ModelError("another update of the weights is under way")
            if self._state != "open":
                raise EngineClosedError("the server is shutting down")
            self._update = (model, done)
            self._changed.notify_all()
        return done

    def close(self, patience: float) -> None:
        """Take nothing more, finish what is under way within so many seconds, and refuse what is left."""
        with self._changed:
            self._state = "closing"
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._is_idle() or self._state == "closed", patience)
            self._state = "closed"
            self._changed.notify_all()
        self._thread.join()

    def _is_idle(self) -> bool:
        is_writing = self._batch is not None and bool(self._batch.rows)
        return not self.waiting_rows and not is_writing

    # Below here everything runs in the engine's thread.

    def _run(self) -> None:
        try:
            self._batch = self._new_batch()
        except BaseException as error:
            self._loaded.set_exception(error)
            return
        self._loaded.set_result(None)
        with torch.inference_mode():
            while self._wait_for_work():
                began = time.perf_counter()
                self._take_turn_safely()
                self.counts.busy_seconds += time.perf_counter() - began
        self._fail(self._all_rows(), "server: the server was shut down")
        if self._update is not None:
            self._update[1].set_exception(EngineClosedError("the server was shut down"))

    def _all_rows(self) -> list[Row]:
        """Every row that is not finished."""
        running = self._batch.rows if self._batch is not None else []
        return [*running, *self._waiting, *self._readers]

    def _wait_for_work(self) -> bool:
        """Sleep until there is something to do; False once the engine is closed."""
        with self._changed:
            if self._is_idle():
                self._changed.notify_all()  # whoever closes it waits for this
            self._changed.wait_for(
                lambda: self._state == "closed" or self._update is not None or not self._is_idle()
            )
            return self._state != "closed"

    def _new_batch(self) -> RunningBatch:
        model = self.model
        vocabulary = model.model.config.get_text_config().vocab_size
        return RunningBatch(model.model, model.encoder.codec.unknown_ids(vocabulary))

    def _take_turn_safely(self) -> None:
        """Take a turn; an error of our own fails the rows under way, and the thread goes on."""
        try:
            self._take_turn()
        except Exception as failure:  # boundary: every client would wait for ever
            log.exception("a turn of the engine failed")
            rows = self._all_rows()
            with self._changed:
                self._waiting.clear()
                self._readers.clear()
            self._batch = self._new_batch()
            self._fail(rows, f"server: an error of the engine's own: {failure}")

    def _take_turn(self) -> None:
        """Read newcomers, score prompts, and write one token of every row."""
        assert self._batch is not None
        self._remove_cancelled()
        if self._update is not None and not self._begun_rows():
            self._replace_model()
        self._guard(self._read_waiting, self._take_readers())
        self._guard(self._batch.admit, self._take_newcomers())
        if self._batch.rows:
            self._guard(self._write_tokens, self._batch.rows)

    def _remove_cancelled(self) -> None:
        assert self._batch is not None
        if not self._cancelled:
            return
        with self._changed:
            cancelled, self._cancelled = self._cancelled, []
            cancelled = [row for row in cancelled if not row.finish_reason]
            for row in cancelled:
                row.finish("cancelled")
            self._waiting = deque(row for row in self._waiting if not row.finish_reason)
            self._readers = deque(row for row in self._readers if not row.finish_reason)
        self._batch.remove(cancelled)
        self.counts.cancelled_rows += len(cancelled)

    def _begun_rows(self) -> list[Row]:
        """Rows that the present weights have begun, those among them that were put back included."""
        return [row for row in self._all_rows() if row.ids]

    def _replace_model(self) -> None:
        """Go on with the weights of the update."""
        assert self._update is not None
        with self._changed:
            (self.model, done), self._update = self._update, None
        self._batch = self._new_batch()
        self.counts.weight_updates += 1
        done.set_result(self.model.id)

    def _take_readers(self) -> list[Row]:
        """Rows that are read once: the one that waits longest, and others of near length."""
        readers = [row for row in self._readers if self._may_begin(row)]
        if not readers:
            return []
        first_length = readers[0].length
        readers.sort(key=lambda row: abs(row.length - first_length))
        readers = self._rows_to_read(readers)
        with self._changed:
            self._readers = _without(self._readers, readers)
        return self._begin(readers)

    def _take_newcomers(self) -> list[Row]:
        """Waiting rows for which the batch has room, the one that waits longest first."""
        assert self._batch is not None
        running = self._batch.rows
        candidates: list[Row] = []
        longest, most_new_tokens = self._batch.length, 0
        for row in running:
            most_new_tokens = max(most_new_tokens, row.max_new_tokens - len(row.ids))
        for row in self._waiting:
            if not self._may_begin(row):
                continue
            count = len(running) + len(candidates) + 1
            longest = max(longest, row.length)
            most_new_tokens = max(most_new_tokens, row.max_new_tokens - len(row.ids))
            positions = longest + min(most_new_tokens, PLANNED_NEW_TOKENS)
            has_room = count <= self._max_rows and count * positions <= self.model.cache_positions
            if not has_room and count > 1:
                break
            candidates.append(row)
        newcomers = self._rows_to_read(candidates)
        if newcomers:
            with self._changed:
                self._waiting = _without(self._waiting, newcomers)
        return self._begin(newcomers)

    def _may_begin(self, row: Row) -> bool:
        """While new weights wait, only rows that the present ones have begun."""
        return self._update is None or bool(row.ids)

    def _rows_to_read(self, rows: Sequence[Row]) -> list[Row]:
        """As many rows, from the first on, as are read in one pass; padding counts."""
        most_positions = SCORE_TOKENS[self.model.device]
        longest = 0
        for count, row in enumerate(rows):
            longest = max(longest, row.length)
            if count and ((count + 1) * longest > most_positions or count >= self._max_rows):
                return list(rows[:count])
        return list(rows)

    def _begin(self, rows: list[Row]) -> list[Row]:
        """Note of rows who writes them, and count those that are new."""
        for row in rows:
            row.written_by = self.model.id
            if not row.ids:
                self.counts.rows += 1
                self.counts.prompt_tokens += len(row.prompt)
        return rows

    def _read_waiting(self, rows: Sequence[Row]) -> None:
        assert self._batch is not None
        read_rows(self.model.model, rows, self._batch.unknown_ids)
        self._tell(rows)

    def _write_tokens(self, _: Sequence[Row]) -> None:
        """Write a token of every row; where the next ones have no room in the cache, half of the rows wait."""
        assert self._batch is not None
        self._tell(self._batch.write_tokens())
        self.counts.steps += 1
        running = self._batch.rows
        positions = len(running) * (self._batch.length + 1)
        if len(running) > 1 and positions > self.model.cache_positions:
            self._put_back(running[len(running) // 2 :])
        self._batch.advance()

    def _put_back(self, rows: Sequence[Row]) -> None:
        """Let rows wait, before all others; they are read again with what they have written."""
        assert self._batch is not None
        self._batch.remove(rows)
        with self._changed:
            for row in reversed(rows):
                self._queue_of(row).appendleft(row)

    def _queue_of(self, row: Row) -> deque[Row]:
        return self._readers if row.reads_only else self._waiting

    def _guard(self, work: Callable[[Sequence[Row]], None], rows: Sequence[Row]) -> None:
        """Do something for rows; its failure is theirs. Without memory they are tried again, fewer at once."""
        if not rows:
            return
        try:
            work(rows)
            return
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            error = ""
            if len(rows) == 1:
                error = "memory: one row alone does not fit on the device"
        except PotstillError as failure:
            error = f"server: {failure.found}"
        except Exception as failure:
            # Boundary: a request that our code can't handle must not end the others. The log has the traceback.
            log.exception("%d rows failed", len(rows))
            error = f"server: an error of the engine's own: {type(failure).__name__}: {failure}"
        # A pass that broke off leaves a cache of which nobody knows what is in it.
        open_rows = [row for row in rows if not row.finish_reason]
        bystanders = [row for row in self._batch.rows if row not in rows] if self._batch else []
        self._batch = self._new_batch()
        self._put_back(bystanders)
        if error:
            self._fail(open_rows, error)
        else:
            self._max_rows = max(1, len(rows) // 2)
            self._put_back(open_rows)

    def _fail(self, rows: Sequence[Row], error: str) -> None:
        for row in rows:
            if not row.finish_reason:
                row.finish("error", error)
                self.counts.failed_rows += 1
                if row.on_change is not None:
                    row.on_change(row)

    def _tell(self, rows: Sequence[Row]) -> None:
        """Say of rows that they have changed."""
        for row in rows:
            if row.ids:
                self.counts.new_tokens += 1
            if row.on_change is not None:
                row.on_change(row)


def _without(queue: deque[Row], rows: Sequence[Row]) -> deque[Row]:
    """A queue without some of its rows."""
    taken = set(map(id, rows))
    return deque(row for row in queue if id(row) not in taken)


def check_same_kind(current: Path, other: Path) -> None:
    """Refuse a checkpoint whose weights can't take the place of another's: its architecture or tokenizer differs."""
    checkpoint.check_checkpoint(other)
    current_config = checkpoint.load_config(current).get_text_config()
    other_config = checkpoint.load_config(other).get_text_config()
    names = ("model_type", *checkpoint.SIZE_NAMES, "num_key_value_heads", "head_dim")
    for name in names:
        before, after = getattr(current_config, name, None), getattr(other_config, name, None)
        if before != after:
            raise ModelError(
                f"{other}: its {name} is {after}, and that of the served checkpoint {before}",
                expected="a checkpoint of the same architecture, such as a later step of its training",
                fix="start a server of its own for it",
            )
    for name in TOKENIZER_FILES:
        before_file, after_file = current / name, other / name
        if before_file.is_file() != after_file.is_file():
            raise ModelError(f"{other}: only one of the two checkpoints has a {name}")
        if before_file.is_file() and before_file.read_bytes() != after_file.read_bytes():
            raise ModelError(
                f"{other}: its {name} is not that of the served checkpoint",
                expected="the same tokenizer, so that token ids mean the same",
                fix="copy the tokenizer files of the served checkpoint there, if they are meant to be the same",
            )
