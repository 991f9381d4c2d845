"""Models that know how often they were asked, with every set of abilities a cached model must keep."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from potstill.models.model import Attempt, Completion, Request, Sampling
from potstill.models.scoring import Passage, PassageLike, to_passages
from potstill.records import Tokens
from potstill.store import Store
from potstill.store.attempts import append_attempts, delete_intents


def ask(*prompts: str, sample_index: int = 0, seed: int = 0) -> list[Request]:
    return [
        Request(prompt, sample_index=sample_index, seed=seed, sampling=Sampling(temperature=0.5))
        for prompt in prompts
    ]


def answer(request: Request, model: str) -> Completion:
    """A function of the request's random seed alone, as the contract wants."""
    random = request.random_seed(model)
    text = f"{request.prompt}: {hashlib.sha256(str(random).encode()).hexdigest()[:8]}"
    return Completion(text, "stop", Tokens(len(str(request.prompt)), random % 50, 1, 2), "", 0.25)


def store_failed_tries(
    store: Store, model: str, role: str, arm: str, tries: Sequence[tuple[str, Attempt]]
) -> None:
    """Store tries, by key, that no completion followed."""
    with store.database.transaction() as connection:
        append_attempts(connection, model, role, arm, tries)
        delete_intents(connection, [key for key, _ in tries])


class Plain:
    """A black box; prompts in `fails` come back as errors, `before` runs ahead of every call."""

    def __init__(
        self,
        id: str = "model-plain",
        fails: set[str] | None = None,
        before: Callable[[], None] | None = None,
    ) -> None:
        self.id, self.fails, self.before = id, fails or set(), before
        self.calls: list[list[Request]] = []
        self.lock = threading.Lock()

    def write(self, requests: Sequence[Request]) -> list[Completion]:
        with self.lock:
            self.calls.append(list(requests))
        if self.before:
            self.before()
        return [
            Completion("", "", Tokens(7), "time-out", 1.0)
            if r.prompt in self.fails
            else answer(r, self.id)
            for r in requests
        ]

    @property
    def asked(self) -> list[object]:
        return [request.prompt for call in self.calls for request in call]


class Planner(Plain):
    """Batches of `size` by length of the prompt, as a local model would plan them."""

    size = 3

    def plan(self, requests: Sequence[Request]) -> list[list[int]]:
        order = sorted(
            range(len(requests)), key=lambda i: (len(requests[i].prompt), requests[i].prompt, i)
        )
        return [order[start : start + self.size] for start in range(0, len(order), self.size)]


class Scorer(Plain):
    """Gives likelihoods: minus the length of each word, infinity for an empty prompt."""

    def __init__(self, id: str = "model-scorer") -> None:
        super().__init__(id)
        self.scored: list[list[Passage]] = []

    def likelihood(self, passages: Sequence[PassageLike]) -> list[list[float]]:
        self.scored.append(to_passages(passages))
        return [
            [-len(word) / 3 if prompt else -float("inf") for word in text.split()]
            for prompt, text, _ in self.scored[-1]
        ]


class Trained(Plain):
    """Has weights."""

    @property
    def weights(self) -> Path:
        return Path("checkpoint")


class Local(Planner, Scorer, Trained):
    """Everything at once, like a local checkpoint."""
