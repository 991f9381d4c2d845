"""EULER's constants and controls: what the paper (arXiv:2505.22131 v1) and its code say, and what is inferred.

P: seen in the abstract, a figure or the released code. I: inferred here.

| constant | value | source |
|---|---|---|
| samples a problem, to collect right and wrong ones | 5 | P |
| temperature, top-p, repetition penalty, tokens, of samples and errors | 0.8, 0.9, 1.05, 1024 | P |
| errors a prompt | 3, each drawn once | P |
| pairs of the error model | chosen: a wrong solution; rejected: a right one | P |
| whose right solution is rejected | the student's own | P, the repository's figure of May 2025; see below |
| pairs a problem | as many as there are right solutions to reject | I |
| DPO: beta, weight of the chosen side's likelihood | 0.1, 1.0 | P |
| DPO's training | AdamW 5e-5, 10 epochs, batch 1, LoRA r 8, alpha 32, dropout 0.1, NEFTune 5 | P; \
LoRA and batch are a recipe's `training.exposure` |
| temperature of the stronger model | 0.6 | I; as in `sft`, so that both share its chains |
| supervised training | LoRA, 5e-5, cosine, 20 warm-up steps, 10 epochs, batch 8, 10 % held out, the best checkpoint | \
P: a recipe's `training.euler`, no part of the method |

Of the rejected side the sources say two things. The abstract has solutions of the stronger model there, "to regularize
the generation quality", and so has the repository's figure of February 2025. Its figure of May 2025, of the week of
version 1, has right and wrong samples of the model itself, told apart by the gold answer; the released code reads pairs
from a file that is not there. The student's own are the default: a model that is trained away from texts in a foreign
style, which it never writes anyway, learns little about errors. In the built-in world 67, 61 and 58 % of the errors are
wrong with the student's solutions rejected, 58, 51 and 49 % with the teacher's (docs/studies/orion-arms.md, three
seeds; docs/LOG.md). `rejected="teacher"` is the abstract's, `"both"` has pairs of each kind.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from potstill.methods.errors.euler.prompts import AVOID
from potstill.methods.settings import Arms, Options, options

Arm = Literal["euler", "sampled", "shuffled", "train-only", "test-only", "none"]


@dataclass(frozen=True, slots=True)
class Settings:
    """What the paper fixes, and what it leaves open.

    Args:
        exposer: who makes the errors: the student "trained" to prefer wrong solutions, or the "untrained" student.
        shown: whose errors a prompt shows: those on its "own" problem, or "shuffled" from another one.
        at_training: whether the prompts that are learnt show errors.
        at_test: whether the prompts that are answered show errors.
        rejected: whose right solutions the error model is trained away from: the "student"'s own, on problems that it
            solves at times and not always, the "teacher"'s, or "both".
        attempts: samples of the student a problem.
        errors: errors a prompt shows.
        pairs: pairs a problem, at most.
        chains: solutions of the teacher a problem; every right one is a row.
        max_new_tokens: longest solution of the teacher.
        beta: of DPO.
        chosen_weight: of the chosen side's mean negative log-likelihood beside DPO's loss.
        prompt: shows the errors to the learner; a template with {errors}, and {prompt} or {question}.
        teacher_sampling: sampling of the teacher.
        error_sampling: sampling of the student's attempts and of the errors.
        exposure_training: how the error model is trained, where a recipe does not say otherwise.
    """

    exposer: Literal["trained", "untrained"] = "trained"
    shown: Literal["own", "shuffled"] = "own"
    at_training: bool = True
    at_test: bool = True
    rejected: Literal["teacher", "student", "both"] = "student"
    attempts: int = 5
    errors: int = 3
    pairs: int = 5
    chains: int = 1
    max_new_tokens: int = 32768
    beta: float = 0.1
    chosen_weight: float = 1.0
    prompt: str = AVOID
    teacher_sampling: Options = options(temperature=0.6)
    error_sampling: Options = options(
        temperature=0.8, top_p=0.9, repetition_penalty=1.05, max_new_tokens=1024
    )
    exposure_training: Options = options(num_train_epochs=10, learning_rate=5e-5)


# The method and its controls, as overrides of the settings.
ARMS: Arms = {
    "euler": {},
    "sampled": {"exposer": "untrained"},
    "shuffled": {"shown": "shuffled"},
    "train-only": {"at_test": False},
    "test-only": {"at_training": False},
    "none": {"at_training": False, "at_test": False},
}
