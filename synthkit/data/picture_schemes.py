"""What pictures say of the scheme of their labels: the description that exports write beside them, names in nnU-Net's,
and the ids of samples, which mean what they mean of subjects (:mod:`synthkit.data.scheme_ids`).

``scheme.json`` holds the scheme and the contrasts of the dataset that was exported, so that an import gives the same.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import permutations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from synthkit.data.format import is_safe_name
from synthkit.data.label_levels import LabelLevels
from synthkit.data.label_looks import contradiction, judged, looks_of
from synthkit.data.label_places import places_of
from synthkit.data.label_tables import TableOfLabels, scheme_of_table
from synthkit.data.named_schemes import SCHEMES
from synthkit.data.png_folders import SCHEME
from synthkit.data.scheme_ids import Labelled, by_ids
from synthkit.data.scheme_questions import doubts, labels_in_words, question, what_helps
from synthkit.errors import DataError
from synthkit.files import write_atomically
from synthkit.schemes import BRATS, Scheme, enumerated

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Samples by whose images labels are judged, and about how many pixels a side of them.
_N_LOOKED_AT = 128
_SIDE = 128
# A slice shows about so much along its longer side.
_SHOWN_MM = 240.0
# In spreads of the brain; no voxel is as far below its median.
_ABOVE = 1000.0


def write_scheme(folder: Path, scheme: Scheme, contrasts: Sequence[str]) -> None:
    """Write the description of an export."""
    text = json.dumps({"contrasts": list(contrasts), "scheme": scheme.to_dict()}, indent=1)
    write_atomically(folder / SCHEME, (text + "\n").encode())


def scheme_beside(path: Path) -> tuple[Scheme, tuple[str, ...]] | None:
    """Scheme and contrasts that an export at ``path`` describes; None without a description.

    Raises
    ------
    DataError : a description that cannot be read.
    """
    file = path / SCHEME
    if not file.is_file():
        return None
    try:
        data = json.loads(file.read_text(encoding="utf-8-sig"))
        contrasts = tuple(str(name) for name in data["contrasts"])
        if not all(map(is_safe_name, contrasts)):
            raise ValueError(f"its contrasts are {', '.join(contrasts)}")
        return Scheme.from_dict(data["scheme"]), contrasts
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{file} does not describe labels.",
            f"{error!r}.",
            "Restore it; or remove it, and name the label scheme with --labels.",
        ) from error


def scheme_of_names(table: TableOfLabels) -> Scheme:
    """The scheme of labels that a table names: BraTS up to 2020 by its own names, whatever their values, as exports
    write them; else what the names mean; else one of the names as they are.

    Raises
    ------
    DataError : names that labels cannot have.
    """
    names = {name.lower() for name in table.named}
    if names <= {label.name.lower() for label in BRATS.labels}:
        return BRATS
    exact = next((s for s in SCHEMES.values() if names == {label.name.lower() for label in s.labels}), None)
    return exact or scheme_of_table(table)


def schemes_by_ids(where: Path, ids: Sequence[str]) -> tuple[list[Scheme], str]:
    """Schemes that the ids of samples say, and how in words; none where they say nothing.

    Of two, the second is the one that the collection has where there is a label 4.

    Raises
    ------
    DataError : ids of collections whose labels do not go together, or ids of which some say nothing.
    """
    told = by_ids([Labelled(name, (), ()) for name in ids])
    if not told:
        return [], ""
    by_labels: dict[tuple[tuple[str, int], ...], list[str]] = {}
    for name, (scheme, _) in told.items():
        by_labels.setdefault(tuple(scheme.label_values.items()), []).append(name)
    if len(by_labels) > 1 or len(told) < len(ids):
        silent = next((name for name in ids if name not in told), None)
        schemes = [f"{told[names[0]][0].name}: {names[0]} and {len(names) - 1} more" for names in by_labels.values()]
        raise DataError(
            f"The ids of {where} do not say one label scheme of all samples.",
            f"{len(ids) - len(told)} of {len(ids)} say none, such as {silent}." if silent else "They say several.",
            "Name the scheme with --labels NAME if all have one; else import them apart.",
            schemes,
        )
    scheme, why = Counter(told.values()).most_common(1)[0][0]
    some = next(name for name, (other, _) in told.items() if other == scheme)
    wider = by_ids([Labelled(some, (), (4,))])[some][0]
    return ([scheme] if wider == scheme else [scheme, wider]), why


class Looks:
    """How labels look in samples from all over a source, kept small; see :mod:`synthkit.data.label_looks`."""

    def __init__(self, contrasts: Sequence[str], n_samples: int) -> None:
        self._contrasts = tuple(contrasts)
        self._wanted = set(np.linspace(0, n_samples - 1, min(n_samples, _N_LOOKED_AT)).round().astype(int).tolist())
        self._planes: list[list[NDArray[Any]]] = []
        self._labels: list[NDArray[Any]] = []

    def add(self, index: int, planes: Sequence[NDArray[Any]], labels: NDArray[Any]) -> None:
        """One sample, planes and labels (y, x) as stored."""
        if index in self._wanted:
            step = max(1, max(labels.shape) // _SIDE)
            self._planes.append([plane[::step, ::step] for plane in planes])
            self._labels.append(labels[::step, ::step])

    def contradiction(self, where: str, table: NDArray[np.uint8], scheme: Scheme) -> tuple[str, Labelled]:
        """What speaks against the names of a scheme ("" if nothing does), and what is known of the labels.

        ``table``: value in a picture -> label value, ``(65536,)``.
        """
        labels = np.stack([table[own] for own in self._labels], axis=-1).transpose(1, 0, 2)
        images = {
            name: np.stack(planes, axis=-1).transpose(1, 0, 2)
            for name, planes in zip(self._contrasts, zip(*self._planes, strict=True), strict=True)
        }
        pixel = (_SHOWN_MM / max(labels.shape[:2]),) * 2
        alike = {name: _on_one_scale(image, labels) for name, image in images.items() if name != "t1"}
        places = places_of(alike, labels, None, (*pixel, 1.0), within_slices=True)
        values = tuple(np.unique(labels).tolist())
        known = Labelled(where, (), values, None, looks_of(images, labels, every=1), places)
        wrong, _ = doubts([known], scheme)
        return (str(wrong[0]) if wrong else ""), known


def _on_one_scale(slices: NDArray[Any], labels: NDArray[Any]) -> NDArray[np.float32]:
    """Slices (x, y, n) with brain in spreads of what is unlabelled in each, far above its background, 0."""
    found = np.zeros(slices.shape, dtype=np.float32)
    for k in range(slices.shape[2]):
        slice_ = slices[..., k].astype(np.float32)
        healthy = slice_[(slice_ != 0) & (labels[..., k] == 0)]
        low, middle, high = np.percentile(healthy, (25, 50, 75)) if healthy.size else (0.0, 0.0, 0.0)
        if high > low:
            found[..., k] = np.where(slice_ == 0, 0, (slice_ - middle) / (high - low) + _ABOVE)
    return found


def looks_otherwise(why: str, known: Labelled, scheme: Scheme, by: str) -> DataError:
    """The question that is asked where images contradict what ids say."""
    return question(
        f"Labels of {known.id} do not look like those of {scheme.name}.",
        [known],
        "--labels",
        f"{by[:1].upper()}{by[1:]} they would be {labels_in_words(scheme)}, but {why}.",
        helps=what_helps(doubts([known], scheme)[0], f"--labels {scheme.name}"),
    )


def other_order(known: Labelled, scheme: Scheme) -> dict[str, int]:
    """Label -> value, the one way to deal the values that are there among the labels which the images support.

    Empty where several are as likely, or where images do not tell every label.
    """
    labels = [label for label in scheme.labels if label.value in known.labels]
    fitting = []
    for values in permutations(label.value for label in labels):
        moved = zip(labels, values, strict=True)
        looks = {label.value: known.looks[value] for label, value in moved if value in known.looks}
        signs = judged(looks, scheme)
        if len(signs) == len(labels) and all(signs.values()) and not contradiction(looks, scheme):
            fitting.append({label.name: value for label, value in zip(labels, values, strict=True)})
    return fitting[0] if len(fitting) == 1 else {}


def in_other_order(
    why: str, known: Labelled, scheme: Scheme, order: Mapping[str, int], levels: LabelLevels
) -> DataError:
    """The refusal of labels whose scheme nothing says, and that images show to be others than those taken for it."""
    greys = {value: grey for grey, value in levels.levels.items()}
    given = ",".join(f"{name}={greys[value]}" for name, value in order.items())
    return DataError(
        f"Labels of {known.id} do not look like those of {scheme.name}.",
        f"Nothing says their scheme. As {labels_in_words(scheme)}, {why}; by the images they are "
        f"{enumerated([f'{value} {name}' for name, value in order.items()])}.",
        f"Give --label-levels 0={greys[0]},{given}; where they are {scheme.name} all the same, --labels {scheme.name}.",
    )
