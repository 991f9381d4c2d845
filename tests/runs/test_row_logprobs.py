"""The file of log-probabilities beside a student: rows in the order of their tokens, grown part by part."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from potstill.runs.row_logprobs import (
    MOMENTS,
    PART_ROWS,
    LogprobsFolder,
    RowScores,
    ScoredModels,
    plan_parts,
    scored_tables,
)

pytestmark = pytest.mark.slow  # every part is synced to the disk

COUNT = 2 * PART_ROWS + 10
MODELS = ScoredModels("hf-before", "hf-after")


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    """Tokens of COUNT rows in groups that no part fits evenly; row n has the weight n."""
    rows = [
        {"trace": f"trace-{n}", "side": "chosen", "ids": [1, n], "run_lengths": [2]}
        | {"run_weights": [float(n)]}
        for n in range(COUNT)
    ]
    path = tmp_path / "tokens.parquet"
    parquet.write_table(pa.Table.from_pylist(rows), path, row_group_size=PART_ROWS + 5)
    return path


def score(folder: LogprobsFolder, tokens: Path, stop: int) -> int:
    """Score the rows up to `stop` with their own numbers; how many were new."""
    folder.begin()
    finished = folder.count_finished()
    parts = plan_parts(tokens, finished, stop)
    for moment in MOMENTS:
        for rows in parts:
            if not folder.has_part(moment, rows):
                numbers = range(rows.start, rows.stop)
                scores = [RowScores([None, -float(n)], [None, n]) for n in numbers]
                folder.write_part(moment, rows, scores)
    folder.join(tokens, parts, finished)
    return sum(len(rows) for rows in parts)


def test_rows_are_scored_once_and_stay_beside_their_tokens(tokens: Path, tmp_path: Path):
    folder = LogprobsFolder(tmp_path, MODELS)
    assert [score(folder, tokens, stop) for stop in (3, 100, COUNT, 5)] == [3, 97, COUNT - 100, 0]
    assert not (tmp_path / "scoring").exists()
    number = 0
    for scores, weights in scored_tables(folder.path, tokens):
        for row, of_tokens in zip(scores.to_pylist(), weights.to_pylist(), strict=True):
            assert row["trace"] == f"trace-{number}"
            assert row["after"] == [None, -number] and row["before_ranks"] == [None, number]
            assert of_tokens["run_weights"] == [number]
            number += 1
    assert number == COUNT


def test_scores_of_other_models_are_begun_anew(tokens: Path, tmp_path: Path):
    score(LogprobsFolder(tmp_path, MODELS), tokens, 5)
    others = LogprobsFolder(tmp_path, MODELS._replace(after="hf-other"))
    assert score(others, tokens, 2) == 2
