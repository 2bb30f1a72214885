"""Label volumes reduced to the slices that a protocol keeps, and the rules of evaluating on them.

Akbar et al. (Sci Data 11:259, 2024, doi 10.1038/s41597-024-03073-x) score each subject on the 3-D stack of the axial
slices that the preparation keeps, not on the whole volume: what a segmenter finds elsewhere does not count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthkit.data.geometry import differ
from synthkit.data.orientation import Turn
from synthkit.data.slice_rule import check_intensities
from synthkit.data.slices import SliceProtocol, arrangement_of, kept_slices
from synthkit.data.subjects import load_subject, scan_subjects
from synthkit.errors import DataError, UsageError
from synthkit.schemes import Scheme

if TYPE_CHECKING:
    from synthkit.contract import UInt8Array, Volumes


#: Side of the pixels that the slice rule counts: the study's subjects have voxels of 1 mm.
_PIXEL_MM = 1.0


@dataclass(frozen=True)
class EvaluationProtocol:
    """How a published study scored.

    Attributes
    ----------
    name : as on the command line.
    params : values of the metrics' parameters that it fixes, for those metrics that have them.
    policy : the rules, in sentences.
    """

    name: str
    params: Mapping[str, Any]
    policy: tuple[str, ...]


EVALUATION_PROTOCOLS = {
    "akbar2024": EvaluationProtocol(
        name="akbar2024",
        params={
            "both_empty": "exclude",
            "hausdorff_one_empty": "exclude",
            "hausdorff_percentile": 100,
            "nested_regions": False,
        },
        policy=(
            "Each subject is scored on the 3-D stack of the axial slices in which more than 15 % of 256 x 256 pixels "
            "have a T1 above 50 of 255; pixels are of 1 mm, and where voxels are larger or smaller, T1 is resampled in "
            "the plane for this rule.",
            "Regions are ET, ED and NCR, and their mean.",
            "A region in neither reference nor prediction is not counted.",
            "A region that was missed, or predicted where the reference has none: Dice and surface Dice 0; its "
            "Hausdorff distance is not counted, so that the mean distance improves with every region missed.",
            "The Hausdorff distance is the maximum, not the 95th percentile.",
        ),
    )
}


def evaluation_protocol(name: str) -> EvaluationProtocol:
    """The protocol of this name; :class:`UsageError` if there is none."""
    try:
        return EVALUATION_PROTOCOLS[name]
    except KeyError:
        known = ", ".join(EVALUATION_PROTOCOLS)
        raise UsageError(f"There is no evaluation protocol {name!r}.", f"Known: {known}.", "Choose one.") from None


class SliceRule:
    """Which slices of each subject are kept, from the T1 volumes of a folder of subjects.

    The first contrast of their scheme stands for T1 where it has none. The rule counts pixels of 1 mm: where voxels are
    not, the area counts that they stand for.

    Raises
    ------
    DataError : a subject without a usable T1, or none of whose slices is kept.
    """

    def __init__(self, folder: Path, names: Sequence[str], scheme: Scheme) -> None:
        self._contrast = scheme.brain_contrast or scheme.contrast_names[0]
        self._title = next(c.title for c in scheme.contrasts if c.name == self._contrast)
        good, _ = scan_subjects(folder, contrasts=(self._contrast,), need_labels=False, names=names, scheme=scheme)
        self._subjects = {subject.id: subject for subject in good}
        self._kept: dict[str, tuple[tuple[int, ...], Turn]] = {}

    def kept(self, subject: str) -> tuple[tuple[int, ...], Turn]:
        """Indices of axial slices, ascending, and the turn of the stored array that has these along its third axis."""
        if subject not in self._kept:
            if subject not in self._subjects:
                raise DataError(
                    f"There is no {self._title} of {subject} in the reference.",
                    f"The protocol decides by {self._title} which slices count.",
                    "Give the folder of subjects with their images as --reference, or leave --protocol out.",
                )
            volumes = load_subject(self._subjects[subject], labels=False)
            protocol = SliceProtocol(contrasts=(self._contrast,))
            leave_out = "Leave the subject out, or leave --protocol out."
            why = f"the protocol decides by {self._title} above 0 which slices count"
            check_intensities(volumes, protocol, why, leave_out)
            how = arrangement_of(volumes, protocol)
            if differ(how.spacing_mm[:2], (_PIXEL_MM, _PIXEL_MM)):
                # In the plane alone, so that slices keep their numbers.
                protocol = replace(protocol, spacing_mm=(_PIXEL_MM, _PIXEL_MM, how.spacing_mm[2]))
            kept = kept_slices(volumes, protocol)
            if not kept:
                raise DataError(
                    f"The protocol keeps no slice of {subject}.",
                    f"In none is more than 15 % of 256 x 256 pixels bright enough in {self._title}.",
                    leave_out,
                )
            self._kept[subject] = kept, how.turn
        return self._kept[subject]


class KeptSlices:
    """Label volumes without the slices that a rule drops; satisfies :class:`synthkit.contract.Volumes`."""

    def __init__(self, volumes: Volumes, rule: SliceRule) -> None:
        self._volumes, self._rule = volumes, rule
        self.scheme = volumes.scheme

    @property
    def subjects(self) -> Sequence[str]:
        return self._volumes.subjects

    def labels(self, subject: str) -> tuple[UInt8Array, tuple[float, float, float]]:
        """Labels ``(x, y, kept slice)``, turned where slices are stored otherwise, and the voxel spacing in mm."""
        stored, spacing_mm = self._volumes.labels(subject)
        kept, turn = self._rule.kept(subject)
        labels = turn.apply(stored)
        if kept[-1] >= labels.shape[2]:
            raise DataError(
                f"The labels of {subject} do not belong to its T1.",
                f"They have {labels.shape[2]} slices; slice {kept[-1]} of the T1 is kept.",
                "Give the labels in the grid of the images.",
            )
        return labels[:, :, list(kept)], turn.of_each_axis(spacing_mm)
