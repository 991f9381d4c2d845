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

# Constants of Linux, by their names there: flags of unshare, of mount and statvfs, options of umount2 and prctl.
_CLONE_NEWNS, _CLONE_NEWUTS, _CLONE_NEWIPC = 1 << 17, 1 << 26, 1 << 27
_CLONE_NEWUSER, _CLONE_NEWPID, _CLONE_NEWNET = 1 << 28, 1 << 29, 1 << 30
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 1, 2, 4, 8
_MS_REMOUNT, _MS_NOATIME, _MS_NODIRATIME, _MS_BIND = 32, 1024, 2048, 4096
_MS_REC, _MS_PRIVATE, _MS_RELATIME = 1 << 14, 1 << 18, 1 << 21
_ST_RELATIME = 4096
_MNT_DETACH = 2
_PR_SET_PDEATHSIG = 1
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}

_STAGE = "/proc"  # where the new root is put together: nothing that is bound lies below it
NOBODY = 65534

_libc = ctypes.CDLL(None, use_errno=True)


def main(spec: dict[str, Any], command: list[str]) -> None:
    """Enter, run, and end as the command ended."""
    user, group = os.getuid(), os.getgid()
    namespaces = _CLONE_NEWNS | _CLONE_NEWUTS | _CLONE_NEWIPC | _CLONE_NEWPID | _CLONE_NEWNET
    if user:
        namespaces |= _CLONE_NEWUSER
    _check(_libc.unshare(namespaces), "unshare")
    if user:
        # Not 0 inside: what is executed there then has no capability.
        _write_self("setgroups", "deny")
        _write_self("uid_map", f"{NOBODY} {user} 1")
        _write_self("gid_map", f"{NOBODY} {group} 1")

    # The first fork is process 1 of the new process namespace.
    parent = os.getpid()
    child = os.fork()
    if child:
        _exit_as_child(child)
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() not in (0, parent):  # 0: a parent outside our process namespace
        os._exit(1)
    os.setsid()
    _build_root(spec)

    child = os.fork()
    if child:
        _exit_as_child(child)
    os.execve(command[0], command, spec["environment"])


def _write_self(name: str, text: str) -> None:
    with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
        file.write(text)


def _exit_as_child(child: int) -> None:
    """Wait, then exit as the child did; a signal becomes 128 and its number, as in a shell."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    while True:
        ended, status = os.wait()
        if ended == child:
            code = os.waitstatus_to_exitcode(status)
            os._exit(code if code >= 0 else 128 - code)


def _build_root(spec: dict[str, Any]) -> None:
    """Build the new root and make it the only one."""
    _mount(None, "/", None, _MS_REC | _MS_PRIVATE)
    _mount("tmpfs", _STAGE, "tmpfs", _MS_NOSUID | _MS_NODEV, "size=1m,mode=755")
    for source, target in spec["binds"]:
        _bind(source, f"{_STAGE}{target}")
    for link, target in spec["links"]:
        os.makedirs(os.path.dirname(f"{_STAGE}{link}"), exist_ok=True)
        os.symlink(target, f"{_STAGE}{link}")
    for folder in spec["empty"]:
        _mount("tmpfs", f"{_STAGE}{folder}", "tmpfs", _MS_RDONLY, "size=4k")
    for device in spec["devices"]:
        _bind(device, f"{_STAGE}{device}", writable=True)
    scratch = f"{_STAGE}{spec['scratch']}"
    os.makedirs(scratch, exist_ok=True)
    options = f"size={spec['size']},nr_inodes={spec['inodes']},mode=1777"
    _mount("tmpfs", scratch, "tmpfs", _MS_NOSUID | _MS_NODEV, options)

    # The root itself is read-only from here on; then it takes the old root's place, which is let go.
    _mount(None, _STAGE, None, _MS_REMOUNT | _MS_BIND | _MS_RDONLY | _MS_NOSUID | _MS_NODEV)
    os.chdir(_STAGE)
    _check(_libc.syscall(_PIVOT_ROOT[platform.machine()], b".", b"."), "pivot_root")
    _check(_libc.umount2(b".", _MNT_DETACH), "umount")
    os.chdir(spec["scratch"])


def _bind(source: str, target: str, *, writable: bool = False) -> None:
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        # An empty file is the place for the mount.
        with contextlib.suppress(FileExistsError), open(target, "x", encoding="ascii"):
            pass
    _mount(source, target, None, _MS_BIND | _MS_REC)
    if writable:
        return
    # A remount must name the flags that the mount has, or the kernel refuses it.
    present = os.statvfs(target).f_flag
    flags = present & (_MS_NOSUID | _MS_NODEV | _MS_NOEXEC | _MS_NOATIME | _MS_NODIRATIME)
    if present & _ST_RELATIME:
        flags |= _MS_RELATIME
    read_only = _MS_REMOUNT | _MS_BIND | _MS_RDONLY | _MS_NOSUID | _MS_NODEV
    _mount(None, target, None, read_only | flags)


def _mount(source: str | None, target: str, kind: str | None, flags: int, data: str = "") -> None:
    result = _libc.mount(
        _encode_path(source),
        _encode_path(target),
        _encode_path(kind),
        ctypes.c_ulong(flags),
        data.encode() or None,
    )
    _check(result, f"mount {target.removeprefix(_STAGE)}")


def _encode_path(text: str | None) -> bytes | None:
    return None if text is None else os.fsencode(text)


def _check(result: int, action: str) -> None:
    if result:
        raise OSError(ctypes.get_errno(), f"{action}: {os.strerror(ctypes.get_errno())}")


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), sys.argv[2:])
