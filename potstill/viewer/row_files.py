"""The Parquet files of rows that lie beside a student: a row is found by its trace, without reading the others."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from potstill.runs.row_logprobs import open_parquet

METADATA_KEY = b"potstill.tokens"


def read_rows(path: Path, trace: str) -> dict[str, Mapping[str, Any]]:
    """The rows of a trace by side, of the tokens' file or of the log-probabilities'."""
    rows: dict[str, Mapping[str, Any]] = {}
    with open_parquet(path, "delete the file: nothing but the page of tokens needs it") as file:
        metadata = json.loads((file.schema_arrow.metadata or {}).get(METADATA_KEY, b"{}"))
        # Ids first, a column of some bytes a row; then the one group that has the row.
        for group in range(file.num_row_groups):
            ids = file.read_row_group(group, columns=["trace"]).column("trace").to_pylist()
            if trace not in ids:
                continue
            table = file.read_row_group(group)
            for place, row_id in enumerate(ids):
                if row_id == trace:
                    [row] = table.slice(place, 1).to_pylist()
                    rows.setdefault(row["side"], {**row, "metadata": metadata})
    return rows
