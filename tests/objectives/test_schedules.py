"""Rules that move constants and choose sources: golden values, laws, and SKD's block by hand."""

import pytest
from golden import torch

from potstill.objectives import rewards
from potstill.objectives.schedules import (
    AdaptiveShare,
    Taid,
    choose_source,
    distillm2_skew,
    paced_weight,
    speculative_block,
)

LOSSES = (2.0, 1.8, 1.7, 1.65)


def taid(steps):
    state, seen = Taid(0.4), []
    for step, loss in enumerate(LOSSES):
        state = state.after(loss, step / steps)
        seen.append(state.t)
    return seen


def test_taid_schedule():
    """golden: taid_schedule, taid_schedule_floor."""
    assert taid(100_000) == pytest.approx(
        [0.4, 0.400150075, 0.400300153369, 0.400450215078], abs=1e-9
    )
    assert taid(10) == pytest.approx([0.4, 0.46, 0.52, 0.58], abs=1e-9)


def test_taid_never_passes_its_end_and_never_falls():
    state, before = Taid(0.4), 0.0
    for step in range(200):
        state = state.after(2.0 if step % 2 else 1e3, step / 100)
        assert before <= state.t <= 1.0
        before = state.t
    assert state.t == 1.0


def test_adaptive_threshold():
    """golden: distillm_adaptive_sgo; against the last validation it would fire at 2.28."""
    state = AdaptiveShare().after(2.0)
    seen = []
    for loss in (2.05, 2.2, 2.15, 2.28, 2.4):
        state = state.after(loss)
        seen.append(state.share)
    assert seen == pytest.approx([0, 0.1, 0.1, 0.1, 0.2], abs=1e-12)
    drawn = [state.source((u + 0.5) / 1000, 0.25) for u in range(1000)]
    assert (drawn.count("fresh"), drawn.count("replay"), drawn.count("rows")) == (150, 50, 800)
    assert state.source(0.16, 0.25, full=False) == "fresh"


def test_adaptive_share_ends_at_one():
    state = AdaptiveShare(0.95, 0.0)
    assert state.after(0.1).share == 1.0


def test_gkd_coin():
    """golden: gkd_sampling; a share of 0 never writes."""
    assert [choose_source(u, 0.5) for u in (0.1, 0.5, 0.50001, 0.9)] == [
        "fresh",
        "fresh",
        "rows",
        "rows",
    ]
    assert choose_source(0.0, 0.0) == "rows" and choose_source(0.999999, 1.0) == "fresh"


def test_distillm2_skew():
    """golden: distillm2_alpha."""
    student = torch.tensor([-0.584, -0.55, -1.5, -0.3], dtype=torch.float64)
    made = distillm2_skew(torch.full_like(student, -0.5), student, 0.05)
    assert made.tolist() == pytest.approx([0.0793293491552, 0.01, 0.1, 0.1], abs=1e-9)


def test_paced_weight():
    """golden: paced_weight."""
    made = [paced_weight(rate) for rate in (0.0, 0.125, 0.5, 0.875, 1.0)]
    assert made == pytest.approx([0.0, 0.109375, 0.25, 0.109375, 0.0], abs=1e-12)


@pytest.mark.parametrize(
    ("draft", "kept"),
    [
        ([1, 2, 3], [1, 2, 3]),  # all are among the teacher's: the draft as it is, no token more
        ([1, 9, 3], [1, 7]),  # the third is dropped though the teacher likes it
        ([9, 2, 3], [7]),
        ([], []),
    ],
)
def test_speculative_block(draft, kept):
    likely = [(1, 5), (2, 6), (3, 7)][: len(draft)]
    assert speculative_block(draft, likely, 7) == kept


def test_nover_rewards():
    """golden: nover_rewards."""
    nll, tokens = [0.9, 0.6, 1.3], [100, 50, 10]
    made = [rewards.adjusted_perplexity(a, b) for a, b in zip(nll, tokens)]
    assert made == pytest.approx([1.34985880758, 1.24895478294, 1.91554082901], abs=1e-9)
    found = rewards.nover(nll, tokens, [True] * 3)
    assert [one.reasoning for one in found] == pytest.approx([2 / 3, 1.0, 1 / 3], abs=1e-9)
    assert [one.efficiency for one in found] == pytest.approx([0.0, 0.5, 0.0], abs=1e-9)


def test_nover_of_an_invalid_form_is_nothing_and_does_not_count():
    made = rewards.nover([0.9, 0.1, 1.3], [100, 5, 10], [True, False, True])
    assert made == [(1.0, 0.0), (0.0, 0.0), (0.5, 0.0)]
    assert rewards.nover([0.5], [3], [False]) == [(0.0, 0.0)]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("<think>2 + 2</think>4", 1.0),
        ("<think> </think>4", 0.0),
        ("<think>2 + 2</think>", 0.0),
        ("2 + 2 is 4", 0.0),
        ("<think>a<think>b</think>4", 0.0),
        ("<think>a</think>b</think>4", 0.0),
    ],
)
def test_form(text, value):
    assert rewards.thought(text) == value


def test_lengths():
    assert [rewards.overlong(n, 100) for n in (10, 80, 90, 100, 200)] == pytest.approx(
        [0, 0, -0.5, -1, -1]
    )
    assert rewards.shorter([10, 20, 30], [True, True, False]) == [1.0, 0.5, 0.0]
    assert rewards.shorter([10, 10], [True, True]) == [0.0, 0.0]
