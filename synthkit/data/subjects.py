"""Subjects on disk: find them by their BraTS names, read them, and say exactly what is wrong with a bad one.

Known layouts are BraTS 2018 to 2024: one folder a subject, the contrast of a file told by the end of its name, in any
case: ``_t1`` or ``-t1n``, ``_t1ce`` or ``-t1c``, ``_t2`` or ``-t2w``, ``_flair`` or ``-t2f``, ``_seg`` or ``-seg``,
then ``.nii`` or ``.nii.gz``. Subject folders may lie one level deeper (``HGG/``, ``LGG/``), and a folder that itself
holds the files is one subject. The id of a subject is the name of its folder.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from synthkit.data.conventions import BRATS
from synthkit.data.labels import canonical
from synthkit.data.nifti import Volume, VolumeError, read_volume
from synthkit.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from synthkit.contract import UInt8Array

#: Two grids are the same if no corner of the volume lies farther apart than this: a tenth of a BraTS voxel, a hundred
#: times what single precision in a header can move it.
AFFINE_TOLERANCE_MM = 0.1

_ENDINGS = BRATS.endings
_BRATS_NAME = re.compile(rf".*[_-]({'|'.join(sorted(_ENDINGS, key=len, reverse=True))})\.nii(\.gz)?", re.IGNORECASE)
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
    labels : uint8 (x, y, z) with the convention's values; None without segmentation.
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
    folder: Path | str, contrasts: Sequence[str] = BRATS.contrast_names, need_labels: bool = True
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


def find_subjects(
    folder: Path | str, contrasts: Sequence[str] = BRATS.contrast_names, need_labels: bool = True
) -> list[Subject]:
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
    if nifti_files(root):
        return [root]
    found = []
    for child in _visible_folders(root):
        if nifti_files(child):
            found.append(child)
        else:
            found += [grandchild for grandchild in _visible_folders(child) if nifti_files(grandchild)]
    return found


def _visible_folders(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith((".", "__")))


def nifti_files(folder: Path) -> list[Path]:
    """NIfTI files directly in a folder, sorted by name."""
    # "._name.nii.gz" are what macOS leaves beside files it copies; they are not NIfTI.
    names = sorted(p for p in folder.iterdir() if _NIFTI_NAME.fullmatch(p.name) and not p.name.startswith("."))
    return [p for p in names if p.is_file()]


def content_of(path: Path) -> str | None:
    """The contrast that a file holds, or ``seg`` for labels, by the end of its name; None where that says nothing."""
    match = _BRATS_NAME.fullmatch(path.name)
    return _ENDINGS[match[1].lower()] if match else None


def _subject(subject_id: str, folder: Path, contrasts: Sequence[str], need_labels: bool) -> Subject:
    files: dict[str, list[Path]] = defaultdict(list)
    for path in nifti_files(folder):
        if content := content_of(path):
            files[content].append(path)
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
    VolumeError : the file is not a volume, or its values are not labels of BraTS.
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
    known = {*BRATS.values, *(old for old, _ in BRATS.read_as)}
    present: tuple[int, ...] = ()
    if in_range := lowest >= 0 and highest <= max(known):
        labels: UInt8Array = np.asarray(data, dtype=np.uint8)
        present = tuple(value for value in range(highest + 1) if (labels == value).any())
    if not in_range or not known.issuperset(present):
        unknown = [int(value) for value in np.unique(data) if value not in known]
        values = ", ".join(map(str, unknown[:5]))
        raise ValueError(f"unknown label value {values} ({BRATS.family} has {BRATS.values_in_files})")
    for old, new in BRATS.read_as:
        if {old, new} <= set(present):
            raise ValueError(
                f"labels {old} and {new} together: in BraTS 2024 post-treatment data {new} is the resection cavity, "
                "which has no counterpart among the labels used here"
            )
    return (canonical(labels) if any(old in present for old, _ in BRATS.read_as) else labels), present
