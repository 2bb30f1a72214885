"""The membership attack: is a training patient told from a held-out one by the synthetic images?"""

from __future__ import annotations

from typing import Literal

import numpy as np

from synthkit_memorization.estimate import Estimate, numbered, share_larger
from synthkit_memorization.search.pixels import Float64, Int64


def membership_auc(
    train_r: Float64,
    train_patient: Int64,
    holdout_r: Float64,
    holdout_patient: Int64,
    score: Literal["mean", "max"] = "mean",
) -> Estimate:
    """Can an attacker who has a patient's images tell whether the generator was trained on the patient? AUC.

    The attack scores a patient by the best r of its slices among the synthetic images, averaged over slices ("mean") or
    the largest ("max"). The mean uses all slices and does not grow with their number, as the largest does; the largest
    is the stronger attack where few slices are copied. The AUC is the probability that a training patient scores above
    a held-out one, ties half: 0.5 if membership does not show. The interval is over the patients of both sides.

    Parameters
    ----------
    train_r, holdout_r : best r of real images among the synthetic ones, ``(image,)``; their patients likewise.
    """
    trained, held = _patient_scores(train_r, train_patient, score), _patient_scores(holdout_r, holdout_patient, score)
    note = f"0.5 if membership does not show; over {len(trained)} training and {len(held)} held-out patients"
    units = np.arange(len(trained)), np.arange(len(held))
    return share_larger(trained, units[0], held, units[1], len(trained) + len(held), note)


def _patient_scores(r: Float64, patient: Int64, score: Literal["mean", "max"]) -> Float64:
    number, n = numbered(patient)
    if score == "mean":
        mean: Float64 = np.bincount(number, r) / np.bincount(number)
        return mean
    result = np.full(n, -np.inf)
    np.maximum.at(result, number, r)
    return result
