"""ELAD: a student's own doubts choose the problems, and a teacher revises its reasoning there (arXiv:2402.13098).

The paper's full text could not be read and no code was found: what follows is the algorithm of its abstract and of the
review's section. What is inferred stands in `settings.py`, the prompts in `prompts.py`; `egss.py` makes the scores,
`selection.py` the choice, `claer.py` the annotations, `controls.py` what an equal cost buys.

Controls: arm=random (no selection), arm=random-same-length (longer chains move U by themselves),
    arm=random-same-cost (EGSS's compute spent on more annotations), arm=inter-same-calls (the probes' calls spent
    on more chains), arm=inter (the answers alone), arm=intra (the steps alone), sign=same (the other sign),
    annotation=fresh-chain (a teacher chain as it is), settings.prefix_weight (what the accepted steps teach).
Paper: R3
Cite: Yifei Zhang, Bo Pan, Chen Ling, Yuntong Hu, Liang Zhao:
    ELAD: Explanation-Guided Large Language Models Active Distillation (2024).
Departure: the chain that is annotated has the majority's answer in every arm. A problem without a readable answer
    is chosen last. The answer of a chain is its last unit: a Yes confirms it, a No has it revised in a second call.
    Each round trains from the warm start, on the rows of all rounds so far.
Partial: the paper's full text could not be read; prompts and constants are inferred.
"""

from __future__ import annotations

from collections.abc import Generator

from potstill.errors import ConfigError
from potstill.methods.selecting.elad.claer import (
    accept_rows,
    annotate_chains,
    is_not_wrong,
    write_chains,
)
from potstill.methods.selecting.elad.controls import Spent, count_calls, count_more_annotations
from potstill.methods.selecting.elad.reporting import Round, report_rounds
from potstill.methods.selecting.elad.selection import choose_chains, in_chance_order
from potstill.methods.selecting.elad.settings import (
    Annotation,
    Arm,
    Probe,
    Selection,
    Settings,
    Sign,
)
from potstill.models.model import Model, Trainable
from potstill.records import Stage, Trace
from potstill.traces import keep, split_by


def elad(
    problems: list[Trace],
    teacher: Model,
    student: Trainable,
    *,
    n: int = 5,
    annotated: float = 0.5,
    arm: Arm = "egss",
    sign: Sign = "change",
    probe: Probe = "branch",
    annotation: Annotation = "sequential",
    settings: Settings = Settings(),
) -> Generator[Stage, Trainable, None]:
    """ELAD: a teacher revises the chains that the student doubts most (Zhang et al., arXiv:2402.13098).

    Selection (EGSS): H = -sum_a p_a log p_a + lambda U_sign over the answers to each problem. Annotation (CLAER): the
    teacher judges the chain's steps in order, and writes the rest anew from the first wrong one. No gold answer is
    needed; where there are some, the report says how many rows have them.

    Learns from: its own steps before the first wrong one and the teacher's rest, on the problems that it doubts most.
    Needs: teacher (judges steps and goes on with a solution), student (is sampled, probed and trained).

    Args:
        n: chains sampled a problem, whose answers vote (the paper's k).
        annotated: share of the pool that the teacher annotates (the budget B), beside the labelled seed.
        arm: how problems are chosen; "egss" is the paper's.
        sign: which answers of the probes count as doubt: those that a step's absence changes, or leaves the same.
        probe: how a step is taken away: "branch" continues with and without it, "drop-one" cuts it out of the chain.
        annotation: a verdict a step (the paper's), one verdict a chain, or a fresh chain of the teacher.
        settings: what is inferred.
    """
    selection = Selection(n, arm, sign, probe, settings)
    check_share("annotated", annotated)
    check_share("settings.seed_share", settings.seed_share)

    # Step 1, warm start: the student learns the teacher's chains on a small labelled seed.
    shuffled = in_chance_order(problems, settings.selection_seed)
    seed_size = round(settings.seed_share * len(shuffled))
    seed_problems, pool = shuffled[:seed_size], shuffled[seed_size:]
    rows = keep(is_not_wrong, accept_rows(write_chains(teacher, seed_problems, settings), settings))
    warm_student = student
    if rows:
        warm_student = yield Stage(student, rows, "sft", name="warm-start")

    # Steps 2 to 7, round by round, until the budget is spent.
    student = warm_student
    rounds_done: list[Round] = []
    counts = split_budget(annotated, len(pool), settings.rounds)
    for number, count in enumerate(counts, 1):
        # Steps 2 to 5, EGSS: score what is left of the pool, choose the chains that the student doubts most.
        with count_calls() as selecting:
            candidates, chosen = choose_chains(student, pool, count, number, selection)

        # Step 6, CLAER: the teacher judges them step by step and writes the rest.
        with count_calls() as annotating:
            annotations = annotate_chains(teacher, chosen, annotation, settings)
        rounds_done.append(Round(f"round {number}", candidates, chosen, annotations))
        rows = rows + annotations.rows
        scored_pool = pool
        _, pool = split_by(chosen, pool)
        if arm == "random-same-cost":
            # This control spends what EGSS would have cost on annotations of further problems.
            spent = Spent(len(chosen), selecting, annotating)
            more = count_more_annotations(student, scored_pool, spent, selection)
            candidates, chosen = choose_chains(student, pool, more, number, selection)
            annotations = annotate_chains(teacher, chosen, annotation, settings)
            label = f"round {number}, for EGSS's cost"
            rounds_done.append(Round(label, candidates, chosen, annotations))
            rows = rows + annotations.rows
            _, pool = split_by(chosen, pool)

        # Step 7: the student learns the rows of all rounds so far, from the warm start. A round may end without any.
        is_last = number == len(counts)
        if rows or is_last:
            student = yield Stage(warm_student, rows, "sft", name=f"round-{number}")
    report_rounds(rounds_done, settings)


def check_share(name: str, share: float) -> None:
    """Refuse what is no share."""
    if not 0 <= share <= 1:
        raise ConfigError(
            f"{name}={share}", expected="a share from 0 to 1", fix=f"--set {name}=0.5"
        )


def split_budget(annotated: float, pool_size: int, rounds: int) -> list[int]:
    """How many problems each round annotates: B in equal parts as nearly as whole numbers allow, none of them empty."""
    if rounds < 1:
        raise ConfigError(
            f"settings.rounds={rounds}", expected="at least 1", fix="--set settings.rounds=5"
        )
    budget = min(pool_size, max(1, round(annotated * pool_size)))
    rounds = min(rounds, budget)
    ends = [round(budget * number / rounds) for number in range(1, rounds + 1)]
    starts = [0, *ends[:-1]]
    return [end - start for start, end in zip(starts, ends, strict=True)]
