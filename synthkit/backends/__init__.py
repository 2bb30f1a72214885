"""Where a run executes. A backend makes the run folder appear somewhere and starts ``synthkit-run`` on it there.

``inline`` is this process (tests, debugging), ``local`` a fresh process with this Python, ``docker`` a hardened
container. They share what happens around: following events, the time limit, the interrupt, the final result.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from synthkit.contract import CONTRACT_VERSION, Declaration
from synthkit.errors import BackendUnavailableError, SynthkitError, UsageError
from synthkit.runs import EVENTS, LOG, Job, Run

Event = dict[str, Any]
OnEvent = Callable[[Event], None]

NAMES = ("docker", "local", "inline")


class Backend(Protocol):
    """One way of executing a run folder."""

    name: str

    def check(self, declaration: Declaration, job: Job) -> None:
        """Raise the error that a run would end with if it is plain beforehand: no engine, no image, no GPU."""
        ...

    def run(self, run: Run, declaration: Declaration, on_event: OnEvent) -> dict[str, Any]:
        """Execute the job, calling ``on_event`` for each event as it comes. Returns the final ``result.json``.

        The result is written whatever happens. An interrupt of the user ends the run with grace first; a second one
        kills it.
        """
        ...

    def command(self, run: Run, declaration: Declaration, job: Job) -> str:
        """The shell command that does about the same; shown by ``--dry-run``."""
        ...


def choose(name: str | None, declaration: Declaration, job: Job) -> Backend:
    """The backend asked for by ``--backend`` or ``SYNTHKIT_BACKEND``, else docker if it can run this job.

    Without a choice and without docker, both ways out are named: nothing falls back to running code unisolated.
    """
    asked = name or os.environ.get("SYNTHKIT_BACKEND") or None
    if asked is not None:
        backend = get(asked)
        backend.check(declaration, job)
        return backend
    backend = get("docker")
    try:
        backend.check(declaration, job)
    except BackendUnavailableError as error:
        raise BackendUnavailableError(
            error.what,
            error.why,
            f"{error.fix} Or run without isolation, in this Python: --backend local (or SYNTHKIT_BACKEND=local).",
        ) from error
    return backend


def get(name: str) -> Backend:
    """The backend called ``name``."""
    if name == "docker":
        from synthkit.backends.docker import DockerBackend

        return DockerBackend()
    if name == "local":
        from synthkit.backends.local import LocalBackend

        return LocalBackend()
    if name == "inline":
        from synthkit.backends.local import InlineBackend

        return InlineBackend()
    raise UsageError(f"There is no backend {name!r}.", f"There are: {', '.join(NAMES)}.", "Choose one with --backend.")


class EventFollower:
    """Reads ``events.jsonl`` as it grows. ``poll`` hands on the new whole lines; a half-written one waits."""

    def __init__(self, run: Run, on_event: OnEvent) -> None:
        self._path = run.path / EVENTS
        self._position = 0
        self._on_event = on_event
        self.warnings: list[str] = []

    def poll(self) -> None:
        try:
            # The run writes this file: a link or a pipe in its place must not lead the host elsewhere, or hold it.
            descriptor = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            with os.fdopen(descriptor, "rb") as file:
                file.seek(self._position)
                chunk = file.read()
        except OSError:
            return
        whole = chunk[: chunk.rfind(b"\n") + 1]
        self._position += len(whole)
        for line in whole.splitlines():
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if event.get("event") == "message" and event.get("level") == "warning":
                self.warnings.append(str(event.get("text")))
            self._on_event(event)


def prepare_attempt(run: Run) -> None:
    """Forget the result, events and log of an earlier attempt."""
    for name in (EVENTS, LOG, "result.json"):
        (run.path / name).unlink(missing_ok=True)


def finish(
    run: Run,
    backend: str,
    isolation: dict[str, Any],
    warnings: list[str],
    *,
    error: SynthkitError | None = None,
    container: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Complete ``result.json``: the one that the run left, or one that says why there is none.

    ``error`` is what the host knows better than the run (time limit, out of memory, a killed container) and wins
    over whatever the run wrote.
    """
    result = run.result() or {"contract": CONTRACT_VERSION, "status": "failed"}
    if error is not None:
        result.update(status="failed", exit_code=int(error.exit_code), error=error.to_dict())
    result.update(backend=backend, isolation=isolation, warnings=warnings)
    if container is not None:
        result["container"] = container
    run.write_result(result)
    return result


def log_tail(run: Run, lines: int = 8) -> list[str]:
    """The last lines of the run's log, for an error message."""
    path: Path = run.path / LOG
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 8192))
            return file.read().decode(errors="replace").splitlines()[-lines:]
    except OSError:
        return []
