"""The first look at a subject, before anything is written: what it holds, which slices are kept, what is odd about it.

Nothing here depends on the split, so that one look serves whatever is held out.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from synthkit.data.contrast_looks import exchanged_contrasts, exchanged_in_words
from synthkit.data.exchanged_labels import LabelFit, exchanged_labels
from synthkit.data.geometry import ArrangedVolumes, Geometry, in_mm, notes_on_axes
from synthkit.data.header_scale import StoredGrid, too_large, too_small_for_heads
from synthkit.data.intensities import OF_THE_BRAIN, Background, brain_of
from synthkit.data.intensity_notes import background_notes, mixed, same_images, tone_note
from synthkit.data.kept_volumes import KeptVolumes
from synthkit.data.label_looks import LabelLook, looks_of, outside_brain
from synthkit.data.label_places import LabelPlaces, places_of
from synthkit.data.label_reading import counts_of
from synthkit.data.lies import lying_otherwise
from synthkit.data.named_schemes import is_of_tumours
from synthkit.data.nifti import unit_named
from synthkit.data.orientation import tilt_degrees
from synthkit.data.scheme_choice import SchemeChoice, decide, without_misfits
from synthkit.data.scheme_ids import Labelled
from synthkit.data.signatures import Signature, signature
from synthkit.data.slice_rule import check_intensities
from synthkit.data.slices import SliceProtocol, arranged, check_fits, kept_slices, negative_voxels
from synthkit.data.subject_files import BadSubject, Subject
from synthkit.data.subjects import SubjectError, bad_subjects_error, load_subject
from synthkit.data.twins import contrasts_to_compare
from synthkit.data.unlabelled import bright_region_ml
from synthkit.schemes import Scheme

if TYPE_CHECKING:
    from numpy.typing import NDArray

# A volume lower than this does not hold a whole brain (about 130 mm). A contrast that is zero in more than this
# fraction of the brain has a smaller field of view than the one the brain is seen in; every eighth slice tells.
_SLAB_MM = 100.0
_MISSING_FRACTION = 0.01
# Of real subjects, slabs included, at most 0.05 is missing: from here on a part of the volume was lost.
_ABSENT = 0.2
# Share of the brain that the contrast sees which sees most of it: of real subjects 0.95 and more, of z-scores that were
# cut at 0 about 0.6.
_SEEN = 0.75
# Share of a contrast's brain that lies where no other contrast has any: of real subjects up to 0.0014, of a contrast of
# another subject 0.005 to 0.23, half of them above 0.07.
_ELSEWHERE = 0.01
_EVERY = 8
_NAMED = 10
# From here on slices are visibly not those that the axes of the body would give.
_TILTED_DEGREES = 15.0
# Labels that oedema is part of, and its share of all that is labelled: of real subjects 0.3 and more.
_WITH_OEDEMA, _LEAST_OEDEMA = ("ED", "WT"), 0.25
# Shares of the brain that are labelled: tumours of real subjects take up to 0.24, in a slab; a mask of the brain all of
# it and, where it was shrunk, three quarters.
_LARGE, _WHOLE_BRAIN = 0.5, 0.8
# Labels of less than this do not make a tumour of what is seen.
_HARDLY_LABELLED_ML = 0.5


@dataclass(frozen=True)
class SurveyedSubject:
    """A good subject and all that the summary of `prepare` says of it but its split.

    Attributes
    ----------
    kept, n_dropped, negative_voxels, notes : see :class:`synthkit.data.prepared.PreparedSubject`.
    label_counts : label value as the file has it -> voxels in the whole volume.
    looks : label value -> how its voxels look.
    geometry : of the grid that its slices are cut from.
    grid : as it is stored.
    names_unit : its header names the unit of its voxel size.
    backgrounds : contrast -> what its background was, as stored.
    signature : what the brain looks like, see :mod:`synthkit.data.signatures`.
    places : whether its labels fit the images better mirrored or moved.
    shows_a_head : its brain is as long along each axis as a whole one, and no slab of it.
    fit : where it stands out and is labelled, to compare with others'.
    whose : the subject whose labels fit its images better, and whose images its labels do; "" where there is none.
    elsewhere : contrast -> share of its brain that lies where no other has any, where that is more than an edge.
    unlabelled_ml : size of a bright region as of a tumour, where next to nothing is labelled.
    misfit : that they do not fit them, in words; "" where they do, or nothing says it.
    exchanged : contrast -> the one that it looks like, where that is another.
    copies : pairs of contrasts that are one image.
    covered : label value as the file has it -> share of the brain that has it.
    absent : contrast -> share of the brain in which it is 0, where that is a large part.
    fingerprint : sha256 of the contrast that the slice rule looks at, where there is too little for a signature.
    """

    subject: Subject
    kept: tuple[int, ...]
    n_dropped: int
    label_counts: dict[int, int]
    looks: dict[int, LabelLook]
    negative_voxels: dict[str, int]
    notes: tuple[str, ...]
    geometry: Geometry
    grid: StoredGrid
    names_unit: bool
    signature: Signature | None
    fingerprint: str
    backgrounds: dict[str, Background]
    places: LabelPlaces | None
    exchanged: dict[str, str]
    copies: tuple[tuple[str, str], ...]
    covered: dict[int, float]
    absent: dict[str, float]
    elsewhere: dict[str, float]
    shows_a_head: bool = True
    fit: LabelFit | None = None
    whose: str = ""
    unlabelled_ml: float = 0.0
    misfit: str = ""

    def labelled(self) -> Labelled:
        """What its files say of the label scheme."""
        labelled = Labelled.of(self.subject, self.label_counts, self.looks)
        return replace(labelled, places=self.places, whose=self.whose, exchanged=self.exchanged, copies=self.copies)

    def read_by(self, choice: SchemeChoice) -> SurveyedSubject:
        """The same, its label map to be read into the scheme that was chosen."""
        values = choice.label_values[self.subject.id]
        counts: dict[int, int] = {}
        looks = {}
        for value, n in self.label_counts.items():
            counts[values[value]] = counts.get(values[value], 0) + n
            if value in self.looks:
                looks[values[value]] = self.looks[value]
        covered = sum(share for value, share in self.covered.items() if values[value])
        notes = [outside_brain(looks, choice.scheme)]
        if covered > _LARGE and is_of_tumours(choice.scheme):
            notes.append(f"labels cover {covered:.0%} of the brain, more than tumours do")
        return replace(
            self,
            subject=replace(self.subject, label_values=values),
            label_counts=counts,
            looks=looks,
            notes=(*self.notes, *filter(None, notes)),
            unlabelled_ml=self.unlabelled_ml if is_of_tumours(choice.scheme) else 0.0,
            misfit=self._misfit(counts, choice.scheme),
        )

    def _misfit(self, counts: Mapping[int, int], scheme: Scheme) -> str:
        """That its labels do not fit the images; "" where oedema is a small part of them, or none of it is labelled.

        Without it what is beside the labels of a tumour stands out as they do.
        """
        labelled = sum(n for value, n in counts.items() if value)
        oedema = sum(counts.get(scheme.label_values.get(name, -1), 0) for name in _WITH_OEDEMA)
        if self.places is None or self.places.are_elsewhere or self.whose or not is_of_tumours(scheme):
            return ""
        return self.places.misfit if oedema > _LEAST_OEDEMA * labelled else ""

    def is_brain_mask(self, choice: SchemeChoice) -> str | None:
        """That labels of a tumour cover nearly the whole brain, in words; None where they do not."""
        values = choice.label_values[self.subject.id]
        covered = sum(share for value, share in self.covered.items() if values[value])
        if covered <= _WHOLE_BRAIN or not is_of_tumours(choice.scheme):
            return None
        return f"seg: labels cover {covered:.0%} of the brain, as a mask of the brain or of its tissues and no tumour"

    def label_voxels(self, scheme: Scheme) -> dict[str, int]:
        """Label name -> voxels, once the label map is to be read into this scheme."""
        return {label.name: self.label_counts.get(label.value, 0) for label in scheme.labels}


def choose_scheme(
    surveyed: Sequence[SurveyedSubject], given: Scheme | None, skip_misfits: bool
) -> tuple[list[SurveyedSubject], SchemeChoice, list[BadSubject]]:
    """The subjects read by the scheme that they have, that scheme, and the subjects that do not have it.

    Raises
    ------
    DataError : see :func:`synthkit.data.scheme_choice.decide`; or labels of tumours that cover nearly the whole brain.
    """
    whose = exchanged_labels({c.subject.id: c.fit for c in surveyed})
    surveyed = [replace(c, whose=whose.get(c.subject.id, "")) for c in surveyed]
    labelled = {c.subject.id: c.labelled() for c in surveyed}
    misfits = without_misfits(list(labelled.values()), given) if skip_misfits else {}
    choice = decide([item for item in labelled.values() if item.id not in misfits], given)
    fitting = [c for c in surveyed if c.subject.id not in misfits]
    masks = {c.subject.id: reason for c in fitting if (reason := c.is_brain_mask(choice))}
    bad = [BadSubject(subject, reason) for subject, reason in {**misfits, **masks}.items()]
    if masks and (len(masks) == len(fitting) or not skip_misfits):
        raise bad_subjects_error(bad, len(surveyed), _fix_of_masks(len(masks) < len(fitting)))
    return [c.read_by(choice) for c in fitting if c.subject.id not in masks], choice, bad


def _fix_of_masks(others_are_good: bool) -> str:
    return (
        "Give the label maps of the tumours; what is labelled otherwise is read with --labels FILE.toml, a table "
        f"[labels] of name = value.{' --skip-bad goes on without these.' if others_are_good else ''}"
    )


def survey(subject: Subject, protocol: SliceProtocol, keep: KeptVolumes | None = None) -> SurveyedSubject | BadSubject:
    """Read and check all files of a subject and apply the slice rule; what was read is kept where there is room."""
    try:
        stored = load_subject(subject)
        grid = StoredGrid(stored.shape, stored.spacing_mm)
        if reason := too_large(grid):  # before it is resampled, into an array of many gigabytes
            return BadSubject(subject.id, reason)
        volumes = arranged(stored, protocol)
        check_fits(volumes)
        check_intensities(volumes, protocol, f"--intensity {OF_THE_BRAIN} reads it, by percentiles of the brain")
    except SubjectError as error:
        return error.bad
    if keep is not None:
        keep.keep(volumes)
    kept = kept_slices(volumes, protocol)
    assert volumes.labels is not None  # scan_subjects found a segmentation
    counts = counts_of(volumes.labels)
    brains = {
        name: brain_of(data[:, :, ::_EVERY], volumes.backgrounds.get(name)) for name, data in volumes.images.items()
    }
    if reason := _cut_at_zero(brains):
        return BadSubject(subject.id, reason)
    brain, some = brains[protocol.brain_contrast], volumes.labels[:, :, ::_EVERY]
    # Most voxels have no label: they are left out before any is picked, which is several times faster.
    in_brain = np.bincount(some[(some != 0) & brain], minlength=256) / max(1, int(np.count_nonzero(brain)))
    elsewhere = _elsewhere(brains)
    # Contrasts that do not lie on one another do not tell what they are either.
    copies = same_images(volumes.images)
    copied = {name for pair in copies for name in pair}  # which of them the image really is, nothing says
    judged = {name: data for name, data in volumes.images.items() if name not in copied}
    exchanged = {} if elsewhere or not judged else exchanged_contrasts(judged, volumes.labels, kept)
    n_brain = max(1, int(np.count_nonzero(brain)))
    missing = {name: 1 - np.count_nonzero(brain & seen) / n_brain for name, seen in brains.items()}
    compared = contrasts_to_compare(protocol.contrasts, protocol.brain_contrast)
    seen = signature([volumes.images[name] for name in compared])
    return SurveyedSubject(
        subject=subject,
        kept=kept,
        n_dropped=volumes.shape[2] - len(kept),
        label_counts={value: counts.get(value, 0) for value in volumes.stored_labels},
        looks=looks_of(volumes.images, volumes.labels),
        negative_voxels={name: n for name, n in negative_voxels(volumes, protocol).items() if n},
        notes=(
            *_notes(volumes, protocol, len(kept), missing),
            *copies.values(),
            *([f"{exchanged_in_words(exchanged)}: see which file shows which"] if exchanged else []),
        ),
        backgrounds=volumes.backgrounds,
        signature=seen,
        places=places_of(volumes.images, volumes.labels, volumes.axes, volumes.spacing_mm),
        fit=LabelFit.of(volumes.images, volumes.labels),
        exchanged=exchanged,
        copies=tuple(copies),
        absent={name: share for name, share in missing.items() if share > _ABSENT},
        elsewhere=elsewhere,
        shows_a_head=_shows_a_head(brain, volumes.spacing_mm),
        unlabelled_ml=_unlabelled_ml(volumes, counts),
        covered={value: float(in_brain[value]) for value in volumes.stored_labels},
        fingerprint="" if seen else hashlib.sha256(volumes.images[protocol.brain_contrast].tobytes()).hexdigest(),
        geometry=Geometry(volumes.axes, volumes.spacing_mm),
        grid=grid,
        names_unit=unit_named(volumes.header) != "unknown",
    )


def _cut_at_zero(brains: Mapping[str, NDArray[np.bool_]]) -> str:
    """That all contrasts are 0 in large parts of the brain, each in others, in words; "" where one shows nearly all."""
    n_brain = np.count_nonzero(np.any([*brains.values()], axis=0))
    most = max(np.count_nonzero(brain) for brain in brains.values())
    if most >= _SEEN * n_brain:
        return ""
    return (
        f"no contrast is above its background in more than {most / n_brain:.0%} of the brain that they show together, "
        "as of z-scores that were cut at 0: give the images with their negative values, which --intensity "
        f"{OF_THE_BRAIN} reads"
    )


def _shows_a_head(brain: NDArray[np.bool_], spacing_mm: tuple[float, float, float]) -> bool:
    """Whether a brain, of which ``brain`` has every eighth slice, is as long along each axis as a whole one."""
    others = ((1, 2), (0, 2), (0, 1))
    seen = [np.count_nonzero(brain.any(axis=along)) * mm for along, mm in zip(others, spacing_mm, strict=True)]
    return bool(min(seen[0], seen[1], seen[2] * _EVERY) >= _SLAB_MM)


def _unlabelled_ml(volumes: ArrangedVolumes, counts: Mapping[int, int]) -> float:
    labelled_ml = sum(n for value, n in counts.items() if value) * float(np.prod(volumes.spacing_mm)) / 1000
    if labelled_ml > _HARDLY_LABELLED_ML or "flair" not in volumes.images:
        return 0.0
    return bright_region_ml(volumes.images["flair"], volumes.spacing_mm)


def _elsewhere(brains: Mapping[str, NDArray[np.bool_]]) -> dict[str, float]:
    """Contrast -> share of its brain that lies where no other has any, where that is more than an edge."""
    if len(brains) < 2:
        return {}
    n_seen = np.sum([*brains.values()], axis=0, dtype=np.uint8)
    alone = n_seen == 1
    shares = {
        name: np.count_nonzero(brain & alone) / max(1, int(np.count_nonzero(brain))) for name, brain in brains.items()
    }
    return {name: float(share) for name, share in shares.items() if share > _ELSEWHERE}


def _notes(
    volumes: ArrangedVolumes, protocol: SliceProtocol, n_kept: int, missing: Mapping[str, float]
) -> tuple[str, ...]:
    """``missing``: contrast -> share of the brain in which it is 0, of every eighth slice."""
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
    if (unit := unit_named(volumes.header)) not in ("mm", "unknown"):
        notes.append(f"its header is in {unit}s, read as {in_mm(volumes.spacing_mm)}")
    if (tilt := tilt_degrees(volumes.affine)) > _TILTED_DEGREES and volumes.axes is not None:
        notes.append(f"turned by {tilt:.0f} degrees against the body: slices follow the nearest axes of its array")
    notes += volumes.affine_notes
    notes += background_notes(volumes.backgrounds, volumes.images)
    for name, data in volumes.images.items():
        if missing[name] > _MISSING_FRACTION:
            notes.append(f"{name} is 0 in {missing[name]:.1%} of the brain")
        if note := tone_note(name, data, protocol.rule, volumes.backgrounds.get(name)):
            notes.append(note)
    return tuple(notes)


def _listed(parts: Sequence[str], mark: str = ", ") -> str:
    return mark.join(parts[:_NAMED]) + (" and more" if len(parts) > _NAMED else "")


def notes_of_all(surveyed: Sequence[SurveyedSubject]) -> tuple[str, ...]:
    """What is odd about the subjects taken together."""
    notes = [*notes_on_axes({c.subject.id: c.geometry for c in surveyed})]
    if nameless := sum(not c.names_unit for c in surveyed):
        notes.append(f"{nameless} of {len(surveyed)} headers name no unit of the voxel size: taken as mm")
    if small := too_small_for_heads([c.grid for c in surveyed]):
        notes.append(small)
    notes += mixed({c.subject.id: c.backgrounds for c in surveyed})
    if lost := [f"{name} of {c.subject.id} ({share:.0%})" for c in surveyed for name, share in c.absent.items()]:
        notes.append(
            f"a large part of the brain is 0 in {_listed(lost)}: "
            "what is lost comes out black; restore the files, leave the subjects out, or give --contrasts without these"
        )
    if others := [f"{name} of {c.subject.id} ({share:.1%})" for c in surveyed for name, share in c.elsewhere.items()]:
        notes.append(
            f"brain lies where no other contrast has any in {_listed(others)}: as of an image of another subject, one "
            "that was not registered, or another extraction of the brain; see that each file is of its subject and in "
            "its place"
        )
    if misfits := [f"{c.subject.id} ({c.misfit})" for c in surveyed if c.misfit]:
        notes.append(
            f"labels do not fit the images in {_listed(misfits, '; ')}: "
            "as of another subject, or moved; look at the contact sheet, and give each subject its own label map"
        )
    axes = {c.geometry.axes for c in surveyed if c.geometry.axes}
    # Slabs look alike any way, and so do heads in another contrast.
    told = {c.subject.id: c.signature for c in surveyed if c.shows_a_head and not c.exchanged and not c.copies}
    lying = lying_otherwise(told) if len(axes) == 1 else {}
    if odd := [f"{subject} ({how})" for subject, how in lying.items()]:
        notes.append(
            "heads lie otherwise in their arrays than the others', though by their affines they lie alike, in "
            f"{_listed(odd)}: look at the contact sheet, and correct the affine, or the order of the array"
        )
    if empty := [c.subject.id for c in surveyed if not any(n for value, n in c.label_counts.items() if value)]:
        notes.append(
            f"nothing is labelled in {len(empty)} of {len(surveyed)} subjects, which are learned from as healthy: "
            f"{_listed(empty)}"
        )
    if seen := [f"{c.subject.id} ({c.unlabelled_ml:.0f} ml)" for c in surveyed if c.unlabelled_ml]:
        notes.append(
            f"next to nothing is labelled, and a large region is bright in FLAIR as of a tumour, in {_listed(seen)}: "
            "look at the contact sheet, and give the label maps of these subjects or leave them out"
        )
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
