"""The folder of a student: begun by one training at a time, resumed where it was left, finished by `fit.json`."""

from __future__ import annotations

import dataclasses
import errno
import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from potstill.errors import ConfigError, StageError, StoreError
from potstill.training.settings import FitResult
from potstill.training.trainer import last_checkpoint

MARK = "fit.json"
STEPS = "steps.jsonl"  # the monitors: one line a step
RUNS = "runs"
LOCK = "lock"
WORK = "training"  # inside the student's folder while it is made: the begun training's key and its checkpoints


def stored(out: Path, key: str, now: Callable[[], Mapping[str, Any]]) -> FitResult:
    """What a finished folder reports; refused where it is not the student that was asked for."""
    try:
        values = json.loads((out / MARK).read_text("utf-8"))
        then = values.pop("trained", {})
        stats = {name: tuple(ends) for name, ends in values.get("stats", {}).items()}
        done = FitResult(**{**values, "losses": tuple(values["losses"]), "stats": stats})
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


def check(out: Path, begun: str, rows: int, now: Callable[[], Mapping[str, Any]]) -> None:
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
            expected=f"the training of these {rows} rows",
            fix="give another folder, or delete this one to begin anew",
        )
    if inside and inside != [WORK]:
        raise StageError(
            f"{out} is not empty ({', '.join(inside[:5])}) and was not begun by a training",
            expected="a folder that does not exist, is empty, or holds this training's checkpoints",
            fix="give another folder",
        )


@contextmanager
def claimed(out: Path, begun: str, told: Mapping[str, Any]) -> Iterator[None]:
    """The right to train in a folder; it ends with the process, so what was killed never has to be unlocked.

    Taken after all refusals, so that one of them does not keep the next try out. A training that its objective refuses
    before the first checkpoint leaves the folder free.
    """
    mark = out / WORK / "begun"
    mark.parent.mkdir(parents=True, exist_ok=True)
    with (out / WORK / LOCK).open("a", encoding="ascii") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StageError(
                f"another process is training in {out}",
                expected="one training in a folder at a time",
                fix="wait until it has ended, or give another folder",
            ) from error
        except OSError as error:  # some network file systems know no locks
            if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
                raise
        if (out / MARK).is_file():
            shutil.rmtree(out / WORK, ignore_errors=True)
            raise StageError(
                f"another process has just trained {out}",
                fix="run the same command again to see it",
            )
        _write(mark, f"{begun}\n{json.dumps(told)}")
        try:
            yield
        except ConfigError:
            if not last_checkpoint(out / WORK):
                shutil.rmtree(out / WORK, ignore_errors=True)
            raise


def finish(
    out: Path, done: FitResult, steps: Sequence[Mapping[str, float]], told: Mapping[str, Any]
) -> None:
    """The report, what was measured at every step, and TensorBoard's files if there are any; then the work goes."""
    _write(out / STEPS, "".join(json.dumps(step) + "\n" for step in steps))
    if (out / WORK / RUNS).is_dir():
        (out / WORK / RUNS).replace(out / RUNS)
    _write(out / MARK, json.dumps({**dataclasses.asdict(done), "trained": told}, indent=1))
    shutil.rmtree(
        out / WORK, ignore_errors=True
    )  # NFS keeps the lock's folder until the lock is closed: see `stored`


def _differing(then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """The names whose values differ, in words; nothing where it is not known what was."""
    if not then:
        return ""
    names = [name for name in sorted({*then, *now}) if then.get(name) != now.get(name)]
    return f": {', '.join(_change(name, then, now) for name in names)}"


def _change(name: str, then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    if name in ("rows", "teacher_cache"):
        return f"other {name}"
    was, wanted = (str(values.get(name, "not given"))[:40] for values in (then, now))
    return f"{name} was {was}, now {wanted}"


def _write(path: Path, text: str) -> None:
    """Whole or not at all."""
    fresh = path.with_suffix(".part")
    fresh.write_text(text, "utf-8")
    os.replace(fresh, path)
