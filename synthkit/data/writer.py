"""Writes a dataset, see :mod:`synthkit.data.format`; whatever interrupts it leaves the state of the last commit.

Writing is by appending, in commits. A commit makes shards, then table, then description durable, each by an atomic
replacement, and the description says how many samples count. A description with ``"complete": false`` is refused by
readers and taken up by a writer that resumes.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from synthkit.contract import Sample
from synthkit.data.contact_sheet import is_contact_sheet
from synthkit.data.format import (
    DESCRIPTION,
    FORMAT,
    FORMAT_VERSION,
    GROUP,
    IMAGES,
    LABELS,
    SPLITS,
    TABLE,
    content_digest,
    is_described,
    is_safe_name,
    read_description,
    read_table,
    sample_digest,
    table_bytes,
)
from synthkit.data.label_reading import counts_of
from synthkit.data.shards import ShardWriter, map_threads
from synthkit.errors import DataError, UsageError
from synthkit.files import EARLIER, GONE, Replacement, discard, write_atomically
from synthkit.schemes import Scheme

if TYPE_CHECKING:
    from synthkit.contract import UInt8Array

_SECONDS_BETWEEN_COMMITS = 30.0


@dataclass(frozen=True)
class Described:
    """What a dataset says of itself beside its samples.

    Attributes
    ----------
    contrasts : channel names in order, ``("t1", "t1ce", "t2", "flair")``.
    scheme : what label values mean.
    size : (y, x) in pixels.
    kind : "real" or "synthetic".
    protocol, provenance, lineage : recorded as they are.
    """

    contrasts: tuple[str, ...]
    scheme: Scheme
    size: tuple[int, int]
    kind: Literal["real", "synthetic"] = "real"
    protocol: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    lineage: Mapping[str, Any] = field(default_factory=dict)

    def fixed(self) -> dict[str, Any]:
        """The keys of ``dataset.json`` that a dataset which is taken up again must have alike."""
        return {
            "format": FORMAT,
            "version": FORMAT_VERSION,
            "kind": self.kind,
            "channel_names": {str(i): name for i, name in enumerate(self.contrasts)},
            "labels": self.scheme.label_values,
            "scheme": self.scheme.to_dict(),
            "size": list(self.size),
            "protocol": dict(self.protocol),
        }


def write_description(path: Path, described: Described, rows: Sequence[Sample], *, complete: bool) -> dict[str, Any]:
    """Write ``dataset.json`` of a dataset that holds these samples; returns what it says."""
    splits: dict[str, dict[str, Any]] = {}
    for row in rows:
        part = splits.setdefault(row.split, {"n_samples": 0, "subjects": set()})
        part["n_samples"] += 1
        if row.subject is not None:
            part["subjects"].add(row.subject)
    description = {
        **described.fixed(),
        "complete": complete,
        "n_samples": len(rows),
        "numTraining": sum(row.split != "holdout" for row in rows),
        "splits": {name: {**part, "subjects": sorted(part["subjects"])} for name, part in sorted(splits.items())},
        "provenance": dict(described.provenance),
        "lineage": dict(described.lineage),
    }
    if complete:
        description["digest"] = content_digest(described.contrasts, described.scheme, described.size, rows)
    write_atomically(path / DESCRIPTION, (json.dumps(description, indent=1) + "\n").encode())
    return description


def mark_incomplete(path: Path) -> None:
    """Have a dataset be refused by readers, and taken up by a writer that resumes; nothing where there is none."""
    if is_described(path):
        description = {key: value for key, value in read_description(path).items() if key != "digest"}
        text = json.dumps({**description, "complete": False}, indent=1)
        write_atomically(path / DESCRIPTION, (text + "\n").encode())


class DatasetWriter:
    """Writes a dataset, sample by sample, so that an interruption loses at most the last half minute.

    Use as a context manager: leaving it normally completes the dataset; leaving it by an exception keeps what was
    committed, marked incomplete.

    Parameters
    ----------
    path : folder to write. Must be absent or empty, unless ``resume``.
    contrasts : channel names in order, ``("t1", "t1ce", "t2", "flair")``.
    scheme : what label values mean; written into the dataset.
    size : (y, x) in pixels.
    kind : "real" or "synthetic".
    protocol, provenance, lineage : recorded as they are.
    resume : take up an incomplete dataset of the same description, or append to a complete one.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        contrasts: Sequence[str],
        scheme: Scheme,
        size: tuple[int, int],
        kind: Literal["real", "synthetic"] = "real",
        protocol: Mapping[str, Any] | None = None,
        provenance: Mapping[str, Any] | None = None,
        lineage: Mapping[str, Any] | None = None,
        resume: bool = False,
    ) -> None:
        self.path = Path(path)
        self.contrasts, self.scheme, self.size = tuple(contrasts), scheme, (int(size[0]), int(size[1]))
        self._described = Described(
            self.contrasts, scheme, self.size, kind, dict(protocol or {}), dict(provenance or {}), dict(lineage or {})
        )
        self._rows: list[Sample] = []
        begun = (self.path / DESCRIPTION).is_file()
        if begun:
            self._rows = self._take_up(resume)
        elif self.path.exists() and (not self.path.is_dir() or _holds_something(self.path)):
            raise UsageError(
                f"The output {self.path} is {'not empty' if self.path.is_dir() else 'not a folder'}.",
                "It holds no dataset, and nothing is overwritten unasked.",
                "Choose another folder.",
            )
        self.path.mkdir(parents=True, exist_ok=True)
        if not begun:
            self._write_description(complete=False)  # first of all: from here on the folder is known to be ours
        self._ids = {row.id for row in self._rows}
        self._images = ShardWriter(self.path / IMAGES, (len(self.contrasts), *self.size), len(self._rows))
        self._labels = ShardWriter(self.path / LABELS, self.size, len(self._rows))
        self._last_commit = time.monotonic()

    @property
    def n_samples(self) -> int:
        """Samples in the dataset so far; right after opening, those that an earlier write committed."""
        return len(self._rows)

    @property
    def samples(self) -> tuple[Sample, ...]:
        return tuple(self._rows)

    def append(self, images: UInt8Array, labels: UInt8Array, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add ``n`` samples.

        Parameters
        ----------
        images : uint8 (n, contrast, y, x).
        labels : uint8 (n, y, x), only values of ``labels``.
        rows : for each sample ``id`` and ``split``, and ``subject``, ``slice``, ``seed``, ``patient``, ``asked`` where
            they apply.

        Raises
        ------
        DataError : wrong shape or type, an unknown label value, a split that the kind does not have, or an id that is
            used twice or cannot be the name of a file.
        """
        images, labels = np.asarray(images), np.asarray(labels)
        expected = (len(rows), len(self.contrasts), *self.size)
        if (
            images.dtype != np.uint8
            or labels.dtype != np.uint8
            or images.shape != expected
            or labels.shape != (len(rows), *self.size)
        ):
            raise DataError(
                "Samples do not fit the dataset.",
                f"Expected uint8 images {expected} and uint8 labels {(len(rows), *self.size)}, got "
                f"{images.dtype} {images.shape} and {labels.dtype} {labels.shape}.",
                "Check the plugin or the protocol that made them.",
            )
        if unknown := counts_of(labels).keys() - set(self.scheme.values):
            raise DataError(
                f"Labels hold the value{'s' if len(unknown) > 1 else ''} {', '.join(map(str, sorted(unknown)))}.",
                f"This dataset's labels are {self.scheme.label_values}.",
                "Check the plugin or the protocol that made them.",
            )
        digests = map_threads(lambda i: sample_digest(images[i], labels[i]), range(len(rows)))
        new = [
            Sample(
                str(row["id"]),
                str(row["split"]),
                row.get("subject"),
                row.get("slice"),
                row.get("seed"),
                digest,
                row.get("patient"),
                row.get("asked"),
            )
            for row, digest in zip(rows, digests, strict=True)
        ]
        new_ids: set[str] = set()
        for sample in new:
            if sample.split not in SPLITS[self._described.kind]:
                raise DataError(
                    f"The sample {sample.id} has the split {sample.split!r}.",
                    f"Those of {self._described.kind} datasets: {', '.join(SPLITS[self._described.kind])}.",
                    "Correct the split.",
                )
            if not is_safe_name(sample.id):
                raise DataError(
                    f"The sample id {sample.id!r} cannot be the name of a file.",
                    "Exports name files after it.",
                    "Rename it: no slashes, no dot in front, at most 200 bytes.",
                )
            if sample.id in self._ids or sample.id in new_ids:
                raise DataError(
                    f"The sample {sample.id} comes twice.", "Ids are unique in a dataset.", "Rename one of them."
                )
            new_ids.add(sample.id)
        self._ids |= new_ids
        self._images.append(images)
        self._labels.append(labels)
        self._rows += new
        if time.monotonic() - self._last_commit > _SECONDS_BETWEEN_COMMITS:
            self.commit()

    def commit(self, *, complete: bool = False) -> None:
        """Make all samples so far durable."""
        self._images.flush(("sample", "contrast", "y", "x"))
        self._labels.flush(("sample", "y", "x"))
        group = {"zarr_format": 3, "node_type": "group", "attributes": {}}
        write_atomically(self.path / GROUP, json.dumps(group, indent=1).encode())
        write_atomically(self.path / TABLE, table_bytes(self._rows))
        self._write_description(complete=complete)
        self._last_commit = time.monotonic()

    def __enter__(self) -> DatasetWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.commit(complete=True)
        elif not issubclass(kind, OSError):  # a full disk cannot take another commit
            self.commit()

    def _write_description(self, *, complete: bool) -> None:
        write_description(self.path, self._described, self._rows, complete=complete)

    def _take_up(self, resume: bool) -> list[Sample]:
        description = read_description(self.path)
        if not resume:
            raise UsageError(
                f"There is a dataset at {self.path} already.",
                "Nothing is overwritten unasked.",
                "Choose another folder, or give --overwrite or --resume.",
            )
        for key, value in self._described.fixed().items():
            if description.get(key) != json.loads(json.dumps(value)):
                raise UsageError(
                    f"The dataset at {self.path} cannot be continued.",
                    f"Its {key} is {description.get(key)!r}, this command would write {value!r}.",
                    "Give the settings it was begun with, or --overwrite.",
                )
        return read_table(self.path, int(description["n_samples"]))


def check_replaceable(folder: Path) -> None:
    """For ``--overwrite`` and ``--resume``: :class:`UsageError` unless absent, empty, or a dataset and nothing else."""
    if folder.exists() and not (folder.is_dir() and _is_dataset(folder)):
        raise UsageError(
            f"The output {folder} is not a dataset.",
            "Only a dataset is replaced by --overwrite or continued by --resume; other files are left alone.",
            "Choose another folder.",
        )


@contextmanager
def replacing(folder: Path, overwrite: bool) -> Iterator[None]:
    """With ``overwrite`` keep the dataset of a folder until the block has put another one in its place.

    It is put back where the block fails before samples of the new one are safe; from those ``--resume`` goes on.
    """
    there = Replacement(folder, DESCRIPTION, _has_samples)
    if folder.is_dir():
        there.recover()
    if overwrite and (folder / DESCRIPTION).exists():
        check_replaceable(folder)
        there.set_aside()
    elif overwrite:
        remove_dataset(folder)
    try:
        yield
    except BaseException:
        there.settle(succeeded=False)
        raise
    there.settle(succeeded=True)


def _has_samples(folder: Path) -> bool:
    try:
        return int(json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))["n_samples"]) > 0
    except (OSError, ValueError, KeyError, TypeError):
        return False


def remove_dataset(folder: Path) -> None:
    """Remove a dataset, but not the one that it replaces; others than datasets :func:`check_replaceable` refuses."""
    check_replaceable(folder)
    if folder.exists():
        # The description goes first: what is left of an interrupted removal is not a dataset.
        (folder / DESCRIPTION).unlink(missing_ok=True)
        for path in folder.iterdir():
            if path.name != EARLIER:
                discard(path)
        if not any(folder.iterdir()):
            folder.rmdir()


def _is_dataset(folder: Path) -> bool:
    """A dataset and nothing beside it; or what is left of one whose removal was interrupted."""
    if (folder / DESCRIPTION).exists() and not is_described(folder):
        return False
    inside = [*folder.iterdir()]
    for array in (folder / IMAGES, folder / LABELS):
        inside += [*array.iterdir()] if array.is_dir() else []
    own = {DESCRIPTION, TABLE, GROUP, IMAGES, LABELS, "c", EARLIER, GONE}
    return all(p.name in own or p.name.endswith(".tmp") or is_contact_sheet(p.name) for p in inside)


def _holds_something(folder: Path) -> bool:
    """Whether there is more in the folder than what a killed write may leave behind, and what is replaced."""
    names = (path.name for path in folder.iterdir() if path.name != EARLIER)
    return any(not (name.startswith(".") and name.endswith(".tmp")) for name in names)
