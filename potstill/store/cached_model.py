"""The caching wrapper: a model that looks into the store first, and asks the real model for the rest.

Local models are asked in whole batches, remote ones in a stream (`store.streaming`); nothing is handed on that is not
committed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Literal, TypedDict, TypeVar, Unpack

from potstill.budget.budget import Budget
from potstill.errors import ModelError
from potstill.models.answering import (
    SCORING_BATCH,
    UNPLANNED_BATCH,
    answer_batch,
    check_count,
)
from potstill.models.model import (
    Completion,
    Model,
    Planned,
    ReportsRows,
    Request,
    Scored,
    Streamed,
    Trainable,
    WritesBatches,
)
from potstill.models.phase import COLLECTION, current_phase, current_stage
from potstill.models.scoring import (
    PassageLike,
    StreamedScores,
    is_scoring,
    scoring_request,
    to_passages,
)
from potstill.models.token_scoring import StreamedTokenScores, TokenScored
from potstill.records import Progress
from potstill.store.batch_stream import BatchStream
from potstill.store.cache_client import UNPAID, CacheClient, NewCompletion
from potstill.store.store import Store
from potstill.store.streaming import RequestStream
from potstill.store.truncation import Policy, check_policy, final_answer, next_request

_Item = TypeVar("_Item")


class CacheRules(TypedDict, total=False):
    """What is done about answers that are not whole."""

    retry_errors: bool
    truncated: Policy
    when_spent: Literal["stop", "train"]


def with_cache(
    model: Model,
    store: Store,
    *,
    role: str,
    arm: str,
    seed: int,
    progress: Progress | None = None,
    budget: Budget | None = None,
    **rules: Unpack[CacheRules],
) -> Model:
    """The model behind the store; it can do what `model` can: plan, likelihood, weights, and nothing it can't.

    Args:
        model: the real model; one that is behind a store already is unwrapped first.
        store: open for writing.
        role: the role under which its calls are counted.
        arm: the arm that needs them.
        seed: the run's seed, set on every request.
        progress: called with (arm/role, distinct answers so far, and asked for) after each batch.
        budget: what may be spent; BudgetSpent where it does not allow a call.
        rules: `retry_errors`: ask once more, once in this process, where a failure is stored; otherwise it is final.
            `truncated`: what to do with an answer that was cut off, see `store.truncation`. `when_spent`: "train" turns
            what the budget does not allow into failures that are not stored, in place of BudgetSpent; requests are then
            sent draw by draw in an order of hashes, so that what is there was not chosen by its place in a file.
            The last two hold in the phase of collection alone (`models.phase`).
    """
    inner = model.inner if isinstance(model, CachedModel) else model
    goes_on_unpaid = rules.get("when_spent", "stop") == "train"
    client = CacheClient(
        inner=inner,
        store=store,
        role=role,
        arm=arm,
        seed=seed,
        progress=progress or _ignore_progress,
        retry_errors=rules.get("retry_errors", False),
        truncated=check_policy(rules.get("truncated", "keep")),
        budget=budget,
        continues_unpaid=goes_on_unpaid and budget is not None and budget.is_limited,
    )
    # A class per set of abilities: runtime_checkable Protocols look at what a class has, so a wrapper that always had
    # `likelihood` would pass for a scored model over any black box.
    bases: list[type[CachedModel]] = []
    if isinstance(inner, Planned):
        bases.append(_PlannedCachedModel)
    if isinstance(inner, Scored):
        bases.append(_ScoredCachedModel)
    if isinstance(inner, TokenScored):
        bases.append(_TokenScoredCachedModel)
    if isinstance(inner, Trainable):
        bases.append(_TrainableCachedModel)
    wrapper_class: type[CachedModel] = type("CachedModel", (*bases, CachedModel), {})
    return wrapper_class(client)


class CachedModel:
    """A model that answers from the store; `inner` is the real one. Made by `with_cache`."""

    def __init__(self, client: CacheClient) -> None:
        """See `with_cache`."""
        self._clients = {(COLLECTION, ""): client.in_phase(COLLECTION)}
        self._store = client.store
        self.inner, self.role, self.arm = client.inner, client.role, client.arm

    def __repr__(self) -> str:
        return f"CachedModel({self.id}, role={self.role!r}, arm={self.arm!r})"

    @property
    def id(self) -> str:
        """The real model's id."""
        return self._client.model_id

    @property
    def _client(self) -> CacheClient:
        """The client of the present phase: one model is asked for training data and measured."""
        place = current_phase(), current_stage()
        if place not in self._clients:
            base = self._clients[COLLECTION, ""]
            self._clients[place] = base.in_phase(*place)
        return self._clients[place]

    @property
    def store_seed(self) -> int:
        """The seed under which every request is asked and stored, whatever seed it has itself."""
        return self._client.seed

    def write(self, requests: Sequence[Request]) -> list[Completion]:
        """One completion a request, in order; the model is asked only for what is not stored."""
        if not self._client.continues_unpaid or isinstance(self.inner, Planned):
            return self._write_in_order(requests)
        # Draw by draw and by hash: where the budget ends, what was paid for is a random part of the problems.
        keys = self._client.request_keys(requests)
        order = sorted(
            range(len(requests)), key=lambda place: (requests[place].sample_index, keys[place])
        )
        answers = self._write_in_order([requests[place] for place in order])
        by_place = dict(zip(order, answers, strict=True))
        return [by_place[place] for place in range(len(requests))]

    def answers(self, requests: Iterable[Request]) -> Iterator[tuple[int, Completion]]:
        """Each completion with the place of its request, in any order, as it is read or lands.

        For a streamed model the requests may be more than memory holds; close the iterator to cancel what is under way.
        """
        if not isinstance(self.inner, Streamed):
            yield from enumerate(self.write(list(requests)))
            return
        with closing(RequestStream(self._client, requests).portions()) as portions:
            for portion in portions:
                yield from portion

    def _write_in_order(self, requests: Sequence[Request]) -> list[Completion]:
        if not isinstance(self.inner, Streamed):
            return self._write_with_follow_ups(requests)
        answers: list[Completion | None] = [None] * len(requests)
        for portion in RequestStream(self._client, requests, total=len(requests)).portions():
            for place, completion in portion:
                answers[place] = completion
        return [answer for answer in answers if answer is not None]

    def _write_with_follow_ups(self, requests: Sequence[Request]) -> list[Completion]:
        """The answers, and for those that were cut off whatever the policy asks for next, round by round."""
        policy = self._client.truncated
        answers = self._write_batched(requests)
        if policy == "keep":
            return answers
        pending = {}
        for place, request in enumerate(requests):
            pending[place] = self._client.with_seed(request)
        truncated_answers: dict[int, list[Completion]] = {place: [] for place in pending}
        while True:
            # What each answer of the last round leads to; it is given up where it leads to nothing.
            follow_ups: dict[int, Request] = {}
            for place, request in pending.items():
                follow_up = next_request(policy, request, answers[place], truncated_answers[place])
                if follow_up is not None:
                    follow_ups[place] = follow_up
            if not follow_ups:
                break
            pending = follow_ups
            new_answers = self._write_batched(list(pending.values()))
            for place, answer in zip(pending, new_answers, strict=True):
                truncated_answers[place].append(answers[place])
                answers[place] = answer
        return [
            final_answer(policy, truncated_answers[place], answer)
            for place, answer in enumerate(answers)
        ]

    def _write_batched(self, requests: Sequence[Request]) -> list[Completion]:
        """One completion a request, of a model that is asked in whole batches."""
        keys = self._client.request_keys(requests)
        distinct_keys = list(dict.fromkeys(keys))
        total = len(distinct_keys)
        # Equal requests in one call are one completion, asked for and counted once.
        answers = self._client.read_stored(distinct_keys)
        self._client.report_progress(len(answers), total)
        batches = list(self._plan_batches(requests, keys, answers))
        if isinstance(self.inner, WritesBatches) and len(batches) > 1:
            stream = BatchStream(self._client, self.inner, batches)
            for new_answers in stream.answers():
                answers |= new_answers
                self._client.report_progress(len(answers), total)
            # What other threads were asking for is asked for alone, if they failed.
            batches = stream.left_batches
        budget_ended = False
        for batch in batches:
            # Once the budget has refused a batch, a later and shorter one, which may fit, is not preferred to it.
            if budget_ended and self._client.accepts_unpaid(len(batch)):
                answers |= dict.fromkeys(batch, UNPAID)
                continue
            new_answers = self._answer_batch(batch, done=len(answers), total=total)
            answers |= new_answers
            budget_ended = any(answer is UNPAID for answer in new_answers.values())
            self._client.report_progress(len(answers), total)
        return [answers[key] for key in keys]

    def _plan_batches(
        self, requests: Sequence[Request], keys: Sequence[str], answers: Mapping[str, Completion]
    ) -> Iterable[dict[str, Request]]:
        """The requests still to be asked for, in the batches that an undisturbed run would have put them in."""
        missing: dict[str, Request] = {}
        for key, request in zip(keys, requests, strict=True):
            if key not in answers:
                missing[key] = self._client.with_seed(request)
        if not missing:
            return  # so that a finished run never loads a model, which a plan might

        plan: Sequence[Sequence[int]]
        if is_scoring(requests[0]):
            # Chunks of the whole list: after a crash, the rest is scored in the same company.
            plan = split_into_chunks(range(len(requests)), SCORING_BATCH)
        elif isinstance(self.inner, Planned):
            plan = self._plan_all(requests)
            if self._client.continues_unpaid:
                # Plans go by length: what the budget is enough for must not be the shortest.
                plan = sorted(plan, key=lambda indices: keys[indices[0]] if indices else "")
        else:
            places = [place for place, key in enumerate(keys) if key in missing]
            plan = split_into_chunks(places, UNPLANNED_BATCH)

        for indices in plan:
            # A batch of the plan without what is stored; `pop`, because equal requests may stand in two batches.
            batch: dict[str, Request] = {}
            for index in indices:
                if keys[index] in missing:
                    batch[keys[index]] = missing.pop(keys[index])
            if batch:
                yield batch

    def _plan_all(self, requests: Sequence[Request]) -> list[list[int]]:
        """The model's plan for all requests, stored ones too, so that batch shapes never depend on a crash."""
        plan: list[list[int]] = self.inner.plan(
            [self._client.with_seed(request) for request in requests]
        )
        planned_indices = sorted(index for batch in plan for index in batch)
        if planned_indices != list(range(len(requests))):
            raise ModelError(
                f"the plan of {self.id} does not hold every one of {len(requests)} requests exactly once",
                expected="plan(requests) to return their indices, one list a batch",
            )
        return plan

    def _answer_batch(
        self, batch: Mapping[str, Request], *, done: int, total: int
    ) -> dict[str, Completion]:
        """Answers to a batch, each from the model, from the store, or from a thread that was asking already.

        Args:
            batch: requests by key.
            done: answers of the whole call that are there already.
            total: distinct requests of the whole call.
        """
        answers: dict[str, Completion] = {}
        while len(answers) < len(batch):
            waiting = [key for key in batch if key not in answers]
            with self._store.in_flight.claim(waiting) as (own_keys, others_keys):
                # Look again under the claim: another thread may have committed a key between the first look and now.
                answers |= self._client.read_stored(own_keys)
                missing = {key: batch[key] for key in own_keys if key not in answers}
                if missing:
                    answers |= self._ask_model(missing, done=done, total=total)
            # Outside the claim. Keys whose thread failed are still not in `answers`, and become ours in the next round.
            self._store.in_flight.wait_for_others(others_keys)
        return answers

    def _ask_model(
        self, missing: Mapping[str, Request], *, done: int, total: int
    ) -> dict[str, Completion]:
        """Ask the model, and commit the whole batch before anyone sees it."""
        client, requests = self._client, list(missing.values())
        budget = client.budget if client.budget and client.budget.is_limited else None
        if budget and not budget.reserve_batch(client.role, self.inner, self.arm, requests):
            if client.accepts_unpaid(len(requests)):
                return dict.fromkeys(missing, UNPAID)
            raise budget.spent_error(client.role, self.arm, done, total)
        try:
            # Whatever happens here, Ctrl-C too, no reservation may stay: other threads would wait for it for ever.
            completions = self._answer(requests, done=done, total=total)
        except BaseException:
            if budget:
                budget.release(client.role, self.inner, requests)
            raise
        new = []
        for (key, request), completion in zip(missing.items(), completions, strict=True):
            new.append(NewCompletion(key, request, completion))
        return dict(zip(missing, client.commit(new), strict=True))

    def _answer(self, requests: Sequence[Request], *, done: int, total: int) -> list[Completion]:
        """Ask for answers; a model that can say how far it is with what it writes moves the progress meanwhile."""
        if is_scoring(requests[0]) or not isinstance(self.inner, ReportsRows):
            return answer_batch(self.inner, requests)
        watch = self._client.watch_batch(done, total)
        completions = self.inner.write_reporting(requests, watch)
        check_count(self.inner, len(completions), len(requests), "write")
        # What was written since the last report is counted too.
        watch.count_tokens(sum(completion.tokens.completion for completion in completions))
        return completions

    def _stream_scores(self, requests: Sequence[Request]) -> list[Completion]:
        """One answer a request to score, of a remote model."""
        answers: dict[int, Completion] = {}
        stream = RequestStream(
            self._client, requests, total=len(requests), send=self.inner.stream_scores
        )
        for portion in stream.portions():
            answers.update(portion)
        return [answers[place] for place in range(len(requests))]


class _PlannedCachedModel(CachedModel):
    def plan(self, requests: Sequence[Request]) -> list[list[int]]:
        """The real model's batches."""
        batches: list[list[int]] = self.inner.plan(
            [self._client.with_seed(request) for request in requests]
        )
        return batches


class _ScoredCachedModel(CachedModel):
    def likelihood(self, passages: Sequence[PassageLike]) -> list[list[float]]:
        """Natural-log probabilities of each token of the texts, one list a passage; empty where there is none."""
        # An empty text has no token: nobody is asked.
        all_passages = to_passages(passages)
        answers = iter(
            self.score([scoring_request(passage) for passage in all_passages if passage.text])
        )
        return [list(next(answers).logprobs) if passage.text else [] for passage in all_passages]

    def score(self, requests: Sequence[Request]) -> list[Completion]:
        """One answer a request to score; stored, counted and paid for as completions are."""
        if not requests:
            return []
        if not isinstance(self.inner, StreamedScores):
            return self._write_batched(requests)
        return self._stream_scores(requests)


class _TokenScoredCachedModel(CachedModel):
    def score_tokens(self, requests: Sequence[Request]) -> list[Completion]:
        """One answer a request to score tokens; stored, counted and paid for as completions are."""
        if not requests:
            return []
        if isinstance(self.inner, StreamedTokenScores):
            return self._stream_scores(requests)
        return self._write_batched(requests)


class _TrainableCachedModel(CachedModel):
    @property
    def weights(self) -> Path:
        """The checkpoint folder."""
        path: Path = self.inner.weights
        return path


def split_into_chunks(items: Sequence[_Item], size: int) -> list[Sequence[_Item]]:
    """The items in order, `size` at a time."""
    return [items[start : start + size] for start in range(0, len(items), size)]


def _ignore_progress(label: str, done: int, total: int) -> None:
    """Progress that nobody watches."""
