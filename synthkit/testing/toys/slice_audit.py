"""The toy audit: the nearest training image of each synthetic one, beside those of real images of other people.

It yields what :mod:`synthkit.judging.audit_scores` asks of every audit and, of what it may yield, the power test.
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

#: r from which a flagged image is a copy, and from which one is identical.
COPY, IDENTICAL = 0.99, 1 - 1e-9

_NO_NULL = "all real images are of one person"


def score(
    *, metrics: Sequence[str], params: Any, train: Samples, synthetic: Samples, holdout: Samples | None = None
) -> Iterator[Score | Row]:
    if not len(train) or not len(synthetic):
        raise DataError("There is nothing to compare.", "A dataset is empty.", "Give others.")
    known, people = _standardised(train), _people(train)
    r = _standardised(synthetic) @ known.T
    match, best = r.argmax(axis=1), r.max(axis=1)
    null, others = _null(train, known, holdout)
    threshold = float(null.max()) if len(null) else None
    n, n_people, n_others = len(synthetic), len(set(people)), len(set(others))
    yield Score(name="n_synthetic", value=n)
    yield Score(name="n_train", value=len(train), n=n_people)
    yield Score(name="n_holdout", value=len(holdout or ()), n=len(set(_people(holdout))) if holdout else 0)
    if threshold is None:
        for name in ("n_null_subjects", "explained_flag_rate", "n_flagged", "flagged_rate", "n_copies", "power"):
            yield Score(name=name, value=None, note=_NO_NULL)
    else:
        flagged = best > threshold
        low, high = clopper_pearson(int(flagged.sum()), n)
        yield Score(name="n_null_subjects", value=n_others)
        yield _explained(null, others)
        yield Score(name="n_flagged", value=int(flagged.sum()), n=n)
        yield Score(name="flagged_rate", value=float(flagged.mean()), low=low, high=high, n=n)
        yield Score(name="n_copies", value=int((flagged & (best >= COPY)).sum()), n=n)
        yield _power(known, people, threshold)
    yield Score(name="n_identical", value=int((best >= IDENTICAL).sum()), n=n)
    for i, sample in enumerate(synthetic.samples):
        values = {
            "synthetic_id": sample.id,
            "contrast": "joint",
            "rule": "pearson",
            "train_id": train.samples[match[i]].id,
            "train_subject": people[match[i]],
            "r": float(best[i]),
            "r_null_quantile": None if threshold is None else float((null < best[i]).mean()),
            "flagged": None if threshold is None else bool(best[i] > threshold),
        }
        yield Row(table="matches", values=values)


def _standardised(data: Samples) -> NDArray[np.float64]:
    """Images as rows of mean 0 and length 1, so that products are Pearson's r; a constant image has zeros."""
    pixels = np.concatenate([images for images, _ in data.batches(64)]).reshape(len(data), -1).astype(np.float64)
    pixels -= pixels.mean(axis=1, keepdims=True)
    result: NDArray[np.float64] = pixels / np.maximum(np.linalg.norm(pixels, axis=1, keepdims=True), 1e-9)
    return result


def _people(data: Samples) -> list[str]:
    return [sample.subject or "" for sample in data.samples]


def _null(
    train: Samples, known: NDArray[np.float64], holdout: Samples | None
) -> tuple[NDArray[np.float64], Sequence[str]]:
    """Best r of held-out images, else of training images among those of other people, with whose image each is.

    Empty where there is one person.
    """
    if holdout:
        return (_standardised(holdout) @ known.T).max(axis=1), _people(holdout)
    people = np.array(_people(train))
    if len(set(people)) < 2:
        return np.empty(0), ()
    return np.where(people[:, None] == people, -1.0, known @ known.T).max(axis=1), list(people)


def _explained(null: NDArray[np.float64], people: Sequence[str]) -> Score:
    """Share of the null images that is above all those of other people, and at least 1 / (n + 1)."""
    owner = np.array(people)
    if len(set(people)) < 2:
        return Score(name="explained_flag_rate", value=None, note=_NO_NULL)
    above = [null[i] > null[owner != owner[i]].max() for i in range(len(null))]
    return Score(name="explained_flag_rate", value=max(1 / (len(null) + 1), float(np.mean(above))), n=len(set(people)))


def _power(known: NDArray[np.float64], people: Sequence[str], threshold: float) -> Score:
    """Exact copies of one training image a person, planted: which of them would be flagged."""
    first = [people.index(name) for name in dict.fromkeys(people)]
    found = (known[first] @ known.T).max(axis=1) > threshold
    low, high = clopper_pearson(int(found.sum()), len(found))
    of = {"planted": "exact", "strength": ""}
    return Score(name="power", value=float(found.mean()), of=of, low=low, high=high, n=len(found))
