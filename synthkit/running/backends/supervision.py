"""A process on this machine that is a run, or holds one: started, followed, and ended with all of its workers."""

from __future__ import annotations

import fcntl
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from synthkit.errors import (
    ContainerFailedError,
    InterruptedRunError,
    OutOfMemoryError,
    SynthkitError,
)
from synthkit.running.backends.following import EventFollower
from synthkit.running.backends.kept_log import KeptLog
from synthkit.running.backends.limits import Limits
from synthkit.running.backends.outcome import Attempt, log_tail
from synthkit.running.run import LOG, Run
from synthkit.running.signals import termination_as_interrupt

_POLL_SECONDS = 0.1
_GRACE_SECONDS = 20.0
_LOG_SECONDS = 2.0
#: In the environment of a run, and of all that it starts: by it a process is known that has left the run's session.
_MARK = "SYNTHKIT_RUN_MARK"
_ROUNDS = 5


def supervise(
    attempt: Attempt, command: Sequence[str], environment: Mapping[str, str], follower: EventFollower
) -> tuple[int, SynthkitError | None]:
    """Run ``command`` to its end: its log, its events, its limits, the user's interrupt; nothing of it stays.

    Not even when this process is killed (on Linux): the run ends with it, and the next command has the folder alone.
    Returns its exit status (negative: the signal that ended it) and what the host knows of its end: a limit or an
    interrupt, else None.
    """
    error: SynthkitError | None = None
    log = KeptLog(attempt.run.path / LOG)
    limits = Limits(attempt, follower, log)
    reading, writing = os.pipe()
    copying = threading.Thread(target=log.copy, args=(reading,), daemon=True, name="run-log")
    copying.start()
    mark = secrets.token_hex(16)
    with _lifeline() as lifeline, termination_as_interrupt():
        try:
            # A session of its own, so that Ctrl-C reaches this process only, which then ends the run with grace.
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=writing,
                stderr=subprocess.STDOUT,
                env={**environment, _MARK: mark},
                pass_fds=(lifeline,),
                start_new_session=True,
            )
        finally:
            os.close(writing)
        try:
            _end_with_this_process(process, lifeline)
            while process.poll() is None:
                follower.poll()
                if limits.over():
                    error = limits.error
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
    if left := _end_those_who_left(mark):
        follower.warnings.append(f"Processes that the method started had left the run, and were ended: {left}.")
    copying.join(_LOG_SECONDS)  # a process that has left the run's session may still hold the other end
    log.close()
    if copying.is_alive():
        follower.warnings.append(
            "A process that the method started has left the run and goes on; it may still write to the folder."
        )
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


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Ask first; after the grace, kill. Reaches the workers of the run as well."""
    _signal(process, signal.SIGTERM, whole_group=False)
    with suppress(subprocess.TimeoutExpired):
        process.wait(_GRACE_SECONDS)
    _kill(process)


def _kill(process: subprocess.Popen[bytes]) -> None:
    _signal(process, signal.SIGKILL, whole_group=True)
    process.wait()


def _end_those_who_left(mark: str) -> int:
    """Kill the processes of a run that are not in its session any more (on Linux); returns how many there were.

    One that has begun another program with an empty environment is not known by it.
    """
    killed: set[int] = set()
    for _ in range(_ROUNDS):  # they may start others meanwhile
        found = {int(path.parent.name) for path in Path("/proc").glob("[0-9]*/environ") if _holds(path, mark)} - killed
        if not found:
            break
        for number in found:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(number, signal.SIGKILL)
        killed |= found
    return len(killed)


def _holds(environment: Path, mark: str) -> bool:
    try:
        return f"{_MARK}={mark}".encode() in environment.read_bytes()
    except OSError:  # it has ended, or is somebody else's
        return False


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
