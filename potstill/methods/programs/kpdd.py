"""KPDD: one student restates the core question, one lists what is needed, and one solves with both in view.

Read as a summary of the paper, not as its text; what is inferred is said in the docstring below.

| constant | value | source |
|---|---|---|
| calls of the teacher a problem | 3: core question, information, solution | summary |
| students | 3, of the same base model | summary |
| the solution's form | a program (KPDD-PoT), or a chain (KPDD-CoT) | abstract |
| solutions of a problem | 1 | inferred |
| sampling | temperature 0.7 | inferred |
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from functools import partial
from typing import Any, Literal

from potstill.methods.programs._prompts import WRITE_PROGRAM
from potstill.models.model import Model, Trainable
from potstill.records import Stage, Trace
from potstill.traces import (
    Share,
    among,
    dedupe,
    is_finished,
    keep,
    pose,
    prompt_text,
    report_shares,
    rewrite,
    right,
    run_programs,
    sample,
    verify,
    verify_programs,
    words,
)

# The wording is ours.
ASK_CORE = """\
State the core question of the problem in one sentence: what is asked for, without the details. Write nothing else.

Problem: {question}"""
ASK_INFORMATION = """\
List the problem-solving information: what of the problem is needed to answer its core question, one item a line. \
Compute nothing, and write nothing else.

Problem: {question}
Core question: {text}"""

Arm = Literal["kpdd", "kpdd-cot", "core", "information", "pot", "cot"]
POINTS: Mapping[Arm, tuple[str, ...]] = {
    "kpdd": ("core", "information"),
    "kpdd-cot": ("core", "information"),
    "core": ("core",),
    "information": ("information",),
    "pot": (),
    "cot": (),
}
CHAINS = ("kpdd-cot", "cot")


def kpdd(
    problems: list[Trace],
    teacher: Model,
    student: Trainable,
    *,
    arm: Arm = "kpdd",
    n: int = 1,
    temperature: float = 0.7,
    max_new_tokens: int = 512,
) -> Generator[Stage, Trainable, Any]:
    """KPDD: key-point-driven mathematical reasoning distillation (Zhu et al., arXiv:2407.10167).

    Rows: x -> core, x -> information, and (x, core, information) -> solution, for three students.

    Learns from: the teacher's core question and information, and its right solutions behind both.
    Needs: teacher (writes key points and solutions), student (is trained, once for each task).
    Controls: arm=kpdd-cot (chains in the place of programs), pot (programs without key points: the paper's comparison),
        cot (chains without key points), core (without the information), information (without the core question).
    Departure: read as a summary, so prompts, sampling and the number of solutions are inferred. Key points are learnt
        where a solution behind them is right. In the arms with one key point the teacher writes both, and the other
        one is shown to nobody. A program is a function `solution()`, and its value is judged by the problem's verifier.
    Paper: 68
    Cite: Xunyu Zhu, Jian Li, Can Ma, Weiping Wang: Key-Point-Driven Mathematical Reasoning Distillation of Large
        Language Model (2024).

    Args:
        teacher: is asked three times a problem.
        student: the base model of all three.
        arm: the method or one of its controls.
        n: solutions behind the key points of a problem.
        temperature: of the teacher.
        max_new_tokens: longest reply; one that is cut there is no row.
    """
    drawn: dict[str, Any] = {"temperature": temperature, "max_new_tokens": max_new_tokens}
    names = POINTS[arm]

    # The key points of each problem, in this order: the information is what the core question needs.
    points: dict[str, list[Trace]] = {}
    solvable = problems
    if names:
        core = keep(is_finished, sample(teacher, problems, prompt=ASK_CORE, **drawn))
        listed = rewrite(teacher, core, prompt=ASK_INFORMATION, guard=False, **drawn)
        points = {"core": core, "information": keep(is_finished, listed)}
        solvable = among(points["information"], problems)

    # A solution behind them, whose answer is right.
    shown = {name: points[name] for name in names}
    posed = pose(show_points, solvable, context=shown) if names else solvable
    if arm in CHAINS:
        solutions = verify(keep(is_finished, sample(teacher, posed, n=n, **drawn)))
    else:
        ask = WRITE_PROGRAM.replace("{question}", "{prompt}")
        programs = sample(teacher, posed, prompt=ask, n=n, **drawn)
        solutions = verify_programs(keep(is_finished, programs))
    rows = dedupe(words, keep(right, solutions))
    report_solved(rows, problems)

    # One student for each key point, and one for the solution.
    extractors: dict[str, Trainable] = {}
    for name in names:
        extractors[name] = yield Stage(student, among(rows, points[name]), "sft", name=name)
    solver = yield Stage(student, rows, "sft", name="solution")
    return partial(
        solve_by_key_points,
        solver,
        extractors.get("core"),
        extractors.get("information"),
        arm not in CHAINS,
    )


def show_points(trace: Any, core: Sequence[Any] = (), information: Sequence[Any] = ()) -> str:
    """What the learner of solutions sees: the problem, and the key points that there are."""
    parts = [prompt_text(trace)]
    for heading, texts in (("Core question: ", core), ("Information:\n", information)):
        if texts:
            parts.append(f"{heading}{texts[0].text.strip()}")
    return "\n\n".join(parts)


def solve_by_key_points(
    solver: Model,
    core_model: Model | None,
    information_model: Model | None,
    is_program: bool,
    problems: Sequence[Trace],
    *,
    n: int = 1,
    **sampling: Any,
) -> list[Trace]:
    """The key points of each problem, once, and n solutions behind them; a program with what it prints."""
    points: dict[str, list[Trace]] = {}
    for name, model in (("core", core_model), ("information", information_model)):
        if model is not None:
            points[name] = sample(model, problems, **sampling)
    posed = pose(show_points, problems, context=points) if points else problems
    answers = sample(solver, posed, n=n, **sampling)
    return run_programs(answers) if is_program else answers


def report_solved(rows: Sequence[Trace], problems: Sequence[Trace]) -> None:
    """Say of how many problems there are rows."""
    solved = len({row.problem.id for row in rows})
    hint = "Key points are learnt where the teacher solved the problem with them in view."
    report_shares("Problems", [Share("solved", solved, len(problems))], hint=hint)
