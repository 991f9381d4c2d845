"""The student writes: a step's prompts become its own completions, scored, and are trained on like any rows.

Each completion is a function of the weights, the step and the place, so a resumed training writes the same ones.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, final

import torch

from potstill.models import decoding
from potstill.models.model import Sampling
from potstill.objectives.policy import group_advantages
from potstill.records import Problem, Trace
from potstill.training import items
from potstill.training.chat import Chat
from potstill.training.items import Batch
from potstill.training.render import Row
from potstill.training.settings import Training
from potstill.training.task import Task
from potstill.verifiers import judge


@final
class Rollouts:
    """Replaces the micro-batches of a step, with probability `rollout`, by what the student writes on their prompts.

    Args:
        rows: the stage's rows; a micro-batch names them by its column `trace`.
        template: of the student.
    """

    def __init__(self, rows: Sequence[Trace], template: Chat, task: Task, settings: Training) -> None:
        self._rows, self._chat, self._task, self._seed = rows, template, task, settings.seed

    def __call__(self, model: Any, window: list[Batch], step: int) -> list[Batch]:
        """The micro-batches to train on, in the order and number of those that came."""
        if _uniform("source", self._seed, step) >= self._task.rollout:
            return window
        was = model.training
        model.eval()
        made = [self._written(model, batch, f"{step}/{at}") for at, batch in enumerate(window)]
        model.train(was)
        return made

    def _written(self, model: Any, batch: Batch, place: str) -> Batch:
        """One micro-batch: `group` completions of each prompt."""
        task, device = self._task, batch["ids"].device
        prompts = [ids[:n].tolist() for ids, n in zip(batch["ids"], batch["prompt"].tolist())]
        owner = [at for at in range(len(prompts)) for _ in range(task.group)]
        seeds = [_seed(self._seed, f"{place}/{at}") for at in range(len(owner))]
        sampling = Sampling(temperature=task.temperature, max_tokens=task.max_new, logprobs=True)
        unique = {tuple(ids): i for i, ids in enumerate(dict.fromkeys(map(tuple, prompts)))}
        drawn = decoding.decode(
            model,
            decoding.Batch(
                prompts=[list(ids) for ids in unique],
                owner=[unique[tuple(prompts[at])] for at in owner],
                seeds=seeds,
                limits=[task.max_new] * len(owner),
                sampling=sampling,
                ends=(self._chat.end,),
            ),
        )
        traces = batch["trace"].tolist()
        rows = [self._row(traces[at], prompts[at], one) for at, one in zip(owner, drawn)]
        if "advantages" in task.needs:
            rows = self._rewarded(rows, torch.tensor(owner))
        return items.to(items.collate([[items.prepared(row)] for row in rows]), device)

    def _row(self, trace: int, prompt: list[int], drawn: decoding.Drawn) -> Row:
        """A rollout as a row. One that the limit cut keeps its tokens and has no end token: it never learns to stop."""
        before = [0.0] * len(prompt)
        columns = {
            "sampled": before + drawn.logprobs,
            "stopped": [float(drawn.stopped)] * (len(prompt) + len(drawn.ids)),
        }
        weights = (*before, *([1.0] * len(drawn.ids)))
        return Row(trace, (*prompt, *drawn.ids), weights, len(prompt), columns)

    def _rewarded(self, rows: Sequence[Row], group: torch.Tensor) -> list[Row]:
        problems = [self._rows[row.trace].problem for row in rows]
        texts = [self._text(row) for row in rows]
        rewards = torch.tensor(rewarded(self._task.reward, problems, texts), dtype=torch.float64)
        advantages = group_advantages(rewards, group).tolist()
        return [_with(row, advantages=a, reward=r) for row, a, r in zip(rows, advantages, rewards.tolist())]

    def _text(self, row: Row) -> str:
        ids = [token for token in row.ids[row.prompt :] if token != self._chat.end]
        return str(self._chat.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))


def rewarded(
    reward: Callable[[Any, str], float] | None, problems: Sequence[Problem], texts: Sequence[str]
) -> list[float]:
    """The reward of each text; without a function of one's own, 1 where the problem's verifier says right, else 0."""
    if reward is not None:
        return [float(reward(problem, text)) for problem, text in zip(problems, texts)]
    return [float(verdict.status == "right") for verdict in judge(list(zip(problems, texts)))]


def _with(row: Row, **values: float) -> Row:
    """The row with columns of one value."""
    columns = {name: [value] * len(row.ids) for name, value in values.items()}
    return Row(row.trace, row.ids, row.weights, row.prompt, {**row.columns, **columns})


def _uniform(kind: str, seed: int, step: int) -> float:
    return _seed(seed, f"{kind}/{step}") / 2**63


def _seed(seed: int, name: str) -> int:
    """63 bits, hashed from everything that names a draw."""
    return int.from_bytes(hashlib.sha256(f"{seed}/rollout/{name}".encode()).digest()[:8], "big") >> 1
