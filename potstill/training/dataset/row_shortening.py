"""Rows that lose the left of their reasoning from step to step, as the objective says how much.

It stands where rollouts stand, between the planned micro-batches and the loss, so what is removed is a function of the
step and the seed: a resumed training removes the same. The reasoning is what stands in `<think>`, or before the marked
answer. Positions begin anew behind the cut.
"""

from __future__ import annotations

import hashlib
import re
from bisect import bisect
from collections import Counter
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any, NamedTuple, final

import numpy as np

from potstill.objectives.hooks import RowShortening
from potstill.records import Trace
from potstill.training import distributed
from potstill.training.dataset import batching
from potstill.training.dataset.batching import Batch
from potstill.training.dataset.chat_template import CLOSE, OPEN, ChatTemplate
from potstill.training.dataset.training_dataset import TokenizedRow
from potstill.training.objective_config import ObjectiveConfig
from potstill.training.rollout.rewards import ANSWERS
from potstill.training.schedules import When
from potstill.training.settings import TrainingSettings


class Reasoning(NamedTuple):
    """Where a completion's reasoning begins, in its tokens, and how many tokens each of its lines has."""

    start: int
    line_lengths: list[int]


@final
class RowShortener:
    """Shortens the rows of a step (a `Rollout` of `objective_inputs`).

    Args:
        rows: the stage's rows.
        template: of the student.
        config: its objective says how much goes at a step.
    """

    def __init__(
        self,
        rows: Sequence[Trace],
        template: ChatTemplate,
        config: ObjectiveConfig,
        settings: TrainingSettings,
    ) -> None:
        self._rows, self._chat = rows, template
        self._config, self._settings = config, settings
        self._tokens_left = 0  # of the reasonings of this step's rows, in this process
        self._nothing_left = False  # after the last step, in all processes

    def __call__(
        self, model: Any, window: list[Batch], when: When, teacher: Any = None
    ) -> list[Batch]:
        """The micro-batches, shortened."""
        rule = self._rule(when)
        self._tokens_left = 0
        shortened = []
        for index, batch in enumerate(window):
            if not batching.is_idle(batch):
                batch = self._shorten(batch, rule, when.step, f"{when.step}/{index}")
            shortened.append(batch)
        self._nothing_left = not sum(distributed.gather_objects(self._tokens_left))
        return shortened

    def resets_optimizer(self, when: When) -> bool:
        """Whether the optimizer is to forget its moments before this step, whose rows have not come yet."""
        return self._rule(when).resets_optimizer(when.step) and not self._nothing_left

    def state(self) -> dict[str, Any]:
        """Whether anything was left of the last step's reasonings."""
        return {"nothing_left": self._nothing_left}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Become what `state` said."""
        self._nothing_left = state["nothing_left"]

    def _rule(self, when: When) -> RowShortening:
        steps_per_epoch = max(1, round(when.total / self._settings.num_train_epochs))
        rule = self._config.hooks.row_shortening(self._config.option_values, steps_per_epoch)
        assert rule is not None, f"{self._config.objective} shortens no rows"
        return rule

    def _shorten(self, batch: Batch, rule: RowShortening, step: int, place: str) -> Batch:
        rows = []
        for index, row in enumerate(batching.rows_of(batch)):
            reasoning = self.find_reasoning(row)
            name = f"{self._settings.seed}/shortened/{place}/{distributed.place_in_batch(index)}"
            random = Random(hashlib.sha256(name.encode()).digest())
            removed = rule.tokens_to_remove(reasoning.line_lengths, step, random)
            self._tokens_left += sum(reasoning.line_lengths) - removed

            # Everything before the reasoning stays, and everything behind what is removed.
            first = row.prompt_length + reasoning.start
            removed_slice = slice(first, first + removed)
            rows.append(
                TokenizedRow(
                    row.trace_index,
                    np.delete(row.input_ids, removed_slice),
                    np.delete(row.loss_weights, removed_slice),
                    row.prompt_length,
                )
            )
        return batching.to_device(batching.collate_rows(rows), batch["input_ids"].device)

    def find_reasoning(self, row: TokenizedRow) -> Reasoning:
        """The reasoning of a row's completion; an empty one where no answer is marked."""
        text, ids = self._rows[row.trace_index].text, row.completion_ids
        encoded = self._chat.codec.encode_with_offsets(text)
        if encoded.ids != ids[: len(encoded.ids)]:
            return Reasoning(0, [])
        first, last = reasoning_span(text)

        # Tokens that lie in the reasoning, and the line that each of them begins in.
        inside = {}
        for index, (start, stop) in enumerate(encoded.offsets):
            if start >= first and stop <= last:
                inside[index] = start
        if not inside:
            return Reasoning(0, [])
        line_starts = [first + mark.end() for mark in re.finditer("\n+", text[first:last])]
        tokens_of_line = Counter(bisect(line_starts, start) for start in inside.values())
        return Reasoning(min(inside), list(tokens_of_line.values()))


def reasoning_span(text: str) -> tuple[int, int]:
    """Where a completion's reasoning begins and ends: inside its tags, or before its marked answer."""
    if text.startswith(OPEN) and CLOSE in text:
        return len(OPEN), text.index(CLOSE)
    marks = list(ANSWERS.finditer(text))
    return 0, marks[-1].start() if marks else 0


def text_without_reasoning(text: str) -> str:
    """A completion without its reasoning and the tags; nothing where the answer can't be told from it."""
    _, last = reasoning_span(text)
    return text[last:].removeprefix(CLOSE).strip() if last else ""
