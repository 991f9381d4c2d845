"""What TRL divides by where the student writes: one step of three trainers, run, for docs/disagreements.md."""

from __future__ import annotations

import copy
from importlib import import_module
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch", reason="needs the extra potstill[local]")
from trainers_made import build, parts, quiet

__all__ = ["parts", "quiet"]  # fixtures
ROW = {
    "messages": [
        {"role": "user", "content": "How many eggs?"},
        {"role": "assistant", "content": "16 eggs"},
    ]
}
STEP = {
    "per_device_train_batch_size": 2,
    "gradient_accumulation_steps": 2,
    "max_steps": 1,
    "logging_steps": 1,
}
WRITERS = {  # TRL's trainers of students that write, and what they call the longest answer
    "gkd.GKD": "max_new_tokens",
    "iw_opd.IWOPD": "max_completion_length",
    "gold.GOLD": "max_completion_length",
}


def stepped(name, parts, monkeypatch, longest):
    """One step of two micro-batches that the student writes: (normaliser, counted, loss) of both, and coins tossed."""
    module, trainer = name.split(".")
    place, code = (
        import_module(f"trl.experimental.{module}{more}") for more in ("", f".{module}_trainer")
    )
    told = {
        **STEP,
        "lmbda": 1.0,
        WRITERS[name]: longest,
        "disable_tqdm": True,
        "save_strategy": "no",
    }
    kinds = (getattr(place, f"{trainer}{kind}") for kind in ("Trainer", "Config"))
    made = build(*kinds, [ROW] * 4, parts, **told, teacher_model=copy.deepcopy(parts[1]))
    seen, tosses, plain, toss = [], [], made.compute_loss, code.random.random

    def spied(model, batch, return_outputs=False, num_items_in_batch=None):
        loss = plain(model, batch, return_outputs, num_items_in_batch)
        seen.append(
            (
                int(num_items_in_batch),
                int((batch["labels"][:, 1:] != -100).sum()),
                float(loss.detach()),
            )
        )
        return loss

    monkeypatch.setattr(code, "random", SimpleNamespace(random=lambda: tosses.append(1) or toss()))
    monkeypatch.setattr(made, "compute_loss", spied)
    assert made.train().training_loss == pytest.approx(
        sum(loss for _, _, loss in seen)
    )  # divided by nothing more
    monkeypatch.undo()
    return seen, len(tosses)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "by"), [("gkd.GKD", 20), ("iw_opd.IWOPD", 40), ("gold.GOLD", 40)])
def test_written_tokens_are_divided_by_the_data_sets(name, by, parts, monkeypatch):
    """The normaliser is counted before anything is written: five tokens of four rows, however much is written.

    IW-OPD and GOLD count them twice, for their loader gives the batch of the whole step to each micro-batch.
    """
    pytest.importorskip(
        f"trl.experimental.{name.split('.')[0]}", reason="needs the extra potstill[dev]"
    )
    for longest in (12, 18):
        seen, tosses = stepped(name, parts, monkeypatch, longest)
        assert [count for _, count, _ in seen] == [
            2 * longest
        ] * 2  # of two rows each, to the limit
        assert [normaliser for normaliser, _, _ in seen] == [by, by]
        assert tosses == 2  # a coin for each micro-batch
