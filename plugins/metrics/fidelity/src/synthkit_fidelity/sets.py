"""Features of a set of images, with what is independent in it, and the floor: real images against real ones.

Slices of a patient depend on each other, so sets are drawn and split by patient.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synthkit.contract import Sample
from synthkit.data.patients import patient_behind
from synthkit.judging.intervals import Spread

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
    spreads: tuple[Spread, Spread]


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


@dataclass(frozen=True)
class Floor:
    """Which images make the floor, each as many: real ones, ``others`` of other patients, and synthetic ones.

    ``from_holdout``: the others are held-out images, else a part of the real ones.
    """

    real: Indices
    others: Indices
    synthetic: Indices
    from_holdout: bool

    @property
    def note(self) -> str:
        origin = "held-out patients" if self.from_holdout else "the other half of the patients"
        return f"{len(self.real)} images each, against {origin}"


def make_floor(real: Indices, holdout: Indices | None, n_synthetic: int, seed: int) -> Floor | None:
    """Sets of equal size from the groups of the real and held-out images; None with a single patient.

    The size is that of the smallest of the three sets.
    """
    rng = np.random.default_rng(seed)
    if holdout is not None and len(holdout):
        first, second, from_holdout = np.arange(len(real)), np.arange(len(holdout)), True
        groups = (real, holdout)
    else:
        order = rng.permutation(real.max() + 1)
        rank = order[real]
        per_patient = np.bincount(rank)
        # Half of the images rather than of the patients, who have different numbers of slices.
        before = np.cumsum(per_patient) - per_patient / 2
        in_first = (before <= len(real) / 2)[rank]
        first, second, from_holdout = np.flatnonzero(in_first), np.flatnonzero(~in_first), False
        groups = (real, real)
    size = min(len(first), len(second), n_synthetic)
    if size < 2:
        return None

    def part(indices: Indices, group: Indices) -> Indices:
        numbered = np.unique(group[indices], return_inverse=True)[1].astype(np.int64)
        return indices[draw(numbered, size, rng)]

    synthetic = draw(np.arange(n_synthetic), size, rng)
    return Floor(part(first, groups[0]), part(second, groups[1]), synthetic, from_holdout)
