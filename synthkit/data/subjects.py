"""Subjects on disk: find them by the names of their files, read them, and say exactly what is wrong with a bad one.

Which files make a subject is for :mod:`synthkit.data.layouts` to say, and for :mod:`synthkit.data.raw_layouts` where a
``dataset.json`` describes a folder. Here the files are chosen, refused by name, and read.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from synthkit.data.channel_names import SEG
from synthkit.data.fetched import not_fetched
from synthkit.data.file_beginnings import other_way_round
from synthkit.data.file_names import Names
from synthkit.data.format import is_described
from synthkit.data.intensities import Background, from_background
from synthkit.data.label_reading import ReadLabels, as_labels, read_label_volume
from synthkit.data.label_tables import TableOfLabels
from synthkit.data.layouts import counted_files, first_of, folded, group_files
from synthkit.data.nifti import Volume, VolumeError, read_channels, read_volume
from synthkit.data.raw_layouts import read_raw, refuse_part
from synthkit.data.subject_files import BadSubject, RankedFiles, Subject, subject_of_case, subject_of_unit
from synthkit.data.volume_checks import check_content, check_grid, on_the_grid_of, two_affines
from synthkit.errors import DataError
from synthkit.schemes import BRATS, Scheme

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from synthkit.contract import UInt8Array


class SubjectError(DataError):
    """One subject cannot be used; ``bad`` says which and why."""

    def __init__(self, subject: str, reason: str, fix: str = "Repair or remove the subject.") -> None:
        super().__init__(f"Subject {subject} cannot be used.", f"{reason[:1].upper()}{reason[1:]}.", fix)
        self.bad = BadSubject(subject, reason)

    def __reduce__(self) -> tuple[Any, ...]:
        return (SubjectError, (self.bad.id, self.bad.reason, self.fix))


@dataclass(frozen=True, eq=False)
class SubjectVolumes:
    """A subject in memory.

    Attributes
    ----------
    images : contrast -> (x, y, z) in array order, in the file's own type unless its background was moved to 0.
    labels : uint8 (x, y, z), as :attr:`Subject.label_values` say, else as stored; None without segmentation.
    affine, spacing_mm, header : the grid, as in :class:`synthkit.data.nifti.Volume`; all files of a subject share it.
    stored_labels : label values as the file had them.
    n_rounded : voxels of the labels that were not quite whole numbers.
    backgrounds : contrast -> what its background was, as stored.
    affine_notes : files whose headers hold two affines that contradict each other, or that were turned, in words.
    """

    id: str
    images: dict[str, NDArray[Any]]
    labels: UInt8Array | None
    affine: NDArray[np.float64]
    spacing_mm: tuple[float, float, float]
    header: Any
    stored_labels: tuple[int, ...] = ()
    n_rounded: int = 0
    backgrounds: dict[str, Background] = field(default_factory=dict)
    affine_notes: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, int, int]:
        x, y, z = next(iter(self.images.values())).shape
        return x, y, z


# ------------------------------------------------------------------------------------------------------ finding


@dataclass(frozen=True)
class FoundSubjects:
    """What is in a folder of subjects: usable ones, bad ones, and ``notes`` on what was not read or left aside."""

    good: list[Subject]
    bad: list[BadSubject]
    notes: tuple[str, ...]


def scan_subjects(
    folder: Path | str,
    contrasts: Sequence[str] = BRATS.contrast_names,
    need_labels: bool = True,
    names: Sequence[str] | Names = (),
    scheme: Scheme | None = None,
) -> tuple[list[Subject], list[BadSubject]]:
    """The subjects of :func:`survey_folder` without its notes, for who looks at a folder again."""
    found = survey_folder(folder, contrasts, need_labels, names, scheme)
    return found.good, found.bad


def survey_folder(
    folder: Path | str,
    contrasts: Sequence[str] = BRATS.contrast_names,
    need_labels: bool = True,
    names: Sequence[str] | Names = (),
    scheme: Scheme | None = None,
) -> FoundSubjects:
    """All subjects in a folder, by names only, sorted by id; and those whose files are missing or ambiguous.

    Parameters
    ----------
    names : what files are by their endings, ``t1ce=_T1GD``; see :class:`synthkit.data.file_names.Names`.
    scheme : whose endings are known, and that says what label values are; by default the endings are those of BraTS,
        and tables of labels are read.

    Raises
    ------
    DataError : there is no such folder, no subject in it, or a ``dataset.json`` that does not say what is needed.
    UsageError : names that are not understood, or that fit no file.
    """
    root = Path(folder)
    if not root.is_dir():
        raise DataError(
            f"There is no folder {root}.",
            "It is not a folder." if root.exists() else "It does not exist.",
            "Give the folder that holds one folder a subject.",
        )
    given = names if isinstance(names, Names) else Names.parse(names, contrasts, scheme or BRATS)
    if not given.given or (need_labels and scheme is None):  # images can be told by --names, values of labels cannot
        refuse_part(root)
    grouped = group_files(root, given)
    candidates: dict[str, list[tuple[Path, Subject | BadSubject]]] = defaultdict(list)
    notes: list[str] = []
    unread = list(grouped.unread)
    for raw_folder in grouped.raw_folders:
        raw = read_raw(raw_folder, contrasts, given, need_labels, need_labels and scheme is None)
        unread += raw.unread
        for case in raw.cases:
            candidates[case.id].append((case.folder, subject_of_case(case, raw, contrasts, need_labels)))
    tables: dict[Path, TableOfLabels | None] | None = {} if scheme is None else None
    ranked = RankedFiles()
    for unit in grouped.units:
        result = subject_of_unit(unit, root, given, contrasts, need_labels, tables, ranked, grouped.units)
        candidates[unit.id].append((unit.folder, result))
    given.refuse_unused()
    bad = [BadSubject(path.name, f"its folder is {not_fetched(path)}") for path in grouped.dead_folders]
    for place, volumes in grouped.nameless:
        bad.append(
            BadSubject(
                place.relative_to(root).as_posix(),
                f"no file in its folder has a name that is known: {first_of(volumes)}{_to_rename(volumes)}",
            )
        )
    good: list[Subject] = []
    for subject_id, found in sorted(candidates.items()):
        if len(found) > 1:
            where = " and ".join(place.relative_to(root).as_posix() for place, _ in found)
            what = "two folders have this id" if len(found) == 2 else f"{len(found)} folders have this id"
            way = "remove a copy, else give one of them, its folder and files, another name"
            bad.append(BadSubject(subject_id, f"{what}: {where} ({way})"))
        elif isinstance(found[0][1], Subject):
            good.append(found[0][1])
        else:
            bad.append(found[0][1])
    if not good and not bad:
        raise _no_subjects(root, [*unread, *grouped.texts])
    if unread:
        notes.append(f"{counted_files(unread)} not read: {'; '.join(folded(root, unread))}")
    if grouped.empty_folders:
        notes.append(f"folders without a file: {first_of(grouped.empty_folders)}")
    if ranked.aside:
        notes.append(f"left aside for a better file: {'; '.join(folded(root, ranked.aside))}")
    if ranked.second:
        notes.append(f"taken for want of a better file: {'; '.join(folded(root, ranked.second))}")
    return FoundSubjects(good, sorted(bad, key=lambda subject: subject.id), tuple(notes))


def _to_rename(volumes: Sequence[Path]) -> str:
    turned = next(filter(None, map(other_way_round, volumes)), "")
    return f" (rename so: {turned}, and the others alike)" if turned else ""


def find_subjects(
    folder: Path | str,
    contrasts: Sequence[str] = BRATS.contrast_names,
    need_labels: bool = True,
    names: Sequence[str] = (),
    scheme: Scheme | None = None,
) -> list[Subject]:
    """As :func:`survey_folder`; raises :class:`DataError` that lists every bad subject if there is one."""
    found = survey_folder(folder, contrasts, need_labels, names, scheme)
    if found.bad:
        raise bad_subjects_error(found.bad, len(found.good) + len(found.bad), notes=found.notes)
    return found.good


def bad_subjects_error(
    bad: Sequence[BadSubject],
    n_subjects: int,
    fix: str = "Repair or remove them; --names says what files of other names are (t1ce=_T1GD,seg=_segm).",
    notes: Sequence[str] = (),
) -> DataError:
    """The error that names each bad subject with its reason, and below them what else is odd about the folder."""
    return DataError(
        f"{len(bad)} of {n_subjects} subjects cannot be used.",
        "Each is listed with its reason.",
        fix,
        [*(str(subject) for subject in bad), *notes],
    )


#: Endings of pictures, which are no volumes.
_PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")


def _no_subjects(root: Path, files: Sequence[Path]) -> DataError:
    if is_described(root):
        return DataError(
            f"There are no subjects in {root}.",
            "It is a dataset: its subjects have become slices.",
            "Give the folder of NIfTI subjects that it was made of; a dataset is trained on as it is: "
            f"`synthkit train NAME {root}`.",
        )
    if files and all(path.suffix.lower() in _PICTURES for path in files):
        return DataError(
            f"There are no subjects in {root}.",
            "It holds pictures, and subjects are NIfTI volumes.",
            f"Pictures of slices become a dataset by `synthkit import {root}`.",
            folded(root, files),
        )
    return DataError(
        f"There are no subjects in {root}.",
        "No file in it, at any depth, has a name that is known, such as <subject>_t1.nii.gz or <subject>-t1n.nii.gz."
        if files
        else "It holds no file.",
        "Give the folder that holds the subjects; where files have other names, say what they are: "
        "--names t1=_T1W,t1ce=_T1GD,t2=_T2W,flair=_FL,seg=_LABEL.",
        folded(root, files),
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
        :mod:`synthkit.data.volume_checks`); a contrast holds NaN or infinity or one value everywhere; labels are not
        whole numbers, or none of those that the subject may hold.
    """
    volumes: dict[str, Volume] = {}
    whole: dict[Path, list[Volume]] = {}
    paths = {**subject.contrasts, **({SEG: subject.seg} if labels and subject.seg else {})}
    for name, path in paths.items():
        try:
            if name in subject.channels:
                if path not in whole:  # all contrasts in one file: it is read once
                    whole[path] = read_channels(path, subject.n_channels)
                volumes[name] = whole[path][subject.channels[name]]
            else:
                volumes[name] = read_label_volume(path) if name == SEG else read_volume(path)
        except VolumeError as error:
            raise SubjectError(subject.id, f"{path.name}: {error.reason}") from error
    first_name, first = next(iter(volumes.items()))
    two_affined: dict[str, list[str]] = defaultdict(list)
    turned = {name: on_the_grid_of(first, volume) for name, volume in volumes.items()}
    others = [name for name, volume in turned.items() if volume is not volumes[name]]
    for name, volume in turned.items():
        try:
            check_grid(first_name, first, name, volume)
            if name != SEG:
                check_content(name, volume.data)
        except ValueError as error:
            raise SubjectError(subject.id, str(error)) from error
        if note := two_affines(volume.header, volumes[name].data.shape):
            two_affined[note].append(name)
    found: ReadLabels | None = None
    if SEG in volumes:
        try:
            found = as_labels(turned.pop(SEG).data, subject.label_values)
        except ValueError as error:
            raise SubjectError(subject.id, f"seg: {error}") from error
    read = {name: from_background(volume.data) for name, volume in turned.items()}
    notes = [f"{', '.join(names)}: {note}" for note, names in two_affined.items()]
    if others:
        notes.append(
            f"{', '.join(others)}: stored in another order of axes than {first_name}, turned to it by its affine"
        )
    return SubjectVolumes(
        subject.id,
        {name: data for name, (data, _) in read.items()},
        found.labels if found else None,
        first.affine,
        first.spacing_mm,
        first.header,
        found.stored if found else (),
        found.n_rounded if found else 0,
        {name: background for name, (_, background) in read.items()},
        tuple(notes),
    )
