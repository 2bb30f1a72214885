"""The metric ``obedience``: whether images show the labels that they come with, as real images show theirs.

A generator that is asked for a label map returns it by contract; whether the image shows it, a segmenter tells that has
learned from real images. Here it is a quadratic discriminant (Hastie, Tibshirani and Friedman 2009, section 4.3): a
normal distribution of each label's pixels, of their greys and of blurred greys around them. It is learned in one pass,
and it is no good segmenter beside a network. That does not matter as long as it is the same for both
sides: what it reads in held-out real images stands beside what it reads in synthetic ones.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

import synthkit
from synthkit import Row, Score
from synthkit.contract import Samples
from synthkit.data.naming import brain_mask
from synthkit.errors import DataError
from synthkit.schemes import enumerated
from synthkit_realism import ObedienceParams
from synthkit_realism.regions import check_comparable, patient_numbers, regions_of, translation_to

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from synthkit.contract import UInt8Array

    Float64 = NDArray[np.float64]

_BATCH = 16
# Widths of the blurs, in sides of the image; the greys themselves come first.
_BLURS = (1 / 64, 1 / 32, 1 / 16)
# Of the covariance that a label is read by: the share of its own, and of the variances of all pixels. Its own alone
# trusts what patients to learn from have in common by chance: with three, Dice of the whole tumour was 0.10 less.
_OWN, _OF_ALL = 0.8, 0.05
# A label is learned from more pixels than there are features, this many times.
_LEAST_PIXELS = 2


def score(
    *,
    metrics: Sequence[str],
    params: ObedienceParams,
    real: Samples,
    synthetic: Samples,
    holdout: Samples | None = None,
) -> Iterator[Score | Row]:
    """Scores as declared; the table ``obedience`` has a row a slice and region, with the two areas in pixels.

    Raises
    ------
    DataError : an empty dataset, contrasts, sizes or names of labels that differ, or real images without labels.
    """
    sets = {"synthetic": synthetic, **({"holdout": holdout} if holdout is not None and len(holdout) else {})}
    check_comparable({"real": real, **sets})
    reader = _Reader.learned(real, params.images)
    regions = {
        name: values for name, values in regions_of(real.scheme).items() if set(values) & set(reader.values.tolist())
    }
    if not regions:
        raise DataError(
            "There is nothing to learn labels from.",
            "No label has pixels enough in the real images.",
            "Give real images with labels.",
        )
    unknown = [label.name for label in real.scheme.labels if label.value not in reader.values]
    if unknown:
        synthkit.message(
            f"{enumerated(unknown)} has too few pixels in the real images to be learned, and is never read.",
            level="warning",
        )
    n_asked = sum('"labels"' in (row.asked or "") for row in synthetic.samples)
    yield Score(name="n_asked", value=float(n_asked), n=len(synthetic))
    counts = {}
    for role, data in sets.items():
        rows = _spread(len(data), params.images)
        counts[role] = _counts(reader, data, rows, translation_to(real.scheme, data.scheme), regions)
        yield from _rows(role, [data.samples[k].id for k in rows], list(regions), counts[role])
    n_units = {role: int(patient_numbers(data).max()) + 1 for role, data in sets.items()}
    for k, name in enumerate(regions):
        found = {role: _dice(of[:, k]) for role, of in counts.items()}
        for role, value in found.items():
            of = {"images": role, "region": name}
            note = "" if value is not None else "neither a label nor a reading has it"
            yield Score(name="read_dice", value=value, of=of, n=n_units[role], note=note)
            r = _pearson(counts[role][:, k, 0], counts[role][:, k, 1])
            note = "" if r is not None else "all slices have the same area"
            yield Score(name="read_area_r", value=r, of=of, n=n_units[role], note=note)
        yield _ratio(name, found.get("synthetic"), found.get("holdout"), n_units["synthetic"])


def _ratio(region: str, synthetic: float | None, real: float | None, n: int) -> Score:
    of = {"region": region}
    if synthetic is None or not real:
        note = "no held-out real images to compare with, or nothing to read in them" if not real else "nothing to read"
        return Score(name="obedience", value=None, of=of, n=n, note=note)
    return Score(name="obedience", value=synthetic / real, of=of, n=n)


def _rows(role: str, ids: Sequence[str], regions: Sequence[str], counts: NDArray[np.int64]) -> Iterator[Row]:
    for name, of_slice in zip(ids, counts.tolist(), strict=True):
        for region, (area, read_area, both) in zip(regions, of_slice, strict=True):
            values = {"images": role, "id": name, "region": region, "area": area, "read": read_area, "both": both}
            yield Row(table="obedience", values=values)


def _spread(n: int, most: int) -> list[int]:
    """At most so many rows, evenly spaced."""
    return sorted(set(np.linspace(0, n - 1, min(n, most)).round().astype(int).tolist()))


@dataclass(frozen=True)
class _Reader:
    """The discriminant of V label values by F features.

    Attributes
    ----------
    values : the label values that it tells apart, background among them, ``(V,)``.
    means : ``(V, F)``. whitening : ``(V, F, F)``, the inverse of each Cholesky factor. added : ``(V,)``, to the
        log-likelihood: the share of the label and the volume of its distribution.
    """

    values: UInt8Array
    means: Float64
    whitening: Float64
    added: Float64

    @classmethod
    def learned(cls, data: Samples, most: int) -> _Reader:
        """From the pixels of the head of at most so many images; labels with too few pixels are left out."""
        n_features = len(data.contrasts) * (1 + len(_BLURS))
        values = np.array(data.label_values, np.uint8)
        n, sums = np.zeros(len(values)), np.zeros((len(values), n_features))
        products = np.zeros((len(values), n_features, n_features))
        rows = _spread(len(data), most)
        for start in range(0, len(rows), _BATCH):
            images, labels = data.read(rows[start : start + _BATCH])
            features, inside = _features(images)
            for k, value in enumerate(values):
                here = features[inside & (labels == value)]
                n[k] += len(here)
                sums[k] += here.sum(axis=0)
                products[k] += here.T @ here
            synthkit.progress(min(start + _BATCH, len(rows)), len(rows), unit="image")
        kept = np.flatnonzero(n >= _LEAST_PIXELS * n_features)
        if not kept.size:
            raise DataError("There is nothing to learn labels from.", "The real images are black.", "Give others.")
        mean = sums.sum(axis=0) / n.sum()
        variances = np.diag(products.sum(axis=0)) / n.sum() - mean**2
        means, whitening, added = [], [], []
        for k in kept.tolist():
            means.append(sums[k] / n[k])
            own = products[k] / n[k] - np.outer(means[-1], means[-1])
            # The last part keeps a feature that never varies from having no inverse.
            mixed = _OWN * own + np.diag(_OF_ALL * variances + 1e-6)
            factor = np.linalg.cholesky(mixed)
            whitening.append(np.linalg.inv(factor))
            added.append(math.log(n[k] / n.sum()) - float(np.log(np.diag(factor)).sum()))
        return cls(values[kept], np.array(means), np.array(whitening), np.array(added))

    def read(self, images: UInt8Array) -> UInt8Array:
        """Labels (n, y, x) of images (n, contrast, y, x); background outside the head."""
        features, inside = _features(images)
        labels = np.zeros(inside.shape, np.uint8)
        if inside.any():
            pixels = features[inside]
            parts = zip(self.means, self.whitening, self.added, strict=True)
            likelihoods = [added - 0.5 * (((pixels - mean) @ w.T) ** 2).sum(axis=1) for mean, w, added in parts]
            labels[inside] = self.values[np.argmax(likelihoods, axis=0)]
        return labels


def _features(images: UInt8Array) -> tuple[Float64, NDArray[np.bool_]]:
    """Of each pixel greys and blurred greys, over the median grey of the head, (n, y, x, feature); and the head.

    Labels are not looked at: what was asked for must not help to read it.
    """
    inside = brain_mask(images)
    scaled = np.zeros(images.shape)
    for k, image in enumerate(images):
        if inside[k].any():
            medians = np.median(image[:, inside[k]], axis=1)
            scaled[k] = image / np.maximum(medians, 1.0)[:, None, None]
    widths = [blur * images.shape[-1] for blur in _BLURS]
    blurred = [ndimage.gaussian_filter(scaled, (0, 0, width, width)) for width in widths]
    return np.concatenate([scaled, *blurred], axis=1).transpose(0, 2, 3, 1), inside


def _counts(
    reader: _Reader,
    data: Samples,
    rows: Sequence[int],
    translation: UInt8Array,
    regions: Mapping[str, Sequence[int]],
) -> NDArray[np.int64]:
    """Of each slice and region pixels of the label, of the reading, and of both: (slice, region, 3)."""
    counts = np.zeros((len(rows), len(regions), 3), np.int64)
    for start in range(0, len(rows), _BATCH):
        images, labels = data.read(rows[start : start + _BATCH])
        labels, read = translation[labels], reader.read(images)
        for k, values in enumerate(regions.values()):
            is_label, is_read = np.isin(labels, values), np.isin(read, values)
            for which, mask in enumerate((is_label, is_read, is_label & is_read)):
                counts[start : start + len(labels), k, which] = mask.sum(axis=(1, 2))
        synthkit.progress(min(start + _BATCH, len(rows)), len(rows), unit="image")
    return counts


def _dice(counts: NDArray[np.int64]) -> float | None:
    """Of all slices together, (slice, 3); None where nothing is labelled or read."""
    area, read, both = counts.sum(axis=0)
    return float(2 * both / (area + read)) if area + read else None


def _pearson(a: NDArray[np.int64], b: NDArray[np.int64]) -> float | None:
    if len(a) < 2 or a.min() == a.max() or b.min() == b.max():
        return None
    return float(np.corrcoef(a, b)[0, 1])
