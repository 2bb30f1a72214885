"""Names of picture channels: the study's PNG folders, as exports write them, and all others that imports understand.

The study's layout (Akbar et al., Scientific Data 2024) has a folder for each contrast and one for the labels, 8-bit
files ``<stem>_<folder>.png``, labels as grey levels (see :mod:`synthkit.data.labels`); beside them a table that says
which subject, slice and split a picture is of.
"""

from __future__ import annotations

import re

from synthkit.schemes import BRATS

#: Folder of each contrast, as exports name it.
FOLDERS = {contrast.name: contrast.title for contrast in BRATS.contrasts}
#: Folder of the labels.
LABELS = "Seg"
TABLE = "samples.csv"

#: What the channel of labels is called in :data:`CHANNELS`; those of images have the names of contrasts.
SEG = "seg"

_ALSO = {
    "t1": ("t1w", "t1pre"),
    "t1ce": ("t1gd", "ct1", "t1cw", "t1wce", "t1post", "t1contrast"),
    "t2": (),
    "flair": ("t2flair", "t2fl", "fl"),
    SEG: ("segmentation", "segmentations", "mask", "masks", "label", "labels", "gt"),
}

#: Name of a channel in lower case, without ``_``, ``-`` and blanks -> contrast, or :data:`SEG` for labels. These are
#: the endings of subjects' files, and what people call folders.
CHANNELS = {**BRATS.endings, **{alias: name for name, aliases in _ALSO.items() for alias in aliases}}

_SEPARATORS = re.compile(r"[\s_-]+")
# T1_Gd and T2_FLAIR as well: the shortest stem wins, so the second is no T2.
_WRITTEN = [re.sub(r"^(t[12])(?=.)", r"\1[_-]?", name) for name in CHANNELS]
_ENDING = re.compile(rf"(.+?)[_-]({'|'.join(_WRITTEN)})", re.IGNORECASE)


def channel_of(name: str) -> str | None:
    """The contrast, or :data:`SEG`, that a name stands for: ``t1ce`` for ``T1Gd``; None where it is not known."""
    return CHANNELS.get(_SEPARATORS.sub("", name.lower()))


def split_stem(stem: str) -> tuple[str, str] | None:
    """``s01_T1Gd`` as ``("s01", "t1ce")``; None for a name that ends in no channel's."""
    match = _ENDING.fullmatch(stem)
    return (match[1], CHANNELS[_SEPARATORS.sub("", match[2].lower())]) if match else None
