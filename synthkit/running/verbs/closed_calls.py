"""System calls that a run has no use for, closed to its process before anything of a plugin is imported.

Engines differ in what their seccomp profile leaves open: those before Docker 25 (2024) allow io_uring, some before 23
sockets of the host's hypervisor (AF_VSOCK), those before 2026 the kernel's ciphers (AF_ALG); Apptainer has no profile.
All of these were ways out of a container. A filter of the process itself is laid over whatever profile there is: it can
only forbid more, binds every thread and child, and cannot be taken off again (seccomp(2)). An image whose entry point
is not ``synthkit-run`` goes without it.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import struct
import sys

_NO_NEW_PRIVILEGES, _SET_FILTER, _ALL_THREADS = 38, 1, 1  # prctl(2), seccomp(2)
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000 | errno.EPERM
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06  # of the filter's machine, linux/bpf_common.h
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data, little-endian

# The numbers of calls differ: the architecture as the kernel names it, seccomp(2), socket(2).
_MACHINES = {"x86_64": (0xC000003E, 317, 41), "aarch64": (0xC00000B7, 277, 198)}
_IO_URING = (425, 426, 427)
_FAMILIES = (40, 38)  # AF_VSOCK, AF_ALG
_OTHER_ABI = 0x40000000  # numbers from here on are the same calls once more, of x32


def close_calls() -> bool:
    """Forbid io_uring and sockets AF_VSOCK and AF_ALG to this process and its children, with EPERM, for good.

    Returns whether that is in force: False where the machine or its kernel has no such filters. Programs of 32 bits
    are refused every call.
    """
    machine = _MACHINES.get(platform.machine())
    if sys.platform != "linux" or machine is None:
        return False
    architecture, seccomp, socket = machine
    program = _program(architecture, socket)
    code = ctypes.create_string_buffer(program, len(program))
    head = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) != 0:
        return False
    return bool(libc.syscall(seccomp, _SET_FILTER, _ALL_THREADS, head) == 0)


def _program(architecture: int, socket: int) -> bytes:
    """The filter: instructions ``(code, operand, where to go if true, if false)``."""
    lines = [
        (_LOAD, _ARCHITECTURE, "next", "next"),
        (_EQUAL, architecture, "next", "refuse"),
        (_LOAD, _NUMBER, "next", "next"),
        (_AT_LEAST, _OTHER_ABI, "refuse", "next"),
        *((_EQUAL, number, "refuse", "next") for number in _IO_URING),
        (_EQUAL, socket, "next", "allow"),
        (_LOAD, _FIRST_ARGUMENT, "next", "next"),
        *((_EQUAL, family, "refuse", "next") for family in _FAMILIES),
        (_RETURN, _ALLOW, "next", "next"),
        (_RETURN, _REFUSE, "next", "next"),
    ]
    program = b""
    for place, (code, operand, true, false) in enumerate(lines):
        left = len(lines) - place - 1  # instructions after this one
        steps = {"next": 0, "allow": left - 2, "refuse": left - 1}
        program += struct.pack("HBBI", code, steps[true], steps[false], operand)
    return program
