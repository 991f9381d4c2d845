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
_BOX = "/potstill-inside"  # the import path inside
_START = (
    "import sys; sys.path.insert(0, sys.argv[1]); from potstill.verifiers.code.inside import {module}; "
    "{module}.{function}(*map(int, sys.argv[2:]))"
)
_TRIAL = "import json, random; open('/dev/null').read(); open('here', 'w').write('x'); print(6 * 7)"
_DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random")
_LIBRARIES = ("/lib", "/lib64", "/lib32", "/usr/lib", "/usr/lib64", "/nix/store")
_FILES = ("/etc/ld.so.cache", "/usr/share/zoneinfo")
_ENVIRONMENT = MappingProxyType(
    {
        **{"PATH": "/nowhere", "HOME": SCRATCH, "TMPDIR": SCRATCH, "LANG": "C.UTF-8"},
        **{
            "PYTHONHASHSEED": "0",
            "MALLOC_ARENA_MAX": "1",
        },  # one order of sets; threads that share one heap
    }
)
_FIX = (
    f"apt install bubblewrap (or dnf, pacman); on macOS and Windows run it in a Linux container or machine; or, to run "
    f"the programs with all your rights: {VARIABLE}={TRUSTED}"
)
_USERS = 2_000_000_000
_users = count(os.getpid() * 64)
_choosing = threading.Lock()


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


def chosen(kind: str | None = None) -> str:
    """The sandbox to use: the one that is named (here, or by the environment), else the first that works.

    Raises:
        ConfigError: where none works, and nobody said in words that the programs are trusted.
    """
    named = kind or os.environ.get(VARIABLE, "")
    if named == TRUSTED:
        return TRUSTED
    if named and named not in KINDS:
        raise ConfigError(
            f"there is no sandbox {named!r}", available=(*KINDS, TRUSTED), wanted=named
        )
    with _choosing:
        found = {name: works(name) for name in ([named] if named else KINDS)}
    for name, why in found.items():
        if not why:
            return name
    raise ConfigError(
        "programs can't be confined here: "
        + "; ".join(f"{name}: {why}" for name, why in found.items()),
        expected="bubblewrap, or a Linux kernel that lets this user make namespaces",
        fix=_FIX,
    )


@functools.cache
def works(kind: str) -> str:
    """Why a kind of sandbox does not work here, from trying it; "" where it does."""
    if not sys.platform.startswith("linux"):
        return f"{platform.system()} has no such thing"
    if kind == "bubblewrap" and not shutil.which("bwrap"):
        return "bwrap is not installed"
    try:
        with job({"limits": limits_of(Limits(), kind), "variants": [[_TRIAL]]}) as file:
            command = program(kind, "serve", "program", [file.fileno()])
            done = subprocess.run(
                command,
                env={},
                pass_fds=[file.fileno()],
                capture_output=True,
                text=True,
                check=False,
                timeout=30,
            )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)[:200]
    return (
        ""
        if done.stdout == "42\n"
        else (done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1][:200]
    )


def job(content: Mapping[str, Any]) -> IO[bytes]:
    """A nameless file that holds what a process inside is to do."""
    file = tempfile.TemporaryFile()  # noqa: SIM115  the caller closes it
    file.write(json.dumps(content).encode("ascii"))
    file.seek(0)
    return file


def limits_of(limits: Limits, kind: str) -> dict[str, Any]:
    """Limits as `confine` takes them; each program of root's gets a user id of its own."""
    return {
        **limits._asdict(),
        "boxed": kind != TRUSTED,
        "user": _highest_user() - next(_users) % 10_000,
    }


@functools.cache
def _highest_user() -> int:
    """An id that nobody has: far up, or the last that a container knows."""
    with contextlib.suppress(OSError, ValueError):
        spans = [
            line.split() for line in Path("/proc/self/uid_map").read_text("ascii").splitlines()
        ]
        return min(_USERS, max(int(first) + int(size) for first, _, size in spans) - 1)
    return _USERS


def program(
    kind: str, module: str, function: str, fds: Sequence[int], limits: Limits = Limits()
) -> list[str]:
    """The command that runs a function of `inside` in a sandbox, with inherited file descriptors as its arguments."""
    start = _START.format(module=module, function=function)
    options = [
        "-P",
        "-s",
        "-S",
        "-B",
        "-X",
        "utf8",
    ]  # not -I: the seed of hashes comes by the environment
    python = _python()
    if kind == TRUSTED:
        root = str(_INSIDE.parents[3])
        variables = [
            f"{name}={value}"
            for name, value in _ENVIRONMENT.items()
            if name not in ("HOME", "TMPDIR")
        ]
        return [
            "/usr/bin/env",
            "-i",
            *variables,
            python,
            *options,
            "-c",
            start,
            root,
            *map(str, fds),
        ]
    command = [python, *options, "-c", start, _BOX, *map(str, fds)]
    if kind == "bubblewrap":
        return [*_bwrap(limits), *command]
    spec = {
        **{"binds": _binds(), "links": _links(), "empty": _hidden(), "devices": _devices()},
        **{
            "scratch": SCRATCH,
            "size": limits.scratch,
            "inodes": 4096,
            "environment": dict(_ENVIRONMENT),
        },
    }
    return [python, "-P", "-s", "-S", "-B", str(_INSIDE / "enter.py"), json.dumps(spec), *command]


def _bwrap(limits: Limits) -> list[str]:
    root = os.getuid() == 0
    user = (
        ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
        if root
        else ["--unshare-user", "--uid", "65534"]
    )
    command = [
        shutil.which("bwrap") or "bwrap",
        "--unshare-pid",
        "--unshare-net",
        "--unshare-ipc",
        "--unshare-uts",
    ]
    command += [*user, "--die-with-parent", "--new-session", "--clearenv"]
    for name, value in _ENVIRONMENT.items():
        command += ["--setenv", name, value]
    for parent in _parents():
        command += ["--perms", "0755", "--dir", parent]  # bwrap's own would be root's alone
    for source, target in _binds():
        command += ["--ro-bind", source, target]
    for target, to in _links():
        command += ["--symlink", to, target]
    for target in _hidden():
        command += ["--size", "4096", "--tmpfs", target, "--remount-ro", target]
    for device in _devices():
        command += ["--dev-bind", device, device]
    command += ["--perms", "1777", "--size", str(limits.scratch), "--tmpfs", SCRATCH]
    return [*command, "--remount-ro", "/", "--chdir", SCRATCH, "--"]


def _python() -> str:
    """The interpreter itself, not a virtual environment's link to it."""
    return os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)


@functools.cache
def _binds() -> list[tuple[str, str]]:
    """What is seen inside, read-only: the interpreter, its library, shared libraries, and our own files there."""
    python = Path(_python())
    shared = Path(sys.base_prefix) / "lib"
    places = [python, *(Path(p) for p in (*_LIBRARIES, *_FILES)), shared, Path(os.__file__).parent]
    real = [str(p) for p in places if p.exists() and not p.is_symlink()]
    outer = [
        p for p in dict.fromkeys(real) if not any(p != o and p.startswith(f"{o}/") for o in real)
    ]
    return [(p, p) for p in outer] + [(str(_INSIDE), f"{_BOX}/potstill/verifiers/code/inside")]


@functools.cache
def _parents() -> list[str]:
    """Folders that must stand for something to be bound into them, outer ones first."""
    targets = [target for _, target in _binds()] + list(_devices())
    return sorted({str(parent) for target in targets for parent in Path(target).parents} - {"/"})


@functools.cache
def _links() -> list[tuple[str, str]]:
    """Links at the root, as /lib -> usr/lib, and /tmp."""
    found = [(p, os.readlink(p)) for p in _LIBRARIES if os.path.islink(p)]
    return [*found, ("/tmp", SCRATCH)]


@functools.cache
def _hidden() -> list[str]:
    """Folders of installed packages: nothing imports them inside, and they may tell of the user's own work."""
    library = Path(os.__file__).parent
    places = [library / "site-packages", library / "dist-packages"]
    return [str(place) for place in places if place.is_dir() and not place.is_symlink()]


def _devices() -> list[str]:
    return [device for device in _DEVICES if os.path.exists(device)]
