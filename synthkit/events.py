"""Progress and messages of a running method, as lines of ``events.jsonl`` that the host follows live.

A method calls :func:`progress` wherever it likes; outside a run the call does nothing, so the same code
works in a notebook.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import IO

# A progress call may sit in the innermost loop: at most this many lines a second are written.
_MAX_EVENTS_PER_SECOND = 10.0


class EventLog:
    """Appends events to one file. Safe to lose: it informs, and no result depends on it.

    ``outputs`` is the folder that the run writes in, if there is one.
    """

    def __init__(self, file: IO[str], outputs: Path | None = None) -> None:
        self.outputs = outputs
        self._file = file
        self._last = -1.0

    def progress(self, step: int, total: int | None, values: dict[str, float], unit: str) -> None:
        now = time.monotonic()
        final = total is not None and step >= total
        if not final and now - self._last < 1.0 / _MAX_EVENTS_PER_SECOND:
            return
        self._last = now
        self._write({"event": "progress", "step": step, "total": total, "unit": unit, "values": values})

    def message(self, text: str, level: str) -> None:
        self._write({"event": "message", "level": level, "text": text})

    def _write(self, event: dict[str, object]) -> None:
        self._file.write(json.dumps({"time": time.time(), **event}) + "\n")
        self._file.flush()


_current: ContextVar[EventLog | None] = ContextVar("synthkit_event_log", default=None)


@contextmanager
def logging_to(path: Path) -> Iterator[EventLog]:
    """Send all events of the block to ``path`` (JSON lines, appended), which lies in the run's folder."""
    with path.open("a", encoding="utf-8") as file:
        log = EventLog(file, path.parent / "outputs")
        token = _current.set(log)
        try:
            yield log
        finally:
            _current.reset(token)


def progress(step: int, total: int | None = None, *, unit: str = "step", **values: float) -> None:
    """Report that ``step`` of ``total`` is done, with any numbers worth watching (``loss=0.3``).

    ``unit`` is what is counted, in the singular ("sample", "kimg", "epoch"). Cheap enough for an inner
    loop: lines are rate-limited, the last step is always written.
    """
    log = _current.get()
    if log is not None:
        log.progress(int(step), None if total is None else int(total), {k: float(v) for k, v in values.items()}, unit)


def message(text: str, *, level: str = "info") -> None:
    """Tell the user something in words; ``level`` is "info" or "warning". Warnings are kept in the result."""
    log = _current.get()
    if log is not None:
        log.message(text, level)


def outputs() -> Path | None:
    """The run's ``outputs`` folder, for what informs beside the result (snapshots, statistics); None outside a run."""
    log = _current.get()
    return None if log is None or log.outputs is None or not log.outputs.is_dir() else log.outputs
