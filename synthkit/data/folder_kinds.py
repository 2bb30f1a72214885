"""Folders that are called as what is in them, and not as whose it is: images here, labels there, one a contrast."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from synthkit.data.channel_names import SEG, content_called, names_of_channels
from synthkit.data.file_names import NamedFile, Names, base_name, content_named, named_file
from synthkit.schemes import BRATS

_KIND_OF_FOLDER = re.compile(r"anat|nifti|niftis|nii|images?|mri?|data|raw|scans?|files|structural", re.IGNORECASE)
_OF_FOLDERS = names_of_channels(BRATS, ())
_NUMBER_IN_FRONT = re.compile(r"^\d{1,3}[-_. ]+")

# A label map may be of more than a tumour.
_OF_THE_BRAIN = re.compile(r"brain|head|skull|tissue|aseg|aparc|csf|(?<![a-z])(?:bet|gm|wm)(?![a-z])", re.IGNORECASE)

_Walked = Sequence[tuple[Path, list[Path], bool]]


def is_of_a_kind(name: str) -> bool:
    """Whether a folder is called as volumes of any sort: ``images``, ``nifti``, ``MRI``."""
    return _KIND_OF_FOLDER.fullmatch(name) is not None


def content_of_folder(name: str, names: Names | None = None) -> str | None:
    """The contrast, or labels, that a folder is called as, numbered or not: ``T1``, ``02_T1GD``, ``ROI``."""
    plain = _NUMBER_IN_FRONT.sub("", name)
    return content_named(plain, names) or content_called(plain, _OF_FOLDERS)


def without_kinds(root: Path, folder: Path, contents: Collection[str]) -> tuple[str, ...]:
    """The folders from ``root`` to one with files of these contents, without those that say only what is in them.

    >>> without_kinds(Path("d"), Path("d/P01/5_MASK/NIFTI"), {"seg"}), without_kinds(Path("d"), Path("d/P01/T1"), ())
    (('P01',), ('P01', 'T1'))
    """
    only = next(iter(contents)) if len(set(contents)) == 1 else None
    parts = folder.relative_to(root).parts
    return tuple(part for part in parts if not is_of_a_kind(part) and not (only and content_of_folder(part) == only))


def files_by_folders(root: Path, walked: _Walked, names: Names) -> dict[Path, tuple[Path, NamedFile]]:
    """File -> the folder that it counts as being in, and what it is, where folders say it and its own name need not.

    A folder is believed that is called as a content, itself or above folders of a format (``T1/nifti``), where names of
    its volumes say nothing else, and begin as those of a folder of another content, or as the images beside it:
    ``T1/a01.nii.gz``, ``masks/a01.nii.gz``. One label map beside the images of one patient may be called anything:
    ``P01/ROI/tumour.nii.gz``.
    """
    found: list[tuple[Path, str, list[NamedFile]]] = []
    images: dict[Path, set[str]] = defaultdict(set)
    stems: dict[str, set[str]] = defaultdict(set)
    for folder, files, _ in walked:
        called = _above_formats(root, folder)
        volumes = {path: named_file(path, names) for path in files if base_name(path.name)}
        said = [file for file in volumes.values() if file]
        content = content_of_folder(called.name, names) if called != root else None
        if content is None or content in names.contents or any(file.content != content for file in said):
            images[called] |= {file.stem.lower() for file in said if file.content != SEG}
        elif volumes:
            own = [file or NamedFile(path, _stem_in(path, content), content) for path, file in volumes.items()]
            if any(not file.stem for file in said):  # beside T1.nii.gz other names say that they are something else
                own = said
            found.append((called.parent, content, own))
            stems[content] |= {file.stem.lower() for file in own}
    placed = {}
    for place, content, own in found:
        others = images[place].union(*(those for other, those in stems.items() if other != content))
        if not others & {file.stem.lower() for file in own}:
            is_a_patients = content == SEG and place != root and named_file(own[0].path, names) is None
            own = [replace(own[0], stem="")] if is_a_patients and _is_only_label(own, place, images[place]) else []
        placed.update({file.path: (place, file) for file in own})
    return placed


def _above_formats(root: Path, folder: Path) -> Path:
    while folder != root and is_of_a_kind(folder.name):
        folder = folder.parent
    return folder


def _is_only_label(own: Sequence[NamedFile], place: Path, images: Collection[str]) -> bool:
    """Whether a label map of any name is that of the patient whose images these are, by what they begin with."""
    base = base_name(own[0].path.name) or ""
    is_of_one = bool(images) and all(not has_digit(stem) or belongs(stem, place) for stem in images)
    is_theirs = not has_digit(base) or belongs(base.lower(), place)
    return len(own) == 1 and is_of_one and is_theirs and not _OF_THE_BRAIN.search(base)


def _stem_in(path: Path, content: str) -> str:
    """What a name begins with in a folder of one content: ``a01`` of ``a01_mask`` in ``masks``, nothing of ``mask``."""
    base = base_name(path.name) or ""
    if content_called(base, _OF_FOLDERS) == content:
        return ""
    parts = re.fullmatch(r"(.+?)[-_. ]([^-_. ]+)", base)
    return parts[1] if parts and content_called(parts[2], _OF_FOLDERS) == content else base


# -------------------------------------------------------------------------------------------------- whose files are


def has_digit(text: str) -> bool:
    """Whether a text may number somebody."""
    return any(character.isdigit() for character in text)


def belongs(stem: str, folder: Path) -> bool:
    """Whether what a file begins with, in small letters, says no other subject than its folder."""
    name = folder.resolve().name.lower()
    inside = re.search(rf"(?<![a-z0-9]){re.escape(name)}(?![a-z0-9])", stem)
    return not stem or stem.isdigit() or bool(inside) or (len(stem) > 2 and has_digit(stem) and stem in name)
