"""The caching wrapper: a model that asks the store first, and the real model for the rest, batch by whole batch."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from potstill.errors import ModelError
from potstill.models.model import Completion, Model, Planned, Request, Scored, Trainable
from potstill.records import Prompt, digest
from potstill.store.store import Store
from potstill.store.traces import dump, load

Progress: TypeAlias = Callable[[str, int, int], None]

TOGETHER = 64  # requests sent at once to a model without a plan: few enough that a crash costs little
SCORED_TOGETHER = 256  # pairs a likelihood batch

_Item = TypeVar("_Item")
_Value = TypeVar("_Value")


def cached(
    model: Model,
    store: Store,
    *,
    role: str,
    arm: str,
    seed: int,
    progress: Progress | None = None,
    retry_errors: bool = False,
) -> Model:
    """The model behind the store; it can do what `model` can: plan, likelihood, weights, and nothing it can't.

    Args:
        role: the role under which its calls are counted.
        arm: the arm that needs them.
        seed: the run's seed, set on every request.
        progress: called with (arm/role, distinct answers so far, and asked for) after each batch.
        retry_errors: ask once more, once in this process, where a failure is stored; otherwise it is final.
    """
    inner = model.inner if isinstance(model, Cached) else model
    abilities = ((Planned, _Plans), (Scored, _Scores), (Trainable, _Trains))
    has = tuple(wrapper for protocol, wrapper in abilities if isinstance(inner, protocol))
    # A class per set of abilities: runtime_checkable Protocols look at what a class has, so a wrapper that always had
    # `likelihood` would pass for a scored model over any black box.
    kind: type[Cached] = type("Cached", (*has, Cached), {})
    return kind(inner, store, role=role, arm=arm, seed=seed, progress=progress or _silent, retry_errors=retry_errors)


class Cached:
    """A model that answers from the store; `inner` is the real one. Made by `cached`."""

    def __init__(
        self, inner: Any, store: Store, *, role: str, arm: str, seed: int, progress: Progress, retry_errors: bool
    ) -> None:
        """See `cached`."""
        self.inner, self._store = inner, store
        self.role, self.arm, self._seed = role, arm, seed
        self._progress, self._retry_errors = progress, retry_errors

    def __repr__(self) -> str:
        return f"cached({self.id}, role={self.role!r}, arm={self.arm!r})"

    @property
    def id(self) -> str:
        """The real model's id."""
        model: str = self.inner.id
        return model

    def write(self, requests: Sequence[Request]) -> list[Completion]:
        """One completion a request, in order; the model is asked only for what is not stored, in whole batches."""
        asked = [dataclasses.replace(request, seed=self._seed) for request in requests]
        keys = [request.key(self.id) for request in asked]
        answers = self._stored(list(dict.fromkeys(keys)))
        self._store.completions.need(self.arm, self.role, list(answers))
        total = len(set(keys))
        self._report(answers, total)
        made = 0
        for batch in self._batches(asked, keys, answers):
            new, calls = self._ask(batch)
            answers |= new
            made += calls
            self._report(answers, total)
        self._store.count(self.arm, self.role, made=made, served=len(keys) - made)
        return [answers[key] for key in keys]

    def _batches(
        self, asked: Sequence[Request], keys: Sequence[str], answers: Mapping[str, Completion]
    ) -> Iterable[dict[str, Request]]:
        """The requests still to be asked for, in the batches that an undisturbed run would have put them in."""
        missing = {key: request for key, request in zip(keys, asked, strict=True) if key not in answers}
        if not missing:
            return  # so that a finished run never loads a model, which a plan might
        if isinstance(self.inner, Planned):
            plan: Sequence[Sequence[int]] = _checked(self.inner.plan(asked), len(asked), self.id)
        else:
            plan = chunks([i for i, key in enumerate(keys) if key in missing], TOGETHER)
        for indices in plan:
            batch = {keys[i]: missing.pop(keys[i]) for i in indices if keys[i] in missing}
            if batch:
                yield batch

    def _ask(self, batch: Mapping[str, Request]) -> tuple[dict[str, Completion], int]:
        """Answers to a batch, each from the model, from the store, or from a thread that was asking already."""
        answers: dict[str, Completion] = {}
        made = 0
        while waiting := [key for key in batch if key not in answers]:
            with self._store.flight.claim(waiting) as (mine, others):
                found = self._stored(mine)
                self._store.completions.need(self.arm, self.role, list(found))
                todo = [batch[key] for key in mine if key not in found]
                if todo:
                    found |= self._commit(todo)
                    made += len(todo)
            answers |= found
            for event in others:
                event.wait()
        return answers, made

    def _commit(self, todo: Sequence[Request]) -> dict[str, Completion]:
        """Ask the model and keep the whole batch before anyone sees it."""
        written = list(zip(todo, _counted(self.inner.write(todo), len(todo), self.id, "write"), strict=True))
        self._store.completions.put(self.id, self.role, self.arm, written)
        new = {request.key(self.id): completion for request, completion in written}
        self._store.retried.update(new)
        return new

    def _stored(self, keys: Sequence[str]) -> dict[str, Completion]:
        stored = self._store.completions.get(keys)
        if not self._retry_errors:
            return stored
        return {k: c for k, c in stored.items() if not c.error or k in self._store.retried}

    def _report(self, answers: Mapping[str, Completion], total: int) -> None:
        self._progress(f"{self.arm}/{self.role}", len(answers), total)


class _Plans(Cached):
    def plan(self, requests: Sequence[Request]) -> list[list[int]]:
        """The real model's batches."""
        batches: list[list[int]] = self.inner.plan([dataclasses.replace(r, seed=self._seed) for r in requests])
        return batches


class _Scores(Cached):
    def likelihood(self, pairs: Sequence[tuple[Prompt, str]]) -> list[list[float]]:
        """Natural-log probabilities of each completion token, one list a pair; kept under model and content."""
        keys = [digest("likelihood", [self.id, prompt, text]) for prompt, text in pairs]
        known = self._store.judgements.get(list(dict.fromkeys(keys)))
        missing = {key for key in keys if key not in known}
        # Chunks of the whole list, like the batches of `write`: after a crash, the rest is scored in the same company.
        for chunk in chunks(range(len(keys)), SCORED_TOGETHER):
            batch = {keys[i]: pairs[i] for i in chunk if keys[i] in missing}
            if batch:
                known |= self._score(batch)
                missing -= batch.keys()
                self._progress(f"{self.arm}/{self.role} scores", len(known), len(known) + len(missing))
        return [load(known[key]) for key in keys]

    def _score(self, batch: Mapping[str, tuple[Prompt, str]]) -> dict[str, str]:
        known: dict[str, str] = {}
        while waiting := [key for key in batch if key not in known]:
            with self._store.flight.claim(waiting) as (mine, others):
                found = self._store.judgements.get(mine)
                todo = [key for key in mine if key not in found]
                if todo:
                    scores = self.inner.likelihood([batch[key] for key in todo])
                    new = dict(zip(todo, map(dump, _counted(scores, len(todo), self.id, "likelihood")), strict=True))
                    self._store.judgements.put(new)
                    found |= new
            known |= found
            for event in others:
                event.wait()
        return known


class _Trains(Cached):
    @property
    def weights(self) -> Path:
        """The checkpoint folder."""
        path: Path = self.inner.weights
        return path


def chunks(items: Sequence[_Item], size: int) -> list[Sequence[_Item]]:
    """The items in order, `size` at a time."""
    return [items[start : start + size] for start in range(0, len(items), size)]


def _checked(plan: list[list[int]], count: int, model: str) -> list[list[int]]:
    if sorted(i for batch in plan for i in batch) != list(range(count)):
        raise ModelError(
            f"the plan of {model} does not hold every one of {count} requests exactly once",
            expected="plan(requests) to return their indices, one list a batch",
        )
    return plan


def _counted(values: Sequence[_Value], count: int, model: str, method: str) -> Sequence[_Value]:
    if len(values) != count:
        raise ModelError(
            f"{model}.{method} returned {len(values)} results for {count} requests", expected="one result a request"
        )
    return values


def _silent(label: str, done: int, total: int) -> None:
    """Nobody watches."""
