"""Families: ways to see images that are searched and judged each on its own, with a margin and a cut of its own.

| family | what is seen | finds |
|---|---|---|
| picture | images as they are | copies in place: noise, blur, other grey levels, one contrast of several, negatives |
| frame | the brain moved to the middle, of one size | copies moved, mirrored, turned, scaled or cropped |
| labels | label maps | labels of a training image, under whatever image |
| tumour | what is inside the labels, and nothing else | a tumour pasted into another head |

Not one family, for the spread of the widest would widen the cut of all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from synthkit_memorization.search.exact import every_view
from synthkit_memorization.search.pixels import Images, Int64

#: A view (a contrast, ``joint``, ``labels`` or ``tumour``) under a rule.
Column = tuple[str, str]

NAMES = ("picture", "frame", "labels", "tumour")

#: Rules of the family ``picture``; the others have one set each.
PICTURE_RULES = ("pearson", "brain", "flip", "shift", "inverted", "brain-inverted")


@dataclass(frozen=True)
class Seen:
    """Images of a dataset as a family sees them, and the row of the dataset, int64 ``(image,)``, that each is of."""

    images: Images
    rows: Int64


@dataclass(frozen=True)
class Family:
    """One way to see. ``views`` are positions among the contrasts of what is seen; ``see`` makes it of a dataset."""

    name: str
    views: Mapping[str, tuple[int, ...]]
    rules: tuple[str, ...]
    see: Callable[[Images], Seen]

    @property
    def columns(self) -> tuple[Column, ...]:
        return tuple((view, rule) for rule in self.rules for view in self.views)


def families(train: Images, names: Iterable[str], rules: tuple[str, ...], background: int) -> list[Family]:
    """Those of ``names``, in the order of NAMES.

    ``rules`` are those of the family picture; ``background`` is the grey level that a pixel of the brain exceeds.
    """
    views = every_view(train.contrasts)
    known = {
        "picture": Family("picture", views, rules, lambda images: Seen(images, np.arange(len(images)))),
    }
    return [known[name] for name in NAMES if name in set(names) and name in known]
