"""The system calls that a sandboxed program does not get: a classic BPF program, written by hand.

Refused calls return EPERM, or ENOSYS where a C library then falls back to an older call; a call by another
architecture's table (32-bit, x32) kills the process. Namespaces, mounts, tracing, keys, kernel facilities and
sockets are refused; so is memory that no process maps (memfd, System V shared memory), which the watch over resident
memory would not see. `socketpair` of AF_UNIX stays, for programs that talk to their own children.
"""

from __future__ import annotations

import errno
import platform
import struct

# name -> number by architecture, from the kernel's syscall tables (x86_64: syscall_64.tbl; aarch64: asm-generic).
_OLD: dict[str, tuple[int | None, int | None]] = {
    "socket": (41, 198),
    "shmget": (29, 194),
    "semget": (64, 190),
    "msgget": (68, 186),
    "ptrace": (101, 117),
    "syslog": (103, 116),
    "personality": (135, 92),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "acct": (163, 89),
    "settimeofday": (164, 170),
    "adjtimex": (159, 171),
    "mount": (165, 40),
    "umount2": (166, 39),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "reboot": (169, 142),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "iopl": (172, None),
    "ioperm": (173, None),
    "init_module": (175, 105),
    "delete_module": (176, 106),
    "quotactl": (179, 60),
    "clock_settime": (227, 112),
    "mbind": (237, 235),
    "set_mempolicy": (238, 237),
    "mq_open": (240, 180),
    "kexec_load": (246, 104),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "migrate_pages": (256, 238),
    "unshare": (272, 97),
    "move_pages": (279, 239),
    "perf_event_open": (298, 241),
    "fanotify_init": (300, 262),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "clock_adjtime": (305, 266),
    "setns": (308, 268),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "kcmp": (312, 272),
    "finit_module": (313, 273),
    "kexec_file_load": (320, 294),
    "bpf": (321, 280),
    "userfaultfd": (323, 282),
}
_SINCE_5_1 = {  # one number for all architectures
    "io_uring_setup": 425,
    "io_uring_enter": 426,
    "io_uring_register": 427,
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "fspick": 433,
    "pidfd_getfd": 438,
    "process_madvise": 440,
    "mount_setattr": 442,
    "quotactl_fd": 443,
}
_ABSENT = {"memfd_create": (319, 279), "memfd_secret": (447, 447), "clone3": (435, 435)}  # ENOSYS
_CLONE, _SOCKETPAIR = (56, 220), (53, 199)
_AUDIT_ARCH = (0xC000003E, 0xC00000B7)
_ARCHITECTURES = ("x86_64", "aarch64")

CLONE_NAMESPACES = 0x7E020000  # NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET
AF_UNIX = 1
X32_BIT = 0x40000000

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER_AT, _ARCH_AT, _ARGUMENT_0_AT = 0, 4, 16  # in struct seccomp_data; both architectures are little-endian
_KILL, _ERRNO, _ALLOW = 0x80000000, 0x00050000, 0x7FFF0000


def seccomp_filter(machine: str | None = None) -> bytes | None:
    """The compiled filter for `machine` (default: this one); None for an architecture whose numbers aren't here."""
    machine = machine or platform.machine()
    if machine not in _ARCHITECTURES:
        return None
    at = _ARCHITECTURES.index(machine)
    refused = [numbers[at] for numbers in _OLD.values()] + list(_SINCE_5_1.values())
    program = [
        _op(_LOAD, _ARCH_AT),
        _op(_EQUAL, _AUDIT_ARCH[at], then=1),
        _op(_RETURN, _KILL),
        _op(_LOAD, _NUMBER_AT),
        _op(_AT_LEAST, X32_BIT, otherwise=1),
        _op(_RETURN, _KILL),
    ]
    for number in refused:
        if number is not None:
            program += [_op(_EQUAL, number, otherwise=1), _op(_RETURN, _ERRNO | errno.EPERM)]
    for numbers in _ABSENT.values():
        program += [_op(_EQUAL, numbers[at], otherwise=1), _op(_RETURN, _ERRNO | errno.ENOSYS)]
    program += [
        _op(_EQUAL, _CLONE[at], otherwise=4),
        _op(_LOAD, _ARGUMENT_0_AT),
        _op(_ANY_BIT, CLONE_NAMESPACES, otherwise=1),
        _op(_RETURN, _ERRNO | errno.EPERM),
        _op(_RETURN, _ALLOW),
        _op(_EQUAL, _SOCKETPAIR[at], otherwise=3),
        _op(_LOAD, _ARGUMENT_0_AT),
        _op(_EQUAL, AF_UNIX, then=1),
        _op(_RETURN, _ERRNO | errno.EPERM),
        _op(_RETURN, _ALLOW),
    ]
    return b"".join(program)


def _op(code: int, k: int, *, then: int = 0, otherwise: int = 0) -> bytes:
    """One struct sock_filter; `then` and `otherwise` are how many instructions a jump skips."""
    return struct.pack("<HBBI", code, then, otherwise, k)
