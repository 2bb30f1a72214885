"""Why the slice rule keeps no slice of any subject, and which option changes that: tried before it is advised."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from synthkit.data.intensities import OF_THE_BRAIN, PERCENTILES
from synthkit.data.slices import SliceProtocol, kept_slices, largest_share
from synthkit.data.subjects import Subject, SubjectVolumes, load_subject
from synthkit.errors import DataError

_MOST_SUBJECTS = 5


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
        base = most or area
        fraction = float(f"{base / 2:.2g}")
        threshold = "" if most else " --brain-threshold 0"
        return f"The brain is small in them: --brain-fraction {fraction:g}{threshold} keeps slices with at least half of that."
    for rule in (*PERCENTILES, OF_THE_BRAIN):
        if rule != protocol.intensity and keeps(replace(protocol, intensity=rule)):
            return f"The brain is large enough and too dark: --intensity {rule} makes it brighter."
    threshold = protocol.brain_threshold
    while threshold > 1 and not keeps(replace(protocol, brain_threshold=threshold)):
        threshold = threshold // 2
    return f"The brain is large enough and dark by every rule: --brain-threshold {threshold:g} keeps slices."
