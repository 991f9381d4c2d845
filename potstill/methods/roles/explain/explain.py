"""Explain-based distillation: a Reasoner learns to plan from editorials, a Coder carries its plans out.

The paper's full text could not be read: what follows is its abstract's method, with what a review of it says. What is
inferred stands in `settings.py`, the prompts in `prompts.py`, the tests of an editorial in `checks.py`, the row weights
in `weights.py`, and what happens at test time in `solving.py`.

Paper: R2
Cite: Jierui Li, Raymond Mooney: Distilling Algorithmic Reasoning from LLMs via Explaining Solution Programs (2024).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from functools import partial
from typing import Any

from potstill.methods.gold_solutions import has_solution, show_solution
from potstill.methods.roles.explain.checks import (
    copies_little,
    has_every_section,
    has_no_code_block,
    is_no_walkthrough,
    score_copied_shares,
)
from potstill.methods.roles.explain.prompts import CARRY_OUT, EXPLAIN, SECTIONS
from potstill.methods.roles.explain.settings import Arm, Settings
from potstill.methods.roles.explain.solving import solve_by_plans, solve_step_by_step
from potstill.methods.roles.explain.weights import weigh_problems
from potstill.models.model import Model, Trainable
from potstill.records import Stage, Trace
from potstill.traces import (
    ReferenceGate,
    edit,
    is_finished,
    keep,
    keep_reasoned,
    learn,
    plain,
    read_sections,
    refuse_hidden_end,
    rewrite,
    right,
    sample,
    score,
    verify,
    weigh,
    wrong,
)


def explain(
    problems: list[Trace],
    teacher: Model,
    student: Trainable,
    coder: Model | None = None,
    solver: Model | None = None,
    *,
    arm: Arm = "explain",
    gate: ReferenceGate = ReferenceGate(),
    settings: Settings = Settings(),
) -> Generator[Stage, Trainable, Any]:
    """Explain-based distillation: learn to plan from editorials, and let a coder carry plans out (arXiv:2404.08148).

    Explain: d_i = Explainer(p_i, s_i) for the oracle solution s_i. Train: L = - sum_i w_i sum_t log pi(d_{i,t} | p_i,
    d_{i,<t}) / sum_i w_i |d_i|. Solve: plans d^1 .. d^M ~ Reasoner(p), programs ~ Coder(p, d^m), T of each plan.

    Learns from: one editorial a problem, in words and by sections, whose writer saw the problem's solution.
    Needs: teacher (explains), student (is trained, and plans), [coder] (carries plans out), [solver] (writes solutions
        where they are sampled).
    Controls: arm=solve-based (the teacher's own right chains: explaining or one more right text?), arm=direct (problem
        to solution: does the plan between them help?), arm=zero-shot-editorial (the untrained student plans: what the
        coder brings), arm=zero-shot-cot and arm=zero-shot (the coder alone, with and without a thought).
    Departure: nothing is known of the paper's fine-tuning settings; Python 3 alone, since nothing else can be run here.
    Faithfulness is a score and drops nothing. An editorial must have as much of its solution as `gate` asks for. With
    settings.oracle=sampled-wrong the editorials explain solutions that fail, which tells what the format alone teaches.

    Args:
        teacher: the Explainer; of the arm solve-based the one who solves.
        student: the Reasoner.
        coder: who carries out plans at test time; the untrained student without one.
        solver: who writes sampled oracle solutions, and the chains of solve-based; the teacher without one.
        arm: the method or one of its controls.
        gate: how much of a solution's steps and length an editorial must have; lines of a program are no steps.
        settings: what is inferred.
    """
    refuse_hidden_end(gate, "explain", "an editorial explains the whole solution")
    coder = coder or student  # as it is now: the Coder is not fine-tuned
    solver = solver or teacher

    # The controls without a training.
    if arm == "zero-shot":
        return partial(plain, coder)
    if arm == "zero-shot-cot":
        return partial(solve_step_by_step, coder)
    if arm == "zero-shot-editorial":
        return partial(solve_by_plans, student, coder, settings, is_trained=False)

    # The controls that learn another text, under the same weights.
    row_weight = partial(weight_of, weigh_problems(problems, settings))
    if arm == "direct":
        oracles = collect_oracles(problems, solver, settings)
        yield Stage(student, weigh(row_weight, learn("all", oracles)), "sft")
        return None
    if arm == "solve-based":
        chains = sample(solver, problems, **dict(settings.solver_sampling))
        yield Stage(student, weigh(row_weight, keep(right, verify(chains))), "sft")
        return None

    # Step 1, select: problems with an oracle solution that passes its tests.
    oracles = collect_oracles(problems, solver, settings)

    # Step 2, explain: one editorial a problem, by the Explainer who sees problem and solution.
    oracles = edit(solution_alone, oracles)
    editorials = rewrite(
        teacher, oracles, prompt=EXPLAIN, guard=False, **dict(settings.explainer_sampling)
    )

    # Step 3, filter: whole, in words, no retelling of the solution. Faithfulness is only logged.
    editorials = check_editorials(editorials, oracles, settings)
    editorials = keep_reasoned(editorials, oracles, gate=gate)
    if settings.faithful_tries:
        scorer = partial(score_faithfulness, coder, settings)
        editorials = score("faithful", scorer, editorials)

    # Step 4, train the Reasoner: problem -> the chosen sections, easier and more recent problems first.
    rows = edit(partial(choose_sections, settings.sections), editorials)
    student = yield Stage(student, weigh(row_weight, rows), "sft")

    # Steps 5 and 6, at test time: M plans, T programs of each, judged by the problem's verifier.
    return partial(solve_by_plans, student, coder, settings)


def weight_of(weight_by_problem: Mapping[str, float], trace: Trace) -> float:
    """The weight of a row: that of its problem."""
    return weight_by_problem[trace.problem.id]


def collect_oracles(problems: Sequence[Trace], solver: Model, settings: Settings) -> list[Trace]:
    """One judged solution a problem, as the settings say where from; those that fail the demand are dropped."""
    if settings.oracle == "gold":
        return keep(right, verify(edit(show_solution, keep(has_solution, problems))))
    samples = verify(sample(solver, problems, **dict(settings.solver_sampling)))
    if settings.oracle == "sampled-right":
        return keep(right, samples)
    if settings.oracle == "sampled-wrong":
        return keep(wrong, samples)
    return samples


def solution_alone(trace: Trace) -> str | None:
    """A solution without the thought of whoever wrote it; None where nothing else is there."""
    return trace.reply if trace.reply.strip() else None


def check_editorials(
    editorials: list[Trace], oracles: Sequence[Trace], settings: Settings
) -> list[Trace]:
    """The editorials that pass every check, with the score `copied`."""
    for test in (is_finished, has_every_section, has_no_code_block, is_no_walkthrough):
        editorials = keep(test, editorials)
    solution_by_id = {oracle.id: oracle.text for oracle in oracles}
    editorials = score("copied", partial(score_copied_shares, solution_by_id), editorials)
    return keep(partial(copies_little, settings.max_copied_share), editorials)


def score_faithfulness(
    coder: Model, settings: Settings, editorials: Sequence[Trace]
) -> list[float | None]:
    """A scorer: the share of a fixed Coder's tries that pass when it carries the editorial out."""
    programs = rewrite(
        coder,
        editorials,
        prompt=CARRY_OUT,
        n=settings.faithful_tries,
        guard=False,
        **dict(settings.coder_sampling),
    )
    passes: Counter[str] = Counter()
    for program in verify(programs):
        passes[program.parents[0]] += right(program)
    return [passes[editorial.id] / settings.faithful_tries for editorial in editorials]


def choose_sections(names: Sequence[str], trace: Trace) -> dict[str, Any] | None:
    """The chosen sections of an editorial, each under its heading; its scores stay with them."""
    sections = read_sections(trace.text, tuple(SECTIONS))
    if sections is None:
        return None
    parts: list[str] = []
    for name in names:
        heading = name.replace("_", " ").capitalize()
        parts.append(f"{heading}:\n{sections[name]}")
    return {"text": "\n\n".join(parts), "scores": trace.scores}
