"""What trained students are asked beside their test: right chains of test problems, each with one that has a slip."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from potstill.models.local.transformers import TransformersModel
from potstill.records import Problem, Trace
from potstill.store.store import Store
from potstill.studies import arms
from potstill.studies.study import StudySettings
from potstill.traces import pair
from potstill.world.families import FAMILIES
from potstill.world.tasks import make_problems


def slip_pairs(task: str, size: int, write: Callable[[Problem, str], Trace]) -> list[Trace]:
    """Right chains of test problems, each with one in which a program slips once: a source that no arm learnt from.

    Args:
        task: of the built-in world.
        size: how many problems.
        write: makes a trace of a brief solution, in the form that the study's student knows.
    """
    right: list[Trace] = []
    wrong: list[Trace] = []
    for number, problem in enumerate(make_problems(task, size=size, split="test")):
        family = FAMILIES[problem.kind]
        parsed = family.parse(problem.question)
        assert parsed is not None
        right.append(write(problem, family.brief_solution(parsed)))
        wrong.append(write(problem, family.stumble_once(parsed, Random(number))))
    return pair(right, wrong)


def load_student(settings: StudySettings, arm: str, seed: int) -> TransformersModel:
    """The student that an arm ended with, from the folder of its seed."""
    with Store.open(settings.out / f"seed-{seed}") as store:
        student = store.students.get(store.history.stages(arm)[-1].stage)
        assert student is not None
        return TransformersModel(student.folder, threads=arms.THREADS)
