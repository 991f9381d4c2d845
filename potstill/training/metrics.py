"""Statistics of a step, and when a training is stopped (teacher hacking: Tiapkin et al., arXiv:2502.02671).

Every step: entropy and divergences at a few positions, the share of the loss that few tokens carry, and of what the
student wrote lengths, truncated ones, rewards, answers. From time to time: evaluation rows (`eval_callback`).
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
from potstill.objectives.inputs import (
    Hidden,
    Inputs,
    Logits,
    Loss,
    Several,
    Sum,
    Teacher,
    TopK,
    summed,
)
from potstill.training.dataset.batching import Batch

POSITIONS = 64  # of a micro-batch, evenly spaced, where entropies and divergences are computed
TOP_SHARE = 0.01  # share of tokens whose share of the loss is reported
WINDOW = 20  # steps compared with the first so many
# A collapse: entropy below 5 % of its start, with a loss risen by 10 % of its start.
ENTROPY_FLOOR, LOSS_RISE = 0.05, 0.1
ANSWERING = 0.5  # share of texts with an answer, in each of the first evaluations, below which nothing can be lost
TEACHER_BEST = 16  # of a teacher's likeliest tokens, on which the student's mass is reported
GRAM = 4  # tokens in a row that are not written twice by chance
OF_SERVERS = ("drift", "importance", "staleness")  # of rows that a server wrote
PAIR_FALL = 0.5  # nats a token by which both sides of pairs have fallen


def position_statistics(x: Inputs, loss: Loss, whose: str) -> dict[str, Sum]:
    """Entropy of the student at a few positions, both KLs to the teacher and `overlap` where there is one, `top_share`.

    Args:
        whose: text it is, "own" or "rows": the first word of the divergences' names.
    """
    count = len(x.targets_N)
    if not count:
        return {}
    with torch.no_grad():
        # A few positions, evenly spaced: the whole vocabulary of all of them would cost too much.
        last, position_count = count - 1, min(count, POSITIONS)
        chosen = torch.linspace(0, last, position_count, device=x.targets_N.device)
        at_P = chosen.round().long()
        some = Inputs(
            x.hidden_ND[at_P].detach(),
            x.head,
            x.targets_N[at_P],
            teacher=_teacher_at(x.teacher, at_P),
        )
        statistics = {"entropy": summed(entropy(some))}
        if some.teacher is not None:
            forward, reverse = divergence.forward_kl(some), divergence.reverse_kl(some)
            statistics[f"{whose}_forward_kl"] = forward.stats["forward_kl"]
            statistics[f"{whose}_reverse_kl"] = reverse.stats["reverse_kl"]
            statistics[f"{whose}_overlap"] = summed(overlap(some))
        statistics["top_share"] = _top_share(x, loss)
    return statistics


def entropy(x: Inputs) -> Tensor:
    """The student's, in nats, at each position, [N]."""
    log_probs_NV = torch.nn.functional.log_softmax(x.head(x.hidden_ND).float(), -1)
    finite_NV = log_probs_NV.clamp_min(torch.finfo(log_probs_NV.dtype).min)  # 0 * -inf is no number
    return -(log_probs_NV.exp() * finite_NV).sum(-1)


def overlap(x: Inputs) -> Tensor:
    """The student's mass on the teacher's likeliest tokens at each position, [N]: where it falls, they drift apart."""
    student_NV = torch.softmax(x.head(x.hidden_ND).float(), -1)

    # The ids of the teacher's likeliest tokens, [N, K].
    teacher = x.teacher
    if isinstance(teacher, TopK):
        count = min(TEACHER_BEST, teacher.ids_NK.shape[1])
        best_NK = teacher.logp_NK.topk(count).indices
        ids_NK = teacher.ids_NK.gather(1, best_NK)
    else:
        assert isinstance(teacher, Hidden | Logits | Several)
        logits_NV = _teacher_logits(teacher)
        count = min(TEACHER_BEST, logits_NV.shape[1])
        ids_NK = logits_NV.topk(count).indices

    # A teacher's head may be padded to more tokens than the student has.
    width = student_NV.shape[1]
    is_known_NK = ids_NK < width
    mass_NK = student_NV.gather(1, ids_NK.clamp_max(width - 1)) * is_known_NK
    return mass_NK.sum(-1)


def repetition(ids: Sequence[int]) -> float:
    """Share of a text's runs of GRAM tokens that stood in it before: a text that goes in circles has many."""
    runs = [tuple(ids[at : at + GRAM]) for at in range(len(ids) - GRAM + 1)]
    return 1 - len(set(runs)) / len(runs) if runs else 0.0


def rollout_statistics(window: Sequence[Batch]) -> dict[str, Sum]:
    """Of what the student wrote in a step: length, share truncated, repeated runs, reward, share with an answer.

    `even`: share of completions with no advantage, since all of their group are worth the same. `tool_calls`: calls
    of a tool in a completion; `tool_failed`: share of the calls that failed.
    """
    rolled = [batch for batch in window if "stopped" in batch]
    if not rolled:
        return {}

    # A value of a whole row stands in the first place of its column, [B, T].
    def column(name: str) -> Sum:
        return summed(torch.cat([batch[name][:, 0] for batch in rolled]))

    lengths = [(batch["lengths"] - batch["prompt_lengths"]).float() for batch in rolled]
    truncated = [1 - batch["stopped"][:, 0] for batch in rolled]
    repeated = []
    for batch in rolled:
        repeated += [repetition(completion) for _, completion in _split_rows(batch)]
    statistics = {
        "length": summed(torch.cat(lengths)),
        "truncated": summed(torch.cat(truncated)),
        "repeated": summed(torch.tensor(repeated)),
    }
    names = ("reward", "answered", "unscored", "solved", "tries", "swapped", "tool_calls")
    for name in (*names, *OF_SERVERS):
        if name in rolled[0]:
            statistics[name] = column(name)
    if "tool_failures" in rolled[0]:
        statistics["tool_failed"] = Sum(column("tool_failures").total, column("tool_calls").total)
    if "advantages" in rolled[0] and "reward" in rolled[0]:
        even = [(batch["advantages"][:, 0] == 0).float() for batch in rolled]
        statistics["even"] = summed(torch.cat(even))
    return statistics


def find_alarm(history: Sequence[Mapping[str, float]]) -> str:
    """What has gone wrong, by the records of all steps so far; "" while nothing has."""
    if len(history) < 2 * WINDOW:
        return _lost_answers(history)
    first, last = history[:WINDOW], history[-WINDOW:]
    return _collapse(first, last) or _falling_pairs(first, last) or _lost_answers(history)


def save_batch(
    folder: Path,
    window: Sequence[Batch],
    record: Mapping[str, Any],
    decode: Callable[[list[int]], str],
) -> Path:
    """Put a step's micro-batches where they can be looked at: tensors, the texts of their rows, what was measured."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {}
    rows = []
    for number, batch in enumerate(window):
        for name, tensor in batch.items():
            tensors[f"{number}/{name}"] = tensor.detach().cpu().contiguous()
        for prompt, completion in _split_rows(batch):
            rows.append({"prompt": decode(prompt), "completion": decode(completion)})
    save_file(tensors, folder / "batch.safetensors")
    content = {"record": dict(record), "rows": rows}
    (folder / "batch.json").write_text(json.dumps(content, indent=1, ensure_ascii=False), "utf-8")
    return folder


def _split_rows(batch: Batch) -> list[tuple[list[int], list[int]]]:
    """The prompt's and the completion's token ids of each row."""
    columns = (batch[name].tolist() for name in ("input_ids", "prompt_lengths", "lengths"))
    return [(ids[:prompt], ids[prompt:length]) for ids, prompt, length in zip(*columns)]


def _collapse(first: Sequence[Mapping[str, float]], last: Sequence[Mapping[str, float]]) -> str:
    """Whether the entropy is gone while the loss has risen."""
    # A surrogate's value says nothing; its divergence does.
    measure = "k1" if "k1" in first[0] else "loss"
    loss_before, loss_now = _mean(first, measure), _mean(last, measure)
    before, now = _mean(first, "entropy"), _mean(last, "entropy")
    if loss_before is None or loss_now is None or before is None or now is None:
        return ""
    is_gone = now < ENTROPY_FLOOR * before
    if is_gone and loss_now > loss_before + LOSS_RISE * abs(loss_before):
        return (
            f"entropy has fallen from {before:.3g} to {now:.3g} "
            f"while {measure} rose from {loss_before:.3g} to {loss_now:.3g}"
        )
    return ""


def _falling_pairs(
    first: Sequence[Mapping[str, float]], last: Sequence[Mapping[str, float]]
) -> str:
    """Whether both sides of the pairs have become unlikely."""
    falls = []
    for side in ("better", "worse"):
        before, now = _mean(first, side), _mean(last, side)
        if before is None or now is None or now >= before - PAIR_FALL:
            return ""
        falls.append(f"{side} from {before:.3g} to {now:.3g}")
    return f"both sides of the pairs fall: {', '.join(falls)} a token"


def _lost_answers(history: Sequence[Mapping[str, float]]) -> str:
    """Whether rollouts used to hold answers and the newest hold none: three evaluations, or WINDOW steps."""
    for name, count in (("eval_answered", 3), ("answered", WINDOW)):
        shares = [record[name] for record in history if name in record]
        if len(shares) < 2 * count:
            continue
        lowest_at_first, highest_now = min(shares[:count]), max(shares[-count:])
        if lowest_at_first >= ANSWERING and highest_now == 0:
            what = name.replace("_", " ")
            return f"{what} has fallen from {lowest_at_first:.0%} to none: no text holds an answer"
    return ""


def _mean(records: Sequence[Mapping[str, float]], name: str) -> float | None:
    values = [record[name] for record in records if name in record]
    return sum(values) / len(values) if values else None


def _top_share(x: Inputs, loss: Loss) -> Sum:
    """Of the weighted loss, what the most expensive tokens carry, and all."""
    sizes_N = loss.values_N.detach().abs()
    if x.weights_N is not None:
        sizes_N = (loss.values_N.detach() * x.weights_N).abs()
    count = max(1, round(TOP_SHARE * len(sizes_N)))
    return Sum(sizes_N.topk(count).values.sum(), sizes_N.sum())


def _teacher_logits(teacher: Hidden | Logits | Several) -> Tensor:
    if isinstance(teacher, Several):
        return divergence.several_log_probs(teacher, slice(None))
    if isinstance(teacher, Hidden):
        return teacher.head(teacher.hidden_NDt)
    return teacher.logits_NV


def _teacher_at(teacher: Teacher | None, at_P: Tensor) -> Teacher | None:
    """The teacher at some positions; None where its distribution isn't known."""
    if isinstance(teacher, Hidden):
        return Hidden(teacher.hidden_NDt[at_P], teacher.head)
    if isinstance(teacher, Several):
        parts = tuple(Hidden(part.hidden_NDt[at_P], part.head) for part in teacher.parts)
        return Several(parts, teacher.shares_NM[at_P])
    if isinstance(teacher, Logits):
        return Logits(teacher.logits_NV[at_P])
    if isinstance(teacher, TopK):
        return TopK(teacher.ids_NK[at_P], teacher.logp_NK[at_P])
    return None
