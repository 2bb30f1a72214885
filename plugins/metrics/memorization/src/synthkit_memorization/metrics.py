"""The metric ``memorization``: compared in ``investigation.py``, counted in ``scores.py``, listed in ``tables.py``.

Views are the contrasts and, if there are several, ``joint``: all contrasts as one long image. Rules are those of
``rules.py``; ``pearson``, r over all pixels in place, background included, is the definition of Akbar et al. 2025.

Scans of one patient are no more independent than slices of one subject. So the null, its intervals, every choice of
subjects and every number of subjects among the scores count patients (:func:`synthkit.data.splits.patient_of`); the
tables keep the subjects as the dataset names them, one row a scan.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import synthkit
from synthkit import Row, Score
from synthkit.contract import Samples
from synthkit.data.splits import patient_of
from synthkit.errors import DataError
from synthkit.judging.intervals import FEW_SUBJECTS, clopper_pearson
from synthkit_memorization.investigation import Audit, Search, investigate
from synthkit_memorization.numbers.scores import NO_NULL, scores, undefined
from synthkit_memorization.numbers.tables import tables
from synthkit_memorization.power.planting import plants
from synthkit_memorization.power.power import Recall, found_sentence, measure
from synthkit_memorization.search.matches import Groups
from synthkit_memorization.search.pixels import Float64, Images, Int64


def score(
    *,
    metrics: Sequence[str],
    params: Any,
    train: Samples,
    synthetic: Samples,
    holdout: Samples | None = None,
    features: Path | None = None,
) -> Iterator[Score | Row]:
    """Scores and rows as declared; tables ``matches``, ``pairs``, ``subjects``, ``null``, ``power`` and ``features``.

    Parameters
    ----------
    train : what the generator was trained on. holdout : real images of other subjects that it never saw.
    features : weights of a feature network, instead of the one that comes with the package.

    Raises
    ------
    DataError : an empty dataset, contrasts or sizes that differ, or a patient in both train and holdout.
    """
    if holdout is not None and len(holdout) == 0:
        holdout = None
    _check(train, synthetic, holdout)
    device = _device()
    audit, search = investigate(params, train, synthetic, holdout, device)
    _warn(audit)
    yield from scores(audit)
    yield from _power(audit, search)
    yield from tables(audit)
    yield from _by_features(audit, features, device)


def _check(train: Samples, synthetic: Samples, holdout: Samples | None) -> None:
    for name, data in (("train", train), ("synthetic", synthetic)):
        if len(data) == 0:
            raise DataError(f"The {name} dataset is empty.", "There is nothing to compare.", "Give another dataset.")
    for name, data in (("synthetic", synthetic), ("holdout", synthetic if holdout is None else holdout)):
        if data.contrasts != train.contrasts or data.size != train.size:
            raise DataError(
                f"The {name} and the train dataset cannot be compared.",
                f"{name} has {', '.join(data.contrasts)} at {data.size}, train has {', '.join(train.contrasts)} at "
                f"{train.size} pixels.",
                "Prepare both with the same contrasts, in the same order, and the same size.",
            )
    if holdout is not None:
        shared = sorted(_patients(train) & _patients(holdout))
        if shared:
            raise DataError(
                f"{len(shared)} subjects are in both the train and the holdout dataset.",
                "A null from patients that the generator has seen, be it in another scan, would hide its copies.",
                "Split by subject: `synthkit prepare` does.",
                shared[:20],
            )


def _patients(data: Samples) -> set[str]:
    return {patient_of(sample.subject) for sample in data.samples if sample.subject is not None}


def _device() -> str:
    """ "cuda" where the run may use a GPU and PyTorch sees one, else "cpu"."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") == "":
        return "cpu"
    try:
        import torch
    except ImportError:
        return "cpu"
    return "cuda" if torch.cuda.is_available() else "cpu"


def _warn(audit: Audit) -> None:
    params, null, thresholds = audit.params, audit.null, audit.thresholds
    if audit.holdout is None:
        synthkit.message(
            "No held-out subjects: thresholds come from comparing training subjects with each other, which is weaker.",
            level="warning",
        )
    if null is None or thresholds is None:
        synthkit.message(
            "All training images are of one subject (or of none named) and nothing is held out: no threshold.",
            level="warning",
        )
        return
    if audit.n_holdout_copies:
        synthkit.message(
            f"{audit.n_holdout_copies} synthetic images copy held-out images: the generator has seen these subjects, "
            "and thresholds from them are too high.",
            level="warning",
        )
    n, columns = null.r.shape
    if n + 1 < columns / params.false_flag_rate:
        synthkit.message(
            f"The null has {n} images: thresholds are its maxima, at a false-flag rate of up to "
            f"{min(1.0, columns / (n + 1)):.2g} instead of {params.false_flag_rate:g}.",
            level="warning",
        )
    if null.n_subjects < FEW_SUBJECTS:
        synthkit.message(f"The null has {null.n_subjects} subjects: its tail is poorly known.", level="warning")
    threshold = float(thresholds[audit.primary])
    if threshold >= params.copy_r:
        synthkit.message(
            f"Unrelated real images correlate up to {threshold:.4f}, more than copy_r = {params.copy_r:g}: "
            "near copies cannot be told from coincidence.",
            level="warning",
        )


# ------------------------------------------------------------------------------------------- power and features


def _power(audit: Audit, search: Search) -> Iterator[Score | Row]:
    """What this audit finds of planted copies."""
    params, thresholds = audit.params, audit.thresholds
    if thresholds is None or params.plants == 0:
        yield from undefined(NO_NULL if thresholds is None else "no copies were planted (plants = 0)", "power")
        return
    above = dict(zip(audit.columns, map(float, thresholds), strict=True))

    def find(images: Images, groups: Groups) -> tuple[Float64, Int64]:
        found = search.columns(images, exclude=groups, above=above)
        return found.r, found.index

    records = measure(
        plants(audit.train, audit.train_patient, params.plants, params.seed),
        find,
        patient=audit.train_patient,
        thresholds=thresholds,
        copy_columns=audit.whole,
        copy_r=params.copy_r,
        resamples=params.resamples,
        seed=params.seed,
    )
    synthkit.message(found_sentence(records))
    for record in records:
        yield _recall_score(record)
    for record in records:
        values = {"planted" if name == "kind" else name: value for name, value in vars(record).items()}
        yield Row(table="power", values=values)


def _recall_score(record: Recall) -> Score:
    note = f"{record.n} copies of images of {record.n_patients} subjects"
    return Score(
        name="power",
        value=record.recall,
        of={"planted": record.kind, "strength": record.strength},
        low=record.low,
        high=record.high,
        n=record.n_patients,
        note=f"{note}; {record.note}" if record.note else note,
    )


_BY_FEATURES = ("feature_threshold", "n_feature_flagged", "feature_flagged_rate")


def _by_features(audit: Audit, weights: Path | None, device: str) -> Iterator[Score | Row]:
    """The search by features; a file of weights asks for it, too."""
    params = audit.params
    if params.feature_search == "no" or (params.feature_search == "auto" and device == "cpu" and weights is None):
        why = "left out on a CPU (-p feature_search=yes)" if params.feature_search == "auto" else "not asked for"
        yield from undefined(why, *_BY_FEATURES)
        return
    from synthkit_features import extractor

    from synthkit_memorization.search.feature_search import search_by_features

    network = extractor(weights, device)
    found = search_by_features(audit, network, None if device != "cpu" else params.feature_images)
    of = {"features": found.network}
    n, flagged = len(found.rows), found.flagged
    if flagged is None or found.threshold is None or found.null is None:
        yield from (Score(name=name, value=None, of=of, note=NO_NULL) for name in _BY_FEATURES)
    else:
        low, high = clopper_pearson(int(flagged.sum()), n)
        note = f"{n} of {len(audit.synthetic)} synthetic images" if n < len(audit.synthetic) else ""
        subjects = found.null.n_subjects
        yield Score(name="feature_threshold", value=found.threshold, of=of, n=subjects, note=note)
        yield Score(name="n_feature_flagged", value=int(flagged.sum()), of=of, n=n, note=note)
        yield Score(name="feature_flagged_rate", value=flagged.mean(), of=of, low=low, high=high, n=n, note=note)
    quantile = None if found.null is None else found.null.quantile_of(found.similarity[:, None])[:, 0]
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
