"""The second stage's rows: who corrects the wrong solutions, which corrections are used, and what is preferred."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from potstill.methods.errors.supercorrect.corrections import (
    begin_correction,
    begin_fault,
    cause_alone,
    cut_to_fault,
    cut_to_step,
    cut_to_wrong_step,
    differ_on_one_step,
    faults_step_of,
    finds_fault,
    is_not_right,
    is_self_contained,
    prompt_of_attempt,
    swap_cause,
)
from potstill.methods.errors.supercorrect.format import cause_end, read_solution
from potstill.methods.errors.supercorrect.inspection import inspect_texts
from potstill.methods.errors.supercorrect.prompts import INSPECT_CORRECTION, correction_prompt
from potstill.methods.errors.supercorrect.settings import Settings
from potstill.methods.shuffling import shuffled_key
from potstill.models.model import Model
from potstill.records import Trace
from potstill.traces import (
    Share,
    edit,
    is_finished,
    keep,
    line,
    pair,
    pair_all,
    pose,
    report_shares,
    rewrite,
    right,
    sample,
    share_of,
    verify,
)


def write_corrections(
    writer: Model, inspector: Model, attempts: list[Trace], settings: Settings
) -> list[Trace]:
    """Judged corrections of wrong solutions; those of a writer that is shown the reference are inspected.

    An inspector's faults quote the reference, so that a writer who is not to see it is not inspected.
    """
    prompt = correction_prompt(settings, grounded=settings.grounded)
    corrections = rewrite(
        writer,
        attempts,
        prompt=prompt,
        n=1 if settings.corrector == "teacher" else settings.self_corrections,
        guard=False,
        max_new_tokens=settings.max_new_tokens,
        **dict(settings.teacher_sampling),
    )
    corrections = keep(is_finished, corrections)
    if settings.grounded:
        corrections = inspect_texts(
            inspector,
            writer,
            corrections,
            inspect=INSPECT_CORRECTION,
            write=prompt,
            settings=settings,
            attempts=attempts,
        )
        corrections = keep(is_finished, corrections)
    return verify(corrections)


def keep_usable(corrections: list[Trace], attempts: Sequence[Trace]) -> list[Trace]:
    """The corrections that may be a chosen side: right, on a step that is there, without a word of the reference."""
    usable = keep(finds_fault, keep(right, corrections))
    usable = keep(partial(faults_step_of, {trace.line: trace for trace in attempts}), usable)
    return keep(is_self_contained, usable)


def correct_own(
    student: Model, attempts: list[Trace], chosen: Sequence[Trace], settings: Settings
) -> list[Trace]:
    """The student's judged corrections of its own solutions, without the reference.

    Args:
        student: who corrects.
        attempts: its wrong solutions.
        chosen: the chosen corrections of them; of use where the student is made to speak of their step.
        settings: how many are drawn, and whether the student chooses the step.
    """
    prompt = correction_prompt(settings, grounded=False)
    sampling = {
        "n": settings.self_corrections,
        "max_new_tokens": settings.max_new_tokens,
        **dict(settings.student_sampling),
    }
    if settings.other_step == "skip":
        corrections = rewrite(student, attempts, prompt=prompt, guard=False, **sampling)
        return verify(keep(is_finished, corrections))
    # It writes the cause, and then the correction and the rest, behind what begins them in the chosen side's step.
    causes = sample(
        student,
        begin_fault(settings, pose(prompt, attempts), attempts, chosen),
        **{**sampling, "stop": cause_end(xml=settings.xml)},
    )
    begun = edit(partial(begin_correction, settings), causes)
    corrections = keep(is_finished, sample(student, begun, **{**sampling, "n": 1}))
    context = {"attempts": attempts}
    return verify(pose(prompt_of_attempt, corrections, context=context, by=line, keep_text=True))


def make_pairs(
    attempts: list[Trace],
    chosen: list[Trace],
    own: list[Trace],
    templates: list[Trace],
    settings: Settings,
) -> list[Trace]:
    """The rows of the second stage, as the preference of the settings has them.

    Args:
        attempts: wrong solutions that have a chosen correction.
        chosen: corrections that may be a chosen side.
        own: the student's corrections of the same solutions, right ones included.
        templates: right solutions: the chosen side of whole solutions.
        settings: what is preferred, and what the sides hold.
    """
    if settings.preference == "whole":
        # One pair a problem; the template is also a row of the first stage.
        return pair_all(templates, attempts, k=1)
    if settings.preference == "step":
        right_steps = cut_to_step(settings, chosen, attempts)
        wrong_steps = cut_to_wrong_step(settings, attempts, chosen)
        return pair(right_steps, wrong_steps, by=line, where=differ_on_one_step)
    sides = cut_to_fault(settings, chosen, attempts)
    if settings.shuffle_causes:
        causes = edit(cause_alone, chosen)
        sides = edit(
            partial(swap_cause, settings),
            sides,
            context={"causes": causes},
            by=shuffled_key(causes, what="causes"),
        )
    if settings.preference == "chosen":
        return sides
    # A self-correction that is right after all is no rejected side: it would be a false negative.
    failed = keep(finds_fault, keep(is_not_right, own))
    return pair(sides, cut_to_fault(settings, failed, attempts), by=line, where=differ_on_one_step)


# What the report shows.


def report_corrections(
    corrections: Sequence[Trace],
    own: Sequence[Trace],
    chosen: Sequence[Trace],
    pairs: Sequence[Trace],
) -> None:
    """Report of the corrections how often they locate a wrong step, and mend the solution.

    Args:
        corrections: all of the chosen side, after the inspection.
        own: the student's own, without the reference.
        chosen: what is used of the corrections.
        pairs: the rows of the second stage.
    """
    shares = [
        *correction_shares("chosen side", corrections),
        *correction_shares("student", own),
        same_step_share(own, chosen),
        longer_share(pairs),
    ]
    hint = (
        "How often a correction names a wrong step and mends the solution. The chosen side's step is confirmed by "
        "the reference; how often the student names the same one says how well it knows its own errors. Where most "
        "chosen sides are the longer ones, the preference may be learnt as one for length."
    )
    report_shares("Corrections of wrong solutions", shares, hint=hint)


def correction_shares(who: str, corrections: Sequence[Trace]) -> list[Share]:
    """How often corrections name a wrong step, and how often they also come to the right answer."""
    return [
        share_of(f"{who}: names a wrong step, its cause and correction", finds_fault, corrections),
        share_of(f"{who}: and comes to the right answer", mends_fault, corrections),
    ]


def mends_fault(trace: Trace) -> bool:
    """It names a wrong step, and comes to the right answer."""
    return finds_fault(trace)[0] and right(trace)


def same_step_share(own: Sequence[Trace], chosen: Sequence[Trace]) -> Share:
    """How often the student names the step that the chosen correction of the same solution names."""
    step_of_line = {trace.line: first_fault(trace) for trace in chosen}
    same = [trace for trace in own if first_fault(trace) == step_of_line[trace.line]]
    return Share("student: names the step of the chosen side", len(same), len(own))


def longer_share(pairs: Sequence[Trace]) -> Share:
    """How often the chosen side is the longer one, in characters."""
    lengths = [(len(row.new), len(row.rejected.new)) for row in pairs if row.rejected is not None]
    longer = sum(chosen > rejected for chosen, rejected in lengths)
    return Share("pairs: the chosen side is the longer one", longer, len(lengths))


def first_fault(trace: Trace) -> int:
    """The number of the step that a correction faults first; 0 where it can't be read, or faults none."""
    solution = read_solution(trace.text)
    return solution.first_fault if solution is not None else 0
