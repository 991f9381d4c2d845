"""What the tests of rollouts share: a tiny student and teacher, rows, a window of micro-batches."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs the extra potstill[local]")
from transformers import AutoModelForCausalLM, AutoTokenizer

from potstill.records import Problem, Trace
from potstill.training.dataset import batching
from potstill.training.dataset.chat_template import read_chat_template
from potstill.training.dataset.tokenize import tokenize_prompts, tokenize_traces
from potstill.training.dataset.training_dataset import TrainingDataset
from potstill.training.rollout.rollouts import Rollouts
from potstill.training.schedules import When
from potstill.training.settings import TrainingSettings

FIRST = When(0, 10)


class Stop(Exception):
    """What a kill looks like from inside."""


def stop_at(step):
    def progress(label, done, total):
        if done == step:
            raise Stop

    return progress


def vowels(problem, text):
    """A reward that a random student earns unevenly."""
    return sum(letter in "aeiou" for letter in text) + 0.1 * len(text)


def traces(count=6):
    return [
        Trace(
            Problem(str(i), f"Ned has {10 + i} shells.", answer=str(i), kind="number"),
            f"Ned has {10 + i} shells.",
            text=f"<think>So {10 + i} - {i}.</think>The answer is {i}.",
            finish_reason="stop",
        )
        for i in range(count)
    ]


def weights(folder: Path) -> str:
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


def load(path):
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    return model.eval(), read_chat_template(AutoTokenizer.from_pretrained(path))


def dataset_of(rows, template, *, prompts=False):
    """The traces tokenized, each an item of its own."""
    tokenize = tokenize_prompts if prompts else tokenize_traces
    return TrainingDataset.of_rows(rows, tokenize(rows, template, max_length=512).rows)


def window(template, rows, size=3, *, prompts=True):
    """The rows as micro-batches."""
    items = dataset_of(rows, template, prompts=prompts)
    return [batching.collate(items[at : at + size]) for at in range(0, len(items), size)]


def rollouts(template, config, rows, seed=0):
    return Rollouts(rows, template, config, TrainingSettings(max_steps=10, seed=seed))
