"""How long an attempt at a run took: what its result says, else, for a command that was killed, what is left of it."""

from __future__ import annotations

import datetime
import json
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from synthkit.files import open_untrusted

# Enough for the last events of a run.
_TAIL_BYTES = 2**16


def seconds_since(created: str) -> float:
    """Seconds since a job was made, 0 if it does not say when."""
    began = _timestamp(created)
    return 0.0 if began is None else max(0.0, time.time() - began)


def seconds_of_attempt(created: str, result: Mapping[str, Any] | None, events: Path) -> float:
    """Seconds of the attempt whose job was made at ``created``.

    Without a result that tells, up to its last event: an attempt that was killed counts until its last sign of life.
    A method can write to its events what it likes, so they count for no more than the time that has passed.
    """
    passed = seconds_since(created)
    told = (result or {}).get("seconds")
    if isinstance(told, int | float) and math.isfinite(told) and told >= 0:
        return float(told)
    began, last = _timestamp(created), _last_event(events)
    return 0.0 if began is None or last is None else min(max(0.0, last - began), passed)


def _timestamp(created: str) -> float | None:
    try:
        return datetime.datetime.fromisoformat(created).timestamp()
    except ValueError:
        return None


def _last_event(events: Path) -> float | None:
    try:
        with open_untrusted(events) as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL_BYTES))
            lines = file.read(_TAIL_BYTES).splitlines()
    except OSError:
        return None
    for line in reversed(lines):
        try:
            when = float(json.loads(line)["time"])
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            continue  # half written, or none of ours
        if math.isfinite(when):
            return when
    return None
