"""`rollouts.jsonl` of a training: what the student wrote each time it was evaluated, for whoever looks at it.

Means say that a student becomes longer, or right more often; its texts say how. The first rows of each evaluation are
kept, always the same ones, so that one prompt's texts can be followed from evaluation to evaluation. No tensors here:
the viewer reads the file too.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, final

from potstill.data.atomic_write import write_text

ROLLOUTS_FILE = "rollouts.jsonl"
KEPT_ROLLOUTS = 8  # of an evaluation


class KeptRollout(NamedTuple):
    """A text that the student wrote when it was evaluated.

    Args:
        step: before which it was evaluated, from 0; the number of steps at the end.
        trace: the row whose prompt it answers.
        problem: of that row.
        question: of the problem.
        gold: its answer; None where there is none.
        text: what the student wrote.
        tokens: of the text.
        is_truncated: whether the token limit ended it.
        status: the verdict; "unjudged" too where a verifier costs too much to be asked on the side.
        answer: what the verifier read.
        reason: what it said.
    """

    step: int
    trace: str
    problem: str
    question: str
    gold: str | None
    text: str
    tokens: int
    is_truncated: bool
    status: str = "unjudged"
    answer: str | None = None
    reason: str = ""


@final
@dataclass(frozen=True, slots=True)
class RolloutLog:
    """The file of a training that is under way; it grows by some lines an evaluation."""

    path: Path

    def begin(self, step: int) -> None:
        """Cut the file to the evaluations before a step, from which the training goes on; of a new one none is left.

        The evaluation that is due before that step is made again, and the last line of a killed training may be half a
        line.
        """
        if self.path.is_file():
            earlier = [rollout for rollout in read_rollouts(self.path) if rollout.step < step]
            write_text(self.path, "".join(_line(rollout) for rollout in earlier))

    def append(self, rollouts: Sequence[KeptRollout]) -> None:
        """Add an evaluation's rollouts, at most `KEPT_ROLLOUTS`."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write("".join(_line(rollout) for rollout in rollouts[:KEPT_ROLLOUTS]))


def _line(rollout: KeptRollout) -> str:
    return json.dumps(rollout._asdict()) + "\n"


def read_rollouts(path: Path) -> Iterator[KeptRollout]:
    """The rollouts of a file in order; a line that can't be read, such as half of the last one, is left out."""
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                values: dict[str, Any] = json.loads(line)
                rollout = KeptRollout(**values)
            except (ValueError, TypeError):
                continue
            if isinstance(rollout.step, int):
                yield rollout
