"""The caching wrapper: a model that asks the store first, and the real model for the rest.

Local models are asked in whole batches, models behind a wire in a stream (`store.streaming`); nothing is handed on that
is not committed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Literal, TypedDict, TypeVar, Unpack

from potstill.budget.budget import Budget
from potstill.data.trace_json import dump, load
from potstill.errors import ModelError
from potstill.models.model import Completion, Model, Planned, Request, Scored, Streamed, Trainable
from potstill.records import Prompt, digest
from potstill.store.cache_client import UNPAID, Desk, Progress, Written
from potstill.store.store import Store
from potstill.store.streaming import Pass
from potstill.store.truncation import Policy, check, follow, settled

TOGETHER = (
    64  # requests sent at once to a model without a plan: few enough that a crash costs little
)
SCORED_TOGETHER = 256  # pairs a likelihood batch

_Item = TypeVar("_Item")
_Value = TypeVar("_Value")


class Rules(TypedDict, total=False):
    """What is done about answers that are not whole."""

    retry_errors: bool
    truncated: Policy
    when_spent: Literal["stop", "train"]


def cached(
    model: Model,
    store: Store,
    *,
    role: str,
    arm: str,
    seed: int,
    progress: Progress | None = None,
    budget: Budget | None = None,
    **rules: Unpack[Rules],
) -> Model:
    """The model behind the store; it can do what `model` can: plan, likelihood, weights, and nothing it can't.

    Args:
        role: the role under which its calls are counted.
        arm: the arm that needs them.
        seed: the run's seed, set on every request.
        progress: called with (arm/role, distinct answers so far, and asked for) after each batch.
        budget: what may be spent; BudgetSpent where it does not allow a call.
        rules: `retry_errors`: ask once more, once in this process, where a failure is stored; otherwise it is final.
            `truncated`: what to do with an answer that was cut off, see `store.truncation`. `when_spent`: "train" turns
            what the budget does not allow into failures that are not stored, in place of BudgetSpent; requests are then
            sent draw by draw in an order of hashes, so that what is there was not chosen by its place in a file.
    """
    inner = model.inner if isinstance(model, Cached) else model
    abilities = ((Planned, _Plans), (Scored, _Scores), (Trainable, _Trains))
    has = tuple(wrapper for protocol, wrapper in abilities if isinstance(inner, protocol))
    # A class per set of abilities: runtime_checkable Protocols look at what a class has, so a wrapper that always had
    # `likelihood` would pass for a scored model over any black box.
    kind: type[Cached] = type("Cached", (*has, Cached), {})
    retry, truncated = rules.get("retry_errors", False), check(rules.get("truncated", "keep"))
    goes_on = rules.get("when_spent", "stop") == "train" and budget is not None and budget.limited
    return kind(
        Desk(inner, store, role, arm, seed, progress or _silent, retry, truncated, budget, goes_on)
    )


class Cached:
    """A model that answers from the store; `inner` is the real one. Made by `cached`."""

    def __init__(self, desk: Desk) -> None:
        """See `cached`."""
        self._desk, self._store = desk, desk.store
        self.inner, self.role, self.arm = desk.inner, desk.role, desk.arm

    def __repr__(self) -> str:
        return f"cached({self.id}, role={self.role!r}, arm={self.arm!r})"

    @property
    def id(self) -> str:
        """The real model's id."""
        return self._desk.model

    @property
    def store_seed(self) -> int:
        """The seed under which every request is asked and stored, whatever seed it has itself."""
        return self._desk.seed

    def write(self, requests: Sequence[Request]) -> list[Completion]:
        """One completion a request, in order; the model is asked only for what is not stored."""
        if not self._desk.goes_on or isinstance(self.inner, Planned):
            return self._answered(requests)
        keys = self._desk.keys(requests)
        order = sorted(range(len(requests)), key=lambda place: (requests[place].draw, keys[place]))
        answers = dict(
            zip(order, self._answered([requests[place] for place in order]), strict=True)
        )
        return [answers[place] for place in range(len(requests))]

    def _answered(self, requests: Sequence[Request]) -> list[Completion]:
        if not isinstance(self.inner, Streamed):
            return self._followed(requests)
        answers: list[Completion | None] = [None] * len(requests)
        for portion in Pass(self._desk, requests, len(requests)).portions():
            for place, completion in portion:
                answers[place] = completion
        return [answer for answer in answers if answer is not None]

    def answers(self, requests: Iterable[Request]) -> Iterator[tuple[int, Completion]]:
        """Each completion with the place of its request, in any order, as it is read or lands.

        For a streamed model the requests may be more than memory holds; close the iterator to cancel what is under way.
        """
        if not isinstance(self.inner, Streamed):
            yield from enumerate(self.write(list(requests)))
            return
        with closing(Pass(self._desk, requests).portions()) as portions:
            for portion in portions:
                yield from portion

    def _followed(self, requests: Sequence[Request]) -> list[Completion]:
        """The answers, and for those that were cut off whatever the policy asks for next, round by round."""
        policy = self._desk.truncated
        answers = self._written(requests)
        if policy == "keep":
            return answers
        asked = {place: self._desk.asked(request) for place, request in enumerate(requests)}
        before: dict[int, list[Completion]] = {place: [] for place in asked}
        while True:
            further = {p: follow(policy, r, answers[p], before[p]) for p, r in asked.items()}
            asked = {place: request for place, request in further.items() if request is not None}
            if not asked:
                return [settled(policy, before[p], answer) for p, answer in enumerate(answers)]
            for place, answer in zip(asked, self._written(list(asked.values())), strict=True):
                before[place].append(answers[place])
                answers[place] = answer

    def _written(self, requests: Sequence[Request]) -> list[Completion]:
        """One completion a request, of a model that is asked in whole batches."""
        keys = self._desk.keys(requests)
        total = len(distinct := list(dict.fromkeys(keys)))
        answers = self._desk.stored(distinct)
        self._desk.report(len(answers), total)
        made, spent = 0, False
        for batch in self._batches(requests, keys, answers):
            if spent and self._desk.unpaid(
                len(batch)
            ):  # nor is a shorter batch, which may fit, preferred
                answers |= dict.fromkeys(batch, UNPAID)
                continue
            new, calls = self._ask(batch, total - len(answers), total)
            answers |= new
            made += calls
            spent = any(answer is UNPAID for answer in new.values())
            self._desk.report(len(answers), total)
        unpaid = sum(answers[key] is UNPAID for key in keys)
        self._store.count(self.arm, self.role, made=made, served=len(keys) - made - unpaid)
        return [answers[key] for key in keys]

    def _batches(
        self, requests: Sequence[Request], keys: Sequence[str], answers: Mapping[str, Completion]
    ) -> Iterable[dict[str, Request]]:
        """The requests still to be asked for, in the batches that an undisturbed run would have put them in."""
        asked = self._desk.asked
        missing = {
            key: asked(request)
            for key, request in zip(keys, requests, strict=True)
            if key not in answers
        }
        if not missing:
            return  # so that a finished run never loads a model, which a plan might
        if isinstance(self.inner, Planned):
            plan: Sequence[Sequence[int]] = _checked(
                self.inner.plan([*map(asked, requests)]), len(requests), self.id
            )
            if (
                self._desk.goes_on
            ):  # planned by length: what the budget is enough for must not be the shortest
                plan = sorted(plan, key=lambda indices: keys[indices[0]] if indices else "")
        else:
            plan = chunks([i for i, key in enumerate(keys) if key in missing], TOGETHER)
        for indices in plan:
            batch = {keys[i]: missing.pop(keys[i]) for i in indices if keys[i] in missing}
            if batch:
                yield batch

    def _ask(
        self, batch: Mapping[str, Request], left: int, total: int
    ) -> tuple[dict[str, Completion], int]:
        """Answers to a batch, each from the model, from the store, or from a thread that was asking already."""
        answers: dict[str, Completion] = {}
        made = 0
        while waiting := [key for key in batch if key not in answers]:
            with self._store.flight.claim(waiting) as (mine, others):
                found = self._desk.stored(mine)
                todo = {key: batch[key] for key in mine if key not in found}
                if todo:
                    found |= self._commit(todo, total - left, total)
                    made += sum(found[key] is not UNPAID for key in todo)
            answers |= found
            self._store.flight.wait(others)
        return answers, made

    def _commit(self, todo: Mapping[str, Request], done: int, total: int) -> dict[str, Completion]:
        """Ask the model and keep the whole batch before anyone sees it."""
        desk, requests = self._desk, list(todo.values())
        budget = desk.budget if desk.budget and desk.budget.limited else None
        if budget and not budget.hold(self.role, self.inner, self.arm, requests):
            if desk.unpaid(len(requests)):
                return dict.fromkeys(todo, UNPAID)
            raise budget.stopped(self.role, self.arm, done, total)
        try:
            new = _counted(self.inner.write(requests), len(requests), self.id, "write")
        except BaseException:
            if budget:
                budget.release(self.role, self.inner, requests)
            raise
        written = [
            Written(key, request, answer)
            for (key, request), answer in zip(todo.items(), new, strict=True)
        ]
        return dict(zip(todo, desk.keep(written), strict=True))


class _Plans(Cached):
    def plan(self, requests: Sequence[Request]) -> list[list[int]]:
        """The real model's batches."""
        batches: list[list[int]] = self.inner.plan(
            [self._desk.asked(request) for request in requests]
        )
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
                self._desk.progress(
                    f"{self.arm}/{self.role} scores", len(known), len(known) + len(missing)
                )
        return [load(known[key]) for key in keys]

    def _score(self, batch: Mapping[str, tuple[Prompt, str]]) -> dict[str, str]:
        known: dict[str, str] = {}
        while waiting := [key for key in batch if key not in known]:
            with self._store.flight.claim(waiting) as (mine, others):
                found = self._store.judgements.get(mine)
                todo = [key for key in mine if key not in found]
                if todo:
                    scores = self.inner.likelihood([batch[key] for key in todo])
                    new = dict(
                        zip(
                            todo,
                            map(dump, _counted(scores, len(todo), self.id, "likelihood")),
                            strict=True,
                        )
                    )
                    self._store.judgements.put(new)
                    found |= new
            known |= found
            self._store.flight.wait(others)
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
            f"{model}.{method} returned {len(values)} results for {count} requests",
            expected="one result a request",
        )
    return values


def _silent(label: str, done: int, total: int) -> None:
    """Nobody watches."""
