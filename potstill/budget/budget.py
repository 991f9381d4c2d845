"""The budget: limits of tokens and money, kept by reservation before a call is sent.

Calls are counted under an account, a role in a phase (`models.phase`). A limit is on the run, on a role in every phase,
on a phase whatever the role, or on one account.
"""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias, final

from potstill.budget.amounts import (
    NO_LIMIT,
    NOTHING,
    WHOLE_RUN,
    Amount,
    Intent,
    Limit,
    Spent,
    format_amount,
    limit_names,
    prompt_token_bound,
    suggest_limit,
    sum_amounts,
    to_picodollars,
)
from potstill.budget.prices import (
    Price,
    built_in_prices,
    find_price,
    max_cost,
    token_cost,
    unpriced_model_error,
)
from potstill.errors import BudgetSpent
from potstill.models import scoring
from potstill.models.model import Attempt, Completion, Model, Request
from potstill.records import NO_TOKENS, Tokens

SHOWN_EXCESSES = 3  # calls beyond their allowance that are listed one by one

Answer: TypeAlias = Literal["go", "wait", "stop"]


class CallLog(Protocol):
    """Where calls under way are written down, so that a killed process's calls count on the next start.

    `store.attempts` is one.
    """

    def record_intents(self, intents: Sequence[Intent]) -> None:
        """Before calls are sent: what each can use and cost; a second time under a key replaces the first."""
        ...

    def withdraw_intents(self, keys: Sequence[str]) -> None:
        """Take back the intents of calls that left nothing to pay."""
        ...

    def adopt_intents(self) -> int:
        """Count the calls that a dead process left open at their worst, and return how many."""
        ...

    def spent_by_role(self) -> Mapping[str, Spent]:
        """By account, what has been paid."""
        ...


@dataclass(slots=True)
class _Reservation:
    """What one request has reserved, and what its failed tries have used."""

    worst: Amount
    is_active: bool = True
    failed_tries: Amount = NOTHING


@dataclass(slots=True)
class _Account:
    """What counts against one limit: spent and reserved."""

    spent: Amount = NOTHING
    reserved: Amount = NOTHING
    limit: Limit = field(default_factory=Limit)

    def fits(self, worst: Amount, reserved: Amount) -> bool:
        """Whether the worst case stays within the limit, with this much reserved by others."""
        total = self.spent.plus(reserved).plus(worst)
        if self.limit.tokens and total.tokens > self.limit.tokens:
            return False
        return not (self.limit.money and total.picodollars > to_picodollars(self.limit.money))


@final
class Budget:
    """What a run may spend and has spent. Threads share it.

    Before a call is sent, the most it can use and cost is reserved; when it is back, what it really used is spent and
    the rest is free again. So spent and reserved together never exceed a limit.
    """

    def __init__(
        self,
        limits: Mapping[str, Limit] | None = None,
        *,
        prices: Mapping[str, Price] | None = None,
        spent: Mapping[str, Amount] | None = None,
        call_log: CallLog | None = None,
    ) -> None:
        """Begin with what was spent before.

        Args:
            limits: by name, see `amounts.limit_names`; "" is the whole run.
            prices: the user's, by model name; they override those that come with potstill.
            spent: by account, what this run folder has paid for so far.
            call_log: where calls under way are written down, if there are limits.
        """
        self._custom_prices = dict(prices or {})
        self.price_table = {**built_in_prices(), **self._custom_prices}
        self.limits = {name: limit for name, limit in (limits or {}).items() if limit}
        # By limit that stopped a call: how large it would have had to be.
        self._needed: dict[str, Amount] = {}
        self.excesses: list[str] = []  # calls whose server used or billed more than it was allowed
        self.unpaid: Counter[str] = Counter()  # calls that a run went on without, by account
        self.uncounted: Counter[str] = Counter()  # answers without token counts, by model
        self.impossible: Counter[str] = (
            Counter()
        )  # answers with numbers that can't be right, by model
        self._impossible_example: dict[str, str] = {}
        self._call_log = call_log if self.limits else None
        # Guards everything below, and wakes threads that wait in `reserve_batch` for reservations to be freed.
        self._changed = threading.Condition()
        self._reservations: dict[tuple[str, str, Request], _Reservation] = {}
        self._accounts: defaultdict[str, _Account] = defaultdict(_Account)  # by name of a limit
        self._spent: defaultdict[str, Amount] = defaultdict(lambda: NOTHING)  # by role and phase
        self._reserved: defaultdict[str, Amount] = defaultdict(lambda: NOTHING)
        for name, limit in self.limits.items():
            self._accounts[name].limit = limit
        for role, amount in (spent or {}).items():
            self._add_spent(role, amount)

    @classmethod
    def from_call_log(
        cls, call_log: CallLog, limits: Mapping[str, Limit], prices: Mapping[str, Price]
    ) -> Budget:
        """The budget of a run folder: calls that a killed process left open count as paid at their worst."""
        # Before anything is spent here: what is open now was sent by a process that is dead.
        call_log.adopt_intents()
        spent = {}
        for role, paid in call_log.spent_by_role().items():
            spent[role] = Amount(paid.tokens, to_picodollars(paid.cost))
        return cls(limits, prices=prices, spent=spent, call_log=call_log)

    @property
    def is_limited(self) -> bool:
        """Whether there is any limit."""
        return bool(self.limits)

    def permit(self, role: str, model: Model, arm: str) -> BudgetPermit:
        """Leave to spend for a role's calls of a model; refuses a limit of money on a model without a price.

        The first request that can't be paid closes the permit for all that come after it, so that what is left undone
        does not depend on how long a request is. A new call takes a new permit.
        """
        price = self.price(model)
        if price is None and _is_charged(model):
            has_money_limit = any(self._limit(name).money for name in limit_names(role))
            if has_money_limit:
                raise unpriced_model_error(getattr(model, "priced", model.id), self.price_table)
        return BudgetPermit(self, role, model, arm, price)

    def price(self, model: Model) -> Price | None:
        """The price of a model; one that runs on this machine costs what the user says, else nothing."""
        prices = self.price_table if _is_charged(model) else self._custom_prices
        if not prices:
            return None
        return find_price(getattr(model, "priced", "") or model.id, prices)

    def settle(
        self, role: str, model: Model, request: Request, completion: Completion
    ) -> Completion:
        """Spend what a completion used, free the rest of its reservation, and return it with its cost filled in."""
        price = self.price(model)
        with self._changed:
            reservation = self._reservations.pop((role, model.id, request), None)
            if reservation is None:
                reservation = _Reservation(_worst_case(request, model, price), is_active=False)
            if _is_uncounted(request, completion, model):
                self.uncounted[model.id] += 1
                completion = completion._replace(tokens=_max_tokens(request, completion.tokens))

            if completion.ignored:
                completion = _with_counted_prompt(request, completion)
                self.impossible[model.id] += 1
                self._impossible_example.setdefault(model.id, ", ".join(completion.ignored)[:100])

            # Price the tries and the completion itself.
            tries = []
            for attempt in completion.tries:
                tries.append(_price_attempt(attempt, reservation.worst, price))
            completion = completion._replace(cost=_completion_cost(completion, price))
            completion = completion._replace(tries=tuple(tries))

            # Spend both; tries that `record_failed` has already counted are not counted twice.
            token_count = completion.tokens.prompt + completion.tokens.completion
            used = Amount(token_count, to_picodollars(completion.cost or 0.0))
            all_tries = sum_amounts(_attempt_amount(attempt) for attempt in tries)
            self._add_spent(role, used.plus(all_tries.minus(reservation.failed_tries)))

            if reservation.is_active:
                self._add_reserved(role, reservation.worst, sign=-1)
                self._note_excess(role, model, used, reservation.worst)
            self._changed.notify_all()
        return completion

    def notes(self) -> list[str]:
        """What a run should report of servers that went beyond what a request allowed, or do not count tokens."""
        lines = self.excesses[:SHOWN_EXCESSES]
        further = len(self.excesses) - len(lines)
        if further:
            lines.append(f"… and {further:,} more calls went beyond what they were allowed")
        for model, count in self.uncounted.items():
            lines.append(
                f"{model} does not say what it uses: {count:,} answers are counted at the most they may have used"
            )
        for model, count in self.impossible.items():
            example = self._impossible_example[model]
            lines.append(
                f"{model} says numbers that can't be right ({example}), which are ignored: {count:,} answers"
            )
        for role, count in self.unpaid.items():
            lines.append(self._describe_unpaid(role, count))
        return lines

    def note_unpaid(self, role: str, count: int) -> None:
        """Count calls that were not paid for, where a run goes on without them."""
        with self._changed:
            self.unpaid[role] += count

    def _describe_unpaid(self, role: str, count: int) -> str:
        return (
            f"The budget ended before {count:,} calls of the {role}, and the run went on without them (when_spent: "
            f"train). The same command with --budget {self._larger_limit(role)} pays for them and trains again."
        )

    def spent_by_role(self) -> dict[str, Amount]:
        """What has been spent, by account; "" is the run."""
        with self._changed:
            return {**self._spent, WHOLE_RUN: self._accounts[WHOLE_RUN].spent}

    def reserved_by_role(self) -> dict[str, Amount]:
        """What calls under way may still cost, by account; "" is the run."""
        with self._changed:
            return {**self._reserved, WHOLE_RUN: self._accounts[WHOLE_RUN].reserved}

    def reserve_batch(self, role: str, model: Model, arm: str, requests: Sequence[Request]) -> bool:
        """Reserve a whole batch for a model that is not streamed, all of it or nothing; waits for other threads' calls.

        Each request is then settled, or all are given up with `release`.
        """
        while True:
            with self._changed:
                answer = self.try_reserve_batch(role, model, arm, requests)
                if answer != "wait":
                    return answer == "go"
                self._changed.wait()

    def try_reserve_batch(
        self, role: str, model: Model, arm: str, requests: Sequence[Request]
    ) -> Answer:
        """`reserve_batch` without waiting: "wait" while calls under way may free enough, "stop" if nothing can."""
        permit = self.permit(role, model, arm)
        with self._changed:
            answer: Answer = "go"
            for request in requests:
                answer = permit.reserve(request)
                if answer != "go":
                    break
            if answer == "go":
                return "go"
            # Part of the batch is reserved: give it back, or two threads could wait for each other's part.
            self.release(role, model, requests)
            if answer == "wait" and self._has_reservations():
                return "wait"
            worst = [_worst_case(request, model, permit.price) for request in requests]
            self._note_needed(role, sum_amounts(worst))
            return "stop"

    def release(self, role: str, model: Model, requests: Iterable[Request]) -> None:
        """Free the reservations of requests that were not sent after all."""
        with self._changed:
            for request in requests:
                reservation = self._reservations.pop((role, model.id, request), None)
                if reservation is None:
                    continue
                if reservation.is_active:
                    self._add_reserved(role, reservation.worst, sign=-1)
                if self._call_log:
                    self._call_log.withdraw_intents([request.key(model.id)])
            self._changed.notify_all()

    def spent_error(self, role: str, arm: str, done: int, total: int) -> BudgetSpent:
        """The error that ends a run at its limit: what is done, what is left, how to go on.

        Args:
            role: whose call was stopped.
            arm: of that call.
            done: completions of the call that are there.
            total: completions that it asked for.
        """
        name = self._binding_limit(role)
        whose = f"the budget of the {name}" if name else "the budget"
        spent = format_amount(self._accounts[name].spent, self._limit(name))
        larger = self._larger_limit(role)
        error = BudgetSpent(
            f"{whose} is spent: {spent}; the next call could exceed it. {arm}/{role}: {done:,} of {total:,} "
            f"completions of this call are there, {total - done:,} are left; what the run asks after it "
            "is not known yet",
            expected=f"room for the next call at its dearest; spent so far: {self._summarize_spent()}",
            fix=f"go on with a larger one: the same command with --budget {larger}",
        )
        error.larger = larger
        return error

    def _larger_limit(self, role: str) -> str:
        """The limit to ask for, as `--budget` reads it, so that a role's next call is paid."""
        name = self._binding_limit(role)
        needed = self._needed.get(name, self._accounts[name].spent)
        return suggest_limit(name, self._limit(name), needed)

    def _binding_limit(self, role: str) -> str:
        """The name of the limit that stopped a call; where both did, the one that is nearer to its end."""
        names = [name for name in limit_names(role) if self._limit(name)]
        # Only limits that refused a call: another one may be nearly spent and still have room for it.
        stopping = [name for name in names if name in self._needed]
        return max(
            stopping or names,
            key=lambda name: _share_of_limit(self._accounts[name]),
            default=WHOLE_RUN,
        )

    def _summarize_spent(self) -> str:
        parts = []
        for account, spent in sorted(self._spent.items()):
            if account != WHOLE_RUN and any(spent):
                parts.append(f"{account} {format_amount(spent)}")
        return "; ".join(parts) or "nothing"

    def _limit(self, name: str) -> Limit:
        return self.limits.get(name, NO_LIMIT)

    def _enter(self, permit: BudgetPermit, request: Request) -> Answer:
        """`BudgetPermit.reserve`: reserve the worst case, or say why not."""
        key = (permit.role, permit.model.id, request)
        with self._changed:
            reservation = self._reservations.get(key)
            # A retry of a call that failed: its reservation was kept for it.
            if reservation is not None and reservation.is_active:
                self._record_sending(permit, request, reservation)
                return "go"
            if permit.is_closed:
                return "stop"
            if reservation is None:
                reservation = _Reservation(_worst_case(request, permit.model, permit.price))

            # A call that does not fit even when every other one comes back for free will never fit.
            accounts = [self._accounts[name] for name in limit_names(permit.role)]
            worst = reservation.worst
            if not all(account.fits(worst, NOTHING) for account in accounts):
                permit.is_closed = True
                self._note_needed(permit.role, worst)
                return "stop"
            # It fits once calls under way have come back for less than their worst.
            if not all(account.fits(worst, account.reserved) for account in accounts):
                return "wait"

            reservation.is_active = True
            self._reservations[key] = reservation
            self._add_reserved(permit.role, worst, sign=1)
            self._record_sending(permit, request, reservation)
            return "go"

    def _record_failed(self, permit: BudgetPermit, request: Request, attempt: Attempt) -> None:
        """`BudgetPermit.record_failed_try`: spend what the try may have cost, and keep the reservation for the next."""
        key = (permit.role, permit.model.id, request)
        with self._changed:
            reservation = self._reservations.get(key)
            if reservation is None:
                worst = _worst_case(request, permit.model, permit.price)
                reservation = _Reservation(worst, is_active=False)
                self._reservations[key] = reservation
            used = _attempt_amount(_price_attempt(attempt, reservation.worst, permit.price))
            reservation.failed_tries = reservation.failed_tries.plus(used)
            if reservation.is_active:
                self._add_reserved(permit.role, reservation.worst, sign=-1)
            self._add_spent(permit.role, used)

            # The same request is tried again: it keeps a reservation if there is room for another try at its worst.
            accounts = [self._accounts[name] for name in limit_names(permit.role)]
            if reservation.is_active:
                reservation.is_active = all(
                    account.fits(reservation.worst, account.reserved) for account in accounts
                )
            if reservation.is_active:
                self._add_reserved(permit.role, reservation.worst, sign=1)

            # Nothing is on its way now: what a crash would leave open is what the failed tries have used.
            if self._call_log and any(reservation.failed_tries):
                self._record_intent(permit, request, reservation.failed_tries)
            elif self._call_log:
                self._call_log.withdraw_intents([request.key(permit.model.id)])
            self._changed.notify_all()

    def _record_sending(
        self, permit: BudgetPermit, request: Request, reservation: _Reservation
    ) -> None:
        # On disk before the call is sent: if this process dies, the next one counts the call at its worst.
        self._record_intent(permit, request, reservation.failed_tries.plus(reservation.worst))

    def _record_intent(self, permit: BudgetPermit, request: Request, amount: Amount) -> None:
        if not self._call_log:
            return
        model = permit.model.id
        intent = Intent(
            key=request.key(model),
            role=permit.role,
            arm=permit.arm,
            model=model,
            tokens=amount.tokens,
            cost=amount.money,
        )
        self._call_log.record_intents([intent])

    def _note_needed(self, role: str, worst: Amount) -> None:
        """Remember how large the limits would have had to be for these calls."""
        for name in limit_names(role):
            account = self._accounts[name]
            if not account.fits(worst, account.reserved):
                self._needed[name] = account.spent.plus(worst)

    def _has_reservations(self) -> bool:
        return any(any(account.reserved) for account in self._accounts.values())

    def _add_spent(self, role: str, amount: Amount) -> None:
        self._spent[role] = self._spent[role].plus(amount)
        for name in limit_names(role):
            self._accounts[name].spent = self._accounts[name].spent.plus(amount)

    def _add_reserved(self, role: str, amount: Amount, *, sign: int) -> None:
        change = Amount(sign * amount.tokens, sign * amount.picodollars)
        self._reserved[role] = self._reserved[role].plus(change)
        for name in limit_names(role):
            self._accounts[name].reserved = self._accounts[name].reserved.plus(change)

    def _note_excess(self, role: str, model: Model, used: Amount, worst: Amount) -> None:
        """Note a server that used or billed more than the request allowed: its limit may be overshot by that much."""
        # The amount is spent already; a run can only say so, and be stopped by the next call.
        excess = used.minus(worst)
        if any(excess):
            self.excesses.append(
                f"{role}: {model.id} went {format_amount(excess)} beyond what a request allowed"
            )


@final
class BudgetPermit:
    """`models.model.SpendingPermit` of one role's calls of one model in one arm."""

    def __init__(
        self, budget: Budget, role: str, model: Model, arm: str, price: Price | None
    ) -> None:
        """Made by `Budget.permit`."""
        self.role, self.model, self.arm, self.price = role, model, arm, price
        self.is_closed = False
        self._budget = budget

    def reserve(self, request: Request) -> Answer:
        """Reserve the most this call can cost; see `models.model.SpendingPermit`."""
        return self._budget._enter(self, request)

    def record_failed_try(self, request: Request, attempt: Attempt) -> None:
        """Spend what a failed try may have cost; see `models.model.SpendingPermit`."""
        self._budget._record_failed(self, request, attempt)


def _is_charged(model: Model) -> bool:
    """Whether somebody else's machine answers."""
    return bool(getattr(model, "priced", "")) and not getattr(model, "local", False)


def _worst_case(request: Request, model: Model, price: Price | None) -> Amount:
    """The most that one try of a request can use and cost."""
    prompt_tokens = prompt_token_bound(request)
    new_tokens = request.sampling.max_new_tokens
    if isinstance(request.sampling, scoring.TokenScoring):
        # Counted exactly; a server that tells of written tokens alone writes one for each that is scored.
        prompt_tokens = len(scoring.scored_token_ids(request))
        new_tokens = prompt_tokens - request.sampling.start
    elif scoring.is_scoring(request):
        prompt_tokens *= scoring.MAX_CALLS
        new_tokens *= scoring.MAX_CALLS
    total = prompt_tokens + new_tokens
    if price is None:
        return Amount(total)
    rate = float(getattr(model, "rate", 1.0))
    return Amount(total, to_picodollars(max_cost(price, prompt_tokens, new_tokens, rate)))


def _is_uncounted(request: Request, completion: Completion, model: Model) -> bool:
    """Whether a server gave a text, or scored one, and did not say what it used."""
    if not hasattr(model, "priced"):
        return False
    if scoring.is_scoring(request):
        has_scores = bool(completion.logprobs or completion.text)
        return has_scores and not completion.tokens.prompt
    return bool(completion.text) and not completion.tokens.completion


def _max_tokens(request: Request, reported: Tokens) -> Tokens:
    """The most that an uncounted answer can have used; a prompt that was counted is known."""
    prompt_tokens = reported.prompt or prompt_token_bound(request)
    return reported._replace(prompt=prompt_tokens, completion=request.sampling.max_new_tokens)


def _with_counted_prompt(request: Request, completion: Completion) -> Completion:
    """A completion whose count of prompt tokens can't be right, with the most that they can be."""
    tokens = completion.tokens
    is_missing = any(number.startswith("prompt") for number in completion.ignored)
    if not is_missing or tokens.prompt:
        return completion
    return completion._replace(tokens=tokens._replace(prompt=prompt_token_bound(request)))


def _completion_cost(completion: Completion, price: Price | None) -> float | None:
    if completion.cost is not None or price is None:
        return completion.cost
    return token_cost(price, completion.tokens, completion.rate)


def _price_attempt(attempt: Attempt, worst: Amount, price: Price | None) -> Attempt:
    """A try with its cost: as reported, or the worst case where nobody knows whether it was billed."""
    if not attempt.billed:
        return attempt
    cost = attempt.cost
    if attempt.tokens == NO_TOKENS:
        if cost is None and price:
            cost = worst.money
        return attempt._replace(tokens=Tokens(worst.tokens), cost=cost)
    if cost is None and price:
        cost = token_cost(price, attempt.tokens)
    return attempt._replace(cost=cost)


def _attempt_amount(attempt: Attempt) -> Amount:
    if not attempt.billed:
        return NOTHING
    token_count = attempt.tokens.prompt + attempt.tokens.completion
    return Amount(token_count, to_picodollars(attempt.cost or 0.0))


def _share_of_limit(account: _Account) -> float:
    """How much of a limit is used up; of tokens and money, whichever is nearer to its end."""
    shares = [0.0]
    if account.limit.tokens:
        shares.append(account.spent.tokens / account.limit.tokens)
    if account.limit.money:
        shares.append(account.spent.money / account.limit.money)
    return max(shares)
