"""The tables of an audit: ``matches``, ``pairs``, ``subjects``, ``null``; subjects are single scans here."""

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
    flagged = audit.flagged
    quantile = None if audit.null is None else audit.null.quantile_of(audit.found.r)
    yield from _matches(audit, flagged, quantile)
    yield from _pairs(audit, flagged, quantile)
    yield from _subjects(audit)
    yield from _null(audit)


def _matches(audit: Audit, flagged: Any, quantile: Float64 | None) -> Iterator[Row]:
    for i, synthetic in enumerate(audit.synthetic.samples):
        for c, (view, rule) in enumerate(audit.columns):
            index = int(audit.found.index[i, c])
            if index < 0:
                continue  # only matches above the thresholds were asked for
            match = audit.train.samples[index]
            values = {
                "synthetic_id": synthetic.id,
                "contrast": view,
                "rule": rule,
                "train_id": match.id,
                "train_subject": match.subject,
                "train_slice": match.slice,
                "r": float(audit.found.r[i, c]),
                "r_null_quantile": None if quantile is None else float(quantile[i, c]),
                "flagged": None if flagged is None else bool(flagged[i, c]),
            }
            yield Row(table="matches", values=values)


def worst_pairs(audit: Audit) -> list[tuple[int, int]]:
    """(synthetic image, column): for each view the images of largest r relative to their threshold, under any rule.

    Each image once a view, by the rule that it stands out most by.
    """
    r = np.where(audit.found.index >= 0, audit.found.r, -np.inf)
    excess = r if audit.thresholds is None else (r - audit.thresholds) / (1.0 - np.minimum(audit.thresholds, 0.999999))
    chosen: list[tuple[int, int]] = []
    for view in dict.fromkeys(view for view, _ in audit.columns):
        own = [c for c, (v, _) in enumerate(audit.columns) if v == view]
        best = np.argmax(excess[:, own], axis=1)
        most = excess[np.arange(len(r)), np.take(own, best)]
        order = np.argsort(-most, kind="stable")[:N_PAIRS]
        chosen += [(int(i), own[best[i]]) for i in order if np.isfinite(most[i])]
    return chosen


def _pairs(audit: Audit, flagged: Any, quantile: Float64 | None) -> Iterator[Row]:
    """The worst pairs, each with the best held-out match of its synthetic image in the same view by the same rule."""
    for i, c in worst_pairs(audit):
        view, rule = audit.columns[c]
        holdout_id = r_holdout = None
        if audit.control is not None and audit.holdout is not None:
            holdout_id = audit.holdout.samples[int(audit.control.index[i, c])].id
            r_holdout = float(audit.control.r[i, c])
        yield Row(
            table="pairs",
            values={
                "contrast": view,
                "rule": rule,
                "synthetic_id": audit.synthetic.samples[i].id,
                "train_id": audit.train.samples[int(audit.found.index[i, c])].id,
                "r": float(audit.found.r[i, c]),
                "threshold": None if audit.thresholds is None else float(audit.thresholds[c]),
                "r_null_quantile": None if quantile is None else float(quantile[i, c]),
                "flagged": None if flagged is None else bool(flagged[i, c]),
                "holdout_id": holdout_id,
                "r_holdout": r_holdout,
            },
        )


def _subjects(audit: Audit) -> Iterator[Row]:
    """One row a training subject: its images, the synthetic images that match it, flagged ones, copies, best match."""
    samples, c, copied = audit.train.samples, audit.primary, audit.copied
    names = [sample.subject or "" for sample in samples]
    best: dict[str, float] = {}
    n_matched: Counter[str] = Counter()
    for index, r in zip(audit.found.index[:, c], audit.found.r[:, c], strict=True):
        if index >= 0:
            n_matched[names[index]] += 1
            best[names[index]] = max(best.get(names[index], -1.0), float(r))
    flags: dict[str, set[int]] = {}
    copies: Counter[str] = Counter()
    if audit.flagged is not None:
        for i, column in zip(*np.nonzero(audit.flagged), strict=True):
            flags.setdefault(names[audit.found.index[i, column]], set()).add(int(i))
        for i in np.flatnonzero(audit.copies):
            copies[names[copied[i]]] += 1
    for subject, n_train in sorted(Counter(names).items()):
        known: dict[str, Any] = {"n_flagged": None, "n_copies": None}
        if audit.flagged is not None:
            known = {"n_flagged": len(flags.get(subject, ())), "n_copies": copies[subject]}
        yield Row(
            table="subjects",
            values={
                "train_subject": subject or None,
                "n_train": n_train,
                "n_matched": n_matched[subject],
                **known,
                "best_r": best.get(subject),
            },
        )


def _null(audit: Audit) -> Iterator[Row]:
    if audit.null is None or audit.null_index is None:
        return
    for i, sample in enumerate(audit.null_source.samples):
        for c, (view, rule) in enumerate(audit.columns):
            values: dict[str, str | float] = {
                "holdout_id": sample.id,
                "contrast": view,
                "rule": rule,
                "train_id": audit.train.samples[int(audit.null_index[i, c])].id,
                "r": float(audit.null.r[i, c]),
            }
            yield Row(table="null", values=values)
