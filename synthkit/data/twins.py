"""One person under two ids, found by what the images show: the same scan saved again, or another scan of that person.

Ids say who somebody is only where whoever named the files kept to it. Collections share patients under new names,
copies are saved in other types, voxels and orientations; a split by names then tests a model on whom it was trained on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from synthkit.data.patients import Patients
from synthkit.data.signatures import LIES, Signature, first_look, likeness, signature
from synthkit.data.slices import SliceProtocol, slice_volume
from synthkit.data.subject_files import Subject
from synthkit.data.subjects import SubjectError, load_subject
from synthkit.data.views import Readable
from synthkit.errors import DataError

if TYPE_CHECKING:
    from synthkit.contract import UInt8Array

#: Two heads that are more alike are one person. Different people: up to 0.5, and 0.57 in slices of 32 pixels; one
#: person: from 0.73, where a scan of another day is turned by eight degrees and cut otherwise.
ALIKE = 0.66
#: From here on they are rather the same images than another scan.
_SAME_IMAGES = 0.95
_SHOWN = 5
# A pair is registered if its first look is at least this, or the best of either of the two.
_CERTAINLY_CLOSER = 0.85
# So many rows of the first look at a time.
_ROWS = 250
# Slices of a dataset that make up a head: every second, third ... of more.
_SLICES = 64

#: Called with how many subjects are compared, and of how many.
OnProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class Twins:
    """Two subjects that show one person. ``alike``: correlation of the detail of their brains, above ``ALIKE``."""

    one: str
    other: str
    alike: float

    def __str__(self) -> str:
        return f"{self.one} and {self.other} (correlation {self.alike:.2f})"


def contrasts_to_compare(contrasts: Sequence[str], brain_contrast: str) -> tuple[str, ...]:
    """The contrast that brains are seen in, and one more: T2 of the usual four."""
    others = [name for name in contrasts if name != brain_contrast]
    return (brain_contrast, *others[len(others) // 2 :][:1])


def find_twins(
    signatures: Mapping[str, Signature | None],
    others: Mapping[str, Signature | None] | None = None,
    on_progress: OnProgress | None = None,
) -> list[Twins]:
    """Pairs of subjects that show one person, the most alike first.

    Parameters
    ----------
    signatures : subject -> signature; None, which is alike to nobody, where there is too little to see.
    others : where they are given, pairs of one of ``signatures`` with one of these; else pairs among ``signatures``.
    """
    rows = {name: found for name, found in signatures.items() if found is not None}
    columns = rows if others is None else {name: found for name, found in others.items() if found is not None}
    if not rows or not columns or (others is None and len(rows) < 2):
        return []
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    names, partners = list(rows), list(columns)
    twins = []
    # The products are many and small: handed to several threads, these spin while they wait for one another, for a
    # hundred times as long as the work takes on a busy machine.
    with threadpool_limits(1, "blas"):
        for row, column, lie in _candidates(list(rows.values()), list(columns.values()), others is None, on_progress):
            alike = likeness(rows[names[row]], columns[partners[column]], LIES[lie])
            if alike > ALIKE:
                twins.append(Twins(names[row], partners[column], alike))
    return sorted(twins, key=lambda pair: (-pair.alike, pair.one, pair.other))


def _candidates(
    rows: Sequence[Signature], columns: Sequence[Signature], among: bool, on_progress: OnProgress | None
) -> list[tuple[int, int, int]]:
    """Row and column of pairs that are worth a registration, and how the second one lies.

    They are the best partner of each by the first look, and all that are certainly close.
    """
    first = np.full((len(rows), len(columns)), -np.inf, dtype=np.float32)
    lies = np.zeros(first.shape, dtype=np.intp)
    for start in range(0, len(rows), _ROWS):
        stop, begin = min(start + _ROWS, len(rows)), start if among else 0  # a pair is looked at from one side
        first[start:stop, begin:], lies[start:stop, begin:] = first_look(rows[start:stop], columns[begin:])
        if on_progress is not None:
            on_progress(stop, len(rows))
    if among:
        first = np.triu(first, 1)
        first += first.T
        np.fill_diagonal(first, -np.inf)
    wanted = {(row, int(column)) for row, column in enumerate(first.argmax(axis=1))}
    wanted |= {(int(row), column) for column, row in enumerate(first.argmax(axis=0))}
    wanted |= {(int(row), int(column)) for row, column in np.argwhere(first > _CERTAINLY_CLOSER)}
    if among:
        wanted = {(min(pair), max(pair)) for pair in wanted}
    return [(row, column, int(lies[row, column])) for row, column in sorted(wanted)]


# -------------------------------------------------------------------------------------------------------- who is who


def settled(identity: Patients, twins: Sequence[Twins]) -> Patients:
    """Who is who once the images are known: nobody is two patients, whatever names or a table say.

    Twins that are one patient anyway are as they should be; where they show nearly the same images, a note says so.
    Twins that a table (or "one-per-subject") makes two patients become one, with a note.

    Raises
    ------
    DataError : twins are two patients by their names alone; ``details`` has a line a pair.
    """
    same = [pair for pair in twins if identity.of[pair.one] == identity.of[pair.other] and pair.alike > _SAME_IMAGES]
    apart = [pair for pair in twins if identity.of[pair.one] != identity.of[pair.other]]
    notes = list(identity.notes)
    if same:
        notes.append(f"Nearly the same images of one patient, which count twice: {_listed(same)}.")
    if not apart:
        return replace(identity, notes=tuple(notes))
    if identity.source == "names":
        pairs = "pairs" if len(apart) > 1 else "pair"
        raise DataError(
            f"{len(apart)} {pairs} of subjects with different ids show{'' if len(apart) > 1 else 's'} one person.",
            "Their brains agree in detail, whatever the type, the grey scale, the voxels and the orientation of their "
            "files: copies, or scans of one person. On both sides of the split they would make every score too good.",
            "Remove copies, or say whom each subject shows by --patients TABLE.csv (columns subject, patient). Should "
            "the table give the two of a pair different patients, they stay on one side of the split all the same.",
            list(map(str, apart)),
        )
    joined = dict(identity.of)
    for pair in apart:
        keep, drop = sorted((joined[pair.one], joined[pair.other]))
        joined = {subject: keep if patient == drop else patient for subject, patient in joined.items()}
    notes.append(
        f"Not two patients, as --patients says, but one by their images, and kept on one side of the split: "
        f"{_listed(apart)}. Remove one of them if it is a copy."
    )
    return replace(identity, of=joined, notes=tuple(notes))


def _listed(twins: Sequence[Twins]) -> str:
    return "; ".join(map(str, twins[:_SHOWN])) + (f"; and {len(twins) - _SHOWN} more" if len(twins) > _SHOWN else "")


# ----------------------------------------------------------------------------------------------------- from slices


def signatures_of(samples: Readable, on_progress: OnProgress | None = None) -> dict[str, Signature | None]:
    """Subject -> signature, from the slices of a dataset; None where slices have no number, or are few."""
    brain = samples.scheme.brain_contrast
    channels = _channels(samples.contrasts, brain if brain in samples.contrasts else samples.contrasts[0])
    rows: dict[str, dict[int, int]] = {subject: {} for subject in samples.subjects}
    for index, sample in enumerate(samples.samples):
        if sample.subject is not None and sample.slice is not None:
            rows[sample.subject][sample.slice] = index
    found = {}
    for n, (subject, of_slice) in enumerate(rows.items(), start=1):
        found[subject] = _of_slices(lambda indices: samples.read(indices)[0], of_slice, channels)
        if on_progress is not None:
            on_progress(n, len(rows))
    return found


def signature_of_subject(subject: Subject, protocol: SliceProtocol) -> Signature | None:
    """The signature of a subject's slices, as of a dataset that the protocol makes; None where they are few or none."""
    try:
        slices = slice_volume(load_subject(subject, labels=False), protocol)
    except SubjectError:  # said with its reason where the subject is needed
        return None
    of_slice = {place: index for index, place in enumerate(slices.slice_indices)}
    return _of_slices(
        lambda indices: slices.images[indices], of_slice, _channels(protocol.contrasts, protocol.brain_contrast)
    )


def _channels(contrasts: Sequence[str], brain_contrast: str) -> list[int]:
    return [list(contrasts).index(name) for name in contrasts_to_compare(contrasts, brain_contrast)]


def _of_slices(
    read: Callable[[list[int]], UInt8Array], of_slice: Mapping[int, int], channels: Sequence[int]
) -> Signature | None:
    """From images (n, contrast, y, x) by their index; ``of_slice`` is slice -> index."""
    if not of_slice:
        return None
    low, high = min(of_slice), max(of_slice)
    places = range(low, high + 1, max(1, (high - low) // _SLICES))
    used = [place for place in places if place in of_slice]
    images = read([of_slice[place] for place in used])
    volumes = np.zeros((len(channels), *images.shape[2:], len(places)), dtype=np.uint8)
    for place, image in zip(used, images, strict=True):
        volumes[..., places.index(place)] = image[channels]
    return signature([volume.transpose(1, 0, 2) for volume in volumes])
