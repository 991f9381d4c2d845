"""What shares a micro-batch: padding, columns, pairs."""

import pytest

torch = pytest.importorskip("torch", reason="needs the extra potstill[local]")

from potstill.training.dataset import collate
from potstill.training.dataset.rows import TokenizedRow
from potstill.training.dataset.training_dataset import TrainingDataset


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
    batch = collate.collate_rows(rows())
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
    batch = collate.collate([(one,), (one, two), (two,), (one, two)])
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
    batch = collate.collate_rows([row])
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
    batch = collate.collate_rows([first, second])
    assert batch["input_ids"].tolist() == [[5, 6, 7, 8, 2], [5, 9, 2, 0, 0]]
    labels = batch["input_ids"].where(batch["loss_weights"] > 0, -100)
    assert labels.tolist() == [[-100, -100, 7, 8, 2], [-100, 9, 2, -100, -100]]
    assert batch["lengths"].tolist() == [5, 3]
    assert int((batch["loss_weights"][:, 1:] > 0).sum()) == 5
