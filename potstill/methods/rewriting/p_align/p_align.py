"""P-ALIGN: the student learns the shortest sufficient prefix of a teacher's reasoning, and its own continuation.

The paper's full text could not be read: this is its abstract's method with the mechanics of its released code. What is
read and what is inferred stands in `settings.py`, the prompts in `prompts.py`, the search in `prefixes.py`.

Cite: Zhenghao Liu, Zhuoyang Wu, Xinze Li, Yukun Yan, Shuo Wang, Zulong Chen, Yu Gu, Ge Yu, Maosong Sun: Long-Chain
    Reasoning Distillation via Adaptive Prefix Alignment (2026).
"""

from __future__ import annotations

from collections.abc import Callable, Container, Generator, Mapping, Sequence
from functools import partial
from typing import Any

from potstill.methods.rewriting.p_align.prefixes import (
    Bisection,
    first_sentences,
    judge_by_outcome,
    judge_by_verdict,
    prefix_lengths,
    search_prefixes,
    split_sentences,
)
from potstill.methods.rewriting.p_align.settings import ARMS, Arm, Settings
from potstill.methods.settings import apply_arm
from potstill.models.model import Model, Trainable
from potstill.records import Span, Stage, Trace
from potstill.traces import (
    ReferenceGate,
    Retried,
    Score,
    Share,
    edit,
    has_box,
    is_finished,
    keep,
    keep_reasoned,
    look_up,
    refuse_hidden_end,
    report_shares,
    retry,
    rewrite,
    right,
    right_test,
    sample,
    score,
    verify,
)

Test = Callable[[Trace], bool]


def p_align(
    problems: list[Trace],
    teacher: Model,
    student: Trainable,
    evaluator: Model | None = None,
    *,
    arm: Arm = "align",
    steps: bool | None = None,
    gate: ReferenceGate = ReferenceGate(),
    settings: Settings = Settings(),
) -> Generator[Stage, Trainable, None]:
    """P-ALIGN: adaptive prefix alignment (Liu et al., arXiv:2601.10064).

    Prefix: R~ = (s_1 .. s_p), p = min { p : J_M(q, s_1 .. s_p) = ENOUGH } by bisection over the sentences of the
    teacher's reasoning. Continuation: y ~ M(I_align(q, R~)). Data: { (q, R~ + y) : Ans(y) = a* }, one row a problem.
    The learner sees the bare question, and learns to write prefix and continuation.

    Learns from: the shortest beginning of the teacher's reasoning that it finds sufficient, and its own continuation.
    Needs: teacher (reasons), student (judges prefixes, goes on and is trained), [evaluator] (judges in its place).
    Controls: arm=continuation-only (the prefix is shown and not learnt: self-distillation), arm=whole (no cut),
        arm=fixed (half of the sentences for all), arm=shuffled (the share that was found for another problem: is it
        the search, or the length?), arm=outcome (a prefix is enough where the student's continuation comes out right:
        what a verdict is worth).
    Departure: the teacher's chains must be right. A verdict is asked for at temperature 0 and read strictly; one that
        can't be read, or says both, is no. Sentences end at the end of a line too, and keep the blank behind them: the
        released code doubles full stops at the joints. A row is finished, has its answer in a box and as
        much of the teacher's reasoning as `gate` asks for; with `steps` its steps are right too. The prompts' wording
        is ours, and both are values.
    Partial: not here is the choice among several continuations by a larger model that summaries of the paper mention.

    Args:
        teacher: reasons at length; the prefix is the beginning of its thought.
        student: learns; judges prefixes where there is no evaluator, and goes on behind them.
        evaluator: says whether a prefix is enough.
        arm: the method or one of its controls; a row of `ARMS`.
        steps: also demand that every step is right; left open, where the problems' verifier judges steps.
        gate: how much of the teacher's reasoning a row must show, prefix and continuation together; the rows of
            arm=continuation-only are not measured.
        settings: what the sources say and what is inferred.
    """
    settings = apply_arm(settings, ARMS[arm])
    is_right = right_test(problems, steps)
    refuse_hidden_end(gate, "p_align", "its prefix is what is shown")

    # Step 1, the teacher's right chains, their thoughts in sentences.
    chains = sample(
        teacher,
        problems,
        max_new_tokens=settings.max_new_tokens,
        **dict(settings.teacher_sampling),
    )
    chains = keep(is_right, verify(chains))
    thoughts = split_sentences(settings, chains)

    # Step 2, the shortest prefix that is enough.
    searches: dict[str, Bisection] = {}
    if settings.prefix != "fixed":
        judged_by = judge_by_verdict(evaluator or student, settings)
        if settings.judged_by == "outcome":
            judged_by = judge_by_outcome(student, settings)
        searches = search_prefixes(judged_by, thoughts)
    lengths = prefix_lengths(thoughts, searches, settings)
    prefixes = edit(partial(first_sentences, lengths), thoughts)

    # Steps 3 and 4, the student's continuation, kept where it comes to the right answer; then both as one text.
    aligned = align(student, prefixes, settings, is_right=is_right, chains=chains, gate=gate)
    prefix_shares: dict[str, Score] = {}
    for thought in thoughts:
        prefix_shares[thought.problem.id] = lengths[thought.id] / len(thought.units)
    rows = score("prefix_share", look_up(prefix_shares), aligned.passing)

    report_prefixes(thoughts, searches, lengths, aligned.first_share)
    yield Stage(student, rows, "sft")


def align(
    student: Model,
    prefixes: list[Trace],
    settings: Settings,
    *,
    is_right: Test,
    chains: Sequence[Trace],
    gate: ReferenceGate,
) -> Retried:
    """Continue each prefix until a continuation passes, at most 1 + m times; one row a problem.

    Args:
        student: goes on.
        prefixes: of the teacher's reasoning.
        settings: of the method.
        is_right: whether answers alone are verified, or steps too.
        chains: the teacher's whole reasoning, beside which a row is measured.
        gate: how much of it a row must show.
    """

    def continue_once(remaining: list[Trace], resample: int) -> list[Trace]:
        continuations = rewrite(
            student,
            remaining,
            prompt=settings.align_prompt,
            sample_index=resample,
            guard=False,
            max_new_tokens=settings.max_new_tokens,
            **dict(settings.align_sampling),
        )
        continuations = keep(right, verify(keep(has_box, keep(is_finished, continuations))))
        passing = continuations
        if settings.learn_prefix:
            passing = verify(
                edit(partial(join, settings), continuations, context={"prefixes": remaining})
            )
        if is_right is not right:
            ids = {trace.id for trace in continuations if is_right(trace)}
            passing = keep(partial(is_sound, is_right, ids), passing)
        # A continuation alone begins where the prefix ends: it need not have the chain's first steps.
        if settings.learn_prefix:
            passing = keep_reasoned(passing, chains, gate=gate)
        return passing

    return retry(continue_once, prefixes, 1 + settings.resamples)


def join(settings: Settings, continuation: Any, prefixes: Sequence[Any]) -> dict[str, Any]:
    """A row's text: the prefix between its marks, and the continuation; both are learnt, each as its author's."""
    [prefix] = prefixes
    opening = settings.opening + prefix.text + settings.closing
    written = Span(0, len(opening), "written", author=prefix.author.model)
    return {
        "text": opening + continuation.text,
        "prefix_length": len(opening),
        "finish_reason": continuation.finish_reason,
        "spans": (written,),
    }


def is_sound(is_right: Test, sound_continuations: Container[str], row: Trace) -> tuple[bool, str]:
    """Its steps are right as one text, or those of the continuation are by themselves.

    A continuation goes on where the prefix breaks off, or solves the problem from the beginning.
    """
    of_continuation = row.id in sound_continuations or row.parents[0] in sound_continuations
    return is_right(row) or of_continuation, "right answer, but a step is wrong or none was judged"


# What the report shows.


def report_prefixes(
    thoughts: Sequence[Trace],
    searches: Mapping[str, Bisection],
    lengths: Mapping[str, int],
    first_share: Share,
) -> None:
    """Report of the prefixes how often one was enough, and how much of the reasoning they hold."""
    sufficient = [search for search in searches.values() if search.shortest is not None]
    sentences = sum(len(thought.units) for thought in thoughts)
    shares = [
        Share("thoughts with a prefix that is enough", len(sufficient), len(searches)),
        Share("sentences of the teacher in the prefixes", sum(lengths.values()), sentences),
        first_share._replace(label="first continuations that pass"),
    ]
    hint = (
        "Where no prefix is found to be enough, the whole reasoning is taken, and its answer with it. How many "
        "verdicts could not be read stands below, under the replies."
    )
    report_shares("Prefixes of the teacher's reasoning", shares, hint=hint)
