"""Correction-centric evolution: new questions from those that were got wrong and could be corrected."""

from __future__ import annotations

import hashlib

from potstill.errors import StageError
from potstill.methods.errors.lema.prompts import EVOLVE
from potstill.methods.errors.lema.settings import Settings
from potstill.models.model import Model
from potstill.records import Trace
from potstill.traces import ReportSection, Share, derive, gold_by_vote, ok, report, sample


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

    Raises:
        StageError: no question is left: the round would change nothing.
    """
    written = sample(evolver, seed_questions, prompt=EVOLVE, **dict(settings.evolution_sampling))
    questions = derive(read_new_question, written)
    answers = sample(teacher, questions, n=settings.voters, **dict(settings.chain_sampling))
    with_gold = gold_by_vote(questions, answers, votes=settings.votes)
    report(evolution_section(seed_questions, questions, with_gold))
    if not any(ok(trace) for trace in with_gold):
        new_count = sum(ok(trace) for trace in questions)
        raise StageError(
            f"lema: none of {len(seed_questions)} evolved questions can be learnt from "
            f"({new_count} are new questions, of which none has a gold answer)",
            expected="questions that differ from those there are, on whose answer the teacher agrees with itself",
            fix="another corrector (it writes the questions) or teacher (it votes), in their roles, or --set rounds=0",
        )
    return with_gold


def evolution_section(
    seed_questions: list[Trace], questions: list[Trace], with_gold: list[Trace]
) -> ReportSection:
    """How many questions the evolver wrote that are new, and how many of them got a gold answer."""
    new_count = sum(ok(trace) for trace in questions)
    gold_count = sum(ok(trace) for trace in with_gold)
    return ReportSection(
        "Evolved questions",
        "Of the seed questions: how many were evolved into a new question that is no evaluation problem, and on how "
        "many of these enough of the teacher's answers agree, so that their majority is the gold answer.",
        (
            Share("are new questions", new_count, len(seed_questions)),
            Share("have a voted gold answer", gold_count, new_count),
        ),
    )


def read_new_question(trace: Trace) -> str | tuple[None, str]:
    """The question that an evolver wrote, without its thought and without a label before it."""
    question = trace.reply.strip().removeprefix("New question:").strip()
    return question or (None, "no question was written")
