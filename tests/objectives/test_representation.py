"""Layers, relations, contrasts: golden values, gradients, laws."""

from __future__ import annotations

import dataclasses

import pytest

torch = pytest.importorskip("torch", reason="needs the extra potstill[local]")
from golden import Hidden, Inputs, S, T, linear, same

from potstill.errors import ConfigError
from potstill.objectives import divergence
from potstill.objectives import representation as r
from potstill.objectives.inputs import Layers, Logits, OtherVocabulary, reduce
from potstill.objectives.likelihood import sft

STUDENT = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]], dtype=torch.float64)
TEACHER = torch.tensor([[0.0, 0.0, 0.0], [2.0, 0.0, 0.0], [0.0, 2.0, 0.0]], dtype=torch.float64)


def test_golden_rkd_through_inputs():
    """The same as an objective: two positions a sequence whose mean is the state, teachers of both kinds."""
    shake = torch.tensor([[0.5], [-0.5]], dtype=torch.float64).repeat(3, 1)
    groups = torch.arange(3).repeat_interleave(2)
    mine, theirs = STUDENT[groups] + shake, TEACHER[groups] + shake
    targets = torch.zeros(6, dtype=torch.long)
    other = OtherVocabulary(TEACHER, same, torch.zeros(3, dtype=torch.long), torch.arange(3))
    for teacher in (Hidden(theirs, same), other):
        x = Inputs(mine, same, targets, teacher=teacher, groups_N=groups)
        values = r.rkd(x, ce=0).values_N
        assert float(reduce(values, torch.ones(6), 3)) == pytest.approx(0.026086927639, abs=1e-9)
    x = dataclasses.replace(x, head=torch.nn.Linear(2, 4, dtype=torch.float64))
    with_ce = r.rkd(x).values_N - values
    assert float(with_ce.detach().sum() / 3) == pytest.approx(
        float(sft(x).values_N.detach().sum() / 6), abs=1e-9
    )


def test_relations_know_no_scale_no_place_and_no_turn():
    torch.manual_seed(0)
    side = torch.randn(6, 4, dtype=torch.float64)
    turn = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64))[0]
    far, turned = r.relations(side, 3 * side @ turn + 7)
    assert max(float(far.max()), float(turned.max())) < 1e-12


def test_relations_gradients():
    torch.manual_seed(0)
    side = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    other = torch.randn(4, 5, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda s: torch.cat(r.relations(s, other)), (side,))
    twins = torch.ones(
        3, 2, dtype=torch.float64, requires_grad=True
    )  # all the same: no distance, no angle
    sum(v.sum() for v in r.relations(twins, torch.eye(3, dtype=torch.float64))).backward()
    assert torch.isfinite(twins.grad).all()


def test_golden_layers():
    """Case ted_layerwise."""
    student = torch.tensor(
        [[[1.0, 2.0], [0.0, 1.0]], [[0.0, 0.0], [1.0, 1.0]]], dtype=torch.float64
    )
    teacher = torch.tensor(
        [[[1.0, 1.0], [1.0, 1.0]], [[0.0, 2.0], [1.0, 0.0]]], dtype=torch.float64
    )
    assert [float(r.layerwise([s], [t]).mean()) for s, t in zip(student, teacher)] == [0.5, 1.25]
    assert float(r.layerwise(list(student), list(teacher)).mean()) == 0.875


def layered(positions=5):
    torch.manual_seed(3)
    x = linear(width=4, vocabulary=7, positions=positions)
    states = [
        tuple(torch.randn(positions, d, dtype=torch.float64, requires_grad=True) for _ in range(2))
        for d in (4, 6)
    ]
    return dataclasses.replace(x, layers=Layers(*states), projectors=r.Filters(4, 6, 2).double())


def test_ted_is_the_sum_of_its_terms():
    x = layered()
    parts = [r.ted(x, ce=a, kl=b, mse=c).values_N for a, b, c in ((1, 0, 0), (0, 1, 0), (0, 0, 1))]
    assert torch.allclose(
        r.ted(x, ce=0.3, kl=2.0, mse=5.0).values_N, 0.3 * parts[0] + 2 * parts[1] + 5 * parts[2]
    )
    assert torch.equal(parts[0], sft(x).values_N)
    assert torch.allclose(
        parts[1], divergence.forward_kl(x, temperature=2.0, squared=True).values_N
    )
    plain = r.ted(x, ce=0, kl=0, normalise=False).values_N
    by_hand = sum(
        ((f(s) - g(t)) ** 2).mean(-1) / 2
        for f, g, s, t in zip(
            x.projectors.student, x.projectors.teacher, x.layers.student, x.layers.teacher
        )
    )
    assert torch.allclose(plain, by_hand)


def test_teds_student_learns_and_the_teacher_with_its_filters_does_not():
    x = layered()
    r.ted(x).values_N.sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in x.projectors.student.parameters())
    assert all(s.grad is not None for s in x.layers.student)
    assert all(p.grad is None for p in x.projectors.teacher.parameters())
    assert all(t.grad is None for t in x.layers.teacher)


def test_teds_first_stage_trains_filters_alone():
    x = layered()
    loss = r.ted_filters(x, normalise=False)
    # A filter that is the identity is the head on the layer itself; the teacher's are not square.
    direct = torch.stack(
        [sft(Inputs(h, x.head, x.targets_N)).values_N for h in x.layers.student]
    ).mean(0)
    theirs = [
        sft(Inputs(f(h), x.head, x.targets_N)).values_N
        for f, h in zip(x.projectors.teacher, x.layers.teacher)
    ]
    assert torch.allclose(loss.values_N, direct + torch.stack(theirs).mean(0))
    assert float(loss.stats["student_nll"].total) == pytest.approx(direct.sum().item(), abs=1e-12)
    even = x.layers.student[0] / x.layers.student[0].pow(2).mean(-1, keepdim=True).sqrt()
    states = Layers((even, *x.layers.student[1:]), x.layers.teacher)
    assert not torch.allclose(r.ted_filters(x).values_N, loss.values_N)
    assert torch.allclose(
        r.ted_filters(x).values_N, r.ted_filters(dataclasses.replace(x, layers=states)).values_N
    )  # it knows no length of states
    loss.values_N.sum().backward()
    assert x.head.weight.grad is None
    assert all(h.grad is None for side in x.layers for h in side)
    optimiser = torch.optim.SGD(x.projectors.parameters(), lr=0.1)
    optimiser.step()
    after = r.ted_filters(x, normalise=False)
    for name in ("student_nll", "teacher_nll"):
        assert after.stats[name].total < loss.stats[name].total


def test_layers_at_the_same_depth():
    assert r.same_depth(12, 24, 4) == [(3, 6), (6, 12), (9, 18), (12, 24)]
    assert r.same_depth(2, 36, 2) == [(1, 18), (2, 36)]


def ruled(means, labels, prompts=None, scores=None, lengths=(3, 1, 4, 2), chunk=0):
    """Sequences with given mean log-probabilities, of different lengths, under logits made for them."""
    logits, targets, groups = [], [], []
    for which, (mean, length) in enumerate(zip(means, lengths)):
        for _ in range(length):
            p = torch.tensor(mean, dtype=torch.float64).exp()
            logits.append(torch.stack([p.log(), torch.log1p(-p)]))
            targets.append(0)
            groups.append(which)
    return Inputs(
        torch.stack(logits).requires_grad_(),
        same,
        torch.tensor(targets),
        groups_N=torch.tensor(groups),
        labels_S=torch.tensor(labels),
        prompts_S=torch.zeros(len(means), dtype=torch.long)
        if prompts is None
        else torch.tensor(prompts),
        scores_S=None if scores is None else torch.tensor(scores, dtype=torch.float64),
    )


KIND = [True, True, False, False]


def test_golden_margin():
    """Case qcrd_margin_reconstruction: negatives beyond the margin have no gradient."""
    x = ruled([-0.4, -0.6, -0.9, -1.5], KIND, scores=[0.8, 0.8, 0.2, 0.2])
    assert float(r.qcrd(x).values_N.sum()) == pytest.approx(0.656, abs=1e-9)
    far = ruled([-0.4, -0.6, -3.5, -3.6], KIND, scores=[0.8, 0.8, 0.2, 0.2])
    values = r.qcrd(far).values_N
    assert float(values.sum()) == pytest.approx(0.32, abs=1e-9)
    values.sum().backward()
    assert far.hidden_ND.grad[4:].abs().max() == 0
    assert far.hidden_ND.grad[:3].abs().min() > 0


def test_golden_contrast():
    """Case contrastive_rationale."""
    means = [-0.4, -0.6, -0.9, -1.5]
    assert float(r.contrastive(ruled(means, KIND)).values_N.sum()) == pytest.approx(
        0.416414949622, abs=1e-9
    )
    weighted = r.contrastive(
        ruled(means, KIND, scores=[0.75, 0.25, 1.0, 1.0]), weighted=True
    ).values_N
    assert float(weighted.sum()) == pytest.approx(0.687847700414, abs=1e-9)


CONTRASTS = [
    (r.qcrd, {}),
    (r.contrastive, {}),
    (r.contrastive, {"weighted": True, "temperature": 0.5}),
]


@pytest.mark.parametrize(("function", "constants"), CONTRASTS)
def test_contrast_gradients_and_direction(function, constants):
    x = ruled([-0.4, -0.6, -0.9, -1.5], KIND, scores=[0.8, 0.6, 0.2, 0.1])
    loss = lambda z: function(dataclasses.replace(x, hidden_ND=z), **constants).values_N  # noqa: E731
    assert torch.autograd.gradcheck(loss, (x.hidden_ND,))
    [grad] = torch.autograd.grad(loss(x.hidden_ND).sum(), x.hidden_ND)
    assert (grad[:4, 0] <= 0).all() and (grad[4:, 0] >= 0).all()
    assert grad[:4, 0].min() < 0 < grad[4:, 0].max()


@pytest.mark.parametrize(("function", "constants"), CONTRASTS)
def test_prompts_add_up_and_one_kind_alone_is_finite(function, constants):
    means = [-0.4, -0.9, -0.6, -1.5]
    both = ruled(means, [True, False, True, False], prompts=[0, 0, 1, 1])
    single = [
        ruled(means[i : i + 2], [True, False], lengths=(3, 1, 4, 2)[i : i + 2]) for i in (0, 2)
    ]
    apart = sum(float(function(x, **constants).values_N.sum()) for x in single)
    assert float(function(both, **constants).values_N.sum()) == pytest.approx(apart, abs=1e-9)
    for labels in ([True, True], [False, False]):
        x = ruled([-0.4, -0.9], labels, lengths=(3, 1))
        values = function(x, **constants).values_N
        values.sum().backward()
        assert torch.isfinite(values).all()
        assert torch.isfinite(x.hidden_ND.grad).all()


def test_what_is_missing_is_said():
    x = Inputs(S, same, torch.zeros(3, dtype=torch.long), teacher=Logits(T))
    for function, said in (
        (r.rkd, "states"),
        (r.ted, "filters"),
        (r.qcrd, "rationales"),
        (r.contrastive, "labels_S"),
    ):
        with pytest.raises(ConfigError, match=said):
            function(x)
    wrong = dataclasses.replace(layered(), projectors=r.Filters(4, 6, 3).double())
    with pytest.raises(ConfigError, match="3 filters for 2 layers"):
        r.ted(wrong)
