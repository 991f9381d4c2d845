"""Values and gradients against golden numbers (cases sft_nll, sft_weighted, sft_grad_accum, fused_linear_ce)."""

import pytest

torch = pytest.importorskip("torch", reason="needs the extra potstill[local]")
from potstill.objectives.likelihood import likelihood, reduce  # noqa: E402

LOGITS = torch.tensor([[2.0, 1.0, 0.0, -1.0], [0.0, 0.0, 0.0, 0.0], [0.5, -0.5, 1.5, 0.0]], dtype=torch.float64)
TARGETS = torch.tensor([1, 0, 2])
HIDDEN = [[1.0, 0.0, -1.0], [0.5, 0.5, 0.0], [0.0, 1.0, 2.0]]
HEAD = [[0.2, 0.1, 0.0], [0.0, 0.3, -0.1], [-0.2, 0.0, 0.4], [0.1, -0.1, 0.1]]
HIDDEN_GRADIENT = [
    [0.0201716049298, -0.0695779453539, 0.0513106909193],
    [-0.0547318471036, -0.00458135762248, 0.0272556115432],
    [0.0598354201939, 0.0199451400646, -0.0797805602586],
]
HEAD_GRADIENT = [
    [-0.01581648314, -0.0543891405172, 0.0279111428383],
    [-0.192480593563, 0.112277526149, 0.371241919928],
    [0.0828690988811, -0.163787211029, -0.446107710557],
    [0.125427977822, 0.105898825397, 0.0469546477904],
]


def same(logits):
    return logits


def test_per_token_values():
    loss = likelihood(LOGITS, same, TARGETS)
    assert loss.tolist() == pytest.approx([1.44018969856, 1.38629436112, 0.546006389941], abs=2e-6)
    assert loss.dtype == torch.float32


def test_weighted_mean_over_the_sum_of_weights():
    weights = torch.tensor([0.5, 1.0, 2.0])
    loss = reduce(likelihood(LOGITS, same, TARGETS), weights, weights.sum())
    assert float(loss) == pytest.approx(0.91382914008, abs=2e-6)


@pytest.mark.parametrize("chunk", [0, 1, 2, 3, 1000])
def test_value_and_both_gradients_are_the_same_for_every_chunk(chunk):
    hidden = torch.tensor(HIDDEN, requires_grad=True)
    weight = torch.tensor(HEAD, requires_grad=True)
    loss = reduce(likelihood(hidden, lambda h: h @ weight.T, TARGETS, chunk=chunk), torch.ones(3), 3.0)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(1.15289282926, abs=2e-6)
    assert hidden.grad.tolist() == [pytest.approx(row, abs=2e-6) for row in HIDDEN_GRADIENT]
    assert weight.grad.tolist() == [pytest.approx(row, abs=2e-6) for row in HEAD_GRADIENT]


def test_accumulated_parts_equal_the_whole():
    """Four examples in one, two and four micro-batches (golden: sft_grad_accum; a mean of means would give 3.0)."""
    losses = torch.tensor([1.0, 2.0, 3.0, 4.0])
    cut = reduce(losses[:3], torch.ones(3), 4.0) + reduce(losses[3:], torch.ones(1), 4.0)
    assert float(cut) == 2.5


def test_extreme_logits_are_finite():
    loss = likelihood(torch.tensor([[1000.0, 0.0], [-1000.0, 0.0]]), same, torch.tensor([1, 1]))
    assert loss.tolist() == [1000.0, 0.0]


def test_no_counted_position_is_zero_and_keeps_the_graph():
    hidden = torch.zeros(0, 3, requires_grad=True)
    loss = reduce(likelihood(hidden, torch.nn.Linear(3, 4), torch.zeros(0, dtype=torch.long)), torch.zeros(0), 1.0)
    loss.backward()
    assert float(loss.detach()) == 0.0 and hidden.grad.shape == (0, 3)
