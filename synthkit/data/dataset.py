"""The dataset: images, labels, a table of samples and a description, in one folder. Only this module knows its files.

::

    dataset.json     description, in nnU-Net's keys where they exist; written last: a folder without it is not a dataset
    samples.csv      one row a sample: id, split, subject, slice, seed, digest
    images/          uint8 (n, contrast, y, x), Zarr 3 (see :mod:`synthkit.data.shards`)
    labels/          uint8 (n, y, x)
    zarr.json        makes the folder a Zarr group

Writing is by appending, in commits. A commit makes shards, then table, then description durable, each by an atomic
replacement, and the description says how many samples count; so whatever interrupts a write leaves the state of the
last commit. A description with ``"complete": false`` is refused by readers and taken up by a writer that resumes.
"""

from __future__ import annotations

import csv
import hashlib
import hmac
import io
import json
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from synthkit.contract import Sample, Samples
from synthkit.data.shards import ShardedArray, ShardWriter, map_threads
from synthkit.data.splits import patient_of
from synthkit.errors import DataError, UsageError
from synthkit.files import write_atomically

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from synthkit.contract import UInt8Array

FORMAT = "synthkit-dataset"
FORMAT_VERSION = 1
DESCRIPTION = "dataset.json"
#: Splits of the samples of each kind of dataset.
SPLITS = {"real": ("train", "holdout"), "synthetic": ("synthetic",)}
#: What the names of phantom subjects begin with.
PHANTOM_PREFIX = "Phantom_"
_COLUMNS = ("id", "split", "subject", "slice", "seed", "digest")
_SECONDS_BETWEEN_COMMITS = 30.0


def sample_digest(image: UInt8Array, labels: UInt8Array) -> str:
    """sha256 over the bytes of image and labels, first 32 hex characters."""
    digest = hashlib.sha256(np.ascontiguousarray(image).data.cast("B"))
    digest.update(np.ascontiguousarray(labels).data.cast("B"))
    return digest.hexdigest()[:32]


def content_digest(
    contrasts: Sequence[str], label_values: Sequence[int], size: Sequence[int], samples: Sequence[Sample]
) -> str:
    """``sha256:...`` of what a dataset holds, whatever its compression, sharding and provenance."""
    digest = hashlib.sha256(json.dumps([list(contrasts), list(label_values), list(size)]).encode())
    for row in samples:
        digest.update(json.dumps([row.id, row.split, row.subject, row.slice, row.seed, row.digest]).encode())
    return f"sha256:{digest.hexdigest()}"


def subject_key(subject: str, digest: str) -> str:
    """Keyed hash of a subject's patient: HMAC-SHA256 (RFC 2104), first 32 hex characters.

    It goes where ids must not: into checkpoints and synthetic datasets. Scans of one patient have one key. Who holds
    an id and the file can ask whether that patient was trained on, which is its purpose; the ids are not in the file.

    Parameters
    ----------
    digest : of the dataset that the subject belongs to, the key: keys of two datasets cannot be compared.
    """
    return hmac.new(digest.encode(), patient_of(subject).encode(), hashlib.sha256).hexdigest()[:32]


def training_keys(training_datasets: Iterable[Mapping[str, Any]]) -> set[str]:
    """Keys of all patients that these training datasets teach, directly or through a generator.

    Parameters
    ----------
    training_datasets : as in a checkpoint or in ``lineage``, see :meth:`Dataset.training_entry`.
    """
    keys: set[str] = set()
    for entry in training_datasets:
        keys |= {*_keys_of(entry), *training_keys(entry.get("training_datasets", ()))}
    return keys


def was_trained_on(subject: str, training_datasets: Iterable[Mapping[str, Any]]) -> bool:
    """Whether any scan of the subject's patient is in these training datasets, directly or through a generator."""
    for entry in training_datasets:
        keys = _keys_of(entry)
        if subject_key(subject, entry["digest"]) in keys:
            return True
        if was_trained_on(subject, entry.get("training_datasets", ())):
            return True
    return False


def has_unknown_origin(training_datasets: Iterable[Mapping[str, Any]]) -> bool:
    """Whether there are synthetic images among these training datasets of which nobody knows whom they were made from.

    Those are imported ones, and those of an imported generator.
    """
    for entry in training_datasets:
        behind = entry.get("training_datasets", ())
        if has_unknown_origin(behind) or (entry.get("kind") == "synthetic" and not behind):
            return True
    return False


def _keys_of(entry: Mapping[str, Any]) -> Sequence[str]:
    """Its own keys; an entry without any list is refused, since "nobody" would be the dangerous reading of it."""
    keys = entry.get("subject_keys")
    if not isinstance(keys, list) or not isinstance(entry.get("digest"), str):
        raise DataError(
            "The lineage of a model or of synthetic images is damaged.",
            "A training dataset in it has no digest or no subject_keys, so whom it was trained on is not known.",
            "Train the model, or generate the images, again.",
        )
    return keys


class _Readable:
    """What every source of samples shares; a subclass sets the attributes below and defines ``read``."""

    contrasts: tuple[str, ...]
    label_values: tuple[int, ...]
    size: tuple[int, int]
    samples: Sequence[Sample]

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def digest(self) -> str:
        return content_digest(self.contrasts, self.label_values, self.size, self.samples)

    @property
    def subjects(self) -> tuple[str, ...]:
        """Real subjects among the samples, sorted."""
        return tuple(sorted({row.subject for row in self.samples if row.subject is not None}))

    def read(self, indices: Sequence[int] | NDArray[np.integer[Any]]) -> tuple[UInt8Array, UInt8Array]:
        raise TypeError("a source of samples defines read")

    def batches(self, batch_size: int) -> Iterator[tuple[UInt8Array, UInt8Array]]:
        for start in range(0, len(self), batch_size):
            yield self.read(range(start, min(start + batch_size, len(self))))


class Dataset(_Readable):
    """A complete dataset on disk. Satisfies :class:`synthkit.contract.Samples`; nothing but its table is in memory.

    Parameters
    ----------
    path : the folder that holds ``dataset.json``, or a run folder whose outputs hold one.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = find_dataset(Path(path))
        self.description = _read_description(self.path)
        if not self.description.get("complete"):
            raise DataError(
                f"The dataset {self.path} is not complete.",
                f"Writing it was interrupted after {self.description.get('n_samples', 0)} samples.",
                "Run the command that writes it again with --resume.",
            )
        self.contrasts = tuple(
            self.description["channel_names"][str(i)] for i in range(len(self.description["channel_names"]))
        )
        self.labels: dict[str, int] = dict(self.description["labels"])
        self.label_values = tuple(sorted(self.labels.values()))
        height, width = self.description["size"]
        self.size = (int(height), int(width))
        self.samples: Sequence[Sample] = _read_table(self.path, int(self.description["n_samples"]))
        n = len(self.samples)
        self._images = ShardedArray(self.path / "images", n, (len(self.contrasts), *self.size))
        self._labels = ShardedArray(self.path / "labels", n, self.size)

    @property
    def kind(self) -> Literal["real", "synthetic"]:
        return "synthetic" if self.description.get("kind") == "synthetic" else "real"

    @property
    def digest(self) -> str:
        return str(self.description["digest"])

    @property
    def lineage(self) -> dict[str, Any]:
        """Where synthetic data come from; empty for real and for imported data."""
        return dict(self.description.get("lineage") or {})

    def training_entry(self) -> dict[str, Any]:
        """What a model trained on this dataset records of it: digest, kind, samples, hashed subjects and lineage."""
        part = self.training_part()
        subjects = part.subjects
        entry = {
            "digest": self.digest,
            "kind": self.kind,
            "n_samples": len(part),
            "phantom": bool(subjects) and all(name.startswith(PHANTOM_PREFIX) for name in subjects),
            "subject_keys": sorted({subject_key(subject, self.digest) for subject in subjects}),
        }
        behind = self.lineage.get("training_datasets", [])
        return {**entry, "training_datasets": behind} if behind else entry

    def read(self, indices: Sequence[int] | NDArray[np.integer[Any]]) -> tuple[UInt8Array, UInt8Array]:
        return self._images.read(list(indices)), self._labels.read(list(indices))

    def select(self, *splits: str) -> View:
        """The samples of these splits, in order."""
        return View(self, [i for i, row in enumerate(self.samples) if row.split in splits])

    def training_part(self) -> View:
        """All that may be trained on: everything but the holdout."""
        return View(self, [i for i, row in enumerate(self.samples) if row.split != "holdout"])

    def close(self) -> None:
        self._images.close()
        self._labels.close()


class View(_Readable):
    """Some rows of a source, in a given order. Reads go through to the source."""

    def __init__(self, source: Samples, indices: Sequence[int]) -> None:
        self.source = source
        self.indices = np.asarray(indices, dtype=np.int64)
        self.contrasts = source.contrasts
        self.label_values = source.label_values
        self.size = source.size
        self.samples = [source.samples[i] for i in self.indices]

    def read(self, indices: Sequence[int] | NDArray[np.integer[Any]]) -> tuple[UInt8Array, UInt8Array]:
        wanted = np.asarray(indices, dtype=np.int64)
        if wanted.size and wanted.min() < 0:
            raise IndexError(f"sample {wanted.min()} of {len(self)}")
        return self.source.read(self.indices[wanted])


class Joined(_Readable):
    """Several sources one after another; contrasts, labels and size must agree."""

    def __init__(self, sources: Sequence[Samples]) -> None:
        first = sources[0]
        for other in sources[1:]:
            for what in ("contrasts", "label_values", "size"):
                if getattr(other, what) != getattr(first, what):
                    raise DataError(
                        "The datasets cannot be joined.",
                        f"Their {what.replace('_', ' ')} differ: {getattr(first, what)} and {getattr(other, what)}.",
                        "Prepare or export them with the same contrasts and size.",
                    )
        self.sources = list(sources)
        self.contrasts, self.label_values, self.size = first.contrasts, first.label_values, first.size
        self.samples = [row for source in sources for row in source.samples]
        self._starts = np.cumsum([0, *(len(source) for source in sources)])

    def read(self, indices: Sequence[int] | NDArray[np.integer[Any]]) -> tuple[UInt8Array, UInt8Array]:
        wanted = np.asarray(indices, dtype=np.int64)
        images = np.empty((len(wanted), len(self.contrasts), *self.size), dtype=np.uint8)
        labels = np.empty((len(wanted), *self.size), dtype=np.uint8)
        owner = np.searchsorted(self._starts, wanted, side="right") - 1
        for number in np.unique(owner):
            here = np.flatnonzero(owner == number)
            images[here], labels[here] = self.sources[number].read(wanted[here] - self._starts[number])
        return images, labels


class DatasetWriter:
    """Writes a dataset, sample by sample, so that an interruption loses at most the last half minute.

    Use as a context manager: leaving it normally completes the dataset; leaving it by an exception keeps what was
    committed, marked incomplete.

    Parameters
    ----------
    path : folder to write. Must be absent or empty, unless ``resume``.
    contrasts : channel names in order, ``("t1", "t1ce", "t2", "flair")``.
    labels : label name -> value, background 0 included.
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
        labels: Mapping[str, int],
        size: tuple[int, int],
        kind: Literal["real", "synthetic"] = "real",
        protocol: Mapping[str, Any] | None = None,
        provenance: Mapping[str, Any] | None = None,
        lineage: Mapping[str, Any] | None = None,
        resume: bool = False,
    ) -> None:
        self.path = Path(path)
        self.contrasts, self.labels, self.size = tuple(contrasts), dict(labels), (int(size[0]), int(size[1]))
        self._fixed: dict[str, Any] = {
            "format": FORMAT,
            "version": FORMAT_VERSION,
            "kind": kind,
            "channel_names": {str(i): name for i, name in enumerate(self.contrasts)},
            "labels": self.labels,
            "size": list(self.size),
            "protocol": dict(protocol or {}),
        }
        self._provenance, self._lineage = dict(provenance or {}), dict(lineage or {})
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
        self._images = ShardWriter(self.path / "images", (len(self.contrasts), *self.size), len(self._rows))
        self._labels = ShardWriter(self.path / "labels", self.size, len(self._rows))
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
        rows : for each sample ``id`` and ``split``, and ``subject``, ``slice``, ``seed`` where they apply.

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
        unknown = np.flatnonzero(np.bincount(labels.ravel(), minlength=256))
        unknown = np.setdiff1d(unknown, list(self.labels.values()))
        if unknown.size:
            raise DataError(
                f"Labels hold the value{'s' if unknown.size > 1 else ''} {', '.join(map(str, unknown))}.",
                f"This dataset's labels are {self.labels}.",
                "Check the plugin or the protocol that made them.",
            )
        digests = map_threads(lambda i: sample_digest(images[i], labels[i]), range(len(rows)))
        new = [
            Sample(str(row["id"]), str(row["split"]), row.get("subject"), row.get("slice"), row.get("seed"), digest)
            for row, digest in zip(rows, digests, strict=True)
        ]
        new_ids: set[str] = set()
        for sample in new:
            if sample.split not in SPLITS[self._fixed["kind"]]:
                raise DataError(
                    f"The sample {sample.id} has the split {sample.split!r}.",
                    f"Those of {self._fixed['kind']} datasets: {', '.join(SPLITS[self._fixed['kind']])}.",
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
        write_atomically(self.path / "zarr.json", json.dumps(group, indent=1).encode())
        write_atomically(self.path / "samples.csv", _table_bytes(self._rows))
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
        splits: dict[str, dict[str, Any]] = {}
        for row in self._rows:
            part = splits.setdefault(row.split, {"n_samples": 0, "subjects": set()})
            part["n_samples"] += 1
            if row.subject is not None:
                part["subjects"].add(row.subject)
        description = {
            **self._fixed,
            "complete": complete,
            "n_samples": len(self._rows),
            "numTraining": sum(row.split != "holdout" for row in self._rows),
            "splits": {name: {**part, "subjects": sorted(part["subjects"])} for name, part in sorted(splits.items())},
            "provenance": self._provenance,
            "lineage": self._lineage,
        }
        if complete:
            description["digest"] = content_digest(self.contrasts, sorted(self.labels.values()), self.size, self._rows)
        write_atomically(self.path / DESCRIPTION, (json.dumps(description, indent=1) + "\n").encode())

    def _take_up(self, resume: bool) -> list[Sample]:
        description = _read_description(self.path)
        if not resume:
            raise UsageError(
                f"There is a dataset at {self.path} already.",
                "Nothing is overwritten unasked.",
                "Choose another folder, or give --overwrite or --resume.",
            )
        for key, value in self._fixed.items():
            if description.get(key) != json.loads(json.dumps(value)):
                raise UsageError(
                    f"The dataset at {self.path} cannot be continued.",
                    f"Its {key} is {description.get(key)!r}, this command would write {value!r}.",
                    "Give the settings it was begun with, or --overwrite.",
                )
        return _read_table(self.path, int(description["n_samples"]))


def is_safe_name(name: object) -> bool:
    """Whether this is one visible component of a path on any system: exports make files of ids and contrasts."""
    return (
        isinstance(name, str)
        and 0 < len(name.encode(errors="replace")) <= 200
        and name.isprintable()
        and not name.startswith(".")
        and not set(name) & {"/", "\\"}
    )


def check_replaceable(folder: Path) -> None:
    """For ``--overwrite`` and ``--resume``: :class:`UsageError` unless absent, empty, or a dataset and nothing else."""
    if folder.exists() and not (folder.is_dir() and _is_dataset(folder)):
        raise UsageError(
            f"The output {folder} is not a dataset.",
            "Only a dataset is replaced by --overwrite or continued by --resume; other files are left alone.",
            "Choose another folder.",
        )


def remove_dataset(folder: Path) -> None:
    """Remove a dataset; whatever else may be there is refused by :func:`check_replaceable`."""
    check_replaceable(folder)
    if folder.exists():
        # The description goes first: what is left of an interrupted removal is not a dataset.
        (folder / DESCRIPTION).unlink(missing_ok=True)
        shutil.rmtree(folder)


def _is_dataset(folder: Path) -> bool:
    """A dataset and nothing beside it; or what is left of one whose removal was interrupted."""
    if (folder / DESCRIPTION).exists():
        try:
            described_as = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8")).get("format")
        except (OSError, ValueError, AttributeError):
            return False
        if described_as != FORMAT:
            return False
    inside = [*folder.iterdir()]
    for array in (folder / "images", folder / "labels"):
        inside += [*array.iterdir()] if array.is_dir() else []
    own = {DESCRIPTION, "samples.csv", "zarr.json", "images", "labels", "c"}
    return all(path.name in own or path.name.endswith(".tmp") for path in inside)


def _holds_something(folder: Path) -> bool:
    """Whether there is more in the folder than what a killed write may leave behind."""
    return any(not (path.name.startswith(".") and path.name.endswith(".tmp")) for path in folder.iterdir())


def find_dataset(path: Path) -> Path:
    """The folder that holds ``dataset.json``: ``path`` itself, or its ``outputs/dataset`` if it is a run folder."""
    for candidate in (path, path / "outputs" / "dataset"):
        if (candidate / DESCRIPTION).is_file():
            return candidate
    raise DataError(
        f"There is no dataset at {path}.",
        "Neither it nor its outputs/dataset holds a dataset.json." if path.exists() else "The folder does not exist.",
        "Make one with `synthkit prepare`, `synthkit generate` or `synthkit import`.",
    )


def _read_description(path: Path) -> dict[str, Any]:
    try:
        description = json.loads((path / DESCRIPTION).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path / DESCRIPTION} cannot be read.", f"{error}.", "Restore it, or make the dataset again."
        ) from error
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


_NEEDED = ("version", "channel_names", "labels", "size", "n_samples", "digest")


def _is_sound(key: str, value: Any) -> bool:
    """Whether a key of the description has a value of its type."""
    if key == "channel_names":
        numbers = {str(i) for i in range(len(value))} if isinstance(value, dict) else None
        return isinstance(value, dict) and set(value) == numbers and all(map(is_safe_name, value.values()))
    if key == "labels":
        return isinstance(value, dict) and all(isinstance(v, int) and 0 <= v < 256 for v in value.values())
    if key == "size":
        return isinstance(value, list) and len(value) == 2 and all(isinstance(v, int) and v > 0 for v in value)
    if key == "digest":
        return isinstance(value, str)
    return isinstance(value, int) and value >= 0


def _read_table(path: Path, n_samples: int) -> list[Sample]:
    if n_samples == 0:  # begun, and nothing committed yet
        return []
    try:
        with (path / "samples.csv").open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            rows = [
                Sample(
                    row["id"],
                    row["split"],
                    row["subject"] or None,
                    int(row["slice"]) if row["slice"] else None,
                    int(row["seed"]) if row["seed"] else None,
                    row["digest"],
                )
                for _, row in zip(range(n_samples), reader, strict=False)
            ]
        if unsafe := [row.id for row in rows if not is_safe_name(row.id)]:
            raise ValueError(f"the id {unsafe[0]!r} cannot be the name of a file")
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise DataError(f"{path / 'samples.csv'} cannot be read.", f"{error!r}.", "Make the dataset again.") from error
    if len(rows) != n_samples:
        raise DataError(
            f"{path / 'samples.csv'} is too short.",
            f"It has {len(rows)} rows, {DESCRIPTION} says {n_samples}.",
            "Make the dataset again.",
        )
    return rows


def _table_bytes(rows: Sequence[Sample]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    writer.writerows([getattr(row, column) for column in _COLUMNS] for row in rows)
    return text.getvalue().encode()
