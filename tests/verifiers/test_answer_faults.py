"""The collected faults of reading, comparing and counting answers, where their folder lies beside the repository."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from fault_commands import FAULTS, fault_cases

import potstill as ps
from potstill import verifiers
from potstill.evaluation import metrics
from potstill.evaluation.benchmark import evaluate
from potstill.models.model import Sampling
from potstill.models.scripted import ScriptedModel
from potstill.records import Problem, blank
from potstill.traces import decontaminate, plain

ABSENT = (
    f"no collected faults: {FAULTS} is absent (set POTSTILL_SHARED to a folder with faults/cases)"
)


def cases(*kinds: str, check: str) -> Iterator[Any]:
    """Each case of these points, as a parameter with its name."""
    folders = [folder for folder in fault_cases(check) if read(folder)["kind"] in kinds]
    if not folders:
        yield pytest.param(None, marks=pytest.mark.skip(reason=ABSENT), id="absent")
    for folder in folders:
        yield pytest.param(read(folder), id=folder.name)


def read(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "expected.json").read_text("utf-8"))  # type: ignore[no-any-return]


@pytest.mark.parametrize("case", cases("A7", check="core"))
def test_answers_without_gold_and_votes(case: dict[str, Any]) -> None:
    if case["args"] == ["vote"]:
        problem = Problem("p", "?", case["gold"], case["kind_of_problem"])
        model = ScriptedModel(case["script"])
        measured = evaluate(
            partial(plain, model),
            [blank(problem)],
            name="script",
            n=len(case["script"]),
            sampling=Sampling(temperature=0.6),
            seed=0,
        )
        assert metrics.majority_at(measured).value == case["expected"]["maj"]
        return
    for one in case["expected"]["cases"]:
        problem = Problem("p", "?", None, one["kind"], choices=tuple(one.get("choices", ())))
        assert ps.read(problem, one["text"]) == one["answer"]
        assert ps.judge(problem, one["text"]).answer == one["answer"]


@pytest.mark.parametrize("case", cases("C1", "C2", check="judge"))
def test_verdicts(case: dict[str, Any]) -> None:
    items = []
    for one in case["expected"]:
        choices = tuple(one.get("choices", ()))
        items.append((Problem("p", "?", one["gold"], one["kind"], choices=choices), one["text"]))
    verdicts = verifiers.judge(items)
    off = []
    for one, verdict in zip(case["expected"], verdicts, strict=True):
        if verdict.status not in one["want"].split("|"):
            off.append((one["text"], one["gold"], verdict))
    assert not off


@pytest.mark.parametrize("case", cases("C5", check="overlap"))
def test_overlaps(case: dict[str, Any]) -> None:
    off = []
    for evaluation, training, is_overlap in case["expected"]:
        rows = [blank(Problem("t", training))]
        if (decontaminate([Problem("e", evaluation)], rows) == []) != is_overlap:
            off.append((evaluation, training))
    assert not off
