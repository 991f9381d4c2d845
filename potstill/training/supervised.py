"""Train a student on traces; its folder is known by `fit.json`, written last, and resumed where that is missing.

One road for every objective: a `Task` says by what the student learns, and whether it writes the completions itself.
"""

from __future__ import annotations

import dataclasses
import json
import os
import random
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from transformers import AutoTokenizer
from transformers.utils import logging as hf_logging

from potstill.errors import ConfigError, StageError, StoreError
from potstill.models import checkpoint, weights
from potstill.records import Stage, Trace, canonical
from potstill.training import packing, processes, student
from potstill.training.across import Reader
from potstill.training.chat import Chat, chat
from potstill.training.learning import learning
from potstill.training.loop import Loop, Progress, history, last_checkpoint, use_bf16
from potstill.training.rollouts import Rollouts
from potstill.training.rows import Rows, rendered, sides
from potstill.training.scored import Wire
from potstill.training.settings import Fit, Lora, Training
from potstill.training.shortened import Shortened
from potstill.training.task import Task
from potstill.training.watch import apart, watch

__all__ = ["Fit", "Lora", "Task", "Training", "fit"]

MARK = "fit.json"
STEPS = "steps.jsonl"  # the monitors: one line a step
RUNS = "runs"
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
    In several processes each takes its share of the rows, the first one writes, and all return the stored `Fit`.

    Args:
        rows: finished traces; each is rendered by the start's chat template. With rivals, for objectives of pairs; for
            rollouts their prompts are what counts.
        start: a transformers checkpoint.
        out: a folder that does not exist, is empty, or was begun by an equal call.
        task: the objective and what it needs; the likelihood if nothing is said.
        progress: called as (label, steps done, steps in all).
    """
    processes.begin()
    key = _key(rows, settings, task)
    now = partial(_described, rows, settings, task)
    if (out / MARK).is_file():
        return _stored(out, key, now)
    processes.check(task, processes.count(), settings)
    checkpoint.check(start)
    begun = key + checkpoint.content_id(start)
    _check(out, begun, rows, now)
    first = processes.rank() == 0
    told = progress if first else None
    with _session(settings):
        ready = _ready(rows, start, out / WORK, settings, task=task, progress=told)
        if first:
            _begin(out, begun, now())
        processes.wait()
        resume = last_checkpoint(out / WORK)
        with _unclaimed(out):
            ready.loop.train(resume_from_checkpoint=str(resume) if resume else None)
        made = ready.loop.whole(lambda: student.load(start, settings))
        if first:
            student.save(made, start, out, ready.template.end, settings)
            if ready.loop.learning.maps:
                ready.loop.learning.maps.keep(out)
            _finish(out, _report(key, ready.rows, ready.loop), history(ready.loop.state), now())
        processes.wait()
    done = _stored(out, key, now)
    if told:
        told("training", done.steps, done.steps)
    return done


class _Ready(NamedTuple):
    """A loop before its first step, the student's template, and the rows that are learnt."""

    loop: Loop
    template: Chat
    rows: Rows


def _ready(
    rows: Sequence[Trace], start: Path, work: Path, settings: Training, *, task: Task, progress: Progress | None
) -> _Ready:
    """All that can still be refused: the rows rendered, the models loaded, what the reference says of the rows."""
    tokenizer = AutoTokenizer.from_pretrained(start, local_files_only=True)
    template = chat(tokenizer, settings.chat)
    rendering = rendered(rows, template, start, settings, task)
    model = student.load(start, settings).to(weights.device("auto"))
    if settings.packing:
        packing.check(getattr(model, "get_base_model", lambda: model)().base_model)
    parts = apart(rendering.rows, task.held)
    bf16 = use_bf16(settings)
    rollouts = Rollouts(rows, template, task, settings, bf16=bf16)
    short = Shortened(rows, template, task.internalise, settings) if task.internalise else None
    made = learning(
        task,
        model,
        roll=rollouts if task.rollout or task.replay else short,
        wire=None if isinstance(task.teacher, str | Path | None) else Wire(task.teacher, rows, template),
        packing=settings.packing,
        bf16=bf16,
        across=Reader(sides(start, settings, task), rows) if task.across else None,
        seed=settings.seed,
    )
    looks = None if processes.shards() else watch(rows, parts.watched, rollouts, template, task)
    loop = Loop(model, parts.learnt, settings, work, progress, learning=made, watch=looks, text=tokenizer.decode)
    return _Ready(loop, template, rendering._replace(rows=parts.learnt))


def _key(rows: Sequence[Trace], settings: Training, task: Task) -> str:
    """Content id of what the trainer sees of the rows, of the settings and the task; the start is not in it."""
    told = {} if task == Task() else {"task": task.identity()}
    return _stage(rows, task).key(settings.identity() | told)


def _stage(rows: Sequence[Trace], task: Task) -> Stage:
    written = {"rollout": task.rollout} if task.rollout else {}  # rewards read the problems
    return Stage(_Any(), rows, "likelihood", **written)


def _described(rows: Sequence[Trace], settings: Training, task: Task) -> dict[str, Any]:
    """What the key covers, by name, to say what differs."""
    told = {**settings.identity(), **task.identity(), "rows": _stage(rows, task).key({})}
    told |= {f"constant {name}": value for name, value in told.pop("constants").items()}
    made: dict[str, Any] = json.loads(canonical(told))
    return made


def _differing(then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """The names whose values differ, in words; nothing where it is not known what was."""
    if not then:
        return ""
    names = [name for name in sorted({*then, *now}) if then.get(name) != now.get(name)]
    return f": {', '.join(_change(name, then, now) for name in names)}"


def _change(name: str, then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    if name in ("rows", "kept"):
        return f"other {name}"
    was, wanted = (str(values.get(name, "not given"))[:40] for values in (then, now))
    return f"{name} was {was}, now {wanted}"


@dataclasses.dataclass(frozen=True)
class _Any:
    """Stands for whichever model is trained."""

    id: str = ""


def _stored(out: Path, key: str, now: Callable[[], Mapping[str, Any]]) -> Fit:
    try:
        values = json.loads((out / MARK).read_text("utf-8"))
        then = values.pop("trained", {})
        stats = {name: tuple(ends) for name, ends in values.get("stats", {}).items()}
        done = Fit(**{**values, "losses": tuple(values["losses"]), "stats": stats})
    except (json.JSONDecodeError, TypeError, KeyError) as error:
        fix = "delete the folder and run the same command again"
        raise StoreError(
            f"{out / MARK} can't be read ({error})", expected="the report of a training", fix=fix
        ) from error
    if done.key != key:
        raise StageError(
            f"{out} holds a student of other rows or settings{_differing(then, now())}",
            expected="a folder of its own for each student",
            fix="give another folder, or delete this one to train again",
        )
    shutil.rmtree(out / WORK, ignore_errors=True)  # killed between the mark and the clearing up
    return done


def _check(out: Path, begun: str, rows: Sequence[Trace], now: Callable[[], Mapping[str, Any]]) -> None:
    """Refuse a folder that is neither free nor holds our own half-finished training."""
    mark = out / WORK / "begun"
    inside = sorted(path.name for path in out.iterdir()) if out.is_dir() else []
    if mark.is_file():
        before, _, then = mark.read_text("utf-8").partition("\n")
        if before == begun:
            return
        differing = _differing(json.loads(then or "{}"), now())
        raise StageError(
            f"{out} holds a half-finished training of other rows, settings or start{differing}",
            expected=f"the training of these {len(rows)} rows",
            fix="give another folder, or delete this one to begin anew",
        )
    if inside and inside != [WORK]:
        raise StageError(
            f"{out} is not empty ({', '.join(inside[:5])}) and was not begun by a training",
            expected="a folder that does not exist, is empty, or holds this training's checkpoints",
            fix="give another folder",
        )


@contextmanager
def _unclaimed(out: Path) -> Iterator[None]:
    """A folder whose training was refused by its objective, before the first checkpoint, is free for the next try."""
    try:
        yield
    except ConfigError:
        if processes.rank() == 0 and not last_checkpoint(out / WORK):
            shutil.rmtree(out / WORK, ignore_errors=True)
        raise


def _begin(out: Path, begun: str, told: Mapping[str, Any]) -> None:
    """Claim the folder: after all refusals, so that one of them does not keep the next try out."""
    mark = out / WORK / "begun"
    mark.parent.mkdir(parents=True, exist_ok=True)
    _write(mark, f"{begun}\n{json.dumps(told)}")


def _report(key: str, rendering: Rows, loop: Loop) -> Fit:
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


def _finish(out: Path, done: Fit, steps: Sequence[Mapping[str, float]], told: Mapping[str, Any]) -> None:
    """The report, what was measured at every step, and TensorBoard's files if there are any; then the work goes."""
    _write(out / STEPS, "".join(json.dumps(step) + "\n" for step in steps))
    if (out / WORK / RUNS).is_dir():
        (out / WORK / RUNS).replace(out / RUNS)
    _write(out / MARK, json.dumps({**dataclasses.asdict(done), "trained": told}, indent=1))
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
    gpus = [torch.cuda.current_device()] if torch.cuda.is_available() else []  # this process's, of all that it sees
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
