"""Training of both toys: the mean grey level of each label in each contrast, as a running sum that can be taken up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import synthkit
from synthkit.contract import PROGRESS
from synthkit.contract import STATE as GOING_ON

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from synthkit.contract import Samples

STATE = "model.json"


def learn(data: Samples, checkpoint: Path, params: Any, initial: Path | None = None) -> None:
    """Read ``data`` ``params.passes`` times; after each pass the state is saved, and found again by another call.

    What ``initial`` has learned is kept, and counts no pass.
    """
    begun = _blank(data) if initial is None else {**load(initial), "passes": 0}
    state = load(checkpoint) if (checkpoint / STATE).exists() else begun
    for number in range(state["passes"], params.passes):
        sums, counts = np.array(state["sums"]), np.array(state["counts"])
        for images, labels in data.batches(8):
            # (contrast, n, y, x), and only pixels of the head: outside all is black.
            greys, inside = images.swapaxes(0, 1).astype(np.float64), images.max(axis=1) > 0
            for row, value in enumerate(state["label_values"]):
                here = inside & (labels == value)
                sums[row] += greys[:, here].sum(axis=1)
                counts[row] += int(here.sum())
        state = {**state, "passes": number + 1, "sums": sums.tolist(), "counts": counts.tolist()}
        temporary = checkpoint / f".{STATE}.tmp"
        temporary.write_text(json.dumps(state), encoding="utf-8")
        temporary.replace(checkpoint / STATE)
        (checkpoint / PROGRESS).write_text(json.dumps({"images": (number + 1) * len(data)}), encoding="utf-8")
        synthkit.progress(number + 1, params.passes, unit="pass")
    (checkpoint / PROGRESS).unlink(missing_ok=True)
    (checkpoint / GOING_ON).mkdir(exist_ok=True)
    (checkpoint / GOING_ON / "passes.json").write_text(json.dumps(state["passes"]), encoding="utf-8")
    if state["passes"] == params.passes:
        synthkit.progress(params.passes, params.passes, unit="pass")


def _blank(data: Samples) -> dict[str, Any]:
    n_values, n_contrasts = len(data.label_values), len(data.contrasts)
    return {
        "passes": 0,
        "size": list(data.size),
        "label_values": list(data.label_values),
        "label_names": list(data.scheme.label_values),
        "sums": np.zeros((n_values, n_contrasts)).tolist(),
        "counts": [0] * n_values,
    }


def load(checkpoint: Path) -> dict[str, Any]:
    state: dict[str, Any] = json.loads((checkpoint / STATE).read_text(encoding="utf-8"))
    return state


def means(state: dict[str, Any]) -> NDArray[np.float64]:
    """Mean grey level ``(label, contrast)``, of pixels inside the head."""
    counts = np.maximum(np.array(state["counts"]), 1)
    result: NDArray[np.float64] = np.array(state["sums"]) / counts[:, None]
    return result
