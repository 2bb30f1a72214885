"""Who is who among imported real samples: by the names in their table, and by what their pictures show."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from synthkit.contract import Sample
from synthkit.data.grey_values import GreyValues
from synthkit.data.patients import Patients, decided, patient_of
from synthkit.data.picture_layouts import Source
from synthkit.data.shards import map_threads
from synthkit.data.twins import find_twins, settled, signatures_of
from synthkit.data.views import Readable
from synthkit.errors import DataError
from synthkit.schemes import Scheme

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from synthkit.contract import UInt8Array

_Rows = Mapping[str, Mapping[str, Any]]


def people_of_table(path: Path, rows: _Rows) -> Patients:
    """Which patient each subject of a table is: what it says in its column ``patient``, else what the names say.

    Raises
    ------
    DataError : ids without a patient leave open whether they are scans of one; ``details`` has a line a group.
    """
    said: dict[str, str | None] = {}
    for row in rows.values():
        if row["subject"]:
            said[row["subject"]] = said.get(row["subject"]) or row["patient"]
    open_subjects = sorted(subject for subject, patient in said.items() if not patient)
    try:
        by_name = decided(open_subjects)
    except DataError as error:
        fix = f"Say which patient each is in a column patient of {path.name}: its own id where none belong together."
        raise DataError(error.what, error.why, fix, error.details) from None
    of = {**by_name.of, **{subject: patient for subject, patient in said.items() if patient}}
    return Patients(of, "names" if open_subjects else "table", by_name.notes)


def settled_by_pictures(
    path: Path,
    rows: _Rows,
    people: Patients,
    source: Source,
    greys: GreyValues,
    scheme: Scheme,
    on_progress: Callable[[int, int], None],
) -> Patients:
    """Who is who once the pictures are seen, as in `prepare` by :func:`synthkit.data.twins.settled`.

    Raises
    ------
    DataError : subjects that the pictures show to be one person are in train and in the holdout, or are two patients
        by their names alone; ``details`` has a line a pair.
    """
    if len(people.of) < 2:
        return people
    pictures = _Pictures(rows, source, greys, scheme)
    signatures = signatures_of(pictures, on_progress)
    twins = find_twins(signatures)
    side = {row["subject"]: row["split"] for row in rows.values()}
    if across := [pair for pair in twins if side[pair.one] != side[pair.other]]:
        raise DataError(
            f"Subjects of the holdout and subjects to train on show one person ({len(across)} found).",
            "Their brains agree in detail: copies, or scans of one person. Scores on the holdout would be too good.",
            f"Remove copies, or give both of a pair one split in {path.name}, and one patient in its column patient.",
            list(map(str, across)),
        )
    try:
        people = settled(people, twins)
    except DataError as error:
        fix = f"Remove copies, or give both of a pair one patient in a column patient of {path.name}."
        raise DataError(error.what, error.why, fix, error.details) from None
    unseen = [subject for subject, signature in signatures.items() if signature is None]
    return Patients(people.of, people.source, (*people.notes, *_notes_on_small(pictures, unseen, people)))


def with_patients(rows: _Rows, people: Patients) -> dict[str, dict[str, Any]]:
    """Rows that say whom each sample is of, where their subjects' ids do not say it already."""
    found = {}
    for name, row in rows.items():
        patient = people.of.get(row["subject"])
        is_known = not row["patient"] and row["subject"] and patient == patient_of(row["subject"])
        found[name] = {**row, "patient": None if is_known else patient}
    return found


class _Pictures(Readable):
    """The images of pictures as a dataset would hold them; their labels are left out."""

    def __init__(self, rows: _Rows, source: Source, greys: GreyValues, scheme: Scheme) -> None:
        self.contrasts, self.scheme, self.label_values = source.contrasts, scheme, scheme.values
        self.samples = [
            Sample(name, rows[name]["split"], rows[name]["subject"], rows[name]["slice"], None, "")
            for name in source.ids
        ]
        self._source, self._greys = source, greys

    def read(self, indices: Sequence[int] | NDArray[np.integer[Any]]) -> tuple[UInt8Array, UInt8Array]:
        raw = map_threads(self._source.read, [int(index) for index in indices])
        images = np.stack([np.stack([self._greys.greys(plane) for plane in sample.planes]) for sample in raw])
        return images, np.zeros((len(images), *images.shape[2:]), np.uint8)


def _notes_on_small(pictures: _Pictures, subjects: Sequence[str], people: Patients) -> list[str]:
    """On subjects with too few slices, or too little in them, to be compared; and which hold the same pictures."""
    if not subjects:
        return []
    notes = [
        f"{len(subjects)} of {len(pictures.subjects)} subjects have too few slices, or too little in them, to see "
        "whether two are one person."
    ]
    indices: dict[str, list[int]] = {subject: [] for subject in subjects}
    for index, sample in enumerate(pictures.samples):
        if sample.subject in indices:
            indices[sample.subject].append(index)
    same: dict[str, list[str]] = defaultdict(list)
    for subject, own in indices.items():
        same[hashlib.sha256(pictures.read(own)[0].tobytes()).hexdigest()].append(subject)
    notes += [
        f"{', '.join(copies)} hold the same pictures; if they show one person, remove the copies."
        for copies in same.values()
        if len({people.of[subject] for subject in copies}) > 1
    ]
    return notes
