"""Rejection sampling: a model tries each problem again until it is right, and one right text a problem is left."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from potstill.models.model import Model
from potstill.records import Trace
from potstill.traces import dedupe, is_finished, keep, problem, retry, sample, verify


def sample_until_right(
    is_right: Callable[[Trace], bool],
    model: Model,
    problems: Sequence[Trace],
    tries: int,
    **sampling: Any,
) -> list[Trace]:
    """One right and finished text of each problem that the model gets right within so many tries.

    Args:
        is_right: the test, such as `right_test(problems, steps)`.
        model: who tries.
        problems: blank traces.
        tries: of each problem, at most; only what is not solved yet is tried again.
        sampling: of all tries.
    """
    passing, _ = retry(partial(attempt_once, is_right, model, sampling), problems, tries)
    return dedupe(problem, passing)


def attempt_once(
    is_right: Callable[[Trace], bool],
    model: Model,
    sampling: dict[str, Any],
    problems: list[Trace],
    number: int,
) -> list[Trace]:
    """One try at each problem; what is right and whole."""
    texts = sample(model, problems, sample_index=number, **sampling)
    return keep(is_right, verify(keep(is_finished, texts)))
