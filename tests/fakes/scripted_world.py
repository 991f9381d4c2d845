"""Scripted teachers and students for the methods' tests, a run of a method, and what it left behind."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from fakes import Book

from potstill.methods import METHODS
from potstill.models.scripted import ScriptedModel
from potstill.records import Problem, Stage, Trace, blank
from potstill.runs.driver import drive
from potstill.traces import Session, using
from potstill.world.oracle.program import answer_request
from potstill.world.scripted import scripted_stories, scripted_student, scripted_teacher

NOWHERE = Path(
    "nowhere"
)  # a scripted student is trainable in name; these tests' trainer trains nothing
# Scripted texts are short: the length filter has a test of its own. Their writers know the prompt of this order.
SHORT_TEXTS = {"min_new_tokens": 1, "prompt": "paper"}

# A program that judges, corrects and explains: `CAST = Cast(models={"teacher": ORACLE})` of a method's test file.
ORACLE = ScriptedModel(answer_request, name="oracle")


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
    book.add_traces(problems)

    def train(stage: Stage):
        stages.append(stage)
        return stage.model

    with using(Session(book, book, workers=4)):
        drive(METHODS[name], problems, roles, values, train)
    return Ran(stages, book, problems)


def student(script, **options) -> ScriptedModel:
    return ScriptedModel(script, weights=NOWHERE, **options)


def prompts(model: ScriptedModel) -> list[str]:
    return [request.prompt for request in model.calls]


# The conformance suite's world: running-total stories, solved by chance as a function of the request alone.


def stories(size: int) -> list[Trace]:
    return scripted_stories(size)


def cast(name: str, *, fail: float = 0.0) -> dict[str, ScriptedModel]:
    """A scripted model for each role that a method must have."""
    from potstill.methods.catalogue import method_entry

    made = {"teacher": scripted_teacher(fail=fail), "student": scripted_student(fail=fail)}
    return {role.name: made[role.name] for role in method_entry(name).roles if not role.optional}
