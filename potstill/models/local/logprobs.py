"""Log probabilities of given completions, with logits only at the completions' positions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

HEAD_ROWS = 1024  # positions whose logits exist at the same time


def score(model: Any, rows: Sequence[tuple[list[int], int]]) -> list[list[float]]:
    """Log probabilities of ids[start:] of each (ids, start), padded on the right; logits only at those positions."""
    longest = max(len(ids) for ids, _ in rows)
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    mask = torch.zeros(len(rows), longest, dtype=torch.bool)
    for row, (tokens, _) in enumerate(rows):
        ids[row, : len(tokens)] = torch.tensor(tokens)
        mask[row, : len(tokens)] = True
    wanted = torch.zeros_like(mask)
    for row, (tokens, start) in enumerate(rows):
        wanted[row, start - 1 : len(tokens) - 1] = True
    ids, mask, wanted = ids.to(model.device), mask.to(model.device), wanted.to(model.device)
    targets = ids.roll(-1, 1)[wanted]
    with torch.inference_mode():
        hidden, head = _hidden(model, ids, mask)
        values = _log_probabilities(hidden[wanted], head, targets).tolist()
    made, at = [], 0
    for tokens, start in rows:
        made.append(values[at : at + len(tokens) - start])
        at += len(tokens) - start
    return made


def _hidden(model: Any, ids: Tensor, mask: Tensor) -> tuple[Tensor, Any]:
    """Last hidden states and the head over them; full logits and no head where the model changes logits after it."""
    config = model.config.get_text_config()
    changes = ("final_logit_softcapping", "logit_scale", "logits_scaling", "lm_head_multiplier")
    if any(getattr(config, name, None) is not None for name in changes):
        return model(
            input_ids=ids, attention_mask=mask, use_cache=False
        ).logits, torch.nn.Identity()
    body = model.base_model
    output = body(input_ids=ids, attention_mask=mask, use_cache=False)
    return output.last_hidden_state, model.get_output_embeddings()


def _log_probabilities(hidden: Tensor, head: Any, targets: Tensor) -> Tensor:
    """[N] float32 from hidden states [N, H] and target ids [N]."""
    made = []
    for states, wanted in zip(hidden.split(HEAD_ROWS), targets.split(HEAD_ROWS)):
        logits = head(states).float()
        made.append(logits.gather(1, wanted[:, None]).squeeze(1) - logits.logsumexp(-1))
    return torch.cat(made)
