"""liger-kernel's losses beside ours of the same states and heads: what it says where it is, what it said where not.

`RECORDED` is what liger-kernel 0.8.5 gave in float32 on a CPU: the losses of `chunked_loss` uncompiled, those of `ops`
by Triton's interpreter (TRITON_INTERPRET=1, triton 3.9.0). Inputs are sines, the same under every version of torch.
"""

from __future__ import annotations

import math
import os

import pytest

torch = pytest.importorskip("torch", reason="needs the extra potstill[local]")
from golden import Hidden, Inputs
from opinions import LIGER, Comparison

from potstill.objectives import divergence, policy, preference
from potstill.objectives.inputs import reduce
from potstill.objectives.likelihood import dft, sft

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

SHAPES = {
    "sigmoid": {},
    "hinge": {},
    "robust": {"label_smoothing": 0.2},
    "nca_pair": {},
    "bco_pair": {},
    "apo_zero": {},
    "apo_down": {},
}
NAMES = {"nca_pair": {"kind": "nca"}, "bco_pair": {"kind": "bco"}, "robust": {"smoothing": 0.2}}
MEANS = {"grpo": "sequence", "bnpo": "token", "dapo": "token", "dr_grpo": "fixed"}
CASES = {  # liger's, ours, lengths
    "sft": (
        liger_jsd(weight_hard_loss=1.0, weight_soft_loss=0.0),
        tokens(sft),
        UNEVEN,
    ),
    **{
        f"jsd {b}": (liger_jsd(beta=b, **SOFT), tokens(divergence.jsd, beta=b), UNEVEN)
        for b in (0.1, 0.5, 0.9)
    },
    "forward_kl": (liger_jsd(beta=0.0, **SOFT), tokens(divergence.forward_kl), UNEVEN),
    "reverse_kl": (liger_jsd(beta=1.0, **SOFT), tokens(divergence.reverse_kl), UNEVEN),
    "forward_kl with likelihood at 2": (
        liger_jsd(beta=0.0, temperature=2.0, weight_hard_loss=0.3, weight_soft_loss=0.7),
        tokens(divergence.forward_kl, temperature=2.0, kd=0.7),
        UNEVEN,
    ),
    **{
        f"dpo {kind}": (
            liger_pairs("DPO", reference=True, beta=0.3, loss_type=kind, **how),
            pairs(preference.dpo, beta=0.3, **NAMES.get(kind, {"kind": kind})),
            UNEVEN,
        )
        for kind, how in SHAPES.items()
    },
    "simpo": (
        liger_pairs("SimPO", beta=2.0, gamma=1.0, compute_nll_loss=False),
        pairs(preference.simpo),
        UNEVEN,
    ),
    "cpo": (
        liger_pairs("CPO", beta=0.3, alpha=0.5),
        pairs(preference.cpo, beta=0.3, alpha=0.5),
        CHOSEN_ALIKE,
    ),
    "orpo": (liger_pairs("ORPO", beta=0.3), pairs(preference.orpo, lam=0.3), CHOSEN_ALIKE),
    "kto": (liger_kto, kto, UNEVEN),
    **{
        f"{kind}": (liger_grpo(loss_type=kind, beta=0.0), grpo(mean), UNEVEN)
        for kind, mean in MEANS.items()
    },
    **{
        f"grpo, k3 {'corrected' if corrected else 'plain'}": (
            liger_grpo(loss_type="grpo", beta=0.04, use_bias_correction_kl=corrected),
            grpo("sequence", beta=0.04, corrected=corrected),
            UNEVEN,
        )
        for corrected in (True, False)
    },
}
KERNELS = {
    "likelihood, kernel": (liger_cross_entropy(False), tokens(sft), UNEVEN),
    "dft, kernel": (liger_cross_entropy(True), tokens(dft), UNEVEN),
    "tvd, kernel": (liger_tvd, tokens(divergence.tvd), UNEVEN),
}
RECORDED = {  # the loss; its gradients, of the states and of the head, along `made(turn=0.6)`
    "sft": (4.164592, 0.001312968, 0.6606113),
    "jsd 0.1": (0.08053613, 0.0005111339, 0.02759111),
    "jsd 0.5": (0.1637122, 0.0004118531, 0.0656615),
    "jsd 0.9": (0.05375092, -6.955507e-05, 0.02520244),
    "forward_kl": (1.225177, 0.007613139, 0.4199936),
    "reverse_kl": (0.5940025, -0.001640878, 0.2929881),
    "forward_kl with likelihood at 2": (1.52956, 0.001282917, 0.2834227),
    "dpo sigmoid": (1.335417, -0.05807386, 0.2055903),
    "dpo hinge": (1.637292, -0.1451736, 0.08538146),
    "dpo robust": (1.538404, -0.07679515, 0.2003395),
    "dpo nca_pair": (3.074682, -0.0451176, 0.6644997),
    "dpo bco_pair": (3.13098, -0.03897255, 0.6184628),
    "dpo apo_zero": (1.080319, 0.01027232, -0.03416097),
    "dpo apo_down": (0.7325698, -0.02045261, -0.07513478),
    "simpo": (2.546819, -0.2175084, 0.119898),
    "cpo": (3.311606, 0.02353949, 0.1573955),
    "orpo": (4.109187, -0.006980562, 0.3118798),
    "kto": (0.3738317, 0.01141682, 0.009580282),
    "grpo": (0.2328555, 0.1826756, 0.06037357),
    "bnpo": (0.002803773, 0.05790727, 0.09637759),
    "dapo": (0.002803773, 0.05790727, 0.09637759),
    "dr_grpo": (0.001168232, 0.02412803, 0.04015733),
    "grpo, k3 corrected": (1.467261, 0.1663489, 0.09915465),
    "grpo, k3 plain": (1.403491, 0.03276243, 0.3346563),
    "likelihood, kernel": (4.164592, 0.001312952, 0.6606113),
    "dft, kernel": (0.1199103, 0.0006449483, 0.03177283),
    "tvd, kernel": (0.4557869, -0.001083243, 0.1138017),
}


def numbers_as_tensors():
    """Triton's interpreter leaves a kernel's float arguments bare, and liger calls `.to` on one of them."""
    interpreter = pytest.importorskip(
        "triton.runtime.interpreter", reason="Triton is not installed"
    )
    numpy, language, plain = pytest.importorskip("numpy"), interpreter.tl, interpreter._implicit_cvt

    def convert(given):
        if not isinstance(given, float):
            return plain(given)
        handle = interpreter.TensorHandle(numpy.array([given], numpy.float32), language.float32)
        return language.tensor(handle, language.float32)

    patch = pytest.MonkeyPatch()
    patch.setattr(interpreter, "_implicit_cvt", convert)
    return patch


def found(loss, parts):
    """The loss, and what its gradients are along two fixed directions."""
    gradients = torch.autograd.grad(loss, parts.leaves)
    along = [float((g * made(*g.shape, turn=0.6)).sum()) for g in gradients]
    return [float(loss.detach()), *along], gradients


def recorded(_, name):
    """What liger said, and ours."""
    _, ours, lengths = (CASES | KERNELS)[name]
    parts = Parts(lengths)
    return Comparison(RECORDED[name], found(ours(parts), parts)[0], LIGER)


def live(_, name):
    """Liger now: the same as ours in value and in every entry of both gradients, and what was recorded."""
    patch = numbers_as_tensors() if name in KERNELS else pytest.MonkeyPatch()
    theirs, ours, lengths = (CASES | KERNELS)[name]
    parts = Parts(lengths)
    with patch.context():
        said, slopes = found(theirs(parts), parts)
    patch.undo()
    mine, wanted = found(ours(parts), parts)
    return [
        Comparison(said, mine, LIGER, slopes, wanted),
        Comparison(RECORDED[name], said, LIGER),
    ]
