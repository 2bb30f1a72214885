"""Layouts of pictures, found by names: a folder a channel, files named by channel, nnU-Net's raw format.

Those whose names do not say what a channel is are in :mod:`synthkit.data.picture_channels`. A layout is found before a
picture is read; names that two pictures share, pictures without partners and files that are left out are named.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthkit.data.channel_names import SEG
from synthkit.data.format import is_safe_name
from synthkit.data.label_levels import LabelLevels
from synthkit.data.label_tables import TableOfLabels, scheme_of_table
from synthkit.data.picture_schemes import scheme_of_names
from synthkit.data.pictures import ENDINGS, as_plane, ending_of, read_picture, stem_of
from synthkit.data.png_folders import LABELS, SCHEME, TABLE, ChannelNames, folder_of
from synthkit.data.raw_layouts import channel_names, description_of, table_of
from synthkit.data.scheme_ids import style_of, style_of_folders
from synthkit.errors import DataError, UsageError
from synthkit.schemes import Scheme

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Known files that are no pictures; ``dataset.json`` is NVlabs' table of classes, or nnU-Net's description.
BESIDE = (TABLE, SCHEME, "dataset.json", "splits_final.json")

_CASE = re.compile(r"(.+)_(\d{4})")


@dataclass(frozen=True, eq=False)
class RawSample:
    """One sample as stored: a plane (y, x) a contrast, and the labels (y, x) if there are any."""

    planes: list[NDArray[Any]]
    labels: NDArray[Any] | None = None
    labels_are_values: bool = False


@dataclass(frozen=True, eq=False)
class Source:
    """Pictures that can be imported.

    Attributes
    ----------
    layout : what it is called.
    contrasts : names of the channels, without the labels.
    has_labels : whether every sample has labels.
    ids : of the samples.
    read : index -> the sample; raises DataError.
    notes : what was concluded, a line each.
    left_out : files and folders that are not imported.
    levels : how labels are written, where the layout says it; and their scheme then.
    style : what the names of channels are like, see :func:`synthkit.data.scheme_ids.style_of`.
    """

    layout: str
    contrasts: tuple[str, ...]
    has_labels: bool
    ids: list[str]
    read: Callable[[int], RawSample]
    notes: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    levels: LabelLevels | None = None
    scheme: Scheme | None = None
    style: str = ""


def find_named(folder: Path, without_labels: bool, known: ChannelNames, scheme: Scheme | None = None) -> Source | None:
    """A layout whose names say which channel is which; None if there is none.

    ``known`` says what names stand for, ``scheme`` what labels mean, where that is not the layout's to say.

    Raises
    ------
    DataError : two pictures or two folders of one name, pictures without partners, or no labels.
    """
    if (folder / "imagesTr").is_dir() and (folder / "dataset.json").is_file():
        return _nnunet(folder, without_labels, known, scheme)
    folders = [child for child in sorted(folder.iterdir()) if child.is_dir() and not child.name.startswith(".")]
    by_channel: dict[str, list[Path]] = {}
    for child in folders:
        if channel := known.channel_of(child.name):
            by_channel.setdefault(channel, []).append(child)
    by_channel = by_channel if set(by_channel) - {SEG} else _numbered_channels(folders, known)
    if by_channel:
        return _channel_folders(folder, by_channel, without_labels, known)
    return _named_files(folder, without_labels, known)


def _numbered_channels(folders: Sequence[Path], known: ChannelNames) -> dict[str, list[Path]]:
    """Channel -> folder, of folders called ``A_T1``, ``B_T1KM``; empty unless each of several is of another channel."""
    named = [(known.split_stem(child.name), child) for child in folders]
    found = {parts[1]: [child] for parts, child in named if parts}
    is_one_each = len(found) == sum(parts is not None for parts, _ in named)
    return found if is_one_each and len(set(found) - {SEG}) > 1 else {}


def names_say(folder: Path, known: ChannelNames) -> bool:
    """Whether names tell channels apart: those of folders, nnU-Net's, or ends of files, two different ones at least."""
    if (folder / "imagesTr").is_dir():
        return True
    inside = [child for child in folder.iterdir() if child.is_dir()]
    if any(known.channel_of(child.name) not in (None, SEG) for child in inside) or _numbered_channels(inside, known):
        return True
    ends = {parts[1] for path in files_in(folder) if ending_of(path) and (parts := known.split_stem(stem_of(path)))}
    return len(ends) > 1


def files_in(folder: Path) -> Iterator[Path]:
    """All files below a folder, also links that lead nowhere; hidden ones are left alone."""
    for child in sorted(folder.iterdir()):
        if child.name.startswith("."):
            continue
        if child.is_dir():
            yield from files_in(child)
        else:
            yield child


def call_folders(root: Path) -> str:
    """What to do about pictures, or arrays, of one name in several folders, which may be channels."""
    inside = [child.name for child in sorted(root.iterdir()) if child.is_dir()] if root.is_dir() else []
    return (
        f"Where each folder is a channel, call it by what it shows (T1, T1CE, T2, FLAIR and {LABELS} are understood, "
        f"{', '.join(folded(inside, 6))} are not); else give the files names of their own."
    )


def folded(lines: Sequence[str], n: int = 20) -> list[str]:
    """The first lines, and how many more there are."""
    return [*lines[:n], *([f"... and {len(lines) - n:,} more"] if len(lines) > n else [])]


# -------------------------------------------------------------------------------------------------- a folder each


def _channel_folders(
    root: Path, by_channel: Mapping[str, list[Path]], without_labels: bool, known: ChannelNames
) -> Source:
    if twice := {channel: paths for channel, paths in by_channel.items() if len(paths) > 1}:
        raise DataError(
            f"{root} has several folders of one channel.",
            "Which one is meant cannot be told.",
            "Move all but one elsewhere.",
            [f"{channel}: {', '.join(path.name for path in paths)}" for channel, paths in sorted(twice.items())],
        )
    used = {channel: paths[0] for channel, paths in by_channel.items() if not (without_labels and channel == SEG)}
    left_out = [
        f"{child.name}{'/' if child.is_dir() else ''}"
        for child in sorted(root.iterdir())
        if child not in used.values() and not child.name.startswith(".") and child.name not in BESIDE
    ]
    files: dict[str, dict[str, Path]] = {}
    for channel, path in used.items():
        found: dict[str, list[Path]] = {}
        for child in sorted(path.iterdir()):
            if child.name.startswith("."):
                continue
            if child.is_dir() or ending_of(child) is None:
                left_out.append(f"{path.name}/{child.name}{'/' if child.is_dir() else ''}")
            else:
                found.setdefault(_without_channel(stem_of(child), channel, path.name, known), []).append(child)
        files[channel] = _one_each(found, f"the folder {path.name}")
    notes = [
        f"The folder {path.name} is read as {'the labels' if channel == SEG else channel}."
        for channel, path in used.items()
        if path.name.lower() != (LABELS if channel == SEG else folder_of(channel)).lower()
    ]
    names = {channel: path.name for channel, path in used.items()}
    source = _of_files("a folder a channel", root, files, names, without_labels, notes, left_out, known.order)
    return replace(source, style=style_of_folders(names.values()))


def _without_channel(stem: str, channel: str, folder: str, known: ChannelNames) -> str:
    """``s01`` of ``s01_T1Gd`` in a folder of t1ce; another ending belongs to the name."""
    if stem.lower().endswith((f"_{folder}".lower(), f"-{folder}".lower())):
        return stem[: -len(folder) - 1]
    parts = known.split_stem(stem)
    return parts[0] if parts and parts[1] == channel else stem


def _one_each(found: Mapping[str, list[Path]], where: str) -> dict[str, Path]:
    if twice := {stem: paths for stem, paths in found.items() if len(paths) > 1}:
        raise DataError(
            f"{len(twice):,} samples have two pictures in {where}.",
            "Which one is meant cannot be told.",
            "Move one of each elsewhere, or rename it.",
            folded([f"{stem}: {', '.join(path.name for path in paths)}" for stem, paths in sorted(twice.items())]),
        )
    return {stem: paths[0] for stem, paths in found.items()}


# ------------------------------------------------------------------------------------------- files named by channel


def _named_files(root: Path, without_labels: bool, known: ChannelNames) -> Source | None:
    found: dict[str, dict[str, list[Path]]] = {}
    left_out: list[Path] = []
    for path in files_in(root):
        parts = known.split_stem(stem_of(path)) if ending_of(path) else None
        if ending_of(path) and parts is None and path.parent != root and (channel := known.channel_of(stem_of(path))):
            parts = path.parent.name, channel  # subject/t1.png
        if parts and not (without_labels and parts[1] == SEG):
            found.setdefault(parts[1], {}).setdefault(parts[0], []).append(path)
        elif path.name not in BESIDE:
            left_out.append(path)
    n_named = sum(len(paths) for channel in found.values() for paths in channel.values())
    # A few names that happen to end in a channel's do not make a layout.
    if not set(found) - {SEG} or sum(ending_of(path) is not None for path in left_out) > n_named:
        return None
    files = {channel: _one_each(paths, f"{root} for {channel}") for channel, paths in found.items()}
    names = {channel: f"file that ends in _{channel}" for channel in files}
    shown = [path.relative_to(root).as_posix() for path in left_out]
    source = _of_files("files named by channel", root, files, names, without_labels, [], shown, known.order)
    stems = (stem_of(path) for paths in files.values() for path in paths.values())
    ends = {stem[max(stem.rfind("-"), stem.rfind("_"), 0) :] for stem in stems}
    return replace(source, style=style_of(ends) or style_of_folders(ends))


def _of_files(
    layout: str,
    root: Path,
    files: Mapping[str, Mapping[str, Path]],
    names: Mapping[str, str],
    without_labels: bool,
    notes: list[str],
    left_out: list[str],
    order: Sequence[str],
) -> Source:
    """The source of one file for each channel and sample; ``names`` says where a channel's files are."""
    if SEG not in files and not without_labels:
        seen = f" Not understood: {', '.join(folded(left_out, 10))}." if left_out else ""
        raise DataError(
            f"{root} has no folder {LABELS}." if layout == "a folder a channel" else f"{root} has no labels.",
            f"The label channel is missing.{seen}",
            f"{_call_them(layout)} or give --without-labels to import images alone (all labels background).",
        )
    contrasts = tuple(name for name in order if name in files)
    channels = [*contrasts, *([SEG] if SEG in files else [])]
    ids = sorted(set().union(*(files[channel] for channel in channels)))
    if not ids:
        raise DataError(
            f"There are no pictures in the folders of {root}.",
            f"Not understood: {', '.join(folded(left_out, 10))}." if left_out else "",
            f"Files are <stem>_<contrast>.png; {', '.join(ENDINGS)} are read.",
        )
    missing = [
        f"{name}: no {'picture in ' if layout != 'files named by channel' else ''}{names[channel]}"
        for name in ids
        for channel in channels
        if name not in files[channel]
    ]
    if missing:
        raise DataError(
            f"{len(missing):,} picture{'s are' if len(missing) > 1 else ' is'} missing in {root}.",
            "Every sample needs one picture of each contrast and of the labels, <stem>_<contrast>.png.",
            "Add them or remove their counterparts.",
            folded(missing),
        )

    if any((ending_of(path) or "").startswith(".nii") for channel in channels for path in files[channel].values()):
        notes = [*notes, "Slices of NIfTI are read as stored: voxel [x, y] is pixel [y, x], the affine turns nothing."]

    def read(index: int) -> RawSample:
        name = ids[index]
        paths = [files[contrast][name] for contrast in contrasts]
        planes = [as_plane(read_picture(path), path) for path in paths]
        if SEG not in files:
            return RawSample(planes)
        path = files[SEG][name]
        picture = read_picture(path, as_labels=True)
        return RawSample(planes, as_plane(picture, path), picture.are_values)

    return Source(layout, contrasts, SEG in files, ids, read, notes, left_out)


def _call_them(layout: str) -> str:
    name = f"the folder of the labels {LABELS}" if layout == "a folder a channel" else f"labels <stem>_{LABELS}.png"
    return f"Add it; if it is there under another name, call {name};"


# ----------------------------------------------------------------------------------------------------------- nnU-Net


def _nnunet(root: Path, without_labels: bool, known: ChannelNames, scheme: Scheme | None) -> Source:
    path = root / "dataset.json"
    description = description_of(root) or {}
    stated = channel_names(description, path)
    channels = {number: known.channel_of(name) or name for number, name in stated.items()}
    unsafe = [name for number, name in channels.items() if name == SEG or not is_safe_name(name)]
    if unsafe or not channels or any(n > 1 for n in Counter(channels.values()).values()):
        raise DataError(
            f"The channels of {path} are not understood.",
            f"They are {', '.join(stated.values()) or 'not there'}: not all are different names of images."
            if stated
            else "It has no channel_names.",
            "Give each of channel_names a name of its own.",
        )
    found: dict[str, dict[str, list[Path]]] = {str(channel): {} for channel in channels.values()}
    left_out = []
    for child in (
        file for part in ("imagesTr", "imagesTs") if (root / part).is_dir() for file in files_in(root / part)
    ):
        match = _CASE.fullmatch(stem_of(child)) if ending_of(child) else None
        channel = channels.get(int(match[2])) if match else None
        if match and channel:
            found[channel].setdefault(match[1], []).append(child)
        else:
            left_out.append(child.relative_to(root).as_posix())
    levels = None
    if not without_labels:
        table = table_of(description, root)
        scheme = scheme or scheme_of_names(table)
        levels = _stated_levels(table, scheme)
        found[SEG] = {}
        for child in (f for part in ("labelsTr", "labelsTs") if (root / part).is_dir() for f in files_in(root / part)):
            if ending_of(child):
                found[SEG].setdefault(stem_of(child), []).append(child)
    files = {channel: _one_each(paths, f"{root} for {channel}") for channel, paths in found.items()}
    names = {channel: "labelsTr or labelsTs" if channel == SEG else f"images for {channel}" for channel in files}
    order = [str(channels[number]) for number in sorted(channels)]
    notes = ["Channels and labels are those that dataset.json names."]
    source = _of_files("nnU-Net raw", root, files, names, without_labels, notes, left_out, order)
    return replace(source, levels=levels, scheme=scheme)


def _stated_levels(table: TableOfLabels, scheme: Scheme) -> LabelLevels:
    """Value that a table names -> value of the label of that name; the names as they are, else what they mean."""
    known = {name.lower(): value for name, value in scheme.label_values.items()}
    meant = table.scheme.label_values if table.scheme else scheme_of_table(table).label_values
    named = {value: name for name, value in meant.items()}
    levels = dict.fromkeys((0, *table.zeros), 0)
    for name, value in table.named.items():
        label = next((word for word in (name, named[value]) if word.lower() in known), None)
        if label is None:
            raise DataError(
                f"The labels of {table.source} are not those of {scheme.name or 'the scheme'}.",
                f"{name}: known are {', '.join(scheme.label_values)}.",
                "Name them so in dataset.json, name their scheme with --labels, or give --without-labels.",
            )
        levels[value] = known[label.lower()]
    return LabelLevels("given", levels)


def refuse_channels(folder: Path, source: Source, options: Mapping[str, object]) -> None:
    """:class:`UsageError` for options of pictures whose names do not say what a channel is."""
    if given := [name for name, value in options.items() if value is not None]:
        raise UsageError(
            f"{' and '.join(given)} cannot be used with {folder}.",
            f"Its layout, {source.layout}, says which channel is which.",
            "Leave it out.",
        )
