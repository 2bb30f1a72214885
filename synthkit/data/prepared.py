"""What `prepare` did, or would do: a row for each subject, and totals."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synthkit.data.geometry import Geometry
from synthkit.data.scheme_choice import SchemeChoice
from synthkit.data.slices import SliceProtocol
from synthkit.data.splits import Holdout, Split
from synthkit.data.subject_files import BadSubject


@dataclass(frozen=True)
class PreparedSubject:
    """What became of one subject: a row of the summary table.

    Attributes
    ----------
    patient : whom it is a scan of.
    kept : indices of the slices kept.
    n_dropped : slices left out by the slice rule.
    label_voxels : label name -> voxels in the whole volume.
    negative_voxels : contrast -> voxels below zero, which become 0; only contrasts that have any.
    notes : what is unusual and no error (a slab, a contrast with a smaller field of view, no slice kept).
    """

    id: str
    patient: str
    split: Split
    kept: tuple[int, ...]
    n_dropped: int
    label_voxels: dict[str, int]
    negative_voxels: dict[str, int]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        return {
            "subject": self.id,
            "patient": self.patient,
            "split": self.split,
            "slices_kept": len(self.kept),
            "slices_dropped": self.n_dropped,
            "label_voxels": self.label_voxels,
            "negative_voxels": self.negative_voxels,
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class PreparedSummary:
    """What was prepared.

    Attributes
    ----------
    geometry : orientation and voxel size that all subjects have in common.
    contact_sheets : pictures of one slice a subject, in the dataset's folder.
    n_resumed : samples that an earlier, interrupted command had written already.
    """

    path: Path
    protocol: SliceProtocol
    holdout: Holdout
    seed: int
    subjects: tuple[PreparedSubject, ...]
    bad_subjects: tuple[BadSubject, ...]
    labels: SchemeChoice
    notes: tuple[str, ...]
    geometry: Geometry
    contact_sheets: tuple[Path, ...] = ()
    n_resumed: int = 0

    @property
    def n_samples(self) -> int:
        return sum(len(subject.kept) for subject in self.subjects)

    def to_dict(self) -> dict[str, Any]:
        """JSON form, with totals by split."""
        totals = {}
        for split in ("train", "holdout"):
            part = [subject for subject in self.subjects if subject.split == split]
            totals[split] = {
                "subjects": len(part),
                "patients": len({subject.patient for subject in part}),
                "slices_kept": sum(len(subject.kept) for subject in part),
                "slices_dropped": sum(subject.n_dropped for subject in part),
            }
        return {
            "protocol": {**self.protocol.to_dict(), "geometry": self.geometry.to_dict()},
            "holdout": str(self.holdout),
            "seed": self.seed,
            "labels": self.labels.to_dict(),
            "n_samples": self.n_samples,
            "splits": totals,
            "subjects": [subject.to_dict() for subject in self.subjects],
            "bad_subjects": [{"subject": bad.id, "reason": bad.reason} for bad in self.bad_subjects],
            "notes": list(self.notes),
        }
