"""How the files of a release are read: what a grey level of a label means, which way images lie, how large a pixel is.

What synthkit does not know is said, and asked in the assessment: a reader must not guess it.
"""

from __future__ import annotations

from dataclasses import dataclass

from synthkit.data.dataset import Dataset
from synthkit.data.geometry import Geometry, in_mm
from synthkit.data.labels import grey_levels
from synthkit.data.slices import GRID
from synthkit.schemes import Scheme

_TOWARDS = {
    "L": "the patient's left",
    "R": "the patient's right",
    "P": "the back",
    "A": "the front",
    "S": "the head",
    "I": "the feet",
}
_FILES = {
    "png": "`images/CONTRAST/ID_CONTRAST.png` and `images/Seg/ID_Seg.png`, 8-bit grey",
    "nifti": "`images/ID/ID_CONTRAST.nii.gz` and `images/ID/ID_seg.nii.gz`, one slice each",
    "nnunet": "nnU-Net raw: `images/imagesTr/ID_000N.nii.gz`, a number a contrast, and `images/labelsTr/ID.nii.gz`",
    "dataset": "`dataset/`, shards of synthkit: `synthkit export` writes other formats",
}
_STORED = {"png": "grey level", "nifti": "value", "nnunet": "value (consecutive)", "dataset": "value"}


@dataclass(frozen=True)
class StoredLabel:
    """A label, what it means, and by which number the files of a release write it."""

    name: str
    meaning: str
    stored: int


@dataclass(frozen=True)
class Reading:
    """How to read a release: ``labels``, background first, and ``lines``, topic -> sentence."""

    stored_as: str
    labels: tuple[StoredLabel, ...]
    lines: dict[str, str]


def how_to_read(dataset: Dataset, format: str) -> Reading:
    """For the public form of a dataset, in a format of :data:`synthkit.release.folder.FORMATS`."""
    lines = {
        "Files": _FILES[format],
        "Contrasts": f"{', '.join(dataset.contrasts)}, each an image of its own; all of one ID lie on one another",
        "Intensities": _intensities(dataset),
        "Orientation": _orientation(dataset),
        "Pixels": _pixels(dataset),
        "Skull": "whether it was removed is not recorded: a generator draws what it learned from. Look at an image, "
        "and read what the steward says in `assessment.md`",
        "Volumes": "none: every sample is a single axial slice, and neighbouring ids are no neighbouring slices",
    }
    return Reading(_STORED[format], stored_labels(dataset.scheme, format), lines)


def stored_labels(scheme: Scheme, format: str) -> tuple[StoredLabel, ...]:
    """The labels of a scheme, by their values, as the files of a format write them."""
    meanings = {label.value: (label.name, label.meaning) for label in scheme.labels}
    return tuple(
        StoredLabel(*meanings.get(value, ("background", "everything else")), number)
        for number, value in stored_values(scheme, format).items()
    )


def stored_values(scheme: Scheme, format: str) -> dict[int, int]:
    """Number in the files of a format -> label value, background first."""
    values = sorted(scheme.label_values.values())
    numbers = {"png": [int(level) for level in grey_levels(values)], "nnunet": range(len(values))}.get(format, values)
    return dict(zip(numbers, values, strict=True))


def _intensities(dataset: Dataset) -> str:
    rule = (dataset.description.get("protocol") or {}).get("intensity")
    levels = "grey levels from 0 to 255, without a unit"
    if not rule:
        return f"{levels}; what 255 was in the images that they were learned from is not recorded"
    what = "the maximum" if rule == "max" else f"the rule {rule}"
    return f"{levels}; in the images that they were learned from, 255 was {what} of each volume and 0 the background"


def _orientation(dataset: Dataset) -> str:
    axes = Geometry.of(dataset.description.get("protocol")).axes
    if axes is None:
        return "not recorded: mirrored images cannot be told from these"
    x, y, z = (_TOWARDS[letter] for letter in axes)
    return f"{axes}: columns run towards {x}, rows (downwards in a picture) towards {y}; the third axis led to {z}"


def _pixels(dataset: Dataset) -> str:
    spacing = Geometry.of(dataset.description.get("protocol")).spacing_mm
    if spacing is None:
        return "their size in mm is not recorded"
    factor = GRID / dataset.size[0]
    size = in_mm((spacing[0] * factor, spacing[1] * factor))
    return f"{size}, as in the images that they were learned from; slices lay {spacing[2]:.3g} mm apart"
