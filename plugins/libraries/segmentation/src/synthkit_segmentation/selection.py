"""Which contrasts and samples are trained on, and which are kept for validation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from synthkit.contract import Sample, Samples
from synthkit.data.patients import patient_behind
from synthkit.errors import DataError, UsageError
from synthkit_segmentation.recipe import SPLIT, VALIDATION

if TYPE_CHECKING:
    from synthkit_segmentation.params import TrainingParams


def split(data: Samples, validation: Samples | None, params: TrainingParams) -> tuple[list[int], list[int]]:
    """Rows of ``data`` to train on, and of ``validation`` (of ``data`` where there is none) to validate on."""
    check(data)
    if validation is None:
        return split_samples(data.samples, params.validation_fraction, params.seed)
    for what in ("contrasts", "label_values"):
        if getattr(validation, what) != getattr(data, what):
            raise DataError(
                "The data to validate on do not fit those to train on.",
                f"Their {what.replace('_', ' ')} differ: {getattr(validation, what)} and {getattr(data, what)}.",
                "Prepare both with the same contrasts.",
            )
    _, held_out = split_samples(validation.samples, params.validation_fraction, params.seed)
    if not held_out:
        raise DataError(
            "The data to validate on leave no patient to validate on.",
            f"validation_fraction {params.validation_fraction} of them is kept, of two patients or more.",
            "Give a dataset with more patients, or a larger -p validation_fraction.",
        )
    # By subject too: the patients of two datasets may go by other names.
    patients = {patient_behind(validation.samples[row]) for row in held_out} - {None}
    subjects = {validation.samples[row].subject for row in held_out} - {None}
    rows = [i for i, s in enumerate(data.samples) if patient_behind(s) not in patients and s.subject not in subjects]
    if not rows:
        raise DataError("Nothing is left to train on.", "Every patient is validated on.", "Train on more patients.")
    return rows, held_out


def split_samples(samples: Sequence[Sample], fraction: float, seed: int) -> tuple[list[int], list[int]]:
    """Rows to train on and rows to validate on: real samples by patient, synthetic ones one by one.

    No patient is on both sides, whatever the number of scans. Each of the two kinds keeps at least one unit on either
    side where it has two. The patients held out are the same whether or not there are synthetic samples beside them.
    """
    rng = np.random.default_rng([seed, SPLIT])
    patients = [patient_behind(row) for row in samples]
    held_patients = _held_out(sorted({patient for patient in patients if patient is not None}), fraction, rng)
    held_rows = _held_out([i for i, row in enumerate(samples) if row.subject is None], fraction, rng)
    held = [patient in held_patients if patient is not None else i in held_rows for i, patient in enumerate(patients)]
    return [i for i, out in enumerate(held) if not out], [i for i, out in enumerate(held) if out]


def _held_out(units: Sequence[Any], fraction: float, rng: np.random.Generator) -> set[Any]:
    n_held = min(max(1, round(fraction * len(units))), len(units) - 1) if fraction > 0 and units else 0
    return {units[i] for i in rng.permutation(len(units))[:n_held]}


def drawn(rows: Sequence[int], most: int, seed: int) -> list[int]:
    """At most ``most`` of the validation rows, in order."""
    if len(rows) <= most:
        return list(rows)
    chosen = np.random.default_rng([seed, VALIDATION]).choice(len(rows), most, replace=False)
    return [rows[i] for i in sorted(chosen)]


def channels_of(available: tuple[str, ...], wanted: tuple[str, ...]) -> list[int]:
    """Positions of the wanted contrasts; all where none is named."""
    for name in wanted:
        if name not in available:
            raise UsageError(
                f"The dataset has no contrast {name!r}.",
                f"It has {', '.join(available)}.",
                "Name some of these with -p contrasts=..., or leave it out to use all.",
            )
    if len(set(wanted)) != len(wanted):
        raise UsageError(f"contrasts={','.join(wanted)} names one twice.", fix="Name each contrast once.")
    return [available.index(name) for name in wanted or available]


def check(data: Samples) -> None:
    if not len(data):
        raise DataError("There is nothing to train on.", "The dataset is empty.", "Prepare or generate samples first.")
    if len(data.label_values) < 2:
        raise DataError(
            "There is nothing to segment.", "The dataset has no label but background.", "Train on labelled data."
        )
    held = [row.id for row in data.samples if row.split == "holdout"]
    if held:
        raise DataError(
            "The data to train on include holdout samples.",
            f"{len(held)} of them, {held[0]} the first; scores on the holdout would mean nothing.",
            "Train on the training part of the dataset.",
        )
