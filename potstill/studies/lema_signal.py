"""LEMA's gain: the error and its explanation, or one more right chain? Its arms at equal steps, on the same
corrections.

`full` is (question, wrong chain → incorrect step, explanation, correct solution); the others take one thing away from
it (`methods/errors/lema/arms.py`). All of them have the same right chains of the same stories beside the same
corrections.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from potstill.errors import ModelError
from potstill.evaluation.correlation import rank_correlation
from potstill.evaluation.intervals import Estimate
from potstill.evaluation.sense_of_error import SenseOfError, sense_of_error
from potstill.evaluation.table import format_points
from potstill.methods.errors.lema.arms import FULL, show_attempt
from potstill.models.model import Request, Scored
from potstill.models.scoring import Passage
from potstill.records import Problem, Progress, Trace, blank
from potstill.runs.sources import load_model
from potstill.studies import arms
from potstill.studies.arms import UNTRAINED, RunsByArm
from potstill.studies.chart import DotChart
from potstill.studies.held_out import load_student, slip_pairs
from potstill.studies.study import StudyPage, StudySettings
from potstill.traces import token_logprobs
from potstill.world.oracle import Oracle

QUESTION = "Does LEMA's student learn from the error, or from one more right chain?"
SIZES: Mapping[str, int] = {
    "train": 120,
    "chains": 4,
    "attempts": 1,
    "test": 150,
    "n": 1,
    "steps": 40,
    "longer_steps": 57,
    "pairs": 40,
}
ROLES: Mapping[str, str] = {
    "teacher": "world:student",
    "student": "world:student",
    "corrector": "world:oracle",
}

# The arms of the method that are trained, with their numbers in the reference. A4 (no solution) and A9 (random text),
# which the method has too, are left out for the time that a study may take.
ARMS: Mapping[str, str] = {
    "cot": "A0",
    "spliced": "A1",
    "full": "A2",
    "no-explanation": "A3",
    "whole-chain": "A5",
    "caution": "A6",
    "shuffled-explanations": "A7",
    "shuffled-attempts": "A8",
}
LONGER = "spliced-longer"  # as spliced, in more steps
TRAINING: Mapping[str, Any] = {"optimizer": "muon", "learning_rate": 4e-3, "batch_size": 16}

# What two arms differ in, by the arm that has it and the one that has not.
EFFECTS: Mapping[str, tuple[str, str]] = {
    "one more right chain": ("spliced", "cot"),
    "LEMA as a whole": ("full", "cot"),
    "the error signal": ("full", "spliced"),
    "the same, at as many tokens": ("full", LONGER),
    "the explanation": ("full", "no-explanation"),
    "what the explanation says": ("full", "shuffled-explanations"),
    "that the mistake is the question's": ("full", "shuffled-attempts"),
    "the wrong chain as context": ("whole-chain", "spliced"),
    "the explanation as a caution": ("caution", "spliced"),
}

EFFECT_VERBS: Mapping[str, str] = {
    "above": "helps",
    "below": "hurts",
    "undecided": "is not shown to help or to hurt",
}
# Effects of a part of the correction: the whole against the whole without it.
PARTS = (
    "the explanation",
    "what the explanation says",
    "that the mistake is the question's",
)

SETUP = """\
{train} training and {test} test stories of the built-in world, {n} answer a test story at temperature 0.6, {seeds}
seeds, each with training stories of its own. Every arm takes {steps} steps of 16 rows at a rate of 4e-3 (Muon),
`{longer}` {longer_steps} steps, about as many as learn the tokens of `full`. What is equal: the right chains
({chains} samples of the student itself a story, the right ones, each wording once), the wrong chains ({attempts}
sample of the student a story), their corrections, and the steps. What is not: the rows (`cot` has no corrections)
and the tokens that are learnt; both stand in the table. The last checkpoint is measured; nothing was tuned arm by
arm. The rate is the one at which the student begins to learn the form of a correction in these steps: at 1e-3, the
rate of the other studies, it does not.

**The corrector is `world:oracle`, a program**: shown a story and a numbered chain it names the first wrong step,
says what should stand there, and corrects the rest. So every correction is right, its explanation is short, in the
words of one template and without any insight of a teacher, and the spliced chain is the one brief solution of its
story. No arm sees the oracle at test time: the student answers the bare question.

ΔPPL is the perplexity per token of a wrong chain less that of the right one from the first wrong step on, on
{pairs} test stories. The wrong chains are slips that a program made (one near miss, carried on): a source that no
arm was trained on. The last column says how well an arm can correct them: the loss per token of the oracle's
corrections of these chains.
"""


def run_study(settings: StudySettings, progress: Progress) -> dict[str, Any]:
    """Train and measure every arm with every seed, then the likelihoods of held-out wrong and right chains."""
    runs = arms.run_seeds(settings, partial(recipe_of_seed, settings), progress)
    pairs = slip_pairs("story", settings.sizes["pairs"], chain_of)
    corrections = corrections_of(pairs)
    sense_by_arm: dict[str, list[dict[str, Any]]] = {}
    for seed in range(settings.seeds):
        for number, name in enumerate(runs):
            progress("likelihoods", seed * len(runs) + number, settings.seeds * len(runs))
            model = load_arm(settings, name, seed)
            sense = sense_of_error(model, pairs, after_shared=True)
            figures = sense_figures(sense)
            figures["correction_loss"] = mean_loss(model, corrections)
            sense_by_arm.setdefault(name, []).append(figures)
    progress("likelihoods", settings.seeds * len(runs), settings.seeds * len(runs))
    return {"arms": runs, "sense": sense_by_arm, "seeds": settings.seeds, **settings.sizes}


def recipe_of_seed(settings: StudySettings, seed: int) -> dict[str, Any]:
    """The recipe of one seed: other training stories, the same test stories."""
    sizes = settings.sizes
    # Every arm asks for the same chains, attempts and corrections; the store of the seed's folder answers all but one.
    recipe_arms: dict[str, Any] = {}
    for name in ARMS:
        recipe_arms[name] = {"method": "lema", "values": {"arm": name}}
    recipe_arms[LONGER] = {
        "method": "lema",
        "values": {"arm": "spliced"},
        "training": {"max_steps": sizes["longer_steps"]},
    }
    return {
        "arms": recipe_arms,
        # Answers alone are verified: the corrector's steps are right, and the teacher's chains are no question here.
        "values": {
            "settings": {"chains": sizes["chains"], "attempts": sizes["attempts"], "steps": False}
        },
        "training": {**TRAINING, "max_steps": sizes["steps"]},
        "roles": dict(settings.roles),
        "problems": f"world:story?split=train&seed={seed}&size={sizes['train']}",
        "evaluate": {
            "problems": f"world:story?split=test&size={sizes['test']}",
            "n": sizes["n"],
            "sampling": {"temperature": 0.6, "max_new_tokens": 160},
        },
        "overlap_n": 0,
    }


def corrections_of(pairs: Sequence[Trace]) -> list[Passage]:
    """The oracle's correction of each pair's wrong chain, behind the prompt of `full`."""
    passages: list[Passage] = []
    for trace in pairs:
        assert trace.rejected is not None
        prompt = show_attempt(FULL, trace.rejected)
        [completion] = Oracle().write([Request(prompt)])
        passages.append(Passage(prompt, completion.text))
    return passages


def mean_loss(model: Scored, passages: Sequence[Passage]) -> float:
    """The mean negative log-likelihood per token (nats) of all passages together."""
    values: list[float] = []
    for token_values in token_logprobs(model, passages):
        values += token_values
    return -math.fsum(values) / len(values)


def chain_of(problem: Problem, text: str) -> Trace:
    """A chain under the bare question."""
    return Trace(problem, blank(problem).prompt, text, operator="study", finish_reason="stop")


def load_arm(settings: StudySettings, arm: str, seed: int) -> Scored:
    """The student of an arm, from the folder of its seed."""
    if arm == UNTRAINED:
        model = load_model(settings.roles["student"], threads=arms.THREADS)
        if not isinstance(model, Scored):
            raise ModelError(f"{model.id} gives no likelihoods", expected="a student with weights")
        return model
    return load_student(settings, arm, seed)


def sense_figures(sense: SenseOfError) -> dict[str, Any]:
    """ΔPPL and what else is shown of it, as plain JSON."""
    return {
        "delta_perplexity": sense.delta_perplexity.value,
        "delta_nll": sense.delta_nll.value,
        "auroc": sense.auroc.value,
        "in_pair": sense.in_pair,
    }


def effects_table(runs: RunsByArm, estimates: Mapping[str, Estimate]) -> list[dict[str, str]]:
    """A row an effect, with the arms that it is the difference of, by their names here and in the reference."""
    rows: list[dict[str, str]] = []
    for row in arms.effects_table(runs, EFFECTS, estimates):
        arm, base = EFFECTS[row["effect"]]
        reference = f"{ARMS.get(arm, 'A1')} - {ARMS.get(base, 'A1')}"
        rows.append({"effect": row["effect"], "in the reference": reference, **row})
    return rows


def sense_table(
    sense_by_arm: Mapping[str, Sequence[Mapping[str, float]]],
) -> list[dict[str, str]]:
    """A row an arm: ΔPPL, the same of log-likelihoods, and how well the two kinds of chains are told apart."""
    rows: list[dict[str, str]] = []
    for name, senses in sense_by_arm.items():
        means = {key: arms.mean_figure(senses, key) for key in senses[0]}
        rows.append(
            {
                "arm": name,
                "ΔPPL": f"{means['delta_perplexity']:.3f}",
                "seeds": ", ".join(f"{sense['delta_perplexity']:.3f}" for sense in senses),
                "ΔNLL (nats a token)": f"{means['delta_nll']:.3f}",
                "AUROC": f"{means['auroc']:.3f}",
                "right in its pair": f"{means['in_pair']:.1%}",
                "loss of a correction": f"{means['correction_loss']:.2f}",
            }
        )
    return rows


def sense_correlation(figures: Mapping[str, Any]) -> Estimate | None:
    """Rank correlation, over the trained arms of each seed, of accuracy with ΔNLL; the interval resamples the seeds."""
    # Ranked within a seed: what seeds differ in counts for nothing.
    scores: list[float] = []
    senses: list[float] = []
    seeds: list[int] = []
    for name, runs in figures["arms"].items():
        if name == UNTRAINED:
            continue
        for seed, score in enumerate(arms.seed_scores(runs)):
            scores.append(score)
            senses.append(figures["sense"][name][seed]["delta_nll"])
            seeds.append(seed)
    return rank_correlation(scores, senses, seeds).estimate


def describe_study(figures: Mapping[str, Any]) -> StudyPage:
    """Setup, tables, chart, and what came out."""
    runs = figures["arms"]
    estimates = arms.effect_estimates(runs, EFFECTS)
    sizes = {name: figures[name] for name in (*SIZES, "seeds")}
    return StudyPage(
        setup=SETUP.format(longer=LONGER, **sizes),
        tables={
            "Effects": effects_table(runs, estimates),
            "Arms": arms.arms_table(runs, base="cot"),
            "Sense of error": sense_table(figures["sense"]),
        },
        chart=DotChart(
            "What each part of LEMA adds", "points of accuracy", arms.effect_dots(estimates), 0.0
        ),
        finding=write_finding(estimates, sense_correlation(figures)),
    )


def write_finding(estimates: Mapping[str, Estimate], correlation: Estimate | None) -> str:
    """What came out, as one paragraph that the intervals choose."""
    # The question: what one more right chain does, and what the correction does in its place.
    chain, error = estimates["one more right chain"], estimates["the error signal"]
    at_tokens = estimates["the same, at as many tokens"]
    sentences = [
        f"One more right chain for each mistake (`spliced` against `cot`) {describe_effect(chain)}.",
        f"The whole correction in its place (`full` against `spliced`) {describe_effect(error)}; at as many learnt "
        f"tokens (`full` against `{LONGER}`) it {describe_effect(at_tokens)}.",
    ]
    if arms.sign(error) == "above" and arms.sign(at_tokens) != "below":
        sentences.append("So the error signal adds something that one more right chain does not.")
    elif arms.sign(error) == "below":
        sentences.append(
            "So here a correction is worth less than the right chain that can be made of it: LEMA's gain is not found."
        )
    elif arms.sign(chain) == "above":
        sentences.append("So what is shown to help is one more right chain, not the error signal.")
    else:
        sentences.append("So neither is shown to help.")

    # The parts: which of the controls differ from the whole.
    parts = [effect for effect in PARTS if arms.sign(estimates[effect]) != "undecided"]
    if parts:
        listed = "; ".join(f"{effect}: {format_points(estimates[effect])}" for effect in parts)
        sentences.append(
            f"Parts that change the score (the whole less the whole without it): {listed}."
        )
    else:
        sentences.append(
            "No single part of a correction (explanation, its content, the mistake's own question) is shown to matter."
        )
    if correlation is not None:
        sentences.append(
            "Ranked within each seed, the arms' accuracy and their sense of error (ΔNLL) go together with a "
            f"correlation of {correlation.value:+.2f} [{correlation.low:+.2f}, {correlation.high:+.2f}]."
        )
    sentences.append(
        "The corrector is a program and the world small: this is no evidence for teachers that explain, or for large "
        "models."
    )
    return " ".join(sentences)


def describe_effect(estimate: Estimate) -> str:
    """A difference as the end of a sentence: what its interval decides, and the points."""
    verb = EFFECT_VERBS[arms.sign(estimate)]
    return f"{verb} ({format_points(estimate)} points)"
