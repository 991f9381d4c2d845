"""Two spaces: DSKD against the authors' formulas written out, CoT2Align's laws, who gets a gradient."""

from __future__ import annotations

import dataclasses
import math

import pytest

torch = pytest.importorskip("torch", reason="needs the extra potstill[local]")
from golden import Inputs, S, T, same

from potstill.errors import ConfigError
from potstill.objectives import dskd as d
from potstill.objectives.inputs import Layers, Logits, OtherVocabulary, reduce
from potstill.objectives.likelihood import sft
from potstill.objectives.sinkhorn import plan
from potstill.objectives.transport import uld

D, DT, V, W = 4, 5, 7, 9


def inputs(seed=0, lengths=((3, 4), (5, 2), (2, 6)), dtype=torch.float64):
    """Three sequences of different lengths on both sides, under linear heads."""
    torch.manual_seed(seed)
    n, m = (sum(side) for side in zip(*lengths))
    mine, theirs = (
        torch.nn.Linear(D, V, dtype=dtype),
        torch.nn.Linear(DT, W, bias=False, dtype=dtype),
    )
    groups, of = (
        torch.cat([torch.full((pair[s],), i) for i, pair in enumerate(lengths)]) for s in (0, 1)
    )
    teacher = OtherVocabulary(
        (2 * torch.randn(m, DT, dtype=dtype)).requires_grad_(),
        theirs,
        torch.randint(W, (m,)),
        of,
        embedded_M2Dt=torch.randn(m, 2, DT, dtype=dtype),
    )
    return Inputs(
        torch.randn(n, D, dtype=dtype, requires_grad=True),
        mine,
        torch.randint(V, (n,)),
        teacher=teacher,
        groups_N=groups,
        embedded_N2D=torch.randn(n, 2, D, dtype=dtype, requires_grad=True),
        projectors=d.CrossMaps(D, DT).to(dtype),
    )


def some(x, keep):
    n, m, t = torch.isin(x.groups, keep), torch.isin(x.teacher.sequences_M, keep), x.teacher
    teacher = t._replace(
        hidden_MDt=t.hidden_MDt[m],
        targets_M=t.targets_M[m],
        sequences_M=t.sequences_M[m],
        embedded_M2Dt=t.embedded_M2Dt[m],
    )
    return dataclasses.replace(
        x,
        hidden_ND=x.hidden_ND[n],
        targets_N=x.targets_N[n],
        groups_N=x.groups[n],
        teacher=teacher,
        embedded_N2D=x.embedded_N2D[n],
    )


def written_out(x, kd, tau):
    """The repository's formulas for one sequence (compute_dual_space_kd_loss_with_cma), with its summed losses."""
    t, maps = x.teacher, x.projectors
    hidden_t = t.hidden_MDt.detach()
    index_s = x.embedded_N2D.detach().reshape(len(x.targets_N), -1)
    index_t = t.embedded_M2Dt.reshape(len(t.targets_M), -1)
    key = index_t / index_t.std()
    target_t = t.embedded_M2Dt[:, 1]
    value_t = maps.to_student(hidden_t / hidden_t.std() + target_t / target_t.std())
    align = maps.query(index_s) @ key.T / math.sqrt(2 * DT)
    t2s = torch.nn.functional.linear(
        align.softmax(-1) @ value_t, x.head.weight.detach(), x.head.bias.detach()
    )
    learnt = torch.nn.functional.cross_entropy(t2s, x.targets_N, reduction="sum")
    right = t2s.argmax(-1) == x.targets_N
    logits = x.head(x.hidden_ND)
    kl = lambda z, p: (p * (p.log() - (z / tau).log_softmax(-1))).sum(-1)  # noqa: E731
    near = (kl(logits, (t2s.detach() / tau).softmax(-1)) * right).sum()
    s2t = (align.T.softmax(-1) @ maps.to_teacher(x.hidden_ND)) @ t.head.weight.detach().T
    far = kl(s2t, (hidden_t @ t.head.weight.detach().T / tau).softmax(-1)).sum()
    plain = torch.nn.functional.cross_entropy(logits, x.targets_N, reduction="sum")
    return (1 - kd) * plain + kd * (learnt + near + far), int(right.sum())


def test_dskd_is_the_authors_loss_with_its_gradients():
    """Case dskd_cma is named by the reference and not in its file: the repository's formulas, written out once more."""
    hits = 0
    for seed in range(6):
        x = inputs(seed, lengths=((6, 5),))
        wanted, right = written_out(x, 0.5, 2.0)
        hits += right
        loss = d.dskd(x)
        assert float(loss.values_N.detach().sum()) == pytest.approx(
            float(wanted.detach()), abs=1e-9
        )
        assert int(loss.stats["t2s_right"].total) == right
        of = (x.hidden_ND, x.head.weight, x.head.bias, *x.projectors.parameters())
        found = torch.autograd.grad(loss.values_N.sum(), of)
        for a, b in zip(found, torch.autograd.grad(wanted, of), strict=True):
            assert torch.allclose(a, b, atol=1e-10)
    assert hits, "the projected teacher is never right: the masked term was not tested"


def test_who_learns():
    x = inputs()
    d.dskd(x, kd=1.0).values_N.sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in x.projectors.parameters())
    assert x.teacher.hidden_MDt.grad is None
    assert x.teacher.head.weight.grad is None
    assert x.embedded_N2D.grad is None
    assert x.hidden_ND.grad.abs().sum() > 0


def test_nothing_but_the_likelihood_without_distillation():
    x = inputs()
    assert torch.allclose(d.dskd(x, kd=0.0).values_N, sft(x).values_N)


def aligned(x, **more):
    """The same for CoT2Align, with two layers."""
    torch.manual_seed(5)
    n, m = len(x.targets_N), len(x.teacher.targets_M)
    layers = Layers(
        tuple(torch.randn(n, D, dtype=torch.float64, requires_grad=True) for _ in range(2)),
        tuple(torch.randn(m, DT, dtype=torch.float64, requires_grad=True) for _ in range(2)),
    )
    return dataclasses.replace(x, projectors=d.Across(D, DT, 2).double(), layers=layers, **more)


@pytest.mark.parametrize("name", ["dskd", "cot2align"])
def test_micro_batches_and_chunks_are_the_same(name):
    x, function = inputs(), getattr(d, name)
    if name == "cot2align":
        x = dataclasses.replace(x, projectors=d.Across(D, DT).double())
    whole = function(x).values_N
    assert torch.allclose(function(x, chunk=2).values_N, whole, atol=1e-12)
    parts = [function(some(x, torch.tensor([i]))).values_N for i in range(3)]
    assert torch.allclose(torch.cat(parts), whole, atol=1e-12)
    weighted = dataclasses.replace(x, weights_N=torch.rand(len(x.targets_N), dtype=torch.float64))
    of = (x.hidden_ND, x.head.weight, *x.projectors.parameters())
    grads = [
        torch.autograd.grad(
            reduce(function(given, chunk=c).values_N, weighted.weights_N, 1.0),
            of,
            allow_unused=True,
        )
        for given, c in ((x, 0), (weighted, 3))
    ]
    for a, b in zip(*grads, strict=True):
        assert (a is None) == (b is None)
        assert a is None or torch.allclose(a, b, atol=1e-11)


def test_the_projections_learn_to_name_the_targets():
    """DSKD's own check that the attention finds the tokens: the share that is right rises."""
    x = inputs(lengths=((6, 6),))
    optimiser = torch.optim.Adam(x.projectors.parameters(), lr=0.05)
    before = float(d.dskd(x).stats["t2s_nll"].total)
    for _ in range(60):
        optimiser.zero_grad()
        loss = d.dskd(x)
        loss.values_N.sum().backward()
        optimiser.step()
    after = d.dskd(x).stats
    assert float(after["t2s_nll"].total) < 0.5 * before
    assert int(after["t2s_right"].total) >= 5


def test_the_crossed_alignment_is_a_transport():
    x = aligned(inputs())
    loss = d.cot2align(x, ce=0)
    values = loss.values_N.detach()
    assert values.min() > 0  # 1 - cosine
    assert values.max() < 2
    loss.values_N.sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in x.projectors.parameters())
    assert all(s.grad.abs().sum() > 0 for s in x.layers.student)
    assert all(t.grad is None for t in x.layers.teacher)
    assert x.embedded_N2D.grad is not None  # embeddings given with a graph are trained here
    assert torch.allclose(d.cot2align(x, align=0).values_N, sft(x).values_N)


def test_the_transport_written_out_with_its_gradients():
    """`mean over spaces of N sum_j P_ij (1 - cos)`, the plan P constant, of embeddings and both pairs of layers."""
    x = aligned(inputs())
    values = d.cot2align(x, ce=0).values_N
    t, maps = x.teacher, x.projectors
    mine = (x.embedded_N2D[:, 0], *x.layers.student)
    theirs = [maps.embeddings(t.embedded_M2Dt[:, 0])]
    theirs += [project(h.detach()) for project, h in zip(maps.layers, x.layers.teacher)]
    wanted = []
    for which in range(3):
        n, m = x.groups == which, t.sequences_M == which
        costs = [
            1 - torch.nn.functional.cosine_similarity(a[n][:, None], b[m][None], dim=-1)
            for a, b in zip(mine, theirs)
        ]
        wanted.append(sum(int(n.sum()) * (plan(c.detach()) * c).sum(1) for c in costs) / 3)
    wanted = torch.cat(wanted)
    assert torch.allclose(values, wanted, atol=1e-12)
    of = (x.embedded_N2D, *x.layers.student, *maps.parameters())
    weights = torch.rand(len(values), dtype=torch.float64)
    for a, b in zip(
        *(torch.autograd.grad((v * weights).sum(), of) for v in (values, wanted)), strict=True
    ):
        assert torch.allclose(a, b, atol=1e-12)


def test_the_same_states_in_another_order_are_no_distance_apart():
    x = inputs(lengths=((5, 5),))
    x = dataclasses.replace(x, projectors=d.Across(D, D).double(), embedded_N2D=None)
    torch.nn.init.eye_(x.projectors.layers[0].weight)
    torch.nn.init.zeros_(x.projectors.layers[0].bias)
    order = torch.tensor([3, 0, 4, 2, 1])
    teacher = x.teacher._replace(hidden_MDt=7 * x.hidden_ND.detach()[order], head=same)
    found = d.cot2align(dataclasses.replace(x, teacher=teacher), ce=0, epsilon=1e-3).values_N
    assert float(found.detach().max()) < 1e-6


def test_pairs_are_carried_to_each_other_s_teacher():
    """What the student makes of 0 to what the teacher makes of 1, and the other way round; 2 is in no pair."""
    x = dataclasses.replace(aligned(inputs()), pairs_P2=torch.tensor([[0, 1]]))
    swapped = torch.tensor([1, 0, 2])[x.teacher.sequences_M]
    by_hand = dataclasses.replace(x, teacher=x.teacher._replace(sequences_M=swapped), pairs_P2=None)
    loss = d.cot2align(x, ce=0)
    assert torch.allclose(loss.values_N, d.cot2align(by_hand, ce=0).values_N)
    assert (int(loss.stats["crossed"].total), int(loss.stats["crossed"].count)) == (8, 10)
    alone = dataclasses.replace(x, pairs_P2=None)
    straight = d.cot2align(x, ce=0, crossed=False)
    assert torch.equal(straight.values_N, d.cot2align(alone, ce=0).values_N)
    assert not straight.stats["crossed"].total
    assert not torch.allclose(straight.values_N[:8], loss.values_N[:8])
    assert torch.equal(straight.values_N[8:], loss.values_N[8:])


def test_uld_is_added_where_the_text_is_the_same():
    x = inputs(lengths=((3, 2),))
    teacher = x.teacher._replace(aligned_N=torch.tensor([0, 0, 1]), aligned_M=torch.tensor([0, 1]))
    x = dataclasses.replace(x, teacher=teacher, projectors=d.Across(D, DT).double())
    assert torch.allclose(d.cot2align(x, align=0).values_N, uld(x).values_N)


def test_a_frozen_head_shares_its_weights():
    head = torch.nn.Linear(3, 5)
    copy = d.frozen(head)
    assert type(copy) is torch.nn.Linear
    assert copy.weight.data_ptr() == head.weight.data_ptr()
    assert not copy.weight.requires_grad
    assert head.weight.requires_grad
    assert d.frozen(same) is same


def test_what_is_missing_is_said():
    plain = Inputs(S, same, torch.zeros(3, dtype=torch.long), teacher=Logits(T))
    for function in (d.dskd, d.cot2align):
        with pytest.raises(ConfigError, match="own positions"):
            function(plain)
        with pytest.raises(ConfigError, match="projections"):
            function(dataclasses.replace(inputs(), projectors=None))
    with pytest.raises(ConfigError, match="3 projections for 2 pairs"):
        d.cot2align(dataclasses.replace(aligned(inputs()), projectors=d.Across(D, DT, 3).double()))
