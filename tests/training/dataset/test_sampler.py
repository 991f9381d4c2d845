"""Batches: every row once an epoch, length-sorted, the same for the same seed."""

from collections import Counter

import pytest

from potstill.errors import ConfigError
from potstill.training.dataset.sampler import count_steps, plan_batches
from potstill.training.settings import LoraSettings, TrainingSettings

LENGTHS = [(7 * i) % 23 + 4 for i in range(60)]


def flat(batches):
    return [row for batch in batches for row in batch]


@pytest.mark.parametrize("sort", [True, False])
@pytest.mark.parametrize("size", [{"batch_size": 8}, {"batch_size": 0, "batch_tokens": 64}])
def test_every_row_once_an_epoch(sort, size):
    batches = plan_batches(
        LENGTHS, TrainingSettings(num_train_epochs=3, group_by_length=sort, **size)
    )
    assert Counter(flat(batches)) == dict.fromkeys(range(60), 3)


def test_token_batches_hold_their_limit_padding_included():
    batches = plan_batches(
        LENGTHS, TrainingSettings(num_train_epochs=1, batch_size=0, batch_tokens=64)
    )
    assert all(len(batch) * max(LENGTHS[row] for row in batch) <= 64 for batch in batches)
    padded = sum(len(batch) * max(LENGTHS[row] for row in batch) for batch in batches)
    assert padded < 1.15 * sum(LENGTHS)


def test_a_row_longer_than_the_limit_is_alone():
    batches = plan_batches(
        [3, 100, 3], TrainingSettings(num_train_epochs=1, batch_size=0, batch_tokens=10)
    )
    assert sorted(sorted(batch) for batch in batches) == [[0, 2], [1]]


def test_rows_mode_cuts_exact_batches():
    assert sorted(
        map(len, plan_batches(LENGTHS, TrainingSettings(num_train_epochs=1, batch_size=8)))
    ) == [
        4,
        8,
        8,
        8,
        8,
        8,
        8,
        8,
    ]


def test_epochs_differ_and_seeds_differ_and_runs_do_not():
    settings = TrainingSettings(num_train_epochs=2, batch_size=8)
    batches = plan_batches(LENGTHS, settings)
    assert batches == plan_batches(LENGTHS, settings)
    assert batches[:8] != batches[8:]
    assert batches != plan_batches(
        LENGTHS, TrainingSettings(num_train_epochs=2, batch_size=8, seed=1)
    )


def test_max_steps_goes_round_as_often_as_needed():
    settings = TrainingSettings(
        max_steps=10, batch_size=30, gradient_accumulation_steps=2, num_train_epochs=1
    )
    batches = plan_batches(LENGTHS, settings)
    assert len(batches) == 20 and count_steps(batches, settings) == 10
    assert Counter(flat(batches)) == dict.fromkeys(range(60), 10)


def test_the_last_step_may_have_fewer_micro_batches():
    settings = TrainingSettings(num_train_epochs=1, batch_size=8, gradient_accumulation_steps=3)
    assert count_steps(plan_batches(LENGTHS, settings), settings) == 3  # 8 micro-batches


def test_contradicting_settings_are_all_named_at_once():
    with pytest.raises(ConfigError) as error:
        TrainingSettings(
            batch_tokens=100,
            learning_rate=0.0,
            max_dropped_share=2.0,
            optimizer="muon",
            lora=LoraSettings(r=0),
        )
    for part in (
        "batch_tokens or batch_size",
        "learning_rate must be positive",
        "max_dropped_share",
        "muon is for full",
        "lora.r",
    ):
        assert part in error.value.found


def test_identity_leaves_out_what_cannot_change_the_weights():
    assert TrainingSettings(save_steps=7).identity() == TrainingSettings().identity()
    assert TrainingSettings(learning_rate=1e-3).identity() != TrainingSettings().identity()
    assert TrainingSettings(lora=LoraSettings()).identity() != TrainingSettings().identity()
