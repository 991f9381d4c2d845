"""The phase of a run in which a model is asked: rules and costs go by role and phase, not by role alone.

A student that a first stage trained writes training data in the second round and is measured at the end: one model, one
role, two phases. The phase is a matter of when a call is made, so it is set around the work and not in a model.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal, TypeAlias, get_args

Phase: TypeAlias = Literal["collection", "training", "evaluation"]
"""Collection is what a method asks to make its rows, training what a training asks, evaluation a measurement."""

PHASES: tuple[Phase, ...] = get_args(Phase)
COLLECTION: Phase = "collection"

# A context variable, so that the worker threads of `each` inherit it and two runs in one process do not meet.
_PHASE: ContextVar[Phase] = ContextVar("potstill_phase", default=COLLECTION)
_STAGE: ContextVar[str] = ContextVar("potstill_stage", default="")


def current_phase() -> Phase:
    """The phase of this context; collection where nobody set one."""
    return _PHASE.get()


@contextmanager
def in_phase(phase: Phase) -> Iterator[None]:
    """Calls inside the block belong to this phase."""
    token = _PHASE.set(phase)
    try:
        yield
    finally:
        _PHASE.reset(token)


def current_stage() -> str:
    """The key of the student that is being trained; "" outside of a training in a run."""
    return _STAGE.get()


@contextmanager
def in_training(stage: str) -> Iterator[None]:
    """Calls inside the block are asked by the training of this student."""
    token = _STAGE.set(stage)
    try:
        with in_phase("training"):
            yield
    finally:
        _STAGE.reset(token)


def account_name(role: str, phase: Phase) -> str:
    """Under which name the calls of a role in a phase are counted: `teacher` in collection, `student/evaluation`."""
    return role if phase == COLLECTION else f"{role}/{phase}"


def split_account(name: str) -> tuple[str, Phase]:
    """The role and the phase of an account's name."""
    role, slash, last = name.rpartition("/")
    for phase in PHASES:
        if slash and last == phase:
            return role, phase
    return name, COLLECTION
