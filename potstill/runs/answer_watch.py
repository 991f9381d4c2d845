"""A progress callback between a run and whoever shows it: it also tells the run that answers have come."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

from potstill.models.model import Traffic
from potstill.records import Progress
from potstill.store.cache_client import CallListener


def tell_nobody() -> None:
    """Where no run waits for answers."""


@final
@dataclass(slots=True)
class AnswerWatch:
    """Passes everything on to `shown`, and calls `on_answers` after each portion of answers that was stored.

    Args:
        shown: called with (label, done, total), and told of answers, tokens and traffic where it wants to be.
        on_answers: set by a run that waits for answers.
    """

    shown: Progress
    on_answers: Callable[[], None] = tell_nobody

    def __call__(self, label: str, done: int, total: int) -> None:
        """Take a report."""
        self.shown(label, done, total)

    def count_answers(self, label: str, count: int) -> None:
        """So many more answers have come from a model."""
        if isinstance(self.shown, CallListener):
            self.shown.count_answers(label, count)
        self.on_answers()

    def count_tokens(self, label: str, count: int) -> None:
        """So many more tokens have been written here."""
        if isinstance(self.shown, CallListener):
            self.shown.count_tokens(label, count)

    def show_traffic(self, label: str, traffic: Traffic) -> None:
        """All that has gone to a model's server so far."""
        if isinstance(self.shown, CallListener):
            self.shown.show_traffic(label, traffic)
