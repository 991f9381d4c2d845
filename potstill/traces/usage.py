"""What a solver asks of models for each problem, whoever's text comes out: calls, tokens and money by role."""

from __future__ import annotations

import math
import threading
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, final

from potstill.models.model import Completion, Model


class Usage(NamedTuple):
    """Calls of models, their tokens, and their cost in USD."""

    calls: float = 0
    prompt_tokens: float = 0
    completion_tokens: float = 0
    cost: float = 0.0


@dataclass(slots=True)
class _Sums:
    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    costs: list[float] = field(default_factory=list)

    def add(self, completion: Completion) -> None:
        self.calls += 1
        self.prompt_tokens += completion.tokens.prompt
        self.completion_tokens += completion.tokens.completion
        if completion.cost is not None:
            self.costs.append(completion.cost)

    def total(self) -> Usage:
        # An exact sum: threads add in any order, and the same run has the same figures.
        cost = math.fsum(self.costs)
        return Usage(self.calls, self.prompt_tokens, self.completion_tokens, cost)


@final
class UsageMeter:
    """Counts the calls that operators make, by problem and role; stored answers count like new ones. Thread-safe."""

    def __init__(self) -> None:
        """Nothing yet."""
        self._lock = threading.Lock()
        self._sums: defaultdict[tuple[str, str], _Sums] = defaultdict(_Sums)
        self._model_ids: set[str] = set()

    def add(self, model: Model, problem_ids: Sequence[str], answers: Sequence[Completion]) -> None:
        """Count a model's answers, each for the problem at its place."""
        role: str = getattr(model, "role", "") or model.id
        with self._lock:
            self._model_ids.add(model.id)
            for problem_id, answer in zip(problem_ids, answers, strict=True):
                self._sums[problem_id, role].add(answer)

    def model_ids(self) -> set[str]:
        """The models that were asked."""
        with self._lock:
            return set(self._model_ids)

    def by_problem(self) -> dict[str, dict[str, Usage]]:
        """By problem id and role, what was asked."""
        usage: dict[str, dict[str, Usage]] = {}
        with self._lock:
            for (problem_id, role), sums in sorted(self._sums.items(), key=lambda item: item[0]):
                usage.setdefault(problem_id, {})[role] = sums.total()
        return usage
