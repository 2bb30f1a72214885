"""What of a study is done, running, failed, waiting: read from the notes that its steps leave."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from synthkit.errors import ExitCode
from synthkit.study.plan import Plan, Step
from synthkit.study.step import digest_of_mark, lock_of, log_of, mark_of, record_of

State = Literal["done", "running", "failed", "interrupted", "changed", "waiting"]
STATES: tuple[State, ...] = ("done", "running", "failed", "interrupted", "changed", "waiting")


@dataclass(frozen=True)
class StepState:
    """A step and how it stands.

    ``changed``: done, but by another command, or before something that it reads was made anew: it will run again.
    ``seconds`` of its last attempt, ``exit_code`` of synthkit, ``error`` the last words of its log if it failed.
    """

    step: Step
    state: State
    seconds: float | None = None
    exit_code: int | None = None
    host: str = ""
    error: str = ""


def states_of(folder: Path, plan: Plan) -> list[StepState]:
    """The state of every step of ``plan`` in the folder of a study."""
    found: dict[str, StepState] = {}
    for step in plan.steps:
        found[step.name] = _state(folder, step, [found[name] for name in step.after if name in found])
    return list(found.values())


def _state(folder: Path, step: Step, before: list[StepState]) -> StepState:
    record = _read(folder / record_of(step.name))
    seconds, code, host = record.get("seconds"), record.get("exit_code"), str(record.get("host", ""))
    if record.get("status") == "running":
        # A step that was killed has left its note.
        running = _is_locked(folder / lock_of(step.name))
        return StepState(step, "running" if running else "interrupted", host=host)
    same = record.get("command") == list(step.command)
    if record.get("status") in ("failed", "interrupted") and same:
        state: State = "interrupted" if code == ExitCode.INTERRUPTED else "failed"
        return StepState(step, state, seconds, code, host, _last_words(folder / log_of(step.name)))
    mark = folder / mark_of(step.name)
    if record.get("status") != "done" or not mark.is_file():
        return StepState(step, "waiting" if not record else "changed", seconds, code, host)
    read = record.get("inputs", {})
    stale = not same or any(
        other.state == "changed" or read.get(other.step.name) != digest_of_mark(folder, other.step.name)
        for other in before
    )
    return StepState(step, "changed" if stale else "done", seconds, code, host)


def share_done(states: Sequence[StepState]) -> float | None:
    """How much of the work of a study is done, 0 to 1, by what its steps cost; None before one has ended.

    A step costs the GPU-hours that the plan gives it, if it gives all; else the seconds that it took, or that steps of
    its kind took on average, or all of them where none of its kind is done.
    """
    took = {item.step.name: item.seconds for item in states if item.state == "done" and item.seconds is not None}
    if not took:
        return None
    hours = [item.step.gpu_hours for item in states if item.step.gpu_hours is not None]
    if len(hours) == len(states) and sum(hours) > 0:
        costs = {item.step.name: item.step.gpu_hours or 0.0 for item in states}
    else:
        by_kind: dict[str, list[float]] = {}
        for item in states:
            if item.step.name in took:
                by_kind.setdefault(item.step.kind, []).append(took[item.step.name])
        every = fmean(took.values())
        kinds = {kind: fmean(seconds) for kind, seconds in by_kind.items()}
        costs = {item.step.name: took.get(item.step.name, kinds.get(item.step.kind, every)) for item in states}
    total = sum(costs.values())
    return sum(costs[name] for name in took) / total if total else None


def _is_locked(path: Path) -> bool:
    try:
        with path.open("r") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:  # held; or a file system without locks, where the note is believed
        return True
    return False


def _last_words(log: Path) -> str:
    """The error that the command printed last."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    found = [line.strip() for line in lines[-40:] if line.strip() and not line.startswith(("$ ", "  |"))]
    errors = [line for line in found if line.lower().startswith("error")]
    return (errors or found or [""])[-1][:300]


def _read(path: Path) -> Mapping[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}
