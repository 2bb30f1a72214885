"""Where the products of runs lie, and what synthkit notes beside a checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from synthkit.data.format import DESCRIPTION
from synthkit.errors import DataError
from synthkit.running.run import JOB, Run

#: The file beside a method's own in which synthkit notes what the checkpoint is.
CHECKPOINT_METADATA = "synthkit.json"


def find_checkpoint(path: Path) -> Path:
    """The checkpoint of a run folder, or ``path`` if it is a checkpoint folder itself."""
    for candidate in (path / "outputs" / "checkpoint", path):
        if (candidate / CHECKPOINT_METADATA).is_file():
            return candidate
    why, fix = "It does not exist.", "Train one with `synthkit train`."
    if path.is_file():
        why = "It is a file, and a model is a run folder."
        fix = "A checkpoint of other code becomes a run by `synthkit import-checkpoint`."
    elif (path / DESCRIPTION).is_file():
        why = "It is a dataset. The model comes first, what it is applied to after it."
    elif path.exists():
        result = Run(path).result() if (path / JOB).is_file() else None
        if result is not None and result.get("status") != "succeeded":
            why = "Its training did not succeed."
        elif (path / JOB).is_file():
            why = "Its training has not finished; run the same command with --resume."
        else:
            why = "It is not a run folder of `synthkit train`."
    raise DataError(f"There is no trained model at {path}.", why, fix)


def read_checkpoint_metadata(checkpoint: Path) -> dict[str, Any]:
    """What synthkit notes beside a method's files: plugin, contrasts, labels, size, protocol, training lineage."""
    try:
        metadata = json.loads((checkpoint / CHECKPOINT_METADATA).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"The checkpoint {checkpoint} cannot be read.", f"{error}.", "Train it again.") from error
    if not isinstance(metadata, dict) or "plugin" not in metadata:
        raise DataError(
            f"The checkpoint {checkpoint} cannot be read.", "Its description is not an object.", "Train it again."
        )
    return metadata


def find_predictions(path: Path) -> Path:
    """The label volumes of a ``segment`` run, or ``path`` if it is a folder of label volumes."""
    inside = path / "outputs" / "predictions"
    return inside if inside.is_dir() else path
