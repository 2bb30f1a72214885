"""What a training leaves for the eye beside its checkpoint: ``stats.jsonl`` and grids of samples, in the run's outputs.

They inform and no result depends on them, so they stay out of the checkpoint, whose digest would change with the time
that a step took. Outside a run nothing is written.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from synthkit_torch.devices import whole_float32
from torch import Tensor

from synthkit import events
from synthkit.contract import Samples
from synthkit.schemes import Scheme
from synthkit_generative.decoding import decode
from synthkit_generative.drawing import to_grey_levels

#: Seeds of the samples in a snapshot, always the same, so that snapshots show one another's progress.
SNAPSHOT_SEEDS = tuple(range(8))
_HEADER = 14  # pixels for the names of the columns


class Records:
    """Statistics and snapshots of one training, from ``shown`` images on."""

    def __init__(self, data: Samples, label_order: Sequence[int], shown: int, total: int) -> None:
        self._contrasts, self._scheme = data.contrasts, data.scheme
        self._label_order, self._total = label_order, total
        self._folder = events.outputs()
        self._sums: dict[str, Tensor] = {}
        self._steps = 0
        self._seconds = 0.0
        self._since, self._shown = time.monotonic(), shown
        if self._folder is not None:
            kept = _lines_up_to(self._folder / "stats.jsonl", shown)
            self._seconds = kept[-1]["seconds"] if kept else 0.0
            text = "".join(json.dumps(line) + "\n" for line in kept)
            (self._folder / "stats.jsonl").write_text(text, encoding="utf-8")

    def watch(self, values: dict[str, Tensor]) -> None:
        """Take the scalars of one step; they are averaged on their device until :meth:`statistics`."""
        self._steps += 1
        for name, value in values.items():
            value = value.detach().float()
            self._sums[name] = self._sums[name] + value if name in self._sums else value

    def statistics(self, shown: int) -> None:
        """Append a line: images shown, time, memory, and the mean of each scalar since the last line."""
        now = time.monotonic()
        spent, images = now - self._since, shown - self._shown
        self._seconds += spent
        if self._folder is not None and images:
            line: dict[str, Any] = {
                "images": shown,
                "kimg": shown / 1000,
                "seconds": round(self._seconds, 3),
                "seconds_per_kimg": round(spent / images * 1000, 3),
                "eta_seconds": round(spent / images * (self._total - shown), 1),
            }
            if torch.cuda.is_available():
                line["gpu_memory_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 3)
            line |= {name: float(value) / self._steps for name, value in self._sums.items()}
            with (self._folder / "stats.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        self._sums, self._steps, self._since, self._shown = {}, 0, now, shown

    def snapshot(self, shown: int, sample: Callable[[Sequence[int]], Tensor]) -> None:
        """Write ``snapshots/<kimg>.png``: a row a sample, a column a contrast, and the labels over the first one."""
        if self._folder is None:
            return
        with torch.inference_mode(), whole_float32():
            grey = to_grey_levels(sample(SNAPSHOT_SEEDS))
        folder = self._folder / "snapshots"
        folder.mkdir(exist_ok=True)
        Image.fromarray(grid(grey, self._contrasts, self._label_order, self._scheme)).save(
            folder / f"{shown / 1000:010.3f}.png"
        )


def grid(
    grey: NDArray[np.uint8], contrasts: Sequence[str], label_order: Sequence[int], scheme: Scheme
) -> NDArray[np.uint8]:
    """Samples ``(n, contrast + 1, y, x)``, labels last, as one RGB picture ``(y, x, 3)``, names above the columns.

    Labels have the colours of their scheme.
    """
    n, channels, height, width = grey.shape
    cells = np.repeat(grey[..., None], 3, axis=-1)
    cells[:, -1] = cells[:, 0]
    labels = decode(grey[:, -1], label_order)
    for value, colour in scheme.rgb(sorted(label_order)).items():
        cells[:, -1][labels == value] = colour
    body = cells.transpose(0, 2, 1, 3, 4).reshape(n * height, channels * width, 3)
    picture = Image.fromarray(np.concatenate([np.zeros((_HEADER, channels * width, 3), np.uint8), body]))
    draw = ImageDraw.Draw(picture)
    for column, name in enumerate([*contrasts, "labels"]):
        draw.text((column * width + 2, 1), name, fill=(255, 255, 255))
    return np.asarray(picture)


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
