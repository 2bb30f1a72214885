"""How a training goes, in the run's outputs: ``stats.jsonl``, and its curves in ``progress.png``.

They inform and no result depends on them, so they stay out of the checkpoint, whose digest would change with the time
that a step took. Outside a run nothing is written.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from synthkit import events
from synthkit_torch.curves import curves

#: Of a line, what is no curve: the horizontal axis, and what only grows or shrinks with it.
_NO_CURVES = ("images", "kimg", "seconds", "eta_seconds")


class Statistics:
    """The lines of one training, from ``shown`` images on, of ``total``."""

    def __init__(self, shown: int, total: int) -> None:
        self._total = total
        self._since, self._shown = time.monotonic(), shown
        self._lines: list[dict[str, Any]] = []
        self._folder = events.outputs()
        if self._folder is not None:
            self._lines = _lines_up_to(self._folder / "stats.jsonl", shown)
            text = "".join(json.dumps(line) + "\n" for line in self._lines)
            (self._folder / "stats.jsonl").write_text(text, encoding="utf-8")

    def write(self, shown: int, values: Mapping[str, float | None]) -> None:
        """A line after ``shown`` images, with time, memory and the values that are known; and the picture anew."""
        now = time.monotonic()
        spent, images = now - self._since, shown - self._shown
        self._since, self._shown = now, shown
        if self._folder is None or not images:
            return
        line: dict[str, Any] = {
            "images": shown,
            "kimg": shown / 1000,
            "seconds": round((self._lines[-1]["seconds"] if self._lines else 0.0) + spent, 3),
            "seconds_per_kimg": round(spent / images * 1000, 3),
            "eta_seconds": round(spent / images * (self._total - shown), 1),
        }
        if torch.cuda.is_available():
            line["gpu_memory_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 3)
        line |= {name: value for name, value in values.items() if value is not None and math.isfinite(value)}
        self._lines.append(line)
        with (self._folder / "stats.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        names = dict.fromkeys(name for each in self._lines for name in each if name not in _NO_CURVES)
        series = {name: [(each["kimg"], float(each[name])) for each in self._lines if name in each] for name in names}
        curves(series, "thousand training images").save(self._folder / "progress.png")


def _lines_up_to(path: Path, shown: int) -> list[dict[str, Any]]:
    """The lines that a killed training wrote up to where it resumes; a half-written one is dropped."""
    if not path.exists():
        return []
    kept = []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if line["images"] <= shown:
            kept.append(line)
    return kept
