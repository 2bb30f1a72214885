"""The metric ``memorization``: compared in ``investigation.py``, counted and listed in ``numbers/``.

Views are the contrasts and, if there are several, ``joint``: all contrasts as one long image. Rules are those of
``rules.py``; ``pearson``, r over all pixels in place, background included, is the definition of Akbar et al. 2025.

Scans of one patient are no more independent than slices of one subject. So the null, its intervals, every choice of
subjects and every number of subjects among the scores count patients (:func:`synthkit.data.patients.patient_behind`);
the tables keep the subjects as the dataset names them, one row a scan.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from synthkit_features.published import identify

import synthkit
from synthkit import Row, Score
from synthkit.contract import Samples
from synthkit.data.patients import patient_behind
from synthkit.errors import DataError
from synthkit.judging.intervals import FEW_SUBJECTS
from synthkit_memorization.audit import Audit
from synthkit_memorization.investigation import investigate
from synthkit_memorization.numbers.features import by_features
from synthkit_memorization.numbers.power import power
from synthkit_memorization.numbers.scores import scores
from synthkit_memorization.numbers.tables import tables


def score(
    *,
    metrics: Sequence[str],
    params: Any,
    train: Samples,
    synthetic: Samples,
    holdout: Samples | None = None,
    control: Samples | None = None,
    features: Path | None = None,
) -> Iterator[Score | Row]:
    """Scores and rows as declared; tables ``matches``, ``pairs``, ``subjects``, ``null``, ``power`` and ``features``.

    Parameters
    ----------
    train : what the generator was trained on. holdout : real images of other subjects that it never saw.
    control : images of the same generator that were asked for with label maps of held-out people.
    features : weights of a feature network, instead of the one that comes with the package.

    Raises
    ------
    DataError : an empty dataset, contrasts or sizes that differ, a patient in both train and holdout, or a file of
        ``features`` that is not what ``params.network`` says.
    """
    identify(features, params.network)  # used last, and refused first
    if holdout is not None and len(holdout) == 0:
        holdout = None
    _check(train, {"synthetic": synthetic, "holdout": holdout, "control": control})
    device = _device()
    audit, search = investigate(params, train, synthetic, holdout, control, device)
    _warn(audit)
    yield from scores(audit)
    yield from power(audit, search)
    yield from tables(audit)
    yield from by_features(audit, features, device)


def _check(train: Samples, others: Mapping[str, Samples | None]) -> None:
    for name, data in (("train", train), ("synthetic", others["synthetic"])):
        if data is not None and len(data) == 0:
            raise DataError(f"The {name} dataset is empty.", "There is nothing to compare.", "Give another dataset.")
    for name, data in others.items():
        if data is not None and (data.contrasts != train.contrasts or data.size != train.size):
            raise DataError(
                f"The {name} and the train dataset cannot be compared.",
                f"{name} has {', '.join(data.contrasts)} at {data.size}, train has {', '.join(train.contrasts)} at "
                f"{train.size} pixels.",
                "Prepare both with the same contrasts, in the same order, and the same size.",
            )
    holdout = others["holdout"]
    if holdout is not None:
        # By subject too: the patients of two datasets may go by other names.
        shared = sorted(_patients(train) & _patients(holdout) | _subjects(train) & _subjects(holdout))
        if shared:
            raise DataError(
                f"{len(shared)} subjects are in both the train and the holdout dataset.",
                "A null from patients that the generator has seen, be it in another scan, would hide its copies.",
                "Split by subject: `synthkit prepare` does.",
                shared[:20],
            )


def _patients(data: Samples) -> set[str]:
    return {patient for sample in data.samples if (patient := patient_behind(sample)) is not None}


def _subjects(data: Samples) -> set[str]:
    return {sample.subject for sample in data.samples if sample.subject is not None}


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
    for twin in audit.twins:
        synthkit.message(
            f"Held-out {twin.holdout} is training subject {twin.train} under another id (margin {twin.margin:.2f}); "
            "left out of the held-out people.",
            level="warning",
        )
    if audit.holdout is None:
        synthkit.message(
            "No held-out people: training people are compared with each other, and whether the generator's images are "
            "near to everybody is judged by themselves.",
            level="warning",
        )
    if not audit.has_null:
        synthkit.message(
            "There are no two people to compare with each other: nothing tells what a copy is.", level="warning"
        )
    elif audit.n_null_people < FEW_SUBJECTS:
        synthkit.message(
            f"What unrelated people look like is known from {audit.n_null_people}: its tail is poorly known.",
            level="warning",
        )
