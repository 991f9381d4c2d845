"""The nucleus without sorting the vocabulary is the one that sorting finds, to the bit."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="needs the extra potstill[local]")

from potstill.models.local import generate
from potstill.models.model import Sampling


def sorted_nucleus(logits: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """By sorting all tokens, of equal ones the first of the vocabulary first."""
    probabilities = (logits.double() / sampling.temperature).softmax(-1)
    ordered, order = probabilities.sort(dim=-1, descending=True, stable=True)
    is_beyond = ordered.cumsum(-1) - ordered >= sampling.top_p
    is_beyond[:, 0] = False
    is_dropped = torch.zeros_like(is_beyond).scatter(1, order, is_beyond)
    return probabilities.masked_fill(is_dropped, 0.0)


@pytest.mark.parametrize("candidates", [1, 4, 40, 1024])
def test_it_is_that_of_sorting(candidates: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generate, "NUCLEUS_TOKENS", candidates)
    generator = torch.Generator().manual_seed(candidates)
    for top_p in (1e-6, 0.1, 0.5, 0.9, 1 - 1e-12):
        for scale in (0.5, 2.0, 8.0):
            logits = scale * torch.randn(24, 40, generator=generator)
            logits[::2] = logits[::2].round()  # many equal ones
            logits[5] = 0.0
            for temperature in (1.0, 0.7):
                sampling = Sampling(temperature=temperature, top_p=top_p)
                expected = sorted_nucleus(logits, sampling)
                assert torch.equal(generate.filter_probabilities(logits, sampling), expected)


def test_a_row_is_drawn_alike_in_any_company() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(50, 300, generator=generator)
    uniforms = torch.rand(50, generator=generator, dtype=torch.float64)
    sampling = Sampling(temperature=0.8, top_p=0.9)
    together = generate.sample_tokens(logits, sampling, uniforms)
    for row in range(50):
        alone = generate.sample_tokens(logits[row : row + 1], sampling, uniforms[row : row + 1])
        assert alone.tolist() == [together[row].item()]
