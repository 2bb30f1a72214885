"""Runs on this machine without isolation: in a fresh process, or in this one."""

from __future__ import annotations

import io
import os
import shlex
import sys
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

from synthkit.contract import Declaration
from synthkit.errors import BackendUnavailableError, UsageError
from synthkit.files import create_exclusively
from synthkit.registry import provenance
from synthkit.running.backends.following import EventFollower, OnEvent
from synthkit.running.backends.gpus import check_gpus, visible_devices
from synthkit.running.backends.outcome import Attempt
from synthkit.running.backends.supervision import died, supervise
from synthkit.running.run import LOG, Job, Run

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
    lock_section = ""

    def check(self, declaration: Declaration, job: Job) -> None:
        if job.resources.memory_bytes is not None:
            raise UsageError(
                "--memory cannot be enforced by the local backend.",
                "A plain process has no memory limit of its own.",
                "Use --backend docker, or leave --memory out.",
            )
        check_gpus(declaration, job)

    def run(self, run: Run, declaration: Declaration, on_event: OnEvent) -> dict[str, Any]:
        attempt = Attempt(run, declaration)
        job = attempt.job
        follower = EventFollower(run, on_event)
        command = [sys.executable, "-m", "synthkit.running.verbs.execute", str(run.path)]
        code, error = supervise(attempt, command, _environment(job), follower)
        if error is None and attempt.result() is None:
            error = died(code, run)
        known = provenance.code((declaration,))
        return attempt.finish(self.name, dict(NOT_ISOLATED), follower.warnings, error=error, code=known)

    def command(self, run: Run, declaration: Declaration, job: Job) -> str:
        return shlex.join(["synthkit-run", str(run.path)])

    def limits_memory(self) -> bool:
        return False

    def pin(self, container: Mapping[str, Any], declaration: Declaration) -> None:
        raise BackendUnavailableError(
            f"The {self.name} backend has no container images.",
            f"The run ran in {container.get('image')}.",
            "Repeat it with the backend that it ran with, or with what is here: --current-image.",
        )


class InlineBackend(LocalBackend):
    """This process. For tests and debuggers: no time limit, and a crash of the method is a crash of the command."""

    name = "inline"

    def run(self, run: Run, declaration: Declaration, on_event: OnEvent) -> dict[str, Any]:
        from synthkit.running.verbs.execute import execute

        attempt = Attempt(run, declaration)
        follower = EventFollower(run, on_event)
        with (
            io.TextIOWrapper(create_exclusively(run.path / LOG), encoding="utf-8") as log,
            redirect_stdout(log),
            redirect_stderr(log),
        ):
            execute(run.path)
        follower.drain()
        return attempt.finish(self.name, dict(NOT_ISOLATED), follower.warnings)


def _environment(job: Job) -> dict[str, str]:
    environment = {**os.environ, **job.resources.threads}
    devices = visible_devices(job.resources.gpus)
    if devices is not None:
        environment["CUDA_VISIBLE_DEVICES"] = devices
    environment["PYTHONUNBUFFERED"] = "1"
    # Threads that spin while they wait make torch 15 times slower on a machine that has other work to do.
    environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    return environment
