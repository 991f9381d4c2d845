"""Our verdicts beside the labels of real recorded outputs; the numbers were measured, disagreements are listed."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from potstill import verifiers
from potstill.data import problems

MODELS = ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification")
FIXTURE = Path(__file__).parents[1] / "fixtures" / "gsm8k_like.jsonl"


def compare(path: Path) -> tuple[dict[str, Counter[str]], list[tuple[int, str, str]]]:
    """Statuses by model, and the disagreements with the labels: (row, model, our status)."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    loaded = problems.load(str(path))
    counts, odd = {}, []
    for model in MODELS:
        found = verifiers.judge(
            [(p, row[model]["solution"]) for p, row in zip(loaded, rows, strict=True)]
        )
        counts[model] = Counter(str(v.status) for v in found)
        for i, (verdict, row) in enumerate(zip(found, rows, strict=True)):
            if (verdict.status == "right") != row[model]["is_correct"]:
                odd.append((i, model, verdict.status))
    return counts, odd


def test_the_fixture_has_two_wrong_labels_and_one_text_without_an_answer() -> None:
    counts, odd = compare(FIXTURE)
    assert odd == [(10, "6b_finetuning", "wrong"), (3, "175b_finetuning", "right")]
    assert [counts[model]["right"] for model in MODELS] == [5, 8, 11, 15]
    assert [counts[model]["unparsed"] for model in MODELS] == [0, 1, 0, 0]
    assert verifiers.check_gold(problems.load(str(FIXTURE))) == []


@pytest.mark.slow
def test_gsm8k_recorded_solutions_agree_with_every_label(shared_data: Path) -> None:
    counts, odd = compare(shared_data / "gsm8k" / "example_model_solutions.jsonl")
    assert odd == []
    assert [counts[model]["right"] for model in MODELS] == [286, 515, 458, 742]
    assert [counts[model]["unparsed"] for model in MODELS] == [3, 1, 5, 0]


def test_math_outputs_agree_but_for_the_nine_false_rejects(shared_data: Path) -> None:
    path = shared_data / "math-outputs" / "qwen2.5-math-cot-100.jsonl"
    rows: list[dict[str, Any]] = [json.loads(line) for line in path.read_text().splitlines()]
    loaded = problems.load(str(path))
    assert verifiers.check_gold(loaded) == []
    items = [(p, chain) for p, row in zip(loaded, rows, strict=True) for chain in row["code"]]
    labels = [(row["idx"], k, label) for row in rows for k, label in enumerate(row["score"])]
    found = verifiers.judge(items)
    assert Counter(v.status for v in found) == {"right": 737, "wrong": 63}
    odd = [
        (i, k)
        for (i, k, label), v in zip(labels, found, strict=True)
        if (v.status == "right") != label
    ]
    assert odd == [(3, k) for k in range(8)] + [
        (72, 7)
    ]  # "4:30 p.m." and 10{,}000, which the file's grader rejects


@pytest.mark.parametrize(
    ("name", "count", "kind"),
    [
        ("gsm8k/train", 7473, "number"),
        ("gsm8k/test", 1319, "number"),
        ("benchmarks/svamp", 1000, "number"),
        ("benchmarks/aqua", 254, "choice"),
        ("benchmarks/mmlu_stem", 3018, "choice"),
        ("benchmarks/aime24", 30, "number"),
        ("benchmarks/amc23", 40, "number"),
        ("benchmarks/olympiadbench", 675, "math"),
    ],
)
@pytest.mark.slow
def test_real_files_load_as_they_are_and_their_golds_pass(
    shared_data: Path, name: str, count: int, kind: str
) -> None:
    loaded = problems.load(str(shared_data / f"{name}.jsonl"))
    assert (len(loaded), {p.kind for p in loaded}) == (count, {kind})
    assert verifiers.check_gold(loaded) == []
