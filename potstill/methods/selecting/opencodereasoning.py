"""OpenCodeReasoning: many programs a question, and no filter by their tests, for it would take the hard ones out.

| constant | value | source |
|---|---|---|
| samples a question, most | 32 | paper |
| temperature | 0.6 | paper |
| top-p | 0.95 | inferred |
| longest sample | 28,768 tokens | recipe of the release, `r1.yaml` |
| longest question | 3,200 tokens | recipe of the release |
| placeholders | `PLACEHOLDER` | release: "your code here", marks of an instruction; the others inferred |
| training | | left to the recipe |
"""

from __future__ import annotations

import re
from collections.abc import Generator, Sequence
from functools import partial
from typing import Literal

from potstill.methods.settings import Options, options
from potstill.models.model import Model, Trainable
from potstill.records import Stage, Trace
from potstill.traces import (
    Share,
    among,
    dedupe,
    is_finished,
    keep,
    report_shares,
    right,
    sample,
    share_of,
    verify,
    words,
    wrong,
)

# A block that is closed, with a line of code in it.
PROGRAM = re.compile(r"^```[ \t]*[\w+]*[ \t]*\n(.*?\S.*?)^```[ \t]*$", re.MULTILINE | re.DOTALL)
# What stands for code that was not written. A bare `pass` may be meant, so it is none.
PLACEHOLDER = re.compile(
    r"^\s*\.\.\.\s*$|(?:#|//)\s*(?:your|the|rest of the|remaining) (?:code|implementation|logic)\b"
    r"|your code here|#(?:instruction|output)#"
    r"|(?:#|//)\s*(?:TODO|implement (?:this|here|me))\b",
    re.MULTILINE | re.IGNORECASE,
)


def opencodereasoning(
    problems: list[Trace],
    teacher: Model,
    student: Trainable,
    *,
    arm: Literal["opencodereasoning", "passing", "failing", "same-questions"] = "opencodereasoning",
    n: int = 32,
    max_question_tokens: int = 3200,
    sampling: Options = options(temperature=0.6, top_p=0.95, max_new_tokens=28768),
) -> Generator[Stage, Trainable, None]:
    """OpenCodeReasoning: data distillation for competitive coding (Ahmad et al., arXiv:2504.01943).

    Learns from: the teacher's reasoning with whole programs, whether they pass their tests or not.
    Needs: teacher (writes), student (is trained).
    Controls: arm=passing (only programs that pass: the filter that lowered accuracy), failing (only programs that
        don't), same-questions (all programs, on the questions that have one that passes: does the filter hurt by the
        questions that it takes out?).
    Departure: a program with the word "pass" in it is kept, which the released check drops. Whether a program parses
        is part of its verdict, and drops nothing, where the release drops what does not. The last block of code is the
        program; the release looks at the first, and at placeholders in the whole text. The tokens of a question are
        those of the teacher's prompt. Inferred: that a text which says the same as another one is learnt once.
    Partial: Python and C++ blocks are taken alike; the verifier runs Python. What overlaps the evaluation set is
        refused by every run, not searched for in the paper's benchmarks.
    Paper: 42
    Cite: Wasi Uddin Ahmad, Sean Narenthiran, Somshubra Majumdar, Aleksander Ficek, Siddhartha Jain, Jocelyn Huang,
        Vahid Noroozi, Boris Ginsburg: OpenCodeReasoning: Advancing Data Distillation for Competitive Coding (2025).

    Args:
        teacher: R1 in the paper.
        student: learns.
        arm: the method or one of its controls.
        n: samples a question.
        max_question_tokens: a longer question is left out.
        sampling: of the teacher.
    """
    samples = sample(teacher, problems, n=n, **dict(sampling))

    # Structure decides: whole texts with a whole program.
    texts = keep(partial(has_short_question, max_question_tokens), keep(is_finished, samples))
    texts = keep(has_whole_program, texts)
    texts = dedupe(words, texts)

    # The tests only annotate; a control deletes by them.
    texts = verify(texts)
    rows = texts
    if arm == "passing":
        rows = keep(right, texts)
    elif arm == "failing":
        rows = keep(wrong, texts)
    elif arm == "same-questions":
        rows = among([text for text in texts if right(text)], texts)
    report_verdicts(texts, rows)
    yield Stage(student, rows, "sft")


def has_short_question(max_tokens: int, trace: Trace) -> tuple[bool, str]:
    """The prompt that the teacher saw is no longer than the limit."""
    return trace.tokens.prompt <= max_tokens, f"its question has more than {max_tokens} tokens"


def has_whole_program(trace: Trace) -> tuple[bool, str]:
    """Behind the thought stands a closed block of code, without a placeholder."""
    blocks = PROGRAM.findall(trace.reply)
    if not blocks:
        return False, "no whole block of code behind the thought"
    # The last block is the program; earlier ones are parts and examples of its input.
    placeholder = PLACEHOLDER.search(blocks[-1])
    if placeholder is not None:
        return False, f"a placeholder in its program: {placeholder[0].strip()!r}"
    return True, ""


def report_verdicts(texts: Sequence[Trace], rows: Sequence[Trace]) -> None:
    """Say how many programs pass, and which questions a filter by tests would take out."""
    # What a filter costs is counted in questions: it takes out whole ones, and those are hard.
    questions = {text.problem.id for text in texts}
    solved = {text.problem.id for text in texts if right(text)}
    shares = [
        share_of("whole programs that pass", right, texts),
        share_of("rows that pass", right, rows),
        Share("questions that a filter would leave", len(solved), len(questions)),
    ]
    hint = "Programs are learnt whatever their tests say; a filter leaves the questions that are easy for the teacher."
    report_shares("Programs and their tests", shares, hint=hint)
