"""Scores of a generator's samples beside real images, each as one number with an interval."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synthkit.registry.registry import discover
from synthkit.running.checkpoints import succeeded
from synthkit.running.run import find_runs


@dataclass(frozen=True)
class FidelityNumber:
    """Mean over contrasts of a score of the whole dataset, or of its floor.

    ``low`` and ``high`` are the means of the ends of the contrasts' 95 % intervals, None unless each has one: as wide
    as if the contrasts erred together, so at least as wide as that of the mean. ``better``: "lower", "higher" or
    "neither".
    """

    value: float
    low: float | None
    high: float | None
    better: str


def fidelity_of(runs: Path) -> dict[str, FidelityNumber]:
    """Each score of a whole dataset and its floor, by name, from the runs in a folder.

    Scores of all contrasts jointly are left out. Those of several feature networks stay apart, by its name.
    """
    registry = discover()
    found: dict[str, FidelityNumber] = {}
    for run in find_runs([runs]):
        result = succeeded(run.path)
        if result is None:
            continue
        better: dict[str, str] = {}
        for plugin in run.job().plugins:
            declaration = registry.declarations.get(plugin)
            better |= {score.name: score.better for score in getattr(declaration, "scores", ())}
        scores: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for score in result.get("scores", ()):
            of = score["of"]
            if set(of) <= {"contrast", "features"} and of.get("contrast") != "joint" and score["value"] is not None:
                scores.setdefault((score["name"], of.get("features", "")), []).append(score)
        for (name, network), own in scores.items():
            if better.get(name, "neither") != "neither" or name.endswith("_floor"):
                several = sum(other == name for other, _ in scores) > 1
                found[f"{name}[{network}]" if several else name] = FidelityNumber(
                    statistics.fmean(score["value"] for score in own),
                    _mean_of([score.get("low") for score in own]),
                    _mean_of([score.get("high") for score in own]),
                    better.get(name, "neither"),
                )
    return found


def _mean_of(ends: list[float | None]) -> float | None:
    known = [end for end in ends if end is not None]
    return statistics.fmean(known) if len(known) == len(ends) else None
