"""Rewards by name: a verdict, a form, a length, a teacher's score, a gold answer's likelihood.

Pure rules over numbers of one group (the completions of one prompt) or one text. What runs a verifier or a model to get
the numbers is in `training.rollout.rewards`; a reward is a function of a `Group` here, and a line of REWARDS.
"""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import torch

_NO_THOUGHT = re.compile(r"\s*(?:<think>)?[\s.…]*</think>")
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
    valid_places = [at for at, is_valid in enumerate(valid) if is_valid]
    perplexities = {at: adjusted_perplexity(nll[at], tokens[at]) for at in valid_places}
    rewards = [Nover(0.0, 0.0)] * len(nll)
    count = len(valid_places)
    for at in valid_places:
        better, beaten = 0, 0
        for other in valid_places:
            better += perplexities[other] < perplexities[at]
            beaten += perplexities[at] < perplexities[other] and tokens[at] < tokens[other]
        rewards[at] = Nover((count - better) / count, beaten / max(1, count - 1))
    return rewards


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


def optimal_length(tokens: Sequence[int], right: Sequence[bool]) -> list[float]:
    """`-|length - optimal|`, optimal that of a group's shortest right completion (ShorterBetter, arXiv:2504.21370).

    Where none is right it is the group's mean length (as in JingyangYi/ShorterBetter). In tokens: the paper's weight of
    it is 0.001, beside 2 for a right answer.
    """
    right_lengths = [length for length, is_right in zip(tokens, right, strict=True) if is_right]
    optimal = min(right_lengths) if right_lengths else sum(tokens) / len(tokens)
    return [-abs(length - optimal) for length in tokens]


# AutoThink (arXiv:2505.10832, as in TU2021/AutoThink): what a text is worth by whether it thought and is right, what it
# tends to where its mode is too frequent, from which share on, how steeply, and how much lengths count.
MODE_VALUES = {(True, True): 1.0, (True, False): 0.0, (False, True): 2.0, (False, False): -1.0}
CROWDED_VALUES = {(True, True): 0.0, (True, False): -1.0, (False, True): 1.0, (False, False): -2.0}
BALANCE_SHARE, BALANCE_SLOPE = 0.5, 2.0
LENGTH_WEIGHT = 0.05


def has_thought(text: str) -> bool:
    """Whether a text reasons: it does not end its thought with no word said in it."""
    return _NO_THOUGHT.match(text) is None


def mode_values(thought: Sequence[bool], right: Sequence[bool]) -> list[float]:
    """1 or 0 where a text thought and is right or wrong, 2 or -1 where it answered at once (AutoThink, stage 2)."""
    return [MODE_VALUES[mode] for mode in zip(thought, right, strict=True)]


def balanced_mode_values(thought: Sequence[bool], right: Sequence[bool]) -> list[float]:
    """`mode_values`, lowered for the mode that more than half of the texts have (AutoThink, stage 1).

    With s the mode's share, f = min(1, 2 (s - 0.5)): (1 - f) times the value plus f times that of `CROWDED_VALUES`.
    """
    values = []
    share_thinking = sum(thought) / len(thought)
    for is_thinking, is_right in zip(thought, right, strict=True):
        share = share_thinking if is_thinking else 1 - share_thinking
        factor = min(1.0, max(0.0, share - BALANCE_SHARE) * BALANCE_SLOPE)
        mode = is_thinking, is_right
        values.append((1 - factor) * MODE_VALUES[mode] + factor * CROWDED_VALUES[mode])
    return values


def mode_values_by_length(
    thought: Sequence[bool], right: Sequence[bool], tokens: Sequence[int]
) -> list[float]:
    """`mode_values`, more for short right texts of a group and for long wrong ones (AutoThink, stage 3).

    With z a length less the mean of the right (or wrong) ones, over their deviation: exp(-0.05 z) - 1 more where right,
    1 - exp(-0.05 z) more where wrong; nothing where there is one such text alone.
    """
    values = mode_values(thought, right)
    for is_right, sign in ((True, 1.0), (False, -1.0)):
        places = [place for place, verdict in enumerate(right) if verdict == is_right]
        if len(places) < 2:
            continue
        lengths = [tokens[place] for place in places]
        deviation = max(statistics.stdev(lengths), 1e-6)
        for place in places:
            z = (tokens[place] - statistics.fmean(lengths)) / deviation
            values[place] += sign * (math.exp(-LENGTH_WEIGHT * z) - 1)
    return values


# The copy of the student under which NOVER asks how likely the gold answer is: optimizer steps between two updates
# (inferred), and the student's share in an update (as in its code).
PROXY_UPDATE_STEPS, PROXY_STUDENT_SHARE = 100, 0.9


@dataclass(frozen=True, slots=True)
class Group:
    """The completions of one prompt, a value each. What no rule of the reward needs is None.

    Args:
        texts: the completions.
        lengths: their tokens.
        max_new_tokens: the limit of a completion's tokens.
        is_right: whether the verifier says right.
        teacher_log_probs: the teacher's log-probabilities of each one's tokens.
        answer_nll: mean negative log-likelihood of the gold answer's tokens behind each one's reasoning.
        reasoning_lengths: tokens of each one's reasoning.
        has_answer: whether it has a reasoning and an answer at all.
        query_text: how alike its SQL query and the gold one are by their letters, from 0 to 1.
        query_clauses: and clause by clause.
    """

    texts: Sequence[str]
    lengths: Sequence[int]
    max_new_tokens: int
    is_right: Sequence[bool] | None = None
    teacher_log_probs: Sequence[Sequence[float]] | None = None
    answer_nll: Sequence[float] | None = None
    reasoning_lengths: Sequence[int] | None = None
    has_answer: Sequence[bool] | None = None
    query_text: Sequence[float] | None = None
    query_clauses: Sequence[float] | None = None


class Reward(NamedTuple):
    """A rule of what completions are worth.

    Args:
        rule: from a group to a number for each of its completions.
        needs: what it asks beside texts and lengths: "verdict", "teacher", "answer_likelihood" or "gold_query".
        of_batch: whether its group are all completions of a micro-batch, not those of one prompt.
    """

    rule: Callable[[Group], list[float]]
    needs: str = ""
    of_batch: bool = False


def _verifier(group: Group) -> list[float]:
    assert group.is_right is not None
    return [float(right) for right in group.is_right]


def _form(group: Group) -> list[float]:
    return [thought(text) for text in group.texts]


def _overlong(group: Group) -> list[float]:
    return [overlong(length, group.max_new_tokens) for length in group.lengths]


def _shorter(group: Group) -> list[float]:
    assert group.is_right is not None
    return shorter(group.lengths, group.is_right)


def _optimal_length(group: Group) -> list[float]:
    assert group.is_right is not None
    return optimal_length(group.lengths, group.is_right)


def _modes(group: Group) -> tuple[list[bool], list[bool]]:
    """Which completions thought, and which are right; a thought that never ends is none that is right."""
    assert group.is_right is not None
    thought = [has_thought(text) for text in group.texts]
    pairs = zip(group.texts, group.is_right, strict=True)
    return thought, ["</think>" in text and is_right for text, is_right in pairs]


def _modes_alone(group: Group) -> list[float]:
    return mode_values(*_modes(group))


def _modes_balanced(group: Group) -> list[float]:
    return balanced_mode_values(*_modes(group))


def _modes_by_length(group: Group) -> list[float]:
    return mode_values_by_length(*_modes(group), group.lengths)


def _teacher(group: Group) -> list[float]:
    """exp of the mean log-probability of a completion's tokens under the teacher: 0 to 1, whatever its length."""
    assert group.teacher_log_probs is not None
    rewards = []
    for log_probs in group.teacher_log_probs:
        mean = sum(log_probs) / len(log_probs) if log_probs else -1e9
        rewards.append(float(torch.tensor(mean, dtype=torch.float64).exp()))
    return rewards


def _nover_of(group: Group) -> list[Nover]:
    assert group.answer_nll is not None
    assert group.reasoning_lengths is not None
    assert group.has_answer is not None
    return nover(group.answer_nll, group.reasoning_lengths, group.has_answer)


def _nover(group: Group) -> list[float]:
    return [both.reasoning for both in _nover_of(group)]


def _nover_efficiency(group: Group) -> list[float]:
    return [both.efficiency for both in _nover_of(group)]


def _query_text(group: Group) -> list[float]:
    assert group.query_text is not None
    return list(group.query_text)


def _query_clauses(group: Group) -> list[float]:
    assert group.query_clauses is not None
    return list(group.query_clauses)


REWARDS: Mapping[str, Reward] = MappingProxyType(
    {
        "verifier": Reward(_verifier, "verdict"),
        "form": Reward(_form),
        "overlong": Reward(_overlong),
        "shorter": Reward(_shorter, "verdict"),
        "optimal_length": Reward(_optimal_length, "verdict"),
        "thinking": Reward(_modes_alone, "verdict"),
        "thinking_balanced": Reward(_modes_balanced, "verdict", of_batch=True),
        "thinking_by_length": Reward(_modes_by_length, "verdict"),
        "teacher": Reward(_teacher, "teacher"),
        "nover": Reward(_nover, "answer_likelihood"),
        "nover_efficiency": Reward(_nover_efficiency, "answer_likelihood"),
        "query_text": Reward(_query_text, "gold_query"),
        "query_clauses": Reward(_query_clauses, "gold_query"),
    }
)
