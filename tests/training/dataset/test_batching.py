"""Micro-batches: every row once an epoch, length-sorted, the same for the same seed; padding, columns, pairs."""

from collections import Counter

import pytest

torch = pytest.importorskip("torch", reason="needs the extra potstill[local]")

from potstill.errors import ConfigError
from potstill.training.dataset import batching
from potstill.training.dataset.batching import count_steps, plan_batches
from potstill.training.dataset.training_dataset import TokenizedRow, TrainingDataset
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


def rows():
    return (
        TokenizedRow.of(
            4,
            (5, 6, 7),
            (0.0, 1.0, 2.0),
            1,
            {"reference": [0.0, -1.0, -2.0], "kept": [[1, 2], [3, 4], [5, 6]]},
        ),
        TokenizedRow.of(
            9, (8, 9), (0.0, 0.5), 1, {"reference": [0.0, -3.0], "kept": [[7, 8], [9, 10]]}
        ),
    )


def test_columns_are_padded_with_zeros_on_the_right():
    batch = batching.collate_rows(rows())
    assert batch["input_ids"].tolist() == [[5, 6, 7], [8, 9, 0]]
    assert batch["loss_weights"].tolist() == [[0, 1, 2], [0, 0.5, 0]]
    assert batch["reference"].tolist() == [[0, -1, -2], [0, -3, 0]]
    assert batch["kept"].shape == (2, 3, 2) and batch["kept"][1, 2].tolist() == [0, 0]
    assert batch["lengths"].tolist() == [3, 2] and batch["prompt_lengths"].tolist() == [1, 1]
    assert (
        batch["trace_index"].tolist() == [4, 9]
        and batch["is_first"].tolist() == [True, True]
        and "pairs" not in batch
    )


def test_pairs_point_at_their_rows_beside_single_ones():
    one, two = rows()
    batch = batching.collate([(one,), (one, two), (two,), (one, two)])
    assert batch["pairs"].tolist() == [[1, 2], [4, 5]]
    assert batch["is_first"].tolist() == [True, True, False, True, True, False]


def test_numbers_keep_their_size_but_for_doubles():
    row = TokenizedRow.of(
        0,
        (1, 2),
        (0.0, 1.0),
        1,
        {"half": torch.zeros(2, 1).half(), "double": [0.5, 1.0], "whole": [1, 2]},
    )
    batch = batching.collate_rows([row])
    assert batch["half"].dtype == torch.float16
    assert batch["double"].dtype == torch.float32
    assert batch["whole"].dtype == torch.int64


def test_a_pair_counts_twice_its_longer_side():
    one, two = rows()
    dataset = TrainingDataset.from_items([(one, two), (one,)])
    assert dataset.item_lengths == [6, 3]


def test_golden_completion_mask():
    """Case sft_completion_mask: prompts (5, 6) and (5), completions (7, 8) and (9), the end token 2 a target of both.

    A label that is ignored there is a weight of 0 here.
    """
    first = TokenizedRow.of(0, (5, 6, 7, 8, 2), (0.0, 0.0, 1.0, 1.0, 1.0), 2)
    second = TokenizedRow.of(1, (5, 9, 2), (0.0, 1.0, 1.0), 1)
    batch = batching.collate_rows([first, second])
    assert batch["input_ids"].tolist() == [[5, 6, 7, 8, 2], [5, 9, 2, 0, 0]]
    labels = batch["input_ids"].where(batch["loss_weights"] > 0, -100)
    assert labels.tolist() == [[-100, -100, 7, 8, 2], [-100, 9, 2, -100, -100]]
    assert batch["lengths"].tolist() == [5, 3]
    assert int((batch["loss_weights"][:, 1:] > 0).sum()) == 5
