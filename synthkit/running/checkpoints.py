"""Where the products of runs lie, and what synthkit notes beside a checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from synthkit.data.format import DESCRIPTION
from synthkit.errors import DataError
from synthkit.files import LINKED, has_links, read_inside
from synthkit.running.run import JOB, MAX_JSON_BYTES, Run

#: The file beside a method's own in which synthkit notes what the checkpoint is.
CHECKPOINT_METADATA = "synthkit.json"


def find_checkpoint(path: Path) -> Path:
    """The checkpoint of a run folder, or ``path`` if it is a checkpoint folder itself."""
    for candidate in (path / "outputs" / "checkpoint", path):
        if (candidate / CHECKPOINT_METADATA).is_file() and (candidate == path or _has_succeeded(path)):
            if candidate != path and (candidate.is_symlink() or candidate.parent.is_symlink()):
                raise DataError(f"The outputs of {path} are a link.", "A run leaves files, and no links.", LINKED)
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


def _has_succeeded(path: Path) -> bool:
    """Whether a run has; what is no run folder only looks like one, and says nothing against it."""
    return not (path / JOB).is_file() or (Run(path).result() or {}).get("status") == "succeeded"


def read_checkpoint_metadata(checkpoint: Path) -> dict[str, Any]:
    """What synthkit notes beside a method's files: plugin, contrasts, labels, size, protocol, training lineage."""
    try:
        metadata = json.loads(read_inside(checkpoint, CHECKPOINT_METADATA, max_bytes=MAX_JSON_BYTES))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"The checkpoint {checkpoint} cannot be read.", f"{error}.", "Train it again.") from error
    if not isinstance(metadata, dict) or "plugin" not in metadata:
        raise DataError(
            f"The checkpoint {checkpoint} cannot be read.", "Its description is not an object.", "Train it again."
        )
    return metadata


def find_predictions(path: Path) -> Path:
    """The label volumes of a ``segment`` run, or ``path`` if it is a folder of label volumes."""
    inside = path / "outputs" / "predictions"
    if not inside.is_dir():
        return path
    if link := next(filter(None, (inside.parent if inside.parent.is_symlink() else None, has_links(inside))), None):
        raise DataError(f"The outputs of {path} have links.", f"{link} is one, and a run leaves none.", LINKED)
    return inside
