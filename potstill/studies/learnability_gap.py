"""The learnability gap: long chains, short ones, and a mix of both on the same questions, at equal steps.

Li et al. (arXiv:2502.12143) report that students of up to 3 billion parameters learn less from long chains than from
short ones (the gap is below 0), and more from a fifth of long with four fifths of short than from either alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from potstill.evaluation.intervals import Estimate
from potstill.records import Progress
from potstill.studies import arms
from potstill.studies.chart import DotChart
from potstill.studies.study import StudyPage, StudySettings

QUESTION = "Does a small student learn more from short chains with a fifth of long ones than from either alone?"
SIZES: Mapping[str, int] = {
    "train": 200,
    "test": 150,
    "n": 2,
    "steps": 40,
    "longer_steps": 78,
}
ROLES: Mapping[str, str] = {
    "teacher": "world:teacher",
    "easier": "world:oracle",
    "student": "world:student",
}

HARD, EASY, MIX = "hard-only", "easy-only", "mix"
HALF = "mix-half"
LONGER = "easy-only-longer"
ARMS: Mapping[str, Mapping[str, Any]] = {
    HARD: {"arm": HARD},
    HALF: {"arm": MIX, "hard_share": 0.5},
    MIX: {"arm": MIX},
    EASY: {"arm": EASY},
    LONGER: {"arm": EASY},
}
# What two arms differ in, by the arm that has it and the one that has not.
GAP = "the gap: long against short chains"
AT_EQUAL_TOKENS = "the same, at as many learnt tokens"
MIX_AND_SHORT = "the mix against short chains"
MIX_AND_LONG = "the mix against long chains"
EFFECTS: Mapping[str, tuple[str, str]] = {
    GAP: (HARD, EASY),
    AT_EQUAL_TOKENS: (HARD, LONGER),
    MIX_AND_SHORT: (MIX, EASY),
    MIX_AND_LONG: (MIX, HARD),
    "a fifth of long chains against half of them": (MIX, HALF),
}
TRAINING: Mapping[str, Any] = {"optimizer": "muon", "learning_rate": 1e-3, "batch_size": 16}
MAX_NEW_TOKENS = 320

SETUP = """\
{train} training and {test} test stories of the built-in world, {n} answers a test story at temperature 0.6, {seeds}
seeds, each with training stories of its own. Every arm takes {steps} steps of 16 rows at a rate of 1e-3 (Muon), the
rate of the other studies; nothing was tuned arm by arm, and the last checkpoint is measured. Equal for all arms: the
questions (those that both sources got right, each learnt once an epoch), the rows and the steps. Not equal: the tokens
that are learnt, since a long chain has more of them; `{longer}` takes {longer_steps} steps, so that it learns about as
many as `hard-only`. `mix` has a fifth of long chains, as in the paper, `mix-half` half of them.

Long chains are of `world:teacher`, a model of the student's own size that checks, slips and takes back. **Short ones
are of `world:oracle`, a program**: a line an event, the style in which the student was taught to solve before the
study. So "hard" here is a foreign and wordy style, not a reasoning that is beyond the student, and short chains have no
style to learn. Right is right in every step.
"""


def run_study(settings: StudySettings, progress: Progress) -> dict[str, Any]:
    """Train and measure every arm with every seed."""
    runs = arms.run_seeds(settings, partial(recipe_of_seed, settings), progress)
    return {"arms": runs, "seeds": settings.seeds, **settings.sizes}


def recipe_of_seed(settings: StudySettings, seed: int) -> dict[str, Any]:
    """The recipe of one seed: other training stories, the same test stories."""
    sizes = settings.sizes
    # Every arm asks for the same chains; the store of the seed's folder answers all but the first one.
    recipe_arms: dict[str, Any] = {}
    for name, values in ARMS.items():
        recipe_arms[name] = {"method": "mix_distillation", "values": dict(values)}
    recipe_arms[LONGER]["training"] = {"max_steps": sizes["longer_steps"]}
    return {
        "arms": recipe_arms,
        "values": {"steps": True, "max_new_tokens": MAX_NEW_TOKENS},
        "training": {**TRAINING, "max_steps": sizes["steps"]},
        "roles": dict(settings.roles),
        "problems": f"world:story?split=train&seed={seed}&size={sizes['train']}",
        "evaluate": {
            "problems": f"world:story?split=test&size={sizes['test']}",
            "n": sizes["n"],
            "sampling": {"temperature": 0.6, "max_new_tokens": MAX_NEW_TOKENS},
        },
        "overlap_n": 0,
    }


def describe_study(figures: Mapping[str, Any]) -> StudyPage:
    """Setup, tables, chart, and what came out."""
    runs = figures["arms"]
    estimates = arms.effect_estimates(runs, EFFECTS)
    sizes = {name: figures[name] for name in (*SIZES, "seeds")}
    return StudyPage(
        setup=SETUP.format(**sizes, longer=LONGER),
        tables={
            "Effects": arms.effects_table(runs, EFFECTS, estimates),
            "Arms": arms.arms_table(runs),
        },
        chart=DotChart(
            "Long chains, short ones, and a mix",
            "points of accuracy",
            arms.effect_dots(estimates),
            0.0,
        ),
        finding=write_finding(estimates),
    )


def write_finding(estimates: Mapping[str, Estimate]) -> str:
    """What came out, as one paragraph that the intervals choose."""
    signs = {effect: arms.sign(estimate) for effect, estimate in estimates.items()}
    hard, easy, mix = f"`{HARD}` (long chains)", f"`{EASY}` (short ones)", f"`{MIX}`"
    sentences = [
        arms.describe_difference(hard, easy, estimates[GAP]),
        arms.describe_difference(
            hard, f"as many learnt tokens of {easy}", estimates[AT_EQUAL_TOKENS]
        ),
        arms.describe_difference(mix, easy, estimates[MIX_AND_SHORT]),
        arms.describe_difference(mix, hard, estimates[MIX_AND_LONG]),
    ]
    # The paper's two claims about small students.
    gaps = {
        "below": "The paper's gap is here",
        "above": "The paper's gap is contradicted: long chains teach more",
        "undecided": "The paper's gap is not shown",
    }
    sentences.append(f"{gaps[signs[GAP]]}.")
    against = (signs[MIX_AND_SHORT], signs[MIX_AND_LONG])
    if against == ("above", "above"):
        sentences.append("That the mix is better than either alone is shown.")
    elif "below" in against:
        sentences.append("Its second claim is contradicted: the mix is worse than one of the two.")
    else:
        sentences.append("That the mix is better than either alone is not shown.")
    sentences.append(
        "The long chains are of a model as small as the student and the short ones of a program, in the student's own "
        "style: this says nothing of chains that are beyond a student, or of large models."
    )
    return " ".join(sentences)
