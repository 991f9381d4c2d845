"""How long local models take: rates from a run's folder or a probe, as ranges, and how to measure what is not known."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from store_fakes import ask

from potstill.models.model import Completion
from potstill.records import Tokens
from potstill.runs.local_time import (
    Range,
    rates_in_store,
    seconds_for,
    training_rates_in_store,
    training_tokens,
)
from potstill.store.store import Store
from potstill.store.students import Student
from potstill.training.settings import LoraSettings, TrainingSettings

SETTINGS = TrainingSettings(batch_size=8, threads=2, num_train_epochs=2)


def put_batch(store: Store, names: str, tokens: int, seconds: float, **completion: str) -> None:
    answered = []
    for request in ask(*names):
        answer = Completion("text", tokens=Tokens(9, tokens), seconds=seconds)
        answered.append((request, answer._replace(**completion)))
    store.completions.put("model-a", "student", "sft", answered)


def test_rates_are_those_of_batches_without_the_slowest_and_fastest_tenth(store: Store) -> None:
    folder = store.folder
    assert rates_in_store(folder, ["model-a"]) == {}
    put_batch(store, "ab", tokens=30, seconds=0.5)  # 60 a second
    assert rates_in_store(folder, ["model-a", "model-b"]) == {"model-a": Range(60.0, 60.0)}
    put_batch(store, "cd", tokens=30, seconds=0.25)  # 120 a second
    put_batch(store, "e", tokens=1, seconds=0.1)  # few of the tokens, and of the time
    put_batch(store, "f", tokens=99, seconds=9.0, error="memory: too large")
    put_batch(store, "g", tokens=0, seconds=1.0)  # scored, not written
    assert rates_in_store(folder, ["model-a"]) == {"model-a": Range(60.0, 120.0)}
    assert seconds_for(1200, Range(60.0, 120.0)) == Range(10.0, 20.0)
    put_batch(
        store, "h", tokens=3, seconds=2.4
    )  # a slow beginning, such as weights that are loaded
    assert rates_in_store(folder, ["model-a"])["model-a"] == pytest.approx(Range(31.0, 120.0))


def test_a_folder_without_a_store_has_no_rates_and_gets_none(tmp_path: Path) -> None:
    assert rates_in_store(tmp_path / "run", ["model-a"]) == {}
    assert training_rates_in_store(tmp_path / "run", "sft", SETTINGS) is None
    assert not (tmp_path / "run").exists()


def test_a_trainings_rate_is_that_of_the_arms_trainings_with_settings_as_fast(store: Store) -> None:
    def put(number: int, arm: str, tokens: int, settings: TrainingSettings) -> None:
        values = json.loads(json.dumps(settings.identity()))
        report = {"arm": arm, "tokens": tokens, "seconds": 10.0}
        student = Student(f"student-{number}", "hf-1", store.folder / str(number), values, report)
        store.students.put(student)

    put(1, "sft", 1000, SETTINGS)
    put(2, "sft", 3000, dataclasses.replace(SETTINGS, learning_rate=1e-3, num_train_epochs=9))
    put(3, "orion", 9000, SETTINGS)
    put(4, "sft", 9000, dataclasses.replace(SETTINGS, batch_size=1))
    put(5, "sft", 9000, dataclasses.replace(SETTINGS, lora=LoraSettings()))
    put(6, "sft", 9000, dataclasses.replace(SETTINGS, threads=16))
    assert training_rates_in_store(store.folder, "sft", SETTINGS) == Range(100.0, 300.0)
    # Two epochs of 20 rows, eight a step: six steps.
    assert training_tokens(SETTINGS, 20, 50.0) == 6 * 8 * 50.0
