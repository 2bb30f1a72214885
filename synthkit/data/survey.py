"""The first look at a subject, before anything is written: what it holds, which slices are kept, what is odd about it.

Nothing here depends on the split, so that one look serves whatever is held out.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from synthkit.data.intensities import OF_THE_BRAIN, Background, background_notes, brain_of, mixed, tone_note
from synthkit.data.signatures import Signature, signature
from synthkit.data.slice_rule import check_intensities
from synthkit.data.slices import SliceProtocol, check_fits, kept_slices, negative_voxels
from synthkit.data.subjects import BadSubject, Subject, SubjectError, SubjectVolumes, load_subject
from synthkit.data.twins import contrasts_to_compare
from synthkit.schemes import BRATS

# A volume lower than this does not hold a whole brain (about 130 mm). A contrast that is zero in more than this
# fraction of the brain has a smaller field of view than the one the brain is seen in; every eighth slice tells.
_SLAB_MM = 100.0
_MISSING_FRACTION = 0.01
_EVERY = 8


@dataclass(frozen=True)
class SurveyedSubject:
    """A good subject and all that the summary of `prepare` says of it but its split.

    Attributes
    ----------
    kept, n_dropped, label_voxels, negative_voxels, notes : see :class:`synthkit.data.prepared.PreparedSubject`.
    stored_labels : label values as the file had them.
    orientation : of the array by its affine, ``LPS``.
    backgrounds : contrast -> what its background was, as stored.
    signature : what the brain looks like, see :mod:`synthkit.data.signatures`.
    fingerprint : sha256 of the contrast that the slice rule looks at, where there is too little for a signature.
    """

    subject: Subject
    kept: tuple[int, ...]
    n_dropped: int
    label_voxels: dict[str, int]
    negative_voxels: dict[str, int]
    notes: tuple[str, ...]
    stored_labels: tuple[int, ...]
    orientation: str
    signature: Signature | None
    fingerprint: str
    backgrounds: dict[str, Background]


def survey(subject: Subject, protocol: SliceProtocol) -> SurveyedSubject | BadSubject:
    """Read and check all files of a subject and apply the slice rule."""
    import nibabel as nib

    try:
        volumes = load_subject(subject)
        check_fits(volumes)
        check_intensities(volumes, protocol, f"--intensity {OF_THE_BRAIN} reads it, by percentiles of the brain")
    except SubjectError as error:
        return error.bad
    kept = kept_slices(volumes, protocol)
    assert volumes.labels is not None  # scan_subjects found a segmentation
    labels = {name: int(np.count_nonzero(volumes.labels == v)) for name, v in BRATS.label_values.items() if v}
    compared = contrasts_to_compare(protocol.contrasts, protocol.brain_contrast)
    seen = signature([volumes.images[name] for name in compared])
    return SurveyedSubject(
        subject=subject,
        kept=kept,
        n_dropped=volumes.shape[2] - len(kept),
        label_voxels=labels,
        negative_voxels={name: n for name, n in negative_voxels(volumes, protocol).items() if n},
        notes=_notes(volumes, protocol, len(kept)),
        backgrounds=volumes.backgrounds,
        stored_labels=volumes.stored_labels,
        signature=seen,
        fingerprint="" if seen else hashlib.sha256(volumes.images[protocol.brain_contrast].tobytes()).hexdigest(),
        orientation="".join(str(code) for code in nib.aff2axcodes(volumes.affine)),  # type: ignore[no-untyped-call]
    )


def _notes(volumes: SubjectVolumes, protocol: SliceProtocol, n_kept: int) -> tuple[str, ...]:
    notes = []
    if volumes.n_rounded:
        notes.append(
            f"seg: {volumes.n_rounded:,} voxels are not quite whole numbers (saved from floating point), rounded"
        )
    height_mm = volumes.shape[2] * volumes.spacing_mm[2]
    if height_mm < _SLAB_MM:
        notes.append(f"slab: {volumes.shape[2]} slices, {height_mm:g} mm")
    if not n_kept:
        notes.append("no slice kept")
    notes += background_notes(volumes.backgrounds, volumes.images)
    seen = {
        name: brain_of(data[:, :, ::_EVERY], volumes.backgrounds.get(name)) for name, data in volumes.images.items()
    }
    brain = seen[protocol.brain_contrast]
    n_brain = int(np.count_nonzero(brain))
    for name, data in volumes.images.items():
        missing = 1 - np.count_nonzero(brain & seen[name]) / max(1, n_brain)
        if missing > _MISSING_FRACTION:
            notes.append(f"{name} is 0 in {missing:.1%} of the brain")
        if note := tone_note(name, data, protocol.rule, volumes.backgrounds.get(name)):
            notes.append(note)
    return tuple(notes)


def notes_of_all(surveyed: Sequence[SurveyedSubject]) -> tuple[str, ...]:
    """What is odd about the subjects taken together."""
    notes = []
    meanings = {label.value: label.meaning for label in BRATS.labels}
    for old, new in BRATS.read_as:
        n_old, n_new = (sum(value in c.stored_labels for c in surveyed) for value in (old, new))
        if n_old and n_new:
            notes.append(
                f"{meanings[new]} is label {old} in {n_old} and {new} in {n_new} subjects; both are read as {new}, so "
                f"make sure that no {new} stands for the resection cavity of BraTS 2024"
            )
    orientations: dict[str, list[str]] = defaultdict(list)
    for c in surveyed:
        orientations[c.orientation].append(c.subject.id)
    if len(orientations) > 1:
        parts = [f"{code} in {len(ids)} ({ids[0]} ...)" for code, ids in sorted(orientations.items())]
        notes.append(
            f"affines name different array orientations, {', '.join(parts)}; slices keep the stored order of the "
            "array, so look at some and see that all have the same side up"
        )
    notes += mixed({c.subject.id: c.backgrounds for c in surveyed})
    by_volume: dict[str, list[str]] = defaultdict(list)
    for c in surveyed:
        if c.fingerprint:
            by_volume[c.fingerprint].append(c.subject.id)
    for same in by_volume.values():
        if len(same) > 1:
            notes.append(
                f"{', '.join(same)} hold the same volume, with too little in it to say that they show one person; if "
                "they do, they would be on both sides of the split: remove the copies"
            )
    return tuple(notes)
