"""What an audit compared and found: the record that the searches fill and the numbers are taken from.

A *column* is a view (a contrast, or ``joint``: all of them as one long image) under a rule (``exact.RULES``). Numbers
that rest on one distance a pair use the *primary* column, the joint image over all pixels.

Scans of one patient are no more independent than slices of one subject: subjects are patients here
(:func:`synthkit.data.patients.patient_behind`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthkit.contract import Sample, Samples
from synthkit.data.patients import patient_behind
from synthkit_memorization.null.control import Control
from synthkit_memorization.null.thresholds import Null
from synthkit_memorization.numbers.closeness import BestPatients
from synthkit_memorization.search.exact import Matches
from synthkit_memorization.search.pixels import Float64, Int64

Column = tuple[str, str]

#: Rules under which an image is the same picture, up to where it lies.
IN_ONE_PIECE = ("pearson", "flip", "shift")


@dataclass(frozen=True)
class Found:
    """Best matches of some images: ``r`` float64 and ``index`` int64, both ``(image, column)``; NaN and -1 if none."""

    r: Float64
    index: Int64

    @staticmethod
    def of(matches: Mapping[Column, Matches], columns: Sequence[Column]) -> Found:
        return Found(
            np.stack([matches[column].r[:, 0] for column in columns], axis=1),
            np.stack([matches[column].index[:, 0] for column in columns], axis=1),
        )


@dataclass
class Audit:
    """What was compared and found; what was not asked for, or could not be found, is None.

    Attributes
    ----------
    blank : synthetic images that are constant or show hardly any brain, boolean ``(image,)``.
    null_source, null_patient : the images behind the thresholds, and their patients (0, 1, ...), int64 ``(image,)``.
    null : best r of each of them, the larger of the plain and the smoothness-matched; None without a valid null.
    null_plain : as found without matching the smoothness. null_kind : in words.
    control : the synthetic images among the held-out ones; None without these.
    thresholds : float64 ``(column,)``, the larger of the null's and the control's.
    found : matches of the synthetic images.
    halves : best matches of the synthetic images in equal parts of the training and of the held-out images, and how
        many images a part has.
    elsewhere, null_elsewhere : best r ``(image,)`` with a training patient other than the match's.
    train_other, train_other_patient : best r ``(training image,)`` with another image, and of another patient.
    train_seen, holdout_seen : best r ``(image,)`` of the real images among the synthetic ones.
    neighbours : matches of the synthetic images with each other, k columns.
    """

    params: Any
    train: Samples
    synthetic: Samples
    holdout: Samples | None
    columns: tuple[Column, ...]
    blank: NDArray[np.bool_]
    null_source: Samples
    null_patient: Int64
    train_patient: Int64
    null_kind: str
    null: Null | None = None
    null_plain: Null | None = None
    null_index: Int64 | None = None
    control: Control | None = None
    thresholds: Float64 | None = None
    found: Found = field(default_factory=lambda: Found(np.empty((0, 0)), np.empty((0, 0), np.int64)))
    halves: tuple[BestPatients, BestPatients, int] | None = None
    elsewhere: Float64 | None = None
    null_elsewhere: Float64 | None = None
    train_other: Float64 | None = None
    train_other_patient: Float64 | None = None
    train_seen: Float64 | None = None
    holdout_seen: Float64 | None = None
    neighbours: Matches | None = None

    @property
    def primary(self) -> int:
        """Position of the joint image (or the only contrast) over all pixels among the columns."""
        return self.columns.index((self.columns[-1][0], "pearson"))  # the last view is the joint one

    @property
    def flagged(self) -> Any:
        """Boolean ``(image, column)``, or None without a null."""
        return None if self.thresholds is None else self.found.r > self.thresholds

    @property
    def counted(self) -> NDArray[np.bool_]:
        """Synthetic images that count as searched, boolean ``(image,)``: those that are not blank, and the flagged."""
        if self.flagged is None:
            return ~self.blank
        counted: NDArray[np.bool_] = ~self.blank | self.flagged.any(axis=1)
        return counted

    @property
    def described(self) -> NDArray[np.bool_]:
        """Synthetic images that medians and shares beside the flags describe: the counted ones, or all if none is."""
        return self.counted if self.counted.any() else np.ones(len(self.blank), np.bool_)

    @property
    def whole(self) -> list[int]:
        """Columns in which a copy is one: the joint image, in place, mirrored or shifted."""
        view = self.columns[self.primary][0]
        return [c for c, (v, rule) in enumerate(self.columns) if v == view and rule in IN_ONE_PIECE]

    @property
    def copies(self) -> Any:
        """Boolean ``(image,)``: flagged, and the joint image correlates with a training image by copy_r."""
        return None if self.thresholds is None else self._copies(self.found.r, self.thresholds)

    @property
    def n_holdout_copies(self) -> int | None:
        """Synthetic images that would be copies, were the held-out images training images; None without these."""
        if self.control is None or self.thresholds is None:
            return None
        return int(self._copies(self.control.r, self.thresholds).sum())

    def _copies(self, r: Float64, thresholds: Float64) -> Any:
        """Flagged, and the whole image correlates with its match by copy_r: boolean ``(image,)``."""
        return (r > thresholds).any(axis=1) & (r[:, self.whole] >= self.params.copy_r).any(axis=1)

    @property
    def copied(self) -> Int64:
        """Training image that each synthetic image would be a copy of, int64 ``(image,)``; -1 if none was found."""
        r = np.where(self.found.index[:, self.whole] >= 0, self.found.r[:, self.whole], -np.inf)
        best = np.take(self.whole, r.argmax(axis=1))
        image: Int64 = self.found.index[np.arange(len(r)), best]
        return image


def patients(samples: Sequence[Sample]) -> Int64:
    """0, 1, ... for each patient, int64 ``(image,)``. Images without a subject count as one: they may be one person."""
    names = [patient_behind(sample) or "" for sample in samples]
    return np.unique(names, return_inverse=True)[1].astype(np.int64)
