"""How many rows make a chunk, and how many of them a kernel has at a time, never changes a loss or a gradient."""

import itertools

import pytest

torch = pytest.importorskip("torch", reason="needs the extra potstill[local]")
from torch import nn

from potstill.objectives import chunked, divergence, likelihood
from potstill.objectives.inputs import Hidden, Inputs, TopK, reduce

N, D, V = 13, 6, 11
LOSSES = {
    "sft": likelihood.sft,
    "dft": likelihood.dft,
    "unlikelihood": likelihood.unlikelihood,
    "reverse_kl": divergence.reverse_kl,
    "jsd": lambda x, **how: divergence.jsd(x, beta=0.3, temperature=2.0, kd=0.7, **how),
    "taid": lambda x, **how: divergence.taid(x, t=0.4, **how),
    "adaptive_kl": divergence.adaptive_kl,
}
KEPT = {
    "kept": divergence.forward_kl,
    "renormalised": lambda x, **how: divergence.jsd(x, tail="renormalise", **how),
}


def inputs(*, kept=False, padded=0):
    """Thirteen positions, and a teacher with a head of its own, or with kept entries."""
    draw = torch.Generator().manual_seed(3)

    def made(*shape):
        return torch.randn(*shape, dtype=torch.float64, generator=draw)

    heads = [
        nn.Linear(width, V + more, bias=bias, dtype=torch.float64)
        for width, more, bias in widths(padded)
    ]
    for head in heads:
        with torch.no_grad():
            head.weight.copy_(made(*head.weight.shape))
    targets = torch.randint(V, (N,), generator=draw)
    teacher = Hidden(made(N, D + 2), heads[1])
    if kept:
        best = heads[1](teacher.hidden_NDt).detach().log_softmax(-1).topk(4)
        teacher = TopK(best.indices, best.values)
    weights = torch.rand(N, dtype=torch.float64, generator=draw)
    return Inputs(
        made(N, D).requires_grad_(), heads[0], targets, weights_N=weights, teacher=teacher
    )


def widths(padded):
    """(width, more classes than V, bias) of the student's head and of the teacher's."""
    return (D, padded, False), (D + 2, 0, False)


def found(loss, x, chunk):
    values = loss(x, chunk=chunk).values_N
    wanted = x.hidden_ND, x.head.weight
    return values.detach(), *torch.autograd.grad(reduce(values, x.weights_N, 1.0), wanted)


@pytest.mark.parametrize("name", [*LOSSES, *KEPT])
def test_pieces_of_a_chunk_change_nothing(name, monkeypatch):
    loss, padded = (LOSSES | KEPT)[name], 3 if name in ("reverse_kl", "taid") else 0
    whole = found(loss, inputs(kept=name in KEPT, padded=padded), N)
    for rows, chunk in itertools.product((1, 2, 5), (4, N)):
        monkeypatch.setattr(chunked, "PIECE", rows * (V + padded))
        pieces = found(loss, inputs(kept=name in KEPT, padded=padded), chunk)
        for a, b in zip(whole, pieces, strict=True):
            assert torch.allclose(a, b, atol=1e-12), f"rows={rows} chunk={chunk}"


def test_a_kernel_gets_its_own_rows(monkeypatch):
    monkeypatch.setattr(chunked, "PIECE", 2 * V)
    asked = []

    def kernel(logits, rows, gradient):
        asked.append((rows.start, rows.stop, len(logits)))
        return logits.sum(-1), torch.ones_like(logits)

    x = inputs()
    values = chunked.losses(x, chunked.pieced(kernel), chunk=5)
    assert asked == [
        (0, 2, 2),
        (2, 4, 2),
        (4, 5, 1),
        (5, 7, 2),
        (7, 9, 2),
        (9, 10, 1),
        (10, 12, 2),
        (12, 13, 1),
    ]
    assert torch.allclose(values, x.head(x.hidden_ND).sum(-1))


def test_the_heads_gradient_in_bfloat16_is_that_of_autograd_and_summed_in_full_precision():
    draw = torch.Generator().manual_seed(0)
    hidden = torch.randn(512, 8, generator=draw)
    head = nn.Linear(8, 16, bias=False)
    targets = torch.randint(16, (512,), generator=draw)
    weights = torch.full((512,), 1 / 512)
    grads = {}
    for name, kind in {"exact": None, "ours": 4, "autograd": 0}.items():
        head.weight.grad = None
        with torch.autocast("cpu", torch.bfloat16, enabled=kind is not None):
            if kind:
                x = Inputs(hidden, head, targets, weights_N=weights)
                values = likelihood.sft(x, chunk=kind).values_N
            else:
                values = nn.functional.cross_entropy(
                    head(hidden).float(), targets, reduction="none"
                )
            reduce(values, weights, 1.0).backward()
        grads[name] = head.weight.grad.clone()
    off = {
        name: float((grads[name] - grads["exact"]).norm() / grads["exact"].norm())
        for name in ("ours", "autograd")
    }
    assert 0 < off["ours"] < 0.01  # 128 chunks, each rounded, and their sum is not
    assert off["autograd"] < 0.01


def test_second_derivatives_are_refused():
    x = inputs()
    total = reduce(likelihood.sft(x).values_N, x.weights_N, 1.0)
    [first] = torch.autograd.grad(total, x.hidden_ND, create_graph=True)
    with pytest.raises(RuntimeError, match=r"differentiate twice|does not require grad"):
        torch.autograd.grad(first.pow(2).sum(), x.hidden_ND)
