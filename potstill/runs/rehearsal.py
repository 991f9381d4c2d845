"""A method rehearsed: driven once on a few stories by scripted models, to count and show what it asks and teaches.

`world:oracle` plays the roles that write, the world's scripted student those that are trained or scored. Where a method
comes to no end with them, because its defaults ask for longer answers than theirs, the stand-ins of a plan play all
roles. So calls a problem are counted, and prompts are those that models are really shown; how often an answer is right
is not a real model's.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Literal, NamedTuple, TypeAlias, final

from potstill.errors import PotstillError
from potstill.methods.catalogue import MethodEntry
from potstill.methods.role_annotations import fill_roles, missing_abilities, role_of
from potstill.models.model import Completion, Model, Request
from potstill.models.scoring import PassageLike, to_passages
from potstill.models.scripted import render
from potstill.records import Stage, Trace, digest
from potstill.runs.cast import scripted_roles
from potstill.runs.driver import drive
from potstill.runs.dry_run import with_number_answer
from potstill.runs.stand_in import MAX_CALLS, Assumptions, CallTable, EndlessSearch, StandIn
from potstill.traces import Session, using
from potstill.world.oracle import Oracle
from potstill.world.scripted import NO_WEIGHTS, scripted_stories

STORIES = 8  # that a method is rehearsed on
SHOWN_KINDS = 4  # of prompts, a role
LOW_CALLS, MEDIUM_CALLS = 2.0, 10.0  # calls of other models than the student, a problem
STUDENT = "student"

# none: only the student is asked; low, medium, high: so many calls of other models a problem; unknown: it was stopped
# before any.
CostClass: TypeAlias = Literal["none", "low", "medium", "high", "unknown"]


class ShownPrompt(NamedTuple):
    """One kind of prompt that a role was shown, as it was the first time.

    Args:
        role: that was asked.
        prompt: what it saw.
        prefix: the beginning of its answer, where one was given.
    """

    role: str
    prompt: str
    prefix: str = ""


class LearnerPrompt(NamedTuple):
    """One kind of prompt that the learner sees, with the share of the rows that have it."""

    prompt: str
    share: float


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What a method did on the stories.

    Args:
        calls: by role, calls a problem until the last stage; of equal ones one.
        answer_calls: by role, calls that one answer of its solver takes.
        shown: what the roles were shown.
        learner_prompts: what the learner sees in the last stage's rows, the most frequent kind first.
        rows: of each stage, a problem, with the stage's objective.
        stopped: why the rehearsal came to no end; "" where it did.
    """

    calls: Mapping[str, float]
    answer_calls: Mapping[str, float]
    shown: Sequence[ShownPrompt]
    learner_prompts: Sequence[LearnerPrompt]
    rows: Sequence[tuple[str, float]]
    stopped: str = ""

    @property
    def progress(self) -> tuple[bool, int, float]:
        """How far it came: to its end, through so many stages, with so many calls a problem."""
        return not self.stopped, len(self.rows), sum(self.calls.values())

    @property
    def cost_class(self) -> CostClass:
        """How much is asked of other models than the student while rows are made."""
        calls = sum(count for role, count in self.calls.items() if role != STUDENT)
        if not calls:
            return "unknown" if self.stopped else "none"
        if calls <= LOW_CALLS:
            return "low"
        return "medium" if calls <= MEDIUM_CALLS else "high"


def rehearse_method(entry: MethodEntry, *, size: int = STORIES) -> Rehearsal:
    """Drive a method on stories with its defaults and the roles that it must have; ask its solver for an answer.

    One that does not get to its end so gets the roles too that it may have, and then models that write made-up answers.
    """
    stories = scripted_stories(size)
    rehearsal = rehearse_with(choose_models(entry), entry, stories)
    if rehearsal.stopped and any(role.optional for role in entry.roles):
        with_every_role = rehearse_with(choose_models(entry, optional=True), entry, stories)
        rehearsal = max(rehearsal, with_every_role, key=attrgetter("progress"))
    if rehearsal.stopped:
        made_up = rehearse_with(
            make_stand_ins(entry), entry, [with_number_answer(trace) for trace in stories]
        )
        rehearsal = max(rehearsal, made_up, key=attrgetter("progress"))
    return rehearsal


def rehearse_with(
    players: Mapping[str, Model], entry: MethodEntry, problems: list[Trace]
) -> Rehearsal:
    """Drive a method with these models, by key."""
    size = len(problems)
    questions = [trace.question for trace in problems]
    notebook = Notebook(questions)
    models: dict[str, Model] = {}
    for key, model in players.items():
        models[key] = NotedModel(model, role_of(key), notebook)
    stages: list[Stage] = []

    def train(stage: Stage) -> Any:
        stages.append(stage)
        return stage.model

    calls: dict[str, float] | None = None
    stopped = ""
    try:
        with using(Session(workers=1)):
            solver = drive(entry.method, problems, fill_roles(entry.roles, models), {}, train)
            calls = notebook.calls_per(size)
            # What its solver asks for one answer is counted apart.
            notebook.begin_anew()
            solver(problems, n=1)
    except PotstillError as error:
        stopped = error.found
    except EndlessSearch:
        stopped = f"{MAX_CALLS:,} calls for {size} problems, and no end in sight"
    except Exception as error:  # scripted answers, and not the method, may be what it can't read
        stopped = f"{type(error).__name__}: {error}"
    answer_calls = notebook.calls_per(size)
    # A method that was stopped on its way never came to its solver: all that was noted is of its rows. One that asks
    # nobody for its rows came there with no calls.
    if calls is None:
        calls, answer_calls = answer_calls, {}
    return Rehearsal(
        calls=calls,
        answer_calls=answer_calls,
        shown=notebook.shown,
        learner_prompts=learner_prompts(stages[-1].rows if stages else [], questions),
        rows=[(stage.objective, len(stage.rows) / size) for stage in stages],
        stopped=stopped,
    )


def choose_models(entry: MethodEntry, *, optional: bool = False) -> dict[str, Model]:
    """The oracle where it can do what a role asks for, else a scripted model.

    Args:
        entry: the method.
        optional: also fill the roles that may be left out.
    """
    models: dict[str, Model] = {}
    annotations = {role.name: role.annotation for role in entry.roles}
    for key, scripted in scripted_roles(entry, optional=optional).items():
        oracle = Oracle()
        can_play = not missing_abilities(oracle, annotations[role_of(key)])
        models[key] = oracle if can_play and role_of(key) != STUDENT else scripted
    return models


def make_stand_ins(entry: MethodEntry) -> dict[str, Model]:
    """The models of a plan, which write long made-up answers, half of them right."""
    table = CallTable()
    stand_ins: dict[str, Model] = {}
    for key in scripted_roles(entry):
        stand_ins[key] = StandIn(role_of(key), {"": Assumptions()}, table, weights=NO_WEIGHTS)
    return stand_ins


def learner_prompts(rows: Sequence[Trace], questions: Sequence[str]) -> list[LearnerPrompt]:
    """The kinds of prompt that rows have, each as it is in its first row."""
    prompts: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for row in rows:
        prompt = render(row.prompt)
        instruction = instruction_of(prompt, questions)
        prompts.setdefault(instruction, prompt)
        counts[instruction] += 1
    kinds: list[LearnerPrompt] = []
    for instruction, count in counts.most_common(SHOWN_KINDS):
        kinds.append(LearnerPrompt(prompts[instruction], count / len(rows)))
    return kinds


def instruction_of(prompt: str, questions: Sequence[str]) -> str:
    """What stands before the question: prompts of one kind begin alike. Of a prompt without one the first line."""
    for question in questions:
        instruction, separator, _ = prompt.partition(question)
        if separator:
            return instruction
    return prompt.partition("\n")[0]


class Notebook:
    """Notes what models are asked: how often, and one prompt of each kind.

    Args:
        questions: of the problems, by which prompts of one kind are told from others.
    """

    def __init__(self, questions: Sequence[str]) -> None:
        self.shown: list[ShownPrompt] = []
        self._questions = questions
        self._keys: set[str] = set()
        self._calls: Counter[str] = Counter()
        self._total = 0
        self._kinds: set[tuple[str, str, bool]] = set()
        self._lock = threading.Lock()

    def calls_per(self, problems: int) -> dict[str, float]:
        """The calls noted so far by role, a problem."""
        return {role: count / problems for role, count in self._calls.items()}

    def begin_anew(self) -> None:
        """Count from 0; the prompts that were noted stay."""
        self._calls.clear()

    def note(self, role: str, key: str, prompt: str, prefix: str) -> None:
        """Note a call by its key, with the prompt and the beginning of the answer.

        Raises:
            EndlessSearch: too many have been noted.
        """
        with self._lock:
            self._total += 1
            if self._total > MAX_CALLS:
                raise EndlessSearch
            self._note(role, key, prompt, prefix)

    def _note(self, role: str, key: str, prompt: str, prefix: str) -> None:
        if key not in self._keys:
            self._keys.add(key)
            self._calls[role] += 1
        # One prompt of each kind is kept, and few kinds a role.
        kind = (role, instruction_of(prompt, self._questions), bool(prefix))
        kinds_of_role = sum(example.role == role for example in self.shown)
        if kind not in self._kinds and kinds_of_role < SHOWN_KINDS:
            self._kinds.add(kind)
            self.shown.append(ShownPrompt(role, prompt, prefix))


@final
class NotedModel:
    """A model whose calls are noted under its role; it can do all that the model can."""

    def __init__(self, inner: Any, role: str, notebook: Notebook) -> None:
        """Note what `inner` is asked."""
        self._inner, self._role, self._notebook = inner, role, notebook
        self.id: str = inner.id
        if hasattr(inner, "weights"):
            self.weights = inner.weights
        if hasattr(inner, "likelihood"):
            self.likelihood = self._noted_likelihood

    def write(self, requests: Sequence[Request]) -> list[Completion]:
        """The model's completions."""
        for request in requests:
            key = request.key(self.id)
            self._notebook.note(self._role, key, render(request.prompt), request.prefix)
        return list(self._inner.write(requests))

    def _noted_likelihood(self, passages: Sequence[PassageLike]) -> list[list[float]]:
        for prompt, text, prefix in to_passages(passages):
            key = digest("rehearsal", [self.id, render(prompt), text, prefix])
            self._notebook.note(self._role, key, render(prompt), prefix + text)
        return list(self._inner.likelihood(passages))
