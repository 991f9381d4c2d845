"""The last step before foreign code: resource limits, another user where we are root, and a filter of system calls.

The filter leaves threads but no new processes, no sockets to anywhere, no tracing, no mounts, no namespaces. It is a
second wall behind the namespaces, and there only where ctypes and the machine's numbers of system calls are known.
"""

from __future__ import annotations

import os
import resource
import sys
from typing import Any, NamedTuple

# Constants of Linux: what a filter answers, error numbers, a flag of clone, options of prctl.
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_EAGAIN, _EPERM, _ENOSYS = 11, 1, 38
_CLONE_THREAD = 0x00010000
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 38, 22, 2
_X32_CALLS = 0x40000000  # numbers from here on are x86-64's second table of system calls

# System calls by name: their numbers on x86-64 and arm64, None where the machine has no such call.
# fmt: off
_DENIED: dict[str, tuple[int | None, int | None]] = {
    "socket": (41, 198), "ptrace": (101, 117), "mount": (165, 40), "umount2": (166, 39),
    "pivot_root": (155, 41), "chroot": (161, 51), "unshare": (272, 97), "setns": (308, 268),
    "bpf": (321, 280), "keyctl": (250, 219), "add_key": (248, 217), "request_key": (249, 218),
    "perf_event_open": (298, 241), "userfaultfd": (323, 282), "io_uring_setup": (425, 425),
    "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "kexec_load": (246, 104),
    "init_module": (175, 105), "finit_module": (313, 273), "delete_module": (176, 106),
    "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430),
    "fsmount": (432, 432), "mount_setattr": (442, 442), "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438), "memfd_create": (319, 279), "shmget": (29, 194),
    "msgget": (68, 186), "semget": (64, 190), "mq_open": (240, 180), "quotactl": (179, 60),
}
# fmt: on
_FORKS: dict[str, tuple[int | None, int | None]] = {"fork": (57, None), "vfork": (58, None)}
_CLONE3: dict[str, tuple[int | None, int | None]] = {"clone3": (435, 435)}


class _Machine(NamedTuple):
    """A machine's column in the tables above, its number in the audit, and its number of clone."""

    column: int
    audit: int
    clone: int


_MACHINES = {
    "x86_64": _Machine(0, 0xC000003E, 56),
    "aarch64": _Machine(1, 0xC00000B7, 220),
}


def confine(limits: dict[str, Any]) -> None:
    """Set every limit; nothing of this can be taken back by what runs afterwards.

    Args:
        limits: `seconds`, `memory`, `file` and `processes`; `boxed`, whether a sandbox is around this process; `user`,
            the id to become where this process is root.
    """
    _set_limit("RLIMIT_CPU", limits["seconds"], limits["seconds"] + 1)
    _set_limit("RLIMIT_AS", limits["memory"])
    _set_limit("RLIMIT_FSIZE", limits["file"])
    _set_limit("RLIMIT_NOFILE", 256)
    _set_limit("RLIMIT_CORE", 0)
    _set_limit("RLIMIT_MEMLOCK", 0)
    if limits["boxed"]:
        _become_user(limits["user"])
        # Processes are counted per user, so after becoming one.
        _set_limit("RLIMIT_NPROC", limits["processes"])
        _filter_system_calls()
    sys.dont_write_bytecode = True


def _set_limit(name: str, soft: int, hard: int | None = None) -> None:
    """Set a limit by name, at most to its present ceiling; the hard limit is the soft one where it is not given."""
    which = getattr(resource, name, None)
    if which is None:
        return
    hard = soft if hard is None else hard
    ceiling = resource.getrlimit(which)[1]
    if ceiling != resource.RLIM_INFINITY:
        soft, hard = min(soft, ceiling), min(hard, ceiling)
    try:
        resource.setrlimit(which, (soft, hard))
    except (ValueError, OSError) as error:  # macOS knows some of these by name alone
        print(f"no {name}: {error}", file=sys.stderr)


def _become_user(user: int) -> None:
    """Root is not held to a number of processes, and owns too much."""
    if os.getuid() == 0:
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)


def _filter_system_calls() -> None:
    """Install the filter of system calls, where it can be."""
    machine = _MACHINES.get(os.uname().machine)
    try:
        import ctypes
        import struct
    except ImportError:
        return
    is_64_bit = sys.maxsize >= 1 << 32
    if machine is None or not sys.platform.startswith("linux") or not is_64_bit:
        return
    instructions = _filter_program(machine)
    program = b"".join(struct.pack("HBBI", *instruction) for instruction in instructions)
    libc = ctypes.CDLL(None, use_errno=True)
    code = ctypes.create_string_buffer(program, len(program))
    # struct sock_fprog: the number of instructions, padding, and where they are.
    header = ctypes.create_string_buffer(
        struct.pack("HxxxxxxP", len(instructions), ctypes.addressof(code))
    )
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(
        _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(header), 0, 0
    ):
        print(f"no filter of system calls: {os.strerror(ctypes.get_errno())}", file=sys.stderr)


def _filter_program(machine: _Machine) -> list[tuple[int, int, int, int]]:
    """The filter as BPF instructions: code, jump if true, jump if false, constant."""
    load, equal, at_least, has_bits, answer = 0x20, 0x15, 0x35, 0x45, 0x06
    call_offset, audit_offset, first_argument_offset = 0, 4, 16

    program: list[tuple[int, int, int, int]] = []
    # Calls of another machine's kind end the process, and so do the x32 calls of x86-64.
    program += [
        (load, 0, 0, audit_offset),
        (equal, 1, 0, machine.audit),
        (answer, 0, 0, _KILL),
        (load, 0, 0, call_offset),
        (at_least, 0, 1, _X32_CALLS),
        (answer, 0, 0, _KILL),
    ]
    for numbers, errno in ((_DENIED, _EPERM), (_FORKS, _EAGAIN), (_CLONE3, _ENOSYS)):
        for number_of_machine in numbers.values():
            number = number_of_machine[machine.column]
            if number is not None:
                program += [(equal, 0, 1, number), (answer, 0, 0, _ERRNO | errno)]
    # clone makes a thread, or nothing.
    program += [
        (equal, 0, 3, machine.clone),
        (load, 0, 0, first_argument_offset),
        (has_bits, 1, 0, _CLONE_THREAD),
        (answer, 0, 0, _ERRNO | _EAGAIN),
        (answer, 0, 0, _ALLOW),
    ]
    return program
