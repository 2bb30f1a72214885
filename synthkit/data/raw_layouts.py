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
from synthkit.errors import DataError
from synthkit.schemes import BRATS, enumerated

DESCRIPTION = "dataset.json"
_IMAGES = ("imagesTr", "imagesTs")
_CHANNEL = re.compile(r"(.+)_(\d{4})")

# Words that make a name mean one of our labels, in the order in which they are looked for and taken out.
_MEANS = (
    ("ED", r"snfh|(?:surrounding )?non ?enhancing flair hyperintensity|(?:peri ?tumou?ral )?o?edema|\bed\b"),
    ("NCR", r"necro\w*|\bncr\b|\bnetc?\b|non ?enhanc\w*"),
    ("ET", r"enhanc\w*|\bg?d?a?et\b"),
)
_REGIONS = {
    frozenset(BRATS.label_values[name] for name in region.labels): region.name
    for region in BRATS.regions
    if region.name in ("WT", "TC", "ET")
}


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
    """What such a folder holds; ``label_values``: value in its label maps -> value of the scheme."""

    path: Path
    cases: list[RawCase] = field(default_factory=list)
    label_values: dict[int, int] = field(default_factory=dict)
    unread: list[Path] = field(default_factory=list)


def description_of(folder: Path) -> dict[str, Any] | None:
    """The ``dataset.json`` of a folder, if it is one that names labels as nnU-Net does; ours is not."""
    try:
        found = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8-sig"))
    except (OSError, ValueError):
        return None
    is_ours = not isinstance(found, dict) or str(found.get("format", "")).startswith("synthkit")
    return None if is_ours or not isinstance(found.get("labels"), dict) else found


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


def read_raw(folder: Path, contrasts: Sequence[str], names: Names, need_labels: bool) -> RawFolder:
    """Find the cases of a folder with ``imagesTr``.

    Parameters
    ----------
    contrasts : those wanted; none for labels alone.
    names : contrasts that channels of these names hold.
    need_labels : label maps are going to be read, so that their names have to be understood. Test images without
        labels are passed over then.

    Raises
    ------
    DataError : no ``dataset.json`` that can be read, a contrast that no channel or several channels are, or labels
        that do not stand for ours one to one.
    """
    description = description_of(folder)
    if description is None:
        raise _undescribed(folder, folder)
    found = RawFolder(folder)
    if need_labels:
        found.label_values = label_values_named(description["labels"], folder / DESCRIPTION)
    channel_names = _channel_names(description)
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


# ---------------------------------------------------------------------------------------------------------- labels


def label_values_named(labels: Mapping[str, Any], source: Path) -> dict[int, int]:
    """Value in a file -> value of the scheme, by the names that a table of labels gives.

    Parameters
    ----------
    labels : name -> value (nnU-Net 2), value -> name (nnU-Net 1, the Decathlon), or region -> values where each region
        is the whole tumour, the tumour core or the enhancing tumour.
    source : the file that says so, for messages.

    Raises
    ------
    DataError : a name stands for none of our labels or for several, or two names for one.
    """
    named = _by_name(labels, source)
    if any(len(values) > 1 for values in named.values()):
        named = _parts_of_regions(named, source)
    found: dict[int, int] = {}
    for name, (value, *_) in named.items():
        if value == 0 or name.lower() == "background":
            found[value] = 0
            continue
        meant = label_meant(name)
        if len(meant) != 1:
            what = f"stands for {enumerated(meant)}" if meant else "is none of them"
            raise _unmapped(source, named, f"{name!r} ({value}) {what}")
        ours = BRATS.label_values[meant[0]]
        if ours in found.values():
            raise _unmapped(source, named, f"two of its labels stand for {meant[0]}")
        found[value] = ours
    return found


def in_words(label_values: Mapping[int, int]) -> str:
    """``"1 is ED, 2 is NCR"``."""
    ours = {label.value: label.name for label in BRATS.labels}
    return ", ".join(f"{value} is {ours[v]}" for value, v in sorted(label_values.items()) if v)


def label_meant(name: str) -> tuple[str, ...]:
    """Our labels that a name speaks of: ``("NCR",)`` for "necrosis and non-enhancing tumour"."""
    left = re.sub(r"[^a-z]+", " ", name.lower()).strip()
    found = []
    for label, words in _MEANS:
        left, n = re.subn(words, " ", left)
        if n:
            found.append(label)
    if re.search(r"cavity|\brc\b|cyst|\bwhole\b|ignore|\b(?:without|no|not|excluding|except|minus|outside)\b", left):
        return ()
    return tuple(found)


def _by_name(labels: Mapping[str, Any], source: Path) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {}
    try:
        for key, value in labels.items():
            if isinstance(value, list | tuple):
                found[str(key)] = tuple(int(v) for v in value)
            elif isinstance(value, str) and not value.strip().isdigit():
                found[value] = (int(key),)
            else:
                found[str(key)] = (int(value),)
    except (TypeError, ValueError) as error:
        raise DataError(f"The labels in {source} are not understood.", f"{error}.", "Write name: value.") from error
    if "ignore" in found:
        raise _unmapped(source, found, "'ignore' marks what nobody has labelled")
    if any(not values for values in found.values()):
        raise _unmapped(source, found, "one of them has no value")
    return found


def _parts_of_regions(named: Mapping[str, tuple[int, ...]], source: Path) -> dict[str, tuple[int, ...]]:
    """Names of single labels from nested regions: what is in the whole tumour and not in its core is oedema."""
    regions: dict[str, set[int]] = {}
    for name, values in named.items():
        plain = re.sub(r"[^a-z]+", " ", name.lower())
        if values == (0,):
            continue
        key = (
            "WT"
            if re.search(r"\bwhole\b|\bwt\b", plain)
            else "TC"
            if re.search(r"tumou?r core|\btc\b", plain) and not label_meant(name)
            else "ET"
            if label_meant(name) == ("ET",)
            else None
        )
        if key is None or key in regions:
            raise _unmapped(source, named, f"it has regions, and {name!r} is not the one whole tumour, core or ET")
        regions[key] = set(values)
    if set(regions) != set(_REGIONS.values()) or not regions["ET"] < regions["TC"] < regions["WT"]:
        raise _unmapped(source, named, "it has regions that are not whole tumour, core and ET inside one another")
    parts = {
        "oedema": regions["WT"] - regions["TC"],
        "necrosis": regions["TC"] - regions["ET"],
        "enhancing": regions["ET"],
    }
    if any(len(values) != 1 for values in parts.values()):
        raise _unmapped(source, named, "a part of its regions has several values")
    return {"background": (0,), **{name: tuple(values) for name, values in parts.items()}}


def _unmapped(source: Path, named: Mapping[str, tuple[int, ...]], why: str) -> DataError:
    ours = enumerated([f"{label.name} ({label.meaning})" for label in BRATS.labels])
    listed = ", ".join(f"{'/'.join(map(str, values))} {name}" for name, values in named.items())
    return DataError(
        f"The labels that {source} names do not stand for {ours} one to one.",
        f"{why[:1].upper()}{why[1:]}. It names {listed}.",
        f"Name each value in {source.name} as what it is: edema, necrosis (or non-enhancing) or enhancing tumor; "
        "other labels have to be merged into one of these, or into background, first.",
    )
