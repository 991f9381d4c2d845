"""Rewards without a verifier: what a gold answer's likelihood, a teacher's score, a form or a length says of a text.

Pure rules over numbers of one group (the completions of one prompt) or one text. What runs a model to get the numbers
is in `training.rewards`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import NamedTuple

THOUGHT = re.compile(r"\s*<think>.*?\S.*?</think>\s*\S.*", re.DOTALL)


class Nover(NamedTuple):
    """A completion's two rewards: of its reasoning and of its brevity."""

    reasoning: float
    efficiency: float


def adjusted_perplexity(nll: float, tokens: int) -> float:
    """`exp(nll / max(1, 1 + log10(tokens)))`: of the gold answer after that many tokens of reasoning (NOVER).

    Args:
        nll: mean negative log-likelihood of the answer's tokens under the proxy.
    """
    return math.exp(nll / max(1.0, 1 + math.log10(max(1, tokens))))


def nover(nll: Sequence[float], tokens: Sequence[int], valid: Sequence[bool]) -> list[Nover]:
    """NOVER's rewards of one group (arXiv:2505.16022, as in thinkwee/NOVER).

    reasoning: (n - rank) / n of the adjusted perplexity, best first, among the n completions of valid form.
    efficiency: share of the other valid ones that are beaten on both length and perplexity. Invalid ones have neither.
    Equal perplexities share the better rank (inferred: the code's order of ties is the order of the batch).
    """
    known = [at for at, fine in enumerate(valid) if fine]
    scores = {at: adjusted_perplexity(nll[at], tokens[at]) for at in known}
    made = [Nover(0.0, 0.0)] * len(nll)
    for at in known:
        rank = sum(scores[other] < scores[at] for other in known)
        beaten = sum(scores[at] < scores[other] and tokens[at] < tokens[other] for other in known)
        made[at] = Nover((len(known) - rank) / len(known), beaten / max(1, len(known) - 1))
    return made


def thought(text: str) -> float:
    """1 where a text is one `<think>` block that is not empty and an answer behind it, else 0."""
    return float(
        bool(THOUGHT.fullmatch(text)) and text.count("<think>") == text.count("</think>") == 1
    )


def overlong(tokens: int, limit: int, *, margin: float = 0.2) -> float:
    """0 up to (1 - margin) of the limit, then falling to -1 at the limit (DAPO's soft punishment, arXiv:2503.14476)."""
    start = limit * (1 - margin)
    return 0.0 if tokens <= start else -min(1.0, (tokens - start) / (limit - start))


def shorter(tokens: Sequence[int], right: Sequence[bool]) -> list[float]:
    """Of each right completion of a group, how much of the group's range of lengths it saves; 0 where it is wrong.

    (Kimi k1.5's length reward in [0, 1], arXiv:2501.12599: (longest - length) / (longest - shortest).)
    """
    span = max(tokens) - min(tokens)
    return [
        (max(tokens) - n) / span if fine and span else 0.0
        for n, fine in zip(tokens, right, strict=True)
    ]
