"""Correction-centric evolution: new questions from those that were got wrong and could be corrected."""

from __future__ import annotations

import hashlib

from potstill.methods.errors.lema.prompts import EVOLVE
from potstill.methods.errors.lema.settings import Settings
from potstill.models.model import Model
from potstill.records import Trace
from potstill.traces import derive, gold_by_vote, sample


def draw_seed_questions(
    problems: list[Trace], corrections: list[Trace], settings: Settings
) -> list[Trace]:
    """A bootstrap sample, with replacement, of the questions that occur in corrections, as often as they do there.

    So a question that is often got wrong and often corrected is drawn more often. With `evolve_from="all"` every
    problem is as likely as another.
    """
    if settings.evolve_from == "all":
        pool = sorted(problem.problem.id for problem in problems)
    else:
        pool = sorted(correction.problem.id for correction in corrections)
    problem_by_id = {problem.problem.id: problem for problem in problems}
    size = settings.evolved or len(problems)
    drawn: list[Trace] = []
    for index in range(size):
        # A hash of seed and place, so that the order of the problems decides nothing.
        digest = hashlib.sha256(f"{settings.seed}:{index}".encode()).digest()
        drawn.append(problem_by_id[pool[int.from_bytes(digest[:8], "big") % len(pool)]])
    return drawn


def evolve(
    evolver: Model, teacher: Model, seed_questions: list[Trace], settings: Settings
) -> list[Trace]:
    """A new question from each seed question, with the gold answer on which most of the teacher's answers agree.

    A seed that was drawn twice is evolved twice: equal requests take different samples. Questions on which no two
    answers agree are dropped, and so are those that overlap the evaluation set.
    """
    written = sample(evolver, seed_questions, prompt=EVOLVE, **dict(settings.evolution_sampling))
    questions = derive(read_new_question, written)
    answers = sample(teacher, questions, n=settings.voters, **dict(settings.chain_sampling))
    return gold_by_vote(questions, answers, votes=settings.votes)


def read_new_question(trace: Trace) -> str | tuple[None, str]:
    """The question that an evolver wrote, without its thought and without a label before it."""
    question = trace.reply.strip().removeprefix("New question:").strip()
    return question or (None, "no question was written")
