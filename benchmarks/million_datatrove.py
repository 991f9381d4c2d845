"""The work of `benchmarks/million.py` as a pipeline of datatrove; run by that script, with the Python that has it.

python benchmarks/million_datatrove.py FOLDER PROCESSES
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np
from datatrove.data import Document
from datatrove.executor.local import LocalPipelineExecutor
from datatrove.pipeline.decont.n_grams import NGramsDecontConfig, NGramsDecontFilter
from datatrove.pipeline.dedup import (
    MinhashDedupBuckets,
    MinhashDedupCluster,
    MinhashDedupFilter,
    MinhashDedupSignature,
)
from datatrove.pipeline.dedup.minhash import MinhashConfig
from datatrove.pipeline.filters import LambdaFilter
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers import JsonlWriter
from datatrove.utils.hashing import create_hash_func
from datatrove.utils.text import ngrams, simplify_text
from datatrove.utils.word_tokenizers import WordTokenizer

BANDS, ROWS = 21, 6  # as potstill has them for a threshold of 0.8
NUMBER = re.compile(r"-?\d+")


class WhitespaceTokenizer(WordTokenizer):
    """Words between white space."""

    def word_tokenize(self, text: str) -> list[str]:
        """The words."""
        return text.split()

    def sent_tokenize(self, text: str) -> list[str]:
        """Not used."""
        return [text]

    def span_tokenize(self, text: str) -> list[tuple[int, int]]:
        """Not used."""
        return [(0, len(text))]


def read_row(self: JsonlReader, row: dict[str, str], path: str, place: int) -> dict[str, object]:
    """A row as a document of question and answer."""
    text = f"{row['question']}\n{row['response']}"
    return {"text": text, "id": f"{path}/{place}", "metadata": {"gold": row["gold"]}}


def is_right(document: Document) -> bool:
    """Whether the last number of the text is the gold answer."""
    numbers = NUMBER.findall(document.text)
    return bool(numbers) and numbers[-1] == document.metadata["gold"]


def write_index(folder: Path, config: NGramsDecontConfig) -> None:
    """Write the hashes of the evaluation questions' n-grams, as its indexer does (which wants lighteval)."""
    hash_ngram = create_hash_func(config.hash_config)
    hashes: set[int] = set()
    for line in (folder / "evaluation.jsonl").read_text().splitlines():
        words = simplify_text(json.loads(line)["question"], config.norm_config).split()
        hashes.update(hash_ngram(" ".join(ngram)) for ngram in ngrams(words, config.n_grams))
    index = folder / "index"
    index.mkdir(exist_ok=True)
    array = np.array(list(hashes), dtype=config.hash_config.np_descr)
    array.tofile(index / "evaluation.index.hashes")


def main() -> None:
    """Four stages: verify and sign, buckets, clusters, filters."""
    folder, processes = Path(sys.argv[1]), int(sys.argv[2])
    tasks = len(list(folder.glob("rows-*.jsonl")))
    scratch = folder / "datatrove-work"
    tokenizer = WhitespaceTokenizer()
    config = MinhashConfig(n_grams=5, num_buckets=BANDS, hashes_per_bucket=ROWS)
    overlap = NGramsDecontConfig(n_grams=13)
    write_index(folder, overlap)

    def run(stage: str, steps: list[object], tasks: int) -> None:
        logs = str(scratch / "logs" / stage)
        LocalPipelineExecutor(
            steps, tasks=tasks, workers=min(processes, tasks), logging_dir=logs
        ).run()

    rows = JsonlReader(str(folder), glob_pattern="rows-*.jsonl", adapter=read_row, compression=None)
    verified = str(scratch / "verified")
    signatures, buckets, removed = (
        str(scratch / name) for name in ("signatures", "buckets", "removed")
    )
    run(
        "verify",
        [
            rows,
            LambdaFilter(is_right),
            JsonlWriter(verified, compression=None),
            MinhashDedupSignature(signatures, config=config, language=tokenizer),
        ],
        tasks,
    )
    run("buckets", [MinhashDedupBuckets(signatures, buckets, config=config)], BANDS)
    run("clusters", [MinhashDedupCluster(buckets, removed, config=config)], 1)
    run(
        "filter",
        [
            JsonlReader(verified, compression=None),
            MinhashDedupFilter(removed),
            NGramsDecontFilter(str(folder / "index"), config=overlap, language=tokenizer),
            JsonlWriter(str(folder / "datatrove"), compression=None),
        ],
        tasks,
    )


if __name__ == "__main__":
    main()
