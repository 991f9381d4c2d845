"""Stepwise internalisation in a training: each step's rows lose the left of their chain of thought, more and more.

It stands where rollouts stand, between the planned micro-batches and the loss, so what is cut is a function of the step
and the seed: a resumed training cuts the same. The chain is what stands in `<think>`, or before the marked answer.
Where more goes the optimizer starts anew, as in the paper, unless nothing was left to go.
"""

from __future__ import annotations

import hashlib
import re
from bisect import bisect
from collections import Counter
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any, final

import numpy as np

from potstill.objectives.internalise import Internalise
from potstill.records import Trace
from potstill.training import distributed
from potstill.training.dataset import collate
from potstill.training.dataset.chat_template import CLOSE, OPEN, Chat
from potstill.training.dataset.collate import Batch
from potstill.training.dataset.rows import TokenizedRow
from potstill.training.rollout.rewards import ANSWERS
from potstill.training.schedules import When
from potstill.training.settings import TrainingSettings


@final
class Shortened:
    """Cuts the rows of a step (`objective_inputs.Roll`).

    Args:
        rows: the stage's rows.
        constants: of `Internalise`; `steps_per_epoch` is the training's own if it isn't given. Positions begin anew
            behind the cut: `keep_positions` is not used.
    """

    def __init__(
        self,
        rows: Sequence[Trace],
        template: Chat,
        constants: Mapping[str, Any],
        settings: TrainingSettings,
    ) -> None:
        self._rows, self._chat, self._constants, self._settings = (
            rows,
            template,
            constants,
            settings,
        )
        self._left, self._gone = (
            0,
            False,
        )  # tokens left of a step's chains; whether the last step had none

    def __call__(
        self, model: Any, window: list[Batch], when: When, teacher: Any = None
    ) -> list[Batch]:
        """The micro-batches, shortened."""
        schedule = self._schedule(when)
        self._left = 0
        made = [
            batch
            if collate.is_idle(batch)
            else self._cut(batch, f"{when.step}/{at}", schedule, when.step)
            for at, batch in enumerate(window)
        ]
        self._gone = not sum(distributed.gathered(self._left))
        return made

    def anew(self, when: When) -> bool:
        """Whether the optimizer is to forget its moments before this step, whose rows have not come yet."""
        schedule = self._schedule(when)
        return schedule.reset and schedule.rises(when.step) and not self._gone

    def state(self) -> dict[str, Any]:
        """Whether anything was left of the last step's chains."""
        return {"gone": self._gone}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Become what `state` said."""
        self._gone = state["gone"]

    def _schedule(self, when: When) -> Internalise:
        own = {"steps_per_epoch": max(1, round(when.total / self._settings.num_train_epochs))}
        return Internalise(**{**own, **self._constants})

    def _cut(self, batch: Batch, place: str, schedule: Internalise, step: int) -> Batch:
        made = []
        for at, row in enumerate(collate.rows_of(batch)):
            start, steps = self.chain(row.trace_index, row.completion_ids)
            name = hashlib.sha256(
                f"{self._settings.seed}/shortened/{place}/{distributed.place(at)}".encode()
            ).digest()
            units = schedule.removed(step) + schedule.offset(Random(name))
            gone = schedule.tokens(units, steps)
            self._left += sum(steps) - gone
            first = row.prompt_length + start
            cut = slice(first, first + gone)
            made.append(
                TokenizedRow(
                    row.trace_index,
                    np.delete(row.input_ids, cut),
                    np.delete(row.loss_weights, cut),
                    row.prompt_length,
                )
            )
        return collate.to_device(collate.collate_rows(made), batch["input_ids"].device)

    def chain(self, trace: int, ids: Sequence[int]) -> tuple[int, list[int]]:
        """Where a completion's chain of thought begins, in its tokens, and how many tokens each of its lines has.

        Of a completion whose answer is not marked, nothing.
        """
        text = self._rows[trace].text
        told = self._chat.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        if list(told["input_ids"]) != list(ids[: len(told["input_ids"])]):
            return 0, []
        first, last = reasoning(text)
        inside = {
            at: start
            for at, (start, stop) in enumerate(told["offset_mapping"])
            if start >= first and stop <= last
        }
        begun = [first + mark.end() for mark in re.finditer("\n+", text[first:last])]
        lines = Counter(bisect(begun, start) for start in inside.values())
        return (min(inside), list(lines.values())) if inside else (0, [])


def reasoning(text: str) -> tuple[int, int]:
    """Where a completion's chain of thought begins and ends: inside its tags, or before its marked answer."""
    if text.startswith(OPEN) and CLOSE in text:
        return len(OPEN), text.index(CLOSE)
    found = list(ANSWERS.finditer(text))
    return 0, found[-1].start() if found else 0


def bare(text: str) -> str:
    """A completion without its chain of thought and the tags; nothing where the answer can't be told from it."""
    _, last = reasoning(text)
    return text[last:].removeprefix(CLOSE).strip() if last else ""
