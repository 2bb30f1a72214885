"""The events of a run, read while it writes them. The method may write there what it likes."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from synthkit.files import open_untrusted
from synthkit.running.run import EVENTS, Run

Event = dict[str, Any]
OnEvent = Callable[[Event], None]

# What a method writes beyond this is not read: it must not fill the host's memory, nor hold it for long.
_EVENT_BYTES_AT_ONCE = 2**20
_MAX_CHUNKS_AT_THE_END = 64
_MAX_WARNINGS = 1000


class EventFollower:
    """Reads ``events.jsonl`` as it grows. ``poll`` hands on the new whole lines; a half-written one waits.

    The method may write there what it likes: lines that are not events are passed over.

    Attributes
    ----------
    position : bytes that have been read.
    warnings : of the method, in their order; the first 1000.
    """

    def __init__(self, run: Run, on_event: OnEvent) -> None:
        self._path = run.path / EVENTS
        self.position = 0
        self._on_event = on_event
        self.warnings: list[str] = []

    def poll(self) -> bool:
        """Hand on what is new, up to a limit; returns whether there may be more."""
        try:
            with open_untrusted(self._path) as file:
                file.seek(self.position)
                chunk = file.read(_EVENT_BYTES_AT_ONCE)
        except OSError:
            return False
        full = len(chunk) == _EVENT_BYTES_AT_ONCE
        end = chunk.rfind(b"\n") + 1
        self.position += end or (len(chunk) if full else 0)
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
