"""Where a run executes. A backend makes the run folder appear somewhere and starts ``synthkit-run`` on it there.

``inline`` is this process (tests, debugging), ``local`` a fresh process with this Python, ``docker`` a hardened
container, ``apptainer`` a container without an engine. They share what happens around: following events, the time
limit, the interrupt, the final result.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Protocol

from synthkit.contract import CONTRACT_VERSION, Declaration
from synthkit.errors import (
    BackendUnavailableError,
    ContainerFailedError,
    DataError,
    ExitCode,
    SynthkitError,
    UsageError,
)
from synthkit.files import discard, open_untrusted
from synthkit.running.attempts import seconds_since
from synthkit.running.run import EVENTS, LOG, RESULT, Job, Run

Event = dict[str, Any]
OnEvent = Callable[[Event], None]

NAMES = ("docker", "apptainer", "local", "inline")


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

    Without a choice and without docker, the ways out are named: nothing falls back to running code unisolated.
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
            f"{error.fix} On a cluster with Apptainer: --backend apptainer. Or run without isolation, in this Python: "
            "--backend local (or SYNTHKIT_BACKEND=local).",
        ) from error
    return backend


def get(name: str) -> Backend:
    """The backend called ``name``."""
    if name == "docker":
        from synthkit.running.backends.docker import DockerBackend

        return DockerBackend()
    if name == "apptainer":
        from synthkit.running.backends.apptainer import ApptainerBackend

        return ApptainerBackend()
    if name == "local":
        from synthkit.running.backends.local import LocalBackend

        return LocalBackend()
    if name == "inline":
        from synthkit.running.backends.local import InlineBackend

        return InlineBackend()
    raise UsageError(f"There is no backend {name!r}.", f"There are: {', '.join(NAMES)}.", "Choose one with --backend.")


# What a method writes beyond this is not read: it must not fill the host's memory, nor hold it for long.
_EVENT_BYTES_AT_ONCE = 2**20
_MAX_CHUNKS_AT_THE_END = 64
_MAX_WARNINGS = 1000


class EventFollower:
    """Reads ``events.jsonl`` as it grows. ``poll`` hands on the new whole lines; a half-written one waits.

    The method may write there what it likes: lines that are not events are passed over.
    """

    def __init__(self, run: Run, on_event: OnEvent) -> None:
        self._path = run.path / EVENTS
        self._position = 0
        self._on_event = on_event
        self.warnings: list[str] = []

    def poll(self) -> bool:
        """Hand on what is new, up to a limit; returns whether there may be more."""
        try:
            with open_untrusted(self._path) as file:
                file.seek(self._position)
                chunk = file.read(_EVENT_BYTES_AT_ONCE)
        except OSError:
            return False
        full = len(chunk) == _EVENT_BYTES_AT_ONCE
        end = chunk.rfind(b"\n") + 1
        self._position += end or (len(chunk) if full else 0)
        for line in chunk[:end].splitlines():
            event = _event(line)
            if event is None:
                continue
            if event.get("level") == "warning" and len(self.warnings) < _MAX_WARNINGS:
                self.warnings.append(event["text"])
            self._on_event(event)
        return full

    def drain(self) -> None:
        """Hand on what is left when the run has ended."""
        for _ in range(_MAX_CHUNKS_AT_THE_END):
            if not self.poll():
                break


def _event(line: bytes) -> Event | None:
    """The event that a line holds, of the types that :mod:`synthkit.events` writes; None if it is none."""
    try:
        event = json.loads(line)
        if event["event"] == "message":
            return {**event, "level": str(event["level"]), "text": str(event["text"])}
        if event["event"] == "progress":
            total, values = event.get("total"), event.get("values") or {}
            return {
                **event,
                "step": _count(event["step"]),
                "total": None if total is None else _count(total),
                "unit": str(event.get("unit", "step")),
                "values": {name: float(value) for name, value in values.items()},
            }
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        pass
    return None


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**63:
        raise ValueError(f"{value!r} is not a count")
    return value


def prepare_attempt(run: Run) -> None:
    """Forget the result, events and log of an earlier attempt."""
    for name in (EVENTS, LOG, RESULT):
        discard(run.path / name)


def result_left_by(run: Run) -> dict[str, Any] | None:
    """The result that the run wrote, None if it wrote none. One that makes no sense becomes a failed one."""
    try:
        result = run.result()
        flaw = None if result is None else _flaw(result)
    except DataError as error:
        result, flaw = {}, error.why
    if flaw is None:
        return result
    failure = ContainerFailedError(
        "The run left a result that makes no sense.",
        f"{RESULT}: {flaw}",
        "Something else than synthkit wrote it: report it to the authors of the plugin.",
    )
    return {
        "contract": CONTRACT_VERSION,
        "status": "failed",
        "exit_code": int(failure.exit_code),
        "error": failure.to_dict(),
    }


def _flaw(result: Mapping[str, Any]) -> str | None:
    """What is wrong with the keys of a result that commands build on; None if they are sound."""
    status, code, error = result.get("status"), result.get("exit_code"), result.get("error")
    if status not in ("succeeded", "failed"):
        return f"the status is {status!r}."
    if type(code) is not int or code not in set(ExitCode):
        return f"the exit code is {code!r}."
    if status == "succeeded":
        if error is not None or code not in (ExitCode.OK, ExitCode.GATE_FAILED):
            return f"it succeeded, with exit code {code}."
    elif code == ExitCode.OK or not isinstance(error, dict):
        return "it failed and does not say why."
    elif not all(isinstance(error.get(key), str) for key in ("type", "what", "why", "fix")):
        return "its error is not in sentences."
    outputs, scores = result.get("outputs", {}), result.get("scores", [])
    if not isinstance(outputs, dict) or not all(isinstance(output, dict) for output in outputs.values()):
        return "its outputs are not a table."
    if not isinstance(scores, list) or not all(_is_score(score) for score in scores):
        return "its scores are not a list of scores."
    if not isinstance(result.get("verdict", {}), dict):
        return "its verdict is none."
    return None


def _is_score(score: Any) -> bool:
    if not isinstance(score, dict) or not isinstance(score.get("name"), str):
        return False
    numbers = (score.get(key) for key in ("value", "low", "high", "n"))
    return isinstance(score.get("of", {}), dict) and all(
        number is None or (isinstance(number, int | float) and math.isfinite(number)) for number in numbers
    )


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
    over whatever the run wrote. A run that left no result took the time since its job was made.
    """
    result = result_left_by(run)
    if result is None:
        result = {"contract": CONTRACT_VERSION, "status": "failed"}
        with suppress(DataError):  # the method may have spoilt its job
            created = run.job().created
            result.update(started=created, seconds=round(seconds_since(created), 3))
    if error is not None:
        result.update(status="failed", exit_code=int(error.exit_code), error=error.to_dict())
    result.update(backend=backend, isolation=isolation, warnings=warnings)
    if container is not None:
        result["container"] = container
    discard(run.path / RESULT)
    run.write_result(result)
    return result


def log_tail(run: Run, lines: int = 8) -> list[str]:
    """The last lines of the run's log, for an error message."""
    try:
        with open_untrusted(run.path / LOG) as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 8192))
            return file.read().decode(errors="replace").splitlines()[-lines:]
    except OSError:
        return []
