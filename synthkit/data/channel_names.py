"""What images and labels are called in names of files, folders, channels and arrays: all endings that are known.

A contrast of a scheme brings its own (:attr:`synthkit.schemes.Contrast.endings`). Here are those of other collections,
and what people call channels besides.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from synthkit.schemes import BRATS, Scheme

#: The content of a file, a folder or a channel of labels, beside the names of contrasts.
SEG = "seg"


@dataclass(frozen=True)
class Ending:
    """How names of one content may end.

    Attributes
    ----------
    content : a contrast, or :data:`SEG`.
    pattern : in it "_" stands for "_" and "-".
    rank : where a subject has several files of one content, the lowest is taken: what a person corrected before what a
        program made, images as they came before filtered ones.
    """

    content: str
    pattern: str
    rank: int = 0

    @property
    def expression(self) -> str:
        """The pattern as a regular expression."""
        return self.pattern.replace("_", "[-_]")


_OF_COLLECTIONS = (
    Ending("t1ce", r"t1w?_?(?:gd|gad|ce|post|contrast|km)|(?:gd|gad|ce|post|contrast)_?t1w?"),
    Ending("flair", r"t2w?_?flair"),
    Ending("t1", r"t1n?_bias", 1),  # UCSF-PDGM: corrected for the bias field
    Ending("t1ce", r"(?:t1c|t1ce|t1gd)_bias", 1),
    Ending("t2", r"t2_bias", 1),
    Ending("flair", r"flair_bias", 1),
    Ending(SEG, r"tumou?r_?seg(?:mentation)?"),  # UCSF-PDGM
    Ending(SEG, r"tumou?r_?mask"),  # MU-Glioma-Post
    Ending(SEG, r"glistrboost_manuallycorrected"),  # BraTS-TCGA
    Ending(SEG, r"glistrboost", 1),
    Ending(SEG, r"automated_approx_segm", 1),  # UPENN-GBM
    Ending(SEG, r"gtv"),  # BraTS-MEN-RT
    Ending(SEG, r"seg_mask"),  # LUMIERE
    Ending(SEG, r"segmentations"),  # RHUH-GBM
    Ending("t1", r"t1_?pre"),  # UCSF-BMSR, UCSD-PTGBM
    Ending("t2", r"t2_?synth"),  # UCSF-BMSR
)
# Of a file these say too little: its mask may be of the brain.
_OF_CHANNELS = (
    Ending("t1ce", r"t1_?cw|t1w?_?\+_?(?:c|gd|ce|km)|t1w?_?(?:post|with)_?(?:contrast|gd|km)|t1w?_?c\+"),
    Ending("flair", r"(?:t2_?)?fl|(?:t2_?)?(?:dark_?fluid|tirm)"),
    Ending(
        SEG, r"segmentations?|masks?|maske|labels?|gt|ground_?truth|annotations?|rois?|manual_?(?:seg|mask|labels?)"
    ),
)


def _own(scheme: Scheme) -> list[Ending]:
    return [Ending(content, re.escape(ending)) for ending, content in scheme.endings.items()]


def endings_of_files(scheme: Scheme = BRATS, wanted: Iterable[str] = ()) -> tuple[Ending, ...]:
    """How files end: by a scheme, by other collections where its contrasts are those of BraTS, else as ``wanted`` ones
    are called.
    """
    is_brats = set(scheme.contrasts) <= set(BRATS.contrasts)
    others = [*_own(BRATS), *_OF_COLLECTIONS]
    known = [*_own(scheme), *(ending for ending in others if is_brats or ending.content == SEG)]
    there = {ending.content for ending in known}
    return tuple(dict.fromkeys([*known, *(Ending(name, re.escape(name)) for name in wanted if name not in there)]))


def names_of_channels(scheme: Scheme, contrasts: Sequence[str]) -> tuple[Ending, ...]:
    """What channels, folders and arrays are called: those ``contrasts`` by their names, then by a scheme, then as in
    BraTS and by people.
    """
    called = [Ending(c.name, re.escape(word.lower())) for c in scheme.contrasts for word in (c.name, c.title)]
    usual = [ending for ending in (*_own(BRATS), *_OF_COLLECTIONS, *_OF_CHANNELS) if not ending.rank]
    return tuple(
        Ending(ending.content, re.sub(r"^(t[12])(?=[a-z0-9])", r"\1_?", ending.pattern))
        for ending in [*(Ending(name, re.escape(name.lower())) for name in contrasts), *called, *_own(scheme), *usual]
    )


def content_called(text: str, endings: Sequence[Ending]) -> str | None:
    """What something called ``text`` holds, a contrast or :data:`SEG`; None where that is not known."""
    plain = re.sub(r"\s+", "_", text.strip())
    return next((e.content for e in endings if re.fullmatch(e.expression, plain, re.IGNORECASE)), None)
