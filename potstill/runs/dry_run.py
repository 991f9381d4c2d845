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
from potstill.methods.catalogue import find_method, method_entry
from potstill.methods.roles import fill_roles, role_of
from potstill.models.model import Completion, Request
from potstill.records import Stage, Tokens, Trace
from potstill.runs.driver import drive
from potstill.runs.recipe import Arm, Recipe
from potstill.traces import Session, using

DRY_PROBLEMS = 24  # problems that stand-ins are driven on at most
RIGHT_ANSWER = "1000003"  # what a stand-in writes where it is right: no wrong one writes it


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


def parse_assumptions(texts: Mapping[str, str]) -> dict[str, Assumptions]:
    """Assumptions by role from `NAME` or `ROLE.NAME` and values; "" is every role that has none of its own."""
    names = [field.name for field in dataclasses.fields(Assumptions)]
    values_by_role: dict[str, dict[str, float]] = {"": {}}
    for key, text in texts.items():
        role, _, name = key.rpartition(".")
        if name not in names:
            raise ConfigError(f"nothing is assumed about {key!r}", available=names, wanted=name)
        try:
            value = float(text)
        except ValueError:
            raise ConfigError(
                f"--assume {key}={text}: not a number", fix=f"--assume {key}=0.5"
            ) from None
        values_by_role.setdefault(role, {})[name] = value
    general = values_by_role[""]
    assumptions: dict[str, Assumptions] = {}
    for role, values in values_by_role.items():
        assumptions[role] = Assumptions(**{**general, **values})
    return assumptions


@dataclass(slots=True)
class RoleCalls:
    """The distinct calls of one role: one entry a call of its prompt, completion, limit and cost."""

    prompts: list[float] = field(default_factory=list)
    completions: list[float] = field(default_factory=list)
    max_completions: list[float] = field(default_factory=list)
    costs: list[float | None] = field(default_factory=list)

    @property
    def calls(self) -> int:
        """How many distinct calls there are."""
        return len(self.prompts)

    def add(self, prompt: float, completion: float, limit: float, cost: float | None) -> None:
        """Count a call: tokens of its prompt and completion, the limit of the completion, and what it cost."""
        self.prompts.append(prompt)
        self.completions.append(completion)
        self.max_completions.append(limit)
        self.costs.append(cost)


class RowEstimate(NamedTuple):
    """How many rows an arm's first stage has, of how many tokens; `stopped` says why there is no stage."""

    rows: int
    mean_tokens: float
    stopped: str = ""


class DriveResult(NamedTuple):
    """What driving the arms on a share of the problems showed.

    Args:
        calls: by role.
        rows: by arm.
        rights: by `operator by role` and problem, whether each judged text was right.
        share: of the problems that the arms were driven on.
    """

    calls: Mapping[str, RoleCalls]
    rows: Mapping[str, RowEstimate]
    rights: Mapping[str, Mapping[str, list[bool]]]
    share: float


@final
class StandIn:
    """A writer of made-up answers, right or wrong by a hash at the assumed share; it counts its calls."""

    def __init__(
        self, role: str, assume: Assumptions, calls: RoleCalls, counted: set[str], weights: Path
    ) -> None:
        """Count into `calls` the requests whose keys are not among `counted`."""
        self.id, self.weights = f"plan-{role}", weights
        self._assume, self._calls, self._counted = assume, calls, counted
        self._lock = threading.Lock()

    def write(self, requests: Sequence[Request]) -> list[Completion]:
        """A made-up completion a request."""
        return [self._complete(request) for request in requests]

    def likelihood(self, pairs: Sequence[tuple[Any, str]]) -> list[list[float]]:
        """Made-up scores, one a word."""
        return [[-1.0] * max(1, len(text.split())) for _, text in pairs]

    def _complete(self, request: Request) -> Completion:
        key = request.key(self.id)
        prompt_tokens = count_prompt_chars(request) / self._assume.chars
        tokens = min(self._assume.completion, request.sampling.max_new_tokens)
        with self._lock:
            if key not in self._counted:
                self._counted.add(key)
                self._calls.add(prompt_tokens, tokens, request.sampling.max_new_tokens, None)

        # A number in [0, 1) that depends on the request alone decides whether the answer is right.
        chance = int(hashlib.sha256(key.encode()).hexdigest()[:8], 16) / 16**8
        number = RIGHT_ANSWER if chance < self._assume.right else str(int(chance * 1000))
        filler = filler_text(key, int(tokens * self._assume.chars))
        return Completion(
            f"{filler} The answer is \\boxed{{{number}}}.",
            "stop",
            Tokens(math.ceil(prompt_tokens), math.ceil(tokens)),
        )


def count_prompt_chars(request: Request) -> int:
    """How long a prompt is, the given beginning of the answer included."""
    prompt = request.prompt
    if isinstance(prompt, str):
        return len(prompt) + len(request.prefix)
    return sum(len(message.content) for message in prompt) + len(request.prefix)


def filler_text(key: str, size: int) -> str:
    """Text of about this many characters that never repeats itself."""
    words = (f"{key[-6:]}{i}" for i in range(size // 8 + 1))
    return " ".join(words)[: max(0, size - 30)]


def choose_problems(problems: Sequence[Trace], count: int) -> list[Trace]:
    """So many problems, chosen by hash and kept in their order: no part of the file is preferred."""
    # A larger choice holds the smaller one: what a small pilot paid for, a larger one does not pay again.
    ranked = sorted(problems, key=lambda t: hashlib.sha256(t.problem.id.encode()).hexdigest())
    chosen_ids = {trace.id for trace in ranked[:count]}
    return [trace for trace in problems if trace.id in chosen_ids]


def drive_with_stand_ins(
    recipe: Recipe, problems: Sequence[Trace], assume: Mapping[str, Assumptions]
) -> DriveResult:
    """Drive every arm with stand-ins on a few of the problems."""
    # A few problems are enough: counts are scaled up, and equal calls are counted once.
    sample = [with_number_answer(trace) for trace in choose_problems(problems, DRY_PROBLEMS)]
    calls: dict[str, RoleCalls] = {}
    counted: set[str] = set()
    rows: dict[str, RowEstimate] = {}
    for name, arm in recipe.arms.items():
        roles: dict[str, StandIn] = {}
        for role in filled_roles(recipe, arm):
            role_calls = calls.setdefault(role, RoleCalls())
            assumptions = assume.get(role, assume[""])
            roles[role] = StandIn(role, assumptions, role_calls, counted, Path(name))
        rows[name] = drive_to_first_stage(arm, sample, roles, values=without_step_checks(arm))
    return DriveResult(calls, rows, {}, len(sample) / len(problems))


class _FirstStage(Exception):
    """The first stage is there: what it would train is known."""

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self.stage = stage


def drive_to_first_stage(
    arm: Arm, problems: Sequence[Trace], roles: Mapping[str, Any], *, values: Mapping[str, Any]
) -> RowEstimate:
    """Drive a method up to its first stage: how many rows it would train, and of how many tokens."""

    def stop_at(stage: Stage) -> Any:
        raise _FirstStage(stage)

    filled = fill_roles(method_entry(arm.method).roles, roles)
    try:
        drive(find_method(arm.method), list(problems), filled, values, stop_at)
    except StageError as error:
        return RowEstimate(0, 0.0, stopped=error.found)  # what was asked still counts
    except _FirstStage as reached:
        lengths: list[float] = []
        for row in reached.stage.rows:
            lengths.append(len(str(row.prompt)) / 4 + row.tokens.completion)
        return RowEstimate(len(lengths), sum(lengths) / len(lengths))
    return RowEstimate(0, 0.0)


def filled_roles(recipe: Recipe, arm: Arm) -> list[str]:
    """The keys of the roles in a method's signature that the recipe fills with a model."""
    names = [role.name for role in method_entry(arm.method).roles]
    return [key for key, spec in recipe.roles.items() if spec and role_of(key) in names]


def with_number_answer(trace: Trace) -> Trace:
    """The same problem with an answer that a stand-in can be right about."""
    problem = dataclasses.replace(trace.problem, kind="number", answer=RIGHT_ANSWER)
    return dataclasses.replace(trace, problem=problem)


def without_step_checks(arm: Arm) -> dict[str, Any]:
    """An arm's values without step verification: a stand-in's steps are as right as its answer."""
    return {name: value for name, value in arm.values.items() if name != "steps"}


@final
class MeteredModel:
    """A real model whose calls are counted; it can do all that the model can."""

    def __init__(self, inner: Any, calls: RoleCalls) -> None:
        """Count what `inner` is asked."""
        self._inner, self._calls = inner, calls
        self._counted: set[str] = set()
        self._lock = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    @property
    def id(self) -> str:
        """The model's id."""
        model_id: str = self._inner.id
        return model_id

    def write(self, requests: Sequence[Request]) -> list[Completion]:
        """The model's completions; what each needed is noted once."""
        completions: list[Completion] = self._inner.write(requests)
        with self._lock:
            for request, completion in zip(requests, completions, strict=True):
                key = request.key(self.id)
                if key not in self._counted:
                    self._counted.add(key)
                    tokens = completion.tokens
                    limit = request.sampling.max_new_tokens
                    self._calls.add(tokens.prompt, tokens.completion, limit, completion.cost)
        return completions


@final
class VerdictLedger:
    """A ledger that keeps the latest state of each trace, to count how many texts were right."""

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
        rights: dict[str, dict[str, list[bool]]] = {}
        for trace in self.traces.values():
            if trace.author and trace.verdict.status != "unjudged":
                writer = f"{trace.operator} by {roles.get(trace.author.model, 'a model')}"
                by_problem = rights.setdefault(writer, {})
                by_problem.setdefault(trace.problem.id, []).append(trace.verdict.status == "right")
        return rights


def drive_pilot(
    recipe: Recipe,
    problems: Sequence[Trace],
    count: int,
    wrapped: Callable[[str, str], Any],
    session: Callable[[Any, str], Session],
) -> DriveResult:
    """Let the real models answer for a few problems.

    Args:
        recipe: of the run.
        problems: all of them.
        count: how many to take.
        wrapped: the stored model of a (role, arm).
        session: what the operators of an arm report to, given a ledger.
    """
    sample = choose_problems(problems, count)
    calls: dict[str, RoleCalls] = {}
    rows: dict[str, RowEstimate] = {}
    role_by_model: dict[str, str] = {}
    ledger = VerdictLedger()
    for name, arm in recipe.arms.items():
        roles: dict[str, MeteredModel] = {}
        for role in filled_roles(recipe, arm):
            model = MeteredModel(wrapped(role, name), calls.setdefault(role, RoleCalls()))
            roles[role] = model
            role_by_model[model.id] = role
        with using(session(ledger, name)):
            rows[name] = drive_to_first_stage(arm, sample, roles, values=arm.values)
    return DriveResult(calls, rows, ledger.rights(role_by_model), len(sample) / len(problems))
