"""Inputs for liger-kernel's losses and ours, and calls of both: sines, the same numbers under every torch."""

from __future__ import annotations

import math
import os

import pytest

torch = pytest.importorskip("torch", reason="needs the extra potstill[local]")
from golden import Hidden, Inputs

from potstill.objectives import policy, preference
from potstill.objectives.inputs import reduce

NEAR = {"rel": 3e-6, "abs": 1e-7}  # of float32 sums against float64
ROWS, LONGEST, WIDTH, VOCABULARY = 6, 5, 4, 7
UNEVEN, CHOSEN_ALIKE = (
    (5, 4, 2, 3, 5, 1),
    (4, 4, 4, 3, 5, 1),
)  # the better sides of three pairs, then the worse
LABELS, ADVANTAGES = (True, False, True, True, False, False), (1.0, -1.0, 0.7, -0.7, 0.2, -1.5)
LONGEST_ANSWER = 8


def made(*shape, turn):
    return torch.sin(turn * torch.arange(1, math.prod(shape) + 1, dtype=torch.float64)).reshape(
        shape
    )


class Parts:
    """Hidden states and a head to learn, those of another model, and tokens with their mask."""

    def __init__(self, lengths=UNEVEN):
        self.hidden = (1.5 * made(ROWS, LONGEST, WIDTH, turn=1.7)).requires_grad_()
        self.head = torch.nn.Linear(WIDTH, VOCABULARY, bias=False, dtype=torch.float64)
        self.head.weight.data = made(VOCABULARY, WIDTH, turn=2.3)
        self.other = made(ROWS, LONGEST, WIDTH + 1, turn=0.9)
        self.other_head = torch.nn.Linear(
            WIDTH + 1, VOCABULARY, bias=False, dtype=torch.float64
        ).requires_grad_(False)
        self.other_head.weight.data = made(VOCABULARY, WIDTH + 1, turn=3.7)
        self.kept = torch.arange(LONGEST) < torch.tensor(lengths)[:, None]
        self.ids = (torch.arange(ROWS * LONGEST).reshape(ROWS, LONGEST) * 5 + 2) % VOCABULARY
        self.labels = self.ids.where(self.kept, torch.tensor(-100))
        self.leaves = (self.hidden, self.head.weight)

    def single(self):
        """What liger is given, in float32, with gradients to the leaves."""
        return (leaf.float() for leaf in (*self.leaves, self.other, self.other_head.weight))

    def others(self):
        """Log-probabilities of all tokens under the other model, [rows, longest]."""
        return (
            self.other_head(self.other).log_softmax(-1).gather(-1, self.ids[..., None]).squeeze(-1)
        )

    def before(self, scale=0.3):
        """Log-probabilities of all tokens as if they had been sampled by a student that has moved since."""
        now = (
            self.head(self.hidden)
            .log_softmax(-1)
            .gather(-1, self.ids[..., None])
            .squeeze(-1)
            .detach()
        )
        return now + scale * made(ROWS, LONGEST, turn=1.1)

    def inputs(self, **more):
        """Ours: counted positions."""
        groups = torch.arange(ROWS)[:, None].expand(ROWS, LONGEST)[self.kept]
        return Inputs(
            self.hidden[self.kept], self.head, self.ids[self.kept], groups_N=groups, **more
        )

    def pairs(self):
        return self.inputs(
            pairs_P2=torch.tensor([[0, 3], [1, 4], [2, 5]]), reference_N=self.others()[self.kept]
        )

    def teacher(self):
        return self.inputs(teacher=Hidden(self.other[self.kept], self.other_head))


def flat(parts):
    hidden, head, other, other_head = parts.single()
    return hidden.flatten(0, 1), head, other.flatten(0, 1), other_head, parts.labels.flatten()


def liger_jsd(**how):
    def run(parts):
        hidden, head, other, other_head, labels = flat(parts)
        return chunked("JSD", **how)(hidden, head, other, other_head, labels)

    return run


def chunked(name, **how):
    module = pytest.importorskip(
        "liger_kernel.chunked_loss", reason="liger-kernel is not installed"
    )
    return getattr(module, f"LigerFusedLinear{name}Loss")(compiled=False, **how)


def liger_pairs(name, reference=False, **how):
    def run(parts):
        hidden, head, other, other_head = parts.single()
        more = {"ref_input": other, "ref_weight": other_head} if reference else {}
        return chunked(name, **how)(head, hidden, parts.labels, **more)[0]

    return run


def liger_kto(parts):
    hidden, head, other, other_head = parts.single()
    more = {"preference_labels": torch.tensor(LABELS), "ref_input": other, "ref_weight": other_head}
    kto = chunked("KTO", beta=0.3, use_ref_model=True)
    return kto(hidden, head, parts.labels, kl=torch.tensor(0.4), **more)[0]


def liger_grpo(**how):
    def run(parts):
        hidden, head, *_ = parts.single()
        more = {"old_per_token_logps": parts.before(), "ref_per_token_logps": parts.others()}
        advantages = torch.tensor(ADVANTAGES)
        grpo = chunked(
            "GRPO",
            use_ref_model=True,
            epsilon_high=0.28,
            max_completion_length=LONGEST_ANSWER,
            **how,
        )
        return grpo(hidden, head, parts.ids, parts.kept.float(), advantages, **more)[0]

    return run


def liger_cross_entropy(scaled):
    def run(parts):
        kernel = ops("fused_linear_cross_entropy").LigerFusedLinearCrossEntropyFunction
        hidden, head, _, _, labels = flat(parts)
        return kernel.apply(
            hidden, head, labels, None, None, -100, 0.0, 0.0, "mean", None, False, None, scaled
        )[0]

    return run


def liger_tvd(parts):
    hidden, head, other, other_head, labels = flat(parts)
    q, p = (hidden @ head.T).softmax(-1), (other @ other_head.T).softmax(-1)
    return ops("tvd").LigerTVDLossFunction.apply(q, p, labels, "batchmean", -100)


def ops(name):
    pytest.importorskip("liger_kernel", reason="liger-kernel is not installed")
    pytest.importorskip("triton", reason="Triton is not installed: no kernels of liger")
    if os.environ.get("TRITON_INTERPRET") != "1":
        pytest.skip("TRITON_INTERPRET is not 1, so that Triton would want a GPU")
    return pytest.importorskip(f"liger_kernel.ops.{name}")


def tokens(objective, **how):
    def run(parts):
        values = objective(parts.teacher(), **how).values_N
        return values.mean()

    return run


def pairs(objective, **how):
    return lambda parts: objective(parts.pairs(), **how).values_N.sum() / 3


def kto(parts):
    x = parts.inputs(
        labels_S=torch.tensor(LABELS), reference_N=parts.others()[parts.kept], kl=torch.tensor(0.4)
    )
    return preference.kto(x, beta=0.3).values_N.sum() / ROWS


def grpo(mean, **how):
    def run(parts):
        advantages = torch.tensor(ADVANTAGES, dtype=torch.float64)[:, None].expand(ROWS, LONGEST)[
            parts.kept
        ]
        logps = {"sampled_N": parts.before()[parts.kept], "reference_N": parts.others()[parts.kept]}
        x = parts.inputs(advantages_N=advantages, **logps)
        loss = policy.grpo(x, clip=0.2, clip_high=0.28, **how)
        return reduce(loss.values_N, *policy.means(x, mean, longest=LONGEST_ANSWER))

    return run


SOFT = {"weight_hard_loss": 0.0, "weight_soft_loss": 1.0}  # no likelihood in liger's divergence
