"""A method run end to end on the built-in world at the size of CI: its rows by stage, and what was measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from potstill.cli import main
from potstill.evaluation.metrics import usage_per_answer
from potstill.evaluation.rows import Evaluation


class WorldRun(NamedTuple):
    """A finished run.

    Args:
        rows: by stage, or under the method's name where it has one stage.
        results: `results.json`.
    """

    rows: dict[str, list[dict[str, Any]]]
    results: dict[str, Any]


def run_on_world(
    folder: Path,
    method: str,
    *,
    roles: list[str],
    sets: list[str],
    problems: str = "world:story-easy?size=16",
) -> WorldRun:
    """Run a method on sixteen stories, train two steps a stage, and answer four others.

    Args:
        folder: an empty one.
        method: its name.
        roles: `NAME=MODEL`; the student is the world's.
        sets: `KEY=VALUE` of the method.
        problems: what it is run on.
    """
    out = folder / "run"
    words = ["run", method, "--problems", problems, "--student", "world:student"]
    words += ["--evaluate", "world:story-easy?split=test&size=4", "--eval-n", 1]
    for role in roles:
        words += ["--role", role]
    for setting in (*sets, "training.max_steps=2"):
        words += ["--set", setting]
    words += ["--threads", 1, "--quiet", "--out", out]
    assert main([str(word) for word in words]) == 0

    files = list((out / "rows" / method).glob("*.jsonl")) or [out / "rows" / f"{method}.jsonl"]
    rows: dict[str, list[dict[str, Any]]] = {}
    for file in files:
        rows[file.stem] = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    results = json.loads((out / "results.json").read_text("utf-8"))
    assert method in results["measures"]
    return WorldRun(rows, results)


def calls_on_world(
    folder: Path, solver: str, *, sets: list[str], model: str = "world:student"
) -> tuple[float, float]:
    """Measure a solver on four stories, one answer each; the calls of an answer, and those of a plain one."""
    out = folder / "solver.json"
    words = ["evaluate", "--model", model, "--solver", solver, "--n", 1, "--out", out]
    words += ["--problems", "world:story-easy?split=test&size=4", "--threads", 1, "--quiet"]
    for setting in sets:
        words += ["--set", setting]
    assert main([str(word) for word in words]) == 0
    calls: list[float] = []
    for file in (out, out.with_suffix(".plain.json")):
        evaluation = Evaluation.from_json(json.loads(file.read_text("utf-8")))
        calls.append(sum(used.calls for used in usage_per_answer(evaluation).values()))
    return calls[0], calls[1]
