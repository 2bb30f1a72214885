"""Subjects on disk: find them by their BraTS names, read them, and say exactly what is wrong with a bad one.

Known layouts are BraTS 2018 to 2024: one folder a subject, the contrast of a file told by the end of its name, in any
case: ``_t1`` or ``-t1n``, ``_t1ce`` or ``-t1c``, ``_t2`` or ``-t2w``, ``_flair`` or ``-t2f``, ``_seg`` or ``-seg``,
then ``.nii`` or ``.nii.gz``. Subject folders may lie one level deeper (``HGG/``, ``LGG/``), and a folder that itself
holds the files is one subject. The id of a subject is the name of its folder.
"""

from __future__ import annotations

import difflib
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from synthkit.data.labels import canonical
from synthkit.data.nifti import Volume, VolumeError, read_volume, write_labels, write_probabilities
from synthkit.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from synthkit.contract import UInt8Array

__all__ = [
    "CONTRASTS",
    "BadSubject",
    "LabelFolder",
    "Subject",
    "SubjectError",
    "SubjectVolumes",
    "find_subjects",
    "load_labels",
    "load_subject",
    "read_volume",
    "scan_subjects",
    "write_labels",
    "write_probabilities",
]

CONTRASTS = ("t1", "t1ce", "t2", "flair")

#: Two grids are the same if no corner of the volume lies farther apart than this: a tenth of a BraTS voxel, a hundred
#: times what single precision in a header can move it.
AFFINE_TOLERANCE_MM = 0.1

# "segm" is what one segmentation of BraTS 2020 (subject 355) is called.
_SUFFIXES = {
    "t1": "t1", "t1n": "t1", "t1ce": "t1ce", "t1c": "t1ce", "t2": "t2", "t2w": "t2", "flair": "flair", "t2f": "flair",
    "seg": "seg", "segm": "seg",
}  # fmt: skip
_BRATS_NAME = re.compile(rf".*[_-]({'|'.join(sorted(_SUFFIXES, key=len, reverse=True))})\.nii(\.gz)?", re.IGNORECASE)
_PREDICTION_NAME = re.compile(r"(.+?)([_-]segm?)?\.nii(\.gz)?", re.IGNORECASE)
_NIFTI_NAME = re.compile(r"(.+?)\.nii(\.gz)?", re.IGNORECASE)


@dataclass(frozen=True)
class Subject:
    """Files of one subject. ``seg`` is None where there is no segmentation and none was asked for."""

    id: str
    folder: Path
    contrasts: dict[str, Path]
    seg: Path | None


@dataclass(frozen=True)
class BadSubject:
    """A subject that cannot be used, and the reason in words."""

    id: str
    reason: str

    def __str__(self) -> str:
        return f"{self.id}: {self.reason}"


class SubjectError(DataError):
    """One subject cannot be used; ``bad`` says which and why."""

    def __init__(self, subject: str, reason: str) -> None:
        super().__init__(
            f"Subject {subject} cannot be used.",
            f"{reason[:1].upper()}{reason[1:]}.",
            "Repair or remove the subject (`synthkit prepare --skip-bad` goes on without it).",
        )
        self.bad = BadSubject(subject, reason)

    def __reduce__(self) -> tuple[Any, ...]:
        return (SubjectError, (self.bad.id, self.bad.reason))


@dataclass(frozen=True, eq=False)
class SubjectVolumes:
    """A subject in memory.

    Attributes
    ----------
    images : contrast -> (x, y, z) in the file's own type and array order.
    labels : uint8 (x, y, z) with BraTS values 0, 1, 2, 4; None without segmentation.
    affine, spacing_mm, header : the grid, as in :class:`synthkit.data.nifti.Volume`; all files of a subject share it.
    stored_labels : label values as the file had them (3 where BraTS 2023 and later write enhancing tumour).
    """

    id: str
    images: dict[str, NDArray[Any]]
    labels: UInt8Array | None
    affine: NDArray[np.float64]
    spacing_mm: tuple[float, float, float]
    header: Any
    stored_labels: tuple[int, ...] = ()

    @property
    def shape(self) -> tuple[int, int, int]:
        x, y, z = next(iter(self.images.values())).shape
        return x, y, z


# ------------------------------------------------------------------------------------------------------ finding


def scan_subjects(
    folder: Path | str, contrasts: Sequence[str] = CONTRASTS, need_labels: bool = True
) -> tuple[list[Subject], list[BadSubject]]:
    """All subjects in a folder, by names only, sorted by id; and those whose files are missing or ambiguous.

    Raises
    ------
    DataError : there is no such folder, or no subject in it.
    """
    root = Path(folder)
    if not root.is_dir():
        raise DataError(
            f"There is no folder {root}.",
            "It is not a folder." if root.exists() else "It does not exist.",
            "Give the folder that holds one folder a subject.",
        )
    good: list[Subject] = []
    bad: list[BadSubject] = []
    folders = defaultdict(list)
    for candidate in _subject_folders(root):
        folders[candidate.resolve().name].append(candidate)
    for subject_id, found in sorted(folders.items()):
        if len(found) > 1:
            where = " and ".join(str(path.relative_to(root)) for path in found)
            bad.append(BadSubject(subject_id, f"two folders have this id: {where}"))
            continue
        try:
            good.append(_subject(subject_id, found[0], contrasts, need_labels))
        except SubjectError as error:
            bad.append(error.bad)
    if not good and not bad:
        raise DataError(
            f"There are no subjects in {root}.",
            "No folder in it holds files named like <subject>_t1.nii.gz or <subject>-t1n.nii.gz.",
            "Give the folder that holds one folder a subject, named as in BraTS.",
        )
    return good, bad


def find_subjects(folder: Path | str, contrasts: Sequence[str] = CONTRASTS, need_labels: bool = True) -> list[Subject]:
    """As :func:`scan_subjects`; raises :class:`DataError` that lists every bad subject if there is one."""
    good, bad = scan_subjects(folder, contrasts, need_labels)
    if bad:
        raise bad_subjects_error(bad, len(good) + len(bad))
    return good


def bad_subjects_error(
    bad: Sequence[BadSubject],
    n_subjects: int,
    fix: str = "Repair or remove them (`synthkit prepare --skip-bad` goes on without them).",
) -> DataError:
    """The error that names each bad subject with its reason."""
    return DataError(
        f"{len(bad)} of {n_subjects} subjects cannot be used.",
        "Each is listed with its reason.",
        fix,
        [str(subject) for subject in bad],
    )


def _subject_folders(root: Path) -> list[Path]:
    """Folders that hold NIfTI files directly: the root itself, else its folders, else theirs."""
    if _nifti_files(root):
        return [root]
    found = []
    for child in _visible_folders(root):
        if _nifti_files(child):
            found.append(child)
        else:
            found += [grandchild for grandchild in _visible_folders(child) if _nifti_files(grandchild)]
    return found


def _visible_folders(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith((".", "__")))


def _nifti_files(folder: Path) -> list[Path]:
    # "._name.nii.gz" are what macOS leaves beside files it copies; they are not a NIfTI.
    names = sorted(p for p in folder.iterdir() if _NIFTI_NAME.fullmatch(p.name) and not p.name.startswith("."))
    return [p for p in names if p.is_file()]


def _subject(subject_id: str, folder: Path, contrasts: Sequence[str], need_labels: bool) -> Subject:
    files: dict[str, list[Path]] = defaultdict(list)
    for path in _nifti_files(folder):
        if match := _BRATS_NAME.fullmatch(path.name):
            files[_SUFFIXES[match[1].lower()]].append(path)
    if not files:
        raise SubjectError(subject_id, "no file in its folder is named as in BraTS (<subject>_t1.nii.gz)")
    wanted = [*contrasts, "seg"]
    missing = [name for name in wanted if not files[name] and (need_labels or name != "seg")]
    if missing:
        names = " and ".join("segmentation (seg)" if name == "seg" else name for name in missing)
        raise SubjectError(subject_id, f"missing {names}")
    for name in wanted:
        if len(files[name]) > 1:
            both = " and ".join(path.name for path in files[name])
            raise SubjectError(subject_id, f"ambiguous {name}: {both}")
    return Subject(
        subject_id, folder, {name: files[name][0] for name in contrasts}, files["seg"][0] if files["seg"] else None
    )


# ------------------------------------------------------------------------------------------------------ reading


def load_subject(subject: Subject, *, labels: bool = True) -> SubjectVolumes:
    """Read and check all files of a subject.

    Parameters
    ----------
    labels : read the segmentation where there is one.

    Raises
    ------
    SubjectError : a file is unreadable, corrupt, not NIfTI or not 3-D; shapes or affines disagree (see
        ``AFFINE_TOLERANCE_MM``); the third array axis is not inferior-superior; a contrast holds NaN or infinity or
        nothing above zero; labels are not whole numbers or unknown.
    """
    volumes: dict[str, Volume] = {}
    paths = {**subject.contrasts, **({"seg": subject.seg} if labels and subject.seg else {})}
    for name, path in paths.items():
        try:
            volumes[name] = read_volume(path)
        except VolumeError as error:
            raise SubjectError(subject.id, f"{path.name}: {error.reason}") from error
    first_name, first = next(iter(volumes.items()))
    for name, volume in volumes.items():
        _check_grid(subject.id, first_name, first, name, volume)
        if name != "seg":
            _check_content(subject.id, name, volume.data)
    found: UInt8Array | None = None
    stored: tuple[int, ...] = ()
    if "seg" in volumes:
        try:
            found, stored = _as_labels(volumes.pop("seg").data)
        except ValueError as error:
            raise SubjectError(subject.id, f"seg: {error}") from error
    images = {name: volume.data for name, volume in volumes.items()}
    return SubjectVolumes(subject.id, images, found, first.affine, first.spacing_mm, first.header, stored)


def load_labels(path: Path | str) -> tuple[UInt8Array, Volume]:
    """Labels uint8 (x, y, z) of one file, enhancing tumour as 4, and the volume they were read from.

    Raises
    ------
    VolumeError : the file is not a volume, or its values are not a BraTS labels.
    """
    volume = read_volume(path)
    try:
        return _as_labels(volume.data)[0], volume
    except ValueError as error:
        raise VolumeError(Path(path), str(error)) from error


def _check_grid(subject: str, first_name: str, first: Volume, name: str, volume: Volume) -> None:
    if volume.data.shape != first.data.shape:
        shapes = [f"{n} is {'x'.join(map(str, v.data.shape))}" for n, v in ((first_name, first), (name, volume))]
        raise SubjectError(subject, f"shapes disagree: {', '.join(shapes)}")
    distance = grid_distance_mm(first.affine, volume.affine, first.data.shape)
    if distance > AFFINE_TOLERANCE_MM:
        raise SubjectError(subject, f"affines disagree: {first_name} and {name} lie up to {distance:.3g} mm apart")
    direction = np.abs(volume.affine[:3, 2])
    if name == first_name and direction.argmax() != 2:
        raise SubjectError(subject, "the third array axis is not inferior-superior, so its slices are not axial")


def grid_distance_mm(a: NDArray[np.float64], b: NDArray[np.float64], shape: Sequence[int]) -> float:
    """Largest distance in mm between the same corner voxel of a volume in two affines (4, 4)."""
    corners = np.array(np.meshgrid(*((0, n - 1) for n in shape), [1])).reshape(4, -1)
    return float(np.linalg.norm(((a - b) @ corners)[:3], axis=0).max())


def _check_content(subject: str, name: str, data: NDArray[Any]) -> None:
    # float32 sums do not miss a NaN or infinity, and a sum needs no array of booleans; an overflow is looked at again.
    with np.errstate(all="ignore"):
        suspect = data.dtype.kind == "f" and not np.isfinite(data.sum())
    if suspect and (n_bad := int(data.size - np.count_nonzero(np.isfinite(data)))):
        raise SubjectError(subject, f"{name} holds NaN or infinity in {n_bad} voxel{'s' if n_bad > 1 else ''}")
    if data.max() <= 0:
        raise SubjectError(subject, f"{name} is empty: no voxel is above zero")


def _as_labels(data: NDArray[Any]) -> tuple[UInt8Array, tuple[int, ...]]:
    """Labels as uint8 with enhancing tumour as 4, and the values as stored; ValueError says what is wrong."""
    if data.dtype.kind == "f":
        if not np.isfinite(data).all():
            raise ValueError("it holds NaN or infinity")
        if (odd := data[data != np.rint(data)]).size:
            raise ValueError(f"labels are not whole numbers: {odd[0]:g} and {odd.size - 1} more")
    lowest, highest = int(data.min()), int(data.max())
    if lowest < 0 or highest > 4:
        unknown = [int(value) for value in np.unique(data) if not 0 <= value <= 4]
        raise ValueError(f"unknown label value {', '.join(map(str, unknown[:5]))} (BraTS has 0, 1, 2 and 3 or 4)")
    labels: UInt8Array = np.asarray(data, dtype=np.uint8)
    present = tuple(value for value in range(highest + 1) if (labels == value).any())
    if {3, 4} <= set(present):
        raise ValueError(
            "labels 3 and 4 together: in BraTS 2024 post-treatment data 4 is the resection cavity, "
            "which has no counterpart among the labels used here"
        )
    return (canonical(labels) if 3 in present else labels), present


# ------------------------------------------------------------------------------------------------ label folders


class LabelFolder:
    """Label volumes in a folder; satisfies :class:`synthkit.contract.Volumes`.

    The folder holds BraTS subjects (their segmentations are used, the contrasts need not be there), or predictions
    side by side, ``<subject>.nii.gz`` or ``<subject>_seg.nii.gz``.

    Parameters
    ----------
    folder : the folder.
    subjects : only these; what is wrong with others does not matter then.
    usable_only : leave out subjects without one usable label volume instead of refusing the folder.

    Raises
    ------
    DataError : no such folder, nothing in it, two files for one subject, or no labels for a subject asked for.
    """

    def __init__(self, folder: Path | str, subjects: Sequence[str] | None = None, *, usable_only: bool = False) -> None:
        self.folder = Path(folder)
        flat = _nifti_files(self.folder) if self.folder.is_dir() else []
        kinds = {_SUFFIXES[m[1].lower()] for p in flat if (m := _BRATS_NAME.fullmatch(p.name))}
        if flat and not kinds & set(CONTRASTS):
            found = [(_PREDICTION_NAME.fullmatch(path.name)[1], path) for path in flat]  # type: ignore[index]
        else:
            good, bad = scan_subjects(self.folder, contrasts=(), need_labels=True)
            if not usable_only and (bad := [b for b in bad if subjects is None or b.id in subjects]):
                raise bad_subjects_error(bad, len(good) + len(bad))
            found = [(subject.id, subject.seg) for subject in good if subject.seg]
        self._files: dict[str, Path] = {}
        for name, path in found:
            if subjects is not None and name not in subjects:
                continue
            if name in self._files:
                raise DataError(
                    f"{self.folder} holds two label volumes of {name}.",
                    f"They are {self._files[name].name} and {path.name}.",
                    "Remove one of them.",
                )
            self._files[name] = path
        for name in subjects or ():
            self.path(name)

    @property
    def subjects(self) -> tuple[str, ...]:
        return tuple(sorted(self._files))

    def path(self, subject: str) -> Path:
        """File of a subject; raises :class:`DataError` if there is none."""
        try:
            return self._files[subject]
        except KeyError:
            close = difflib.get_close_matches(subject, self._files, n=3)
            raise DataError(
                f"There are no labels of {subject} in {self.folder}.",
                f"It holds {len(self._files)} subjects" + (f", among them {', '.join(close)}." if close else "."),
                "Give folders whose subjects have the same names.",
            ) from None

    def labels(self, subject: str) -> tuple[UInt8Array, tuple[float, float, float]]:
        """Labels uint8 (x, y, z) with values 0, 1, 2, 4, and the voxel spacing in mm."""
        labels, volume = load_labels(self.path(subject))
        return labels, volume.spacing_mm

    def grid(self, subject: str) -> tuple[tuple[int, ...], NDArray[np.float64]]:
        """Shape in voxels, and the affine (4, 4) from voxel indices to mm; reads the header alone where it can."""
        import nibabel as nib

        path = self.path(subject)
        try:
            image: Any = nib.load(path)
            return tuple(image.shape), np.asarray(image.affine, dtype=np.float64)
        except Exception:  # misnamed or damaged: the whole reading copes with the one and explains the other
            volume = read_volume(path)
            return volume.data.shape, volume.affine

    def affine(self, subject: str) -> NDArray[np.float64]:
        """(4, 4) voxel indices -> mm."""
        return self.grid(subject)[1]


def check_same_grids(reference: LabelFolder, prediction: LabelFolder) -> None:
    """See that both have each subject's voxels at the same places; shapes that differ are left to the comparison.

    Two volumes of one shape may be mirrored or shifted against each other, which no comparison of arrays can see.

    Raises
    ------
    DataError : names the first subject whose corners lie further apart than ``AFFINE_TOLERANCE_MM``.
    """
    there = set(prediction.subjects)
    for subject in (name for name in reference.subjects if name in there):
        (shape, affine), (other_shape, other) = reference.grid(subject), prediction.grid(subject)
        if shape == other_shape and (distance := grid_distance_mm(affine, other, shape)) > AFFINE_TOLERANCE_MM:
            raise DataError(
                f"Reference and prediction of {subject} are not on one grid.",
                f"Their affines put the same voxel up to {distance:.3g} mm apart.",
                "Resample the prediction to the grid of the reference, with its affine, and evaluate again.",
            )
