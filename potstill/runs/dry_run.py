"""What a run will ask and cost, before anything is paid: the method is driven with stand-ins that only count.

With a pilot the real models answer a few problems of the run, in the run's own store, and what they measured takes the
place of the assumptions; the run that follows pays for nothing twice.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, final

from potstill.errors import ConfigError, StageError
from potstill.methods.catalogue import find_method
from potstill.models.model import Completion, Request
from potstill.records import Stage, Tokens, Trace
from potstill.runs.driver import drive
from potstill.runs.recipe import Arm, Recipe
from potstill.traces import Session, using

DRY = 24  # problems that stand-ins are driven on at most
ANSWER = "1000003"  # what a stand-in writes where it is right: no wrong one writes it


@dataclass(frozen=True, slots=True)
class Assumptions:
    """What nobody can know before a call; each can be set with `--assume NAME=VALUE`, for one role as ROLE.NAME.

    Args:
        right: share of completions that are right.
        chars: characters a token.
        completion: tokens of a completion; never more than its limit.
    """

    right: float = 0.5
    chars: float = 4.0
    completion: float = 1000.0

    def __post_init__(self) -> None:
        """Refuse what no model does."""
        if not 0 <= self.right <= 1 or min(self.chars, self.completion) <= 0:
            raise ConfigError(
                f"assumptions: right={self.right}, chars={self.chars}, completion={self.completion}",
                expected="right from 0 to 1, chars and completion above 0",
                fix="--assume right=0.5 --assume teacher.completion=2000",
            )


def assumed(texts: Mapping[str, str]) -> dict[str, Assumptions]:
    """Assumptions by role from `NAME` or `ROLE.NAME` and values; "" is every role that has none of its own."""
    known = [f.name for f in dataclasses.fields(Assumptions)]
    given: dict[str, dict[str, float]] = {"": {}}
    for key, text in texts.items():
        role, _, name = key.rpartition(".")
        if name not in known:
            raise ConfigError(f"nothing is assumed about {key!r}", available=known, wanted=name)
        try:
            given.setdefault(role, {})[name] = float(text)
        except ValueError:
            raise ConfigError(
                f"--assume {key}={text}: not a number", fix=f"--assume {key}=0.5"
            ) from None
    return {role: Assumptions(**{**given[""], **own}) for role, own in given.items()}


@dataclass(slots=True)
class Asked:
    """What one role was asked: distinct calls, and one entry a call of what each needed."""

    prompts: list[float] = field(default_factory=list)
    completions: list[float] = field(default_factory=list)
    most: list[float] = field(default_factory=list)
    costs: list[float | None] = field(default_factory=list)
    cached: float = 0.0

    @property
    def calls(self) -> int:
        """Distinct calls."""
        return len(self.prompts)


class Driven(NamedTuple):
    """What driving the arms showed: by role what was asked, by arm the rows and their mean tokens."""

    asked: Mapping[str, Asked]
    rows: Mapping[str, tuple[int, float]]
    rights: Mapping[str, Mapping[str, list[bool]]]
    share: float


@final
class StandIn:
    """A writer that answers nothing: right or wrong by a hash at the assumed share, as long as assumed; it counts."""

    def __init__(
        self, role: str, assume: Assumptions, asked: Asked, seen: set[str], weights: Path
    ) -> None:
        """Count into `asked` what is not among `seen`."""
        self.id, self.weights = f"plan-{role}", weights
        self._assume, self._asked, self._seen = assume, asked, seen
        self._lock = threading.Lock()

    def write(self, requests: Sequence[Request]) -> list[Completion]:
        """A made-up completion a request."""
        return [self._one(request) for request in requests]

    def likelihood(self, pairs: Sequence[tuple[Any, str]]) -> list[list[float]]:
        """Made-up scores, one a word."""
        return [[-1.0] * max(1, len(text.split())) for _, text in pairs]

    def _one(self, request: Request) -> Completion:
        key = request.key(self.id)
        chance = int(hashlib.sha256(key.encode()).hexdigest()[:8], 16) / 16**8
        prompt = characters(request) / self._assume.chars
        tokens = min(self._assume.completion, request.sampling.max_tokens)
        with self._lock:
            if key not in self._seen:
                self._seen.add(key)
                self._asked.prompts.append(prompt)
                self._asked.completions.append(tokens)
                self._asked.most.append(request.sampling.max_tokens)
                self._asked.costs.append(None)
        number = ANSWER if chance < self._assume.right else str(int(chance * 1000))
        text = (
            filler(key, int(tokens * self._assume.chars)) + f" The answer is \\boxed{{{number}}}."
        )
        return Completion(text, "stop", Tokens(math.ceil(prompt), math.ceil(tokens)))


def characters(request: Request) -> int:
    """How long a prompt is, the given beginning of the answer included."""
    prompt = request.prompt
    texts = [prompt] if isinstance(prompt, str) else [message.content for message in prompt]
    return sum(map(len, texts)) + len(request.prefix)


def filler(key: str, size: int) -> str:
    """Text of about this many characters that never repeats itself."""
    words = (f"{key[-6:]}{i}" for i in range(size // 8 + 1))
    return " ".join(words)[: max(0, size - 30)]


def chosen(problems: Sequence[Trace], count: int) -> list[Trace]:
    """So many problems, chosen by hash and kept in their order: no part of the file is preferred."""
    ranked = sorted(problems, key=lambda t: hashlib.sha256(t.problem.id.encode()).hexdigest())
    taken = {t.id for t in ranked[:count]}
    return [t for t in problems if t.id in taken]


def dry(recipe: Recipe, problems: Sequence[Trace], assume: Mapping[str, Assumptions]) -> Driven:
    """Drive every arm with stand-ins on a few of the problems."""
    some = [_judged_by_number(t) for t in chosen(problems, DRY)]
    asked: dict[str, Asked] = {}
    seen: set[str] = set()
    rows: dict[str, tuple[int, float]] = {}
    for name, arm in recipe.arms.items():
        roles = {
            role: StandIn(
                role,
                assume.get(role, assume[""]),
                asked.setdefault(role, Asked()),
                seen,
                Path(name),
            )
            for role, spec in recipe.roles.items()
            if spec and role in roles_of(arm)
        }
        rows[name] = driven(arm, some, roles, values=_unstepped(arm))
    return Driven(asked, rows, {}, len(some) / len(problems))


def driven(
    arm: Arm, problems: Sequence[Trace], roles: Mapping[str, Any], *, values: Mapping[str, Any]
) -> tuple[int, float]:
    """Drive a method up to its first stage: how many rows it would train, and of how many tokens."""
    reached: list[Stage] = []

    def train(stage: Stage) -> Any:
        reached.append(stage)
        raise _Reached

    try:
        drive(find_method(arm.method), list(problems), roles, values, train)
    except StageError:
        return 0, 0.0  # no row passed: what was asked still counts
    except _Reached:
        lengths = [len(str(row.prompt)) / 4 + row.tokens.completion for row in reached[0].rows]
        return len(lengths), sum(lengths) / len(lengths)
    return 0, 0.0


class _Reached(Exception):
    """The first stage is there: what it would train is known."""


def roles_of(arm: Arm) -> list[str]:
    """The roles in a method's signature."""
    from potstill.methods.catalogue import entry

    return [role.name for role in entry(arm.method).roles]


def _judged_by_number(trace: Trace) -> Trace:
    """The same problem with an answer that a stand-in can be right about."""
    problem = dataclasses.replace(
        trace.problem, kind="number", answer=ANSWER, solution=trace.problem.solution
    )
    return dataclasses.replace(trace, problem=problem)


def _unstepped(arm: Arm) -> dict[str, Any]:
    """An arm's values without step verification: a stand-in's steps are as right as its answer."""
    return {name: value for name, value in arm.values.items() if name != "steps"}


@final
class Meter:
    """A real model with a count beside it; it can do all that the model can."""

    def __init__(self, inner: Any, asked: Asked) -> None:
        """Count what `inner` is asked."""
        self._inner, self._asked = inner, asked
        self._seen: set[str] = set()
        self._lock = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    @property
    def id(self) -> str:
        """The model's id."""
        found: str = self._inner.id
        return found

    def write(self, requests: Sequence[Request]) -> list[Completion]:
        """The model's completions; what each needed is noted once."""
        made: list[Completion] = self._inner.write(requests)
        with self._lock:
            for request, done in zip(requests, made, strict=True):
                key = request.key(self.id)
                if key not in self._seen:
                    self._seen.add(key)
                    self._asked.prompts.append(done.tokens.prompt)
                    self._asked.completions.append(done.tokens.completion)
                    self._asked.most.append(request.sampling.max_tokens)
                    self._asked.costs.append(done.cost)
        return made


@final
class Marks:
    """A ledger that keeps, by operator and author, which problem's texts were right."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.traces: dict[str, Trace] = {}
        self._lock = threading.Lock()

    def add_traces(self, traces: Sequence[Trace]) -> None:
        """Keep the latest state of each trace."""
        with self._lock:
            self.traces.update((trace.id, trace) for trace in traces)

    def add_drops(self, drops: Sequence[Any]) -> None:
        """Not counted: what was dropped was judged before."""

    def add_step(self, operator: str, label: str, taken: int, returned: int) -> None:
        """Not counted."""

    def rights(self, roles: Mapping[str, str]) -> dict[str, dict[str, list[bool]]]:
        """By `operator by role` and problem: whether each judged text was right; `roles` are by model id."""
        found: dict[str, dict[str, list[bool]]] = {}
        for trace in self.traces.values():
            if trace.author and trace.verdict.status != "unjudged":
                name = f"{trace.operator} by {roles.get(trace.author.model, 'a model')}"
                marks = found.setdefault(name, {}).setdefault(trace.problem.id, [])
                marks.append(trace.verdict.status == "right")
        return found


def pilot(
    recipe: Recipe,
    problems: Sequence[Trace],
    count: int,
    wrapped: Callable[[str, str], Any],
    session: Callable[[Any, str], Session],
) -> Driven:
    """Let the real models answer for a few problems.

    Args:
        recipe: of the run.
        problems: all of them.
        count: how many to take.
        wrapped: the stored model of a (role, arm).
        session: what the operators of an arm report to, given a ledger.
    """
    some = chosen(problems, count)
    asked: dict[str, Asked] = {}
    rows: dict[str, tuple[int, float]] = {}
    marks, names = Marks(), dict[str, str]()
    for name, arm in recipe.arms.items():
        given = [role for role in roles_of(arm) if recipe.roles.get(role)]
        roles = {
            role: Meter(wrapped(role, name), asked.setdefault(role, Asked())) for role in given
        }
        names |= {model.id: role for role, model in roles.items()}
        with using(session(marks, name)):
            rows[name] = driven(arm, some, roles, values=arm.values)
    return Driven(asked, rows, marks.rights(names), len(some) / len(problems))
