"""One training in a folder at a time."""

import errno
import os
import shutil
import subprocess
import sys

import child
import pytest

torch = pytest.importorskip("torch", reason="needs the extra potstill[local]")
from learning_rows import rows

from potstill.errors import StageError
from potstill.training import output_dir
from potstill.training.fit import fit
from potstill.training.settings import FIT_FILE, TrainingSettings
from potstill.training.student_key import StudentKey

ONE = TrainingSettings(max_steps=1)
HOLDER = """
import sys
from pathlib import Path
from potstill.training import output_dir
from potstill.training.student_key import StudentKey
with output_dir.claim(Path(sys.argv[1]), sys.argv[2], StudentKey({})):
    print("mine", flush=True)
    sys.stdin.read()
"""


@pytest.mark.slow
def test_a_second_training_is_refused_until_the_first_is_dead(
    tiny_checkpoint, tmp_path, monkeypatch
):
    out, begun = tmp_path / "out", []
    plain = output_dir.claim
    monkeypatch.setattr(
        output_dir, "claim", lambda out, name, told: begun.append(name) or plain(out, name, told)
    )
    fit(rows(), tiny_checkpoint, tmp_path / "other", ONE)
    command = [sys.executable, "-c", HOLDER, out, begun[0]]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with child.started(command, prepared=True, **pipes) as holder:
        assert holder.stdout.readline() == "mine\n"
        with pytest.raises(StageError, match="another process is training in"):
            fit(rows(), tiny_checkpoint, out, ONE)
        assert not (out / FIT_FILE).exists()
    assert fit(rows(), tiny_checkpoint, out, ONE).steps == 1


def test_what_another_process_has_just_trained_is_not_trained_again(tmp_path):
    (tmp_path / FIT_FILE).write_text("{}")
    with (
        pytest.raises(StageError, match="has just trained"),
        output_dir.claim(tmp_path, "key", StudentKey({})),
    ):
        raise AssertionError("it was let in")
    assert [path.name for path in tmp_path.iterdir()] == [FIT_FILE]


@pytest.mark.slow
@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EIO])
def test_file_systems_of_clusters(tiny_checkpoint, tmp_path, monkeypatch, code):
    """Without locks; and, as on NFS, no folder goes while a file in it is open."""
    left = []

    def locked(file, how):
        left.append(file)
        raise OSError(code, os.strerror(code))

    def removed(path, ignore_errors=False):
        if not left[0].closed and not ignore_errors:
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY))
        if left[0].closed:
            plain(path, ignore_errors)

    plain = shutil.rmtree
    monkeypatch.setattr(output_dir.fcntl, "lockf", locked)
    monkeypatch.setattr(output_dir.shutil, "rmtree", removed)
    if code == errno.EIO:
        with pytest.raises(OSError, match="Input/output"):
            fit(rows(), tiny_checkpoint, tmp_path / "out", ONE)
        return
    assert fit(rows(), tiny_checkpoint, tmp_path / "out", ONE).steps == 1
    assert not (tmp_path / "out" / output_dir.WORK_FOLDER).exists()
