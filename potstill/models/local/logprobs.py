"""Log-probabilities of given completions, with logits only at the completions' positions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from potstill.models.local import weights

HEAD_ROWS = 1024  # positions whose logits exist at the same time


class TokenScores(NamedTuple):
    """Of tokens one after another: natural-log probabilities, and ranks among all tokens, 0 of the most probable."""

    logprobs: list[float]
    ranks: list[int]


class TopScores(NamedTuple):
    """Of N tokens one after another, with the k most probable tokens of each place.

    Args:
        logprobs: natural-log probabilities, N.
        ranks: among all tokens, 0 of the most probable, N.
        top_ids: the most probable tokens, the best first, [N, k].
        top_logprobs: their natural-log probabilities, [N, k].
    """

    logprobs: list[float]
    ranks: list[int]
    top_ids: list[list[int]]
    top_logprobs: list[list[float]]

    @classmethod
    def none(cls) -> TopScores:
        """Of no token yet."""
        return cls([], [], [], [])

    def extend(self, other: TopScores) -> None:
        """Put those of other tokens behind."""
        for values, more in zip(self, other, strict=True):
            values.extend(more)  # type: ignore[attr-defined]

    def part(self, start: int, stop: int, k: int) -> TopScores:
        """Those of the tokens from one place to another, each with its `k` most probable ones."""
        return TopScores(
            self.logprobs[start:stop],
            self.ranks[start:stop],
            [ids[:k] for ids in self.top_ids[start:stop]],
            [logprobs[:k] for logprobs in self.top_logprobs[start:stop]],
        )


def completion_logprobs(model: Any, rows: Sequence[tuple[list[int], int]]) -> list[list[float]]:
    """Log-probabilities of ids[start:] of each (ids, start)."""
    return [scores.logprobs for scores in completion_scores(model, rows, with_ranks=False)]


def completion_scores(
    model: Any, rows: Sequence[tuple[list[int], int]], *, with_ranks: bool = True
) -> list[TokenScores]:
    """Log-probabilities and ranks of ids[start:] of each (ids, start); without ranks these are empty.

    Rows are padded on the right; R rows of T positions, N of which belong to completions, hidden states of width H.
    """
    longest = max(len(ids) for ids, _ in rows)
    ids = torch.zeros(len(rows), longest, dtype=torch.long)  # [R, T]
    mask = torch.zeros(len(rows), longest, dtype=torch.bool)  # [R, T]: holds a token
    predicts = torch.zeros(len(rows), longest, dtype=torch.bool)  # [R, T]: next is a completion's
    for row, (row_ids, start) in enumerate(rows):
        ids[row, : len(row_ids)] = torch.tensor(row_ids)
        mask[row, : len(row_ids)] = True
        predicts[row, start - 1 : len(row_ids) - 1] = True
    ids, mask = ids.to(model.device), mask.to(model.device)
    predicts = predicts.to(model.device)

    targets = ids.roll(-1, 1)[predicts]  # [R, T] -> [N]
    with torch.inference_mode():
        hidden, head = hidden_states(model, input_ids=ids, attention_mask=mask, use_cache=False)
        target_logprobs, target_ranks = _score_targets(  # [N] each
            hidden[predicts], head, targets, with_ranks=with_ranks
        )
    weights.check_no_nan(target_logprobs)
    logprobs, ranks = target_logprobs.tolist(), target_ranks.tolist()

    # Cut the N values into one list a row, in the order in which the mask picked them.
    scores = []
    offset = 0
    for row_ids, start in rows:
        end = offset + len(row_ids) - start
        scores.append(TokenScores(logprobs[offset:end], ranks[offset:end]))
        offset = end
    return scores


def top_scores(hidden: Tensor, head: Any, targets: Tensor, k: int) -> TopScores:
    """Scores of target ids [N] and the k most probable ids of each place, from hidden states [N, H]."""
    scores = TopScores.none()
    for states, target_ids in zip(hidden.split(HEAD_ROWS), targets.split(HEAD_ROWS)):
        scores.extend(score_logits(head(states).float(), target_ids, k))
    return scores


def score_logits(logits: Tensor, targets: Tensor, k: int) -> TopScores:
    """Scores of target ids [N] and the k most probable ids of each place, from logits [N, V] in float32."""
    target_logits = logits.gather(1, targets[:, None])  # [N, 1]
    normaliser = logits.logsumexp(-1, keepdim=True)  # [N, 1]
    weights.check_no_nan(normaliser)
    best = logits.topk(min(k, logits.shape[-1]), -1)  # [N, k]
    return TopScores(
        logprobs=(target_logits - normaliser).squeeze(1).tolist(),
        ranks=(logits > target_logits).sum(-1).tolist(),
        top_ids=best.indices.tolist(),
        top_logprobs=(best.values - normaliser).tolist(),
    )


def hidden_states(model: Any, **inputs: Any) -> tuple[Tensor, Any]:
    """Last hidden states [R, T, H] and the head over them.

    Where the model changes logits behind its head, full logits [R, T, V] and a head that does nothing.

    Args:
        inputs: of the model's forward pass.
    """
    config = model.config.get_text_config()
    changes = ("final_logit_softcapping", "logit_scale", "logits_scaling", "lm_head_multiplier")
    if any(getattr(config, name, None) is not None for name in changes):
        output = model(**inputs)
        return output.logits, torch.nn.Identity()
    output = model.base_model(**inputs)
    return output.last_hidden_state, model.get_output_embeddings()


def _score_targets(
    hidden: Tensor, head: Any, targets: Tensor, *, with_ranks: bool
) -> tuple[Tensor, Tensor]:
    """Log-probabilities [N] float32 and ranks [N], or [0] without them, of target ids [N] from hidden states [N, H]."""
    logprob_parts = []
    rank_parts = [targets.new_zeros(0)]
    for states, target_ids in zip(hidden.split(HEAD_ROWS), targets.split(HEAD_ROWS)):
        logits = head(states).float()  # [n, H] -> [n, V]
        target_logits = logits.gather(1, target_ids[:, None])  # [n, 1]
        logprob_parts.append(target_logits.squeeze(1) - logits.logsumexp(-1))
        if with_ranks:
            rank_parts.append((logits > target_logits).sum(-1))
    return torch.cat(logprob_parts), torch.cat(rank_parts)
