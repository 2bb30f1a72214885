"""The files of a dataset: names, description, table of samples, digests. What reader and writer have in common.

::

    dataset.json     description, in nnU-Net's keys where they exist; written last: a folder without it is not a dataset
    samples.csv      one row a sample: id, split, subject, slice, seed, digest, patient; asked, where anything was
    images/          uint8 (n, contrast, y, x), Zarr 3 (see :mod:`synthkit.data.shards`)
    labels/          uint8 (n, y, x)
    zarr.json        makes the folder a Zarr group
    contact-sheet.png    of real datasets: a slice of every subject, to look at; nothing reads it, no digest counts it
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from synthkit.contract import Sample
from synthkit.errors import DataError
from synthkit.files import LINKED, open_inside, read_inside
from synthkit.schemes import BRATS, Scheme

if TYPE_CHECKING:
    from synthkit.contract import UInt8Array

FORMAT = "synthkit-dataset"
FORMAT_VERSION = 1
DESCRIPTION, TABLE, GROUP, IMAGES, LABELS = "dataset.json", "samples.csv", "zarr.json", "images", "labels"
#: Splits of the samples of each kind of dataset.
SPLITS = {"real": ("train", "holdout"), "synthetic": ("synthetic",)}

# More than any dataset has: who writes one must not fill the memory of who reads it.
_MAX_DESCRIPTION = 2**28  # bytes
_MAX_ROW = 2**12
_MAX_SIDE = 2**14  # pixels

_COLUMNS = ("id", "split", "subject", "slice", "seed", "digest", "patient", "asked")
_NEEDED = ("version", "channel_names", "labels", "size", "n_samples", "digest")


def sample_digest(image: UInt8Array, labels: UInt8Array) -> str:
    """sha256 over the bytes of image and labels, first 32 hex characters."""
    digest = hashlib.sha256(np.ascontiguousarray(image).data.cast("B"))
    digest.update(np.ascontiguousarray(labels).data.cast("B"))
    return digest.hexdigest()[:32]


def content_digest(contrasts: Sequence[str], scheme: Scheme, size: Sequence[int], samples: Sequence[Sample]) -> str:
    """``sha256:...`` of what a dataset holds, whatever its compression, sharding and provenance.

    Names of labels count where they are not those of BraTS up to 2021, a patient where it is said and is not the
    subject itself, and what was asked for where anything was, so that datasets from before keep their digests.
    """
    described: list[Any] = [list(contrasts), list(scheme.values), list(size)]
    if scheme.label_values != BRATS.label_values:
        described.append(scheme.label_values)
    digest = hashlib.sha256(json.dumps(described).encode())
    for row in samples:
        said: list[Any] = [row.patient] if row.patient not in (None, row.subject) else []
        said += [{"asked": row.asked}] if row.asked is not None else []
        digest.update(json.dumps([row.id, row.split, row.subject, row.slice, row.seed, row.digest, *said]).encode())
    return f"sha256:{digest.hexdigest()}"


def is_safe_name(name: object) -> bool:
    """Whether this is one visible component of a path on any system: exports make files of ids and contrasts."""
    return (
        isinstance(name, str)
        and 0 < len(name.encode(errors="replace")) <= 200
        and name.isprintable()
        and not name.startswith(".")
        and not set(name) & {"/", "\\"}
    )


def is_described(folder: Path) -> bool:
    """Whether ``dataset.json`` of a folder is that of a dataset of synthkit; nnU-Net has files of that name too."""
    try:
        description = json.loads(read_inside(folder, DESCRIPTION, max_bytes=_MAX_DESCRIPTION))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(description, dict) and description.get("format") == FORMAT


def read_description(path: Path) -> dict[str, Any]:
    try:
        description = json.loads(read_inside(path, DESCRIPTION, max_bytes=_MAX_DESCRIPTION))
    except (OSError, ValueError, RecursionError) as error:
        fix = LINKED if (path / DESCRIPTION).is_symlink() else "Restore it, or make the dataset again."
        raise DataError(f"{path / DESCRIPTION} cannot be read.", f"{error}.", fix) from error
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise DataError(
            f"{path / DESCRIPTION} does not describe a dataset of synthkit.",
            f'It lacks "format": "{FORMAT}".',
            "nnU-Net folders are a different thing: prepare or import the images.",
        )
    version = description.get("version")
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise DataError(
            f"The dataset {path} has format version {version}.",
            f"This synthkit reads up to version {FORMAT_VERSION}.",
            "Update synthkit.",
        )
    for key in _NEEDED if description.get("complete") else _NEEDED[:-1]:
        if not _is_sound(key, description.get(key)):
            raise DataError(
                f"{path / DESCRIPTION} cannot be read.",
                f"Its {key} is {description.get(key)!r}.",
                "Restore it, or make the dataset again.",
            )
    return description


def scheme_of(description: Mapping[str, Any], path: Path) -> Scheme:
    """The label scheme of a dataset at ``path``; DataError for one that cannot be read or has other labels."""
    try:
        scheme = Scheme.of_record(description)
        if scheme.label_values != description["labels"]:
            raise ValueError(f"its labels are {description['labels']}, those of its scheme {scheme.label_values}")
    except ValueError as error:
        raise DataError(
            f"The label scheme in {path / DESCRIPTION} cannot be read.",
            f"{error}.",
            "Restore it, or make the dataset again.",
        ) from error
    return scheme


def _is_sound(key: str, value: Any) -> bool:
    """Whether a key of the description has a value of its type."""
    if key == "channel_names":
        numbers = {str(i) for i in range(len(value))} if isinstance(value, dict) else None
        return isinstance(value, dict) and set(value) == numbers and all(map(is_safe_name, value.values()))
    if key == "labels":
        return isinstance(value, dict) and all(isinstance(v, int) and 0 <= v < 256 for v in value.values())
    if key == "size":
        return isinstance(value, list) and len(value) == 2 and all(type(v) is int and 0 < v <= _MAX_SIDE for v in value)
    if key == "digest":
        return isinstance(value, str)
    return type(value) is int and 0 <= value < 2**48


def read_table(path: Path, n_samples: int) -> list[Sample]:
    if n_samples == 0:  # begun, and nothing committed yet
        return []
    try:
        with os.fdopen(open_inside(path, TABLE), newline="", encoding="utf-8") as file:
            if (size := os.fstat(file.fileno()).st_size) > (n_samples + 1) * _MAX_ROW:
                raise ValueError(f"it has {size:,} bytes for {n_samples} rows")
            reader = csv.DictReader(file)
            rows = [
                Sample(
                    row["id"],
                    row["split"],
                    row["subject"] or None,
                    int(row["slice"]) if row["slice"] else None,
                    int(row["seed"]) if row["seed"] else None,
                    row["digest"],
                    row.get("patient") or None,  # absent before patients were written
                    row.get("asked") or None,  # absent where nothing was asked for
                )
                for _, row in zip(range(n_samples), reader, strict=False)
            ]
        if unsafe := [row.id for row in rows if not is_safe_name(row.id)]:
            raise ValueError(f"the id {unsafe[0]!r} cannot be the name of a file")
    except (OSError, KeyError, ValueError, TypeError, csv.Error) as error:
        fix = LINKED if (path / TABLE).is_symlink() else "Make the dataset again."
        raise DataError(f"{path / TABLE} cannot be read.", f"{error!r}.", fix) from error
    if len(rows) != n_samples:
        raise DataError(
            f"{path / 'samples.csv'} is too short.",
            f"It has {len(rows)} rows, {DESCRIPTION} says {n_samples}.",
            "Make the dataset again.",
        )
    return rows


def table_bytes(rows: Sequence[Sample]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = _COLUMNS if any(row.asked for row in rows) else _COLUMNS[:-1]
    writer.writerow(columns)
    writer.writerows([getattr(row, column) for column in columns] for row in rows)
    return text.getvalue().encode()
