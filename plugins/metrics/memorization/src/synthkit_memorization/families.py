"""Families: ways to see images that are searched and judged each on its own, with a margin and a cut of its own.

| family | what is seen | finds |
|---|---|---|
| picture | images as they are | copies in place: noise, blur, other grey levels, one contrast of several, negatives |
| frame | the brain in the middle, of one size | copies moved, mirrored, turned, scaled or cropped |
| warped | the same, finer, bent onto the likest people | the same warped |
| labels | label maps as they lie | labels of a training image, under whatever image |
| label-shape | label maps around their centroid | the same moved, mirrored or turned |
| tumour | what is inside the labels, and nothing else | a tumour pasted into another head |

Not one family, for the spread of the widest would widen the cut of all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np

import synthkit
from synthkit.contract import Samples
from synthkit.schemes import Scheme
from synthkit_memorization.search.exact import every_view
from synthkit_memorization.search.frame import framed
from synthkit_memorization.search.label_maps import LabelMaps, channels
from synthkit_memorization.search.pixels import Images, Int64
from synthkit_memorization.search.tumours import Tumours
from synthkit_memorization.search.warped import BLUR, SIDE

#: A view (a contrast, ``joint``, ``labels`` or ``tumour``) under a rule.
Column = tuple[str, str]


@dataclass(frozen=True)
class Seen:
    """Images of a dataset as a family sees them, and the row of the dataset, int64 ``(image,)``, that each is of.

    Rows ascend; a row may be there several times (two tumours) or not at all (no tumour).
    """

    images: Images
    rows: Int64


@dataclass(frozen=True)
class Family:
    """One way to see. ``views`` are positions among the contrasts of what is seen; ``see`` makes it of a dataset.

    ``is_bent``: images are bent onto the people whom the search names (``search/warped.py``).
    """

    name: str
    views: Mapping[str, tuple[int, ...]]
    rules: tuple[str, ...]
    see: Callable[[Images], Seen]
    is_bent: bool = False

    @property
    def columns(self) -> tuple[Column, ...]:
        return tuple((view, rule) for rule in self.rules for view in self.views)


def families(train: Samples, names: Iterable[str], rules: tuple[str, ...], background: int) -> list[Family]:
    """Those of ``names``, in the order of the table above.

    ``rules`` are those of the family picture; ``background`` is the grey level that a pixel of the brain exceeds.
    """
    every, all_contrasts = every_view(train.contrasts), tuple(range(len(train.contrasts)))
    every_channel = tuple(channels(train.scheme))
    labels = {"labels": tuple(range(len(every_channel)))}

    def maps(images: Images, centred: bool) -> Seen:
        scheme = _scheme(images, train.scheme)
        if not set(channels(scheme)) & set(every_channel):  # labels of something else: there is nothing to compare
            return Seen(images, np.zeros(0, np.int64))
        seen = LabelMaps(images, scheme, like=train.scheme, centred=centred)
        return Seen(seen, seen.rows)

    def tumours(images: Images) -> Seen:
        seen = Tumours(images, background)
        return Seen(seen, seen.rows)

    def finer(images: Images) -> Seen:
        return Seen(framed(images, background, SIDE, BLUR), np.arange(len(images)))

    whole = dict([list(every.items())[-1]])
    known = (
        Family("picture", every, rules, lambda images: Seen(images, np.arange(len(images)))),
        Family("frame", every, ("turned",), lambda images: Seen(framed(images, background), np.arange(len(images)))),
        Family("warped", whole, ("bent",), finer, is_bent=True),
        Family("labels", labels, ("pearson", "flip", "shift"), lambda images: maps(images, False)),
        Family("label-shape", labels, ("turned",), lambda images: maps(images, True)),
        Family("tumour", {"tumour": all_contrasts}, ("turned-inside",), tumours),
    )
    wanted = set(names)
    if "warped" in wanted and find_spec("numba") is None:
        synthkit.message("Warped copies are not searched for: numba is not installed.", level="warning")
        wanted.remove("warped")
    return [family for family in known if family.name in wanted]


def _scheme(images: Images, usual: Scheme) -> Scheme:
    """Of a dataset its own, of images made from one that of the training images."""
    scheme: Scheme = getattr(images, "scheme", usual)
    return scheme
