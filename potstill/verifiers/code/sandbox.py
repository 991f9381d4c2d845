"""Where foreign programs run: bubblewrap where it works, else namespaces of our own, else nowhere.

Both give the program a world of its own: the interpreter and its libraries read-only, an empty scratch folder of
bounded size, no network, no other process, no file and no variable of the user's. `inside/confine.py` adds limits and
a filter of system calls. Which one is used is tried out, once a process; POTSTILL_SANDBOX names one. A program that is
not confined can do whatever the user can: that has to be asked for in words (`TRUSTED`).
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any, NamedTuple

from potstill.errors import ConfigError

TRUSTED = "none-i-trust-this-code"
KINDS = ("bubblewrap", "namespaces")
VARIABLE = "POTSTILL_SANDBOX"
SCRATCH = "/scratch"

_INSIDE = Path(__file__).resolve().parent / "inside"
_IMPORT_ROOT = "/potstill-inside"  # the import path inside
_START_CODE = (
    "import sys; sys.path.insert(0, sys.argv[1]); from potstill.verifiers.code.inside import {module}; "
    "{module}.{function}(*map(int, sys.argv[2:]))"
)
# -P and not -I: the seed of hashes comes by the environment.
_PYTHON_OPTIONS = ("-P", "-s", "-S", "-B")
_TRIAL_PROGRAM = (
    "import json, random; open('/dev/null').read(); open('here', 'w').write('x'); print(6 * 7)"
)
_TRIAL_S = 30  # seconds
_DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random")
_LIBRARIES = ("/lib", "/lib64", "/lib32", "/usr/lib", "/usr/lib64", "/nix/store")
_FILES = ("/etc/ld.so.cache", "/usr/share/zoneinfo")
_SCRATCH_INODES = 4096
_ENVIRONMENT = MappingProxyType(
    {
        "PATH": "/nowhere",
        "HOME": SCRATCH,
        "TMPDIR": SCRATCH,
        "LANG": "C.UTF-8",
        "PYTHONHASHSEED": "0",  # one order of sets
        "MALLOC_ARENA_MAX": "1",  # threads that share one heap
    }
)
_FIX = (
    f"apt install bubblewrap (or dnf, pacman); on macOS and Windows run it in a Linux container or machine; or, to run "
    f"the programs with all your rights: {VARIABLE}={TRUSTED}"
)
# User ids that nobody has; each program of root's gets one of its own.
_HIGHEST_USER = 2_000_000_000
_USER_COUNT = 10_000
_user_numbers = count(os.getpid() * 64)
_choice_lock = threading.Lock()


class Limits(NamedTuple):
    """What one program may use."""

    seconds: int = 10  # of computing; RLIMIT_CPU knows whole seconds
    memory: int = 1 << 30  # bytes of address space
    output: int = 8 << 20  # bytes that it may print
    file: int = 16 << 20  # bytes of one file
    scratch: int = 64 << 20  # bytes of all files
    processes: int = 32  # threads: the filter of system calls leaves no further processes

    @property
    def wall(self) -> float:
        """Seconds on the clock: a busy machine must not change a verdict, and sleeping must end."""
        return 2.0 * self.seconds + 5.0


def choose_sandbox(kind: str | None = None) -> str:
    """Return the sandbox to use: the one that is named (here, or by the environment), else the first that works.

    Raises:
        ConfigError: none works, and nobody said in words that the programs are trusted.
    """
    named = kind or os.environ.get(VARIABLE, "")
    if named == TRUSTED:
        return TRUSTED
    if named and named not in KINDS:
        raise ConfigError(
            f"there is no sandbox {named!r}", available=(*KINDS, TRUSTED), wanted=named
        )
    obstacles: list[str] = []
    with _choice_lock:
        for name in [named] if named else KINDS:
            obstacle = sandbox_obstacle(name)
            if not obstacle:
                return name
            obstacles.append(f"{name}: {obstacle}")
    raise ConfigError(
        f"programs can't be confined here: {'; '.join(obstacles)}",
        expected="bubblewrap, or a Linux kernel that lets this user make namespaces",
        fix=_FIX,
    )


@functools.cache
def sandbox_obstacle(kind: str) -> str:
    """Say why a kind of sandbox does not work here, from trying it; "" where it does."""
    if not sys.platform.startswith("linux"):
        return f"{platform.system()} has no such thing"
    if kind == "bubblewrap" and not shutil.which("bwrap"):
        return "bwrap is not installed"
    content = {"limits": limits_of_job(Limits(), kind), "variants": [[_TRIAL_PROGRAM]]}
    try:
        with write_job(content) as job:
            command = sandbox_command(kind, "serve", "program", [job.fileno()])
            trial = subprocess.run(
                command,
                env={},
                pass_fds=[job.fileno()],
                capture_output=True,
                text=True,
                check=False,
                timeout=_TRIAL_S,
            )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)[:200]
    if trial.stdout == "42\n":
        return ""
    errors = trial.stderr.strip().splitlines() or [f"exit {trial.returncode}"]
    return errors[-1][:200]


def write_job(content: Mapping[str, Any]) -> IO[bytes]:
    """Write what a process inside is to do into a nameless file, which the caller closes."""
    file = tempfile.TemporaryFile()  # noqa: SIM115  the caller closes it
    file.write(json.dumps(content).encode("ascii"))
    file.seek(0)
    return file


def limits_of_job(limits: Limits, kind: str) -> dict[str, Any]:
    """Return limits as `inside/confine.py` takes them."""
    return {
        **limits._asdict(),
        "boxed": kind != TRUSTED,
        "user": _highest_user() - next(_user_numbers) % _USER_COUNT,
    }


@functools.cache
def _highest_user() -> int:
    """An id that nobody has: far up, or the last that a container knows."""
    with contextlib.suppress(OSError, ValueError):
        ends: list[int] = []
        for line in Path("/proc/self/uid_map").read_text("ascii").splitlines():
            first, _, size = line.split()
            ends.append(int(first) + int(size))
        return min(_HIGHEST_USER, max(ends) - 1)
    return _HIGHEST_USER


def sandbox_command(
    kind: str, module: str, function: str, fds: Sequence[int], limits: Limits = Limits()
) -> list[str]:
    """Return the command that runs a function of `inside` in a sandbox.

    Args:
        kind: the sandbox.
        module: a module of `inside`.
        function: a function of the module.
        fds: inherited file descriptors, which are the function's arguments.
        limits: how large the scratch folder may be.
    """
    # The interpreter starts inside with nothing but the function that it is to run.
    start_code = _START_CODE.format(module=module, function=function)
    python = [_python(), *_PYTHON_OPTIONS]
    start = [*python, "-X", "utf8", "-c", start_code]
    arguments = [str(fd) for fd in fds]
    if kind == TRUSTED:
        variables: list[str] = []
        for name, value in _ENVIRONMENT.items():
            if name not in ("HOME", "TMPDIR"):
                variables.append(f"{name}={value}")
        return ["/usr/bin/env", "-i", *variables, *start, str(_INSIDE.parents[3]), *arguments]
    command = [*start, _IMPORT_ROOT, *arguments]
    if kind == "bubblewrap":
        return [*_bubblewrap_command(limits), *command]
    return [*python, str(_INSIDE / "enter.py"), json.dumps(_namespaces_spec(limits)), *command]


def _namespaces_spec(limits: Limits) -> dict[str, Any]:
    """What `inside/enter.py` puts into the new root."""
    return {
        "binds": _read_only_binds(),
        "links": _root_links(),
        "empty": _hidden_folders(),
        "devices": _devices(),
        "scratch": SCRATCH,
        "size": limits.scratch,
        "inodes": _SCRATCH_INODES,
        "environment": dict(_ENVIRONMENT),
    }


def _bubblewrap_command(limits: Limits) -> list[str]:
    # Namespaces of its own, no capability but to become another user, no variable of ours.
    command = [shutil.which("bwrap") or "bwrap"]
    command += ["--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts"]
    if os.getuid() == 0:
        command += ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    else:
        command += ["--unshare-user", "--uid", "65534"]
    command += ["--die-with-parent", "--new-session", "--clearenv"]
    for name, value in _ENVIRONMENT.items():
        command += ["--setenv", name, value]
    # A root of read-only binds, links and empty folders; then the devices and the scratch folder.
    for folder in _parent_folders():
        command += ["--perms", "0755", "--dir", folder]  # bwrap's own would be root's alone
    for source, target in _read_only_binds():
        command += ["--ro-bind", source, target]
    for link, target in _root_links():
        command += ["--symlink", target, link]
    for folder in _hidden_folders():
        command += ["--size", "4096", "--tmpfs", folder, "--remount-ro", folder]
    for device in _devices():
        command += ["--dev-bind", device, device]
    command += ["--perms", "1777", "--size", str(limits.scratch), "--tmpfs", SCRATCH]
    return [*command, "--remount-ro", "/", "--chdir", SCRATCH, "--"]


def _python() -> str:
    """The interpreter itself, not a virtual environment's link to it."""
    return os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)


@functools.cache
def _read_only_binds() -> list[tuple[str, str]]:
    """What is seen inside, read-only: the interpreter, its library, shared libraries, and our own files there."""
    places = [Path(_python()), *map(Path, _LIBRARIES), *map(Path, _FILES)]
    places += [Path(sys.base_prefix) / "lib", Path(os.__file__).parent]
    paths = [str(place) for place in places if place.exists() and not place.is_symlink()]
    binds: list[tuple[str, str]] = []
    for path in dict.fromkeys(paths):
        # A path inside another one is seen with it.
        if not any(path != other and path.startswith(f"{other}/") for other in paths):
            binds.append((path, path))
    return [*binds, (str(_INSIDE), f"{_IMPORT_ROOT}/potstill/verifiers/code/inside")]


@functools.cache
def _parent_folders() -> list[str]:
    """Folders that must stand for something to be bound into them, outer ones first."""
    folders: set[str] = set()
    for target in [target for _, target in _read_only_binds()] + _devices():
        folders |= {str(parent) for parent in Path(target).parents}
    return sorted(folders - {"/"})


@functools.cache
def _root_links() -> list[tuple[str, str]]:
    """Links at the root with their targets, as /lib -> usr/lib, and /tmp."""
    links = [(path, os.readlink(path)) for path in _LIBRARIES if os.path.islink(path)]
    return [*links, ("/tmp", SCRATCH)]


@functools.cache
def _hidden_folders() -> list[str]:
    """Folders of installed packages: nothing imports them inside, and they may tell of the user's own work."""
    library = Path(os.__file__).parent
    places = [library / "site-packages", library / "dist-packages"]
    return [str(place) for place in places if place.is_dir() and not place.is_symlink()]


def _devices() -> list[str]:
    return [device for device in _DEVICES if os.path.exists(device)]
