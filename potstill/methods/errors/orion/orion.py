"""ORION: the student rewrites the teacher's reasoning in the light of its own errors (arXiv:2505.22131 v2).

Learns from: its own rewrites of the teacher's right chains, made with its own wrong attempts in view.
Needs: teacher (writes), student (writes and is trained).
Controls: arm=none (no attempts are shown), arm=shuffled (other problems' attempts), arm=errors-only (no teacher's
    chain is shown), arm=no-rewriting (the teacher's chains as they are), arm=teacher-refines (the teacher rewrites),
    arm=on-policy (ours, nobody rewrites: the student that is shown chain and errors teaches the bare student token by
    token, on what that writes), arm=on-policy-none (so, without errors), arm=on-policy-shuffled (so, with another
    problem's errors), settings.prompt (order, number and marks of what is shown: `potstill tune-prompts orion`
    compares them).
Departure: the paper's full text could not be read; this is its abstract's method, with the mechanics of its siblings
    EULER and P-ALIGN. The paper's prompt is not known, and ours is the one that a small student was measured to follow
    best. What is inferred stands in `settings.py`, the prompts in `prompts.py`, the tests of a row in `filters.py`,
    among them `gate`: how much of the reference's reasoning a rewrite must show.
Partial: not here are the truncated teacher chain as a fallback, errors of EULER's error model, and two graders that
    must agree.
Paper: R1
Cite: Zhuoyang Wu, Xinze Li, Zhenghao Liu, Yukun Yan, Zhiyuan Liu, Minghe Yu, Cheng Yang, Yu Gu, Ge Yu, Maosong Sun:
    Enhancing Long-Chain Reasoning Distillation through Error-Aware Self-Reflection (2025).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator
from functools import partial

from potstill.methods.checks import sample_attempts
from potstill.methods.errors.orion.copying import score_copying
from potstill.methods.errors.orion.filters import filter_rewrites, has_errors_to_show
from potstill.methods.errors.orion.on_policy import teach_with_errors
from potstill.methods.errors.orion.prompt_length import attempts_of_draw, left_out, show_prompt
from potstill.methods.errors.orion.prompts import PROMPTS
from potstill.methods.errors.orion.settings import ARMS, Arm, Settings
from potstill.methods.settings import apply_arm
from potstill.methods.shuffling import shuffled_key
from potstill.models.model import Model, Trainable
from potstill.records import Stage, Trace
from potstill.traces import (
    ReferenceGate,
    Retried,
    each,
    hide_ends,
    is_finished,
    keep,
    problem,
    repeats_little,
    report_shares,
    retry,
    rewrite,
    right_test,
    same_answer,
    sample,
    score,
    split_by,
    verify,
    wrong,
)
from potstill.traces.word_overlap import word_jaccard

RewriteBases = Callable[..., list[Trace]]
ApplyFilters = Callable[[list[Trace]], list[Trace]]
FIRST_REWRITES = (
    "How often the first rewrite of a problem passes every filter, by what its prompt showed. Compare the arms: if "
    "own, other problems' and no attempts do equally well, the writer only copies the reference."
)


def orion(
    problems: list[Trace],
    teacher: Model,
    student: Trainable,
    *,
    n: int = 5,
    arm: Arm = "own",
    steps: bool | None = None,
    gate: ReferenceGate = ReferenceGate(),
    settings: Settings = Settings(),
) -> Generator[Stage, Trainable, None]:
    """ORION: error-aware self-reflection (arXiv:2505.22131).

    Exposure: Y_i^e = { y_i^j : V(y_i^j, a_i*) = 0 }. Reflection: y~_i = M(I_ref(q_i, c_i^T, Y_i^e)).
    Data: { (q_i, y~_i) : V(y~_i, a_i*) = 1 }, one row a problem. The learner sees the bare question.

    Args:
        n: solutions sampled from the student a problem, to expose its errors.
        arm: which ablation; a row of `ARMS`.
        steps: also demand that every step is right; left open, where the problems' verifier judges steps.
        gate: what of the reference is hidden from the writer, and how much of it a rewrite must show in its own words.
        settings: what is inferred.
    """
    settings = apply_arm(settings, ARMS[arm])
    is_right = right_test(problems, steps)

    # Step 1, exposure: the student's wrong attempts. It comes first: a student without errors costs no teacher.
    attempts: list[Trace] = []
    if settings.errors != "none" and settings.writer != "nobody":
        attempts = expose_errors(student, problems, n, settings)
    attempts_key = shuffled_key(attempts) if settings.errors == "shuffled" else problem

    # Step 2, the teacher's right reasoning: the reference of a rewrite.
    chains = keep(is_right, verify(reason(teacher, problems, settings)))
    if settings.writer == "nobody":
        yield Stage(student, score_copying(chains, chains, []), "sft")
        return

    # Step 3, reflection: the writer is shown question, reference and attempts; the learner sees the bare question.
    bases = hide_ends(chains, gate) if settings.reference else problems
    bases = score("left_out", partial(left_out, settings, attempts, attempts_key), bases)
    if settings.on_policy:
        taught = teach_with_errors(problems, bases, attempts, settings, by=attempts_key)
        yield Stage(student, taught, "jsd", **dict(settings.distillation))
        return
    with_errors, without_errors = split_by(attempts, bases)
    writer = teacher if settings.writer == "teacher" else student
    prompt = PROMPTS[settings.prompt]
    template = prompt.with_reference if settings.reference else prompt.attempts_alone
    rewrite_with_attempts = partial(
        rewrite,
        writer,
        prompt=partial(show_prompt, template, settings),
        by=attempts_key,
    )
    apply_filters = partial(filter_rewrites, chains, is_right, gate, settings)
    reflected = reflect(rewrite_with_attempts, with_errors, attempts, apply_filters, settings)
    rows = reflected.passing
    shares = [reflected.first_share._replace(label="shown wrong attempts")]

    # Problems without errors follow a policy of their own.
    reflects_alone = settings.reference and (
        settings.no_errors == "reflect" or settings.errors == "none"
    )
    if reflects_alone:
        rewrite_alone = partial(
            rewrite, writer, prompt=partial(show_prompt, prompt.reference_alone, settings)
        )
        alone = reflect(rewrite_alone, without_errors, [], apply_filters, settings)
        rows += alone.passing
        shares.append(alone.first_share._replace(label="shown no attempts"))
    elif settings.no_errors == "drop":
        keep(has_errors_to_show, without_errors)

    # Where no rewrite passed, the teacher's reasoning may take its place.
    tried = bases if reflects_alone else attempts
    rows += fall_back(chains, rows, tried, settings)

    report_shares("First rewrites that pass", shares, hint=FIRST_REWRITES)
    yield Stage(student, score_copying(rows, chains, attempts), "sft")


def expose_errors(student: Model, problems: list[Trace], n: int, settings: Settings) -> list[Trace]:
    """The student's wrong attempts, some a problem; not the unparsed, cut-off or repeating ones."""
    attempts = sample_attempts(
        "orion",
        student,
        problems,
        n=n,
        alternative="ORION without errors is --set arm=none",
        **dict(settings.exposure_sampling),
    )
    attempts = keep(is_finished, keep(wrong, attempts))
    attempts = keep(partial(repeats_little, settings.max_repetition), attempts)
    return each(partial(select_attempts, settings), attempts, by=problem)


def reason(teacher: Model, problems: list[Trace], settings: Settings) -> list[Trace]:
    """The teacher's chains, one a problem."""
    return sample(
        teacher,
        problems,
        max_new_tokens=settings.max_new_tokens,
        **dict(settings.teacher_sampling),
    )


def select_attempts(settings: Settings, attempts: list[Trace]) -> list[Trace]:
    """One attempt a distinct wrong answer, the most frequent answer first, in its shortest wording."""
    answer = same_answer(attempts)
    frequency = Counter(answer(attempt) for attempt in attempts)
    ranked = sorted(attempts, key=lambda t: (-frequency[answer(t)], len(t.text), t.id))
    chosen: list[Trace] = []
    for attempt in ranked:
        is_new = all(
            answer(attempt) != answer(other)
            and word_jaccard(attempt.text, other.text) < settings.duplicate_jaccard
            for other in chosen
        )
        if is_new and len(chosen) < settings.attempts_per_prompt:
            chosen.append(attempt)
    chosen_ids = {attempt.id for attempt in chosen}

    def selected(trace: Trace) -> bool:
        return trace.id in chosen_ids

    return keep(selected, ranked)


def reflect(
    rewrite_bases: RewriteBases,
    bases: list[Trace],
    attempts: list[Trace],
    apply_filters: ApplyFilters,
    settings: Settings,
) -> Retried:
    """Rewrite each base until a rewrite passes every filter, at most 1 + m times; one row a problem.

    Args:
        rewrite_bases: asks the writer.
        bases: what is rewritten.
        attempts: the wrong attempts that the writer is shown.
        apply_filters: keeps the rewrites that may become rows.
        settings: of the method.
    """

    def rewrite_once(remaining: list[Trace], resample: int) -> list[Trace]:
        rewrites = rewrite_bases(
            remaining,
            context={"attempts": attempts_of_draw(attempts, settings, draw=resample)},
            sample_index=resample,
            guard=False,
            max_new_tokens=settings.max_new_tokens,
            **dict(settings.reflection_sampling),
        )
        return apply_filters(rewrites)

    return retry(rewrite_once, bases, 1 + settings.resamples)


def fall_back(
    chains: list[Trace], rows: list[Trace], tried: list[Trace], settings: Settings
) -> list[Trace]:
    """The teacher's chains of problems without a row, where the policy for the problem (tried or not) asks for it."""
    _, without_row = split_by(rows, chains)
    tried_problems = {trace.problem.id for trace in tried}
    fallbacks: list[Trace] = []
    for chain in without_row:
        was_tried = chain.problem.id in tried_problems
        policy = settings.on_fail if was_tried else settings.no_errors
        if policy == "teacher":
            fallbacks.append(chain)
    return fallbacks
