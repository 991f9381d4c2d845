"""Train a student on traces; its folder is known by `fit.json`, written last, and resumed where that is missing.

One road for every objective: a `Task` says by what the student learns, and whether it writes the completions itself.
"""

from __future__ import annotations

import dataclasses
import json
import os
import random
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from transformers import AutoTokenizer
from transformers.utils import logging as hf_logging

from potstill.errors import StageError, StoreError
from potstill.models import checkpoint
from potstill.records import Stage, Trace
from potstill.training import kept, student
from potstill.training.chat import Chat, chat
from potstill.training.guard import check
from potstill.training.items import Item
from potstill.training.learning import learning
from potstill.training.loop import Loop, Progress, history, last_checkpoint
from potstill.training.render import Row, render
from potstill.training.rollouts import Rollouts
from potstill.training.settings import Fit, Lora, Training
from potstill.training.task import Task
from potstill.training.teacher import same_tokens

__all__ = ["Fit", "Lora", "Task", "Training", "fit"]

MARK = "fit.json"
WORK = "training"  # inside the student's folder while it is made: the begun training's key and its checkpoints


def fit(
    rows: Sequence[Trace],
    start: Path,
    out: Path,
    settings: Training,
    *,
    task: Task = Task(),
    progress: Progress | None = None,
) -> Fit:
    """Train the checkpoint `start` on `rows` and store the student in `out`.

    Called again with the same rows and settings it returns the stored `Fit` without training or needing `start`. After
    a kill it goes on from the last checkpoint and ends with the same weights, bit for bit on the same CPU and threads.

    Args:
        rows: finished traces; each is rendered by the start's chat template. With rivals, for objectives of pairs; for
            rollouts their prompts are what counts.
        start: a transformers checkpoint.
        out: a folder that does not exist, is empty, or was begun by an equal call.
        task: the objective and what it needs; the likelihood if nothing is said.
        progress: called as (label, steps done, steps in all).
    """
    key = _key(rows, settings, task)
    if (out / MARK).is_file():
        return _stored(out, key)
    checkpoint.check(start)
    _begin(out, key + checkpoint.content_id(start), rows)
    with _session(settings):
        tokenizer = AutoTokenizer.from_pretrained(start, local_files_only=True)
        template = chat(tokenizer, settings.chat)
        rendering = _rendered(rows, template, start, settings, task)
        model = student.load(start, settings)
        roll = Rollouts(rows, template, task, settings) if task.rollout else None
        made = learning(task, model, roll=roll)
        loop = Loop(model, rendering.rows, settings, out / WORK, progress, learning=made)
        resume = last_checkpoint(out / WORK)
        loop.train(resume_from_checkpoint=str(resume) if resume else None)
        student.save(loop.model, start, out, template.end, settings)
        done = _report(key, rendering, loop)
    _finish(out, done)
    if progress:
        progress("training", done.steps, done.steps)
    return done


class _Rows(NamedTuple):
    """Rendered rows or pairs, and how many were left out by reason."""

    rows: Sequence[Row | Item]
    reasons: Mapping[str, int]


def _rendered(rows: Sequence[Trace], template: Chat, start: Path, settings: Training, task: Task) -> _Rows:
    """The rows as the objective wants them: alone, in pairs, with a teacher's kept entries, or prompts alone."""
    limit = _limit(start, settings)
    for of in (task.teacher, task.reference):
        if of:
            same_tokens(start, of)
    if task.rollout == 1:
        prompts = render(rows, template, max_tokens=limit, prompts=True)
        return _Rows(prompts.rows, prompts.reasons)
    rendering = render(rows, template, max_tokens=limit)
    check(rows, rendering, template, max_tokens=limit, drop_long=settings.drop_long)
    if task.kept:
        return _Rows(kept.read(task.kept, start, rendering.rows), rendering.reasons)
    if not {"pairs", "labels"} & set(task.needs):
        return _Rows(rendering.rows, rendering.reasons)
    rivals = [_rival(row) for row in rows]
    other = render(rivals, template, max_tokens=limit)
    check(rivals, other, template, max_tokens=limit, drop_long=settings.drop_long)
    worse = {row.trace: row for row in other.rows}
    pairs = [(row, worse[row.trace]) for row in rendering.rows if row.trace in worse]
    lost = len(rendering.rows) - len(pairs)
    return _Rows(pairs, {**rendering.reasons, **({"its rival can't be trained on": lost} if lost else {})})


def _rival(row: Trace) -> Trace:
    if row.rival is None:
        raise StageError(
            f"the row {row.id} has no rival",
            expected="pairs of better and worse completions for this objective",
            fix="pair(good, bad) in the method, or rows with chosen and rejected",
        )
    return row.rival


def _key(rows: Sequence[Trace], settings: Training, task: Task) -> str:
    """Content id of what the trainer sees of the rows, of the settings and the task; the start is not in it."""
    told = {} if task == Task() else {"task": task.identity()}
    return Stage(_Any(), rows, "likelihood").key(settings.identity() | told)


@dataclasses.dataclass(frozen=True)
class _Any:
    """Stands for whichever model is trained."""

    id: str = ""


def _stored(out: Path, key: str) -> Fit:
    try:
        values = json.loads((out / MARK).read_text("utf-8"))
        stats = {name: tuple(ends) for name, ends in values.get("stats", {}).items()}
        done = Fit(**{**values, "losses": tuple(values["losses"]), "stats": stats})
    except (json.JSONDecodeError, TypeError, KeyError) as error:
        fix = "delete the folder and run the same command again"
        raise StoreError(
            f"{out / MARK} can't be read ({error})", expected="the report of a training", fix=fix
        ) from error
    if done.key != key:
        raise StageError(
            f"{out} holds a student of other rows or settings ({done.key}, wanted {key})",
            expected="a folder of its own for each student",
            fix="give another folder, or delete this one to train again",
        )
    shutil.rmtree(out / WORK, ignore_errors=True)  # killed between the mark and the clearing up
    return done


def _begin(out: Path, begun: str, rows: Sequence[Trace]) -> None:
    """Claim the folder, or recognise our own half-finished training in it."""
    mark = out / WORK / "begun"
    inside = sorted(path.name for path in out.iterdir()) if out.is_dir() else []
    if mark.is_file():
        if mark.read_text("utf-8") == begun:
            return
        raise StageError(
            f"{out} holds a half-finished training of other rows, settings or start",
            expected=f"the training of these {len(rows)} rows",
            fix="give another folder, or delete this one to begin anew",
        )
    if inside and inside != [WORK]:
        raise StageError(
            f"{out} is not empty ({', '.join(inside[:5])}) and was not begun by a training",
            expected="a folder that does not exist, is empty, or holds this training's checkpoints",
            fix="give another folder",
        )
    mark.parent.mkdir(parents=True, exist_ok=True)
    _write(mark, begun)


def _limit(start: Path, settings: Training) -> int:
    """Tokens a row may have: as set, but never more than the model's context."""
    config = checkpoint.config(start)
    context = config.get("max_position_embeddings") or config.get("text_config", {}).get("max_position_embeddings")
    limits = [limit for limit in (context, settings.max_tokens) if limit]
    return int(min(limits, default=1 << 30))


def _report(key: str, rendering: _Rows, loop: Loop) -> Fit:
    steps = history(loop.state)
    return Fit(
        key=key,
        rows=len(rendering.rows),
        refused=rendering.reasons,
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


def _finish(out: Path, done: Fit) -> None:
    _write(out / MARK, json.dumps(dataclasses.asdict(done), indent=1))
    shutil.rmtree(out / WORK)


def _write(path: Path, text: str) -> None:
    """Whole or not at all."""
    fresh = path.with_suffix(".part")
    fresh.write_text(text, "utf-8")
    os.replace(fresh, path)


@contextmanager
def _session(settings: Training) -> Iterator[None]:
    """Thread count, random state and quiet progress bars for the training, put back afterwards."""
    threads, bars = torch.get_num_threads(), hf_logging.is_progress_bar_enabled()
    dice = random.getstate(), np.random.get_state()  # the Trainer seeds both
    hf_logging.disable_progress_bar()
    if settings.threads:
        torch.set_num_threads(settings.threads)
    try:
        with torch.random.fork_rng():
            torch.manual_seed(settings.seed)
            yield
    finally:
        torch.set_num_threads(threads)
        random.setstate(dice[0])
        np.random.set_state(dice[1])
        if bars:
            hf_logging.enable_progress_bar()
