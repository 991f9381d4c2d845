"""Four sums with solutions, and tiny checkpoints of which the student is right at times: real runs in seconds."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from tiny import tiny_checkpoint

SUMS = [
    {"question": f"What is {n} + 2?", "answer": str(n + 2), "solution": f"It is {n + 2}."}
    for n in range(4)
]


def write_sums(folder: Path) -> Path:
    """Write `sums.jsonl` and the checkpoints `teacher`, `mentor` and `student` into a folder, and return it."""
    import potstill as ps
    from potstill.methods.rewards.autothink import ELLIPSIS
    from potstill.training.fit import fit
    from potstill.training.settings import TrainingSettings

    for seed, role in enumerate(("teacher", "mentor", "start")):
        tiny_checkpoint(folder / role, seed=seed)
    (folder / "sums.jsonl").write_text("".join(json.dumps(line) + "\n" for line in SUMS))

    # The student is taught a right and a wrong answer to each sum.
    problems = ps.load_problems(str(folder / "sums.jsonl"), kind="number")
    rows = []
    for trace in [*problems, *ps.pose(ELLIPSIS, problems)]:
        for offset in (0, 1):
            text = f"</think>\\boxed{{{int(trace.problem.answer) + offset}}}"
            rows.append(replace(trace, text=text, finish_reason="stop"))
    settings = TrainingSettings(max_steps=150, batch_size=16, learning_rate=1e-2, threads=1)
    fit(rows, folder / "start", folder / "student", settings)
    return folder
