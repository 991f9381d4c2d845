"""FS-BoN: the student learns its own shortest right samples, drawn with and without short examples in its prompt.

| constant | value | source |
|---|---|---|
| samples a problem under each prompt | 16 | released code, README: `irpo:16`, `gpt4o:16` |
| examples shown | 8 | released code, `num_shots` |
| temperature, top-k, top-p | 0.7, 40, 0.95 | released code, paths of its data |
| longest sample | 512 tokens (GSM8K), 1,024 (MATH) | released code, `preprocess.py`: at the limit it is dropped |
| training: learning rate, epochs, batch | 1e-5 constant, 1, 16 | released code; left to the recipe |
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import Any, Literal

from potstill.methods.gold_solutions import has_solution, show_solution
from potstill.models.model import Model, Trainable
from potstill.records import Stage, Trace
from potstill.traces import (
    Share,
    best,
    dedupe,
    edit,
    few_shot,
    is_finished,
    keep,
    mix,
    problem,
    report_shares,
    right_test,
    sample,
    show_as_turns,
    split_by,
    verify,
    words,
)

SHORT = "{prompt}\n\nUse as few words as possible: write the steps that are needed, and the answer."


def fs_bon(
    problems: list[Trace],
    student: Trainable,
    writer: Model | None = None,
    *,
    arm: Literal["fs-bon", "bon", "few-shot", "any-length"] = "fs-bon",
    examples: Literal["own", "solutions"] = "own",
    n: int = 16,
    shots: int = 8,
    steps: bool | None = None,
    temperature: float = 0.7,
    max_new_tokens: int = 512,
) -> Generator[Stage, Trainable, None]:
    """FS-BoN: self-training elicits concise reasoning (Munkhbat et al., arXiv:2502.20122).

    Of n samples under the bare prompt and n behind short worked examples the shortest right one is the row:
    y* = argmin { |y| : y ~ M(q) or y ~ M(examples, q), V(y, a*) = 1 }. The learner sees the bare prompt.

    Learns from: its own shortest right sample of each problem.
    Needs: student (writes and is trained), [writer] (writes the short examples, and no rows).
    Controls: arm=bon (no examples: best-of-N alone), few-shot (a sample behind examples, whatever its length),
        any-length (a sample of both pools, whatever its length: is it the choice of the shortest?).
    Departure: every problem is shown the same examples, never one of its own; the released code draws them anew. The
        first samples are under the problem's own prompt; there a system prompt asks for steps, and the learner sees the
        question alone. The prompt of the examples' writer is ours. Without a writer they are the student's own shortest
        right samples, or the problems' solutions (examples=solutions): both are arms of the paper; its rows of another
        model are `sft` with the writer as teacher. With `steps` a row's steps are right.
    Paper: 92
    Cite: Tergel Munkhbat, Namgyu Ho, Seo Hyun Kim, Yongjin Yang, Yujin Kim, Se-Young Yun: Self-Training Elicits Concise
        Reasoning in Large Language Models (2025).

    Args:
        student: is trained on what it wrote itself.
        writer: a stronger model that writes concisely; GPT-4o in the paper.
        arm: the method or one of its controls.
        examples: where they come from without a writer.
        n: samples a problem under each of the two prompts.
        shots: examples in a prompt.
        steps: also demand that every step is right; left open, where the problems' verifier judges steps.
        temperature: of the student's samples.
        max_new_tokens: longest sample; one that is cut there is no row.
    """
    is_right = right_test(problems, steps)
    sampling: dict[str, Any] = {"temperature": temperature, "top_k": 40, "top_p": 0.95}
    sampling["max_new_tokens"] = max_new_tokens

    # Best-of-N: its right samples under the bare prompt.
    samples = sample(student, problems, n=n, **sampling)
    zero_shot = keep_distinct(is_right, samples)

    # Few-shot conditioning: the same behind short examples.
    conditioned: list[Trace] = []
    if arm != "bon":
        pool = best(conciseness, zero_shot, by=problem)
        if writer is not None:
            short_texts = sample(writer, problems, prompt=SHORT, max_new_tokens=max_new_tokens)
            pool = keep_distinct(is_right, short_texts)
        elif examples == "solutions":
            pool = edit(show_solution, keep(has_solution, problems))
        context = {"examples": few_shot(pool, shots, at_least=1)}
        samples = sample(
            student,
            problems,
            prompt=partial(show_as_turns, ask_for_solution),
            context=context,
            n=n,
            **sampling,
        )
        conditioned = keep_distinct(is_right, samples)

    # One row a problem: the shortest of both pools, or by chance in the controls.
    if arm == "few-shot":
        rows = dedupe(problem, mix(conditioned))
    elif arm == "any-length":
        rows = dedupe(problem, mix(zero_shot, conditioned))
    else:
        rows = best(conciseness, [*zero_shot, *conditioned], by=problem)
    report_lengths(zero_shot, conditioned, rows)
    yield Stage(student, rows, "sft")


def keep_distinct(is_right: Callable[[Trace], bool], samples: list[Trace]) -> list[Trace]:
    """The finished right samples, each wording once."""
    return dedupe(words, keep(is_right, verify(keep(is_finished, samples))))


def ask_for_solution(trace: Any) -> str:
    """A turn of the user, in the released code's form."""
    return f"Question: {trace.question}\nSolution:"


def conciseness(trace: Trace) -> int:
    """Minus the tokens of a sample, or its words where nobody counted tokens: the highest is the shortest."""
    return -(trace.tokens.completion or len(trace.text.split()))


def report_lengths(
    zero_shot: Sequence[Trace], conditioned: Sequence[Trace], rows: Sequence[Trace]
) -> None:
    """Say how long the rows are beside the student's other right samples of the same problems."""
    conditioned_ids = {trace.id for trace in conditioned}
    usual, _ = split_by(rows, zero_shot)
    usual_length = sum(conciseness(trace) for trace in usual) / max(1, len(usual))
    row_length = sum(conciseness(row) for row in rows) / max(1, len(rows))
    conditioned_rows = sum(row.id in conditioned_ids for row in rows)
    shares = [
        Share("rows written behind examples", conditioned_rows, len(rows)),
        Share("tokens of a row, of a right sample's", round(-row_length), round(-usual_length)),
    ]
    hint = "Of each problem the shortest right sample is learnt; beside it, its right samples without examples."
    report_shares("Shortest right samples", shares, hint=hint)
