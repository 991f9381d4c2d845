"""SuperCorrect: thought templates, then preference on the first wrong step (Yang et al., arXiv:2410.09008, ICLR 2025).

The constants and controls stand in `settings.py`, the prompts in `prompts.py`, the form of a solution in `format.py`,
the inspector's loop in `inspection.py`, the second stage's rows in `pairs.py`, their sides in `corrections.py`.

Departure: the paper's wrong solutions come from three students, ours from this one. Pairs whose sides fault
    different steps are left out (settings.other_step), as are self-corrections that come out right. Inspected are
    templates and the corrections of a writer who saw the reference (inferred). Both must have as much of the
    reference's reasoning as `gate` asks for. Batches are the recipe's; the paper's are of 128.
Paper: R4
Cite: Ling Yang, Zhaochen Yu, Tianjun Zhang, Minkai Xu, Joseph E. Gonzalez, Bin Cui, Shuicheng Yan: SuperCorrect:
    Advancing Small LLM Reasoning with Thought Template Distillation and Self-Correction (2025).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from potstill.methods.checks import require_wrong_attempts
from potstill.methods.errors.supercorrect.corrections import (
    finds_fault,
    has_template,
    is_self_contained,
)
from potstill.methods.errors.supercorrect.inspection import inspect_texts
from potstill.methods.errors.supercorrect.pairs import (
    correct_own,
    keep_usable,
    make_pairs,
    report_corrections,
    write_corrections,
)
from potstill.methods.errors.supercorrect.prompts import (
    INSPECT,
    add_request,
    alone_prompt,
    correction_prompt,
    student_request,
    teacher_prompt,
)
from potstill.methods.errors.supercorrect.settings import ARMS, Arm, Settings, preference_objective
from potstill.methods.gold_solutions import has_solution
from potstill.methods.settings import apply_arm
from potstill.models.model import Model, Trainable
from potstill.records import Stage, Trace
from potstill.traces import (
    ReferenceGate,
    agreement,
    among,
    best,
    by_chance,
    dedupe,
    is_finished,
    keep,
    keep_reasoned,
    line,
    mix,
    plain,
    pose,
    problem,
    refuse_hidden_end,
    rewrite,
    right,
    right_test,
    same_answer,
    sample,
    score,
    verify,
    wrong,
)

Solver = Callable[..., list[Trace]]


def supercorrect(
    problems: list[Trace],
    teacher: Model,
    student: Trainable,
    inspector: Model | None = None,
    *,
    n: int = 4,
    arm: Arm = "cross",
    steps: bool | None = None,
    gate: ReferenceGate = ReferenceGate(),
    settings: Settings = Settings(),
) -> Generator[Stage, Trainable, Solver]:
    """SuperCorrect: hierarchical thought templates, then cross-model step preference (Yang et al., arXiv:2410.09008).

    L_HSFT = - sum log pi(T, s | P_stu, x). L_DPO = - E log sigma( beta log[pi(y+|c) / pi_HSFT(y+|c)] - beta
    log[pi(y-|c) / pi_HSFT(y-|c)] ) with c = (x, s_1 .. s_{k-1}) and y = (a_k, c_k), cause and correction of the first
    wrong step k.

    Learns from: reference solutions rewritten as thought templates, then pairs: the teacher's correction of the
        student's first wrong step against the student's own, failed one.
    Needs: teacher (rewrites the reference solutions, corrects the student), student (writes and is trained),
        [inspector] (compares templates and corrections with the reference; else the teacher does).
    Controls: arm=flat (a chain of thought without the template), arm=hsft (no second stage), arm=self (both sides are
        the student's own), arm=step (the step itself, right against wrong: Step-DPO), arm=whole (whole solutions),
        arm=chosen-only (the chosen side, supervised), arm=correction-only (no cause), arm=cause-only (no correction),
        arm=shuffled-cause (whether the cause is the error's own), arm=ungrounded (a stronger model without sight of
        the reference), arm=student-grounded (sight of the reference without a stronger model), settings.key
        (explanations of hard steps), settings.generalized (what such problems teach), settings.xml (tags or words).

    Args:
        teacher: rewrites the reference solutions, and corrects the student.
        student: learns; also writes the wrong solutions and the failed corrections.
        inspector: compares templates and corrections with the reference; the teacher, where none is given.
        n: solutions that the student writes of a problem, to err in.
        arm: the method or one of its controls; a row of `ARMS`.
        steps: also demand that every step of a template is right; left open, where the problems' verifier judges steps.
            Corrections quote wrong steps, so that their answers alone are verified.
        gate: how much of the reference solution's steps and length templates and corrections must have.
        settings: what the paper chooses, what is inferred, and the parts of the template.
    """
    settings = apply_arm(settings, ARMS[arm])
    refuse_hidden_end(gate, "supercorrect", "a template is made of the whole solution")
    is_right = right_test(problems, steps)
    inspector = inspector or teacher
    posed = pose_problems(settings, keep(has_solution, problems))

    # Steps 1 to 3, HSFT: the teacher rewrites each reference solution as a thought template, the inspector compares.
    templates = write_templates(teacher, inspector, posed, settings)
    templates = keep_reasoned(keep(is_right, templates), gate=gate)
    taught: list[Trace] = []
    if settings.taught_corrections:
        samples = draw_solutions(student, keep(has_solution, problems), n, settings)
        taught = teach_correcting(teacher, inspector, samples, gate, settings)
    hsft_rows = mix(templates, taught)
    student = yield Stage(student, hsft_rows, "sft", name="hsft", **dict(settings.hsft_training))
    if settings.preference == "none":
        return make_solver(student, settings)

    # Step 4: the HSFT student's wrong solutions.
    attempts = expose_errors(student, posed, n, settings)

    # Steps 5 and 7: right and inspected corrections of their first wrong steps.
    corrector = teacher if settings.corrector == "teacher" else student
    corrections = write_corrections(corrector, inspector, attempts, settings)
    chosen = keep_reasoned(keep_usable(corrections, attempts), gate=gate)
    attempts = among(chosen, attempts, by=line)

    # Step 6: the student's own corrections; it is shown no reference.
    own: list[Trace] = []
    if settings.preference == "cross":
        own = correct_own(student, attempts, chosen, settings)

    # Step 8, Cross-DPO: on each first wrong step the chosen correction against a failed one of the student.
    pairs = make_pairs(attempts, chosen, own, templates, settings)
    if settings.max_pairs:
        pairs = best(by_chance, pairs, k=settings.max_pairs)
    report_corrections(corrections, own, chosen, pairs)
    objective, keywords = preference_objective(settings)
    student = yield Stage(student, pairs, objective, name="cross-dpo", **keywords)
    return make_solver(student, settings)


# Stage 1.


def pose_problems(settings: Settings, problems: Sequence[Trace]) -> list[Trace]:
    """The problems as the learner sees them: with the request for the template, or as they are for a flat chain."""
    if not settings.hierarchy:
        return list(problems)
    return pose(partial(add_request, student_request(settings)), problems)


def write_templates(
    teacher: Model, inspector: Model, posed: list[Trace], settings: Settings
) -> list[Trace]:
    """The reference solutions as the teacher rewrites them: inspected, judged, in the template."""
    prompt = teacher_prompt(settings)
    drafts = sample(
        teacher,
        posed,
        prompt=prompt,
        max_new_tokens=settings.max_new_tokens,
        **dict(settings.teacher_sampling),
    )
    templates = inspect_texts(
        inspector,
        teacher,
        keep(is_finished, drafts),
        inspect=INSPECT,
        write=prompt,
        settings=settings,
    )
    templates = verify(keep(is_finished, templates))
    if settings.hierarchy:
        templates = keep(has_template, templates)
    return keep(is_self_contained, templates)


def teach_correcting(
    teacher: Model,
    inspector: Model,
    samples: list[Trace],
    gate: ReferenceGate,
    settings: Settings,
) -> list[Trace]:
    """The teacher's corrections of the untrained student's errors, under the prompt that shows no reference."""
    settings = replace(
        settings, corrector="teacher", grounded=True
    )  # whatever the arm corrects by later
    attempts = choose_errors(keep(is_finished, keep(wrong, samples)), settings)
    corrections = write_corrections(teacher, inspector, attempts, settings)
    corrections = keep_reasoned(keep(finds_fault, keep(right, corrections)), gate=gate)
    return pose(
        partial(alone_prompt, correction_prompt(settings, grounded=False)),
        keep(is_self_contained, corrections),
        context={"attempts": attempts},
        by=line,
        keep_text=True,
    )


# Stage 2.


def expose_errors(student: Model, posed: list[Trace], n: int, settings: Settings) -> list[Trace]:
    """The HSFT student's wrong solutions, some a problem, that can be read as steps."""
    samples = draw_solutions(student, posed, n, settings)
    require_wrong_attempts(
        "supercorrect", samples, alternative="templates alone are --set arm=hsft"
    )
    attempts = keep(is_finished, keep(wrong, samples))
    return choose_errors(keep(has_template, attempts), settings)


def draw_solutions(
    student: Model, problems: list[Trace], n: int, settings: Settings
) -> list[Trace]:
    """Judged solutions of the student, each scored by how many of its problem's agree with it."""
    samples = sample(
        student,
        problems,
        n=n,
        max_new_tokens=settings.max_new_tokens,
        **dict(settings.student_sampling),
    )
    return score("agreement", agreement, verify(samples))


def choose_errors(attempts: list[Trace], settings: Settings) -> list[Trace]:
    """One wrong solution a wrong answer, those of the most frequent answers of each problem."""
    attempts = dedupe(same_answer(attempts), attempts)
    return best(how_frequent, attempts, by=problem, k=settings.errors_per_problem)


def how_frequent(trace: Trace) -> float | str | None:
    """The share of its problem's solutions that come to its answer."""
    return trace.scores["agreement"]


# Test time.


def make_solver(student: Model, settings: Settings) -> Solver:
    """How the student is measured: under the prompt that it learnt, and with a second call where it corrects itself."""
    if not settings.hierarchy:
        return partial(plain, student)
    request = student_request(settings)
    if settings.self_correct:
        prompt = correction_prompt(settings, grounded=False)
        return partial(solve_and_correct, student, request, prompt)
    return partial(solve_in_steps, student, request)


def solve_in_steps(
    student: Model, request: str, problems: Sequence[Trace], *, n: int = 1, **sampling: Any
) -> list[Trace]:
    """Solutions in the template."""
    return sample(student, pose(partial(add_request, request), problems), n=n, **sampling)


def solve_and_correct(
    student: Model,
    request: str,
    prompt: str,
    problems: Sequence[Trace],
    *,
    n: int = 1,
    **sampling: Any,
) -> list[Trace]:
    """Solutions in the template, each corrected once by the student itself."""
    drafts = solve_in_steps(student, request, problems, n=n, **sampling)
    return rewrite(student, drafts, prompt=prompt, guard=False, **sampling)
