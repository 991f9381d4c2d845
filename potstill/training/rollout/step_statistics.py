"""What only a whole step knows, before any micro-batch is learnt: KTO's kl, MiniLLM's whitened returns.

Both are means over the step's rows. Taken over one micro-batch they would change with how the step is cut.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from potstill.objectives.inputs import Inputs
from potstill.objectives.policy import normalised_returns, whitened
from potstill.training import distributed
from potstill.training.dataset import collate
from potstill.training.dataset.collate import Batch, Item, Prepared
from potstill.training.dataset.tokenize import Row

OTHER = "other_"  # what the columns of a mismatched row begin with
Valued = Callable[[Batch], Tensor]  # log-probabilities of the counted targets, [B, T]


def mismatched(rows: Sequence[Item]) -> list[list[Row]]:
    """Of each row, its prompt with the completion of the next item that has another prompt, the same side of a pair.

    Never longer than the longer of the two. Where all prompts are one, nothing of it is counted and kl is 0.
    """
    made = []
    for at, item in enumerate(rows):
        others = (rows[(at + step) % len(rows)] for step in range(1, len(rows)))
        other = next((one for one in others if _prompt(one[0]) != _prompt(item[0])), None)
        made.append(
            [
                _crossed(row, other[min(side, len(other) - 1)] if other else None)
                for side, row in enumerate(item)
            ]
        )
    return made


def _prompt(row: Row) -> tuple[int, ...]:
    return tuple(row.ids[: row.prompt])


def _crossed(row: Row, other: Row | None) -> Row:
    if other is None:
        return Row(row.trace, row.ids, (0.0,) * len(row.ids), row.prompt)
    limit = max(len(row.ids), len(other.ids))
    ids = (*_prompt(row), *other.ids[other.prompt :])[:limit]
    return Row(
        row.trace, ids, (*((0.0,) * row.prompt), *other.weights[other.prompt :])[:limit], row.prompt
    )


def put(row: Prepared, crossed: Prepared, reference: Tensor) -> None:
    """The mismatched row, and what the reference says of it, as columns of the row."""
    named = {**crossed.columns, "reference": reference}
    row.columns.update({OTHER + name: column for name, column in named.items()})  # type: ignore[attr-defined]


def with_kl(window: Sequence[Batch], valued: Valued) -> list[Batch]:
    """The micro-batches with `kl`: the mean over the step's mismatched rows of log student - log reference, at least 0.

    Args:
        valued: the student as it is now.
    """
    total, count = 0.0, 0
    for batch in window:
        if collate.idle(batch):
            continue
        other = {
            name.removeprefix(OTHER): column
            for name, column in batch.items()
            if name.startswith(OTHER)
        }
        ratios = (valued(other).to(other["reference"]) - other["reference"]).sum(1).double()
        told = (other["weights"][:, 1:] > 0).any(1)
        total, count = total + float(ratios[told].sum()), count + int(told.sum())
    total, count = (sum(part) for part in zip(*distributed.gathered((total, count))))
    kl = max(0.0, total / count) if count else 0.0
    return [{**batch, "kl": torch.tensor(kl, device=batch["ids"].device)} for batch in window]


def with_returns(
    window: Sequence[Batch], student: Valued, teacher: Valued, gamma: float
) -> list[Batch]:
    """The micro-batches with MiniLLM's returns as `advantages`, whitened over the step.

    Args:
        student: asked where a micro-batch does not say how likely its tokens were when they were written.
        teacher: asked where it does not say what the teacher holds of them.
    """
    made = [{**batch} for batch in window]
    found = []
    busy = [batch for batch in made if not collate.idle(batch)]
    for batch in busy:
        for name, model in (("teacher", teacher), ("sampled", student)):
            batch[name] = batch[name] if name in batch else model(batch).to(batch["weights"])
        kept = batch["weights"][:, 1:] > 0
        rewards = (batch["teacher"] - batch["sampled"])[:, 1:][kept]
        groups = torch.arange(len(kept), device=kept.device).repeat_interleave(kept.sum(1))
        x = Inputs(rewards[:, None], lambda h: h, torch.zeros_like(groups), groups_N=groups)
        found.append(normalised_returns(rewards, x, gamma))
    parts = _whitened(found)
    for batch, part in zip(busy, parts, strict=True):
        column = torch.zeros_like(batch["weights"])
        column[:, 1:][batch["weights"][:, 1:] > 0] = part.to(column)
        batch["advantages"] = column
    return made


def _whitened(parts: Sequence[Tensor]) -> Sequence[Tensor]:
    """This process's values, whitened with those of all processes."""
    mine = torch.cat([torch.zeros(0), *(part.cpu() for part in parts)])
    every = distributed.gathered(mine)
    told: Sequence[Tensor] = whitened(torch.cat(every)).split([len(values) for values in every])
    return list(told[distributed.rank()].split([len(part) for part in parts]))
