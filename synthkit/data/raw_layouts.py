"""Folders that a ``dataset.json`` describes: the Medical Segmentation Decathlon (4-D images) and nnU-Net raw.

What a channel is, and what a label value means, is what the file says by name; nothing is told from values. Both
collections store oedema as 1 and the necrotic core as 2, the reverse of BraTS, so that a label map read by value is
wrong without a word.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from synthkit.data.file_names import Names, base_name, content_named
from synthkit.data.label_tables import TableOfLabels, each_name_once, labels_named, unknown_names
from synthkit.errors import DataError
from synthkit.schemes import BACKGROUND, enumerated

DESCRIPTION = "dataset.json"
_IMAGES = ("imagesTr", "imagesTs")
_CHANNEL = re.compile(r"(.+)_(\d{4})")
# What a description of nnU-Net or the Decathlon has and no other, and how its parts look.
_KEYS = {"channel_names", "modality", "numTraining", "file_ending"}
_CHANNELS = '"channel_names": {"0": "T1", "1": "T1Gd", "2": "T2", "3": "FLAIR"}'
_LABELS = '"labels": {"background": 0, "edema": 1, "necrosis": 2, "enhancing tumor": 3}'
_EXAMPLE = f"{{{_CHANNELS}, {_LABELS}}}"


@dataclass(frozen=True)
class RawCase:
    """One subject of such a folder.

    Attributes
    ----------
    images : contrast -> its file, and which channel of it; a channel of None is the whole file.
    n_channels : of a 4-D file, as ``dataset.json`` counts them.
    """

    id: str
    folder: Path
    images: dict[str, Path]
    channels: dict[str, int]
    n_channels: int
    seg: Path | None


@dataclass
class RawFolder:
    """What such a folder holds.

    Attributes
    ----------
    table : what values of its label maps are called, where it was asked for.
    called : contrast -> the name of the channel that holds it.
    """

    path: Path
    called: dict[str, str] = field(default_factory=dict)
    cases: list[RawCase] = field(default_factory=list)
    table: TableOfLabels | None = None
    unread: list[Path] = field(default_factory=list)


def description_of(folder: Path) -> dict[str, Any] | None:
    """The ``dataset.json`` of a folder, if it is one that names channels or labels as nnU-Net does; ours is not.

    Raises :class:`DataError` where it has a name twice, or is no JSON beside images or labels that it has to describe.
    """
    path = folder / DESCRIPTION
    try:
        text = path.read_text(encoding="utf-8-sig")
        found = json.loads(text)
        problem = "" if isinstance(found, dict) else f"it is {_kind_of(found)} instead of an object {{...}}"
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        found, problem = {}, f"{error.strerror or error}" if isinstance(error, OSError) else str(error)
    if problem and is_raw_folder(folder):
        raise DataError(
            f"{path} cannot be read.",
            f"{problem[:1].upper()}{problem[1:]}.",
            f"Correct it; it is JSON, as in {_EXAMPLE}.",
        )
    is_ours = problem or str(found.get("format", "")).startswith("synthkit")
    if is_ours or not (is_raw_folder(folder) or isinstance(found.get("labels"), dict) or _KEYS & set(found)):
        return None
    try:
        json.loads(text, object_pairs_hook=each_name_once)
    except ValueError as error:
        raise DataError(
            f"{folder / DESCRIPTION} has a name twice.",
            f"{error}.",
            "Give each channel and each label a name of its own.",
        ) from error
    return dict(found)


def _kind_of(value: object) -> str:
    kinds = {list: "a list", str: "a text", bool: "true or false", type(None): "null", dict: "an object"}
    return kinds.get(type(value), "a number")


def is_raw_folder(folder: Path) -> bool:
    """Whether a folder has ``imagesTr`` or ``imagesTs``, or labels in ``labelsTr``."""
    return any((folder / name).is_dir() for name in (*_IMAGES, "labelsTr", "labelsTs"))


def refuse_part(folder: Path) -> None:
    """DataError for ``imagesTr`` and its like without what says what they mean."""
    if re.fullmatch(r"(images|labels)T[rs]", folder.name) and not (folder / DESCRIPTION).is_file():
        raise _undescribed(folder, folder.parent)


def _undescribed(folder: Path, root: Path) -> DataError:
    there = (root / DESCRIPTION).is_file()
    return DataError(
        f"{folder} cannot be read without its {DESCRIPTION}.",
        "It says which channel is which contrast, and what label values mean: 1 is oedema here and necrosis in BraTS.",
        f"Give {root}, which holds it."
        if there
        else f"Write {root}/{DESCRIPTION}: {_EXAMPLE}, with what is true of the data.",
    )


def table_of(description: Mapping[str, Any], folder: Path) -> TableOfLabels:
    """What the ``dataset.json`` of a folder calls labels and channels.

    Raises :class:`DataError` for labels in another form than name -> value, see
    :func:`synthkit.data.label_tables.labels_named`, and for channels without numbers.
    """
    path, labels = folder / DESCRIPTION, description.get("labels")
    if not isinstance(labels, dict):
        raise _no_table(path, labels, "labels" in description)
    channels = [name for _, name in sorted(channel_names(description, path).items())]
    return labels_named(labels, path, channels, description.get("regions_class_order"))


def _no_table(path: Path, labels: object, is_there: bool) -> DataError:
    form = f"Write {_LABELS} with what is true"
    if isinstance(labels, list) and labels and all(isinstance(name, str) for name in labels):
        first = 0 if labels[0].strip().lower() == BACKGROUND else 1
        pairs = {BACKGROUND: 0, **{name: k for k, name in enumerate(labels[1 - first :], start=1)}}
        numbers = enumerated([str(k) for k in range(first, first + len(labels))])
        form = (
            f'If its labels are {numbers} in this order, write "labels": {json.dumps(pairs)}; else each with its value'
        )
    return DataError(
        f"The labels in {path} have no values.",
        f"{'labels is ' + _kind_of(labels) if is_there else 'It has no labels'}: nothing says what a value means.",
        f"{form}. Or name the scheme: --labels NAME, of predictions --prediction-labels NAME.",
    )


def read_raw(
    folder: Path, contrasts: Sequence[str], names: Names, need_labels: bool, need_table: bool = True
) -> RawFolder:
    """Find the cases of a folder with ``imagesTr``.

    Parameters
    ----------
    contrasts : those wanted; none for labels alone.
    names : contrasts that channels of these names hold.
    need_labels : label maps are going to be read. Test images without labels are passed over then.
    need_table : what their values are called is not known otherwise.

    Raises
    ------
    DataError : no ``dataset.json`` that can be read, a contrast that no channel or several channels are, or labels
        that are no table of names and values.
    """
    description = description_of(folder)
    if description is None and (contrasts or need_table):
        raise _undescribed(folder, folder)
    found = RawFolder(folder)
    named = channel_names(description or {}, folder / DESCRIPTION)
    if need_table and description is not None:
        found.table = table_of(description, folder)
    if found.table and found.table.scheme is None and not any(content_named(name, names) for name in named.values()):
        raise unknown_names(found.table)  # another anatomy: its channels are no contrasts of a brain either
    channels = _channels(named, contrasts, names, folder)
    found.called = {contrast: named[number] for contrast, number in channels.items()}
    for part in ("Tr", "Ts"):
        for place in (folder / f"images{part}", folder / f"labels{part}"):
            found.unread += _others(place)
        labels = {base: path for path in _volumes(folder / f"labels{part}") if (base := base_name(path.name))}
        images = _volumes(folder / f"images{part}")
        grouped = _grouped(images, set(labels), len(named))
        for case in sorted({*grouped, *labels}) if need_labels else sorted(grouped):
            files = grouped.get(case, {})
            if part == "Ts" and need_labels and case not in labels:
                found.unread += files.values()
                continue
            whole = None in files
            keys = {name: None if whole else k for name, k in channels.items()}
            held = {name: files[key] for name, key in keys.items() if key in files}
            found.cases.append(
                RawCase(
                    id=case,
                    folder=folder / f"images{part}",
                    images=held,
                    channels=dict(channels) if whole else {},
                    n_channels=len(named) if whole else 0,
                    seg=labels.get(case),
                )
            )
    return found


def _volumes(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if base_name(p.name) and not p.name.startswith("."))


def _others(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if not base_name(p.name) and not p.name.startswith("."))


def _grouped(images: Sequence[Path], labelled: set[str], n_channels: int) -> dict[str, dict[int | None, Path]]:
    """Case -> channel (None: all of them in one file) -> file."""
    grouped: dict[str, dict[int | None, Path]] = {}
    for path in images:
        base = base_name(path.name) or ""
        match = _CHANNEL.fullmatch(base)
        # "case_0001" may be a case of its own, if that is how its labels are called.
        if match and base not in labelled and int(match[2]) < max(n_channels, 1):
            grouped.setdefault(match[1], {})[int(match[2])] = path
        else:
            grouped.setdefault(base, {})[None] = path
    return grouped


def channel_names(description: Mapping[str, Any], path: Path) -> dict[int, str]:
    """Number -> name of each channel, by nnU-Net 2 or 1; nothing where the file names none.

    Raises :class:`DataError` for another form.
    """
    key = "channel_names" if "channel_names" in description else "modality"
    given = description.get(key, {})
    items = (
        list(enumerate(given)) if isinstance(given, list) else list(given.items()) if isinstance(given, dict) else []
    )
    wrong = [f"{k}: {name!r}" for k, name in items if not str(k).isdecimal() or not isinstance(name, str)]
    if wrong or not isinstance(given, list | dict):
        raise DataError(
            f"The {key} of {path} do not say which channel is which.",
            f"{wrong[0]} is not a number with a name." if wrong else f"{key} is {_kind_of(given)}.",
            f"Write {_CHANNELS} with what is true: each number once, as files end in it (_0000, _0001, ...).",
        )
    return {int(k): name for k, name in items}


def _which_channel(
    contrast: str, which: Sequence[int], named: Mapping[int, str], found: Mapping[str, Sequence[int]]
) -> str:
    """How to say which channel a contrast is, or to go on without it: only what can help.

    Parameters
    ----------
    which : the channels that are it, none or several.
    named, found : channel -> its name, contrast -> the channels that are it.
    """
    known = {k for channels in found.values() for k in channels}
    open_names = [name for k, name in sorted(named.items()) if k in which or (not which and k not in known)]
    alike = sorted({name for name in open_names if open_names.count(name) > 1})
    telling = [name for name in open_names if name not in alike]
    ways = []
    if telling:
        ways.append(f"Say which it is by its name: --names {contrast}={telling[0] if len(telling) == 1 else 'NAME'}.")
    if alike:
        ways.append(
            f"Channels of one name ({', '.join(alike)}) cannot be told apart: write into {DESCRIPTION} what each of "
            f'them shows, such as {{"{sorted(named)[0]}": "T1"}}.'
        )
    if not which and (others := [name for name, channels in found.items() if len(channels) == 1]):
        ways.append(f"If there is no {contrast}, prepare the others alone: --contrasts {','.join(others)}.")
    return " ".join(ways) or f"Write {_CHANNELS} into it, with what is true of the data."


def _channels(named: Mapping[int, str], contrasts: Sequence[str], names: Names, folder: Path) -> dict[str, int]:
    listed = ", ".join(f"{k} {name}" for k, name in sorted(named.items())) or "none"
    found: dict[str, list[int]] = {}
    for k, name in sorted(named.items()):
        if content := content_named(name, names):
            found.setdefault(content, []).append(k)
    for contrast in contrasts:
        which = found.get(contrast, [])
        if len(which) != 1:
            raise DataError(
                f"{'Several channels' if which else 'No channel'} of {folder} "
                f"{'are' if which else 'is known to be'} {contrast}.",
                f"Its {DESCRIPTION} names the channels {listed}.",
                _which_channel(contrast, which, named, found),
            )
    return {contrast: found[contrast][0] for contrast in contrasts}
