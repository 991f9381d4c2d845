"""Where verifiers that compute much do it: in worker processes of this machine, or at another place, such as a cluster.

Who starts a run chooses the place, once and for the whole process; verifiers, rewards and measurements below it do not
know of it. A place gives the verdicts that this machine would give.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from potstill.records import Problem, Verdict

if TYPE_CHECKING:
    from potstill.verifiers.code.output import Output
    from potstill.verifiers.code.sandbox import Limits


class Place(Protocol):
    """Somewhere else than in this process."""

    @property
    def breadth(self) -> int:
        """How many machines work there at once."""
        ...

    def judge(self, kind: str, items: Sequence[tuple[Problem, str]]) -> list[Verdict]:
        """Return a verdict for each item, in order."""
        ...

    def equal(self, kind: str, items: Sequence[tuple[Problem, str, str]]) -> list[bool]:
        """Return for each item whether its two answers are the same, in order."""
        ...

    def run_programs(self, texts: Sequence[str], limits: Limits) -> list[Output]:
        """Return what the program of each text comes to, in order."""
        ...

    def describe_sandbox(self) -> str:
        """Say in which sandbox programs run there.

        Raises:
            ConfigError: none works there.
        """
        ...


_places: list[Place] = []


@contextmanager
def verifying_at(place: Place | None) -> Iterator[None]:
    """Have verifiers compute at a place until the block ends, in all threads; None changes nothing."""
    if place is None:
        yield
        return
    _places.append(place)
    try:
        yield
    finally:
        _places.remove(place)


def current_place() -> Place | None:
    """The place that was chosen last; None is this machine."""
    return _places[-1] if _places else None


def describe_sandbox() -> str:
    """Say in which sandbox programs run, here or at the place that was chosen.

    Raises:
        ConfigError: none works.
    """
    from potstill.verifiers.code import sandbox  # here, because most runs have no programs

    place = current_place()
    if place is not None:
        return place.describe_sandbox()
    return f"programs run in: {sandbox.choose_sandbox()}"
