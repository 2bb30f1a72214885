"""A reference and a prediction: whether the prediction's values are labels of its scheme, and which fits best."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from synthkit.data.label_folders import LabelFolder, unknown_values_error
from synthkit.data.label_grids import turn_of
from synthkit.data.named_schemes import SCHEMES
from synthkit.data.orientation import Turn
from synthkit.data.scheme_questions import meanings
from synthkit.errors import DataError
from synthkit.schemes import Scheme, enumerated

# Dice from which a mask of one value is taken to be of another label or region, and by how much it must be above that
# with the label of its value; more where that is a part of the region, as of segmenters that find one label alone,
# unless the value is 1, as of most masks.
_AGREES, _MORE, _MORE_THAN_PART = 0.5, 0.2, 0.4
# So many subjects tell which scheme fits best.
_ENOUGH = 3


def check_prediction(reference: LabelFolder, prediction: LabelFolder, subjects: Sequence[str]) -> None:
    """See that predictions whose scheme nothing says hold values of the reference's.

    Raises
    ------
    DataError : a value that is none, with the schemes that have it and the one that agrees best with the reference;
        or masks of one value that agree with a label or region of the reference that is not the one of that value.
    """
    if prediction.is_said:
        return
    scheme = prediction.scheme
    everywhere: set[int] = set()
    for subject in subjects:
        present = prediction.stored(subject).stored
        everywhere |= set(present) - {0}
        if unknown := sorted(set(present) - set(scheme.values)):
            some = [subject, *(s for s in subjects if s != subject)][:_ENOUGH]
            best = best_by_overlap(reference, prediction, some)
            name = "WT"
            if not best and len(unknown) == len(set(present) - {0}) == 1:
                best, name = _best_of_mask(reference, prediction, some, unknown[0])
            path = prediction.path(subject)
            raise unknown_values_error(path, unknown, present, scheme, prediction.option, best, name)
    if len(everywhere) == 1 and len(reference.scheme.labels) > 1:
        _refuse_other_masks(reference, prediction, subjects[:_ENOUGH], everywhere.pop())


def no_subject_in_common(reference: LabelFolder, prediction: LabelFolder) -> DataError:
    """The error for predictions of which none is called as a reference, with what their names hold besides."""
    among = {name: one for name in prediction.subjects if (one := _longest_within(name, reference.subjects))}
    why = f"{len(reference.subjects)} references, {len(prediction.subjects)} predictions."
    fix = "Subjects are matched by name: a prediction is NAME.nii.gz, one label map a subject."
    if among:
        name, one = next(iter(among.items()))
        beside = [other for other in among if among[other] == one]
        more = " and ".join(part for part in name.split(one, 1) if part)
        if len(beside) > 1:
            why += f" {one} has {enumerated(beside)}: files a label, as probabilities, are no label maps."
        elif re.fullmatch(r"_\d{4}", more):
            why += f" {name} is not {one}: {more} is how nnU-Net names a channel of images, and no label map has it."
        else:
            why += f" {name} is not {one}: {more} is no ending of a prediction's name, and taken for part of it."
        file = prediction.path(name).name
        if len(beside) == 1 and name in file:
            ending = re.sub(r"^.*?(?=[.](nii|mha|mhd))", "", file)
            fix += f" If these are label maps, rename {file} to {one}{ending}, and the others alike."
    return DataError("Reference and prediction have no subject in common.", why, fix)


def _longest_within(name: str, subjects: Sequence[str]) -> str:
    """The longest subject whose name stands whole in another; "" if none does."""
    whole = [one for one in subjects if re.search(rf"(?<![0-9A-Za-z]){re.escape(one)}(?![0-9A-Za-z])", name)]
    return max(whole, key=len, default="")


def _refuse_other_masks(reference: LabelFolder, prediction: LabelFolder, subjects: Sequence[str], value: int) -> None:
    """DataError for masks of ``value`` that are of another label or region than that value is."""
    dice = _dice_of_mask(reference, prediction, subjects, value)
    own = _name(prediction.scheme, value)
    best = max(dice, key=lambda name: dice[name])
    region = next((region for region in reference.scheme.nested if region.name == best), None)
    more = _MORE_THAN_PART if region and own in region.labels and value != 1 else _MORE
    if dice[best] <= max(_AGREES, dice.get(own, 0.0) + more):
        return
    whole = SCHEMES["whole-tumour"]
    is_whole = whole.region_values.get(best) == (value,)
    file = f"a TOML file of the lines `[labels]` and `{best} = {value}` as {prediction.option}"
    raise DataError(
        f"The predictions are masks of one value, {value}, which {prediction.scheme.name} calls {own}.",
        f"They agree with {best}{f' ({enumerated(region.labels)} together)' if region else ''} of the reference (Dice "
        f"{dice[best]:.2f}), not with {own} ({dice.get(own, 0.0):.2f}).",
        f"Give {f'{prediction.option} {whole.name}' if is_whole else file}; where they are {own}, "
        f"{prediction.option} {prediction.scheme.name}.",
    )


def _best_of_mask(
    reference: LabelFolder, prediction: LabelFolder, subjects: Sequence[str], value: int
) -> tuple[str, str]:
    """What masks of ``value`` agree best with, in words and by name; nothing and WT where they agree with nothing."""
    dice = _dice_of_mask(reference, prediction, subjects, value)
    best = max(dice, key=lambda name: dice[name])
    if dice[best] <= _AGREES:
        return "", "WT"
    return f" It agrees best with {best} of the reference (Dice {dice[best]:.2f}).", best


def _dice_of_mask(
    reference: LabelFolder, prediction: LabelFolder, subjects: Sequence[str], value: int
) -> dict[str, float]:
    """Dice of masks with each label and region of the reference, by name."""
    joint = _joint(reference, prediction, subjects)
    n_found = joint[:, value].sum()
    return {
        region: float(2 * joint[list(values), value].sum() / max(1, n_found + joint[list(values)].sum()))
        for region, values in reference.scheme.region_values.items()
    }


def best_by_overlap(reference: LabelFolder, prediction: LabelFolder, subjects: Sequence[str]) -> str:
    """Which scheme makes a prediction agree best with its reference, in words; "" where none stands out."""
    names = {label.value: label.name for label in reference.scheme.labels}
    joint = _joint(reference, prediction, subjects)
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


def _joint(reference: LabelFolder, prediction: LabelFolder, subjects: Sequence[str]) -> np.ndarray:
    """Voxels (256 labels of the reference, 256 values of the prediction), of subjects whose shapes are alike."""
    joint = np.zeros((256, 256), dtype=np.int64)
    for subject in subjects:
        truth, _ = reference.labels(subject)
        turn = turn_of(reference, prediction, subject) or Turn()
        found = turn.apply(prediction.stored(subject).labels)
        if truth.shape == found.shape:
            for value in np.flatnonzero(np.bincount(found.ravel(), minlength=256)):
                joint[:, value] += np.bincount(truth[found == value], minlength=256)
    return joint


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
