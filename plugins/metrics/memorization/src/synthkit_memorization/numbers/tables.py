"""The tables of an audit: ``matches``, ``pairs``, ``subjects``, ``holdout_subjects``, ``null``, ``holdout_twins``.

Subjects are scans.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np

from synthkit import Row
from synthkit_memorization.audit import Audit
from synthkit_memorization.search.pixels import Float64

#: Pairs of each view in the table ``pairs``.
N_PAIRS = 12


def tables(audit: Audit) -> Iterator[Row]:
    """All of them, a row at a time."""
    quantile = _null_quantile(audit)
    yield from _matches(audit, quantile)
    yield from _pairs(audit, quantile)
    yield from _subjects(audit)
    yield from _holdout_subjects(audit)
    yield from _null(audit)
    for twin in audit.twins:
        values: dict[str, str | float | None] = {
            "holdout_subject": twin.holdout,
            "train_subject": twin.train,
            "margin": twin.margin,
        }
        yield Row(table="holdout_twins", values=values)


def _null_quantile(audit: Audit) -> Float64:
    """Share of null images with a smaller best r, ``(synthetic image, column)``; NaN where there is none."""
    shares = np.full(audit.r.shape, np.nan)
    for c in range(audit.r.shape[1]):
        null = audit.null_r[:, c, 0]
        if (null := np.sort(null[~np.isnan(null)])).size:
            shares[:, c] = np.searchsorted(null, audit.r[:, c], "left") / len(null)
    return np.where(np.isnan(audit.r), np.nan, shares)


def _known(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None


def _matches(audit: Audit, quantile: Float64) -> Iterator[Row]:
    for i, synthetic in enumerate(audit.synthetic.samples):
        for c, (view, rule) in enumerate(audit.columns):
            index = int(audit.index[i, c])
            if index < 0:
                continue  # a family that does not see this image
            match = audit.train.samples[index]
            values = {
                "synthetic_id": synthetic.id,
                "contrast": view,
                "rule": rule,
                "train_id": match.id,
                "train_subject": match.subject,
                "train_slice": match.slice,
                "r": float(audit.r[i, c]),
                "r_null_quantile": _known(quantile[i, c]),
                "copy": bool(audit.copy[i, c]) if audit.has_null else None,
                "margin": _known(audit.margins[i, c]),
            }
            yield Row(table="matches", values=values)


def worst_pairs(audit: Audit) -> list[tuple[int, int]]:
    """(synthetic image, column): for each view the images of smallest margin to a training person, under any rule.

    Each image once a view, by the rule that it stands out most by; by r where there is no null. Copies of held-out
    people follow, as many a view.
    """
    near = audit.margins if audit.has_null else 1 - np.nan_to_num(audit.r, nan=-1.0)
    chosen: list[tuple[int, int]] = []
    for view in dict.fromkeys(view for view, _ in audit.columns):
        own = [c for c, (v, _) in enumerate(audit.columns) if v == view]
        best = np.argmin(near[:, own], axis=1)
        least = near[np.arange(len(near)), np.take(own, best)]
        order = np.argsort(least, kind="stable")[:N_PAIRS]
        chosen += [(int(i), own[best[i]]) for i in order if audit.index[i, own[best[i]]] >= 0]
        held = np.flatnonzero(audit.holdout_copy[:, own].any(axis=1))[:N_PAIRS]
        by = [(int(i), own[int(np.argmax(audit.holdout_copy[i, own]))]) for i in held]
        chosen += [pair for pair in by if pair not in chosen]
    return chosen


def _pairs(audit: Audit, quantile: Float64) -> Iterator[Row]:
    """The worst pairs, each with the best held-out match of its synthetic image in the same view by the same rule."""
    held_r, held_index = audit.holdout_matches
    thresholds = audit.thresholds
    for i, c in worst_pairs(audit):
        view, rule = audit.columns[c]
        holdout_id = r_holdout = None
        if audit.holdout is not None and held_index[i, c] >= 0:
            holdout_id, r_holdout = audit.holdout.samples[int(held_index[i, c])].id, float(held_r[i, c])
        yield Row(
            table="pairs",
            values={
                "contrast": view,
                "rule": rule,
                "synthetic_id": audit.synthetic.samples[i].id,
                "train_id": audit.train.samples[int(audit.index[i, c])].id,
                "r": float(audit.r[i, c]),
                "threshold": _known(thresholds[c]),
                "r_null_quantile": _known(quantile[i, c]),
                "copy": bool(audit.copy[i, c]) if audit.has_null else None,
                "margin": _known(audit.margins[i, c]),
                "holdout_id": holdout_id,
                "r_holdout": r_holdout,
                "holdout_copy": None if holdout_id is None else bool(audit.holdout_copy[i, c]),
            },
        )


def _subjects(audit: Audit) -> Iterator[Row]:
    """One row a training subject: its images, the synthetic images that match it, those that copy it, best match."""
    samples = audit.train.samples
    names = [sample.subject or "" for sample in samples]
    best: dict[str, float] = {}
    n_matched: Counter[str] = Counter()
    for index, r in zip(audit.nearest.index[:, 0], audit.nearest.r[:, 0], strict=True):
        if index >= 0:
            n_matched[names[index]] += 1
            best[names[index]] = max(best.get(names[index], -1.0), float(r))
    copies: dict[str, set[int]] = {}
    for i, column in zip(*np.nonzero(audit.copy), strict=True):
        copies.setdefault(names[audit.index[i, column]], set()).add(int(i))
    for subject, n_train in sorted(Counter(names).items()):
        values = {
            "train_subject": subject or None,
            "n_train": n_train,
            "n_matched": n_matched[subject],
            "n_copies": len(copies.get(subject, ())) if audit.has_null else None,
            "best_r": best.get(subject),
        }
        yield Row(table="subjects", values=values)


def _holdout_subjects(audit: Audit) -> Iterator[Row]:
    """One row a held-out subject whom synthetic images copy."""
    if audit.holdout is None:
        return
    names = [sample.subject or "" for sample in audit.holdout.samples]
    held_r, held_index = audit.holdout_matches
    copies: dict[str, dict[int, float]] = {}
    for i, column in zip(*np.nonzero(audit.holdout_copy), strict=True):
        of = copies.setdefault(names[held_index[i, column]], {})
        of[int(i)] = max(of.get(int(i), -1.0), float(held_r[i, column]))
    n_images = Counter(names)
    for subject, found in sorted(copies.items()):
        values: dict[str, str | float | None] = {
            "holdout_subject": subject or None,
            "n_holdout": n_images[subject],
            "n_copies": len(found),
            "best_r": max(found.values()),
        }
        yield Row(table="holdout_subjects", values=values)


def _null(audit: Audit) -> Iterator[Row]:
    for i, sample in enumerate(audit.null.samples):
        for c, (view, rule) in enumerate(audit.columns):
            if audit.null_index[i, c, 0] < 0:
                continue
            values: dict[str, str | float] = {
                "holdout_id": sample.id,
                "contrast": view,
                "rule": rule,
                "train_id": audit.train.samples[int(audit.null_index[i, c, 0])].id,
                "r": float(audit.null_r[i, c, 0]),
            }
            yield Row(table="null", values=values)
