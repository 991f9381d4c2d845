"""Divergences: golden values, closed-form gradients against autograd, laws, truncated teachers, TRL's opinion."""

from __future__ import annotations

import dataclasses

import pytest

torch = pytest.importorskip("torch", reason="needs the extra potstill[local]")
from golden import WAYS, Inputs, Logits, S, T, Y, inputs, linear, same

from potstill.errors import ConfigError
from potstill.objectives import divergence as d
from potstill.objectives.inputs import TokenLogp, reduce
from potstill.objectives.truncated import TAILS, top_k, top_p_k

ALL = {
    "forward_kl": (d.forward_kl, {}),
    "reverse_kl": (d.reverse_kl, {}),
    "jsd 0.1": (d.jsd, {"beta": 0.1}),
    "jsd 0.5": (d.jsd, {"beta": 0.5}),
    "jsd 0.9": (d.jsd, {"beta": 0.9}),
    "tvd": (d.tvd, {}),
    "skew_kl": (d.skew_kl, {}),
    "skew_reverse_kl": (d.skew_reverse_kl, {}),
    "skew_reverse_kl detached": (d.skew_reverse_kl, {"detach": True}),
    "adaptive_kl": (d.adaptive_kl, {}),
    "taid": (d.taid, {"t": 0.4}),
    "forward_kl, temperature 2, mixed": (
        d.forward_kl,
        {"temperature": 2.0, "kd": 0.3, "squared": True},
    ),
}
STOPPED = (
    "skew_reverse_kl detached",
    "adaptive_kl",
    "taid",
)  # part of them is held constant: no gradcheck


@pytest.fixture(params=list(ALL))
def objective(request):
    function, constants = ALL[request.param]
    return lambda x, **more: function(x, **constants, **more)


@pytest.mark.parametrize("name", [name for name in ALL if name not in STOPPED])
def test_gradients_against_finite_differences(name):
    function, constants = ALL[name]
    x = linear(width=3, vocabulary=5, positions=3)

    def loss(hidden, weight):
        return function(
            Inputs(hidden, lambda h: h @ weight.T, x.targets_N, teacher=x.teacher), **constants
        ).values_N

    assert torch.autograd.gradcheck(loss, (x.hidden_ND, x.head.weight.detach().requires_grad_()))


def test_what_is_held_constant_has_the_gradient_of_its_target():
    """TAID: q - p_t. AdaptiveShare KL: w (q - p) + (1 - w) P[lq - lp] with the golden weights."""
    logits = S.clone().requires_grad_()
    d.taid(inputs(logits, T), t=0.4).values_N.sum().backward()
    assert torch.allclose(logits.grad, S.softmax(-1) - (0.6 * S + 0.4 * T).softmax(-1), atol=1e-12)
    w = torch.tensor([0.442047854273, 0.5, 0.5], dtype=torch.float64)[:, None]
    parts = {}
    for f in (d.forward_kl, d.reverse_kl, d.adaptive_kl):
        z = S.clone().requires_grad_()
        f(inputs(z, T)).values_N.sum().backward()
        parts[f] = z.grad
    assert torch.allclose(
        parts[d.adaptive_kl], w * parts[d.forward_kl] + (1 - w) * parts[d.reverse_kl], atol=1e-9
    )


def test_zero_where_the_student_is_the_teacher(objective):
    x = Inputs(T, same, Y, teacher=Logits(T + 5))  # a constant changes no distribution
    if "kd" in str(ALL.values()) and objective(x).values_N.abs().max() > 1e-9:
        plain = d.forward_kl(x, temperature=2.0, squared=True).values_N
        assert plain.abs().max() < 1e-12  # what is left of the mix is the likelihood
        return
    assert objective(x).values_N.abs().max() < 1e-9


@pytest.mark.parametrize("ahead", [True, False], ids=["weights known", "weights unknown"])
def test_every_chunk_and_path_gives_the_same_values_and_gradients(objective, ahead):
    x = linear()
    weights = torch.rand(13, dtype=torch.float64)
    known = Inputs(
        x.hidden_ND, x.head, x.targets_N, teacher=x.teacher, weights_N=weights if ahead else None
    )
    wrapped = Inputs(x.hidden_ND, through(x), x.targets_N, teacher=x.teacher)
    expected = _all(objective, wrapped, x, weights, 7)
    for chunk in (1, 2, 3, 5, 1000):
        for a, b in zip(_all(objective, known, x, weights, chunk), expected, strict=True):
            assert torch.allclose(a, b, atol=1e-12), f"chunk={chunk}"


def through(x):
    """A head that is no plain linear layer."""
    return lambda h: x.head(h) + 0


def _all(objective, x, of, weights, chunk):
    found = objective(x, chunk=chunk).values_N
    wanted = (of.hidden_ND, of.head.weight, of.head.bias)
    return found, *torch.autograd.grad(reduce(found, weights, 1.0), wanted)


def test_the_teachers_head_gets_no_gradient(objective):
    x = linear()
    objective(x).values_N.sum().backward()
    assert x.teacher.head.weight.grad is None
    assert x.teacher.hidden_NDt.grad is None


def test_masked_positions_have_no_gradient(objective):
    x = linear()
    weights = torch.ones(13, dtype=torch.float64)
    weights[4:] = 0
    [grad] = torch.autograd.grad(reduce(objective(x).values_N, weights, 4.0), x.hidden_ND)
    assert grad[4:].abs().max() == 0
    assert grad[:4].abs().min() > 0


def test_banned_vocabulary_counts_nothing(objective):
    """Case kl_masked_vocabulary: -inf logits on both sides; TRL's divergence is NaN there."""
    banned = torch.full((3, 1), -torch.inf, dtype=torch.float64)
    wide = inputs(torch.cat([S, banned], 1).requires_grad_(), torch.cat([T, banned], 1))
    narrow = objective(inputs(S, T)).values_N
    loss = objective(wide).values_N
    assert torch.allclose(loss, narrow, atol=1e-12)
    [grad] = torch.autograd.grad(loss.sum(), wide.hidden_ND)
    assert torch.isfinite(grad).all()
    assert grad[:, -1].abs().max() == 0


def paired():
    """Sequences of 3 and 2 positions, a pair; and by hand `sum_sides share mean KL` for skews (a, b)."""
    x = linear(positions=5)
    x = dataclasses.replace(
        x, groups_N=torch.tensor([0, 0, 0, 1, 1]), pairs_P2=torch.tensor([[0, 1]])
    )
    p, q = (
        s.softmax(-1) for s in (x.teacher.head(x.teacher.hidden_NDt).detach(), x.head(x.hidden_ND))
    )
    kl = lambda one, other: (one * (one.log() - other.log())).sum(-1)  # noqa: E731

    def wanted(a, b, student):
        forward = kl(p[:3], a * p[:3] + (1 - a) * q[:3]).mean()
        reverse = kl(q[3:], (1 - b) * p[3:] + b * q[3:].detach()).mean()
        return (2 - student) * forward + student * reverse

    return x, p, q, wanted


def test_distillm2_by_hand_in_float64():
    x, _, _, wanted = paired()
    for loss, hand in ((d.distillm2(x, student=1.3).values_N.sum(), wanted(0.1, 0.1, 1.3)),):
        assert loss.item() == pytest.approx(hand.item(), abs=1e-12)
        a, b = (
            torch.autograd.grad(v, (x.hidden_ND, x.head.weight), retain_graph=True)
            for v in (loss, hand)
        )
        assert all(torch.allclose(one, other, atol=1e-12) for one, other in zip(a, b, strict=True))


def gaps_of(x, p, q):
    """exp of the mean log-probability under the teacher, less that under the student, of both responses."""
    mean = lambda s, at: s.gather(1, x.targets_N[:, None]).log()[at].mean().exp().item()  # noqa: E731
    return [mean(p, at) - mean(q, at) for at in (slice(0, 3), slice(3, 5))]


def test_distillm2_gives_each_response_its_own_skew():
    """Of the teacher's response by p - q, of the student's by q - p, each with its own anchor, as the authors' code."""
    x, p, q, wanted = paired()
    x = dataclasses.replace(x, targets_N=torch.cat([p[:3].argmax(-1), q[3:].argmax(-1)]))
    gaps = gaps_of(x, p, q)
    assert gaps[0] > 0 > gaps[1]
    anchors = gaps[0] * 1.04, -gaps[1] * 1.07
    skews = [
        min(0.1, max(0.01, 1 - 0.9 * a / (g + 1e-5)))
        for a, g in zip(anchors, (gaps[0], -gaps[1]), strict=True)
    ]
    assert len({0.01, 0.1, *skews}) == 4
    loss = d.distillm2(x, anchor=anchors)
    assert loss.values_N.sum().item() == pytest.approx(wanted(*skews, 1.0).item(), abs=1e-12)
    assert float(loss.stats["gap"].total) == pytest.approx(gaps[0], abs=1e-12)
    assert float(loss.stats["gap_student"].total) == pytest.approx(-gaps[1], abs=1e-12)
    counts = {"skew_kl": 3, "skew_reverse_kl": 2, "gap": 1, "gap_student": 1}
    assert {name: int(loss.stats[name].count) for name in counts} == counts
    one, two = (d.distillm2(x, anchor=a).values_N for a in (anchors[0], (anchors[0],) * 2))
    assert torch.equal(one, two)
    with pytest.raises(ConfigError, match="full logits"):
        kept = top_k(x.teacher.head(x.teacher.hidden_NDt).detach(), 3)
        d.distillm2(dataclasses.replace(x, teacher=kept), anchor=anchors)


def test_distillm2_first_is_the_plain_loss_and_tells_the_gaps():
    x, p, q, wanted = paired()
    loss = d.distillm2(x, anchor="first")
    assert loss.values_N.sum().item() == pytest.approx(wanted(0.1, 0.1, 1.0).item(), abs=1e-12)
    gaps = gaps_of(x, p, q)
    told = [float(loss.stats[name].total) for name in ("gap", "gap_student")]
    assert told == pytest.approx([gaps[0], -gaps[1]], abs=1e-12)
    with pytest.raises(ConfigError, match="anchor='last' is no number"):
        d.distillm2(x, anchor="last")


def test_a_teacher_without_a_distribution_is_refused():
    with pytest.raises(ConfigError, match="TokenLogp"):
        d.forward_kl(inputs(S, teacher=TokenLogp(torch.zeros(3))))
    with pytest.raises(ConfigError, match="no constant 'betta'"):
        d.forward_kl(inputs(S, T), betta=1)


@pytest.mark.parametrize(
    ("function", "constants", "said"),
    [
        (d.jsd, {"beta": 1.5}, "beta of jsd is 1.5"),
        (d.skew_kl, {"skew": 1}, "skew is 1"),
        (d.skew_reverse_kl, {"skew": -0.1}, "skew is -0.1"),
        (d.adaptive_kl, {"mu": 2}, "mu is 2"),
        (d.forward_kl, {"temperature": 0}, "temperature=0"),
        (d.forward_kl, {"kd": 1.2}, r"kd of forward_kl is 1\.2"),
        (d.taid, {"t": 1.1}, r"t of taid is 1\.1"),
        (d.reverse_kl, {"tail": "teacher"}, "only the forward KL"),
        (d.jsd, {"tail": "none"}, "only the forward KL"),
    ],
)
def test_constants_that_make_no_number_are_refused(function, constants, said):
    with pytest.raises(ConfigError, match=said):
        function(inputs(S, teacher=top_k(T, 2)), **constants)


@pytest.mark.parametrize("raw", [True, False], ids=["any head", "linear head"])
@pytest.mark.parametrize("name", [name for name in ALL if "mixed" not in name])
def test_heads_padded_to_different_widths_are_compared_on_what_both_have(name, raw):
    """Never with zeros (liger) and never as banned: what one side alone can say is in neither distribution."""
    function, constants = ALL[name]
    pad = 0.3 * torch.arange(6, dtype=torch.float64).reshape(3, 2)
    narrow = function(inputs(S, T), **constants).values_N
    for student, teacher in ((torch.cat([S, pad], 1), T), (S, torch.cat([T, pad], 1))):
        hidden = student.clone().requires_grad_()
        x = inputs(hidden, teacher)
        if not raw:
            x = WAYS["chunked, float64"](x)
            hidden = x.hidden_ND
        found = function(x, **constants).values_N
        [grad] = torch.autograd.grad(found.sum(), hidden)
        assert torch.allclose(found, narrow, atol=1e-12)
        assert grad[:, 4:].abs().sum() == 0
        assert grad[:, :4].abs().sum() > 0


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize(
    "name", ["forward_kl", "reverse_kl", "jsd 0.5", "tvd", "skew_kl", "skew_reverse_kl"]
)
def test_truncated_gradients_against_finite_differences(name, tail):
    function, constants = ALL[name]
    if tail in ("none", "teacher") and name != "forward_kl":
        pytest.skip("a teacher without mass outside has no reverse divergence")
    kept = top_k(T, 2)
    loss = lambda z: function(inputs(z, teacher=kept), tail=tail, **constants).values_N  # noqa: E731
    assert torch.autograd.gradcheck(loss, (S.clone().requires_grad_(),))


@pytest.mark.parametrize("name", ["forward_kl", "reverse_kl", "jsd 0.5", "tvd", "skew_kl"])
def test_merging_classes_never_enlarges_a_divergence_and_all_of_them_change_nothing(name):
    function, constants = ALL[name]
    torch.manual_seed(1)
    z, t = torch.randn(40, 9, dtype=torch.float64), 2 * torch.randn(40, 9, dtype=torch.float64)
    targets = torch.zeros(40, dtype=torch.long)
    whole = function(Inputs(z, same, targets, teacher=Logits(t)), **constants).values_N
    for k in (1, 3, 8):
        part = function(Inputs(z, same, targets, teacher=top_k(t, k)), **constants).values_N
        assert (part <= whole + 1e-12).all()
    every = function(Inputs(z, same, targets, teacher=top_k(t, 9)), **constants).values_N
    assert torch.allclose(every, whole, atol=2e-6)  # the tail of nothing is held at 1e-7


def test_truncation_rule():
    """Case top_p_k_truncation."""
    shares = torch.tensor([0.5, 0.25, 0.12, 0.08, 0.05], dtype=torch.float64)
    for p, k, ids, kept in (
        (0.9, 10, [0, 1, 2, 3], [0.526315789474, 0.263157894737, 0.126315789474, 0.0842105263158]),
        (0.9, 2, [0, 1], [0.666666666667, 0.333333333333]),
        (0.8, 10, [0, 1, 2], [0.574712643678, 0.287356321839, 0.137931034483]),
    ):
        found, share = top_p_k(shares, p, k)
        assert found.tolist() == ids
        assert share.tolist() == pytest.approx(kept, abs=1e-9)


@pytest.mark.parametrize("beta", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_trl_agrees(beta):
    gkd = pytest.importorskip("trl.experimental.gkd", reason="needs the extra potstill[dev]")
    torch.manual_seed(2)
    z, t = torch.randn(7, 50, dtype=torch.float64), 3 * torch.randn(7, 50, dtype=torch.float64)
    wanted = gkd.GKDTrainer.generalized_jsd_loss(z[None], t[None], beta=beta, reduction="sum") / 7
    x = Inputs(z, same, torch.zeros(7, dtype=torch.long), teacher=Logits(t))
    assert float(d.jsd(x, beta=beta).values_N.mean()) == pytest.approx(float(wanted), abs=1e-9)


@pytest.mark.parametrize("name", ["forward_kl", "reverse_kl", "jsd 0.5", "skew_kl"])
def test_autocast_rounds_the_products_of_the_heads_and_nothing_else(name):
    """Values of fp32 logits are the same inside bfloat16 autocast."""
    function, constants = ALL[name]
    plain = function(inputs(S.float(), T.float()), **constants).values_N
    with torch.autocast("cpu", torch.bfloat16):
        cast = function(inputs(S.float(), T.float()), **constants).values_N
    assert cast.dtype == torch.float32
    assert torch.equal(cast, plain)
