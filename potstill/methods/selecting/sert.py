"""SERT: what the student reasons by itself at times is learnt first, without labels; a teacher's chains come after.

The paper was read in its abstract and in summaries of it. **Every rule of the filter is inferred**, and so are the
numbers: the paper says that outputs which look like reasoning are told by rules.

| constant | value | source |
|---|---|---|
| prompt | "Question: … Answer:" | a summary; zero-shot, no word of reasoning |
| samples a question | 16 | inferred: "many" |
| temperature, top-k, top-p | 1.0, 50, 0.95 | a summary names top-k and nucleus sampling; the numbers are inferred |
| words of a path | 8 to 256 | inferred |
| words that connect steps, least | 1 of `CONNECTIVES` | inferred |
| share of repeated 3-grams, most | 0.2 | inferred |
"""

from __future__ import annotations

import re
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from potstill.methods.settings import Options, options
from potstill.models.model import Model, Trainable
from potstill.records import Stage, Trace
from potstill.traces import (
    best,
    by_chance,
    dedupe,
    is_finished,
    keep,
    report_shares,
    right_test,
    sample,
    share_of,
    verify,
    words,
)
from potstill.traces.filters import repeated_share

ZERO_SHOT = "Question: {question}\nAnswer:"
CONNECTIVES = re.compile(
    r"\b(?:because|since|so|therefore|thus|hence|then|first|second|next|finally|if|which means|as a result)\b|=",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Rules:
    """What a text must have to look like reasoning.

    Args:
        min_words: fewer are an answer alone.
        max_words: more ramble.
        min_connectives: words that lead from one step to the next; an equation counts as one.
        max_repeated: share of 3-grams that stood there before.
    """

    min_words: int = 8
    max_words: int = 256
    min_connectives: int = 1
    max_repeated: float = 0.2


def sert(
    problems: list[Trace],
    teacher: Model,
    student: Trainable,
    *,
    arm: Literal["sert", "distill-only", "self-only", "unfiltered", "right"] = "sert",
    n: int = 16,
    teacher_n: int = 1,
    rules: Rules = Rules(),
    steps: bool | None = None,
    sampling: Options = options(temperature=1.0, top_k=50, top_p=0.95, max_new_tokens=512),
    teacher_sampling: Options = options(temperature=0.7, max_new_tokens=512),
) -> Generator[Stage, Trainable, None]:
    """SERT: self-enhanced reasoning training, before the distillation (Zhang et al., arXiv:2502.12744).

    Stage 1: student_1 = SFT(student, { y ~ student(. | q) : y looks like reasoning }), no label needed.
    Stage 2: student_2 = SFT(student_1, the teacher's chains).

    Learns from: its own rare samples that look like reasoning, and then the teacher's right chains.
    Needs: teacher (writes chains), student (writes and is trained).
    Controls: arm=distill-only (the teacher's chains alone, the paper's comparison), self-only (the first stage alone),
        unfiltered (as many of its samples by chance: is it the rules?), right (its right samples instead of those that
        look like reasoning: would labels do better?).
    Departure: paths are drawn by sampling; a summary says that the paper also branches on the likeliest first tokens.
        What is drawn under the zero-shot prompt is learnt under the problem's own (inferred), as the teacher's chains
        are. These must be right, which is inferred.
    Paper: 51 (from the abstract)
    Cite: Yong Zhang, Bingyuan Zhang, Zhitao Li, Ming Li, Ning Cheng, Minchuan Chen, Tao Wei, Jun Ma, Shaojun Wang, Jing
        Xiao: Self-Enhanced Reasoning Training: Activating Latent Reasoning in Small Models for Enhanced Reasoning
        Distillation (2025).

    Args:
        teacher: GPT-3.5 in the paper.
        student: GPT-2 in the paper.
        arm: the method or one of its controls.
        n: of the student's samples a question.
        teacher_n: of the teacher's chains a question.
        rules: what a sample must have to look like reasoning.
        steps: also demand that every step of a chain is right; left open, where the problems' verifier judges steps.
        sampling: of the student.
        teacher_sampling: of the teacher.
    """
    is_right = right_test(problems, steps)

    # Stage 1: latent reasoning, drawn without a word of reasoning in the prompt and told by rules.
    if arm != "distill-only":
        drawn = sample(student, problems, prompt=ZERO_SHOT, n=n, **dict(sampling))
        paths = dedupe(words, keep(is_finished, drawn))
        reasoned = keep(partial(looks_like_reasoning, rules), paths)
        report_paths(rules, drawn, reasoned)
        if arm == "unfiltered":
            # As many as the rules leave, so that the number of rows is no difference.
            reasoned = best(by_chance, paths, k=len(reasoned))
        elif arm == "right":
            reasoned = keep(is_right, verify(paths))
        student = yield Stage(student, reasoned, "sft", name="activation")

    # Stage 2: reasoning distillation from the activated student.
    if arm != "self-only":
        chains = sample(teacher, problems, n=teacher_n, **dict(teacher_sampling))
        chains = keep(is_right, verify(keep(is_finished, chains)))
        yield Stage(student, chains, "sft", name="distillation")


def looks_like_reasoning(rules: Rules, trace: Trace) -> tuple[bool, str]:
    """It has the length, the connections and the variety of reasoning; nothing is said of its answer."""
    text_words = trace.text.split()
    if not rules.min_words <= len(text_words) <= rules.max_words:
        return False, f"not {rules.min_words} to {rules.max_words} words long"
    if len(CONNECTIVES.findall(trace.text)) < rules.min_connectives:
        return False, "nothing in it leads from one step to the next"
    # A loop is fluent and connected; its repetition alone gives it away.
    is_varied = repeated_share(text_words, 3) <= rules.max_repeated
    return is_varied, f"repeats more than {rules.max_repeated:.0%} of its 3-word stretches"


def report_paths(rules: Rules, drawn: Sequence[Trace], reasoned: Sequence[Trace]) -> None:
    """Say how rare reasoning is among the student's samples."""
    test = partial(looks_like_reasoning, rules)
    shares = [share_of("samples that are whole", is_finished, drawn)]
    shares.append(share_of("samples that look like reasoning", test, drawn))
    hint = f"Told by rules, without labels; {len(reasoned)} different whole ones are learnt."
    report_shares("Latent reasoning of the student", shares, hint=hint)
