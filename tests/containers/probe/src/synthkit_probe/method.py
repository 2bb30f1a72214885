"""What :class:`Params.action` says."""

from __future__ import annotations

import ctypes
import getpass
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import synthkit
from synthkit import Row, Score

JOB = Path("/job")


def score(*, metrics: Sequence[str], params: Any, reference: Any) -> Iterator[Score | Row]:
    print(f"action {params.action}", flush=True)
    synthkit.progress(1, 2, unit="action")
    if params.action == "look":
        for name, value in look(Path(reference.folder)).items():
            yield Row(table="facts", values={"name": name, "value": json.dumps(value)})
    elif params.action == "allocate":
        kept = []
        for _ in range(params.megabytes):
            kept.append(bytearray(os.urandom(1 << 20)))
    elif params.action in ("sleep", "stubborn"):
        if params.action == "stubborn":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        synthkit.message("asleep")
        time.sleep(params.seconds)
    elif params.action == "hush":
        # Closing what is printed to must not look like the end of the run.
        os.close(1)
        os.close(2)
        time.sleep(params.seconds)
    elif params.action == "exit":
        print("last words", flush=True)
        os._exit(3)
    elif params.action == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    else:
        {"forge": forge, "traps": traps, "fill": fill, "flood": flood, "attach": attach}[params.action]()
    yield Score(name="done", value=1.0)


def forge() -> None:
    """A complete result of one's own, and the end."""
    result = {"contract": 1, "status": "succeeded", "exit_code": 0, "error": None, "outputs": {}, "scores": []}
    (JOB / "result.json").write_text(json.dumps({**result, "versions": {"synthkit-core": "9.9.9"}}))
    os._exit(0)


def traps() -> None:
    """What the host must not open."""
    outputs = JOB / "outputs"
    (outputs / "link").symlink_to("/etc/passwd")
    os.mkfifo(outputs / "pipe.csv")
    with (outputs / "hole").open("wb") as file:
        file.truncate(2**40)
    shutil.copy("/bin/sh", outputs / "shell")
    (outputs / "shell").chmod(0o6755)


def fill() -> None:
    """All of the disk."""
    with (JOB / "outputs" / "full").open("wb") as file:
        while True:
            file.write(bytes(1 << 20))
            file.flush()
            time.sleep(0.01)


def flood() -> None:
    """Lines and warnings without end."""
    for number in range(40):
        print(f"{number} " + (1 << 20) * "x", flush=True)
    for number in range(5000):
        synthkit.message(f"\x1b[2Jwarning {number}", level="warning")


def attach() -> None:
    """Hold on to the first process, which then does not end."""
    libc = ctypes.CDLL(None, use_errno=True)
    print("attached", libc.ptrace(16, 1, 0, 0))
    if os.fork() == 0:
        os.setsid()
        print("attached", libc.ptrace(16, 1, 0, 0), flush=True)
        time.sleep(600)
        os._exit(0)


def look(reference: Path) -> dict[str, Any]:
    """Facts about the container; for what is tried, "done" or why not."""
    status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":\t" in line)
    shm, tmp = os.statvfs("/dev/shm"), os.statvfs("/tmp")
    return {
        "uid": os.getuid(),
        "gid": os.getgid(),
        "user": getpass.getuser(),
        "capabilities": [status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")],
        "no_new_privileges": status["NoNewPrivs"],
        "seccomp": status["Seccomp"],
        "interfaces": sorted(path.name for path in Path("/sys/class/net").iterdir()),
        "connect": tried(lambda: socket.create_connection(("192.0.2.1", 80), timeout=3)),
        "resolve": tried(lambda: socket.getaddrinfo("example.org", 80)),
        "environment": dict(os.environ),
        "shm_bytes": shm.f_frsize * shm.f_blocks,
        "tmp_bytes": tmp.f_frsize * tmp.f_blocks,
        "write root": tried(lambda: Path("/probe").write_text("x")),
        "write code": tried(lambda: Path(synthkit.__file__).with_name("probe.txt").write_text("x")),
        "write job": tried(lambda: Path("/job/job.json").write_text("{}")),
        "replace job": tried(lambda: Path("/job/job.json").unlink()),
        "write input": tried(lambda: (reference / "probe.txt").write_text("x")),
        "write beside inputs": tried(lambda: Path("/job/inputs/probe.txt").write_text("x")),
        "unlink lock": tried(lambda: (JOB / ".lock").unlink()),
        "write device": tried(lambda: Path("/dev/probe").write_text("x")),
        "write outputs": tried(lambda: Path("/job/outputs/probe.txt").write_text("x")),
        "write tmp": tried(lambda: Path("/tmp/probe.txt").write_text("x")),
        "execute from tmp": tried(_execute_from_tmp),
        "mount": tried(lambda: subprocess.run(["mount", "-o", "remount,rw", "/"], check=True, capture_output=True)),
        "socket to the hypervisor": tried(lambda: socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)),
        "socket to ciphers": tried(lambda: socket.socket(socket.AF_ALG, socket.SOCK_SEQPACKET)),
        "io_uring": tried(_io_uring),
        "inputs": sorted(path.name for path in reference.iterdir()),
        "first process": Path("/proc/1/comm").read_text().strip(),
        "python": sys.version,
    }


def _io_uring() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(425, 1, ctypes.create_string_buffer(120)) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _execute_from_tmp() -> None:
    script = Path("/tmp/script")
    script.write_text("#!/bin/sh\nexit 0\n")
    script.chmod(0o755)
    subprocess.run([str(script)], check=True)


def tried(action: Any) -> str:
    try:
        action()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "done"
