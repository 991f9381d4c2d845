"""Scripted teachers and students for the methods' tests, a run of a method, and what it left behind."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import NamedTuple

from fakes import Book

from potstill.methods import METHODS
from potstill.models.model import Request
from potstill.models.scripted import Scripted
from potstill.records import Problem, Stage, Trace, blank
from potstill.runs.driver import drive
from potstill.traces import Session, using
from potstill.verifiers.story import Equation, Story, apply, parse, required
from potstill.world import story

NOWHERE = Path(
    "nowhere"
)  # a scripted student is trainable in name; these tests' trainer trains nothing
GATELESS = {"least": 1}  # scripted texts are short; the length gate has a test of its own


class Ran(NamedTuple):
    """A finished run: its stages, its ledger, and the problems it began with."""

    stages: list[Stage]
    book: Book
    problems: list[Trace]

    @property
    def rows(self) -> list[Trace]:
        return list(self.stages[-1].rows)

    def dropped(self, test: str) -> list[tuple[str, str]]:
        """(text, reason) of what a predicate took out, in text order."""
        return sorted((d.trace.text, d.reason) for d in self.book.drops if d.test == test)


def number(name: str, question: str, answer: str) -> Trace:
    """A blank trace whose learner sees more than the bare question, so that the two can't be mixed up."""
    return blank(Problem(name, question, answer, kind="number"), f"Solve: {question}")


def run(name: str, problems: list[Trace], roles: dict, **values) -> Ran:
    """Drive a method of the catalogue with a trainer that notes the stages and returns the student."""
    stages: list[Stage] = []
    book = Book()
    book.made(problems)

    def train(stage: Stage):
        stages.append(stage)
        return stage.model

    with using(Session(book, book, workers=4)):
        drive(METHODS[name], problems, roles, values, train)
    return Ran(stages, book, problems)


def student(script, **options) -> Scripted:
    return Scripted(script, weights=NOWHERE, **options)


def prompts(model: Scripted) -> list[str]:
    return [request.prompt for request in model.calls]


# The conformance suite's world: running-total stories, solved by chance as a function of the request alone.


def stories(size: int) -> list[Trace]:
    return [blank(p) for p in story.problems("story", size=size, seed=5)]


def fumble(request: Request, skill: float, finish: float = 0.93) -> str:
    """A brief chain; with chance 1 - skill one step slips and the slip is carried on, rarely there is no answer."""
    rng = Random(request.random_seed("fumble"))
    told = parse(request.prompt[request.prompt.index(_named(request.prompt)) :].split("\n")[0])
    assert told is not None, request.prompt
    at = rng.randrange(len(told.events)) if rng.random() > skill else -1
    equations = _carried(told, at, rng)
    end = (
        f" The answer is \\boxed{{{equations[-1].result}}}."
        if rng.random() < finish
        else " I give up."
    )
    return (
        "Let me think about this story from its beginning to its end. "
        + " ".join(map(story.write, equations))
        + end
    )


def _named(prompt: str) -> str:
    return next(
        name
        for name in sorted(story.NAMES, key=lambda n: prompt.find(f"{n} has") % 10**6)
        if name in prompt
    )


def _carried(told: Story, at: int, rng: Random) -> list[Equation]:
    total, made = told.start, []
    for i, (event, right) in enumerate(zip(told.events, required(told), strict=True)):
        after = apply(total, event) + (rng.randint(1, 9) if i == at else 0)
        made.append(right._replace(left=total, result=after))
        total = after
    return made


def wise(request: Request) -> str:
    return fumble(request, 0.85)


def green(request: Request) -> str:
    return fumble(request, 0.75 if "Reference solution" in request.prompt else 0.4)


def cast(name: str, *, fail: float = 0.0) -> dict[str, Scripted]:
    """A scripted model for each role that a method must have."""
    from potstill.methods.catalogue import entry

    made = {"teacher": Scripted(wise, fail=fail), "student": student(green, fail=fail)}
    return {role.name: made[role.name] for role in entry(name).roles if not role.optional}
