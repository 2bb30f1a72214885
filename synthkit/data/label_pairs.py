"""A reference and a prediction: whether the prediction's values are labels of its scheme, and which fits best."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from synthkit.data.label_folders import LabelFolder, unknown_values_error
from synthkit.data.named_schemes import SCHEMES
from synthkit.data.scheme_questions import meanings
from synthkit.errors import DataError
from synthkit.schemes import Scheme

# Dice from which a mask of one value is taken to be of everything that is labelled, and by how much it must be above
# that with the label of its value.
_AGREES, _MORE = 0.5, 0.2
# So many subjects tell which scheme fits best.
_ENOUGH = 3


def check_prediction(reference: LabelFolder, prediction: LabelFolder, subjects: Sequence[str]) -> None:
    """See that predictions whose scheme nothing says hold values of the reference's.

    Raises
    ------
    DataError : a value that is none, with the schemes that have it and the one that agrees best with the reference;
        or masks of one value that agree with all labels of the reference together and not with the one of that value.
    """
    if prediction.is_said:
        return
    scheme = prediction.scheme
    everywhere: set[int] = set()
    for subject in subjects:
        present = prediction.stored(subject).stored
        everywhere |= set(present) - {0}
        if unknown := sorted(set(present) - set(scheme.values)):
            best = best_by_overlap(reference, prediction, [subject, *(s for s in subjects if s != subject)][:_ENOUGH])
            raise unknown_values_error(prediction.path(subject), unknown, present, scheme, prediction.option, best)
    if len(everywhere) == 1 and len(reference.scheme.labels) > 1:
        _refuse_masks_of_all(reference, prediction, subjects[:_ENOUGH], everywhere.pop())


def _refuse_masks_of_all(reference: LabelFolder, prediction: LabelFolder, subjects: Sequence[str], value: int) -> None:
    """DataError for masks of ``value`` that are of everything that is labelled, not of the label of that value."""
    n_found = n_own = n_all = with_own = with_all = 0
    name = _name(prediction.scheme, value)
    own = reference.scheme.label_values.get(name, -1)
    for subject in subjects:
        truth, _ = reference.labels(subject)
        found = prediction.stored(subject).labels == value
        if truth.shape == found.shape:
            n_found, n_own, n_all = n_found + found.sum(), n_own + (truth == own).sum(), n_all + (truth > 0).sum()
            with_own, with_all = with_own + (truth[found] == own).sum(), with_all + (truth[found] > 0).sum()
    dice_of_own, dice_of_all = 2 * with_own / max(1, n_found + n_own), 2 * with_all / max(1, n_found + n_all)
    if dice_of_all > max(_AGREES, dice_of_own + _MORE):
        raise DataError(
            f"The predictions are masks of one value, {value}, which {prediction.scheme.name} calls {name}.",
            f"They agree with all labels of the reference together (Dice {dice_of_all:.2f}), not with {name} "
            f"({dice_of_own:.2f}).",
            f"Give {prediction.option} whole-tumour; where they are {name}, "
            f"{prediction.option} {prediction.scheme.name}.",
        )


def best_by_overlap(reference: LabelFolder, prediction: LabelFolder, subjects: Sequence[str]) -> str:
    """Which scheme makes a prediction agree best with its reference, in words; "" where none stands out."""
    names = {label.value: label.name for label in reference.scheme.labels}
    joint = np.zeros((256, 256), dtype=np.int64)
    for subject in subjects:
        truth, _ = reference.labels(subject)
        found = prediction.stored(subject).labels
        if truth.shape == found.shape:
            for value in np.flatnonzero(np.bincount(found.ravel(), minlength=256)):
                joint[:, value] += np.bincount(truth[found == value], minlength=256)
    present = {int(value) for value in np.flatnonzero(joint.sum(axis=0)) if value}
    fitting = meanings(scheme for scheme in SCHEMES.values() if present <= set(scheme.values))
    agreements = [(_mean_dice(joint, names, group[0]), group) for group in fitting]
    agreements.sort(key=lambda item: (-item[0], len(item[1][0].labels)))  # of two that agree alike the plainer one
    if not agreements or agreements[0][0] == 0:
        return ""
    (best, group), rest = agreements[0], agreements[1:]
    # A scheme that reads the values there in the same way is no rival.
    rivals = [dice for dice, other in rest if any(_name(other[0], v) != _name(group[0], v) for v in present)]
    if any(dice > 0.9 * best for dice in rivals):
        return ""
    return (
        f" It agrees best with the reference as {' or '.join(scheme.name for scheme in group)} "
        f"(mean Dice {best:.2f}{f', next {max(rivals):.2f}' if rivals else ''})."
    )


def _name(scheme: Scheme, value: int) -> str:
    return next((label.name for label in scheme.labels if label.value == value), "")


def _mean_dice(joint: np.ndarray, names: dict[int, str], scheme: Scheme) -> float:
    """Mean over the reference's labels of the Dice coefficient by names; ``joint`` counts (reference, prediction)."""
    values = scheme.label_values
    scores = []
    for value, name in names.items():
        n_true = joint[value].sum()
        n_found = joint[:, values[name]].sum() if name in values else 0
        if n_true + n_found:
            both = joint[value, values[name]] if name in values else 0
            scores.append(2 * both / (n_true + n_found))
    return float(np.mean(scores)) if scores else 0.0
