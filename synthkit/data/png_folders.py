"""Names of picture channels: the study's PNG folders, as exports write them, and all others that imports understand.

The study's layout (Akbar et al., Scientific Data 2024) has a folder for each contrast and one for the labels, 8-bit
files ``<stem>_<folder>.png``, labels as grey levels (see :mod:`synthkit.data.labels`); beside them a table that says
which subject, slice and split a picture is of.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from synthkit.schemes import BRATS, Scheme

#: Folder of the labels.
LABELS = "Seg"
TABLE = "samples.csv"
#: What an export says of its labels and contrasts, see :mod:`synthkit.data.picture_schemes`.
SCHEME = "scheme.json"

#: What the channel of labels is called in :class:`ChannelNames`; those of images have the names of contrasts.
SEG = "seg"

_ALSO = {
    "t1": ("t1w", "t1pre"),
    "t1ce": ("t1gd", "ct1", "t1cw", "t1wce", "t1post", "t1contrast"),
    "t2": (),
    "flair": ("t2flair", "t2fl", "fl"),
    SEG: ("segmentation", "segmentations", "mask", "masks", "label", "labels", "gt"),
}

_SEPARATORS = re.compile(r"[\s_-]+")


def folder_of(contrast: str) -> str:
    """Name of a contrast's folder in an export: ``T1CE`` for t1ce, others as they are."""
    return next((known.title for known in BRATS.contrasts if known.name == contrast), contrast)


class ChannelNames:
    """What names of folders, files and arrays stand for.

    Parameters
    ----------
    scheme : whose contrasts are known besides those of BraTS.
    contrasts : more of them, as a description names those of a dataset, in this order.

    Attributes
    ----------
    named : contrasts of the scheme and of the description.
    order : all contrasts, in the order in which folders of them are taken.
    known : name of a channel in lower case, without ``_``, ``-`` and blanks -> contrast, or :data:`SEG` for labels.
        These are the endings of subjects' files, and what people call folders.
    """

    def __init__(self, scheme: Scheme = BRATS, contrasts: Sequence[str] = ()) -> None:
        self.named = tuple(dict.fromkeys((*contrasts, *scheme.contrast_names)))
        self.order = tuple(dict.fromkeys((*self.named, *BRATS.contrast_names)))
        also = {alias: name for name, aliases in _ALSO.items() for alias in aliases}
        own = {_plain(word): name for word, name in scheme.endings.items()}
        own |= {_plain(word): c.name for c in scheme.contrasts for word in (c.name, c.title)}
        self.known = {**BRATS.endings, **also, **own, **{_plain(name): name for name in contrasts}}
        # T1_Gd and T2_FLAIR as well: the shortest stem wins, so the second is no T2.
        written = [re.sub(r"^(t[12])(?=.)", r"\1[_-]?", re.escape(name)) for name in self.known]
        written += [re.escape(name.lower()) for name in self.order if _plain(name) != name.lower()]
        self._ending = re.compile(rf"(.+?)[_-]({'|'.join(written)})", re.IGNORECASE)

    def channel_of(self, name: str) -> str | None:
        """The contrast, or :data:`SEG`, that a name stands for: ``t1ce`` for ``T1Gd``; None where it is not known."""
        return self.known.get(_plain(name))

    def split_stem(self, stem: str) -> tuple[str, str] | None:
        """``s01_T1Gd`` as ``("s01", "t1ce")``; None for a name that ends in no channel's."""
        match = self._ending.fullmatch(stem)
        return (match[1], self.known[_plain(match[2])]) if match else None


def _plain(name: str) -> str:
    return _SEPARATORS.sub("", name.lower())
