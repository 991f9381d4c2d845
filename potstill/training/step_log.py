"""`steps.jsonl` of a training under way: one line a step, written as the step ends, for whoever watches it.

The finished file beside the student is written anew from the Trainer's history, which has the same records.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from potstill.data.atomic_write import write_text

STEPS_FILE = "steps.jsonl"  # what was measured, one line a step


def step_line(record: Mapping[str, Any]) -> str:
    """A step's record as a line of the file."""
    return json.dumps(record) + "\n"


@final
@dataclass(frozen=True, slots=True)
class StepLog:
    """The file of a training that is under way."""

    path: Path

    def begin(self, records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Cut the file to the steps of the checkpoint that the training goes on from; of a new training none.

        What a killed training wrote behind its checkpoint is measured again, and its last line may be half a line.

        Args:
            records: of the steps that the checkpoint has.

        Returns:
            The same records with their names in the order in which they were measured: a checkpoint sorts them.
        """
        records_of_file = self._read(len(records))
        restored = []
        for index, record in enumerate(records):
            restored.append(dict(record))
            if index < len(records_of_file) and _is_same(records_of_file[index], record):
                restored[index] = records_of_file[index]
        write_text(self.path, "".join(step_line(record) for record in restored))
        return restored

    def append(self, record: Mapping[str, Any]) -> None:
        """Add a step that has just ended."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(step_line(record))

    def _read(self, count: int) -> list[dict[str, Any]]:
        """The first records of the file, up to one that can't be read: the checkpoint has them all."""
        if not count or not self.path.is_file():
            return []
        records = []
        for line in self.path.read_text("utf-8", errors="replace").splitlines()[:count]:
            try:
                record = json.loads(line)
            except ValueError:
                break
            if not isinstance(record, dict):
                break
            records.append(record)
        return records


def _is_same(record: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two records say the same; as text, since NaN is not equal to itself."""
    return json.dumps(record, sort_keys=True) == json.dumps(other, sort_keys=True)
