"""ORION's constants and ablations: everything that is inferred, not read in the paper (arXiv:2505.22131 v2).

P: seen in a primary source of the paper named. I: inferred here.

| constant | value | source |
|---|---|---|
| teacher's temperature | 0.6 | I; as in `sft`, so that both arms share the teacher's chains |
| exposure temperature, top-p, repetition penalty, tokens | 0.8, 0.9, 1.05, 1024 | I, EULER's collection [P] |
| attempts a prompt | 3 | I, EULER [P] |
| near-duplicate attempts: Jaccard index of their words | 0.7 | I, DPO-ST |
| reflection temperature, top-p, repetition penalty | 0.6, 0.9, 1.05 | I, P-ALIGN's alignment stage [P] |
| resamples m | 4 | I |
| characters of reference and attempts a prompt | 65536 | I; about 20,000 tokens, so that 12,000 of 32,768 are left |
| the prompt | `solve-last` of `prompts.py` | I; the paper's own is not known; the best of ten on SmolLM2-135M |
| target length in tokens | 32 to 32768 | I; P-ALIGN [P] |
| arms `on-policy`: divergence, temperature and longest text | JSD of 0.5, 1.0, 1024 | I; OPSD's divergence [P] |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from potstill.methods.errors.orion.prompts import PromptName
from potstill.methods.settings import Arms, Options, options

Arm = Literal[
    "own",
    "none",
    "shuffled",
    "errors-only",
    "no-rewriting",
    "teacher-refines",
    "on-policy",
    "on-policy-none",
    "on-policy-shuffled",
]


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything about ORION that is inferred, not read in the paper.

    Args:
        errors: whose wrong attempts the prompt shows: the student's "own", "none", or "shuffled" from other problems.
        reference: whether the prompt shows the teacher's reasoning.
        prompt: what the writer is shown, and in which order; a row of `PROMPTS` in prompts.py. `potstill tune-prompts
            orion` says which one a student follows best. "solve-last" is what SmolLM2-135M follows best (docs/LOG.md);
            "paper" has the reference's order, and is what the built-in student was taught.
        writer: who rewrites: the "student", the "teacher", or "nobody" (the teacher's reasoning is the target).
        attempts_per_prompt: wrong attempts a prompt shows at most, one per distinct wrong answer, the most frequent
            answer first, in its shortest wording.
        duplicate_jaccard: attempts whose sets of words overlap this much count as one.
        max_prompt_chars: characters of reference and attempts that a prompt shows at most; attempts are cut first.
        hidden_share: share of the reference's characters that is cut off its end in prompts, whatever stands there: a
            dial for "how much of the reference is needed?". Whether rewrites only copy the answer is told by
            `gate.hide_end`, which finds the answer or the last steps, and notes what was hidden; of a long reference
            a share of 0.1 may hide no answer at all, since it is often said before. With both, the share is taken of
            what `hide_end` leaves.
        resamples: further tries where a rewrite does not pass.
        on_fail: where none passes: "drop" the problem, or fall back to the "teacher"'s reasoning.
        no_errors: problems the student never got wrong: "reflect" without attempts, "drop", or the "teacher"'s text.
        min_new_tokens: shortest target in tokens.
        max_new_tokens: longest target in tokens, also the limit while the teacher reasons and while rewriting.
        max_repetition: largest share of repeated 32-word stretches.
        teacher_sampling: sampling of the teacher's reasoning.
        exposure_sampling: sampling of the student's attempts.
        reflection_sampling: sampling of the rewrites.
        on_policy: nothing is rewritten; the student with the writer's prompt in view, as it was before the training,
            teaches the student without it, token by token, on what the latter writes. `no_errors` may be "reflect" or
            "drop".
        distillation: of that training: constants of the objective `jsd` and keywords of its loop.
    """

    errors: Literal["own", "none", "shuffled"] = "own"
    reference: bool = True
    prompt: PromptName = "solve-last"
    writer: Literal["student", "teacher", "nobody"] = "student"
    attempts_per_prompt: int = 3
    duplicate_jaccard: float = 0.7
    max_prompt_chars: int = 65536
    hidden_share: float = 0.0
    resamples: int = 4
    on_fail: Literal["drop", "teacher"] = "drop"
    no_errors: Literal["reflect", "drop", "teacher"] = "reflect"
    min_new_tokens: int = 32
    max_new_tokens: int = 32768
    max_repetition: float = 0.2
    teacher_sampling: Options = options(temperature=0.6)
    exposure_sampling: Options = options(
        temperature=0.8, top_p=0.9, repetition_penalty=1.05, max_new_tokens=1024
    )
    reflection_sampling: Options = options(temperature=0.6, top_p=0.9, repetition_penalty=1.05)
    on_policy: bool = False
    distillation: Options = options(
        beta=0.5,
        teacher_model_kind="base",
        on_policy_fraction=1.0,
        rollout_temperature=1.0,
        max_new_tokens=1024,
    )


# The ablations of the reference, as overrides of the settings.
ARMS: Arms = {
    "own": {},
    "none": {"errors": "none"},
    "shuffled": {"errors": "shuffled"},
    "errors-only": {"reference": False, "no_errors": "drop"},
    "no-rewriting": {"writer": "nobody"},
    "teacher-refines": {"writer": "teacher"},
    # Ours: no paper has them.
    "on-policy": {"on_policy": True},
    "on-policy-none": {"on_policy": True, "errors": "none"},
    "on-policy-shuffled": {"on_policy": True, "errors": "shuffled"},
}
