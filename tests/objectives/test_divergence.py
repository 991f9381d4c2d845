"""Divergences: golden values, closed-form gradients against autograd, laws, truncated teachers, TRL's opinion."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs the extra potstill[local]")
from golden import Hidden, Inputs, Logits, S, T, TopK, Y, inputs, linear, same  # noqa: E402

from potstill.errors import ConfigError  # noqa: E402
from potstill.objectives import divergence as d  # noqa: E402
from potstill.objectives.inputs import TokenLogp, reduce  # noqa: E402
from potstill.objectives.likelihood import likelihood  # noqa: E402
from potstill.objectives.truncated import TAILS, top_k, top_p_k  # noqa: E402

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
    "forward_kl, temperature 2, mixed": (d.forward_kl, {"temperature": 2.0, "kd": 0.3, "squared": True}),
}
STOPPED = ("skew_reverse_kl detached", "adaptive_kl", "taid")  # part of them is held constant: no gradcheck


@pytest.fixture(params=list(ALL))
def objective(request):
    function, constants = ALL[request.param]
    return lambda x, **more: function(x, **constants, **more)


def values(function, **constants):
    return function(inputs(S, T), **constants).values_N.tolist()


PER_TOKEN = [
    (d.jsd, {"beta": 0.0}, [0.398254477923, 0.193315243109, 0.195033406306]),
    (d.jsd, {"beta": 0.1}, [0.0355045847408, 0.0175046382056, 0.0178382401582]),
    (d.jsd, {"beta": 0.5}, [0.098066237395, 0.0510242233537, 0.0539302925406]),
    (d.jsd, {"beta": 1.0}, [0.418451481952, 0.235272908054, 0.260736205458]),
    (d.forward_kl, {}, [0.398254477923, 0.193315243109, 0.195033406306]),
    (d.reverse_kl, {}, [0.418451481952, 0.235272908054, 0.260736205458]),
    (d.skew_kl, {}, [0.31708595853, 0.158675958022, 0.163270184947]),
    (d.skew_reverse_kl, {}, [0.325909581455, 0.176434973992, 0.191339294813]),
    (d.skew_reverse_kl, {"detach": True}, [0.325909581455, 0.176434973992, 0.191339294813]),
    (d.adaptive_kl, {}, [0.409523439658, 0.214294075581, 0.227884805882]),
]
MEANS = [
    (d.jsd, {"beta": 0.001}, 0.000261936945541),
    (d.jsd, {"beta": 0.9}, 0.026507),
    (d.jsd, {"beta": 0.999}, 0.000304398447555),
    (d.tvd, {}, 0.321392626368),
    (d.taid, {"t": 1.0}, 0.262201042446),
    (d.skew_kl, {"skew": 0}, 0.262201042446),
    (d.skew_reverse_kl, {"skew": 0}, 0.304820198488),
    (d.forward_kl, {"temperature": 2.0}, 0.075384985127),
    (d.forward_kl, {"temperature": 2.0, "squared": True}, 0.301539940508),
    (d.reverse_kl, {"temperature": 2.0}, 0.0794327558217),
    (d.jsd, {"temperature": 2.0}, 0.019152261394),
    (d.forward_kl, {"temperature": 2.0, "kd": 0.3}, 0.809529933783),
    (d.forward_kl, {"temperature": 2.0, "kd": 0.3, "squared": True}, 0.877376420397),
]


@pytest.mark.parametrize(("function", "constants", "expected"), PER_TOKEN)
def test_golden_values_per_token(function, constants, expected):
    assert values(function, **constants) == pytest.approx(expected, abs=1e-9)
    single = function(inputs(S.float(), T.float()), **constants).values_N
    assert single.tolist() == pytest.approx(expected, abs=2e-6)


@pytest.mark.parametrize(("function", "constants", "expected"), MEANS)
def test_golden_means(function, constants, expected):
    found = sum(values(function, **constants)) / 3
    assert found == pytest.approx(expected, abs=1e-6 if expected == 0.026507 else 1e-9)


def test_taid_at_0_4_is_the_golden_divergence():
    """Case taid_loss_t_0.4, as a KL: 0.050630."""
    assert sum(values(d.taid, t=0.4)) / 3 == pytest.approx(0.050630, abs=5e-7)


GRADIENTS = {
    (d.forward_kl, ()): [
        [0.13990214728, -0.124192406503, -0.0162815323505, 0.000571791573556],
        [-0.074663615418, 0.0252095041199, 0.0619507715235, -0.0124966602254],
        [0.0474867971091, 0.0118502212661, -0.0937584118708, 0.0344213934956],
    ],
    (d.reverse_kl, ()): [
        [0.136625881682, -0.107660025724, -0.0250818569762, -0.00388399898126],
        [-0.0729166666667, 0.0104166666667, 0.09375, -0.03125],
        [0.0599130052959, 0.00897507670434, -0.126768831387, 0.0578807493863],
    ],
    (d.jsd, ()): [
        [0.0320385578844, -0.0266910309043, -0.00498031354254, -0.000367213437508],
        [-0.0173641009893, 0.00489296264728, 0.0174240464237, -0.00495290808164],
        [0.0127856472059, 0.00274745970191, -0.0255087670431, 0.00997566013521],
    ],
    (d.skew_kl, ()): [
        [0.106878551152, -0.0922008100611, -0.0144292629701, -0.000248478120863],
        [-0.0579519215235, 0.01860929753, 0.0517627629404, -0.0124201389469],
        [0.0392702133056, 0.00933737438126, -0.0777273406171, 0.0291197529302],
    ],
    (d.skew_reverse_kl, ()): [
        [0.105240296087, -0.0848433900222, -0.0181861749046, -0.00221073116025],
        [-0.0564456637651, 0.0124776916545, 0.064416301869, -0.0204483297585],
        [0.0448318352395, 0.00828996555581, -0.0908357262365, 0.0377139254411],
    ],
    (d.skew_reverse_kl, (("detach", True),)): [
        [0.119658373242, -0.0953719147887, -0.0213311393192, -0.00295531913403],
        [-0.0639793871342, 0.0117816747744, 0.0774506994487, -0.025252987089],
        [0.0517923281482, 0.00870545861722, -0.10695255701, 0.0464547702445],
    ],
}


@pytest.mark.parametrize("case", GRADIENTS, ids=str)
def test_golden_gradients(case):
    function, constants = case
    logits = S.clone().requires_grad_()
    function(inputs(logits, T), **dict(constants)).values_N.mean().backward()
    assert logits.grad.tolist() == [pytest.approx(row, abs=1e-9) for row in GRADIENTS[case]]


@pytest.mark.parametrize("name", [name for name in ALL if name not in STOPPED])
def test_gradients_against_finite_differences(name):
    function, constants = ALL[name]
    x = linear(width=3, vocabulary=5, positions=3)

    def loss(hidden, weight):
        return function(Inputs(hidden, lambda h: h @ weight.T, x.targets_N, teacher=x.teacher), **constants).values_N

    assert torch.autograd.gradcheck(loss, (x.hidden_ND, x.head.weight.detach().requires_grad_()))


def test_what_is_held_constant_has_the_gradient_of_its_target():
    """TAID: q - p_t. Adaptive KL: w (q - p) + (1 - w) P[lq - lp] with the golden weights."""
    logits = S.clone().requires_grad_()
    d.taid(inputs(logits, T), t=0.4).values_N.sum().backward()
    assert torch.allclose(logits.grad, S.softmax(-1) - (0.6 * S + 0.4 * T).softmax(-1), atol=1e-12)
    w = torch.tensor([0.442047854273, 0.5, 0.5], dtype=torch.float64)[:, None]
    parts = {}
    for f in (d.forward_kl, d.reverse_kl, d.adaptive_kl):
        z = S.clone().requires_grad_()
        f(inputs(z, T)).values_N.sum().backward()
        parts[f] = z.grad
    assert torch.allclose(parts[d.adaptive_kl], w * parts[d.forward_kl] + (1 - w) * parts[d.reverse_kl], atol=1e-9)


def test_zero_where_the_student_is_the_teacher(objective):
    x = Inputs(T, same, Y, teacher=Logits(T + 5))  # a constant changes no distribution
    if "kd" in str(ALL.values()) and objective(x).values_N.abs().max() > 1e-9:
        plain = d.forward_kl(x, temperature=2.0, squared=True).values_N
        assert plain.abs().max() < 1e-12  # what is left of the mix is the likelihood
        return
    assert objective(x).values_N.abs().max() < 1e-9


@pytest.mark.parametrize("chunk", [1, 2, 3, 5, 1000])
@pytest.mark.parametrize("ahead", [True, False], ids=["weights known", "weights unknown"])
def test_every_chunk_and_path_gives_the_same_values_and_gradients(objective, chunk, ahead):
    x = linear()
    weights = torch.rand(13, dtype=torch.float64)
    known = Inputs(x.hidden_ND, x.head, x.targets_N, teacher=x.teacher, weights_N=weights if ahead else None)
    wrapped = Inputs(x.hidden_ND, through(x), x.targets_N, teacher=x.teacher)
    for a, b in zip(_all(objective, known, x, weights, chunk), _all(objective, wrapped, x, weights, 7), strict=True):
        assert torch.allclose(a, b, atol=1e-12)


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


def test_extreme_logits_are_finite():
    """Case kl_extreme_logits."""
    x = inputs(
        torch.tensor([[0.0, 1000.0, 0.0]], dtype=torch.float64), torch.tensor([[1000.0, 0.0, 0.0]], dtype=torch.float64)
    )
    assert float(d.forward_kl(x).values_N) == pytest.approx(1000)
    assert float(d.reverse_kl(x).values_N) == pytest.approx(1000)
    assert float(d.jsd(x).values_N) == pytest.approx(0.69314718056, abs=1e-9)


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
    x = dataclasses.replace(x, groups_N=torch.tensor([0, 0, 0, 1, 1]), pairs_P2=torch.tensor([[0, 1]]))
    p, q = (s.softmax(-1) for s in (x.teacher.head(x.teacher.hidden_NDt).detach(), x.head(x.hidden_ND)))
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
        a, b = (torch.autograd.grad(v, (x.hidden_ND, x.head.weight), retain_graph=True) for v in (loss, hand))
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
    skews = [min(0.1, max(0.01, 1 - 0.9 * a / (g + 1e-5))) for a, g in zip(anchors, (gaps[0], -gaps[1]), strict=True)]
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


def test_born_again_weights():
    """Case ban_cwtm: the likelihood weighted by the teacher's largest probability, and the soft cross-entropy."""
    best = T.softmax(-1).amax(-1)
    weights = best / best.sum()
    assert weights.tolist() == pytest.approx([0.313510725398, 0.243824377111, 0.442664897491], abs=1e-9)
    assert float((likelihood(inputs()).values_N * weights).sum()) == pytest.approx(1.03122513883, abs=1e-9)
    entropy = -(T.softmax(-1) * T.log_softmax(-1)).sum(-1).mean()
    assert float(d.forward_kl(inputs(S, T)).values_N.mean() + entropy) == pytest.approx(1.18008687546, abs=1e-9)


def test_a_teacher_without_a_distribution_is_refused():
    with pytest.raises(ConfigError, match="TokenLogp"):
        d.forward_kl(inputs(S, teacher=TokenLogp(torch.zeros(3))))
    with pytest.raises(ConfigError, match="no constant 'betta'"):
        d.forward_kl(inputs(S, T), betta=1)


TOP2 = {
    "renormalise": [0.46211715726, 0.0302998619808, 0.120584683194],
    "bucket": [0.394822106402, 0.166852954877, 0.186604613629],
    "none": [0.339406990496, 0.343394924647, 0.262605677484],
    "teacher": [0.589045168303, 0.723447042541, 0.353329385616],
}
TOP2_GRADIENT = {
    "bucket": [
        [0.13990214728, -0.124192406503, -0.011484740763, -0.0042250000139],
        [-0.074663615418, 0.0435801378217, 0.0435801378217, -0.0124966602254],
        [0.0474867971091, 0.0174694163835, -0.0937584118708, 0.0288021983782],
    ],
    "renormalise": [
        [0.15403905242, -0.15403905242, 0.0, 0.0],
        [-0.0408197770673, 0.0, 0.0, 0.0408197770673],
        [0.0643610804496, 0.0, -0.0643610804496, 0.0],
    ],
}


@pytest.mark.parametrize("tail", TAILS)
def test_truncated_teacher_golden(tail):
    """Cases topk2_forward_kl and topk2_teacher_renormalised_student_full."""
    logits = S.clone().requires_grad_()
    loss = d.forward_kl(inputs(logits, teacher=top_k(T, 2)), tail=tail).values_N
    assert loss.tolist() == pytest.approx(TOP2[tail], abs=1e-9)
    loss.mean().backward()
    if tail in TOP2_GRADIENT:
        assert logits.grad.tolist() == [pytest.approx(row, abs=1e-9) for row in TOP2_GRADIENT[tail]]


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("name", ["forward_kl", "reverse_kl", "jsd 0.5", "tvd", "skew_kl", "skew_reverse_kl"])
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


def test_the_golden_file_says_the_same(shared_data):
    """The numbers above were copied by hand; where the file is at hand they are compared with it."""
    path = Path(shared_data).parent / "methods" / "objectives-golden.json"
    if not path.is_file():
        pytest.skip(f"no {path.name} beside the real data")
    cases = {c["id"]: c["expected"] for c in json.loads(path.read_text("utf-8"))["cases"]}
    assert [list(map(float, row)) for row in cases["kl_gradients"]["grad_fkl"]] == GRADIENTS[(d.forward_kl, ())]
    assert cases["topk2_forward_kl"]["tail_bucket_grad"] == TOP2_GRADIENT["bucket"]
    assert isinstance(top_k(T, 2), TopK)
    assert Hidden is not None


@pytest.mark.parametrize("name", ["forward_kl", "reverse_kl", "jsd 0.5", "skew_kl"])
def test_autocast_rounds_the_products_of_the_heads_and_nothing_else(name):
    """Values of fp32 logits are the same inside bfloat16 autocast."""
    function, constants = ALL[name]
    plain = function(inputs(S.float(), T.float()), **constants).values_N
    with torch.autocast("cpu", torch.bfloat16):
        cast = function(inputs(S.float(), T.float()), **constants).values_N
    assert cast.dtype == torch.float32
    assert torch.equal(cast, plain)
