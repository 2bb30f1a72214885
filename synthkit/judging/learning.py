"""Whether trainings had ended learning: a ratio of two that had not also says which of them learns faster.

A segmenter reports the Dice of its validation while it trains, as ``val_dice`` of its progress. Learning had ended if
the best of the last quarter of the training is hardly better than the best before.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

#: The last part of a training, and what its best validation Dice may exceed that of the part before by.
LAST_PART, LEAST_RISE = 0.25, 0.01


def late_rise(events: Path) -> float | None:
    """By how much the best validation Dice rose in the last quarter of the training behind ``events.jsonl``.

    None where that cannot be told: no such file, or no validation before the last quarter or in it.
    """
    try:
        lines = [json.loads(line) for line in events.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError):
        return None
    told = [line for line in lines if line.get("event") == "progress" and "val_dice" in line.get("values", {})]
    if not told or not told[-1]["total"]:
        return None
    start = (1 - LAST_PART) * told[-1]["total"]
    early = [line["values"]["val_dice"] for line in told if line["step"] <= start]
    late = [line["values"]["val_dice"] for line in told if line["step"] > start]
    return max(late) - max(early) if early and late else None


def still_learning(trainings: Mapping[str, Path]) -> list[str]:
    """Sentences on the trainings that had not ended learning, and on those of which that is not known.

    Parameters
    ----------
    trainings : the ``events.jsonl`` of each, by what the training is called.
    """
    rises = {name: late_rise(events) for name, events in trainings.items()}
    rising = [f"{name} (+{rise:.2f})" for name, rise in rises.items() if rise is not None and rise >= LEAST_RISE]
    unknown = [name for name, rise in rises.items() if rise is None]
    found = []
    if rising:
        found.append(
            f"Trainings that have not ended learning: {', '.join(rising)}. Their validation Dice still rose so much in "
            "the last quarter, so the ratio also says who learns faster. Train longer (-p samples=...)."
        )
    if unknown:
        found.append(
            f"Whether learning has ended is not known of {', '.join(unknown)}: no validation Dice was recorded before "
            "the last quarter of the training and in it."
        )
    return found
