"""The budget: limits of tokens and money, per role and per run, kept by reservation before a call leaves."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, final

from potstill.budget.amounts import (
    NOTHING,
    RUN,
    Amount,
    Intent,
    Limit,
    Spent,
    bound,
    in_coins,
    larger,
    told,
    total,
)
from potstill.budget.prices import Price, built_in, cost, most, price_of, unknown
from potstill.errors import BudgetSpent
from potstill.models.model import Attempt, Completion, Model, Request
from potstill.records import NO_TOKENS, Tokens


class Journal(Protocol):
    """Where what is under way is written down, so that a killed process's calls count on the next start.

    `store.attempts` is one.
    """

    def intend(self, intents: Sequence[Intent]) -> None:
        """Before calls leave: what each can use and cost; a second time under a key replaces the first."""
        ...

    def withdraw(self, keys: Sequence[str]) -> None:
        """Calls that left nothing to pay."""
        ...

    def adopt(self) -> int:
        """Count the calls that a dead process left open at their worst, and return how many."""
        ...

    def spent(self) -> Mapping[str, Spent]:
        """By role, what has been paid."""
        ...


@dataclass(slots=True)
class _Hold:
    """What one request has reserved, and what its tries that came to nothing have used."""

    worst: Amount
    reserved: bool = True
    lost: Amount = NOTHING


@dataclass(slots=True)
class _Account:
    spent: Amount = NOTHING
    reserved: Amount = NOTHING
    limit: Limit = field(default_factory=Limit)

    def fits(self, worst: Amount, reserved: Amount) -> bool:
        """Whether the worst case stays within the limit, with this much reserved by others."""
        tokens = self.spent.tokens + reserved.tokens + worst.tokens
        coins = self.spent.coins + reserved.coins + worst.coins
        limit = self.limit
        return not (limit.tokens and tokens > limit.tokens) and not (
            limit.money and coins > in_coins(limit.money)
        )


@final
class Budget:
    """What a run may spend and has spent. Threads share it.

    Before a call leaves, the most it can use and cost is reserved; when it is back, what it really used is spent and
    the rest is free again. So spent and reserved together never exceed a limit.
    """

    def __init__(
        self,
        limits: Mapping[str, Limit] | None = None,
        *,
        prices: Mapping[str, Price] | None = None,
        spent: Mapping[str, Amount] | None = None,
        journal: Journal | None = None,
    ) -> None:
        """Begin with what was spent before.

        Args:
            limits: by role; "" is the whole run.
            prices: the user's, by model name; they go over those that come with potstill.
            spent: by role, what this run folder has paid for so far.
            journal: where calls under way are written down, if there are limits.
        """
        self._own = dict(prices or {})
        self.table = {**built_in(), **self._own}
        self.limits = {name: limit for name, limit in (limits or {}).items() if any(limit)}
        self._needed: dict[
            str, Amount
        ] = {}  # of a limit that stopped a call: what it would have had to be
        self.over: list[str] = []  # servers that used or billed more than they were allowed to
        self.unpaid: Counter[str] = Counter()  # calls that a run went on without, by role
        self.uncounted: Counter[str] = Counter()  # answers without token counts, by model
        self._journal = journal if self.limits else None
        self._changed = threading.Condition()
        self._holds: dict[tuple[str, str, Request], _Hold] = {}
        self._accounts: defaultdict[str, _Account] = defaultdict(_Account)
        for name, limit in self.limits.items():
            self._accounts[name].limit = limit
        for role, amount in (spent or {}).items():
            self._spend(role, amount)

    @classmethod
    def of(
        cls, attempts: Journal, limits: Mapping[str, Limit], prices: Mapping[str, Price]
    ) -> Budget:
        """The budget of a run folder: calls that a killed process left open count as paid at their worst."""
        attempts.adopt()
        spent = {
            role: Amount(paid.tokens, in_coins(paid.cost))
            for role, paid in attempts.spent().items()
        }
        return cls(limits, prices=prices, spent=spent, journal=attempts)

    @property
    def limited(self) -> bool:
        """Whether there is any limit."""
        return bool(self.limits)

    def gate(self, role: str, model: Model, arm: str) -> BudgetGate:
        """Leave to spend for a role's calls of a model; refuses a limit of money on a model without a price.

        The first request that can't be paid shuts the gate for all that come after it, so that what is left undone
        does not depend on how long a request is. A new call takes a new gate.
        """
        price = self.price(model)
        if (
            price is None
            and _charged(model)
            and any(self._limit(name).money for name in (RUN, role))
        ):
            raise unknown(getattr(model, "priced", model.id), self.table)
        return BudgetGate(self, role, model, arm, price)

    def price(self, model: Model) -> Price | None:
        """The price of a model; one that runs on this machine costs what the user says, else nothing."""
        table = self.table if _charged(model) else self._own
        return price_of(getattr(model, "priced", "") or model.id, table) if table else None

    def settle(
        self, role: str, model: Model, request: Request, completion: Completion
    ) -> Completion:
        """Spend what a completion used, free the rest of its reservation, and return it with its cost filled in."""
        price = self.price(model)
        key = (role, model.id, request)
        with self._changed:
            hold = self._holds.pop(key, None)
            worst = hold.worst if hold else _worst(request, model, price)
            if _uncounted(completion, model):
                self.uncounted[model.id] += 1
                completion = completion._replace(tokens=_most(request, completion.tokens))
            tries = tuple(_tried(attempt, worst, price) for attempt in completion.tries)
            done = completion._replace(cost=_cost(completion, price), tries=tries)
            told = hold.lost if hold else NOTHING
            used = Amount(done.tokens.prompt + done.tokens.completion, in_coins(done.cost or 0.0))
            self._spend(role, used.plus(total(_amount(attempt) for attempt in tries).less(told)))
            if hold and hold.reserved:
                self._reserve(role, hold.worst, -1)
                self._watch(role, model, used, hold.worst)
            self._changed.notify_all()
        return done

    def notes(self) -> list[str]:
        """What a run should say of servers that went beyond what a request allowed, or do not count."""
        more = (
            [f"… and {len(self.over) - 3:,} more calls went beyond what they were allowed"]
            if self.over[3:]
            else []
        )
        silent = [_silent(*found) for found in self.uncounted.items()]
        return [
            *self.over[:3],
            *more,
            *silent,
            *(self._forgone(*found) for found in self.unpaid.items()),
        ]

    def forgo(self, role: str, count: int) -> None:
        """Note calls that were not paid for, where a run goes on without them."""
        with self._changed:
            self.unpaid[role] += count

    def _forgone(self, role: str, count: int) -> str:
        name = self._binding(role)
        more = larger(name, self._limit(name), self._needed.get(name, self._accounts[name].spent))
        return (
            f"The budget ended before {count:,} calls of the {role}, and the run went on without them (when_spent: "
            f"train). The same command with --budget {more} pays for them and trains again."
        )

    def spent(self) -> dict[str, Amount]:
        """What has been spent, by role; "" is the run."""
        with self._changed:
            return {name: account.spent for name, account in self._accounts.items()}

    def reserved(self) -> dict[str, Amount]:
        """What calls under way may still cost, by role; "" is the run."""
        with self._changed:
            return {name: account.reserved for name, account in self._accounts.items()}

    def hold(self, role: str, model: Model, arm: str, requests: Sequence[Request]) -> bool:
        """Reserve a whole batch for a model that is not streamed, all of it or nothing; waits for other threads' calls.

        Each request is then settled, or all are given up with `release`.
        """
        gate = self.gate(role, model, arm)
        while True:
            with self._changed:
                answers: list[str] = []
                for request in requests:
                    answers.append(gate.enter(request))
                    if answers[-1] != "go":
                        break
                if all(answer == "go" for answer in answers):
                    return True
                self.release(role, model, requests)
                if answers[-1] == "stop" or not self._others():
                    self._refused(
                        role, total(_worst(request, model, gate.price) for request in requests)
                    )
                    return False
                self._changed.wait()

    def release(self, role: str, model: Model, requests: Iterable[Request]) -> None:
        """Free the reservations of requests that were not sent after all."""
        with self._changed:
            for request in requests:
                hold = self._holds.pop((role, model.id, request), None)
                if hold and hold.reserved:
                    self._reserve(role, hold.worst, -1)
                if hold and self._journal:
                    self._journal.withdraw([request.key(model.id)])
            self._changed.notify_all()

    def stopped(self, role: str, arm: str, done: int, asked: int) -> BudgetSpent:
        """The error that ends a run at its limit: what is done, what is left, how to go on."""
        name = self._binding(role)
        limit, spent = self._limit(name), self._accounts[name].spent
        more = larger(name, limit, self._needed.get(name, spent))
        whose = f"the budget of the {name}" if name else "the budget"
        error = BudgetSpent(
            f"{whose} is spent: {told(spent, limit)}; the next call could exceed it. {arm}/{role}: {done:,} of "
            f"{asked:,} completions of this call are there, {asked - done:,} are left; what the run asks after it is "
            "not known yet",
            expected=f"room for the next call at its dearest; spent so far: {self._summary()}",
            fix=f"go on with a larger one: the same command with --budget {more}",
        )
        error.larger = more
        return error

    def _binding(self, role: str) -> str:
        """The limit that stopped a call; where both did, the one that is nearer to its end."""
        names = [name for name in (role, RUN) if any(self._limit(name))]
        stopping = [name for name in names if name in self._needed]
        return max(stopping or names, key=lambda name: _share(self._accounts[name]), default=RUN)

    def _summary(self) -> str:
        roles = [
            f"{n} {told(a.spent)}" for n, a in sorted(self._accounts.items()) if n and any(a.spent)
        ]
        return "; ".join(roles) or "nothing"

    def _limit(self, name: str) -> Limit:
        return self.limits.get(name, Limit())

    def _enter(self, gate: BudgetGate, request: Request) -> Literal["go", "wait", "stop"]:
        key = (gate.role, gate.model.id, request)
        with self._changed:
            hold = self._holds.get(key)
            if hold is not None and hold.reserved:
                self._leave(gate, request, hold)
                return "go"
            if gate.shut:
                return "stop"
            worst = hold.worst if hold else _worst(request, gate.model, gate.price)
            accounts = [self._accounts[name] for name in (RUN, gate.role)]
            if not all(account.fits(worst, NOTHING) for account in accounts):
                gate.shut = True
                self._refused(gate.role, worst)
                return "stop"
            if not all(account.fits(worst, account.reserved) for account in accounts):
                return "wait"
            hold = self._holds.setdefault(key, _Hold(worst))
            hold.reserved = True
            self._reserve(gate.role, worst, 1)
            self._leave(gate, request, hold)
            return "go"

    def _lost(self, gate: BudgetGate, request: Request, attempt: Attempt) -> None:
        key = (gate.role, gate.model.id, request)
        with self._changed:
            hold = self._holds.get(key)
            if hold is None:
                hold = self._holds[key] = _Hold(
                    _worst(request, gate.model, gate.price), reserved=False
                )
            used = _amount(_tried(attempt, hold.worst, gate.price))
            hold.lost = hold.lost.plus(used)
            if hold.reserved:
                self._reserve(gate.role, hold.worst, -1)
            self._spend(gate.role, used)
            # The same request is tried again: it keeps a reservation if there is room for another try at its worst.
            accounts = [self._accounts[name] for name in (RUN, gate.role)]
            hold.reserved = hold.reserved and all(a.fits(hold.worst, a.reserved) for a in accounts)
            if hold.reserved:
                self._reserve(gate.role, hold.worst, 1)
            if self._journal and any(hold.lost):
                self._write(gate, request, hold.lost)
            elif self._journal:
                self._journal.withdraw([request.key(gate.model.id)])
            self._changed.notify_all()

    def _leave(self, gate: BudgetGate, request: Request, hold: _Hold) -> None:
        self._write(gate, request, hold.lost.plus(hold.worst))

    def _write(self, gate: BudgetGate, request: Request, amount: Amount) -> None:
        if self._journal:
            key, model = request.key(gate.model.id), gate.model.id
            self._journal.intend(
                [Intent(key, gate.role, gate.arm, model, amount.tokens, amount.money)]
            )

    def _refused(self, role: str, worst: Amount) -> None:
        """Remember what the limits would have had to be for these calls."""
        for name in (RUN, role):
            account = self._accounts[name]
            if not account.fits(worst, account.reserved):
                self._needed[name] = account.spent.plus(worst)

    def _others(self) -> bool:
        return any(any(account.reserved) for account in self._accounts.values())

    def _spend(self, role: str, amount: Amount) -> None:
        for name in {RUN, role}:
            self._accounts[name].spent = self._accounts[name].spent.plus(amount)

    def _reserve(self, role: str, amount: Amount, sign: int) -> None:
        change = Amount(sign * amount.tokens, sign * amount.coins)
        for name in {RUN, role}:
            self._accounts[name].reserved = self._accounts[name].reserved.plus(change)

    def _watch(self, role: str, model: Model, used: Amount, worst: Amount) -> None:
        """Note a server that used or billed more than the request allowed: its limit may be overshot by that much."""
        excess = used.less(worst)
        if any(excess):
            self.over.append(
                f"{role}: {model.id} went {told(excess)} beyond what a request allowed"
            )


@final
class BudgetGate:
    """`models.model.Gate` of one role's calls of one model in one arm."""

    def __init__(
        self, budget: Budget, role: str, model: Model, arm: str, price: Price | None
    ) -> None:
        """Made by `Budget.gate`."""
        self.role, self.model, self.arm, self.price = role, model, arm, price
        self.shut = False
        self._budget = budget

    def enter(self, request: Request) -> Literal["go", "wait", "stop"]:
        """Reserve the most this call can cost; see `models.model.Gate`."""
        return self._budget._enter(self, request)

    def lost(self, request: Request, attempt: Attempt) -> None:
        """A try came to nothing; what it may have cost is spent."""
        self._budget._lost(self, request, attempt)


def _charged(model: Model) -> bool:
    """Whether somebody else's machine answers."""
    return bool(getattr(model, "priced", "")) and not getattr(model, "local", False)


def _worst(request: Request, model: Model, price: Price | None) -> Amount:
    """The most that one try of a request can use and cost."""
    prompt, completion = bound(request), request.sampling.max_tokens
    rate = float(getattr(model, "rate", 1.0))
    return Amount(
        prompt + completion, in_coins(most(price, prompt, completion, rate)) if price else 0
    )


def _uncounted(completion: Completion, model: Model) -> bool:
    """Whether a server gave a text and did not say what it used."""
    return bool(completion.text) and not completion.tokens.completion and hasattr(model, "priced")


def _most(request: Request, said: Tokens) -> Tokens:
    """The most that an uncounted answer can have used; a prompt that was counted is known."""
    return said._replace(
        prompt=said.prompt or bound(request), completion=request.sampling.max_tokens
    )


def _silent(model: str, answers: int) -> str:
    return f"{model} does not say what it uses: {answers:,} answers are counted at the most they may have used"


def _cost(completion: Completion, price: Price | None) -> float | None:
    if completion.cost is not None or price is None:
        return completion.cost
    return cost(price, completion.tokens, completion.rate)


def _tried(attempt: Attempt, worst: Amount, price: Price | None) -> Attempt:
    """A try with what it used: what it says, or its worst case where nobody knows whether it was billed."""
    if not attempt.billed:
        return attempt
    if attempt.tokens == NO_TOKENS:
        paid = worst.money if price and attempt.cost is None else attempt.cost
        return attempt._replace(tokens=Tokens(worst.tokens), cost=paid)
    known = (
        attempt.cost if attempt.cost is not None else cost(price, attempt.tokens) if price else None
    )
    return attempt._replace(cost=known)


def _amount(attempt: Attempt) -> Amount:
    if not attempt.billed:
        return NOTHING
    return Amount(attempt.tokens.prompt + attempt.tokens.completion, in_coins(attempt.cost or 0.0))


def _share(account: _Account) -> float:
    limit, spent = account.limit, account.spent
    shares = [spent.tokens / limit.tokens] if limit.tokens else []
    return max(shares + ([spent.money / limit.money] if limit.money else []), default=0.0)
