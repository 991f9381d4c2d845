"""The student writes: a step's prompts become its own completions, scored, and are trained on like any rows.

Each completion is a function of the weights, the step and the place, so a resumed training writes the same ones.
Tokens stay the ids that were drawn: no text is ever cut into tokens again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, final

import torch

from potstill.models.local import generate
from potstill.models.model import Sampling
from potstill.objectives.policy import group_advantages
from potstill.objectives.schedules import Adaptive, Source, gkd_source
from potstill.records import Trace
from potstill.training import distributed
from potstill.training.dataset import collate
from potstill.training.dataset.chat_template import Chat
from potstill.training.dataset.collate import Batch
from potstill.training.dataset.rows import TokenizedRow
from potstill.training.objective_config import ObjectiveConfig
from potstill.training.rollout import rewards, speculative
from potstill.training.rollout.replay_buffer import Buffer, packed, unpacked
from potstill.training.rollout.rewards import Models, Rewards, Written
from potstill.training.schedules import When
from potstill.training.settings import TrainingSettings
from potstill.training.teacher.remote import Wire


@final
class Rollouts:
    """Replaces the micro-batches of a step by what the student writes on their prompts, or by what it wrote before.

    Where rows come from is decided once a step: by GKD's coin, or with a replay buffer by DistiLLM's rule, whose share
    starts at `config.on_policy_fraction` and grows with the loss on held-out rows.

    Args:
        rows: the stage's rows; a micro-batch names them by its column `trace`.
        template: of the student.
        bf16: write in bfloat16, as the training computes.
    """

    def __init__(
        self,
        rows: Sequence[Trace],
        template: Chat,
        config: ObjectiveConfig,
        settings: TrainingSettings,
        *,
        bf16: bool = False,
    ) -> None:
        self._rows, self._chat, self._config, self._seed, self._bf16 = (
            rows,
            template,
            config,
            settings.seed,
            bf16,
        )
        self._rewards = Rewards(config.reward)
        self._rewards.check(row.problem for row in rows)
        self._buffer = Buffer(config.replay_buffer_size) if config.replay_buffer_size else None
        self._adaptive = Adaptive(config.on_policy_fraction)
        self._newest: list[
            list[list[TokenizedRow]]
        ] = []  # of each micro-batch, what each process wrote last

    def __call__(
        self, model: Any, window: list[Batch], when: When, teacher: Any = None
    ) -> list[Batch]:
        """The micro-batches to train on, in the order and number of those that came."""
        source = self._source(when)
        if source == "rows":
            return window
        if source == "replay" and self._buffer is not None:
            return [
                self._again(self._buffer, batch, f"{when.step}/{at}")
                for at, batch in enumerate(window)
            ]
        kept = [len(parts) for parts in self._newest] == [distributed.count()] * len(window)
        if when.step % self._config.num_iterations and kept:
            mine = [parts[distributed.rank()] for parts in self._newest]
            return [_batch(rows, batch["input_ids"].device) for rows, batch in zip(mine, window)]
        was = model.training
        model.eval()
        made = [
            self._made(model, batch, f"{when.step}/{at}", teacher, when)
            for at, batch in enumerate(window)
        ]
        model.train(was)
        if self._config.num_iterations > 1:
            self._newest = [distributed.gathered(rows) for rows in made]
        return [_batch(rows, batch["input_ids"].device) for rows, batch in zip(made, window)]

    def _again(self, buffer: Buffer, batch: Batch, place: str) -> Batch:
        """This process's share of the rows that a micro-batch takes from the buffer, which is the same in all."""
        mine = 0 if collate.is_idle(batch) else len(batch["input_ids"])
        taken = buffer.take(sum(distributed.gathered(mine)), _seed(self._seed, f"replay/{place}"))
        return (
            _batch(taken[distributed.rank() :: distributed.count()], batch["input_ids"].device)
            if mine
            else batch
        )

    def written(
        self, model: Any, prompts: Sequence[Sequence[int]], seeds: Sequence[int], pair: Any = None
    ) -> list[Any]:
        """Completions (`generate.GeneratedRow`) of prompts given as tokens, each from its own seed."""
        config, unique = (
            self._config,
            {ids: at for at, ids in enumerate(dict.fromkeys(map(tuple, prompts)))},
        )
        context = model.config.get_text_config().max_position_embeddings or 1 << 30
        batch = generate.GenerationBatch(
            prompts=[list(ids) for ids in unique],
            prompt_of_row=[unique[tuple(ids)] for ids in prompts],
            seeds=seeds,
            max_new_tokens=[min(config.max_new_tokens, context - len(ids)) for ids in prompts],
            sampling=Sampling(
                temperature=1.0 if pair else config.rollout_temperature,
                max_tokens=config.max_new_tokens,
                logprobs=True,
            ),
            end_ids=(self._chat.end,),
        )
        with torch.autocast(model.device.type, torch.bfloat16, enabled=self._bf16):
            return generate.generate_batch(pair or model, batch)

    def validated(self, loss: float) -> None:
        """The likelihood of held-out rows, to move DistiLLM's share."""
        if self._buffer is not None:
            self._adaptive = self._adaptive.after(loss)

    def text(self, ids: Sequence[int]) -> str:
        """What a verifier reads of a completion's tokens."""
        plain = [token for token in ids if token != self._chat.end]
        return str(
            self._chat.tokenizer.decode(
                plain, skip_special_tokens=True, clean_up_tokenization_spaces=False
            )
        )

    def state(self) -> dict[str, Any]:
        """The buffer, DistiLLM's share, and what the rewards remember."""
        buffer = self._buffer.state() if self._buffer is not None else {}
        newest = [[[packed(row) for row in rows] for rows in parts] for parts in self._newest]
        return {
            "buffer": buffer,
            "adaptive": list(self._adaptive),
            "rewards": self._rewards.state(),
            "newest": newest,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Become what `state` said."""
        if self._buffer is not None:
            self._buffer.restore(state["buffer"])
        self._adaptive = Adaptive(*state["adaptive"])
        self._rewards.restore(state["rewards"])
        self._newest = [
            [list(map(unpacked, rows)) for rows in parts] for parts in state.get("newest", ())
        ]

    def _source(self, when: When) -> Source:
        uniform = _seed(self._seed, f"source/{when.step}") / 2**63
        if self._buffer is None:
            return gkd_source(uniform, self._config.on_policy_fraction)
        return self._adaptive.source(uniform, when.done, full=self._buffer.full)

    def _made(
        self, model: Any, batch: Batch, place: str, teacher: Any, when: When
    ) -> list[TokenizedRow]:
        """One micro-batch: `group` completions of each prompt."""
        group, idle = self._config.num_generations, collate.is_idle(batch)
        prompts = (
            []
            if idle
            else [
                ids[:n].tolist()
                for ids, n in zip(batch["input_ids"], batch["prompt_lengths"].tolist())
            ]
        )
        owner = [at for at in range(len(prompts)) for _ in range(group)]
        seeds = [
            _seed(self._seed, f"{place}/{distributed.place(at) * group + i % group}")
            for i, at in enumerate(owner)
        ]
        asked = [prompts[at] for at in owner]
        drawn = self.written(model, asked, seeds, self._pair(model, teacher)) if asked else []
        traces = batch["trace_index"].tolist()
        rows = [self.row(traces[at], prompts[at], one) for at, one in zip(owner, drawn)]
        if (
            self._joint
        ):  # what was drawn from is not the student alone: its own share is asked for again
            rows = [
                row.with_columns(sampled=[0.0] * row.prompt_length + list(values))
                for row, values in zip(rows, rewards.scores(model, rows))
            ]
        if "advantages" in self._config.needs:
            rows = self._rewarded(model, rows, owner, teacher, when)
        if self._config.mask_truncated_completions:
            rows = [row if row.columns["stopped"][0] else row.masked() for row in rows]
        if self._buffer is not None:
            every = distributed.together(
                [rows[at : at + group] for at in range(0, len(rows), group)]
            )
            self._buffer.add([row for one in every for row in one])
        return rows

    @property
    def _joint(self) -> float:
        """Whether the teacher has a hand in what is written; MiniLLM's is its share in each token."""
        return float(self._config.constants.get("mixed", 0.0)) or float(
            self._config.rollout_sampling == "speculative"
        )

    def _pair(self, model: Any, teacher: Any) -> speculative.Pair | None:
        if not self._joint:
            return None
        heat = self._config.rollout_temperature
        if self._config.rollout_sampling == "speculative":
            return speculative.Pair(
                model, teacher, speculative.interleaved(Sampling(temperature=heat))
            )
        return speculative.Pair(
            model, teacher, speculative.mixed(self._config.constants["mixed"], heat)
        )

    def row(self, trace: int, prompt: list[int], drawn: generate.GeneratedRow) -> TokenizedRow:
        """A rollout as a row. One that the limit cut keeps its tokens and has no end token: it never learns to stop."""
        before = [0.0] * len(prompt)
        columns = {
            "sampled": before + drawn.logprobs,
            "stopped": [float(drawn.stopped)] * (len(prompt) + len(drawn.ids)),
        }
        weights = [*before, *([1.0] * len(drawn.ids))]
        return TokenizedRow.of(trace, [*prompt, *drawn.ids], weights, len(prompt), columns)

    def _rewarded(
        self, model: Any, rows: Sequence[TokenizedRow], owner: list[int], teacher: Any, when: When
    ) -> list[TokenizedRow]:
        written = [
            Written(self._rows[row.trace_index].problem, self.text(row.completion_ids), row, group)
            for row, group in zip(rows, owner)
        ]
        scorer = (
            teacher
            if isinstance(teacher, Wire)
            else partial(rewards.scores, teacher)
            if teacher
            else None
        )
        made = self._rewards(
            written, Models(model, scorer, self._chat, when.step, self._config.max_new_tokens)
        )
        values = torch.tensor(made.rewards, dtype=torch.float64)
        advantages = group_advantages(values, torch.tensor(owner)).tolist()
        rows = [
            _with(row, advantages=a, reward=r) for row, a, r in zip(rows, advantages, made.rewards)
        ]
        if (
            "labels" in self._config.needs
        ):  # what no verifier was asked about is right where it is rewarded
            right = made.right or [reward > 0 for reward in made.rewards]
            rows = [_with(row, right=float(fine)) for row, fine in zip(rows, right)]
        if made.answered is None:
            return rows
        return [_with(row, answered=float(read)) for row, read in zip(rows, made.answered)]


def _batch(rows: Sequence[TokenizedRow], device: Any) -> Batch:
    return collate.to_device(collate.collate_rows(rows), device)  # idle where there are none


def _with(row: TokenizedRow, **values: float) -> TokenizedRow:
    """The row with columns of one value."""
    return row.with_columns(**{name: [value] * len(row) for name, value in values.items()})


def _seed(seed: int, name: str) -> int:
    """63 bits, hashed from everything that names a draw."""
    return (
        int.from_bytes(hashlib.sha256(f"{seed}/rollout/{name}".encode()).digest()[:8], "big") >> 1
    )
