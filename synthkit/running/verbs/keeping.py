"""What one run of a metric leaves for others: arrays that are dear to compute and the same for many synthetic datasets.

``evaluate METRIC --real DATASET --keep`` makes them; ``--kept RUN`` of later runs gives them. Whether they are of the
same data the method itself looks at, in the run; that they are what the run left is known by their digest.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from synthkit.contract import Kept, MetricDeclaration
from synthkit.errors import DataError, PluginError
from synthkit.registry.registry import discover
from synthkit.running.checkpoints import ARRAYS, KEPT, succeeded
from synthkit.running.run import Run, find_runs, folder_digest


def kept_by(path: Path, metric: MetricDeclaration) -> Path:
    """The file that a run of this metric's method left for others, at or below ``path``.

    :class:`DataError` where there is none, or where it is not what the run left.
    """
    known = discover().declarations
    for run in find_runs([path]):
        output = ((succeeded(run.path) or {}).get("outputs") or {}).get(KEPT)
        if output is None or {known[name].module for name in run.job().plugins if name in known} != {metric.module}:
            continue
        if folder_digest(run.outputs / KEPT) != output["digest"]:
            raise DataError(
                f"What {run.path} kept has changed.", "Its digest is not that of the result.", "Make that run again."
            )
        return run.outputs / KEPT / ARRAYS
    raise DataError(
        f"{path} keeps nothing for {metric.name}.",
        "It is not a finished run of it with --keep.",
        f"Make one: `synthkit evaluate {metric.name} --real DATASET --keep -o RUN`.",
    )


def written(run: Run, metric: MetricDeclaration, kept: Kept) -> dict[str, Any]:
    """Write the arrays; what ``result.json`` gets of them."""
    import numpy as np

    arrays: dict[str, Any] = {name: np.asarray(array) for name, array in kept.arrays.items()}
    if objects := [name for name, array in arrays.items() if array.dtype.hasobject]:
        raise PluginError(
            f"{metric.name} keeps objects in {objects[0]}.",
            "Only numbers and text are read from a file that is not trusted.",
            f"Report it to the authors of {metric.distribution}.",
        )
    (run.outputs / KEPT).mkdir(exist_ok=True)
    np.savez(run.outputs / KEPT / ARRAYS, **arrays)
    return described(run)


def described(run: Run) -> dict[str, Any]:
    """The output as ``result.json`` has it."""
    return {KEPT: {"kind": "kept", "digest": folder_digest(run.outputs / KEPT)}}
