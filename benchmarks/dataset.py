"""What a training dataset costs: bytes a token, at the end and at the peak, and the time of tokenizing and collating.

python benchmarks/dataset.py --count 20000
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import time
import tracemalloc
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from potstill.records import Problem, Trace
from potstill.training.dataset.batching import collate
from potstill.training.dataset.chat_template import read_chat_template
from potstill.training.dataset.tokenize import tokenize_traces
from potstill.training.dataset.training_dataset import TrainingDataset

DEFAULT = Path(__file__).resolve().parents[1] / "potstill" / "world" / "checkpoints" / "student"
BATCH = 16


def make_traces(count: int, lines: int) -> list[Trace]:
    """Rows of sums, none like another."""
    rng = random.Random(0)
    traces = []
    for number in range(count):
        question = f"Add {number} sums."
        sums = [
            f"{(a := rng.randrange(99))} + {(b := rng.randrange(99))} = {a + b}."
            for _ in range(lines)
        ]
        traces.append(
            Trace(
                Problem(str(number), question), question, text=" ".join(sums), finish_reason="stop"
            )
        )
    return traces


def measure(checkpoint: Path, count: int, lines: int) -> dict[str, Any]:
    """Tokenize rows twice, once to measure memory and once for the time; then collate them all in batches."""
    template = read_chat_template(AutoTokenizer.from_pretrained(checkpoint))
    traces = make_traces(count, lines)
    tokenize_traces(traces[:10], template, max_length=1 << 30)  # what is loaded once

    gc.collect()
    tracemalloc.start()
    dataset = TrainingDataset.of_rows(
        traces, tokenize_traces(traces, template, max_length=1 << 30).rows
    )
    gc.collect()
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    began = time.perf_counter()
    tokenize_traces(traces, template, max_length=1 << 30)
    tokenizing = time.perf_counter() - began

    began = time.perf_counter()
    for start in range(0, len(dataset), BATCH):
        collate(dataset[start : start + BATCH])
    collating = time.perf_counter() - began
    tokens = int(dataset.rows.input_ids.lengths.sum())
    return {
        "rows": len(dataset),
        "tokens": tokens,
        "bytes_a_token": round(held / tokens, 2),
        "peak_bytes_a_token": round(peak / tokens, 2),
        "tokens_tokenized_a_second": round(tokens / tokenizing),
        "batches_a_second": round(len(dataset) / BATCH / collating),
    }


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("checkpoint", type=Path, nargs="?", default=DEFAULT)
    parser.add_argument("--count", type=int, default=20_000, help="rows")
    parser.add_argument("--lines", type=int, default=16, help="sums a row, about 18 tokens each")
    args = parser.parse_args()
    print(json.dumps(measure(args.checkpoint, args.count, args.lines)))


if __name__ == "__main__":
    main()
