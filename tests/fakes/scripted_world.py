"""What a method's test is written with: models that answer by phrases of their prompts, a run, what it left behind.

P1, P2 = number("p1", "What is 2 + 2?", "4"), number("p2", "What is 3 + 4?", "7")
teacher = script({("Correct", "2 + 2"): "It is \\boxed{4}.", "": {"error": "down"}})
ran = run("star", [P1, P2], {"teacher": teacher, "student": student(["…"])}, n=2)

ran.texts()              what is learnt, by problem          ran.reasons()      what was dropped, by test
ran.prompts_learnt()     under which prompts                 ran.sources(row)   what a row was made from
prompts(teacher)         what the teacher was shown          len(teacher.calls) how often it was asked
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from fakes import Book

from potstill.methods import METHODS
from potstill.models.scripted import Rule, ScriptedModel
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
    """A finished run: its stages, its ledger, the problems it began with, and what measures its student."""

    stages: list[Stage]
    book: Book
    problems: list[Trace]
    solver: Any = None

    @property
    def rows(self) -> list[Trace]:
        """Those of the last stage."""
        return list(self.stages[-1].rows)

    def texts(self, stage: int = -1) -> dict[str, list[str]]:
        """By problem id the texts of a stage's rows, both in their order; of a pair "chosen > rejected"."""
        texts: dict[str, list[str]] = {}
        for row in self.stages[stage].rows:
            text = row.text if row.rejected is None else f"{row.text} > {row.rejected.text}"
            texts.setdefault(row.problem.id, []).append(text)
        return texts

    def prompts_learnt(self, stage: int = -1) -> list[Any]:
        """What the learner sees of each row."""
        return [row.prompt for row in self.stages[stage].rows]

    def sources(self, row: Trace) -> list[str]:
        """The texts that a row was made from; of a blank problem its question."""
        parents = [self.book.traces[parent] for parent in row.parents]
        return [parent.text or parent.question for parent in parents]

    def reasons(self) -> dict[str, list[str]]:
        """By the name of the test the reasons of what it took out, sorted."""
        reasons: dict[str, list[str]] = {}
        for drop in self.book.drops:
            reasons.setdefault(drop.test, []).append(drop.reason)
        return {test: sorted(of_test) for test, of_test in reasons.items()}

    def dropped(self, test: str) -> list[tuple[str, str]]:
        """(text, reason) of what a predicate took out, in text order."""
        return sorted((d.trace.text, d.reason) for d in self.book.drops if d.test == test)


def number(name: str, question: str, answer: str) -> Trace:
    """A blank trace whose learner sees more than the bare question, so that the two can't be mixed up."""
    return blank(Problem(name, question, answer, kind="number"), f"Solve: {question}")


def run(method: str | Callable, problems: list[Trace], roles: dict, **values) -> Ran:
    """Drive a method (of the catalogue by its name) with a trainer that notes the stages and returns the student."""
    if isinstance(method, str):
        method = METHODS[method]
    stages: list[Stage] = []
    book = Book()
    book.add_traces(problems)

    def train(stage: Stage):
        stages.append(stage)
        return stage.model

    with using(Session(book, book, workers=4)):
        solver = drive(method, problems, roles, values, train)
    return Ran(stages, book, problems, solver)


def script(answers: Mapping[Any, Any], **options) -> ScriptedModel:
    """A model that answers by the first phrase that stands in its prompt; of a tuple of phrases all must.

    Args:
        answers: to a phrase one answer, or a list of one a sample: a text, or {text, finish, error}. "" is any prompt.
        options: of `ScriptedModel`; `weights=NOWHERE` makes it a student.
    """
    rules = []
    for phrases, answer in answers.items():
        wanted = [phrases] if isinstance(phrases, str) else phrases
        pattern = r"(?s)\A" + "".join(f"(?=.*{re.escape(phrase)})" for phrase in wanted)
        rules.append(
            Rule(tuple(answer) if isinstance(answer, list) else (answer,), pattern=pattern)
        )
    return ScriptedModel(rules, **options)


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
