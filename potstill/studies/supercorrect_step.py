"""SuperCorrect's second stage: what is preferred, and who says it? Its arms on the same first stage, at equal steps.

`cross` prefers the teacher's cause and correction of the student's first wrong step to the student's own, failed ones;
`step` the right step to the wrong one; `whole` a right solution to a wrong one. The others take one thing away from
`cross`, and `hsft` ends behind the first stage.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from potstill.evaluation.intervals import Estimate
from potstill.evaluation.sense_of_error import sense_of_error
from potstill.evaluation.table import format_points
from potstill.methods.errors.supercorrect.prompts import student_request
from potstill.methods.errors.supercorrect.settings import Settings
from potstill.models.model import Scored
from potstill.records import Problem, Progress, Trace
from potstill.studies import arms
from potstill.studies.arms import UNTRAINED
from potstill.studies.chart import DotChart
from potstill.studies.held_out import load_student, slip_pairs
from potstill.studies.study import StudyPage, StudySettings
from potstill.world import story
from potstill.world.oracle.stepped import Form, read_equations

QUESTION = "Does preference on a student's first wrong step teach more than preference between whole solutions?"
SIZES: Mapping[str, int] = {
    "train": 240,
    "solutions": 2,
    "corrections": 2,
    "pairs": 80,
    "test": 100,
    "n": 2,
    "hsft_steps": 80,
    "dpo_steps": 10,
    "chains": 100,
}
ROLES: Mapping[str, str] = {"teacher": "world:oracle", "student": "world:student"}

BASE = "hsft"
ARMS: Mapping[str, str] = {
    "hsft": "no second stage",
    "chosen-only": "the chosen side of `cross`, supervised",
    "cross": "the teacher's cause and correction against the student's",
    "correction-only": "the same without causes",
    "cause-only": "the same without corrections",
    "shuffled-cause": "the chosen side's cause from another problem",
    "step": "the right step against the wrong one (Step-DPO)",
    "whole": "a right solution against a wrong one",
}
# What two arms differ in, by the arm that has it and the one that has not.
EFFECTS: Mapping[str, tuple[str, str]] = {
    "cross-model preference": ("cross", "hsft"),
    "step against whole solutions": ("cross", "whole"),
    "Step-DPO against whole solutions": ("step", "whole"),
    "cause and correction against the bare step": ("cross", "step"),
    "preference against supervision": ("cross", "chosen-only"),
    "the cause": ("cross", "correction-only"),
    "the correction": ("cross", "cause-only"),
    "what the cause says": ("cross", "shuffled-cause"),
}
# The template is cut down to numbered steps in plain words: to a student of 0.86 million parameters every tag is a
# dozen new tokens, and the first stage would be all that it has time to learn.
TEMPLATE: Mapping[str, Any] = {"xml": False, "key": False, "generalized": False}
HSFT_TRAINING: Mapping[str, Any] = {"optimizer": "muon", "learning_rate": 6e-3, "batch_size": 16}
DPO_TRAINING: Mapping[str, Any] = {"optimizer": "adamw", "learning_rate": 3e-5, "batch_size": 16}
MAX_NEW_TOKENS = 240

SETUP = """\
{train} training and {test} test stories of two or three events, {n} answers a test story at temperature 0.6, {seeds}
seeds, each with training stories of its own. The first stage is the same for all arms of a seed: {hsft_steps} steps of
16 rows at a rate of 6e-3 (Muon), on the teacher's solutions in numbered steps, and on its corrections of the untrained
student's errors, which the paper does not teach. The second stage is {dpo_steps} steps of 16 rows at a rate of 3e-5
(AdamW), beta 0.5, on at most {pairs} rows; `chosen-only` learns one side, the others two. Every arm corrects the same
wrong solutions ({solutions} drawn a story, one wrong one used); `whole` pairs those that have a right solution. The
last checkpoint is measured; nothing was tuned arm by arm. The rate is one for all arms: a first run at 3e-4 brought
every preference loss to 0 and the accuracy of `step` and `whole` with it, and of 1e-5, 3e-5 and 1e-4, tried on other
training stories with one seed, 3e-5 lies in the middle.

**The teacher and inspector are `world:oracle`, a program**: shown a reference solution it writes it in steps, shown a
wrong one it names the first wrong step, a cause in the words of a template, and the right step; it slips in one of ten
texts, which it then inspects without a mistake. So the teacher's side has no insight beyond the reference, and the
templates explain nothing. This student can't restate a solution in order to correct it, so the form of its own
corrections is given to it (`settings.other_step=force`): it writes the cause and the correction of the step that the
teacher names. How well students locate errors by themselves, and pairs of which the student writes both sides, are
therefore not testable here.

*Sense of error* is measured on {chains} held-out pairs of a right solution and one with a program's slip: the
likelihoods of both from the first wrong step on, under the prompt that the student solves by.
"""


def run_study(settings: StudySettings, progress: Progress) -> dict[str, Any]:
    """Train and measure every arm with every seed, then the likelihoods of held-out wrong and right steps."""
    runs = arms.run_seeds(settings, partial(recipe_of_seed, settings), progress)
    pairs = slip_pairs("story-easy", settings.sizes["chains"], solution_in_steps)
    sense_by_arm: dict[str, list[dict[str, float]]] = {}
    trained_arms = [name for name in runs if name != UNTRAINED]
    total = settings.seeds * len(trained_arms)
    for seed in range(settings.seeds):
        for number, name in enumerate(trained_arms):
            progress("likelihoods", seed * len(trained_arms) + number, total)
            student = load_student(settings, name, seed)
            sense_by_arm.setdefault(name, []).append(sense_figures(student, pairs))
    progress("likelihoods", total, total)
    return {"arms": runs, "sense": sense_by_arm, "seeds": settings.seeds, **settings.sizes}


def recipe_of_seed(settings: StudySettings, seed: int) -> dict[str, Any]:
    """The recipe of one seed: other training stories, the same test stories."""
    sizes = settings.sizes
    second_stage = {"cross-dpo": {**DPO_TRAINING, "max_steps": sizes["dpo_steps"]}}
    # Every arm asks for the same templates, solutions and corrections; the store answers all but the first one, and its
    # first stage is trained once.
    recipe_arms: dict[str, Any] = {}
    for name in ARMS:
        recipe_arms[name] = {
            "method": "supercorrect",
            "values": {"arm": name, "steps": False},
        }
        if name != BASE:
            recipe_arms[name]["training"] = second_stage
    method_settings = {
        **TEMPLATE,
        "taught_corrections": True,
        "other_step": "force",
        "errors_per_problem": 1,
        "self_corrections": sizes["corrections"],
        "max_pairs": sizes["pairs"],
        "max_new_tokens": MAX_NEW_TOKENS,
    }
    return {
        "arms": recipe_arms,
        "values": {"n": sizes["solutions"], "settings": method_settings},
        "training": {**HSFT_TRAINING, "max_steps": sizes["hsft_steps"]},
        "roles": dict(settings.roles),
        "problems": f"world:story-easy?split=train&seed={seed}&size={sizes['train']}",
        "evaluate": {
            "problems": f"world:story-easy?split=test&size={sizes['test']}",
            "n": sizes["n"],
            "sampling": {"temperature": 0.6, "max_new_tokens": MAX_NEW_TOKENS},
        },
        "overlap_n": 0,
    }


# The sense of error.


def solution_in_steps(problem: Problem, brief: str) -> Trace:
    """A brief solution in the study's template, under the prompt that the student learnt it by."""
    form = Form(**TEMPLATE)
    equations = read_equations(brief)
    text = ""
    for number, equation in enumerate(equations, 1):
        text += form.step(number, story.write_equation(equation))
    text += form.part("Answer", f"\\boxed{{{equations[-1].result}}}")
    prompt = f"{problem.question}\n\n{student_request(Settings(**TEMPLATE))}"
    return Trace(problem, prompt, text, operator="study", finish_reason="stop")


def sense_figures(student: Scored, pairs: Sequence[Trace]) -> dict[str, float]:
    """How a student tells right from wrong steps, as plain JSON."""
    sense = sense_of_error(student, pairs, after_shared=True)
    return {
        "delta_nll": sense.delta_nll.value,
        "auroc": sense.auroc.value,
        "in_pair": sense.in_pair,
    }


# What the figures say.


def sense_table(sense: Mapping[str, Sequence[Mapping[str, float]]]) -> list[dict[str, str]]:
    """A row an arm: what it learns, and how well it tells right from wrong steps."""
    rows: list[dict[str, str]] = []
    for name, figures in sense.items():
        rows.append(
            {
                "arm": name,
                "what is preferred": ARMS[name],
                "ΔNLL (nats a token)": f"{arms.mean_figure(figures, 'delta_nll'):.3f}",
                "seeds": ", ".join(f"{one['delta_nll']:.3f}" for one in figures),
                "AUROC": f"{arms.mean_figure(figures, 'auroc'):.3f}",
                "right in its pair": f"{arms.mean_figure(figures, 'in_pair'):.1%}",
            }
        )
    return rows


def describe_study(figures: Mapping[str, Any]) -> StudyPage:
    """Setup, tables, chart, and what came out."""
    runs = figures["arms"]
    estimates = arms.effect_estimates(runs, EFFECTS)
    sizes = {name: figures[name] for name in (*SIZES, "seeds")}
    return StudyPage(
        setup=SETUP.format(**sizes),
        tables={
            "Effects": arms.effects_table(runs, EFFECTS, estimates),
            "Arms": arms.arms_table(runs, base=BASE),
            "Sense of error": sense_table(figures["sense"]),
        },
        chart=DotChart(
            "What the second stage of SuperCorrect adds",
            "points of accuracy",
            arms.effect_dots(estimates),
            0.0,
        ),
        finding=write_finding(estimates, figures["sense"]),
    )


def write_finding(
    estimates: Mapping[str, Estimate], sense: Mapping[str, Sequence[Mapping[str, float]]]
) -> str:
    """What came out, as one paragraph that the intervals choose."""
    sentences = [
        arms.describe_difference(
            "cross-model preference on the first wrong step",
            "the first stage alone",
            estimates["cross-model preference"],
        ),
        arms.describe_difference(
            "it", "preference between whole solutions", estimates["step against whole solutions"]
        ),
        arms.describe_difference(
            "the bare step (Step-DPO)",
            "whole solutions",
            estimates["Step-DPO against whole solutions"],
        ),
    ]
    # The parts: which of the controls differ from `cross`.
    parts = list(EFFECTS)[3:]
    decided = [name for name in parts if arms.sign(estimates[name]) != "undecided"]
    if decided:
        listed = ", ".join(f"{name} ({format_points(estimates[name])})" for name in decided)
        sentences.append(f"Of what `cross` is made of these matter: {listed}.")
    else:
        sentences.append(
            "None of what `cross` is made of (its cause, its correction, what the cause says, the rejected side) is "
            "shown to matter."
        )
    before, after = (arms.mean_figure(sense[name], "in_pair") for name in (BASE, "cross"))
    sentences.append(
        f"The right step is the likelier one in {after:.0%} of held-out pairs with `cross`, in {before:.0%} without it."
    )
    sentences.append(
        "Teacher and inspector are a program, the template is numbered steps alone, and the student is tiny: this says "
        "nothing of thought templates that explain, or of large models."
    )
    return " ".join(sentences)
