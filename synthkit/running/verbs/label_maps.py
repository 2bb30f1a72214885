"""The label maps that samples are asked to have: of a dataset or of a folder of masks, and which seed gets which."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from synthkit.contract import Sample
from synthkit.data.dataset import Dataset
from synthkit.data.patients import patient_behind
from synthkit.data.views import with_scheme
from synthkit.errors import DataError
from synthkit.schemes import Scheme, enumerated

if TYPE_CHECKING:
    from synthkit.contract import Samples, UInt8Array


class LabelMaps(Protocol):
    """Label maps by number from 0.

    Attributes
    ----------
    order : all numbers, in the order in which seeds get them: seed s that of place ``s % len(order)``.
    """

    @property
    def order(self) -> Sequence[int]: ...
    def __len__(self) -> int: ...
    def labels(self, number: int) -> UInt8Array:
        """Label map uint8 (y, x), a new array, with values of the model's scheme."""


def number_of(maps: LabelMaps, seed: int) -> int:
    """The number of the map that a seed gets, whichever other seeds are drawn with it."""
    return maps.order[seed % len(maps.order)]


class DatasetMaps:
    """The label maps of what may be trained on in a dataset, for a model; DataError where they do not fit it."""

    def __init__(self, dataset: Dataset, metadata: Mapping[str, Any]) -> None:
        for what, theirs, own in (
            ("sides of images (y, x)", dataset.size, size_of(metadata)),
            ("contrasts", dataset.contrasts, tuple(metadata["contrasts"])),
        ):
            if theirs != own:
                raise DataError(
                    f"The labels of {dataset.path} do not fit the model.",
                    f"Its {what} are {', '.join(map(str, own))}; those of the dataset are "
                    f"{', '.join(map(str, theirs))}.",
                    "Prepare the subjects with the --size and the --contrasts of the data that the model has learned "
                    "from.",
                )
        scheme = Scheme.of_record(metadata)
        names, own_names = ([label.name for label in one.labels] for one in (dataset.scheme, scheme))
        if {*names} != {*own_names}:
            raise DataError(
                f"The labels of {dataset.path} do not fit the model.",
                f"The model's are {enumerated(own_names)}; those of the dataset are {enumerated(names) or 'none'}.",
                "Give labels of the model's scheme; if files were read by a wrong one, prepare them with --labels.",
            )
        part = dataset.training_part()
        if not len(part):
            raise DataError(
                f"{dataset.path} has no label maps to ask for.",
                "Every sample is held out, and the holdout is never used.",
                "Prepare with a smaller --holdout.",
            )
        self._samples: Samples = with_scheme(part, scheme)
        self.order = spread(part.samples)

    def __len__(self) -> int:
        return len(self._samples)

    def labels(self, number: int) -> UInt8Array:
        found: UInt8Array = self._samples.read([number])[1][0]
        return found

    def people(self, numbers: Sequence[int]) -> set[str]:
        """The patients, or phantoms, of these maps; none where a generator drew them."""
        return {patient for number in numbers if (patient := patient_behind(self._samples.samples[number]))}


def spread(samples: Sequence[Sample]) -> list[int]:
    """All numbers of samples in rounds, one of each patient a round, so that a few of the first are of many patients.

    Patients, and the slices of each, come by the digests of their samples: as good as by chance, so that the first are
    not all from one end of the head, and alike wherever and in whichever order they are stored.
    """
    of_patient: dict[tuple[bool, str], list[int]] = {}
    for number in sorted(range(len(samples)), key=lambda number: samples[number].digest):
        patient = patient_behind(samples[number])
        of_patient.setdefault((patient is None, patient or samples[number].id), []).append(number)
    rounds: Iterator[tuple[int | None, ...]] = itertools.zip_longest(*of_patient.values())
    return [number for one_of_each in rounds for number in one_of_each if number is not None]


def size_of(metadata: Mapping[str, Any]) -> tuple[int, int]:
    """Sides (y, x) in pixels of the images of a model."""
    return int(metadata["size"][0]), int(metadata["size"][1])
