"""Runs on this machine without isolation: in a fresh process, or in this one."""

from __future__ import annotations

import fcntl
import io
import math
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from typing import Any

from synthkit.contract import Declaration
from synthkit.errors import (
    ContainerFailedError,
    GpuUnavailableError,
    InterruptedRunError,
    OutOfMemoryError,
    RunTimeoutError,
    SynthkitError,
    UsageError,
)
from synthkit.files import create_exclusively
from synthkit.registry.provenance import gpu_visible
from synthkit.running.backends import EventFollower, OnEvent, finish, log_tail, prepare_attempt, result_left_by
from synthkit.running.run import LOG, Job, Run
from synthkit.running.signals import termination_as_interrupt

_POLL_SECONDS = 0.1
_GRACE_SECONDS = 20.0

#: What a container guarantees and a plain process does not, in the words of ``result.json``.
NOT_ISOLATED: dict[str, Any] = {
    "network": "host",
    "root_filesystem": "writable",
    "inputs": "not protected",
    "capabilities": "those of the caller",
    "no_new_privileges": False,
    "memory_limit_bytes": None,
    "pids_limit": None,
}


class LocalBackend:
    """A fresh process with this Python. Has the caller's rights; use it for code you trust."""

    name = "local"

    def check(self, declaration: Declaration, job: Job) -> None:
        if job.resources.memory_bytes is not None:
            raise UsageError(
                "--memory cannot be enforced by the local backend.",
                "A plain process has no memory limit of its own.",
                "Use --backend docker, or leave --memory out.",
            )
        check_gpus(declaration, job)

    def run(self, run: Run, declaration: Declaration, on_event: OnEvent) -> dict[str, Any]:
        job = run.job()
        prepare_attempt(run)
        follower = EventFollower(run, on_event)
        command = [sys.executable, "-m", "synthkit.running.verbs.execute", str(run.path)]
        code, error = supervise(run, command, _environment(job), follower, job.resources.timeout_seconds)
        if error is None and result_left_by(run) is None:
            error = died(code, run)
        return finish(run, self.name, dict(NOT_ISOLATED), follower.warnings, error=error)

    def command(self, run: Run, declaration: Declaration, job: Job) -> str:
        return shlex.join(["synthkit-run", str(run.path)])


class InlineBackend:
    """This process. For tests and debuggers: no time limit, and a crash of the method is a crash of the command."""

    name = "inline"

    def check(self, declaration: Declaration, job: Job) -> None:
        LocalBackend().check(declaration, job)

    def run(self, run: Run, declaration: Declaration, on_event: OnEvent) -> dict[str, Any]:
        from synthkit.running.verbs.execute import execute

        prepare_attempt(run)
        follower = EventFollower(run, on_event)
        with (
            io.TextIOWrapper(create_exclusively(run.path / LOG), encoding="utf-8") as log,
            redirect_stdout(log),
            redirect_stderr(log),
        ):
            execute(run.path)
        follower.drain()
        return finish(run, self.name, dict(NOT_ISOLATED), follower.warnings)

    def command(self, run: Run, declaration: Declaration, job: Job) -> str:
        return shlex.join(["synthkit-run", str(run.path)])


def supervise(
    run: Run,
    command: Sequence[str],
    environment: Mapping[str, str],
    follower: EventFollower,
    timeout_seconds: float | None,
) -> tuple[int, SynthkitError | None]:
    """Run ``command`` to its end: its log, its events, its time limit, the user's interrupt; nothing of it stays.

    Not even when this process is killed (on Linux): the run ends with it, and the next command has the folder alone.
    Returns its exit status (negative: the signal that ended it) and what the host knows of its end: time limit or
    interrupt, else None.
    """
    error: SynthkitError | None = None
    deadline = time.monotonic() + timeout_seconds if timeout_seconds else math.inf
    with create_exclusively(run.path / LOG) as log, _lifeline() as lifeline, termination_as_interrupt():
        # A session of its own, so that Ctrl-C reaches this process only, which then ends the run with grace.
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            pass_fds=(lifeline,),
            start_new_session=True,
        )
        try:
            _end_with_this_process(process, lifeline)
            while process.poll() is None:
                follower.poll()
                if time.monotonic() > deadline:
                    error = RunTimeoutError(
                        f"The run took longer than {timeout_seconds:g} s.",
                        "It was stopped at its time limit.",
                        "Raise --timeout and go on with --resume.",
                    )
                    _stop(process)
                    break
                time.sleep(_POLL_SECONDS)
        except KeyboardInterrupt:
            error = InterruptedRunError(
                "Interrupted.", "The run was stopped; what it had finished is kept.", "Go on with --resume."
            )
            try:
                _stop(process)
            except KeyboardInterrupt:
                _kill(process)
        finally:
            _kill(process)  # workers outlive a run that has died
    follower.drain()
    return process.returncode, error


@contextmanager
def _lifeline() -> Iterator[int]:
    """The reading end of a pipe of which this process alone has the writing end, so that both close with it."""
    reading, writing = os.pipe()
    try:
        yield reading
    finally:
        os.close(reading)
        os.close(writing)


def _end_with_this_process(process: subprocess.Popen[bytes], lifeline: int) -> None:
    """Have the kernel kill the run and its workers as soon as the pipe's writing end is closed.

    What fcntl(2) calls signal-driven I/O. It needs nothing of the run but the inherited descriptor, whatever code it is
    in; a "parent death signal" would reach neither its workers nor what Apptainer starts with other rights.
    """
    if sys.platform == "linux":
        fcntl.fcntl(lifeline, fcntl.F_SETOWN, -process.pid)
        fcntl.fcntl(lifeline, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(lifeline, fcntl.F_SETFL, os.O_ASYNC)


def visible_devices(gpus: str) -> str | None:
    """``CUDA_VISIBLE_DEVICES`` for ``--gpus``; None where it is left as it is.

    A scheduler's choice is narrowed, never widened to devices that it gave to others.
    """
    granted = os.environ.get("CUDA_VISIBLE_DEVICES")
    if gpus == "none":
        return ""
    if gpus.startswith("device="):
        return gpus.removeprefix("device=")
    if gpus.isdecimal():
        devices = [str(i) for i in range(int(gpus))] if granted is None else granted.split(",")
        return ",".join(devices[: int(gpus)])
    return granted


def check_gpus(declaration: Declaration, job: Job) -> None:
    """:class:`GpuUnavailableError` if this machine, or what its scheduler granted, has not the GPUs asked for."""
    if job.resources.gpus != "none" and declaration.gpu != "none" and not gpu_visible():
        raise GpuUnavailableError(
            f"--gpus {job.resources.gpus} cannot be given.",
            "This machine shows no NVIDIA device.",
            "Install the NVIDIA driver, or run on the CPU with --gpus none. `synthkit doctor` tells more.",
        )
    check_granted(declaration, job)


def check_granted(declaration: Declaration, job: Job) -> None:
    """:class:`GpuUnavailableError` if a scheduler has granted fewer GPUs than are asked for."""
    granted = os.environ.get("CUDA_VISIBLE_DEVICES")
    if granted is not None and job.resources.gpus.isdecimal() and declaration.gpu != "none":
        n_granted = len([device for device in granted.split(",") if device])
        if n_granted < int(job.resources.gpus):
            raise GpuUnavailableError(
                f"--gpus {job.resources.gpus} cannot be given.",
                f"CUDA_VISIBLE_DEVICES={granted} grants {n_granted}.",
                "Ask the scheduler for more, or ask for fewer here.",
            )


def _environment(job: Job) -> dict[str, str]:
    environment = {**os.environ, **job.resources.threads}
    devices = visible_devices(job.resources.gpus)
    if devices is not None:
        environment["CUDA_VISIBLE_DEVICES"] = devices
    environment["PYTHONUNBUFFERED"] = "1"
    # Threads that spin while they wait make torch 15 times slower on a machine that has other work to do.
    environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    return environment


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Ask first; after the grace, kill. Reaches the workers of the run as well."""
    _signal(process, signal.SIGTERM, whole_group=False)
    with suppress(subprocess.TimeoutExpired):
        process.wait(_GRACE_SECONDS)
    _kill(process)


def _kill(process: subprocess.Popen[bytes]) -> None:
    _signal(process, signal.SIGKILL, whole_group=True)
    process.wait()


def _signal(process: subprocess.Popen[bytes], number: signal.Signals, *, whole_group: bool) -> None:
    try:
        if whole_group:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
    except (ProcessLookupError, PermissionError):
        pass


def died(code: int, run: Run) -> SynthkitError:
    """What the end of a process that left no result means."""
    tail = log_tail(run)
    if code == -signal.SIGKILL:
        return OutOfMemoryError(
            "The run was killed by the system.",
            "Signal 9, not sent by synthkit: almost always the kernel, for want of memory.",
            "Lower the batch size, close other programs, or use a machine with more memory.",
            tail,
        )
    why = f"Signal {-code}." if code < 0 else f"Exit status {code}."
    return ContainerFailedError(
        "The run's process ended without a result.", why, f"The log may tell: {run.path / LOG}.", tail
    )
