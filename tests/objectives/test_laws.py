"""What every objective of the table must keep to, whatever it computes."""

from __future__ import annotations

import dataclasses

import pytest

torch = pytest.importorskip("torch", reason="needs the extra potstill[local]")
from every import CASES, WIDTH, D, V, W, gradients, label, learnt, loss, made, picked, some
from golden import Hidden, cast, same
from slow_cases import slow_except

from potstill.objectives import TABLE
from potstill.objectives.inputs import Logits, OtherVocabulary, TokenLogp, TopK, reduce

# A relation is of two sequences of one micro-batch, which is so a part of the objective (its docstring says so).
TOGETHER = ("rkd",)
# Part of the gradient is left out on purpose, and so no slope of the value; each has a test of its own by hand.
STOPPED = (
    "dft",
    "adaptive_kl",
    "taid",
    "distillm2",
    "trust_region",
    "iw_opd",
    "dskd",
    "multilevel_ot",
    "cot2align",
)
STOPPED += ("vespo",)
# The head, or a state, is used for more than the logits of the counted positions.
MORE_THAN_LOGITS = ("dskd", "cot2align", "ted_filters", "rkd")


def every(*, without=()):
    cases = [case for case in CASES if case[0] not in without]
    # The first case of each objective runs in the fast suite, its variants in the slow one.
    first_cases = [
        next(case for case in cases if case[0] == name) for name in {c[0] for c in cases}
    ]
    return pytest.mark.parametrize("case", slow_except(first_cases, cases), ids=label)


def test_no_objective_is_forgotten():
    assert {case[0] for case in CASES} == set(TABLE)


def near(found, wanted, size=1e-11):
    for a, b in zip(found, wanted, strict=True):
        assert torch.allclose(a, b, rtol=size, atol=size), (a - b).abs().max()


def weights_of(x):
    """Of each position, different from sequence to sequence alone: losses of pairs and prompts are shared out."""
    return torch.tensor([0.3, 0.3, 0.7, 0.7], dtype=D)[x.groups]


@every(without=TOGETHER)
def test_masked_equals_dropped(case):
    """A pair of sequences with weight 0, whatever stands there, adds nothing to value or gradient."""
    x = made(case)
    weights = weights_of(x) * (x.groups < 2)
    with torch.no_grad():
        x.hidden_ND[x.groups >= 2] = 50.0
    masked = reduce(loss(case, dataclasses.replace(x, weights_N=weights)).values_N, weights, 1.0)
    dropped = reduce(loss(case, some(x, [0, 1])).values_N, weights[x.groups < 2], 1.0)
    near([masked], [dropped])
    found = gradients(masked, learnt(x))
    near(found, gradients(dropped, learnt(x)))
    assert found[0][x.groups >= 2].abs().max() == 0


@every()
def test_the_order_of_rows_changes_nothing(case):
    x = made(case)
    whole, turned = (loss(case, part).values_N.sum() for part in (x, some(x, [2, 3, 1, 0])))
    near([whole], [turned])
    near(gradients(whole, learnt(x)), gradients(turned, learnt(x)))


@every()
def test_sequences_may_lie_among_each_other(case):
    """Positions of one sequence in their order, but for that in any."""
    x = made(case)
    at = torch.tensor([8, 4, 0, 5, 3, 1, 6, 9, 7, 2])
    assert all((x.places()[at][x.groups[at] == s].diff() > 0).all() for s in range(4))
    near([loss(case, picked(x, at)).values_N], [loss(case, x).values_N[at]])


@every(without=TOGETHER)
def test_micro_batches_add_up(case):
    """With weights over the whole batch's normaliser two parts have the gradient of the whole."""
    x = made(case)
    x = dataclasses.replace(x, weights_N=weights_of(x) / 7)
    whole = reduce(loss(case, x).values_N, x.weights_N, 1.0)
    parts = [some(x, sequences) for sequences in ([0, 1], [2, 3])]
    added = sum(reduce(loss(case, part).values_N, part.weights_N, 1.0) for part in parts)
    near([whole], [added])
    near(gradients(whole, learnt(x)), gradients(added, learnt(x)))


@every()
def test_chunks_change_nothing(case):
    """Neither where the weights are known ahead nor where they are not."""
    plain = made(case)
    weights = torch.rand(len(plain.targets_N), dtype=D)
    for known in (weights, None):
        x = dataclasses.replace(plain, weights_N=known)
        results = []
        for chunk in (0, 1, 2, 1000):
            values = loss(case, x, chunk=chunk).values_N
            results.append([values, *gradients(reduce(values, weights, 1.0), learnt(x))])
        for other in results[1:]:
            near(other, results[0], 1e-12)


class Adapted(torch.nn.Module):
    """A head with an adapter of rank 2 beside it."""

    def __init__(self, base):
        super().__init__()
        self.base = base
        torch.manual_seed(7)
        self.down = torch.nn.Linear(base.in_features, 2, bias=False, dtype=base.weight.dtype)
        self.up = torch.nn.Linear(2, base.out_features, bias=False, dtype=base.weight.dtype)

    def forward(self, hidden):
        return self.base(hidden) + self.up(self.down(hidden))

    def merged(self):
        made = torch.nn.Linear(
            self.base.in_features, self.base.out_features, dtype=self.base.weight.dtype
        )
        made.weight.data = (self.base.weight + self.up.weight @ self.down.weight).detach()
        made.bias.data = self.base.bias.detach()
        return made


@every()
def test_an_adapted_head_is_the_merged_one(case):
    x = made(case)
    head = Adapted(x.head)
    adapted, plain = (dataclasses.replace(x, head=h) for h in (head, head.merged()))
    wanted = loss(case, plain).values_N
    theirs = gradients(wanted.sum(), learnt(plain))
    for chunk in (0, 3):
        values = loss(case, adapted, chunk=chunk).values_N
        near([values], [wanted])
        mine = gradients(values.sum(), learnt(adapted))
        near(mine[:1], theirs[:1])
        # The base is the merged head but for a constant.
        near([mine[1], mine[2]], [theirs[1], theirs[2]])
        near([mine[4]], [theirs[1] @ head.down.weight.T])
        near(mine[5:], theirs[3:])


@every(without=MORE_THAN_LOGITS)
def test_a_capped_head_is_the_formula_on_its_logits(case):
    """`30 tanh(z / 30)` as a head in chunks, and as logits that exist all at once."""
    x = made(case)
    cap = lambda hidden: 3 * torch.tanh(x.head(hidden) / 3)  # noqa: E731
    chunked = loss(case, dataclasses.replace(x, head=cap), chunk=2).values_N
    plain = loss(case, dataclasses.replace(x, hidden_ND=cap(x.hidden_ND), head=same)).values_N
    near([chunked], [plain])
    near(gradients(chunked.sum(), learnt(x)), gradients(plain.sum(), learnt(x)))


@every(without=(*STOPPED, "ted_filters"))
@pytest.mark.slow
def test_gradients_are_slopes(case):
    """Of the values, by finite differences, in states and head."""
    if case[1].keys() & {"detach", "ratio", "surrogate"}:
        pytest.skip("holds the mixture, or a ratio, constant; its gradient has a test of its own")
    x = made(case)

    def values(hidden, weight, bias):
        head = torch.nn.Linear(WIDTH, V, dtype=D)
        del head.weight, head.bias
        head.weight, head.bias = weight, bias
        return loss(case, dataclasses.replace(x, hidden_ND=hidden, head=head)).values_N

    assert torch.autograd.gradcheck(values, (x.hidden_ND, x.head.weight, x.head.bias))


@every()
def test_fp32_is_float64_to_2e_6(case):
    """Losses and their gradients: of numbers that fp32 has, so that only the computing differs."""
    x = cast(cast(made(case), torch.float32), D)
    narrow = cast(x, torch.float32)
    wide, single = loss(case, x).values_N, loss(case, narrow).values_N
    assert single.dtype == torch.float32
    near([single.double()], [wide], 2e-6)
    for a, b in zip(
        gradients(single.sum(), learnt(narrow)), gradients(wide.sum(), learnt(x)), strict=True
    ):
        assert torch.allclose(a.double(), b, rtol=1e-5, atol=5e-6)


@every()
def test_bfloat16_is_near_what_float64_says_of_the_same_numbers(case):
    x = cast(cast(made(case), torch.bfloat16), D)
    half = cast(x, torch.bfloat16)
    wide, found = loss(case, x).values_N, loss(case, half).values_N
    assert torch.isfinite(found).all()
    assert torch.allclose(found.double(), wide, rtol=2e-2, atol=5e-2)
    for a, b in zip(
        gradients(found.sum(), learnt(half)), gradients(wide.sum(), learnt(x)), strict=True
    ):
        assert torch.isfinite(a).all()
        assert float((a.double() - b).norm()) <= 0.1 * float(b.norm()) + 1e-2


@every()
def test_no_counted_position_is_zero_with_a_graph(case):
    x = some(made(case), [])
    hidden = x.hidden_ND.detach().requires_grad_()
    found = loss(case, dataclasses.replace(x, hidden_ND=hidden, weights_N=torch.zeros(0, dtype=D)))
    total = reduce(found.values_N, torch.zeros(0, dtype=D), 1.0)
    assert float(total.detach()) == 0
    assert total.requires_grad
    total.backward()
    assert all(torch.isfinite(one.total) for one in found.stats.values())


def banned(head, *tokens):
    """The same head, which never says these."""
    with torch.no_grad():
        head.bias[list(tokens)] = -torch.inf
    return head


def extreme(case, dtype):
    """Logits of 1e4 on both sides. Both ban a token, and each one more that the other may say; no target is banned."""
    x = made(case)
    hidden = x.hidden_ND.detach() * 1e4 / x.head(x.hidden_ND).detach().abs().amax(1, keepdim=True)
    banned(x.head, V - 1, 4)
    targets = torch.where(x.targets_N == 4, 0, x.targets_N)
    x = dataclasses.replace(x, hidden_ND=hidden.requires_grad_(), targets_N=targets)
    t = x.teacher
    if isinstance(t, Hidden):
        t = Hidden(t.hidden_NDt * 5e3, banned(t.head, V - 1, 3))
    elif isinstance(t, Logits | TopK):
        ids, logits = (
            torch.arange(V).expand(len(x.targets_N), V),
            torch.randn(len(x.targets_N), V, dtype=D) * 5e3,
        )
        logits[:, [V - 1, 3]] = -torch.inf
        t = Logits(logits) if isinstance(t, Logits) else TopK(ids, logits.log_softmax(-1))
    elif isinstance(t, TokenLogp):
        t = TokenLogp(torch.where(torch.arange(len(t.logp_N)) == 2, -torch.inf, t.logp_N * 3e3))
    elif isinstance(t, OtherVocabulary):
        t = t._replace(hidden_MDt=t.hidden_MDt * 5e3, head=banned(t.head, W - 1, 3))
    return cast(dataclasses.replace(x, teacher=t), dtype)


@every()
def test_extreme_and_banned_logits_are_finite(case):
    """In float64 and fp32, with a linear head and with one that is only a function."""
    for dtype in (D, torch.float32):
        x = extreme(case, dtype)
        for head in (x.head, lambda hidden, x=x: x.head(hidden) + 0):
            found = loss(case, dataclasses.replace(x, head=head))
            assert torch.isfinite(found.values_N).all(), dtype
            assert all(torch.isfinite(one.total) for one in found.stats.values()), found.stats
            for grad in gradients(found.values_N.sum(), learnt(x)):
                assert torch.isfinite(grad).all(), dtype
