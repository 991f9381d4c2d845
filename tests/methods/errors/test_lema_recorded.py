"""LEMA pools the mistakes of four recorded models, up to the corrector's call, as a plain recomputation has it."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from pathlib import Path

import pytest

from potstill.errors import StageError
from potstill.methods.errors.lema.lema import collect_failures, correct_failures
from potstill.methods.errors.lema.settings import Settings
from potstill.models.scripted import ScriptedModel
from potstill.records import blank
from potstill.runs.sources import load_model, load_problems
from potstill.traces import ReferenceGate, right, words

FIXTURE = Path(__file__).parents[2] / "fixtures" / "gsm8k_like.jsonl"
MODELS = ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification")
NUMBER = r"-?[\d,]*\.?\d+"


def plain_number(text: str) -> float:
    """The number behind the last "A:"; two of the recorded solutions are a bare number."""
    numbers = re.findall(rf"A:\s*\$?({NUMBER})", text)
    if re.fullmatch(NUMBER, text.strip()):
        numbers = [text.strip()]
    return float(numbers[-1].replace(",", "")) if numbers else float("nan")


def plain_wrong(row: dict, model: str) -> bool:
    """An answer can be read, and it is not the reference's number."""
    answer = plain_number(row[model]["solution"])
    return not math.isnan(answer) and answer != plain_number(row["ground_truth"])


def check_pooling(file: Path) -> int:
    """Compare the pooled mistakes with a plain recomputation; how many there are."""
    data = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    reasoners = [load_model(f"recorded:{file}?model={name}") for name in MODELS]
    problems = [blank(problem) for problem in load_problems(str(file))]
    failures = collect_failures(reasoners, problems, Settings(attempts=1))

    # Each wording once; the first model that wrote it is its source.
    expected: dict[tuple[str, str], str] = {}
    solved: Counter[str] = Counter()
    for name, reasoner in zip(MODELS, reasoners, strict=True):
        for row in data:
            solved[row["question"]] += row[name]["is_correct"]
            if plain_wrong(row, name):
                wording = " ".join(row[name]["solution"].split())
                expected.setdefault((row["question"], wording), reasoner.id)
    pooled = {(t.question, words(t)[1]): t.author.model for t in failures}
    assert expected.items() <= pooled.items()
    # One solution breaks off without "A:" at "In total, Cameron will pay …", which the verifier reads.
    extra = pooled.keys() - expected.keys()
    assert all("In total, Cameron will pay" in wording for _, wording in extra) and len(extra) <= 1
    if file != FIXTURE:
        rates = {t.question: t.scores["solve_rate"] for t in failures}
        assert rates == {question: solved[question] / 4 for question in rates}

    # The corrector is asked once for each, and sees question and attempt.
    corrector = ScriptedModel(["I can't say."])
    with pytest.raises(StageError, match=f"none of {len(failures)} corrections can be learnt"):
        correct_failures(corrector, right, ReferenceGate(), Settings(attempts=1), failures)
    for request, failure in zip(corrector.calls, failures, strict=True):
        shown = str(request.prompt)
        assert failure.question in shown and shown.endswith("Incorrect step:")
        assert failure.text.split("\n")[0].strip() in shown
    return len(failures)


def test_the_mistakes_of_four_recorded_models_are_pooled():
    assert check_pooling(FIXTURE) > 20


@pytest.mark.slow
def test_gsm8ks_recorded_models_are_pooled(shared_data):
    assert check_pooling(shared_data / "gsm8k" / "example_model_solutions.jsonl") > 3000
