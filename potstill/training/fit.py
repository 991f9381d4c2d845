"""Train a student on traces; its folder is known by `fit.json`, written last, and resumed where that is missing.

One road for every objective: an `ObjectiveConfig` says by what the student learns, and whether it writes the
completions itself.
"""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from transformers import AutoTokenizer
from transformers.utils import logging as hf_logging

from potstill.models.local import checkpoint, weights
from potstill.records import Progress, Stage, Trace, canonical
from potstill.training import checkpoint as student
from potstill.training import distributed, output_dir
from potstill.training.dataset import packing
from potstill.training.dataset.build import build_dataset, sides
from potstill.training.dataset.chat_template import Chat, chat
from potstill.training.dataset.implicit_cot import Shortened
from potstill.training.dataset.training_dataset import TrainingDataset
from potstill.training.eval_callback import apart, watch
from potstill.training.objective_config import ObjectiveConfig
from potstill.training.objective_inputs import prepare_objective
from potstill.training.rollout.rollouts import Rollouts
from potstill.training.settings import FitResult, LoraSettings, TrainingSettings
from potstill.training.teacher.cross_tokenizer import Reader
from potstill.training.teacher.remote import Wire
from potstill.training.trainer import Loop, history, last_checkpoint, use_bf16

__all__ = ["FitResult", "LoraSettings", "ObjectiveConfig", "TrainingSettings", "fit"]


def fit(
    rows: Sequence[Trace],
    start: Path,
    out: Path,
    settings: TrainingSettings,
    *,
    config: ObjectiveConfig = ObjectiveConfig(),
    progress: Progress | None = None,
) -> FitResult:
    """Train the checkpoint `start` on `rows` and store the student in `out`.

    Called again with the same rows and settings it returns the stored `FitResult` without training or needing `start`.
    After a kill it goes on from the last checkpoint and ends with the same weights, bit for bit on the same CPU and
    threads. In several processes each takes its share of the rows, the first one writes, and all return the stored
    `FitResult`.

    Args:
        rows: finished traces; each is rendered by the start's chat template. With rivals, for objectives of pairs; for
            rollouts their prompts are what counts.
        start: a transformers checkpoint.
        out: a folder that does not exist, is empty, or was begun by an equal call.
        config: the objective and what it needs; supervised fine-tuning if nothing is said.
        progress: called as (label, steps done, steps in all).
    """
    distributed.begin()
    key = _key(rows, settings, config)
    now = partial(_described, rows, settings, config)
    if (out / output_dir.MARK).is_file():
        return output_dir.stored(out, key, now)
    distributed.check(config, distributed.count(), settings)
    checkpoint.check_checkpoint(start)
    begun = key + checkpoint.content_id(start)
    output_dir.check(out, begun, len(rows), now)
    first = distributed.rank() == 0
    told = progress if first else None
    with _session(settings):
        ready = _ready(rows, start, out / output_dir.WORK, settings, config=config, progress=told)
        with output_dir.claimed(out, begun, now()) if first else nullcontext():
            distributed.wait()
            resume = last_checkpoint(out / output_dir.WORK)
            ready.loop.train(resume_from_checkpoint=str(resume) if resume else None)
            made = ready.loop.whole(lambda: student.load(start, settings))
            if first:
                student.save(made, start, out, ready.template.end, settings)
                if ready.loop.objective_inputs.maps:
                    ready.loop.objective_inputs.maps.keep(out)
                output_dir.finish(
                    out, _report(key, ready.dataset, ready.loop), history(ready.loop.state), now()
                )
            distributed.wait()
    done = output_dir.stored(out, key, now)
    if told:
        told("training", done.steps, done.steps)
    return done


class _Ready(NamedTuple):
    """A loop before its first step, the student's template, and the dataset that is trained on."""

    loop: Loop
    template: Chat
    dataset: TrainingDataset


def _existing_parent(folder: Path) -> Path:
    """The nearest folder above that is there: large arrays lie on the disk of the output."""
    return next(parent for parent in folder.absolute().parents if parent.is_dir())


def _ready(
    rows: Sequence[Trace],
    start: Path,
    work: Path,
    settings: TrainingSettings,
    *,
    config: ObjectiveConfig,
    progress: Progress | None,
) -> _Ready:
    """All that can still be refused: the rows rendered, the models loaded, what the reference says of the rows."""
    tokenizer = AutoTokenizer.from_pretrained(start, local_files_only=True)
    template = chat(tokenizer, settings.chat)
    dataset = build_dataset(rows, template, start, settings, config, folder=_existing_parent(work))
    model = student.load(start, settings).to(weights.resolve_device("auto"))
    if settings.packing:
        packing.check(getattr(model, "get_base_model", lambda: model)().base_model)
    parts = apart(dataset, config.eval_rows)
    bf16 = use_bf16(settings)
    rollouts = Rollouts(rows, template, config, settings, bf16=bf16)
    short = (
        Shortened(rows, template, config.implicit_cot, settings) if config.implicit_cot else None
    )
    made = prepare_objective(
        config,
        model,
        roll=rollouts if config.on_policy_fraction or config.replay_buffer_size else short,
        wire=None
        if isinstance(config.teacher, str | Path | None)
        else Wire(config.teacher, rows, template),
        packing=settings.packing,
        bf16=bf16,
        across=Reader(sides(start, settings, config), rows) if config.across else None,
        seed=settings.seed,
    )
    looks = None if distributed.shards() else watch(rows, parts.watched, rollouts, template, config)
    loop = Loop(
        model,
        parts.learnt,
        settings,
        work,
        progress,
        objective_inputs=made,
        watch=looks,
        text=tokenizer.decode,
    )
    return _Ready(loop, template, parts.learnt)


def _key(rows: Sequence[Trace], settings: TrainingSettings, config: ObjectiveConfig) -> str:
    """Content id of what the trainer sees of the rows, of the settings and the config; the start is not in it."""
    told = {} if config == ObjectiveConfig() else {"objective_config": config.identity()}
    return _stage(rows, config).key(settings.identity() | told)


def _stage(rows: Sequence[Trace], config: ObjectiveConfig) -> Stage:
    written = (
        {"on_policy_fraction": config.on_policy_fraction} if config.on_policy_fraction else {}
    )  # rewards read the problems
    return Stage(_Any(), rows, "sft", **written)


def _described(
    rows: Sequence[Trace], settings: TrainingSettings, config: ObjectiveConfig
) -> dict[str, Any]:
    """What the key covers, by name, to say what differs."""
    told = {**settings.identity(), **config.identity(), "rows": _stage(rows, config).key({})}
    told |= {f"constant {name}": value for name, value in told.pop("constants").items()}
    made: dict[str, Any] = json.loads(canonical(told))
    return made


@dataclasses.dataclass(frozen=True)
class _Any:
    """Stands for whichever model is trained."""

    id: str = ""


def _report(key: str, dataset: TrainingDataset, loop: Loop) -> FitResult:
    steps = history(loop.state)
    return FitResult(
        key=key,
        rows=len(dataset),
        refused=dict(dataset.skipped),
        steps=len(steps),
        tokens=int(sum(step["tokens"] for step in steps)),
        counted=int(sum(step["counted"] for step in steps)),
        seconds=sum(step["seconds"] for step in steps),
        losses=tuple(step["loss"] for step in steps),
        stats=_means(steps),
        threads=torch.get_num_threads(),
    )


def _means(steps: Sequence[Mapping[str, float]]) -> dict[str, tuple[float, float]]:
    """Each statistic at the first and at the last step that had it."""
    own = ("step", "loss", "tokens", "counted", "seconds")
    names = dict.fromkeys(name for step in steps for name in step if name not in own)
    seen = {name: [step[name] for step in steps if name in step] for name in names}
    return {name: (values[0], values[-1]) for name, values in seen.items()}


@contextmanager
def _session(settings: TrainingSettings) -> Iterator[None]:
    """Thread count, random state and quiet progress bars for the training, put back afterwards."""
    threads, bars = torch.get_num_threads(), hf_logging.is_progress_bar_enabled()
    dice = random.getstate(), np.random.get_state()  # the Trainer seeds both
    hf_logging.disable_progress_bar()
    if settings.threads:
        torch.set_num_threads(settings.threads)
    gpus = (
        [torch.cuda.current_device()] if torch.cuda.is_available() else []
    )  # this process's, of all that it sees
    try:
        with torch.random.fork_rng(gpus):
            torch.manual_seed(settings.seed)
            yield
    finally:
        torch.set_num_threads(threads)
        random.setstate(dice[0])
        np.random.set_state(dice[1])
        if bars:
            hf_logging.enable_progress_bar()
