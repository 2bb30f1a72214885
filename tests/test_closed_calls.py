"""What a run's process may not call is closed to it, to its threads and to its children; the rest is not."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64"), reason="no filters of system calls here"
)

LOOK = """
import ctypes, errno, os, socket, subprocess, sys, threading
from synthkit.running.verbs.closed_calls import close_calls

def tried(action):
    try:
        action()
    except OSError as error:
        return errno.errorcode[error.errno]
    return "done"

def ring(number):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(number, 1, ctypes.create_string_buffer(120)) < 0:
        raise OSError(ctypes.get_errno(), "io_uring")

def look():
    return [tried(lambda: socket.socket(family, socket.SOCK_STREAM).close()) for family in (40, 1, 2)] + [
        tried(lambda: socket.socket(38, socket.SOCK_SEQPACKET).close()),
        *(tried(lambda: ring(n)) for n in (425, 426, 427)),
    ]

begun, go, seen = threading.Event(), threading.Event(), []
thread = threading.Thread(target=lambda: (begun.set(), go.wait(), seen.append(look())))
thread.start(); begun.wait()
assert close_calls()
go.set(); thread.join()
print(look()); print(seen[0])
if len(sys.argv) == 1:
    print(subprocess.run([sys.executable, __file__, "child"], capture_output=True, text=True).stdout.splitlines()[0])
"""


def test_calls_are_closed_for_good(tmp_path: Path) -> None:
    script = tmp_path / "look.py"
    script.write_text(LOOK)
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    closed = ["EPERM", "done", "done", "EPERM", "EPERM", "EPERM", "EPERM"]
    assert done.stdout.splitlines() == [str(closed)] * 3
