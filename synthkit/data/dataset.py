"""A dataset on disk, to be read: images, labels, a table of samples and a description, in one folder.

Its files are those of :mod:`synthkit.data.format`; :mod:`synthkit.data.writer` writes them. A description with
``"complete": false`` is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from synthkit.contract import Sample
from synthkit.data.format import DESCRIPTION, IMAGES, LABELS, read_description, read_table, scheme_of
from synthkit.data.lineage import entries_of, has_unknown_masks, training_entry
from synthkit.data.shards import ShardedArray
from synthkit.data.views import Readable, View
from synthkit.errors import DataError
from synthkit.files import LINKED

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from synthkit.contract import UInt8Array


class Dataset(Readable):
    """A complete dataset on disk. Satisfies :class:`synthkit.contract.Samples`; nothing but its table is in memory.

    Parameters
    ----------
    path : the folder that holds ``dataset.json``, or a run folder whose outputs hold one.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = find_dataset(Path(path))
        self.description = read_description(self.path)
        if not self.description.get("complete"):
            raise DataError(
                f"The dataset {self.path} is not complete.",
                f"Writing it was interrupted after {self.description.get('n_samples', 0)} samples.",
                "Run the command that writes it again with --resume.",
            )
        self.contrasts = tuple(
            self.description["channel_names"][str(i)] for i in range(len(self.description["channel_names"]))
        )
        self.scheme = scheme_of(self.description, self.path)
        self.labels = self.scheme.label_values
        self.label_values = self.scheme.values
        height, width = self.description["size"]
        self.size = (int(height), int(width))
        self.samples: Sequence[Sample] = read_table(self.path, int(self.description["n_samples"]))
        n = len(self.samples)
        self._images = ShardedArray(self.path / IMAGES, n, (len(self.contrasts), *self.size))
        self._labels = ShardedArray(self.path / LABELS, n, self.size)

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

    @property
    def training_datasets(self) -> list[dict[str, Any]]:
        """Entries of what synthetic images were made from, see :mod:`synthkit.data.lineage`; empty where unknown."""
        return entries_of(self.lineage)

    def training_entry(self) -> dict[str, Any]:
        """What a model trained on this dataset records of it: digest, kind, samples, hashed subjects and lineage."""
        part = self.training_part()
        return training_entry(
            digest=self.digest,
            kind=self.kind,
            n_samples=len(part),
            subjects=part.subjects,
            patients=self.patients,
            behind=self.training_datasets,
            imported="imported" in self.lineage or has_unknown_masks(self.lineage),
        )

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


def find_dataset(path: Path) -> Path:
    """The folder that holds ``dataset.json``: ``path`` itself, or its ``outputs/dataset`` if it is a run folder."""
    made = path / "outputs" / "dataset"
    for candidate in (path, made):
        if (candidate / DESCRIPTION).is_file():
            if candidate == made and (made.is_symlink() or made.parent.is_symlink()):
                raise DataError(f"The outputs of {path} are a link.", "A run leaves files, and no links.", LINKED)
            return candidate
    raise DataError(
        f"There is no dataset at {path}.",
        "Neither it nor its outputs/dataset holds a dataset.json." if path.exists() else "The folder does not exist.",
        "Make one with `synthkit prepare`, `synthkit generate` or `synthkit import`.",
    )
