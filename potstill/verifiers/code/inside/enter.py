"""Into namespaces without bubblewrap: a script of its own, run by a fresh interpreter as `enter.py SPEC COMMAND…`.

New user (unless root), mount, process, network, IPC and host-name namespaces; a root of nothing but read-only binds and
a scratch folder of bounded size; the old root is unmounted. A first process waits outside, a second is process 1 inside
(it reaps, and its end ends all), the third becomes the command.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import platform
import signal
import sys
from typing import Any

_NEW_NS, _NEW_UTS, _NEW_IPC, _NEW_USER, _NEW_PID, _NEW_NET = (
    1 << n for n in (17, 26, 27, 28, 29, 30)
)
_READ_ONLY, _NO_SUID, _NO_DEV, _NO_EXEC, _REMOUNT, _BIND, _REC, _PRIVATE = (
    1,
    2,
    4,
    8,
    32,
    4096,
    16384,
    1 << 18,
)
_NO_ATIME, _NO_DIR_ATIME, _RELATIME, _ST_RELATIME = 1024, 2048, 1 << 21, 4096
_DETACH, _DIE_WITH_PARENT = 2, 1
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_STAGE = "/proc"  # where the new root is put together: nothing that is bound lies below it
NOBODY = 65534

_libc = ctypes.CDLL(None, use_errno=True)


def main(spec: dict[str, Any], command: list[str]) -> None:
    """Enter, run, and end as the command ended."""
    user, group = os.getuid(), os.getgid()
    spaces = _NEW_NS | _NEW_UTS | _NEW_IPC | _NEW_PID | _NEW_NET
    _try(_libc.unshare(spaces if user == 0 else spaces | _NEW_USER), "unshare")
    if user:  # not 0 inside: what is executed there then has no capability
        for name, text in (
            ("setgroups", "deny"),
            ("uid_map", f"{NOBODY} {user} 1"),
            ("gid_map", f"{NOBODY} {group} 1"),
        ):
            with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
                file.write(text)
    parent = os.getpid()
    child = os.fork()
    if child:
        _as(child)
    _libc.prctl(_DIE_WITH_PARENT, signal.SIGKILL, 0, 0, 0)
    if os.getppid() not in (0, parent):  # 0: a parent outside our process namespace
        os._exit(1)
    os.setsid()
    _furnish(spec)
    child = os.fork()
    if child:
        _as(child)
    os.execve(command[0], command, spec["environment"])


def _as(child: int) -> None:
    """Wait, then exit as the child did; a signal becomes 128 and its number, as in a shell."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        signal.signal(getattr(signal, name), signal.SIG_DFL)
    while True:
        ended, status = os.wait()
        if ended == child:
            code = os.waitstatus_to_exitcode(status)
            os._exit(code if code >= 0 else 128 - code)


def _furnish(spec: dict[str, Any]) -> None:
    """Build the new root and make it the only one."""
    _mount(None, "/", None, _REC | _PRIVATE)
    _mount("tmpfs", _STAGE, "tmpfs", _NO_SUID | _NO_DEV, "size=1m,mode=755")
    for source, target in spec["binds"]:
        _bind(source, f"{_STAGE}{target}")
    for target, to in spec["links"]:
        os.makedirs(os.path.dirname(f"{_STAGE}{target}"), exist_ok=True)
        os.symlink(to, f"{_STAGE}{target}")
    for target in spec["empty"]:
        _mount("tmpfs", f"{_STAGE}{target}", "tmpfs", _READ_ONLY, "size=4k")
    for device in spec["devices"]:
        _bind(device, f"{_STAGE}{device}", writable=True)
    scratch = f"{_STAGE}{spec['scratch']}"
    os.makedirs(scratch, exist_ok=True)
    _mount(
        "tmpfs",
        scratch,
        "tmpfs",
        _NO_SUID | _NO_DEV,
        f"size={spec['size']},nr_inodes={spec['inodes']},mode=1777",
    )
    _mount(None, _STAGE, None, _REMOUNT | _BIND | _READ_ONLY | _NO_SUID | _NO_DEV)
    os.chdir(_STAGE)
    _try(_libc.syscall(_PIVOT_ROOT[platform.machine()], b".", b"."), "pivot_root")
    _try(_libc.umount2(b".", _DETACH), "umount")
    os.chdir(spec["scratch"])


def _bind(source: str, target: str, *, writable: bool = False) -> None:
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with contextlib.suppress(FileExistsError), open(target, "x", encoding="ascii"):
            pass  # a place for the mount
    _mount(source, target, None, _BIND | _REC)
    if not writable:
        flags = os.statvfs(target).f_flag
        kept = flags & (_NO_SUID | _NO_DEV | _NO_EXEC | _NO_ATIME | _NO_DIR_ATIME)
        kept |= _RELATIME if flags & _ST_RELATIME else 0
        _mount(None, target, None, _REMOUNT | _BIND | _READ_ONLY | _NO_SUID | _NO_DEV | kept)


def _mount(source: str | None, target: str, kind: str | None, flags: int, data: str = "") -> None:
    def path(text: str | None) -> bytes | None:
        return None if text is None else os.fsencode(text)

    done = _libc.mount(
        path(source), path(target), path(kind), ctypes.c_ulong(flags), data.encode() or None
    )
    _try(done, f"mount {target.removeprefix(_STAGE)}")


def _try(result: int, what: str) -> None:
    if result:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), sys.argv[2:])
