"""Names of picture channels: the study's PNG folders, as exports write them, and all others that imports understand.

The study's layout (Akbar et al., Scientific Data 2024) has a folder for each contrast and one for the labels, 8-bit
files ``<stem>_<folder>.png``, labels as grey levels (see :mod:`synthkit.data.labels`); beside them a table that says
which subject, slice and split a picture is of.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from synthkit.data.channel_names import content_called, names_of_channels
from synthkit.schemes import BRATS, Scheme

#: Folder of the labels.
LABELS = "Seg"
TABLE = "samples.csv"
#: What an export says of its labels and contrasts, see :mod:`synthkit.data.picture_schemes`.
SCHEME = "scheme.json"

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
    """

    def __init__(self, scheme: Scheme = BRATS, contrasts: Sequence[str] = ()) -> None:
        self.named = tuple(dict.fromkeys((*contrasts, *scheme.contrast_names)))
        self.order = tuple(dict.fromkeys((*self.named, *BRATS.contrast_names)))
        self._known = names_of_channels(scheme, contrasts)
        # T1_Gd and T2_FLAIR as well: the shortest stem wins, so the second is no T2.
        words = "|".join(f"(?:{ending.expression})" for ending in self._known)
        self._ending = re.compile(rf"(.+?)[_-]({words})", re.IGNORECASE)

    def channel_of(self, name: str) -> str | None:
        """The contrast, or labels, that a name stands for: ``t1ce`` for ``T1Gd``; None where it is not known."""
        return content_called(name, self._known) or content_called(_plain(name), self._known)

    def split_stem(self, stem: str) -> tuple[str, str] | None:
        """``s01_T1Gd``, or ``T1Gd_s01``, as ``("s01", "t1ce")``; None for a name that has no channel at either end."""
        match = self._ending.fullmatch(stem)
        if match and (channel := self.channel_of(match[2])):
            return match[1], channel
        for cut in reversed([found.start() for found in re.finditer(r"[_-](?=.)", stem)]):
            if channel := self.channel_of(stem[:cut]):
                return stem[cut + 1 :], channel
        return None


def _plain(name: str) -> str:
    return _SEPARATORS.sub("", name.lower())
