"""What the arms of `orion-arms` are, and the worlds that they are compared in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from potstill.methods.errors.orion.prompts import REFLECT_ALONE
from potstill.methods.rewriting.p_align.prompts import QUESTION_LAST
from potstill.studies.arms import UNTRAINED

Regime = Literal["matched", "unmatched"]
REGIMES: tuple[Regime, ...] = ("matched", "unmatched")
OWN = "own"  # ORION as its paper describes it: the arm that all others are compared with


class ArmSpec(NamedTuple):
    """An arm: a method with its values.

    Args:
        method: its name.
        learns: what the student learns from, for the table.
        values: of its parameters.
        is_control: whether it is ORION with one thing changed; the others are baselines.
        samples: the parameter that counts the student's samples a problem; "" where it takes none.
        rows_of: another arm whose rows are those of the last stage here, where the first stage is another training.
        stages: training settings of single stages, which are the same in every trial.
        called: what a sentence calls it.
    """

    method: str
    learns: str
    values: Mapping[str, Any]
    is_control: bool = False
    samples: str = ""
    rows_of: str = ""
    stages: Mapping[str, Mapping[str, Any]] = MappingProxyType({})
    called: str = ""


def orion_arm(arm: str, learns: str, *, samples: str = "n") -> ArmSpec:
    """An arm of ORION itself."""
    return ArmSpec("orion", learns, {"arm": arm}, is_control=arm != OWN, samples=samples)


ARMS: Mapping[str, ArmSpec] = {
    "sft": ArmSpec("sft", "the teacher's right chains", {}, called="sft on the teacher's chains"),
    "sft-gold": ArmSpec(
        "sft_gold",
        "the problems' own solutions",
        {},
        called="sft on the problems' own solutions",
    ),
    "rft": ArmSpec(
        "rft",
        "its own right samples",
        {},
        samples="n",
        called="rft on its own right samples",
    ),
    OWN: orion_arm(OWN, "its rewrites of the teacher's chains, shown its own errors"),
    "none": orion_arm("none", "its rewrites, shown no errors"),
    "shuffled": orion_arm("shuffled", "its rewrites, shown another problem's errors"),
    "errors-only": orion_arm("errors-only", "its corrections, shown its errors and no reference"),
    "no-rewriting": orion_arm("no-rewriting", "the teacher's chains as they are"),
    "teacher-refines": orion_arm("teacher-refines", "the teacher's rewrites, shown its errors"),
    "on-policy": orion_arm(
        "on-policy",
        "its own texts, taught by itself with the teacher's chain and its errors in view",
    ),
    "on-policy-none": orion_arm(
        "on-policy-none", "its own texts, taught by itself with the teacher's chain in view"
    ),
    "on-policy-shuffled": orion_arm(
        "on-policy-shuffled",
        "its own texts, taught by itself with chain and another problem's errors in view",
    ),
    "opsd": ArmSpec(
        "opsd",
        "its own texts, taught by itself with the problem's own solution in view",
        {"teacher_prompt": REFLECT_ALONE.replace("{text}", "{solution_shown}")},
        called="OPSD",
    ),
    "p-align": ArmSpec(
        "p_align",
        "the shortest sufficient beginning of the teacher's chain, and its own end",
        {},
        called="P-ALIGN",
    ),
    # The error model is a training of its own before the one that is matched and tuned.
    "euler": ArmSpec(
        "euler",
        "the teacher's chains behind an error model's errors, which it also sees at test time",
        {},
        rows_of="sft",
        called="EULER",
        stages={"exposure": {"learning_rate": 3e-4, "max_train_samples": 0, "max_steps": 10}},
    ),
}
# In which nobody writes rows: they are learnt in a world of their own.
ON_POLICY_ARMS = ("on-policy", "on-policy-none", "on-policy-shuffled", "opsd")
WRITTEN_ARMS = tuple(name for name in ARMS if name not in ON_POLICY_ARMS)
REWRITING_METHODS = ("orion", "p_align")
CORE = ("sft", "rft", OWN, "none", "shuffled")


@dataclass(frozen=True, slots=True)
class World:
    """Problems with a teacher and a student, and how its students are trained and measured.

    Args:
        title: what the page calls it.
        place: the same behind a preposition, for a sentence.
        about: what a reader must know of problems, teacher and student, as a paragraph of Markdown.
        problems: the source of the problems by split ("train", "dev", "test"); `{seed}` and `{size}` are filled in.
        arms: names in `ARMS`.
        regimes: "matched": equal rows and steps; "unmatched": all rows of each arm, and the steps that they take.
        training: what all trainings have in common.
        trials: by regime, the settings that every arm is tried with on the dev split.
        sampling: of the answers that are measured.
        orion: settings of every arm of ORION.
        gate: how much of its reference a rewrite must show, of the methods that rewrite; theirs where it is empty.
        values: of single arms' methods, by name.
        overlap: what becomes of training problems that are also problems of the dev or test split.
    """

    title: str
    place: str
    about: str
    problems: Mapping[str, str]
    arms: Sequence[str]
    regimes: Sequence[Regime]
    training: Mapping[str, Any]
    trials: Mapping[Regime, Sequence[Mapping[str, Any]]]
    sampling: Mapping[str, Any]
    orion: Mapping[str, Any] = field(default_factory=dict)
    gate: Mapping[str, float] = field(default_factory=dict)
    values: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    overlap: Literal["stop", "drop"] = "stop"

    def source(self, split: str, size: int, seed: int = 0) -> str:
        """The problems of a split, as a recipe names them."""
        return self.problems[split].format(size=size, seed=seed)

    def values_of(self, arm: str, samples: int) -> dict[str, Any]:
        """The values of an arm's method in this world."""
        spec = ARMS[arm]
        values: dict[str, Any] = {"steps": True, **spec.values, **self.values.get(arm, {})}
        if spec.samples:
            values[spec.samples] = samples
        if spec.method == "orion":
            values["settings"] = dict(self.orion)
        if spec.method in REWRITING_METHODS and self.gate:
            values["gate"] = dict(self.gate)
        return values


STORY = World(
    title="built-in world",
    place="in the built-in world",
    about=(
        "**Built-in world.** Stories of a running total; teacher and student are checkpoints of 0.86 million "
        "parameters that come with Potstill, and both were trained on such stories, the student also on rewriting. "
        "The teacher's style (two events at once, checks, slips taken back) is foreign to the student; the problems' "
        "own solutions are in the brief style that the student was taught, so sft-gold has no style to learn here. "
        "P-ALIGN's prefixes are judged by a program (`world:oracle`), and its student goes on by the prompt that it "
        "was taught for rewriting. ORION's prompt is the one that its student was taught (`settings.prompt=paper`: the "
        "chain, then the errors). Weights are trained whole, with Muon."
    ),
    problems={
        "train": "world:story?split=train&seed={seed}&size={size}",
        "dev": "world:story?split=dev&size={size}",
        "test": "world:story?split=test&size={size}",
    },
    arms=WRITTEN_ARMS,
    regimes=REGIMES,
    training={"optimizer": "muon", "batch_size": 24},
    trials={
        "matched": ({"learning_rate": 4e-4}, {"learning_rate": 2e-3}),
        "unmatched": (
            {"learning_rate": 1e-3, "num_train_epochs": 2},
            {"learning_rate": 2e-3, "num_train_epochs": 8},
        ),
    },
    sampling={"temperature": 0.6, "max_new_tokens": 256},
    # The prompt that the built-in student was taught to rewrite by, in ORION and in P-ALIGN, which has no prompt of its
    # own that this student could follow. P-ALIGN's marks would be new tokens to it.
    orion={"prompt": "paper"},
    values={
        # A teacher in a foreign style would teach the error model nothing about errors (docs/LOG.md).
        "euler": {"settings": {"rejected": "student"}},
        "p-align": {
            "settings": {
                "align_prompt": REFLECT_ALONE,
                "opening": "",
                "closing": "\n",
                "resamples": 4,
            }
        },
    },
)

# What nobody rewrites: the prompt of ORION's writer as the prompt of a teacher, at the sizes of the built-in world.
ON_POLICY = replace(
    STORY,
    title="built-in world, on-policy",
    about=(
        "**Built-in world, on-policy.** The problems, teacher and student of the built-in world. In the arms "
        "`on-policy` nothing is rewritten: the student, as it starts and with the prompt of ORION's writer in view, "
        "teaches the student that sees the bare question, token by token, on what the latter writes in each step "
        "(Jensen-Shannon divergence, temperature 1). Their rows are problems: matched arms have equally "
        "many of them, and the student writes a text to each anew whenever it is its turn."
    ),
    arms=("rft", OWN, "none", *ON_POLICY_ARMS),
    regimes=("matched",),
    orion={
        **STORY.orion,
        "distillation": {
            "beta": 0.5,
            "teacher_model_kind": "base",
            "on_policy_fraction": 1.0,
            "rollout_temperature": 1.0,
            "max_new_tokens": 256,
        },
    },
    values={"opsd": {"rollout_temperature": 1.0, "max_new_tokens": 256}},
)

WALK = World(
    title="built-in world, walks",
    place="on the built-in world's walks",
    about=(
        "**Built-in world, walks.** A walker on a grid who turns and moves; teacher and student are checkpoints of "
        "0.86 million parameters of their own, taught as those of the stories were. The teacher says what a step "
        "changes before it takes it, so a rewrite must have a quarter of the reference's sentences with steps: the "
        "default half would drop 46 % of whole rewrites. Weights are trained whole, with Muon."
    ),
    problems={
        "train": "world:walk?split=train&seed={seed}&size={size}",
        "dev": "world:walk?split=dev&size={size}",
        "test": "world:walk?split=test&size={size}",
    },
    arms=("sft", "sft-gold", "rft", OWN, "none", "shuffled", "no-rewriting"),
    regimes=REGIMES,
    training=STORY.training,
    trials=STORY.trials,
    sampling=STORY.sampling,
    orion=STORY.orion,
    gate={"min_step_share": 0.25, "min_length_share": 0.2},
)

PRETRAINED = World(
    title="pretrained student",
    place="with the pretrained student",
    about=(
        "**Pretrained student.** SmolLM2-135M-Instruct after the warm-up of `potstill models warm-up` on short chains "
        "written by a program; one-digit sums and products and legs of animals (`world:gym`), whose steps are judged. "
        "**The teacher is a program** (`world:gym-teacher`): its chains are right, in a long style with checks, slips "
        "that are taken back and new starts, and without any insight. Trained by LoRA of rank 16. rft and ORION share "
        "the student's samples (temperature 0.7), and a rewrite that does not pass is tried twice more. A rewrite must "
        "be right in every step, and have a quarter of the reference's steps and a fifth of their words. ORION's "
        "prompt is `solve-last` (one error, the chain, then the question): the one of ten that this student follows "
        "best (`potstill tune-prompts`, docs/LOG.md)."
    ),
    problems={
        "train": "world:gym?split=train&seed={seed}&size={size}",
        "dev": "world:gym?split=dev&size={size}",
        "test": "world:gym?split=test&size={size}",
    },
    arms=CORE,
    regimes=("matched",),
    training={"optimizer": "adamw", "batch_size": 8, "lora": {"r": 16}},
    trials={"matched": ({"learning_rate": 3e-4}, {"learning_rate": 1e-3})},
    sampling={"temperature": 0.0, "max_new_tokens": 320},
    orion={
        "prompt": "solve-last",
        "resamples": 2,
        "max_new_tokens": 320,
        # As rft samples: one set of samples serves both.
        "exposure_sampling": {
            "temperature": 0.7,
            "top_p": 1.0,
            "repetition_penalty": 1.0,
            "max_new_tokens": 128,
        },
    },
    # Chosen when the teacher's checks, slips and new starts still counted as steps. They no longer do, so that rewrites
    # which are right in every step pass the default shares too; what is judged here stays as the study began.
    gate={"min_step_share": 0.25, "min_length_share": 0.2},
    values={
        "rft": {"temperature": 0.7, "max_new_tokens": 128},
        # This student writes no verdict, and follows a prompt that ends with its question (docs/LOG.md).
        "p-align": {
            "arm": "outcome",
            "settings": {
                "align_prompt": QUESTION_LAST,
                "opening": "",
                "closing": "\n",
                "resamples": 2,
                "max_new_tokens": 320,
            },
        },
        "euler": {"settings": {"rejected": "student"}},
    },
)

WORLD_OF: Mapping[str, World] = {
    "built-in": STORY,
    "built-in-on-policy": ON_POLICY,
    "built-in-walk": WALK,
    "real": PRETRAINED,
    "real-small": replace(PRETRAINED, title="pretrained student, small"),
    "real-whole": replace(
        PRETRAINED,
        title="pretrained student, all arms",
        arms=WRITTEN_ARMS,
        regimes=REGIMES,
        trials={
            **PRETRAINED.trials,
            "unmatched": (
                {"learning_rate": 3e-4, "num_train_epochs": 2},
                {"learning_rate": 1e-3, "num_train_epochs": 4},
            ),
        },
    ),
}

__all__ = ["ARMS", "CORE", "OWN", "REGIMES", "UNTRAINED", "WORLD_OF", "ArmSpec", "Regime", "World"]
