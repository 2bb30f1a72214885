"""Data in memory for tests of methods: slices as a method trains on them, and volumes as a metric compares them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from synthkit.contract import Sample
from synthkit.data.format import content_digest, sample_digest
from synthkit.schemes import BRATS, Scheme

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from synthkit.contract import UInt8Array


class InMemorySamples:
    """Arrays as a dataset: satisfies :class:`synthkit.contract.Samples`.

    Parameters
    ----------
    images : uint8 ``(n, contrast, y, x)``. They are not copied; what is read is.
    labels : uint8 ``(n, y, x)``; None for no label anywhere.
    subjects : the real subject of each image, None for a synthetic image; None alone makes each image one of a
        subject of its own, ``"subject0"`` and so on. Slices of a subject are numbered in order.
    contrasts : names of the contrasts; the first of t1, t1ce, t2 and flair if not given.
    scheme : what the label values mean; if not given, a scheme of ``label_values``.
    label_values : all values that labels may have, background first; those of BraTS have its names.
    split : split of all rows; if not given, "train" for real images and "synthetic" for the others.
    prefix : what the ids of the samples begin with.

    Attributes
    ----------
    reads : how many rows each call of :meth:`read` asked for, in order of the calls; for tests of how a method reads.

    Raises
    ------
    ValueError
        Shapes, types or lengths do not fit each other.

    Examples
    --------
    >>> data = InMemorySamples(np.full((3, 1, 8, 8), 90, np.uint8))
    >>> len(data), data.contrasts, data.size, data.samples[2].subject
    (3, ('t1',), (8, 8), 'subject2')
    >>> images, labels = data.read([2, 0])
    >>> images.shape, labels.shape
    ((2, 1, 8, 8), (2, 8, 8))
    """

    def __init__(
        self,
        images: UInt8Array,
        labels: UInt8Array | None = None,
        *,
        subjects: Sequence[str | None] | None = None,
        contrasts: Sequence[str] | None = None,
        scheme: Scheme | None = None,
        label_values: Sequence[int] = BRATS.values,
        split: str | None = None,
        prefix: str = "sample",
    ) -> None:
        if images.ndim != 4 or images.dtype != np.uint8:
            raise ValueError(f"images are uint8 (n, contrast, y, x), not {images.dtype} {images.shape}")
        n, n_contrasts, *size = images.shape
        self.images = images
        self.labels = np.zeros((n, *size), np.uint8) if labels is None else labels
        if self.labels.shape != (n, *size) or self.labels.dtype != np.uint8:
            raise ValueError(f"labels are uint8 {(n, *size)}, not {self.labels.dtype} {self.labels.shape}")
        self.contrasts = tuple(BRATS.contrast_names[:n_contrasts] if contrasts is None else contrasts)
        if len(self.contrasts) != n_contrasts:
            raise ValueError(f"{n_contrasts} contrasts have the names {self.contrasts}")
        self._subjects = [f"subject{row}" for row in range(n)] if subjects is None else list(subjects)
        if len(self._subjects) != n:
            raise ValueError(f"{n} images are of {len(self._subjects)} subjects")
        self.scheme = scheme or Scheme.of_values(label_values)
        self.label_values = self.scheme.values
        self.size = (size[0], size[1])
        self.reads: list[int] = []
        self._split, self._prefix = split, prefix

    @cached_property
    def samples(self) -> Sequence[Sample]:
        seen: Counter[str] = Counter()
        rows = []
        for number, subject in enumerate(self._subjects):
            place = None if subject is None else seen[subject]
            split = self._split or ("synthetic" if subject is None else "train")
            seed = number if subject is None else None
            digest = sample_digest(self.images[number], self.labels[number])
            rows.append(Sample(f"{self._prefix}{number}", split, subject, place, seed, digest))
            if subject is not None:
                seen[subject] += 1
        return rows

    @property
    def digest(self) -> str:
        return content_digest(self.contrasts, self.scheme, self.size, self.samples)

    def __len__(self) -> int:
        return len(self.images)

    def read(self, indices: Sequence[int] | NDArray[np.integer[Any]]) -> tuple[UInt8Array, UInt8Array]:
        """As :meth:`synthkit.contract.Samples.read`; an index out of range, a negative one too, is an IndexError."""
        rows = np.asarray(indices, dtype=np.int64)
        if rows.size and rows.min() < 0:
            raise IndexError(f"sample {rows.min()} of {len(self)}")
        self.reads.append(len(rows))
        return self.images[rows], self.labels[rows]

    def batches(self, batch_size: int) -> Iterator[tuple[UInt8Array, UInt8Array]]:
        for start in range(0, len(self), batch_size):
            yield self.read(range(start, min(start + batch_size, len(self))))


class InMemoryVolumes:
    """Label volumes of subjects: satisfies :class:`synthkit.contract.Volumes`.

    Parameters
    ----------
    volumes : labels uint8 ``(x, y, z)`` of each subject. They are not copied; a method must not change them.
    spacing_mm : voxel spacing of all volumes in mm, along x, y and z.
    scheme : what the label values mean.

    Examples
    --------
    >>> volumes = InMemoryVolumes({"a": np.zeros((8, 8, 4), np.uint8)}, (1.0, 1.0, 5.0))
    >>> volumes.subjects, volumes.labels("a")[1]
    (('a',), (1.0, 1.0, 5.0))
    """

    def __init__(
        self,
        volumes: Mapping[str, UInt8Array],
        spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0),
        *,
        scheme: Scheme = BRATS,
    ) -> None:
        self.volumes = dict(volumes)
        self.spacing_mm = spacing_mm
        self.scheme = scheme

    @property
    def subjects(self) -> Sequence[str]:
        return tuple(self.volumes)

    def labels(self, subject: str) -> tuple[UInt8Array, tuple[float, float, float]]:
        return self.volumes[subject], self.spacing_mm
