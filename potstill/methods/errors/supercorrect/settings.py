"""SuperCorrect's constants and controls, with their sources (arXiv:2410.09008, ICLR 2025).

P: in the paper. R: in the authors' released evaluation. S: in its sibling Step-DPO (arXiv:2406.18629). I: inferred.

| constant | value | source |
|---|---|---|
| rounds of inspection | 3 | P |
| HSFT: epochs, learning rate, warm-up | 4, 2e-5 (printed "2e5"), 0.02 | P |
| Cross-DPO: epochs, learning rate, warm-up | 8, 1e-6, 0.05 | P |
| beta | 0.5 | S, for 7B; the paper gives none |
| temperature, top-p of the student's solutions | 0.7, 0.8 | R |
| temperature of teacher, inspector | 0.7, 0 | I |
| wrong solutions a problem | 2, of different answers, the most frequent | I; 20,000 of three students in the paper |
| self-corrections of a wrong solution | 4 | I; the paper needs a failed one, and does not say how many it draws |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from potstill.methods.settings import Arms, Options, options

Arm = Literal[
    "cross",
    "hsft",
    "flat",
    "self",
    "step",
    "whole",
    "chosen-only",
    "correction-only",
    "cause-only",
    "shuffled-cause",
    "ungrounded",
    "student-grounded",
]


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything about SuperCorrect that is a choice of the paper, inferred, or another one in a control.

    Args:
        hierarchy: whether the teacher's solution has numbered steps; without them it is a flat chain of thought under
            the problem's own prompt, and nothing else of the template is asked for.
        key: whether hard steps are explained inside (`<Key>`).
        generalized: whether the solution ends with what it teaches of such problems (`<Generalized>`).
        xml: whether the parts stand in tags; else behind words with a colon.
        preference: what the second stage learns from: "cross", cause and correction of the first wrong step; "step",
            the step itself, right against wrong (Step-DPO); "whole", whole solutions; "chosen", the chosen side alone,
            as supervised text; "none" ends behind HSFT.
        corrector: who writes the chosen side.
        grounded: whether the corrector is shown the reference solution.
        parts: what the sides of "cross" hold.
        shuffle_causes: put another problem's cause into each chosen side.
        other_step: what becomes of a self-correction that faults another step than the chosen side: "skip" leaves the
            pair out; "force" begins cause and correction of the chosen side's step for the student, who writes them in
            two calls: for one that seldom finds its own errors. The paper does not say (inferred).
        taught_corrections: also learn, with the templates, the teacher's corrections of the untrained student's errors:
            for a student that can't follow the correction prompt. Not in the paper.
        self_correct: whether the trained student corrects its own answer in a second call where it is measured.
        errors_per_problem: wrong solutions of a problem that are corrected, at most.
        self_corrections: corrections that the student draws of each.
        max_pairs: pairs at most, chosen by a hash; 0 is all. For controls of equal size.
        rounds: of inspection: a text that the inspector still faults in the last one is dropped; 0 inspects nothing.
        max_new_tokens: longest text of teacher, inspector and student.
        teacher_sampling: of templates and corrections.
        inspector_sampling: of inspections.
        student_sampling: of the student's solutions and corrections.
        hsft_training: training settings of the first stage; a recipe's win.
        dpo_training: training settings of the second stage; a recipe's win.
        beta: of the preference objective.
    """

    hierarchy: bool = True
    key: bool = True
    generalized: bool = True
    xml: bool = True
    preference: Literal["cross", "step", "whole", "chosen", "none"] = "cross"
    corrector: Literal["teacher", "student"] = "teacher"
    grounded: bool = True
    parts: Literal["both", "cause", "correction"] = "both"
    shuffle_causes: bool = False
    other_step: Literal["skip", "force"] = "skip"
    taught_corrections: bool = False
    self_correct: bool = False
    errors_per_problem: int = 2
    self_corrections: int = 4
    max_pairs: int = 0
    rounds: int = 3
    max_new_tokens: int = 4096
    teacher_sampling: Options = options(temperature=0.7)
    inspector_sampling: Options = options(temperature=0.0)
    student_sampling: Options = options(temperature=0.7, top_p=0.8)
    hsft_training: Options = options(num_train_epochs=4, learning_rate=2e-5, warmup_steps=0.02)
    dpo_training: Options = options(num_train_epochs=8, learning_rate=1e-6, warmup_steps=0.05)
    beta: float = 0.5


# The controls, as overrides of the settings. S-1: what a side must say; S-2: what is preferred, and who says it.
ARMS: Arms = {
    "cross": {},
    "hsft": {"preference": "none"},
    "flat": {"hierarchy": False, "preference": "none"},
    "self": {"corrector": "student", "grounded": False},
    "step": {"preference": "step"},
    "whole": {"preference": "whole"},
    "chosen-only": {"preference": "chosen"},
    "correction-only": {"parts": "correction"},
    "cause-only": {"parts": "cause"},
    "shuffled-cause": {"shuffle_causes": True},
    "ungrounded": {"grounded": False},
    "student-grounded": {"corrector": "student"},
}

# Which objective each preference is learnt by.
OBJECTIVES = {"cross": "step_dpo", "step": "step_dpo", "whole": "dpo", "chosen": "sft"}


def preference_objective(settings: Settings) -> tuple[str, dict[str, Any]]:
    """The objective of the second stage and its keywords."""
    keywords = dict(settings.dpo_training)
    if settings.preference != "chosen":
        keywords["beta"] = settings.beta
    return OBJECTIVES[settings.preference], keywords
