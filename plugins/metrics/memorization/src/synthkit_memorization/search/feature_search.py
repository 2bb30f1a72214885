"""Search by the features of a network beside the pixels: for copies that no comparison of pixels in place finds.

Every contrast of an image goes through the network on its own. Features are centred at the mean of the training images'
(a network's features share most of what they hold), made of length 1, and compared by their inner product; the
similarity of two images is the mean over their contrasts, -1..1. Its null and threshold are those of the pixel search
(``thresholds.py``): best matches of real images with training images of other patients.

On a CPU the network is the cost, so samples of the synthetic and of the null images are searched for; always in all
training images. The numbers belong to the network, which the scores name with the digest of its weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import synthkit
from synthkit_memorization.audit import Audit
from synthkit_memorization.null.thresholds import Null
from synthkit_memorization.search.pixels import Float32, Float64, Images, Int64

#: Images that go through the network, and queries that are compared, at a time.
BATCH, QUERIES = 64, 512


@dataclass(frozen=True)
class FeatureMatches:
    """Best matches by features.

    Attributes
    ----------
    network : name of the network with the digest of its weights.
    rows : int64 ``(query,)``, the synthetic images searched for. similarity, index : of their best training image.
    null : similarity of the null images, one column; None without a valid null. threshold : from it.
    """

    network: str
    rows: Int64
    similarity: Float64
    index: Int64
    null: Null | None
    threshold: float | None

    @property
    def flagged(self) -> NDArray[np.bool_] | None:
        return None if self.threshold is None else self.similarity > self.threshold


def search_by_features(audit: Audit, extractor: Any, limit: int | None) -> FeatureMatches:
    """Synthetic and null images, at most ``limit`` of each (evenly drawn), among all training images.

    ``extractor`` is a :class:`synthkit_features.Extractor`.
    """
    rng = np.random.default_rng(audit.params.seed)
    rows, null_rows = (_some(len(part), limit, rng) for part in (audit.synthetic, audit.null_source))
    total = (len(audit.train) + len(rows) + (len(null_rows) if audit.holdout is not None else 0)) * len(
        audit.train.contrasts
    )
    work = _Features(extractor, total)
    train = work.of(audit.train, np.arange(len(audit.train)))
    centre = train.mean(axis=0)
    train = _directions(train, centre)
    null_features = (
        train[null_rows] if audit.holdout is None else _directions(work.of(audit.null_source, null_rows), centre)
    )
    own = audit.null_patient[null_rows] if audit.holdout is None else None
    null_similarity, _ = _best(null_features, train, own, audit.train_patient)
    null = threshold = None
    if np.isfinite(null_similarity).all():
        null = Null(null_similarity[:, None], np.unique(audit.null_patient[null_rows], return_inverse=True)[1])
        threshold = float(null.thresholds(audit.params.false_flag_rate)[0])
    similarity, index = _best(_directions(work.of(audit.synthetic, rows), centre), train, None, audit.train_patient)
    return FeatureMatches(extractor.name, rows, similarity, index, null, threshold)


class _Features:
    """Features of images, and how far they are."""

    def __init__(self, extractor: Any, total: int) -> None:
        self._extractor = extractor
        self._total = total
        self._done = 0

    def of(self, images: Images, rows: Int64) -> Float32:
        """Float32 ``(image, contrast, feature)``."""
        parts = []
        for first in range(0, len(rows), BATCH):
            pixels, _ = images.read(rows[first : first + BATCH])
            flat = self._extractor(pixels.reshape(-1, *images.size))
            parts.append(np.asarray(flat, np.float32).reshape(*pixels.shape[:2], -1))
            self._done += flat.shape[0]
            synthkit.progress(self._done, self._total, unit="image through the feature network")
        return np.concatenate(parts)


def _directions(features: Float32, centre: Float32) -> Float32:
    """Centred, each contrast of length 1 (0 where nothing is left) over the root of their number; ``(image, all)``."""
    centred = features - centre
    length = np.linalg.norm(centred, axis=2, keepdims=True)
    units = np.divide(centred, length, out=np.zeros_like(centred), where=length > 1e-12)
    result: Float32 = (units / np.sqrt(features.shape[1])).reshape(len(features), -1)
    return result


def _best(queries: Float32, train: Float32, own: Int64 | None, patient: Int64) -> tuple[Float64, Int64]:
    """Largest inner product and its row; not with images of the query's ``own`` patient. -inf where none is left."""
    best = np.empty(len(queries))
    index = np.empty(len(queries), np.int64)
    for first in range(0, len(queries), QUERIES):
        part = slice(first, first + QUERIES)
        similarity = queries[part] @ train.T
        if own is not None:
            similarity[own[part][:, None] == patient[None, :]] = -np.inf
        index[part] = similarity.argmax(axis=1)
        best[part] = similarity[np.arange(len(similarity)), index[part]]
    return best, index


def _some(n: int, limit: int | None, rng: np.random.Generator) -> Int64:
    """All rows, or ``limit`` of them drawn without replacement; ascending."""
    rows: Int64 = np.arange(n) if limit is None or n <= limit else np.sort(rng.permutation(n)[:limit])
    return rows
