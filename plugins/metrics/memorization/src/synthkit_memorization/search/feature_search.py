"""Search by the features of a network beside the pixels: for copies that no comparison of pixels in place finds.

Every contrast of an image goes through the network on its own. Features are centred at the mean of the training images'
(a network's features share most of what they hold), made of length 1, and compared by their inner product; the
similarity of two images is the mean over their contrasts, -1..1. Its null are best matches of real images with training
images of other patients; with n of them the threshold is the m-th largest, m = max(1, floor((n + 1) rate)). An image
exchangeable with them exceeds it with probability m / (n + 1); slices of one patient are not, so this describes and
judges nothing.

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
    null : similarity of the null images, ascending; None without a valid null. n_people : whom they are of.
    threshold : from it.
    """

    network: str
    rows: Int64
    similarity: Float64
    index: Int64
    null: Float64 | None
    n_people: int
    threshold: float | None

    @property
    def flagged(self) -> NDArray[np.bool_] | None:
        return None if self.threshold is None else self.similarity > self.threshold


def search_by_features(audit: Audit, extractor: Any, limit: int | None) -> FeatureMatches:
    """Synthetic and null images, at most ``limit`` of each (evenly drawn), among all training images.

    ``extractor`` is a :class:`synthkit_features.Extractor`.
    """
    rng = np.random.default_rng(audit.params.seed)
    people, own_side = audit.null, audit.holdout is None
    rows, null_rows = (_some(n, limit, rng) for n in (len(audit.synthetic), len(people.samples)))
    total = (len(audit.train.samples) + len(rows) + (0 if own_side else len(null_rows))) * len(
        audit.synthetic.contrasts
    )
    work = _Features(extractor, total)
    train = work.of(audit.train.images, np.arange(len(audit.train.samples)))
    centre = train.mean(axis=0)
    train = _directions(train, centre)
    null_features = train[null_rows] if own_side else _directions(work.of(people.images, null_rows), centre)
    null, _ = _best(null_features, train, people.person[null_rows] if own_side else None, audit.train.person)
    similarity, index = _best(_directions(work.of(audit.synthetic, rows), centre), train, None, audit.train.person)
    n_people = len(np.unique(people.person[null_rows]))
    if not np.isfinite(null).all():
        return FeatureMatches(extractor.name, rows, similarity, index, None, n_people, None)
    ordered = np.sort(null)
    rank = max(1, int((len(ordered) + 1) * audit.params.feature_flag_rate + 1e-9))
    return FeatureMatches(extractor.name, rows, similarity, index, ordered, n_people, float(ordered[-rank]))


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
