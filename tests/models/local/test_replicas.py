"""`ray:` on a real cluster: what one process writes and scores, bit for bit, also where a replica dies."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from potstill.models import load
from potstill.models.model import Completion, Request, Sampling, Trainable, WritesBatches
from potstill.models.scoring import Passage
from potstill.store import Store, with_cache

PASSAGES = [Passage(f"What is {n} plus 1?", f"It is {n + 1}.", "Well. ") for n in range(300)]


def requests() -> list[Request]:
    sampling = Sampling(max_new_tokens=24, logprobs=True)
    prompts = [f"What is {n} plus {n * n}?" for n in range(20)]
    return [Request(p, sample_index=i, sampling=sampling) for p in prompts for i in range(2)]


def without_clocks(completions: list[Completion]) -> list[Completion]:
    return [completion._replace(seconds=0.0) for completion in completions]


@pytest.mark.slow
@pytest.mark.xdist_group("ray")
@pytest.mark.filterwarnings("ignore:a replica .* died:potstill.errors.PotstillWarning")
def test_replicas_write_what_the_model_writes(
    ray_cluster: Any, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    alone = load(f"transformers:{tiny_checkpoint}?batch=4&threads=1")
    replicas: Any = load(f"ray:transformers:{tiny_checkpoint}?batch=4&threads=1&replicas=2")
    assert isinstance(replicas, WritesBatches) and isinstance(replicas, Trainable)
    assert replicas.id == alone.id

    answers, landed = [], []

    def kill_one(label: str, done: int, total: int) -> None:
        landed.append(done)
        if len(landed) == 4:
            [place, *_] = replicas._pool.places()
            os.kill(place.process, signal.SIGKILL)

    for name, model, progress in (("alone", alone, None), ("replicas", replicas, kill_one)):
        with Store.open(tmp_path / name) as store:
            cached = with_cache(model, store, role="student", arm="a", seed=5, progress=progress)
            written = without_clocks(cached.write(requests()))
            scores = cached.likelihood(PASSAGES)
            answers.append((written, scores))
            stored = list(store.completions.iterate())
            assert len(stored) == len({row.key for row in stored}) == len(written) + len(scores)
            assert not list(store.attempts.iterate())
    assert answers[0] == answers[1]
    replicas.release()


def test_a_student_stays_on_the_cluster(tiny_checkpoint: Path) -> None:
    pytest.importorskip("ray", reason="needs the extra potstill[ray]")
    from potstill.models.local.replicas import ReplicatedModel, replicate_student

    start = load(f"ray:transformers:{tiny_checkpoint}?replicas=2&gpus=1")
    student = replicate_student(start, tiny_checkpoint, threads=1, chat="auto")
    assert isinstance(student, ReplicatedModel) and student.settings == start.settings
    assert student.id == start.id and student.weights == tiny_checkpoint
    alone = load(f"transformers:{tiny_checkpoint}")
    assert not isinstance(
        replicate_student(alone, tiny_checkpoint, threads=1, chat="auto"), ReplicatedModel
    )
