"""Two subjects whose label maps were exchanged: told by where each one's images stand out from healthy brain."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from synthkit.data.label_places import StandsOut, steps_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from synthkit.contract import UInt8Array

_CONTRASTS = ("flair", "t1ce")
# Fewer places of labels say nothing.
_FEWEST = 20
# Of two subjects: how much more the two places of labels stand out in each other's images than in their own, as the
# product of both shares. It was at most 0.7 for right labels (of 5 people, 100 phantoms) and at least 1.4 for exchanged
# ones; and the least share of either.
_BETTER, _LEAST = 1.25, 0.85


@dataclass(frozen=True, eq=False)
class LabelFit:
    """How far places of one subject stand out from healthy brain, and which of them are labelled.

    Attributes
    ----------
    shape : of its volumes.
    stands_out : float16 (place,) in spreads, in FLAIR or T1ce, whichever is more.
    labelled : indices of places.
    """

    shape: tuple[int, ...]
    stands_out: NDArray[np.float16]
    labelled: NDArray[np.intp]

    @classmethod
    def of(cls, images: Mapping[str, NDArray[Any]], labels: UInt8Array) -> LabelFit | None:
        """Of volumes (x, y, z) on one grid; None of few labels, and without FLAIR and T1ce."""
        some = tuple(slice(None, None, step) for step in steps_of(labels.shape))
        labelled = np.flatnonzero(labels[some])
        if len(labelled) < _FEWEST:
            return None
        unlabelled = labels[some] == 0
        contrasts = [
            StandsOut.of(images[name], images[name][some][unlabelled]) for name in _CONTRASTS if name in images
        ]
        seen = [contrast.at(some) for contrast in contrasts if contrast is not None]
        if not seen:
            return None
        return cls(labels.shape, np.max(seen, axis=0).astype(np.float16).reshape(-1), labelled)


def exchanged_labels(fits: Mapping[str, LabelFit | None]) -> dict[str, str]:
    """Subject -> the other one whose labels fit its images, and whose images its labels fit, far better."""
    by_shape: dict[tuple[int, ...], list[str]] = defaultdict(list)
    for subject, fit in fits.items():
        if fit is not None:
            by_shape[fit.shape].append(subject)
    found: dict[str, str] = {}
    for subjects in by_shape.values():
        better = _better([fit for subject in subjects if (fit := fits[subject]) is not None])
        best = better.argmax(axis=1)
        for row, column in enumerate(best.tolist()):
            if better[row, column] > _BETTER and best[column] == row:
                found[subjects[row]] = subjects[column]
    return found


def _better(fits: list[LabelFit]) -> NDArray[np.float64]:
    """(subject, subject): how much more labels stand out once the two exchange theirs; 0 where one of them loses."""
    from scipy import sparse

    starts = np.cumsum([0, *(len(fit.labelled) for fit in fits)])
    shares = np.concatenate([np.full(len(fit.labelled), 1 / len(fit.labelled)) for fit in fits])
    where = (shares, np.concatenate([fit.labelled for fit in fits]), starts)
    labelled = sparse.csr_matrix(where, shape=(len(fits), len(fits[0].stands_out)))
    there = np.stack([labelled @ fit.stands_out.astype(np.float32) for fit in fits])  # (images of, labels of)
    more = there / np.maximum(np.diag(there), 0.1)[:, None]
    np.fill_diagonal(more, 0)
    return np.where((more > _LEAST) & (more.T > _LEAST), more * more.T, 0)
