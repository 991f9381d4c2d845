"""The last step before foreign code: resource limits, another user where we are root, and a filter of system calls.

The filter leaves threads but no new processes, no sockets to anywhere, no tracing, no mounts, no namespaces. It is a
second wall behind the namespaces, and there only where ctypes and the machine's numbers of system calls are known.
"""

from __future__ import annotations

import os
import resource
import sys
from typing import Any

_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_EAGAIN, _EPERM, _ENOSYS = 11, 1, 38
_CLONE_THREAD = 0x00010000
_NO_NEW_PRIVS, _SECCOMP, _FILTER = 38, 22, 2

# name: (x86-64, arm64); None where the machine has no such call.
_DENIED: dict[str, tuple[int | None, int | None]] = {
    **{
        "socket": (41, 198),
        "ptrace": (101, 117),
        "mount": (165, 40),
        "umount2": (166, 39),
        "pivot_root": (155, 41),
    },
    **{
        "chroot": (161, 51),
        "unshare": (272, 97),
        "setns": (308, 268),
        "bpf": (321, 280),
        "keyctl": (250, 219),
    },
    **{
        "add_key": (248, 217),
        "request_key": (249, 218),
        "perf_event_open": (298, 241),
        "userfaultfd": (323, 282),
    },
    **{
        "io_uring_setup": (425, 425),
        "process_vm_readv": (310, 270),
        "process_vm_writev": (311, 271),
    },
    **{
        "kexec_load": (246, 104),
        "init_module": (175, 105),
        "finit_module": (313, 273),
        "delete_module": (176, 106),
    },
    **{
        "open_tree": (428, 428),
        "move_mount": (429, 429),
        "fsopen": (430, 430),
        "fsmount": (432, 432),
    },
    **{
        "pidfd_open": (434, 434),
        "pidfd_getfd": (438, 438),
        "mount_setattr": (442, 442),
        "memfd_create": (319, 279),
    },
    **{
        "shmget": (29, 194),
        "msgget": (68, 186),
        "semget": (64, 190),
        "mq_open": (240, 180),
        "quotactl": (179, 60),
    },
}
_FORKS = {"fork": (57, None), "vfork": (58, None)}
_MACHINES = {
    "x86_64": (0, 0xC000003E, 56),
    "aarch64": (1, 0xC00000B7, 220),
}  # column, audit number, clone


def confine(limits: dict[str, Any]) -> None:
    """Set every limit; nothing of this can be taken back by what runs afterwards.

    Args:
        limits: seconds, memory, file, processes, and `user`: the id to become where this process is root.
    """
    hard = {
        "RLIMIT_CPU": (limits["seconds"], limits["seconds"] + 1),
        "RLIMIT_AS": (limits["memory"],) * 2,
        "RLIMIT_FSIZE": (limits["file"],) * 2,
        "RLIMIT_NOFILE": (256, 256),
        "RLIMIT_CORE": (0, 0),
        "RLIMIT_MEMLOCK": (0, 0),
    }
    for name, pair in hard.items():
        _limit(name, pair)
    if limits["boxed"]:
        _become(limits["user"])
        _limit(
            "RLIMIT_NPROC", (limits["processes"],) * 2
        )  # counted per user, so after becoming one
        _filter()
    sys.dont_write_bytecode = True


def _limit(name: str, pair: tuple[int, int]) -> None:
    which = getattr(resource, name, None)
    if which is None:
        return
    ceiling = resource.getrlimit(which)[1]
    soft, hard = (
        value if ceiling == resource.RLIM_INFINITY else min(value, ceiling) for value in pair
    )
    try:
        resource.setrlimit(which, (soft, hard))
    except (ValueError, OSError) as error:  # macOS knows some of these by name alone
        print(f"no {name}: {error}", file=sys.stderr)


def _become(user: int) -> None:
    """Root is not held to a number of processes, and owns too much."""
    if os.getuid() == 0:
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)


def _filter() -> None:
    """Install the filter of system calls, where it can be."""
    machine = _MACHINES.get(os.uname().machine)
    try:
        import ctypes
        import struct
    except ImportError:
        return
    if machine is None or not sys.platform.startswith("linux") or sys.maxsize < 1 << 32:
        return
    steps = _program(*machine)
    program = b"".join(struct.pack("HBBI", *step) for step in steps)
    libc = ctypes.CDLL(None, use_errno=True)
    code = ctypes.create_string_buffer(program, len(program))
    head = ctypes.create_string_buffer(
        struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(code))
    )
    if libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(
        _SECCOMP, _FILTER, ctypes.byref(head), 0, 0
    ):
        print(f"no filter of system calls: {os.strerror(ctypes.get_errno())}", file=sys.stderr)


def _program(column: int, audit: int, clone: int) -> list[tuple[int, int, int, int]]:
    """The filter as BPF: (code, jump if true, jump if false, constant) each."""
    load, equal, at_least, bits, answer = 0x20, 0x15, 0x35, 0x45, 0x06
    steps: list[tuple[int, int, int, int]] = [
        (load, 0, 0, 4),
        (equal, 1, 0, audit),
        (answer, 0, 0, _KILL),
    ]
    steps += [
        (load, 0, 0, 0),
        (at_least, 0, 1, 0x40000000),
        (answer, 0, 0, _KILL),
    ]  # the x32 calls of x86-64
    for numbers, errno in ((_DENIED, _EPERM), (_FORKS, _EAGAIN), ({"clone3": (435, 435)}, _ENOSYS)):
        for pair in numbers.values():
            number = pair[column]
            if number is not None:
                steps += [(equal, 0, 1, number), (answer, 0, 0, _ERRNO | errno)]
    steps += [
        (equal, 0, 3, clone),
        (load, 0, 0, 16),
        (bits, 1, 0, _CLONE_THREAD),
        (answer, 0, 0, _ERRNO | _EAGAIN),
    ]
    return [*steps, (answer, 0, 0, _ALLOW)]
