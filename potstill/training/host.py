"""What a training asks of the run that it is part of: who judges what the student writes, and who counts the calls."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias, final

from potstill import verifiers
from potstill.models.model import Completion, Request, Sampling
from potstill.records import Problem, Verdict

Asked: TypeAlias = Literal["student", "teacher"]


@final
@dataclass(frozen=True, slots=True)
class TrainingSampling(Sampling):
    """The settings of a call inside a training, and its place there, which tells it from every other call.

    Args:
        place: such as `12/0/3`: step, micro-batch, row.
    """

    place: str = ""


class TrainingHost(Protocol):
    """The run around a training."""

    @property
    def has_judge(self) -> bool:
        """Whether there is a model that judges problems of the kind "judge"."""
        ...

    def judge(self, items: Sequence[tuple[Problem, str]]) -> list[Verdict]:
        """A verdict on each text."""
        ...

    def asking(
        self, requests: Sequence[Request], asked: Asked = "student"
    ) -> AbstractContextManager[list[Completion]]:
        """Calls under way: reserved before the block; it appends what came, one answer a request, which is then stored.

        A request that is made again after a resume, with the same place, is the same call made once more.
        """
        ...


@final
class NoHost:
    """A training on its own: nothing is counted, and what a model would have to judge stays unjudged."""

    has_judge = False

    def judge(self, items: Sequence[tuple[Problem, str]]) -> list[Verdict]:
        """The verifiers' verdicts."""
        return verifiers.judge(items)

    @contextmanager
    def asking(
        self, requests: Sequence[Request], asked: Asked = "student"
    ) -> Iterator[list[Completion]]:
        """Count nothing."""
        yield []


NO_HOST = NoHost()


def reading_request(place: str, tokens: int, seed: int) -> Request:
    """The request of a model that reads so many tokens of a step and writes none."""
    return Request(
        "", sampling=TrainingSampling(max_new_tokens=max(1, tokens), place=place), seed=seed
    )
