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
from synthkit.data.label_tables import TableOfLabels, each_name_once, labels_named
from synthkit.errors import DataError

DESCRIPTION = "dataset.json"
_IMAGES = ("imagesTr", "imagesTs")
_CHANNEL = re.compile(r"(.+)_(\d{4})")


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
    """What such a folder holds; ``table``: what values of its label maps are called, where it was asked for."""

    path: Path
    cases: list[RawCase] = field(default_factory=list)
    table: TableOfLabels | None = None
    unread: list[Path] = field(default_factory=list)


def description_of(folder: Path) -> dict[str, Any] | None:
    """The ``dataset.json`` of a folder, if it is one that names labels as nnU-Net does; ours is not.

    Raises :class:`DataError` where it has a name twice.
    """
    try:
        text = (folder / DESCRIPTION).read_text(encoding="utf-8-sig")
        found = json.loads(text)
    except (OSError, ValueError):
        return None
    is_ours = not isinstance(found, dict) or str(found.get("format", "")).startswith("synthkit")
    if is_ours or not isinstance(found.get("labels"), dict):
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
        else f'Write {root}/{DESCRIPTION}: {{"channel_names": {{"0": "T1", ...}}, '
        '"labels": {"background": 0, "edema": 1, "necrosis": 2, "enhancing tumor": 3}} with what is true of the data.',
    )


def table_of(description: Mapping[str, Any], folder: Path) -> TableOfLabels:
    """What the ``dataset.json`` of a folder calls labels and channels."""
    channels = [name for _, name in sorted(_channel_names(description).items())]
    return labels_named(description["labels"], folder / DESCRIPTION, channels, description.get("regions_class_order"))


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
    channel_names = _channel_names(description or {})
    if need_table and description is not None:
        found.table = table_of(description, folder)
    channels = _channels(channel_names, contrasts, names, folder)
    for part in ("Tr", "Ts"):
        for place in (folder / f"images{part}", folder / f"labels{part}"):
            found.unread += _others(place)
        labels = {base: path for path in _volumes(folder / f"labels{part}") if (base := base_name(path.name))}
        images = _volumes(folder / f"images{part}")
        grouped = _grouped(images, set(labels), len(channel_names))
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
                    n_channels=len(channel_names) if whole else 0,
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


def _channel_names(description: Mapping[str, Any]) -> dict[int, str]:
    given = description.get("channel_names", description.get("modality"))
    items = enumerate(given) if isinstance(given, list) else given.items() if isinstance(given, dict) else ()
    try:
        return {int(k): str(name) for k, name in items}
    except ValueError:
        return {}


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
                f"Say which it is by its name: --names {contrast}=NAME.",
            )
    return {contrast: found[contrast][0] for contrast in contrasts}
