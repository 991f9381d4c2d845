"""What is watched while a student learns, and when it is stopped (teacher hacking: Tiapkin et al., arXiv:2502.02671).

Every step: entropy and divergences at a few positions, the share of the loss that few tokens carry, and of what the
student wrote lengths, cut ones, rewards, answers. From time to time: held-out prompts (`Watch`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from potstill.objectives import divergence
from potstill.objectives.inputs import Hidden, Inputs, Logits, Loss, Sum, Teacher, TopK, summed
from potstill.training.dataset.collate import Batch

POSITIONS = 64  # of a micro-batch, evenly spaced, where entropies and divergences are computed
TOP = 0.01  # share of tokens whose share of the loss is told
WINDOW = 20  # steps compared with the first so many
FLOOR, RISE = (
    0.05,
    0.1,
)  # entropy below 5 % of its start with a loss risen by 10 % of its start: a collapse
ANSWERING = 0.5  # share of texts with an answer, in each of the first looks, below which nothing can be lost
BEST = 16  # of a teacher's likeliest tokens, on which the student's mass is told
GRAM = 4  # tokens in a row that are not written twice by chance
FALLEN = 0.5  # nats a token by which both sides of pairs have fallen


def sampled(x: Inputs, found: Loss, text: str) -> dict[str, Sum]:
    """Entropy of the student at a few positions, both KLs to the teacher and `overlap` where there is one, `top_share`.

    Args:
        text: whose text it is, "own" or "rows": the first word of the divergences' names.
    """
    count = len(x.targets_N)
    if not count:
        return {}
    with torch.no_grad():
        at = (
            torch.linspace(0, count - 1, min(count, POSITIONS), device=x.targets_N.device)
            .round()
            .long()
        )
        some = Inputs(
            x.hidden_ND[at].detach(), x.head, x.targets_N[at], teacher=_some(x.teacher, at)
        )
        made = {"entropy": summed(entropy(some))}
        if some.teacher is not None:
            made[f"{text}_forward_kl"] = divergence.forward_kl(some).stats["forward_kl"]
            made[f"{text}_reverse_kl"] = divergence.reverse_kl(some).stats["reverse_kl"]
            made[f"{text}_overlap"] = summed(overlap(some))
        return made | {"top_share": _top(found, x)}


def entropy(x: Inputs) -> Tensor:
    """The student's, in nats, at each position."""
    logq = torch.nn.functional.log_softmax(x.head(x.hidden_ND).float(), -1)
    return -(logq.exp() * logq.clamp_min(torch.finfo(logq.dtype).min)).sum(-1)


def overlap(x: Inputs) -> Tensor:
    """The student's mass on the teacher's likeliest tokens at each position: where it falls, they drift apart."""
    shares, teacher = torch.softmax(x.head(x.hidden_ND).float(), -1), x.teacher
    if isinstance(teacher, TopK):
        ids = teacher.ids_NK.gather(
            1, teacher.logp_NK.topk(min(BEST, teacher.ids_NK.shape[1])).indices
        )
    else:
        if isinstance(teacher, Hidden):
            logits = teacher.head(teacher.hidden_NDt)
        else:
            logits = teacher.logits_NV  # type: ignore[union-attr]
        ids = logits.topk(min(BEST, logits.shape[1])).indices
    width = shares.shape[1]  # a teacher's head may be padded to more
    return (shares.gather(1, ids.clamp_max(width - 1)) * (ids < width)).sum(-1)


def repeated(ids: Sequence[int]) -> float:
    """Share of a text's runs of GRAM tokens that stood in it before: a text that goes in circles has many."""
    runs = [tuple(ids[at : at + GRAM]) for at in range(len(ids) - GRAM + 1)]
    return 1 - len(set(runs)) / len(runs) if runs else 0.0


def written(window: Sequence[Batch]) -> dict[str, Sum]:
    """Of what the student wrote in a step: length, share cut by the limit, repeated runs, reward, share with an answer.

    `even`: share of completions with no advantage, since all of their group are worth the same.
    """
    rolled = [batch for batch in window if "stopped" in batch]
    if not rolled:
        return {}
    made = {
        "length": _joined(
            [(batch["lengths"] - batch["prompt_lengths"]).float() for batch in rolled]
        ),
        "truncated": _joined([1 - batch["stopped"][:, 0] for batch in rolled]),
    }
    texts = [
        ids[prompt:length]
        for batch in rolled
        for ids, prompt, length in zip(
            batch["input_ids"].tolist(), batch["prompt_lengths"].tolist(), batch["lengths"].tolist()
        )
    ]
    made["repeated"] = summed(torch.tensor([repeated(ids) for ids in texts]))
    for name, column in (("reward", "reward"), ("answered", "answered")):
        if column in rolled[0]:
            made[name] = _joined([batch[column][:, 0] for batch in rolled])
    if "advantages" in rolled[0] and "reward" in rolled[0]:
        made["even"] = _joined([(batch["advantages"][:, 0] == 0).float() for batch in rolled])
    if "unscored" in rolled[0]:
        made["unscored"] = _joined([batch["unscored"][:, 0] for batch in rolled])
    return made


def alarm(history: Sequence[Mapping[str, float]]) -> str:
    """What has gone wrong, by the records of all steps so far; "" while nothing has."""
    if len(history) < 2 * WINDOW:
        return _answers(history)
    first, last = history[:WINDOW], history[-WINDOW:]
    measure = (
        "k1" if "k1" in history[0] else "loss"
    )  # a surrogate's value says nothing; its divergence does
    was, now = _mean(first, measure), _mean(last, measure)
    before, after = _mean(first, "entropy"), _mean(last, "entropy")
    if None not in (was, now, before, after) and _collapsed(before, after, was, now):
        return f"entropy has fallen from {before:.3g} to {after:.3g} while {measure} rose from {was:.3g} to {now:.3g}"
    sides = [(_mean(first, side), _mean(last, side)) for side in ("better", "worse")]
    if all(was is not None and now is not None and now < was - FALLEN for was, now in sides):
        (a, b), (c, d) = sides
        return f"both sides of the pairs fall: better from {a:.3g} to {b:.3g}, worse from {c:.3g} to {d:.3g} a token"
    return _answers(history)


def save(
    folder: Path,
    window: Sequence[Batch],
    record: Mapping[str, Any],
    text: Callable[[list[int]], str],
) -> Path:
    """Put a step's micro-batches where they can be looked at: tensors, the texts of their rows, what was measured."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        f"{at}/{name}": t.detach().cpu().contiguous()
        for at, b in enumerate(window)
        for name, t in b.items()
    }
    save_file(tensors, folder / "batch.safetensors")
    rows = [
        {"prompt": text(ids[:prompt]), "completion": text(ids[prompt:length])}
        for batch in window
        for ids, prompt, length in zip(
            batch["input_ids"].tolist(), batch["prompt_lengths"].tolist(), batch["lengths"].tolist()
        )
    ]
    told = {"record": dict(record), "rows": rows}
    (folder / "batch.json").write_text(json.dumps(told, indent=1, ensure_ascii=False), "utf-8")
    return folder


def _collapsed(before: Any, after: Any, was: Any, now: Any) -> bool:
    return bool(after < FLOOR * before and now > was + RISE * abs(was))


def _answers(history: Sequence[Mapping[str, float]]) -> str:
    """Whether rollouts used to hold answers and the newest hold none: three looks, or WINDOW steps."""
    for name, looks in (("watch_answered", 3), ("answered", WINDOW)):
        seen = [record[name] for record in history if name in record]
        if len(seen) >= 2 * looks and min(seen[:looks]) >= ANSWERING and max(seen[-looks:]) == 0:
            return f"{name.replace('_', ' ')} has fallen from {min(seen[:looks]):.0%} to none: no text holds an answer"
    return ""


def _mean(records: Sequence[Mapping[str, float]], name: str) -> float | None:
    values = [record[name] for record in records if name in record]
    return sum(values) / len(values) if values else None


def _top(found: Loss, x: Inputs) -> Sum:
    """Of the weighted loss, what the most expensive tokens carry, and all."""
    size = (found.values_N.detach() * (1.0 if x.weights_N is None else x.weights_N)).abs()
    return Sum(size.topk(max(1, round(TOP * len(size)))).values.sum(), size.sum())


def _joined(parts: Sequence[Tensor]) -> Sum:
    return summed(torch.cat(list(parts)))


def _some(teacher: Teacher | None, at: Tensor) -> Teacher | None:
    """The teacher at some positions; None where its distribution isn't known."""
    if isinstance(teacher, Hidden):
        return Hidden(teacher.hidden_NDt[at], teacher.head)
    if isinstance(teacher, Logits):
        return Logits(teacher.logits_NV[at])
    if isinstance(teacher, TopK):
        return TopK(teacher.ids_NK[at], teacher.logp_NK[at])
    return None
