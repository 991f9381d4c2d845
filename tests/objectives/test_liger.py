"""liger-kernel's losses and ours of the same states and heads: run where liger is, and what it said where it is not.

`RECORDED` is what liger-kernel 0.8.5 gave in float32 on a CPU: the losses of `chunked_loss` uncompiled, those of `ops`
by Triton's interpreter (TRITON_INTERPRET=1, triton 3.9.0). Inputs are sines, the same under every version of torch.
"""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="needs the extra potstill[local]")
from liger_made import (
    CHOSEN_ALIKE,
    NEAR,
    SOFT,
    UNEVEN,
    Parts,
    grpo,
    kto,
    liger_cross_entropy,
    liger_grpo,
    liger_jsd,
    liger_kto,
    liger_pairs,
    liger_tvd,
    made,
    pairs,
    tokens,
)

from potstill.objectives import divergence, preference
from potstill.objectives.likelihood import dft, sft, token_logp

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


@pytest.fixture
def numbers_as_tensors(monkeypatch):
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

    monkeypatch.setattr(interpreter, "_implicit_cvt", convert)


def found(loss, parts):
    """The loss, and what its gradients are along two fixed directions."""
    gradients = torch.autograd.grad(loss, parts.leaves)
    along = [float((g * made(*g.shape, turn=0.6)).sum()) for g in gradients]
    return [float(loss.detach()), *along], gradients


@pytest.mark.parametrize("name", CASES | KERNELS)
def test_what_liger_said(name):
    _, ours, lengths = (CASES | KERNELS)[name]
    parts = Parts(lengths)
    assert found(ours(parts), parts)[0] == pytest.approx(RECORDED[name], **NEAR)


def live(name):
    """Liger now: the same as ours in value and in every entry of both gradients, and what was recorded."""
    theirs, ours, lengths = (CASES | KERNELS)[name]
    parts = Parts(lengths)
    said, slopes = found(theirs(parts), parts)
    mine, wanted = found(ours(parts), parts)
    assert said == pytest.approx(mine, **NEAR)
    for slope, want in zip(slopes, wanted, strict=True):
        assert float((slope - want).abs().max()) <= 1e-5 * float(want.abs().max()) > 0
    assert said == pytest.approx(RECORDED[name], **NEAR)


@pytest.mark.parametrize("name", CASES)
def test_liger(name):
    live(name)


@pytest.mark.parametrize("name", KERNELS)
def test_ligers_kernels(name, numbers_as_tensors):
    live(name)


def test_positions_reach_the_case():
    """The inputs are worth comparing: both bounds of the clip are passed, and no two lengths of a pair are the same."""
    parts = Parts()
    ratio = (token_logp(parts.inputs()) - parts.before()[parts.kept]).exp()
    assert (ratio < 0.8).any() and (ratio > 1.28).any()
    assert all(UNEVEN[i] != UNEVEN[i + 3] for i in range(3))
