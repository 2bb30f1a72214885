"""The toy audit: the nearest person of each synthetic image, in units of how near real people come to one another.

It yields what :mod:`synthkit.judging.audit_scores` asks of every audit and, of what it may yield, blank images, copies
of held-out people, margins and the power test. Its cut is half of the smallest margin between two real people.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from synthkit import Row, Score
from synthkit.errors import DataError
from synthkit.judging.intervals import clopper_pearson

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from synthkit.contract import Samples

IDENTICAL = 1 - 1e-9

_FAMILY, _COLUMN = {"family": "picture"}, {"contrast": "joint", "rule": "pearson"}
_NO_NULL = "all real images are of one person"


def score(
    *, metrics: Sequence[str], params: Any, train: Samples, synthetic: Samples, holdout: Samples | None = None
) -> Iterator[Score | Row]:
    if not len(train) or not len(synthetic):
        raise DataError("There is nothing to compare.", "A dataset is empty.", "Give others.")
    known, people = _standardised(train), _people(train)
    others = _standardised(holdout) if holdout else known[:0]
    other_people = _people(holdout) if holdout else people[:0]
    queries, n = _standardised(synthetic), len(synthetic)
    r = queries @ known.T
    match, best = r.argmax(axis=1), r.max(axis=1)
    null = _null(np.concatenate([known, others]), np.concatenate([people, other_people]))
    blank = ~queries.any(axis=1)
    yield Score(name="n_synthetic", value=n)
    yield Score(name="n_blank", value=int(blank.sum()), n=n)
    yield Score(name="n_train", value=len(train), n=len(set(people)))
    yield Score(name="n_holdout", value=len(others), n=len(set(other_people)))
    yield Score(name="n_identical", value=int((best >= IDENTICAL).sum()), n=n)
    margin = copy = null_r = None
    if null is None:
        for name in ("n_null_subjects", "n_copies", "copied_rate", "power"):
            yield Score(name=name, value=None, note=_NO_NULL)
    else:
        null_r, nearest = null
        unit = float(np.median(nearest))
        cut = float(nearest.min()) / unit / 2
        margin = _distance(best) / unit
        copy = margin < cut
        yield Score(name="n_null_subjects", value=len(nearest))
        yield Score(name="cut", value=cut, of=_FAMILY)
        yield Score(name="threshold", value=1 - (cut * unit) ** 2, of=_COLUMN)
        for quantile in (0.0, 0.5):
            of = {**_FAMILY, "quantile": f"{quantile:g}"}
            yield Score(name="null_margin", value=float(np.quantile(nearest / unit, quantile)), of=of)
        yield from _copies(margin, copy, people[match], n - int(blank.sum()))
        if holdout:
            to_others = queries @ others.T
            yield from _holdout_copies(
                _distance(to_others.max(axis=1)) / unit, cut, other_people[to_others.argmax(axis=1)]
            )
        if params.plants:
            yield _power(known, people, cut * unit, params.plants)
    for i, sample in enumerate(synthetic.samples):
        values = {
            "synthetic_id": sample.id,
            **_COLUMN,
            "train_id": train.samples[match[i]].id,
            "train_subject": str(people[match[i]]),
            "r": float(best[i]),
            "r_null_quantile": None if null_r is None else float((null_r < best[i]).mean()),
            "copy": None if copy is None else bool(copy[i]),
            "margin": None if margin is None else float(margin[i]),
        }
        yield Row(table="matches", values=values)


def _copies(margin: NDArray[np.float64], copy: NDArray[np.bool_], shown: NDArray[np.str_], n: int) -> Iterator[Score]:
    found = int(copy.sum())
    low, high = clopper_pearson(found, n)
    for of in ({}, _FAMILY, _COLUMN):
        yield Score(name="n_copies", value=found, of=of, n=n)
    rate = found / n if n else None
    yield Score(name="copied_rate", value=rate, low=low, high=high, n=n, note="" if n else "all images are blank")
    yield Score(name="n_copied_subjects", value=len(set(shown[copy])))
    yield Score(name="least_margin", value=float(margin.min()), of=_FAMILY)


def _holdout_copies(margin: NDArray[np.float64], cut: float, shown: NDArray[np.str_]) -> Iterator[Score]:
    copy = margin < cut
    yield Score(name="n_holdout_copies", value=int(copy.sum()), n=len(copy))
    yield Score(name="n_copied_holdout_subjects", value=len(set(shown[copy])))
    for name, value in (("cut", cut), ("least_margin", float(margin.min()))):
        yield Score(name=name, value=value, of={**_FAMILY, "side": "holdout"})


def _standardised(data: Samples) -> NDArray[np.float64]:
    """Images as rows of mean 0 and length 1, so that products are Pearson's r; a constant image has zeros."""
    pixels = np.concatenate([images for images, _ in data.batches(64)]).reshape(len(data), -1).astype(np.float64)
    pixels -= pixels.mean(axis=1, keepdims=True)
    result: NDArray[np.float64] = pixels / np.maximum(np.linalg.norm(pixels, axis=1, keepdims=True), 1e-9)
    return result


def _people(data: Samples) -> NDArray[np.str_]:
    return np.array([sample.subject or "" for sample in data.samples])


def _distance(r: NDArray[np.float64]) -> NDArray[np.float64]:
    distance: NDArray[np.float64] = np.sqrt(np.maximum(1 - r, 0))
    return distance


def _null(
    images: NDArray[np.float64], people: NDArray[np.str_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Of real images the best r with another person's, ``(image,)``, and of each person the smallest distance."""
    names = np.unique(people)
    if len(names) < 2:
        return None
    r = np.where(people[:, None] == people, -1.0, images @ images.T).max(axis=1)
    return r, np.array([_distance(r[people == name]).min() for name in names])


def _power(known: NDArray[np.float64], people: NDArray[np.str_], reach: float, plants: int) -> Score:
    """Exact copies of one training image a person, planted: which of them would be copies."""
    first = np.unique(people, return_index=True)[1][:plants]
    found = _distance((known[first] @ known.T).max(axis=1)) < reach
    low, high = clopper_pearson(int(found.sum()), len(found))
    of = {"planted": "exact", "strength": ""}
    return Score(name="power", value=float(found.mean()), of=of, low=low, high=high, n=len(found))
