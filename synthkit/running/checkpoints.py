"""Where the products of runs lie, and what synthkit notes beside a checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from synthkit.contract import NOTES, PROGRESS
from synthkit.data.format import DESCRIPTION
from synthkit.errors import DataError, SynthkitError, UsageError
from synthkit.files import LINKED, has_links, read_inside
from synthkit.running.run import JOB, MAX_JSON_BYTES, RESULT, Run

#: What a run of a metric leaves for others: the output, a folder, and the file of arrays in it.
KEPT, ARRAYS = "kept", "arrays.npz"


def find_checkpoint(path: Path) -> Path:
    """The checkpoint of a run folder, or ``path`` if it is a checkpoint folder itself: of a finished training."""
    found = [folder for folder in (path / "outputs" / "checkpoint", path) if (folder / NOTES).is_file()]
    # What is no run folder only looks like one, and says nothing against it.
    if found and (found[0] == path or not (path / JOB).is_file() or succeeded(path) is not None):
        if found[0] != path and (found[0].is_symlink() or found[0].parent.is_symlink()):
            raise DataError(f"The outputs of {path} are a link.", "A run leaves files, and no links.", LINKED)
        if not read_checkpoint_metadata(found[0]).get("unfinished"):
            return found[0]
    why, fix = "It does not exist.", "Train one with `synthkit train`."
    if path.is_file():
        why = "It is a file, and a model is a run folder."
        fix = "A checkpoint of other code becomes a run by `synthkit import-checkpoint`."
    elif (path / DESCRIPTION).is_file():
        why = "It is a dataset. The model comes first, what it is applied to after it."
    elif found or (path / JOB).is_file():
        result = Run(path).result() if (path / JOB).is_file() else None
        failed = result is not None and result.get("status") != "succeeded"
        why = "Its training did not succeed." if failed else "Its training has not finished."
        fix = "Run the same command with --resume" + (
            ", or draw from what there is: `synthkit generate RUN --snapshot latest`." if found else "."
        )
    elif path.exists():
        why = "It is not a run folder of `synthkit train`."
    raise DataError(f"There is no trained model at {path}.", why, fix)


def succeeded(run: Path) -> dict[str, Any] | None:
    """The result of a run that succeeded; None for any other, and for what is no run."""
    if not (run / RESULT).is_file():
        return None
    try:
        result = Run(run).result()
    except SynthkitError:
        return None
    return result if result is not None and result.get("status") == "succeeded" else None


def find_snapshot(path: Path, which: str) -> Path:
    """What the training of a run folder had learned before its end, as a checkpoint.

    ``which`` is "latest" for what an unfinished training saved last, or how many thousand training images had been
    shown. Raises :class:`UsageError` for anything else, :class:`DataError` where there is no such snapshot.
    """
    kept = {shown: folder for folder in _snapshots(path) if (shown := images_shown(folder)) is not None}
    last = path / "outputs" / "checkpoint"
    finished = (last / NOTES).is_file() and not read_checkpoint_metadata(last).get("unfinished")
    if which == "latest":
        if finished:
            raise UsageError(f"The training of {path} has finished.", fix="Leave --snapshot out.")
        if (shown := images_shown(last)) is not None:
            kept[shown] = last
        if kept:
            return kept[max(kept)]
        why = (
            "Its training has saved nothing yet." if (path / JOB).is_file() else "It is not a run of `synthkit train`."
        )
        raise DataError(f"There is no snapshot in {path}.", why, "Save more often: `-p checkpoint_kimg=1`.")
    try:
        images = round(float(which) * 1000)
    except (ValueError, OverflowError) as error:
        raise UsageError(
            f"--snapshot {which} is not a snapshot.", fix="Write latest, or thousands of training images, as in 400."
        ) from error
    if images not in kept:
        there = ", ".join(f"{shown / 1000:g}" for shown in sorted(kept))
        raise DataError(
            f"There is no snapshot of {images / 1000:g} kimg in {path}.",
            f"There are those of {there}." if kept else "None were kept.",
            ("Name one of these, or " if kept else "A training keeps some by keep_kimg; ")
            + ("leave --snapshot out: the training has finished." if finished else "write --snapshot latest."),
        )
    return kept[images]


def _snapshots(path: Path) -> list[Path]:
    folder = path / "outputs" / "snapshots"
    return [item for item in folder.iterdir() if (item / NOTES).is_file()] if folder.is_dir() else []


def images_shown(checkpoint: Path) -> int | None:
    """Training images shown to the unfinished training whose checkpoint this is; None for one of a finished."""
    try:
        return int(json.loads(read_inside(checkpoint, PROGRESS, max_bytes=MAX_JSON_BYTES))["images"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(
            f"The checkpoint {checkpoint} cannot be read.", f"{PROGRESS}: {error}.", "Take another."
        ) from error


def read_checkpoint_metadata(checkpoint: Path) -> dict[str, Any]:
    """What synthkit notes beside a method's files: plugin, contrasts, labels, size, protocol, training lineage."""
    try:
        metadata = json.loads(read_inside(checkpoint, NOTES, max_bytes=MAX_JSON_BYTES))
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
