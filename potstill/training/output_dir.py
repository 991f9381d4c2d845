"""The output_dir of a training: begun by one process at a time, resumed where it was left, finished by `fit.json`."""

from __future__ import annotations

import dataclasses
import errno
import fcntl
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from potstill.data.atomic_write import write_text
from potstill.errors import ConfigError, StageError, StoreError
from potstill.models.local import checkpoint
from potstill.training.rollout_log import ROLLOUTS_FILE
from potstill.training.settings import FIT_FILE, TOKENS_FILE, FitResult
from potstill.training.step_log import STEPS_FILE, step_line
from potstill.training.student_key import StudentKey
from potstill.training.trainer import last_checkpoint

TENSORBOARD_FOLDER = "runs"
WORK_FOLDER = "training"  # while the training lasts: its checkpoints, its lock, what was begun
LOCK_FILE = "lock"
BEGUN_FILE = "begun"  # the training's id, then the parts of its key
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # what network file systems without say


def read_result(output_dir: Path, key: StudentKey) -> FitResult:
    """The result of a finished training; refused where it is not of the student that was asked for."""
    path = output_dir / FIT_FILE
    try:
        values = json.loads(path.read_text("utf-8"))
        trained_parts = values.pop("trained", {})
        values.pop("start", None)  # see `check_start`
        values.pop("template", None)
        values["losses"] = tuple(values["losses"])
        values["stats"] = {name: tuple(ends) for name, ends in values.get("stats", {}).items()}
        values["prompts"] = tuple(values.get("prompts", ()))
        result = FitResult(**values)
    except (json.JSONDecodeError, TypeError, KeyError) as error:
        raise StoreError(
            f"{path} can't be read ({error})",
            expected="the report of a training",
            fix="delete the folder and run the same command again",
        ) from error
    if result.key != key.id:
        changes = describe_changes(trained_parts, key.parts)
        raise StageError(
            f"{output_dir} holds a student of other rows or settings{changes}",
            expected="a folder of its own for each student",
            fix="give another folder, or delete this one to train again",
        )
    # A process that was killed between the report and the clearing up has left it there.
    shutil.rmtree(output_dir / WORK_FOLDER, ignore_errors=True)
    return result


def check_start(output_dir: Path, start: Path) -> None:
    """Refuse a finished training that began from another checkpoint; unchecked where `start` is no longer there."""
    if not (start / "config.json").is_file():
        return
    trained_start = json.loads((output_dir / FIT_FILE).read_text("utf-8")).get("start")
    start_id = checkpoint.content_id(start)
    if trained_start not in (None, start_id):
        raise StageError(
            f"{output_dir} holds a student that was trained from another checkpoint than {start} "
            f"({trained_start[:12]}, not {start_id[:12]})",
            expected="a folder of its own for each student",
            fix="give another folder, or delete this one to train again",
        )


def check_free(output_dir: Path, training_id: str, row_count: int, key: StudentKey) -> None:
    """Refuse a folder that is neither free nor holds a half-finished training with the same id."""
    begun = output_dir / WORK_FOLDER / BEGUN_FILE
    names = sorted(path.name for path in output_dir.iterdir()) if output_dir.is_dir() else []
    if begun.is_file():
        begun_id, _, begun_parts = begun.read_text("utf-8").partition("\n")
        if begun_id == training_id:
            return
        changes = describe_changes(json.loads(begun_parts or "{}"), key.parts)
        raise StageError(
            f"{output_dir} holds a half-finished training of other rows, settings or start{changes}",
            expected=f"the training of these {row_count} rows",
            fix="give another folder, or delete this one to begin anew",
        )
    if names and names != [WORK_FOLDER]:
        raise StageError(
            f"{output_dir} is not empty ({', '.join(names[:5])}) and was not begun by a training",
            expected="a folder that does not exist, is empty, or holds this training's checkpoints",
            fix="give another folder",
        )


@contextmanager
def claim(output_dir: Path, training_id: str, key: StudentKey) -> Iterator[None]:
    """Hold the right to train in a folder; it ends with the process, so a killed one leaves nothing to unlock.

    To be taken after all refusals, so that one of them does not keep the next try out. A training that its objective
    refuses before the first checkpoint leaves the folder free.
    """
    work_folder = output_dir / WORK_FOLDER
    work_folder.mkdir(parents=True, exist_ok=True)
    with (work_folder / LOCK_FILE).open("a", encoding="ascii") as file:
        _lock(file, output_dir)
        if (output_dir / FIT_FILE).is_file():
            shutil.rmtree(work_folder, ignore_errors=True)
            raise StageError(
                f"another process has just trained {output_dir}",
                fix="run the same command again to see it",
            )
        write_text(work_folder / BEGUN_FILE, f"{training_id}\n{json.dumps(key.parts)}")
        try:
            yield
        except ConfigError:
            if not last_checkpoint(work_folder):
                shutil.rmtree(work_folder, ignore_errors=True)
            raise


def _lock(file: IO[str], output_dir: Path) -> None:
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise StageError(
            f"another process is training in {output_dir}",
            expected="one training in a folder at a time",
            fix="wait until it has ended, or give another folder",
        ) from error
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise


def finish(
    output_dir: Path,
    result: FitResult,
    steps: Sequence[Mapping[str, float]],
    key: StudentKey,
    *,
    start_id: str,
    template_digest: str,
) -> None:
    """Write steps.jsonl and fit.json, keep what the training wrote for its reader, then delete the working folder.

    That is tokens.parquet, rollouts.jsonl and TensorBoard's files.
    `fit.json` has the result, the parts of the key, the start's content id, and what its template renders.
    """
    write_text(output_dir / STEPS_FILE, "".join(step_line(step) for step in steps))
    work_folder = output_dir / WORK_FOLDER
    if (work_folder / TENSORBOARD_FOLDER).is_dir():
        (work_folder / TENSORBOARD_FOLDER).replace(output_dir / TENSORBOARD_FOLDER)
    for name in (TOKENS_FILE, ROLLOUTS_FILE):
        if (work_folder / name).is_file():
            (work_folder / name).replace(output_dir / name)
    report = {**dataclasses.asdict(result), "trained": key.parts, "start": start_id}
    report["template"] = template_digest
    write_text(output_dir / FIT_FILE, json.dumps(report, indent=1))
    # NFS keeps the folder while the lock is open: `read_result` deletes it then.
    shutil.rmtree(work_folder, ignore_errors=True)


def describe_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """The parts of a key that differ, in words; "" where it is not known what was."""
    if not before:
        return ""
    changes = []
    for name in sorted({*before, *now}):
        if before.get(name) == now.get(name):
            continue
        if name in ("rows", "teacher_cache"):
            changes.append(f"other {name}")
        else:
            was, is_now = str(before.get(name, "not given")), str(now.get(name, "not given"))
            changes.append(f"{name} was {was[:40]}, now {is_now[:40]}")
    return f": {', '.join(changes)}"
