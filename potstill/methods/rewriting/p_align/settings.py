"""P-ALIGN's constants and controls: what the paper (arXiv:2601.10064) and its code say, and what is inferred.

P: seen in the released code, data or abstract. 2: recorded by somebody who implemented it again. I: inferred here.

| constant | value | source |
|---|---|---|
| a sentence ends at | a full stop and a blank | P, released code; here at the end of a line too (I) |
| search | bisection, from the first sentence to all of them | P |
| verdict | a bracketed word, at most 256 tokens | P |
| temperature of the verdict | 0 | I; sampled verdicts make the boundary chance |
| a verdict that can't be read | not enough | I |
| no prefix is enough | the whole trace | P |
| continuation: temperature, top-p, repetition penalty, tokens | 0.6, 0.9, 1.05, 32768 | P, alignment stage |
| continuations a problem | 1 | I; 966 of 1,000 rows remain |
| marks of the prefix in a row | `<Begin_of_Prefix>`, `<End_of_Prefix>` and a line break | 2, released rows |
| training | LoRA r 16, alpha 16, dropout 0.05 on all projections; AdamW, 5e-5, cosine, warm-up 0.1, weight decay 0; \
3 epochs; batch 32, length 32768 | 2: a recipe's `training`, no part of the method. Batch 8, four times the steps, \
removed most loops in a reproduction |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from potstill.methods.rewriting.p_align.prompts import ALIGN, JUDGE
from potstill.methods.settings import Arms, Options, options

Arm = Literal["align", "outcome", "shuffled", "fixed", "whole", "continuation-only"]


@dataclass(frozen=True, slots=True)
class Settings:
    """What the paper's sources leave open, and the marks and sizes that they name.

    Args:
        prefix: how long it is: "searched"; "shuffled", the share of the sentences that was found for another problem;
            or "fixed", the same share for all.
        fixed_share: share of the sentences of a fixed prefix; 1 is the whole reasoning.
        judged_by: what tells a sufficient prefix: the evaluator's "verdict", or the "outcome", whether the student's
            continuation of it comes to the right answer.
        learn_prefix: whether the prefix is part of the row; without it the student learns its own continuation alone.
        sentence_end: a pattern; a sentence ends behind each match.
        opening: stands before the prefix in a row.
        closing: stands between prefix and continuation in a row.
        judge_prompt: asks whether a beginning is enough; a template with {question} and {text}.
        align_prompt: shows the prefix to the student that goes on; a template with {text}, and {question} or {prompt}.
            `prompts.QUESTION_LAST` is one for models that solve problems in a single form.
        resamples: further tries where a continuation does not come to the right answer.
        max_new_tokens: longest reasoning of the teacher, and longest continuation.
        teacher_sampling: sampling of the teacher's reasoning.
        judge_sampling: sampling of verdicts, and of the continuations that are judged by their outcome.
        align_sampling: sampling of the continuations.
    """

    prefix: Literal["searched", "shuffled", "fixed"] = "searched"
    fixed_share: float = 0.5
    judged_by: Literal["verdict", "outcome"] = "verdict"
    learn_prefix: bool = True
    sentence_end: str = r"(?<=\. )|(?<=\n)"
    opening: str = "<Begin_of_Prefix>"
    closing: str = "<End_of_Prefix>\n"
    judge_prompt: str = JUDGE
    align_prompt: str = ALIGN
    resamples: int = 0
    max_new_tokens: int = 32768
    teacher_sampling: Options = options(temperature=0.6)
    judge_sampling: Options = options(temperature=0.0, max_new_tokens=256)
    align_sampling: Options = options(temperature=0.6, top_p=0.9, repetition_penalty=1.05)


# The method and its controls, as overrides of the settings.
ARMS: Arms = {
    "align": {},
    "outcome": {"judged_by": "outcome"},
    "shuffled": {"prefix": "shuffled"},
    "fixed": {"prefix": "fixed"},
    "whole": {"prefix": "fixed", "fixed_share": 1.0},
    "continuation-only": {"learn_prefix": False},
}
