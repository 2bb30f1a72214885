"""The real people of a side, and parts of a dataset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from synthkit.contract import Sample, Samples
from synthkit.data.patients import patient_behind
from synthkit_memorization.search.pixels import Images, Int64


class Part:
    """Some rows of a dataset, as the search reads them."""

    def __init__(self, source: Images, rows: Int64) -> None:
        self._source, self._rows = source, rows
        self.contrasts, self.size = source.contrasts, source.size
        if hasattr(source, "scheme"):
            self.scheme = source.scheme

    def __len__(self) -> int:
        return len(self._rows)

    def read(self, indices: Any) -> Any:
        return self._source.read(self._rows[np.asarray(indices, dtype=np.int64)])


@dataclass(frozen=True)
class People:
    """One side of real people: its images, and the person, 0, 1, ..., that each is of, int64 ``(image,)``."""

    images: Images
    samples: Sequence[Sample]
    person: Int64

    @staticmethod
    def of(data: Samples) -> People:
        return People(data, data.samples, patients(data.samples))

    @property
    def n(self) -> int:
        return int(self.person.max()) + 1 if len(self.person) else 0

    def without(self, people: Sequence[int]) -> People | None:
        """All but some people; None if nobody is left."""
        rows = np.flatnonzero(~np.isin(self.person, people))
        if not len(rows):
            return None
        person = np.unique(self.person[rows], return_inverse=True)[1].astype(np.int64)
        return People(Part(self.images, rows), [self.samples[int(row)] for row in rows], person)

    def name(self, person: int) -> str:
        """The subject of the first of a person's images, or an empty word."""
        return self.samples[int(np.flatnonzero(self.person == person)[0])].subject or ""


def patients(samples: Sequence[Sample]) -> Int64:
    """0, 1, ... for each patient, int64 ``(image,)``. Images without a subject count as one: they may be one person."""
    names = [patient_behind(sample) or "" for sample in samples]
    return np.unique(names, return_inverse=True)[1].astype(np.int64)
