"""What the processes of a training must have in common, checked before the first step: they may be on several machines.

A machine that sees another folder, other rows or another checkpoint would train something else, or wait for ever for a
file that only the first process has written.
"""

from __future__ import annotations

import hashlib
import socket
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch.distributed import DistError

from potstill.errors import StageError
from potstill.training import distributed
from potstill.training.output_dir import describe_changes
from potstill.training.settings import FIT_FILE

FOLDER_WAIT_S = 60.0  # a network file system may show a new file that late
POLL_S = 0.05
# What a plain RuntimeError says where gloo has lost a process.
LOST_SIGNS = ("/gloo/", "Connection closed by peer", "Connection reset by peer")


def check_same_folder(output_dir: Path) -> None:
    """Refuse processes that do not all see the output folder of the first one.

    The others look for a file that the first one names: the `fit.json` of a finished student, or else a file of a
    random name that it writes into the folder, or into the nearest one above that is there.
    """
    if distributed.process_count() == 1:
        return
    places = (output_dir.absolute(), *output_dir.absolute().parents)
    depth, name = 0, FIT_FILE
    marker: Path | None = None
    if distributed.process_rank() == 0 and not (output_dir / FIT_FILE).is_file():
        depth = next(number for number, place in enumerate(places) if place.is_dir())
        name = f".potstill-{uuid.uuid4().hex}"
        marker = places[depth] / name
        marker.write_text(name, "ascii")
    try:
        # When the name comes, the file is there. Each process looks where its own --out says.
        depth, name = distributed.of_first_process((depth, name))
        own_sign = places[min(depth, len(places) - 1)] / name
        digests = distributed.gather_objects(_digest_when_there(own_sign))
    finally:
        if marker is not None:
            marker.unlink(missing_ok=True)
    own_places = distributed.gather_objects(socket.gethostname())
    for rank, digest in enumerate(digests):
        if digest != digests[0]:
            raise StageError(
                f"{output_dir} is another folder in {_process_name(rank, own_places)} "
                f"than in {_process_name(0, own_places)}, which has written a file there",
                expected="one folder for all processes; on several machines on a shared file system (NFS, Lustre, …)",
                fix="give --out a path that is mounted at the same place on all machines",
            )


def check_same_training(parts: Mapping[str, Any]) -> None:
    """Refuse processes that were given other rows, settings or checkpoints than the first one.

    Args:
        parts: what decides the student, by name.
    """
    if distributed.process_count() == 1:
        return
    parts_of_all = distributed.gather_objects(dict(parts))
    own_places = distributed.gather_objects(socket.gethostname())
    for rank, other_parts in enumerate(parts_of_all):
        if other_parts != parts_of_all[0]:
            changes = describe_changes(parts_of_all[0], other_parts)
            raise StageError(
                f"{_process_name(rank, own_places)} would train another student than "
                f"{_process_name(0, own_places)}{changes}",
                expected="the same command, rows and checkpoints in all processes",
                fix="give paths on a shared file system, or copy the same files to every machine",
            )


@contextmanager
def explain_lost_process() -> Iterator[None]:
    """Say that another process has ended, where this one notices it by its broken connection."""
    try:
        yield
    except RuntimeError as error:  # torch's DistError is one too
        is_lost = any(sign in str(error) for sign in LOST_SIGNS) or isinstance(error, DistError)
        if distributed.process_count() == 1 or not is_lost:
            raise
        raise StageError(
            f"process {distributed.process_rank()} on {socket.gethostname()} has lost its connection to the others: "
            f"{str(error).splitlines()[0][:200]}",
            expected=f"{distributed.process_count()} processes until the training ends",
            fix="see what the other machines printed; the same command on all of them goes on from the last checkpoint",
        ) from error


def wait_for_folder(folder: Path) -> None:
    """Return when a folder of the first process's is seen here too: a network file system may be late."""
    deadline = time.monotonic() + FOLDER_WAIT_S
    while not folder.is_dir():
        if time.monotonic() > deadline:
            raise StageError(
                f"{folder} is not seen on {socket.gethostname()} after {FOLDER_WAIT_S:g} s",
                expected="a checkpoint that the first process sees, on a shared file system",
                fix="run the same command again; if that does not help, look at the file system of this machine",
            )
        time.sleep(POLL_S)


def _digest_when_there(path: Path) -> str:
    """The digest of a file's content; "" where it does not come."""
    deadline = time.monotonic() + FOLDER_WAIT_S
    while not path.is_file():
        if time.monotonic() > deadline:
            return ""
        time.sleep(POLL_S)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _process_name(rank: int, places: list[str]) -> str:
    return f"process {rank} on {places[rank]}"
