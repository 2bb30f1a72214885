"""Which files of a folder belong to one subject, at any depth, by names alone.

A folder whose files begin alike is a subject and lends it its name, as in BraTS. Files of several beginnings in one
folder are several subjects, named by what their files begin with. Files that begin alike in different folders (images
here, labels there) are one subject, unless both hold the same contrast. Where two subjects may be mixed, they are kept
apart: a subject that then lacks a file is named, one that has another's would not be.
"""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from synthkit.data.channel_names import SEG
from synthkit.data.fetched import finished_name, not_fetched
from synthkit.data.file_beginnings import files_by_beginnings, other_way_round
from synthkit.data.file_names import NamedFile, Names, base_name, is_bids, named_file
from synthkit.data.folder_kinds import (
    belongs,
    content_of_folder,
    files_by_folders,
    has_digit,
    is_of_a_kind,
    without_kinds,
)
from synthkit.data.metaimage import folder_of_subject, is_data_of_mhd
from synthkit.data.raw_layouts import is_raw_folder
from synthkit.data.scan_words import says_when

_TOO_LITTLE = re.compile(r"[^\W\d_]|\d{1,2}")  # for somebody's name, below a folder that has one: P01/2, P01/A
_POST_T1 = re.compile(r"((?:.*[-_. ])?post)[-_. ]t1w?", re.IGNORECASE)
# What lies beside the volumes of nearly every collection: not worth a warning.
_TEXTS = re.compile(
    r".*\.(?:csv|tsv|json|txt|md|pdf|xlsx?|html?|xml|py|ipynb|log|bib|rst|ya?ml|toml|db)|(?:README|LICENSE|CHANGES)",
    re.IGNORECASE,
)
_MOST_LINES = 12


@dataclass
class Unit:
    """Files that belong to one subject. ``others`` lie in its folder, and their names say nothing."""

    id: str
    folder: Path
    files: list[NamedFile]
    others: list[Path] = field(default_factory=list)

    @property
    def stems(self) -> set[str]:
        return {file.stem.lower() for file in self.files}

    @property
    def contrasts(self) -> set[str]:
        return {file.content for file in self.files} - {SEG}


@dataclass
class Grouped:
    """What is in a folder.

    Attributes
    ----------
    units : by subject, sorted by id; an id may stand there twice.
    raw_folders : those with ``imagesTr``, which a ``dataset.json`` describes; their files are in no unit.
    unread : files that no subject has, without texts and tables.
    texts : these.
    dead_folders : links to folders that are not there.
    empty_folders : those without any file.
    nameless : folders of NIfTI files whose names say nothing, and that no subject claims.
    """

    root: Path
    units: list[Unit] = field(default_factory=list)
    raw_folders: list[Path] = field(default_factory=list)
    unread: list[Path] = field(default_factory=list)
    texts: list[Path] = field(default_factory=list)
    dead_folders: list[Path] = field(default_factory=list)
    empty_folders: list[Path] = field(default_factory=list)
    nameless: list[tuple[Path, list[Path]]] = field(default_factory=list)


def group_files(root: Path, names: Names) -> Grouped:
    """Walk a folder and group its files by subject."""
    found = Grouped(root)
    unknown: dict[Path, list[Path]] = {}
    named: dict[Path, list[NamedFile]] = defaultdict(list)
    walked = list(_walk(root, found))
    placed = {**files_by_beginnings(walked, names), **files_by_folders(root, walked, names)}
    for folder, files, is_leaf in walked:
        if not files and is_leaf and folder != root:
            found.empty_folders.append(folder)
        called = _said_by_folder(root, folder, files, names)
        for path in files:
            said = named_file(path, names, finished_name(path))
            if called and base_name(path.name) and (said is None or said.content == called.content):
                named[folder.parent].append(replace(called, path=path))
            elif path in placed:
                place, file = placed[path]
                named[place].append(file)
            elif said:
                named[folder_of_subject(path)].append(said)
            elif _TEXTS.fullmatch(path.name) or is_data_of_mhd(path):
                found.texts.append(path)
            elif not path.suffix and path.is_symlink() and not path.exists():
                found.dead_folders.append(path)
            else:
                unknown.setdefault(folder, []).append(path)
    for folder, of_folder in named.items():
        is_given = "t1ce" in names.contents  # whoever says what the files are is believed
        found.units += _units_of(root, folder, of_folder if is_given else _after_treatment(of_folder))
    found.units = _told_apart(root, _with_times_alike(_joined(root, _of_one_patient(root, found.units))))
    for folder, paths in unknown.items():
        _place_unknown(found, folder, paths)
    return found


def _said_by_folder(root: Path, folder: Path, files: Sequence[Path], names: Names) -> NamedFile | None:
    """What a folder that is called as a volume says of the one volume in it: ``A_t1.nii/00000057_brain_t1.nii``."""
    is_alone = sum(base_name(path.name) is not None for path in files) == 1
    return named_file(folder, names) if is_alone and folder != root else None


def _walk(root: Path, found: Grouped) -> Iterable[tuple[Path, list[Path], bool]]:
    """Folders with their files and whether they hold no folder, links followed, none twice."""
    seen: set[Path] = set()
    for name, folders, files in os.walk(root, followlinks=True):
        folder = Path(name)
        if (real := folder.resolve()) in seen:
            folders.clear()
            continue
        seen.add(real)
        if is_raw_folder(folder):
            found.raw_folders.append(folder)
            folders[:] = [sub for sub in folders if not re.fullmatch(r"(images|labels)T[rs]", sub)]
        folders[:] = sorted(sub for sub in folders if not sub.startswith((".", "__")))
        # "._name.nii.gz" are what macOS leaves beside files it copies; they are not a NIfTI.
        yield folder, [folder / file for file in sorted(files) if not file.startswith(".")], not folders


def _units_of(root: Path, folder: Path, named: Sequence[NamedFile]) -> list[Unit]:
    """The files of one folder, by subject."""
    by_stem: dict[str, list[NamedFile]] = defaultdict(list)
    for file in named:
        by_stem[file.stem.lower()].append(file)
    if not by_stem:
        return []
    if _is_one_subject(folder, by_stem):
        main = max(by_stem, key=lambda stem: len(by_stem[stem]))
        return [Unit(_id(root, folder, by_stem[main][0].stem), folder, list(named))]
    return [Unit(_id_of_file(root, folder, files[0].stem), folder, files) for files in by_stem.values()]


def _after_treatment(named: Sequence[NamedFile]) -> list[NamedFile]:
    """The files; beside ``P01_post_t2`` is ``P01_post_t1`` a T1 after treatment, and not one after contrast agent."""
    stems = {file.stem.lower() for file in named}
    found = []
    for file in named:
        match = _POST_T1.fullmatch(base_name(file.path.name) or "") if file.content == "t1ce" else None
        is_time = match is not None and match[1].lower() in stems
        found.append(replace(file, stem=match[1], content="t1") if match and is_time else file)
    return found


def _is_one_subject(folder: Path, by_stem: dict[str, list[NamedFile]]) -> bool:
    if len(by_stem) == 1:
        (stem, files), *_ = by_stem.items()
        return any(file.content != SEG for file in files) or belongs(stem, folder) or not has_digit(stem)
    contents = {stem: {file.content for file in files} for stem, files in by_stem.items()}
    held = [stem for stem, found in contents.items() if found != {SEG}]
    if not held:
        return False
    if len(held) == 1:  # labels may be called otherwise where the folder says whose they are
        return belongs(held[0], folder) or not any(has_digit(stem) for stem in by_stem)
    every = [content for stem in held for content in contents[stem] - {SEG}]
    if len(every) == len(set(every)):
        return all(belongs(stem, folder) or not has_digit(stem) for stem in by_stem)
    main = max(held, key=lambda stem: (len(contents[stem]), -len(stem)))  # beside it lie other versions of some files
    return all(stem.startswith(main) and contents[stem] < contents[main] for stem in by_stem if stem != main)


def _id(root: Path, folder: Path, stem: str) -> str:
    """The name of a folder that is a subject: its own, with the patient's before a time, without folders of a kind."""
    if is_bids(stem):
        return stem
    name = folder.resolve().name
    if says_when(stem) and folder != root:
        return _folder_id(root, folder)
    if has_digit(stem) and not (has_digit(name) and (folder != root or belongs(stem.lower(), folder))):
        return stem  # "train" or "archive" with one subject in it
    if folder == root:
        return name
    return _folder_id(root, folder, {stem.lower()})


def _id_of_file(root: Path, folder: Path, stem: str) -> str:
    """The name of one of several subjects in a folder: what its files begin with, the folder's before a time."""
    if not stem:
        return folder.resolve().name
    return f"{_folder_id(root, folder)}_{stem}" if says_when(stem) and folder != root else stem


def _folder_id(root: Path, folder: Path, stems: Collection[str] = ()) -> str:
    """The name of a folder, with those above it as long as it is nobody's; ``stems``: its files begin so."""
    parts = list(folder.relative_to(root).parts)
    if not parts:
        return folder.resolve().name
    parts[-1] = folder.resolve().name
    while len(parts) > 1 and (is_of_a_kind(parts[-1]) or content_of_folder(parts[-1]) == SEG):
        parts.pop()
    parts = [*(part for part in parts[:-1] if not is_of_a_kind(part)), parts[-1]]
    own = re.sub(r"[-_](?:nifti|nii)$", "", parts.pop(), flags=re.IGNORECASE)  # UCSF-PDGM
    while parts and (_is_time_alone(own) or (_TOO_LITTLE.fullmatch(own) and own.lower() not in stems)):
        own = f"{parts.pop()}_{own}"
    return own


def _is_time_alone(name: str) -> bool:
    """Whether a folder says when, perhaps with words behind it, and not whose: ses-1, T1, 2019-03-04_MR_brain."""
    first, _, rest = name.partition("_")
    return says_when(name) or (says_when(first) and not has_digit(rest))


def _of_one_patient(root: Path, units: Sequence[Unit]) -> list[Unit]:
    """One unit for files of folders that differ in what is in them alone, where no names say another patient's.

    ``P01/images/t1``, ``P01/labels/seg``; ``P01/01_T1/t1``, ``P01/02_T2/t2``; ``images/P01/t1``, ``labels/P01/seg``.
    """
    beside: dict[tuple[str, ...], list[Unit]] = defaultdict(list)
    for unit in units:
        beside[without_kinds(root, unit.folder, {file.content for file in unit.files})].append(unit)
    found: list[Unit] = []
    for key, several in beside.items():
        folders = {unit.folder for unit in several}
        first = max(several, key=lambda unit: len(unit.contrasts)).folder
        home = next((p for p in (first, *first.parents) if key and p.name == key[-1]), root)
        held = [contrast for unit in several for contrast in unit.contrasts]
        stems = {stem for unit in several for stem in unit.stems if not belongs(stem, home)}
        are_alike = not stems or (
            not any(map(has_digit, stems)) and ((home != root and has_digit(home.name)) or len(stems) == 1)
        )
        if 1 < len(several) == len(folders) and held and len(held) == len(set(held)) and are_alike:
            files = [file for unit in several for file in unit.files]
            found.append(Unit(_folder_id(root, home, {stem for unit in several for stem in unit.stems}), home, files))
        else:
            found += several
    return found


def _joined(root: Path, units: Sequence[Unit]) -> list[Unit]:
    """One unit for files of several folders that begin alike, or that lie below a subject's folder."""
    by_stem: dict[str, list[Unit]] = defaultdict(list)
    for unit in units:
        for stem in unit.stems:
            if has_digit(stem):
                by_stem[stem].append(unit)
    merged: dict[int, Unit] = {}

    def now(unit: Unit) -> Unit:
        while id(unit) in merged:
            unit = merged[id(unit)]
        return unit

    for stem, sharing in by_stem.items():
        distinct = list({id(now(unit)): now(unit) for unit in sharing}.values())
        held = [contrast for unit in distinct for contrast in unit.contrasts]
        if len(distinct) < 2 or (len(held) > len(set(held)) and not is_bids(stem)):
            continue
        target = max(distinct, key=lambda unit: (len(unit.contrasts), -len(unit.folder.parts)))
        if sum(bool(unit.contrasts) for unit in distinct) > 1:
            target.id = next(file.stem for unit in distinct for file in unit.files if file.stem.lower() == stem)
        for unit in distinct:
            if unit is not target:
                target.files += unit.files
                merged[id(unit)] = target
    left = [unit for unit in units if id(unit) not in merged]
    return _with_labels_below(root, left)


def _with_labels_below(root: Path, units: Sequence[Unit]) -> list[Unit]:
    """Labels in a folder inside a subject's folder are that subject's, unless their name says another's."""
    holding: dict[Path, list[Unit]] = defaultdict(list)
    for unit in units:
        if unit.contrasts:
            holding[unit.folder].append(unit)
    kept = []
    for unit in units:
        above = next((p for p in unit.folder.parents if p in holding), None) if not unit.contrasts else None
        if above is not None and len(holding[above]) == 1 and root in (above, *above.parents):
            target = holding[above][0]
            if all(not has_digit(stem) or belongs(stem, above) for stem in unit.stems):
                target.files += unit.files
                continue
        kept.append(unit)
    return kept


def _with_times_alike(units: list[Unit]) -> list[Unit]:
    """Ids with their time where those of a folder beside have it: 100002_time1 beside 100001_time1 and _time2."""
    timed = {unit.folder.parent for unit in units if _adds_time(unit.folder, unit.id)}
    for unit in units:
        stem = unit.files[0].stem
        if unit.folder.parent in timed and len(unit.stems) == 1 and _adds_time(unit.folder, stem):
            unit.id = stem
    return units


def _adds_time(folder: Path, name: str) -> bool:
    own = folder.resolve().name
    return name.lower().startswith(own.lower()) and says_when(name[len(own) :].strip("-_. "))


def _told_apart(root: Path, units: list[Unit]) -> list[Unit]:
    """Subjects whose files begin alike are called by their folders; folders of one name by the one above as well."""
    count = Counter(unit.id for unit in units)
    folder_ids = Counter(_folder_id(root, unit.folder, unit.stems) for unit in units)
    for unit in units:
        own = _folder_id(root, unit.folder, unit.stems)
        if count[unit.id] > 1 and folder_ids[own] == 1 and not is_bids(unit.id):
            unit.id = own
    count = Counter(unit.id for unit in units)
    for unit in units:
        time = next((p.name for p in unit.folder.parents if root in p.parents and says_when(p.name)), "")
        if count[unit.id] > 1 and time:  # T0/Mueller and T1/Mueller, whatever their files are called
            unit.id = f"{time}_{unit.id}"
        elif count[unit.id] > 1 and not any(unit.id.lower() in stem for stem in unit.stems):
            unit.id = f"{unit.folder.parent.resolve().name}_{unit.id}"
    return sorted(units, key=lambda unit: (unit.id, str(unit.folder)))


def _place_unknown(found: Grouped, folder: Path, paths: list[Path]) -> None:
    volumes = [path for path in paths if base_name(path.name)]
    here = [unit for unit in found.units if unit.folder == folder]
    for unit in here:
        unit.others += paths if len(here) == 1 else [p for p in paths if p.name.lower().startswith(unit.id.lower())]
    ids = tuple(unit.id.lower() for unit in found.units)
    claimed = (
        here
        or folder == found.root
        or any(unit.folder in folder.parents and unit.folder != found.root for unit in found.units)
        or folder.name.lower().startswith(ids)
        or all(path.name.lower().startswith(ids) for path in volumes)
    )
    if volumes and not claimed:
        found.nameless.append((folder, volumes))
        paths = [path for path in paths if path not in volumes]
    found.unread += paths


# ------------------------------------------------------------------------------------------------------------ in words

_WAYS = (
    (r"\.(nrrd|nhdr|mgz|hdr|img|raw)", "convert them to NIfTI"),
    (r"\.(dcm|ima)", "convert them to NIfTI, for example with dcm2niix"),
    (r"\.(zip|tar|tgz|gz|bz2|xz|7z|rar|zst)", "unpack them"),
)


def folded(root: Path, paths: Sequence[Path]) -> list[str]:
    """Files in a few lines: by the ending of their names where there are several."""
    groups: dict[str, list[Path]] = defaultdict(list)
    for path in paths:
        groups[_ending(path)].append(path)
    if len(groups) > _MOST_LINES:  # names that all end differently
        groups = defaultdict(list)
        for path in paths:
            groups[".nii.gz, .nii or .mha" if base_name(path.name) else path.suffix.lower() or "no ending"].append(path)
    lines = []
    for ending, group in sorted(groups.items(), key=lambda item: -len(item[1])):
        first = group[0].relative_to(root).as_posix() if root in group[0].parents else group[0].name
        why = f" is {dead}" if (dead := not_fetched(group[0])) else ""
        way = next((f" ({text})" for suffix, text in _WAYS if re.search(suffix + "$", ending)), "")
        if base_name(group[0].name):
            way = f" (rename so: {turned})" if (turned := other_way_round(group[0])) else ""
        lines.append(
            f"{first}{why}{way}" if len(group) == 1 else f"{len(group)} files ending in {ending}, {first}{why} ...{way}"
        )
    return lines[:_MOST_LINES] + ([f"and {len(lines) - _MOST_LINES} other kinds"] if len(lines) > _MOST_LINES else [])


def counted_files(paths: Sequence[Path]) -> str:
    """``"1 file was"``, ``"12 files were"``."""
    return "1 file was" if len(paths) == 1 else f"{len(paths)} files were"


def first_of(paths: Sequence[Path]) -> str:
    """Up to three names, and how many more there are."""
    return f"{', '.join(path.name for path in paths[:3])}{f' and {len(paths) - 3} more' if len(paths) > 3 else ''}"


def _ending(path: Path) -> str:
    base = base_name(path.name)
    if base is None:
        return path.suffix.lower() or path.name
    return path.name[max(base.rfind("_"), base.rfind("-"), 0) :]
