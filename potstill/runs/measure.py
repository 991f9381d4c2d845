"""Measure a solver in a run folder: its answers go through the store, their verdicts into a ledger."""

from __future__ import annotations

from collections.abc import Sequence

from potstill.evaluation.benchmark import Solver, evaluate
from potstill.evaluation.rows import Evaluation
from potstill.models.model import Sampling
from potstill.models.phase import in_phase
from potstill.records import Trace
from potstill.runs.open_folder import Folder
from potstill.traces import using, verify


def measure_solver(
    folder: Folder,
    solver: Solver,
    problems: Sequence[Trace],
    *,
    name: str,
    n: int,
    sampling: Sampling,
    ledger_name: str = "",
) -> Evaluation:
    """Let a solver answer every problem n times; the evaluation of an arm.

    Args:
        folder: whose store, seed and threads are used.
        solver: called with the problems, n and the sampling; its models are wrapped by the folder.
        problems: blank traces.
        name: of the arm, in results and comparisons.
        n: answers a problem.
        sampling: how each answer is sampled.
        ledger_name: the ledger that keeps the answers; "" is the arm's own.
    """
    # Problems first, so that every answer's parent is in the ledger.
    ledger = folder.open_ledger(ledger_name or name)
    with using(folder.session(ledger, name)):
        ledger.add_traces(problems)
        evaluation = evaluate(
            solver,
            list(problems),
            name=name,
            n=n,
            sampling=sampling,
            seed=folder.seed,
            threads=folder.threads,
        )
    ledger.finish()
    return evaluation


def answer_once(
    folder: Folder,
    solver: Solver,
    problems: Sequence[Trace],
    *,
    name: str,
    max_new_tokens: int,
    ledger_name: str,
) -> list[Trace]:
    """One judged answer a problem at temperature 0, kept in a ledger of its own: for examples, not for a score."""
    ledger = folder.open_ledger(ledger_name)
    with using(folder.session(ledger, name)), in_phase("evaluation"):
        answers = verify(
            solver(list(problems), n=1, temperature=0.0, max_new_tokens=max_new_tokens)
        )
        ledger.add_traces(answers)
    ledger.finish()
    return answers
