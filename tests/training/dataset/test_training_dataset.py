"""The training dataset: few bytes a token, in memory or in a file, and every regrouping shares the arrays."""

import gc
import tracemalloc

import numpy as np
import pytest

pytest.importorskip("transformers", reason="needs the extra potstill[local]")
from tiny import tiny_tokenizer

from potstill.records import Problem, Trace
from potstill.training.dataset.chat_template import read_chat_template
from potstill.training.dataset.tokenize import tokenize_traces
from potstill.training.dataset.training_dataset import (
    RaggedArray,
    RaggedBuilder,
    RowsBuilder,
    TokenizedRow,
    TokenizedRows,
    TrainingDataset,
)

BYTES_A_TOKEN = 12  # of ids, weights and everything that says where rows begin


def traces(count, repeats=40):
    return [
        Trace(
            Problem(str(i), f"Ned has {i} shells."),
            f"Ned has {i} shells.",
            text=f"{i} - 3 = {i - 3}. " * repeats + "So 5.",
            finish_reason="stop",
        )
        for i in range(count)
    ]


def row(length, trace_index=0, **columns):
    weights = [0.0] + [1.0] * (length - 1)
    return TokenizedRow.of(trace_index, range(length), weights, 1, columns)


@pytest.mark.slow
@pytest.mark.parametrize("repeats", [4, 40])
def test_a_token_takes_at_most_12_bytes(repeats):
    template, rows = read_chat_template(tiny_tokenizer()), traces(300, repeats)
    tokenize_traces(rows[:3], template, max_length=10_000)  # what is loaded once
    gc.collect()
    tracemalloc.start()
    dataset = TrainingDataset.of_rows(rows, tokenize_traces(rows, template, max_length=10_000).rows)
    gc.collect()
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    tokens = int(dataset.rows.input_ids.lengths.sum())
    assert len(dataset) == 300 and tokens > 300 * 5 * repeats
    assert dataset.nbytes / tokens <= BYTES_A_TOKEN
    assert held / tokens <= BYTES_A_TOKEN, held / tokens


def test_with_a_reference_value_a_token_it_still_does():
    dataset = TrainingDataset.from_items([(row(300, at),) for at in range(50)])
    dataset = dataset.with_column("reference", [np.zeros(300, np.float64)] * 50)
    assert dataset.nbytes / (50 * 300) <= BYTES_A_TOKEN + 0.2


@pytest.mark.parametrize("max_bytes", [0, 100, 1 << 30])
def test_what_is_too_large_for_memory_lies_in_a_file(tmp_path, max_bytes):
    builder = RowsBuilder(tmp_path, max_bytes=max_bytes)
    rows = [row(length, trace_index=length) for length in (5, 1, 30, 2, 40)]
    for one in rows:
        builder.append(one)
    packed = builder.build()
    assert isinstance(packed.input_ids.values, np.memmap) == (max_bytes < 1000)
    assert not list(tmp_path.iterdir()), "the file has no name: a killed training leaves nothing"
    for one, again in zip(rows, packed, strict=True):
        assert one.same_tokens(again) and one.prompt_length == again.prompt_length
        assert one.loss_weights.tolist() == again.loss_weights.tolist()
        assert one.trace_index == again.trace_index


def test_many_chunks_tokenize_like_one(monkeypatch):
    template, rows = read_chat_template(tiny_tokenizer()), traces(7, repeats=2)
    rows[3] = rows[3].annotate(weight=0.0)
    whole = tokenize_traces(rows, template, max_length=1000)
    monkeypatch.setattr("potstill.training.dataset.tokenize.TRACES_AT_ONCE", 2)
    parts = tokenize_traces(rows, template, max_length=1000)
    assert whole.skipped == parts.skipped == ((3, "nothing to learn: every token is masked"),)
    assert whole.rows.trace_index.tolist() == parts.rows.trace_index.tolist() == [0, 1, 2, 4, 5, 6]
    assert np.array_equal(whole.rows.input_ids.values, parts.rows.input_ids.values)


def test_regrouping_and_columns_share_the_tokens():
    dataset = TrainingDataset.from_items([(row(3), row(4)), (row(5), row(6)), (row(7), row(8))])
    some = dataset.select([2, 0]).with_column("right", [[1.0], [0.0], [1.0], [0.0]])
    assert some.rows.input_ids is dataset.rows.input_ids
    assert [[len(one) for one in item] for item in some] == [[7, 8], [3, 4]]
    assert some.item_lengths == [16, 8] and some.row_numbers == [4, 5, 0, 1]
    assert [one.columns["right"].tolist() for item in some for one in item] == [[1], [0], [1], [0]]
    assert some.rows[2].columns == {}, "a row that is not trained on has no value"
    assert dataset[0][0].columns == {}, "the first dataset is what it was"


def test_columns_keep_lengths_and_shapes_of_their_own():
    rows = [row(2, theirs=[1, 2, 3], logits=np.zeros((2, 4), np.float16)), row(3, theirs=[4])]
    packed = TokenizedRows.from_rows(rows)
    assert packed[0].columns["theirs"].tolist() == [1, 2, 3]
    assert packed[0].columns["logits"].shape == (2, 4)
    assert packed[1].columns["theirs"].tolist() == [4] and "logits" not in packed[1].columns


def test_counts_of_what_was_skipped_add_up():
    dataset = TrainingDataset.from_items([(row(2),)], skipped={"too long": 2})
    assert dataset.with_skipped({"too long": 1, "empty": 0}).skipped == {"too long": 3}


def test_ragged_rows_are_found_from_both_ends():
    array = RaggedArray.from_rows([[1, 2], [], [3]])
    assert array[-1].tolist() == [3] and len(array[1]) == 0 and array.lengths.tolist() == [2, 0, 1]
    with pytest.raises(IndexError):
        array[3]
    assert len(RaggedBuilder(np.int32).build()) == 0
