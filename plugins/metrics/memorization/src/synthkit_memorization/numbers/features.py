"""The search by features of a network, in numbers; they count in no other score."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from synthkit import Row, Score
from synthkit.judging.intervals import clopper_pearson
from synthkit_memorization.audit import Audit
from synthkit_memorization.numbers.scores import NO_NULL, undefined

_BY_FEATURES = ("feature_threshold", "n_feature_flagged", "feature_flagged_rate")


def by_features(audit: Audit, weights: Path | None, device: str) -> Iterator[Score | Row]:
    """The search by features; a file of weights asks for it, too."""
    params = audit.params
    if params.feature_search == "no" or (params.feature_search == "auto" and device == "cpu" and weights is None):
        why = "left out on a CPU (-p feature_search=yes)" if params.feature_search == "auto" else "not asked for"
        yield from undefined(why, *_BY_FEATURES)
        return
    from synthkit_features import extractor

    from synthkit_memorization.search.feature_search import search_by_features

    network = extractor(weights, device, params.network)
    found = search_by_features(audit, network, None if device != "cpu" else params.feature_images)
    of = {"features": found.network}
    n, flagged = len(found.rows), found.flagged
    if flagged is None or found.threshold is None or found.null is None:
        yield from (Score(name=name, value=None, of=of, note=NO_NULL) for name in _BY_FEATURES)
    else:
        low, high = clopper_pearson(int(flagged.sum()), n)
        note = f"{n} of {len(audit.synthetic)} synthetic images" if n < len(audit.synthetic) else ""
        subjects = found.n_people
        yield Score(name="feature_threshold", value=found.threshold, of=of, n=subjects, note=note)
        yield Score(name="n_feature_flagged", value=int(flagged.sum()), of=of, n=n, note=note)
        yield Score(name="feature_flagged_rate", value=flagged.mean(), of=of, low=low, high=high, n=n, note=note)
    quantile = None if found.null is None else np.searchsorted(found.null, found.similarity) / len(found.null)
    for i, row in enumerate(found.rows):
        match = audit.train.samples[int(found.index[i])]
        values = {
            "synthetic_id": audit.synthetic.samples[int(row)].id,
            "features": found.network,
            "train_id": match.id,
            "train_subject": match.subject,
            "train_slice": match.slice,
            "similarity": float(found.similarity[i]),
            "null_quantile": None if quantile is None else float(quantile[i]),
            "flagged": None if flagged is None else bool(flagged[i]),
        }
        yield Row(table="features", values=values)
