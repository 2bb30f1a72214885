"""Features of a set of images, with what is independent in it.

Slices of a patient depend on each other, so sets are drawn by patient.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synthkit.contract import Sample
from synthkit.data.patients import patient_behind
from synthkit.judging.spreads import Spread

Indices = NDArray[np.int64]
Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A score, and its sampling variance due to the first set (real images, by patient) and the second (synthetic).

    By the jackknife, which leaves out one patient or one synthetic image at a time. A bootstrap would draw the same
    images several times, which makes covariances singular and neighbours identical: Frechet distances of resamples all
    lie above the value, and nearest neighbours at distance 0.
    """

    value: float
    spreads: tuple[Spread, ...]


@dataclass(frozen=True)
class FeatureSet:
    """Features ``values (n, d)``, the ``group (n,)`` of each image from 0 on, and logits ``(n, classes)`` if any.

    A group is a patient, or a single synthetic image.
    """

    values: NDArray[np.float32]
    group: Indices
    logits: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.values)

    @property
    def dimension(self) -> int:
        return int(self.values.shape[1])

    @property
    def n_groups(self) -> int:
        return len(np.unique(self.group))

    def take(self, indices: Indices) -> FeatureSet:
        """These images; groups are numbered anew."""
        group = np.unique(self.group[indices], return_inverse=True)[1].astype(np.int64)
        return FeatureSet(self.values[indices], group, None if self.logits is None else self.logits[indices])

    def fraction(self, fraction: float, rng: np.random.Generator) -> FeatureSet:
        """A random part of the groups, whole ones."""
        if fraction >= 1:
            return self
        names = np.unique(self.group)
        kept = rng.permutation(names)[: max(1, round(fraction * len(names)))]
        return self.take(np.flatnonzero(np.isin(self.group, kept)))


def joined(sets: Sequence[FeatureSet]) -> FeatureSet:
    """Features of all contrasts side by side: a synthetic image whose contrasts do not fit together shows here."""
    return FeatureSet(np.concatenate([s.values for s in sets], axis=1), sets[0].group)


def groups_of(samples: Sequence[Sample]) -> Indices:
    """Patients numbered from 0 on; a sample without a subject is a group of its own."""
    patients = [patient_behind(sample) for sample in samples]
    names = [
        (1, sample.id) if patient is None else (0, patient) for sample, patient in zip(samples, patients, strict=True)
    ]
    number: Mapping[tuple[int, str], int] = {name: i for i, name in enumerate(dict.fromkeys(names))}
    return np.array([number[name] for name in names], dtype=np.int64)


def draw(group: Indices, n: int, rng: np.random.Generator) -> Indices:
    """``n`` images: groups in random order, whole but for the last. In ascending order; all if there are no more."""
    if n >= len(group):
        return np.arange(len(group))
    order = rng.permutation(group.max() + 1)
    return np.sort(np.argsort(order[group], kind="stable")[:n])
