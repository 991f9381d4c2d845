"""Rows, pairs and tasks of every objective, for the tiny checkpoint."""

from pathlib import Path

from potstill import objectives
from potstill.records import Problem, Trace
from potstill.training.objective_config import ObjectiveConfig

ANSWERS = (7, 3, 9, 1, 8, 2, 6, 4)


def rows(count=8):
    return [
        Trace(
            Problem(str(i), f"Ned has {10 + i} shells.", answer=str(ANSWERS[i]), kind="number"),
            f"Ned has {10 + i} shells.",
            text="So " * (i % 4) + f"{ANSWERS[i]} - {i} = {ANSWERS[-i]}.",
            finish_reason="stop",
        )
        for i in range(count)
    ]


def pairs(count=8):
    """Of each row, a worse one of another length."""
    return [row.annotate(rejected=_worse(row, i)) for i, row in enumerate(rows(count))]


def _worse(row, i):
    return Trace(
        row.problem,
        row.prompt,
        text="Wait, that is wrong; " * (1 + i % 2) + "42.",
        finish_reason="stop",
    )


def learnt(name, folder: Path) -> ObjectiveConfig:
    """The objective's config; "teacher_cache" is the forward KL from cached logits of another tiny checkpoint."""
    from tiny import tiny_checkpoint

    if name == "teacher_cache":
        return ObjectiveConfig("forward_kl", teacher_cache=stored(folder))
    needs = objectives.entry(name).needs
    wanted = {"distribution", "logp", "aligned", "own", "states"} & set(needs)
    teacher = tiny_checkpoint(folder / "teacher", seed=1) if wanted else None
    if "advantages" in needs:
        return ObjectiveConfig(
            name,
            teacher=teacher,
            on_policy_fraction=1,
            num_generations=2,
            max_new_tokens=6,
            reward=length,
        )
    return ObjectiveConfig(name, teacher=teacher, max_new_tokens=8)


def length(problem, text):
    """A reward that differs within a group."""
    return float(len(text))


def stored(folder: Path, k=16, **how):
    """CachedLogits entries of `rows()` and the rivals of `pairs()` by the other tiny checkpoint."""
    from tiny import tiny_checkpoint

    from potstill.training.dataset.build import tokenize_for_teacher
    from potstill.training.settings import TrainingSettings
    from potstill.training.teacher import cached_logits

    teacher = tiny_checkpoint(folder / "teacher", seed=1)
    cached_logits.write(
        folder / "teacher_cache",
        teacher,
        tokenize_for_teacher(pairs(), teacher, TrainingSettings()).rows,
        k=k,
        device="cpu",
        **how,
    )
    return folder / "teacher_cache"


def gradients_however_cut(model, made, ready):
    """The gradient of one step of four items, cut into micro-batches as 1 x 4, 2 x 2 and 4 x 1."""
    import torch

    from potstill.training.dataset import batching
    from potstill.training.trainer import batch_loss

    grads = []
    for size in (4, 2, 1):
        model.zero_grad()
        window = [batching.collate(ready[at : at + size]) for at in range(0, 4, size)]
        total = torch.stack([made.normaliser_count(batch) for batch in window]).sum()
        for batch in window:
            batch_loss(model, batch, total, made)[0].backward()
        grads.append(
            torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
        )
    assert float(grads[0].abs().max()) > 0
    return grads
