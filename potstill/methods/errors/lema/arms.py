"""What the student learns of a correction, arm by arm: which part helps, and is it more than one more right chain?

| arm | | the learner sees → learns | against `full` it tells |
|---|---|---|---|
| full | A2 | question, wrong chain → step, explanation, correct solution from there on | |
| cot | A0 | question → the teacher's right chains, and nothing of the corrections | what LEMA adds |
| spliced | A1 | question → the wrong chain's right beginning, the correct rest | the error, not one more right chain |
| no-step | | as full, without the incorrect step's number | the number (as the paper asks) |
| no-explanation | A3 | as full, without the explanation | the explanation |
| no-solution | A4 | as full, without the correct solution | the solution |
| whole-chain | A5 | question, wrong chain → the spliced chain | (against `spliced`) the wrong chain as context |
| caution | A6 | question → the explanation as a caution, then the spliced chain | the wrong chain |
| shuffled-explanations | A7 | as full, with another problem's explanation | what the explanation says |
| shuffled-attempts | A8 | as full, with another problem's wrong chain | that the mistake is the question's |
| random-text | A9 | as full, with random words, as many as the explanation has | the room that it takes |
| injection | | as full, and: question, right chain, step → the wrong chain from there on | (more than full) both ways |

Every arm but `cot` has one row for each correction, of the same corrections; `injection` has two.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from random import Random
from typing import Any, NamedTuple

from potstill.errors import StageError
from potstill.methods.errors.lema import prompts
from potstill.methods.errors.lema.corrections import (
    CORRECTED_ANSWER,
    ELLIPSIS,
    EXPLANATION,
    MISTAKES,
    SOLUTION,
    STEP,
    Correction,
    correction_parts,
    read_correction,
    splice_chain,
    write_parts,
)
from potstill.methods.errors.lema.settings import Arm
from potstill.methods.errors.lema.steps import find_steps, number_chain, number_steps
from potstill.records import Prompt, Span, Trace
from potstill.template import fill_template
from potstill.traces import among, edit, line, pose
from potstill.traces.keys import Key


class Shown(NamedTuple):
    """What a learner sees: a template for chains of steps, and one for problems with options."""

    steps: str
    options: str


FULL = Shown(prompts.CORRECTION, prompts.CHOICE_CORRECTION)
ARM_PROMPTS: Mapping[str, Shown] = {
    "full": FULL,
    "no-step": Shown(prompts.NO_STEP, prompts.CHOICE_CORRECTION),
    "no-explanation": Shown(prompts.NO_EXPLANATION, prompts.CHOICE_WHOLE_ANSWER),
    "no-solution": Shown(prompts.NO_SOLUTION, prompts.CHOICE_NO_SOLUTION),
    "whole-chain": Shown(prompts.WHOLE_CHAIN, prompts.CHOICE_WHOLE_ANSWER),
    "shuffled-explanations": FULL,
    "shuffled-attempts": FULL,
    "random-text": FULL,
    "injection": FULL,
}
LEFT_OUT: Mapping[str, tuple[str, ...]] = {
    "no-step": (STEP,),
    "no-explanation": (EXPLANATION, MISTAKES),
    "no-solution": (SOLUTION, CORRECTED_ANSWER),
}
CHAIN_ARMS = ("spliced", "whole-chain", "caution")


def rows_of_arm(arm: Arm, corrections: list[Trace], attempts: list[Trace]) -> list[Trace]:
    """One row for each correction; two in the arm "injection".

    Args:
        arm: any but "cot".
        corrections: right ones that can be read.
        attempts: the wrong attempts that they correct.
    """
    if arm == "injection":
        return rows_of_arm("full", corrections, attempts) + injection_rows(corrections, attempts)
    own_attempt = {"attempts": attempts}
    # What is learnt: the correction in one form, or what the arm makes of it.
    if arm in CHAIN_ARMS:
        write = partial(write_chain, is_cautioned=arm == "caution")
        rows = edit(write, corrections, context=own_attempt, by=line)
    elif arm == "shuffled-explanations":
        explanations = edit(write_explanation, corrections)
        rows = edit(
            replace_explanation,
            corrections,
            context={"explanations": explanations},
            by=others_key(corrections, explanations),
        )
    elif arm == "random-text":
        words = explanation_words(corrections)
        rows = edit(partial(replace_by_random_words, words), corrections)
    else:
        rows = edit(partial(write_correction, LEFT_OUT.get(arm, ())), corrections)

    # What the learner sees: the problem's own prompt, or that of the arm with a wrong attempt in it.
    if arm in ("spliced", "caution"):
        return pose(prompt_of_attempt, rows, context=own_attempt, by=line, keep_text=True)
    shown_key = others_key(rows, attempts) if arm == "shuffled-attempts" else line
    show = partial(show_attempt, ARM_PROMPTS[arm])
    return pose(show, rows, context=own_attempt, by=shown_key, keep_text=True)


def injection_rows(corrections: list[Trace], attempts: list[Trace]) -> list[Trace]:
    """The other direction: the learner sees the spliced chain and writes the wrong one, from the incorrect step on."""
    corrected = among(corrections, attempts, by=line)
    wrong_chains = edit(write_injection, corrected, context={"corrections": corrections}, by=line)
    context = {"corrections": corrections, "attempts": attempts}
    return pose(show_right_chain, wrong_chains, context=context, by=line, keep_text=True)


def write_injection(attempt: Trace, corrections: Sequence[Trace]) -> dict[str, Any]:
    """The wrong attempt in the form of a correction's solution: numbered, `...` for the steps before the error."""
    [trace] = corrections
    text, step = attempt.text.strip(), parts_of(trace).step
    if step is not None:
        steps = [attempt.text[span.start : span.stop] for span in find_steps(attempt.text)]
        text = number_steps(steps[step - 1 :], first=step)
        if step > 1:
            text = f"{ELLIPSIS}\n{text}"
    return {"text": text, "finish_reason": "stop"}


def show_right_chain(trace: Trace, corrections: Sequence[Trace], attempts: Sequence[Trace]) -> str:
    """The prompt of the other direction: the question, the spliced chain, and where or how it is to go wrong."""
    [correction_trace], [attempt] = corrections, attempts
    correction = parts_of(correction_trace)
    chain, _ = splice_chain(attempt.text, correction)
    values = {"question": trace.problem.question, "choices": trace.problem.lettered_choices}
    if correction.step is None:
        values |= {"chain": chain, "part": correction.explanation}
        return fill_template(prompts.CHOICE_INJECTION, values)
    values |= {"chain": number_chain(chain), "part": f"Step {correction.step}"}
    return fill_template(prompts.INJECTION, values)


def show_attempt(shown: Shown, trace: Trace, attempts: Sequence[Trace] = ()) -> str:
    """The learner's prompt: the question with a wrong attempt, of the context or the trace's own text."""
    [attempt] = attempts or [trace]
    template = shown.options if trace.problem.choices else shown.steps
    values = {
        "question": trace.problem.question,
        "choices": trace.problem.lettered_choices,
        "attempt": attempt.text.strip() if trace.problem.choices else number_chain(attempt.text),
    }
    return fill_template(template, values)


def prompt_of_attempt(trace: Trace, attempts: Sequence[Trace]) -> Prompt:
    """The problem's own prompt, under which the attempt was written."""
    [attempt] = attempts
    return attempt.prompt


def parts_of(trace: Trace) -> Correction:
    """The parts of a correction that `is_readable` has passed."""
    correction = read_correction(trace.reply, has_options=bool(trace.problem.choices))
    if isinstance(correction, str):
        raise StageError(
            f"the correction {trace.id} {correction}", fix="keep(is_readable, …) first"
        )
    return correction


def write_correction(left_out: Sequence[str], trace: Trace) -> dict[str, Any]:
    """A correction in one form, without these parts."""
    parts = correction_parts(parts_of(trace))
    for label in left_out:
        parts.pop(label, None)
    # What is left is a whole text, and its end is learnt, also where the correct solution behind it is left out.
    return {"text": write_parts(parts), "finish_reason": "stop"}


def write_solution(trace: Trace) -> str:
    """The correct solution alone, without labels: what its answer is read from."""
    return "\n".join(parts_of(trace).steps)


def write_explanation(trace: Trace) -> str:
    """The explanation alone."""
    return parts_of(trace).explanation


def replace_explanation(trace: Trace, explanations: Sequence[Trace]) -> str:
    """A correction with the explanation of another one."""
    [other] = explanations
    return write_parts(correction_parts(parts_of(trace)._replace(explanation=other.text)))


def explanation_words(corrections: Sequence[Trace]) -> list[str]:
    """All words of all explanations, as often as they stand there, in an order that depends on nothing else."""
    words: list[str] = []
    for correction in corrections:
        words += parts_of(correction).explanation.split()
    return sorted(words)


def replace_by_random_words(words: Sequence[str], trace: Trace) -> str:
    """A correction with random words in the place of its explanation, as many as it has."""
    correction = parts_of(trace)
    rng = Random(trace.id)
    random_words = rng.choices(words, k=len(correction.explanation.split()))
    return write_parts(correction_parts(correction._replace(explanation=" ".join(random_words))))


def write_chain(trace: Trace, attempts: Sequence[Trace], *, is_cautioned: bool) -> dict[str, Any]:
    """The spliced chain: the wrong attempt's right beginning, written by its author, with the corrector's rest.

    Args:
        trace: the correction.
        attempts: the wrong attempt.
        is_cautioned: whether the explanation stands before it, as a caution.
    """
    [attempt] = attempts
    correction = parts_of(trace)
    chain, beginning = splice_chain(attempt.text, correction)
    caution = f"{prompts.CAUTION}{correction.explanation}\n" if is_cautioned else ""
    text = caution + chain
    if not beginning:
        return {"text": text, "prefix_length": 0, "finish_reason": "stop"}
    # Up to here others have written: the attempt's author, and the corrector where there is a caution.
    assert attempt.author is not None and trace.author is not None
    start, stop = len(caution), len(caution) + beginning
    spans = [Span(start, stop, "written", author=attempt.author.model)]
    if caution:
        spans.append(Span(0, start, "written", author=trace.author.model))
    return {"text": text, "prefix_length": stop, "spans": tuple(spans), "finish_reason": "stop"}


def others_key(subjects: Sequence[Trace], shown: Sequence[Trace]) -> Key:
    """A key under which each subject finds what belongs to another problem's subject.

    Args:
        subjects: one a wrong attempt; each is shown one of another problem's.
        shown: what is shown, found by its line.

    Raises:
        StageError: the subjects are of one problem only.
    """
    ranked = sorted(subjects, key=lambda trace: (trace.problem.id, trace.line))
    problem_ids = [trace.problem.id for trace in ranked]
    if len(set(problem_ids)) == 1:
        raise StageError(
            f"corrections are of one problem only ({problem_ids[0]!r}): they can't be shuffled",
            expected="corrections of two problems at least",
            fix="more problems (--limit) or more attempts a problem",
        )
    # Moved on by the largest group everyone meets another problem, unless one problem has over half of them.
    largest_group = max(Counter(problem_ids).values())
    line_of_subject: dict[str, str] = {}
    for place, subject in enumerate(ranked):
        other_place = (place + largest_group) % len(ranked)
        while problem_ids[other_place] == subject.problem.id:
            other_place = (other_place + 1) % len(ranked)
        line_of_subject[subject.id] = ranked[other_place].line
    shown_ids = {trace.id for trace in shown}

    def line_shown(trace: Trace) -> str:
        return trace.line if trace.id in shown_ids else line_of_subject[trace.id]

    return line_shown
