"""From time to time, held-out prompts: does the student come nearer to its teacher, and does it still get them right?

A student that learns its teacher's quirks comes nearer on the teacher's texts and not on its own, or nearer on both
while fewer answers are right. Nothing here touches the training: own seeds, no gradient, modes put back.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, final

import torch

from potstill.objectives import divergence
from potstill.objectives.inputs import Inputs, summed
from potstill.objectives.likelihood import sft
from potstill.records import Trace
from potstill.training import distributed, metrics
from potstill.training.dataset import collate
from potstill.training.dataset.chat_template import ChatTemplate
from potstill.training.dataset.rows import TokenizedRow
from potstill.training.dataset.tokenize import tokenize_traces
from potstill.training.dataset.training_dataset import TrainingDataset
from potstill.training.logprobs import positions
from potstill.training.objective_config import ObjectiveConfig
from potstill.training.rollout.rollouts import Rollouts
from potstill.training.schedules import When
from potstill.verifiers import judge

ROWS = 8  # watched where none are held out
LOOKS = 10  # in a training, unless the config says how often
UNJUDGED = (
    "code",
    "judge",
    "gym",
)  # kinds that run programs or call models: too dear to ask on the side


@final
class Watch:
    """Looks at the student through a few rows.

    Args:
        rows: the stage's rows.
        prompts: their prompts as tokens; what is written is judged against their problems.
        texts: the same rows with their completions, where they have any: the teacher's texts.
        rollouts: writes as the training does.
        every: steps between two looks; 0 is ten looks a training, but no more than one in ten steps.
    """

    def __init__(
        self,
        rows: Sequence[Trace],
        prompts: Sequence[TokenizedRow],
        texts: Sequence[TokenizedRow],
        rollouts: Rollouts,
        every: int = 0,
    ) -> None:
        self._rows, self._prompts, self._texts, self._rollouts, self._every = (
            rows,
            prompts,
            texts,
            rollouts,
            every,
        )

    def due(self, when: When) -> bool:
        """Whether to look before this step."""
        return when.step % (self._every or max(10, when.total // LOOKS)) == 0

    def __call__(self, model: Any, teacher: Any = None) -> dict[str, float]:
        """What is seen: of the student's own texts, of the rows', and the gap between them."""
        was = model.training
        model.eval()
        with torch.no_grad():  # each process looks at its share, and knows all that is seen
            own = self._written(model)
            seen = self._judged(own)
            seen |= _named("own", self._measured(model, own, teacher))
            texts = self._texts[distributed.rank() :: distributed.count()]
            seen |= _named("rows", self._measured(model, texts, teacher))
        model.train(was)
        if "watch_own_reverse_kl" in seen and "watch_rows_reverse_kl" in seen:
            seen["watch_gap"] = seen["watch_own_reverse_kl"] - seen["watch_rows_reverse_kl"]
        if "watch_rows_nll" in seen:
            self._rollouts.update_share(seen["watch_rows_nll"])
        return seen

    def _written(self, model: Any) -> list[TokenizedRow]:
        mine = self._prompts[distributed.rank() :: distributed.count()]
        names = [f"watch/{distributed.place(at)}" for at in range(len(mine))]
        seeds = [int.from_bytes(hashlib.sha256(name.encode()).digest()[:7]) for name in names]
        drawn = (
            self._rollouts.write_completions(model, [row.prompt_ids for row in mine], seeds)
            if mine
            else []
        )
        return [
            self._rollouts.as_row(row.trace_index, row.prompt_ids, one)
            for row, one in zip(mine, drawn, strict=True)
        ]

    def _judged(self, own: Sequence[TokenizedRow]) -> dict[str, float]:
        told = distributed.together(
            [(len(row) - row.prompt_length, 1 - float(row.columns["stopped"][0])) for row in own]
        )
        length, cut = (sum(values) / len(told) for values in zip(*told))
        seen = {"watch_length": length, "watch_truncated": cut}
        texts = [self._rollouts.text(row.completion_ids) for row in own]
        asked = [(self._rows[row.trace_index].problem, text) for row, text in zip(own, texts)]
        known = [
            pair for pair in asked if pair[0].answer is not None and pair[0].kind not in UNJUDGED
        ]
        verdicts = distributed.together([verdict.status for verdict in judge(known)])
        if verdicts:
            seen["watch_right"] = verdicts.count("right") / len(verdicts)
            seen["watch_answered"] = sum(status in ("right", "wrong") for status in verdicts) / len(
                verdicts
            )
        return seen

    def _measured(self, model: Any, rows: Sequence[TokenizedRow], teacher: Any) -> dict[str, float]:
        """Mean likelihood, entropy, and the divergences to the teacher where there is one, over all processes' rows."""
        every: dict[str, list[tuple[float, float]]] = {}
        for mine in distributed.gathered(self._sums(model, rows, teacher) if rows else {}):
            for name, (total, count) in mine.items():
                every.setdefault(name, []).append((total, count))
        return {
            name: sum(t for t, _ in parts) / max(1, sum(n for _, n in parts))
            for name, parts in every.items()
        }

    def _sums(
        self, model: Any, rows: Sequence[TokenizedRow], teacher: Any
    ) -> dict[str, tuple[float, float]]:
        plain = [row.without_columns() for row in rows]
        batch = collate.to_device(collate.collate_rows(plain), model.device)
        x = positions(
            model, batch, teacher=teacher, needs=("distribution",) if teacher is not None else ()
        )
        made = {"nll": sft(x).stats["nll"], "entropy": summed(metrics.entropy(x))}
        if x.teacher is not None:
            made["forward_kl"] = divergence.forward_kl(x).stats["forward_kl"]
            made["reverse_kl"] = divergence.reverse_kl(x).stats["reverse_kl"]
            own = Inputs(x.teacher.hidden_NDt, x.teacher.head, x.targets_N)  # type: ignore[union-attr]
            made["teacher_entropy"] = summed(metrics.entropy(own))
        return {name: (float(total), float(count)) for name, (total, count) in made.items()}


class Apart(NamedTuple):
    """What is trained on, and the rows that the student is evaluated on."""

    learnt: TrainingDataset
    watched: Sequence[TokenizedRow]


def apart(dataset: TrainingDataset, eval_rows: int) -> Apart:
    """Items evenly spaced are evaluated on: `eval_rows` of them and not trained on, or a few that are."""
    wanted = min(eval_rows or ROWS, len(dataset) - bool(eval_rows))
    spacing = (len(dataset) - 1) / max(1, wanted - 1)
    chosen = sorted({round(at * spacing) for at in range(wanted)})
    watched = [dataset[number][0] for number in chosen]
    if not eval_rows:
        return Apart(dataset, watched)
    return Apart(dataset.select(sorted(set(range(len(dataset))) - set(chosen))), watched)


def watch(
    rows: Sequence[Trace],
    watched: Sequence[TokenizedRow],
    rollouts: Rollouts,
    template: ChatTemplate,
    config: ObjectiveConfig,
) -> Watch | None:
    """Who looks at a student; nobody where there is neither teacher nor rollout nor a word about it."""
    if (
        not (
            config.teacher
            or config.on_policy_fraction
            or config.replay_buffer_size
            or config.eval_rows
            or config.eval_steps
        )
        or not watched
    ):
        return None
    texts = [row for row in watched if row.loss_weights.any()]
    if config.on_policy_fraction == 1:  # rendered as prompts alone
        finished = tokenize_traces(
            [rows[row.trace_index] for row in watched], template, max_length=1 << 30
        ).rows
        texts = [replace(row, trace_index=watched[row.trace_index].trace_index) for row in finished]
    return Watch(rows, watched, texts, rollouts, config.eval_steps)


def _named(text: str, values: Mapping[str, float]) -> dict[str, float]:
    return {f"watch_{text}_{name}": value for name, value in values.items()}
