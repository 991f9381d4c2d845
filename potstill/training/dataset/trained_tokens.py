"""`tokens.parquet` beside a student: the tokens of each row that it was trained on, and what each weighs in the loss.

What is rendered for a training is forgotten with it, and a tokenizer of another version renders it otherwise. So it is
written down once, at the beginning, for whoever looks at what a row taught. Nothing is read from it in a training.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potstill.data.atomic_write import writing
from potstill.training.dataset.training_dataset import TokenizedRow, TrainingDataset

METADATA_KEY = b"potstill.tokens"
ROWS_AT_ONCE = 256  # in a row group: whoever reads one row reads these


def write_trained_tokens(
    path: Path, dataset: TrainingDataset, trace_ids: Sequence[str], metadata: Mapping[str, Any]
) -> None:
    """Write the rows of a dataset, in the order of its items.

    Args:
        path: of the file; written whole or not at all.
        dataset: what is trained on.
        trace_ids: the ids of the traces as they were given; rendering may have changed their texts.
        metadata: what else is to be known of the training, as JSON values.
    """
    import pyarrow as pa
    from pyarrow import parquet

    columns = {
        "trace": pa.string(),
        "side": pa.string(),
        "prompt_length": pa.int32(),
        "ids": pa.list_(pa.int32()),
        "run_lengths": pa.list_(pa.int32()),
        "run_weights": pa.list_(pa.float32()),
    }
    schema = pa.schema(list(columns.items()), metadata={METADATA_KEY: json.dumps(dict(metadata))})
    with writing(path) as file, parquet.ParquetWriter(file, schema, compression="zstd") as writer:
        part: list[dict[str, Any]] = []
        for record in _records(dataset, trace_ids):
            part.append(record)
            if len(part) == ROWS_AT_ONCE:
                writer.write_table(pa.Table.from_pylist(part, schema=schema))
                part = []
        writer.write_table(pa.Table.from_pylist(part, schema=schema))


def _records(dataset: TrainingDataset, trace_ids: Sequence[str]) -> Iterator[dict[str, Any]]:
    for item in dataset:
        for place, row in enumerate(item):
            lengths, weights = weight_runs(row.loss_weights)
            yield {
                "trace": trace_ids[row.trace_index],
                "side": _side_of(dataset, place, row),
                "prompt_length": row.prompt_length,
                "ids": row.input_ids,
                "run_lengths": lengths,
                "run_weights": weights,
            }


def _side_of(dataset: TrainingDataset, place: int, row: TokenizedRow) -> str:
    """Which text of its trace a row is: the chosen one, or the rejected one of a pair."""
    if "good" in row.columns:  # rationales by prompt
        is_chosen = bool(row.columns["good"][0])
    else:
        # An item of two is a pair, or a row with the same without its reasoning: that one's trace has no other side.
        is_chosen = place == 0 or dataset.traces[row.trace_index].rejected is None
    return "chosen" if is_chosen else "rejected"


def weight_runs(
    loss_weights: NDArray[np.float32],
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Runs of equal weights: how many tokens each has, and their weight.

    Args:
        loss_weights: of each token, [T].

    Returns:
        Lengths and weights, [runs] each.
    """
    if not len(loss_weights):
        return np.zeros(0, np.int32), np.zeros(0, np.float32)
    starts = np.flatnonzero(np.diff(loss_weights)) + 1
    edges = np.concatenate([[0], starts, [len(loss_weights)]])
    return np.diff(edges).astype(np.int32), loss_weights[edges[:-1]]
