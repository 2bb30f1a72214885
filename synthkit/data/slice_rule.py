"""Why a protocol does not read subjects, and which option changes that: tried before it is advised."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from synthkit.data.intensities import OF_THE_BRAIN, PERCENTILES, Rule, unfit
from synthkit.data.slices import SliceProtocol, kept_slices, largest_share
from synthkit.data.subject_files import Subject
from synthkit.data.subjects import SubjectError, SubjectVolumes, load_subject
from synthkit.errors import DataError

_MOST_SUBJECTS = 5


def check_intensities(volumes: SubjectVolumes, protocol: SliceProtocol, way: str, fix: str = "") -> None:
    """Raise :class:`SubjectError` if the intensity rule does not read a subject.

    ``way`` ends the reason and ``fix`` is the advice where percentiles of the brain read it.
    """
    if reason := unfit(volumes.backgrounds, protocol.rule):
        readable = unfit(volumes.backgrounds, Rule(0.5, 99.5)) is None
        raise SubjectError(volumes.id, f"{reason}; {way}" if readable else reason, *([fix] if fix and readable else []))


def check_fits_model(volumes: SubjectVolumes, protocol: SliceProtocol) -> None:
    """Raise :class:`SubjectError` if a model whose data were made by this protocol does not read a subject."""
    check_intensities(
        volumes,
        protocol,
        f"the model's data were made by --intensity {protocol.intensity}, which does not read it",
        "Give the subject's images as they were before they were normalized, name the others by --only, or use a model "
        f"of data that were prepared by --intensity {OF_THE_BRAIN}.",
    )


def no_slice_error(subjects: Sequence[Subject], protocol: SliceProtocol) -> DataError:
    """The error for good subjects of which the rule keeps no slice, with figures and a remedy that helps."""
    volumes = [load_subject(subject) for subject in subjects[:_MOST_SUBJECTS]]
    name = protocol.brain_contrast
    most, area = (
        max(largest_share(v, replace(protocol, brain_threshold=threshold)) for v in volumes)
        for threshold in (protocol.brain_threshold, 0)
    )
    return DataError(
        "The slice rule keeps no slice of any subject.",
        f"No slice has more than {protocol.brain_fraction:.0%} of its 256 x 256 pixels above "
        f"{protocol.brain_threshold:g} in {name}: the largest has {most:.2%}, and {area:.2%} above 0.",
        _remedy(volumes, protocol, most, area),
    )


def _remedy(volumes: Sequence[SubjectVolumes], protocol: SliceProtocol, most: float, area: float) -> str:
    def keeps(changed: SliceProtocol) -> bool:
        return any(kept_slices(v, changed) for v in volumes)

    if area <= protocol.brain_fraction:  # too little brain, however bright it is
        fraction = f"--brain-fraction {(most or area) / 2:.2g}" + ("" if most else " --brain-threshold 0")
        return f"The brain is small in them: {fraction} keeps slices with half of that and more."
    for intensity in (*PERCENTILES, OF_THE_BRAIN):
        if intensity != protocol.intensity and keeps(replace(protocol, intensity=intensity)):
            return f"The brain is large enough and too dark: --intensity {intensity} makes it brighter."
    threshold = protocol.brain_threshold
    while threshold > 1 and not keeps(replace(protocol, brain_threshold=threshold)):
        threshold = threshold // 2
    return f"The brain is large enough and dark by every rule: --brain-threshold {threshold:g} keeps slices."
