"""PaD: the student learns programs that a teacher reasons in, and to repair programs that errors were put into.

| constant | value | source |
|---|---|---|
| programs of a problem | 7 | released code: seven passes over GSM8K's training problems |
| sampling of the teacher | the API's defaults, temperature 1 | released code: none is set |
| a program's form | `solution()` that returns the value, comments as reasoning | released examples |
| a program may run for | 30 s in the code, 10 s of computing here | released code |
| student: learning rate, epochs, batch | 6e-5, 50, 8 (CodeT5-small) | released code; left to the recipe |
| rounds of repair when it answers | 1 | inferred |
"""

from __future__ import annotations

import re
from collections.abc import Generator, Sequence
from functools import partial
from typing import Any, Literal

from potstill.methods.programs._prompts import WRITE_PROGRAM
from potstill.models.model import Model, Trainable
from potstill.records import Stage, Trace
from potstill.traces import (
    among,
    chance_fraction,
    dedupe,
    edit,
    has_failed,
    is_finished,
    keep,
    line,
    mix,
    pose,
    report_shares,
    right,
    run_programs,
    sample,
    share_of,
    show_one,
    verify,
    verify_programs,
    words,
    wrong,
)

# What the learner sees of a program that is to be repaired; the wording is ours.
REPAIR = """\
{prompt}

This program does not solve the question:
{attempt}

Write the program without the error."""
ANSWER_ALONE = """\
{prompt}

This program does not solve the question:
{text}

Write the program without the error."""
ERRORS = ("drop", "rename", "operator", "break")
# A line that gives a name a value: its indent, the name, and the expression.
ASSIGNMENT = re.compile(r"^([ \t]+)([A-Za-z_]\w*) = (.+)$", re.MULTILINE)
OPERATOR = re.compile(r"(?<= )[-+*/](?= )")
OPPOSITES = {"+": "-", "-": "+", "*": "/", "/": "*"}


def pad(
    problems: list[Trace],
    teacher: Model,
    student: Trainable,
    *,
    arm: Literal["pad", "no-repair", "unchecked", "cot"] = "pad",
    n: int = 7,
    temperature: float = 1.0,
    max_new_tokens: int = 512,
) -> Generator[Stage, Trainable, Any]:
    """PaD: program-aided distillation (Zhu et al., arXiv:2305.13888).

    Rows: x -> p for each program p of the teacher with run(p) = answer(x), and (x, p', message of p') -> p for a copy
    p' that an error was put into.

    Learns from: the teacher's programs whose value is the answer, and repairs of copies that errors were put into.
    Needs: teacher (writes programs), student (is trained).
    Controls: arm=no-repair (programs alone), unchecked (programs whatever they come to: is it the checking?), cot (the
        teacher's right chains in words: the paper's comparison).
    Departure: a value counts where the problem's verifier says so; the released code rounds both to whole numbers.
        A program runs for 10 seconds at most. Prompts and the example in them are ours. Which errors are put in is
        inferred: an assignment is dropped, its name is another one, its operator is exchanged, or its line is broken;
        copies that come to the answer all the same are left out.
    Partial: not here is the beam search over the lines of a program by the student's likelihood and a scorer of steps.
    Paper: 45
    Cite: Xuekai Zhu, Biqing Qi, Kaiyan Zhang, Xinwei Long, Zhouhan Lin, Bowen Zhou: PaD: Program-aided Distillation Can
        Teach Small Models Reasoning Better than Chain-of-thought Fine-tuning (2023).

    Args:
        teacher: writes the programs, each run in a sandbox.
        student: answers with a program; what it prints is its answer.
        arm: the method or one of its controls.
        n: programs of a problem.
        temperature: of the teacher.
        max_new_tokens: longest program; one that is cut there is no row.
    """
    drawn: dict[str, Any] = {"temperature": temperature, "max_new_tokens": max_new_tokens}
    if arm == "cot":
        chains = keep(right, verify(keep(is_finished, sample(teacher, problems, n=n, **drawn))))
        yield Stage(student, dedupe(words, chains), "sft")
        return None

    # Programs that print the answer, each wording once.
    programs = sample(teacher, problems, prompt=WRITE_PROGRAM, n=n, **drawn)
    programs = dedupe(words, keep(is_finished, programs))
    if arm != "unchecked":
        programs = keep(right, verify_programs(programs))
    rows = programs

    # Of each a copy with an error in it, which the interpreter or the answer shows.
    if arm == "pad":
        broken = run_programs(keep(wrong, verify_programs(edit(inject_error, programs))))
        rows = mix(programs, pose_repairs(programs, broken))
        report_errors(broken)
    student = yield Stage(student, rows, "sft")
    repairs = 1 if arm == "pad" else 0
    return partial(solve_by_program, student, repairs)


def inject_error(trace: Any) -> str | None:
    """The program with an error in one assignment, by chance which; None where it has no assignment."""
    text: str = trace.text
    places = list(ASSIGNMENT.finditer(text))
    if not places:
        return None
    place = places[int(chance_fraction("place", trace.id) * len(places))]
    error = ERRORS[int(chance_fraction("error", trace.id) * len(ERRORS))]
    before, after = text[: place.start()], text[place.end() :]
    if error == "drop":
        return before + after.removeprefix("\n")
    return before + change_assignment(error, *place.groups()) + after


def change_assignment(error: str, indent: str, name: str, expression: str) -> str:
    """An assignment with an error in it; where there is no operator to exchange, its name is another one."""
    if error == "break":
        return f"{indent}{name} = ({expression}"
    operator = OPERATOR.search(expression)
    if error == "operator" and operator:
        opposite = OPPOSITES[operator[0]]
        changed = expression[: operator.start()] + opposite + expression[operator.end() :]
        return f"{indent}{name} = {changed}"
    return f"{indent}{name}_value = {expression}"


def pose_repairs(programs: Sequence[Trace], broken: Sequence[Trace]) -> list[Trace]:
    """The right programs, to be learnt where the learner sees their broken copies and what those came to."""
    repaired = among(broken, programs, by=line)
    shown = {"attempt": broken}
    return pose(partial(show_one, REPAIR), repaired, context=shown, by=line, keep_text=True)


def solve_by_program(
    model: Model, repairs: int, problems: Sequence[Trace], *, n: int = 1, **sampling: Any
) -> list[Trace]:
    """Programs with what they print; one that fails is repaired as often as the learner learnt to."""
    answers = run_programs(sample(model, problems, n=n, **sampling))
    for _ in range(repairs):
        failed = [trace for trace in answers if has_failed(trace)]
        answers = [trace for trace in answers if not has_failed(trace)]
        answers += run_programs(sample(model, pose(ANSWER_ALONE, failed), **sampling))
    return answers


def report_errors(broken: Sequence[Trace]) -> None:
    """Say how many broken copies the interpreter refused, and how many came to another value."""
    hint = (
        "A copy that comes to another value shows no message; its value is what the learner sees."
    )
    report_shares("Broken programs", [share_of("with a message", has_failed, broken)], hint=hint)
