"""Which prompts the student writes on: those of the plan, or others where it learns more from them.

A prompt's place in the plan stays; who stands there is drawn by weights that follow the student's latest pass rate on
each prompt. A group of completions that are all worth the same has no advantage, so nothing is learnt from it: such a
prompt is not asked again for some steps. Everything is a function of the seed, the place and what was observed, which a
checkpoint holds, so a resumed training asks the same prompts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from itertools import accumulate
from typing import Any, NamedTuple, final

from potstill.difficulty import Pools, pool_of, weight_of
from potstill.training.dataset.training_dataset import TokenizedRow

UNSEEN_WEIGHT = 1.0  # of a prompt that was never asked, or not for `recheck_steps`


class Observation(NamedTuple):
    """What came of a prompt when it was asked last.

    Args:
        trace_index: the prompt's row.
        pass_rate: share of its completions that were right; their mean reward where no verifier was asked.
        has_spread: whether they were worth different things.
        step: when it was.
    """

    trace_index: int
    pass_rate: float
    has_spread: bool
    step: int


@final
class PromptChoice:
    """Chooses prompts by the student's latest pass rate on each.

    Args:
        prompts: all prompts of the training.
        pools: pass rates with weights; without any, only prompts without spread are set aside.
        recheck_steps: steps for which a prompt without spread is set aside, and after which what was observed is
            forgotten; 0 sets none aside and forgets nothing.
        seed: of the training.
    """

    def __init__(
        self, prompts: Sequence[TokenizedRow], pools: Pools, recheck_steps: int, seed: int
    ) -> None:
        self._prompts = {row.trace_index: row for row in prompts}
        self._pools, self._recheck_steps, self._seed = dict(pools), recheck_steps, seed
        self._observed: dict[int, Observation] = {}

    def choose(
        self, planned: Sequence[TokenizedRow], places: Sequence[str], step: int
    ) -> list[TokenizedRow]:
        """For each place the planned prompt, or another one where the planned one weighs less."""
        weights = self._weights(step)
        highest = max(weights.values())
        chosen = []
        for row, place in zip(planned, places, strict=True):
            if self._uniform(f"keep/{place}") * highest < weights[row.trace_index]:
                chosen.append(row)
            else:
                chosen.append(self._draw(weights, f"swap/{place}"))
        return chosen

    def draw(self, places: Sequence[str], step: int, asked: Collection[int]) -> list[TokenizedRow]:
        """A prompt for each place, by weight alone.

        Args:
            places: names of the draws.
            step: that is being made.
            asked: rows that were asked already; they are asked again only where there are no others.
        """
        weights = self._weights(step)
        others = {index: weight for index, weight in weights.items() if index not in asked}
        if any(others.values()):
            weights = others
        return [self._draw(weights, f"again/{place}") for place in places]

    def observe(self, observations: Sequence[Observation]) -> None:
        """Remember what came of prompts, the later of two of the same prompt."""
        for observation in observations:
            self._observed[observation.trace_index] = observation

    def counts(self, step: int) -> dict[str, float]:
        """How many prompts are in each pool, unseen, and set aside."""
        counts = dict.fromkeys((f"pool_{name}" for name in self._pools), 0.0)
        counts |= {"pool_unseen": 0.0, "set_aside": 0.0}
        for trace_index in self._prompts:
            observation = self._latest(trace_index, step)
            if observation is None:
                counts["pool_unseen"] += 1
                continue
            counts["set_aside"] += self._is_set_aside(observation)
            if self._pools:
                counts[f"pool_{pool_of(observation.pass_rate, self._pools)}"] += 1
        return counts

    def _weights(self, step: int) -> dict[int, float]:
        """The weight of every prompt; where none has any, those asked longest ago are asked again."""
        weights = {index: self._weight(self._latest(index, step)) for index in self._prompts}
        if any(weights.values()):
            return weights
        oldest = min(observation.step for observation in self._observed.values())
        for index in weights:
            weights[index] = float(self._observed[index].step == oldest)
        return weights

    def _weight(self, observation: Observation | None) -> float:
        if observation is None:
            return UNSEEN_WEIGHT
        if self._is_set_aside(observation):
            return 0.0
        return weight_of(observation.pass_rate, self._pools)

    def _is_set_aside(self, observation: Observation) -> bool:
        return bool(self._recheck_steps) and not observation.has_spread

    def _latest(self, trace_index: int, step: int) -> Observation | None:
        """What was observed of a prompt, unless it is to be checked again."""
        observation = self._observed.get(trace_index)
        if observation is None:
            return None
        is_old = self._recheck_steps and step - observation.step >= self._recheck_steps
        return None if is_old else observation

    def _draw(self, weights: Mapping[int, float], name: str) -> TokenizedRow:
        indices = list(weights)
        sums = list(accumulate(weights.values()))
        point = self._uniform(name) * sums[-1]
        for index, upper in zip(indices, sums, strict=True):
            if point < upper:
                return self._prompts[index]
        return self._prompts[indices[-1]]

    def _uniform(self, name: str) -> float:
        """A number in [0, 1) of a draw's name."""
        digest = hashlib.sha256(f"{self._seed}/prompts/{name}".encode()).digest()
        return int.from_bytes(digest[:7], "big") / 2**56

    def state(self) -> dict[str, Any]:
        """What was observed."""
        return {"observed": [list(observation) for observation in self._observed.values()]}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Become what `state` said."""
        self._observed = {}
        self.observe([Observation(*values) for values in state["observed"]])


def has_spread(group: Sequence[TokenizedRow]) -> bool:
    """Whether the completions of a prompt are worth different things; so they are where nobody rewards them."""
    if "reward" not in group[0].columns:
        return True
    return len({float(row.columns["reward"][0]) for row in group}) > 1
