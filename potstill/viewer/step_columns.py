"""What each column of a training's `steps.jsonl` is, in a sentence; docs/training.md has the same table."""

from __future__ import annotations

from typing import NamedTuple


class StepColumn(NamedTuple):
    """A column: what it is called, what it says, and with which others it is drawn."""

    label: str
    text: str
    group: str


EVAL_PREFIX = "eval_"
COLUMNS = {
    "loss": StepColumn(
        "loss", "the objective's own loss, a mean over the weighted tokens, in nats", "loss"
    ),
    "nll": StepColumn("nll", "minus the log-probability of the rows' tokens, in nats", "loss"),
    "entropy": StepColumn("entropy", "the student's entropy, in nats", "loss"),
    "top_share": StepColumn(
        "top share", "the share of the loss that a hundredth of the tokens carries", "loss"
    ),
    "tokens": StepColumn(
        "tokens", "tokens that went through the model in the step, prompts included", "tokens"
    ),
    "loss_tokens": StepColumn(
        "tokens with a loss", "tokens of the step that have a weight in the loss", "tokens"
    ),
    "seconds": StepColumn("seconds", "how long the step took", "tokens"),
    "rows_forward_kl": StepColumn(
        "forward KL, rows", "to a teacher's distribution, on given rows", "divergence"
    ),
    "rows_reverse_kl": StepColumn(
        "reverse KL, rows", "to a teacher's distribution, on given rows", "divergence"
    ),
    "own_forward_kl": StepColumn(
        "forward KL, own", "the same on what the student wrote", "divergence"
    ),
    "own_reverse_kl": StepColumn(
        "reverse KL, own", "the same on what the student wrote", "divergence"
    ),
    "rows_overlap": StepColumn(
        "overlap, rows", "the student's mass on the teacher's 16 likeliest tokens", "divergence"
    ),
    "own_overlap": StepColumn("overlap, own", "the same on what the student wrote", "divergence"),
    "length": StepColumn("length", "tokens of the rollouts", "rollouts"),
    "truncated": StepColumn("cut", "the share of rollouts that max_new_tokens cut", "rollouts"),
    "repeated": StepColumn(
        "repeated", "the share of runs of four tokens that stood there before", "rollouts"
    ),
    "answered": StepColumn("answered", "the share of rollouts with an answer", "rollouts"),
    "reward": StepColumn("reward", "the mean reward of the rollouts", "rollouts"),
    "even": StepColumn(
        "even groups", "the share of rollouts whose whole group was worth the same", "rollouts"
    ),
    "ratio": StepColumn("ratio", "of sampled tokens: to the policy that wrote them", "policy"),
    "drift": StepColumn("drift", "the mean absolute logarithm of the ratio", "policy"),
    "clipped": StepColumn("clipped", "the share of sampled tokens that is clipped", "policy"),
    "k1": StepColumn("k1", "an estimate of the reverse KL", "policy"),
    "k3": StepColumn("k3", "an estimate of the reverse KL", "policy"),
    "better": StepColumn("better", "the better side of pairs", "pairs"),
    "worse": StepColumn("worse", "the worse side of pairs", "pairs"),
    "margin": StepColumn("margin", "between the two sides of pairs", "pairs"),
    "ahead": StepColumn("ahead", "the share of pairs whose better side is ahead", "pairs"),
    "eval_gap": StepColumn(
        "gap",
        "reverse KL to the teacher on the student's own text less that on the rows: when it grows while eval_right "
        "falls, the student learns the teacher's quirks",
        "eval",
    ),
    "eval_right": StepColumn(
        "right", "the share of right answers to the rows that are looked at", "eval"
    ),
}


def describe_column(name: str) -> StepColumn:
    """The column of a name; one that is not in the table has no sentence."""
    if name in COLUMNS:
        return COLUMNS[name]
    bare_name = name.removeprefix(EVAL_PREFIX)
    if bare_name != name:
        text = COLUMNS[bare_name].text if bare_name in COLUMNS else ""
        label = bare_name.replace("_", " ")
        return StepColumn(label, f"{text}, of the rows that are looked at" if text else "", "eval")
    return StepColumn(name.replace("_", " "), "", "other")
