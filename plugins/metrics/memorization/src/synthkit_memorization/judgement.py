"""What the searches of one family say: who is copied, on either side.

The rule is that of ``null/margins.py``; here it is given the distances it asks for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from synthkit_memorization.families import Family
from synthkit_memorization.null.margins import NEAREST, Distances, Rule, distance
from synthkit_memorization.search.matches import Matches
from synthkit_memorization.search.pixels import Float64, Int64

#: Margin from which on an image is far from everybody. No image of 60 phantom people had more than 1.1.
FAR = 2.0


@dataclass(frozen=True)
class Found:
    """The nearest people of some images: ``r`` float64 and ``index`` int64, ``(image, column, NEAREST)``.

    The best image of each of the people whose image is nearest, the nearest first; NaN and -1 where there are fewer.
    """

    r: Float64
    index: Int64

    @staticmethod
    def of(matches: Mapping[tuple[str, str], Matches], family: Family) -> Found:
        return Found(
            np.stack([matches[column].r for column in family.columns], axis=1),
            np.stack([matches[column].index for column in family.columns], axis=1),
        )

    def take(self, images: Int64) -> Found:
        """In each column what some images found, int64 ``(image, column)``."""
        return Found(
            np.take_along_axis(self.r, images[..., None], 0), np.take_along_axis(self.index, images[..., None], 0)
        )

    @staticmethod
    def nobody(like: Found) -> Found:
        """Of as many images and columns, without any match."""
        return Found(np.full_like(like.r, np.nan), np.full_like(like.index, -1))

    @staticmethod
    def together(parts: list[Found]) -> Found:
        return Found(np.concatenate([part.r for part in parts]), np.concatenate([part.index for part in parts]))


def between(side: str, found: Mapping[str, Found], n_people: Mapping[str, int]) -> Distances:
    """How near some images come to the people of a side, and to those they are compared with: the other side's.

    Parameters
    ----------
    found : what the images found on each side ("train", "holdout"). n_people : of each.
    """
    others = next((name for name in found if name != side and n_people[name] > 1), side)
    near = distance(found[side].r[..., 0])
    k = min(NEAREST, n_people[others] - 1)
    if others == side and k < 2:
        k = 0  # the only other person is the near one
    return Distances(near, distance(found[others].r[..., k - 1]) if k > 0 else np.full_like(near, np.inf))


@dataclass(frozen=True)
class Side:
    """One family's judgement of one side.

    Attributes
    ----------
    rule : its scales and null people. margins : of the synthetic images seen, float64 ``(image, column)``.
    base : the cut by the null. likeness : what it is multiplied by.
    """

    rule: Rule
    margins: Float64
    base: float
    likeness: float = 1.0

    @property
    def cut(self) -> float:
        return self.base * self.likeness

    @property
    def least(self) -> Float64:
        """The margin of each image, ``(image,)``."""
        least: Float64 = self.margins.min(axis=1)
        return least

    @property
    def copy(self) -> NDArray[np.bool_]:
        """Whether each image is a copy in each column, ``(image, column)``; at margin 0 it is, whatever the cut."""
        copy: NDArray[np.bool_] = self.margins <= self.cut
        return copy

    @property
    def thresholds(self) -> Float64:
        """r that an image must exceed to be a copy in a column, ``(column,)``: near_c < cut A_c."""
        r: Float64 = 1 - (self.cut * self.rule.near) ** 2
        return r


@dataclass(frozen=True)
class Judgement:
    """One family's: what synthetic images found, and what that says.

    Attributes
    ----------
    rows : int64 ``(image,)``, the synthetic images that it sees, each once.
    train, holdout : what they found among the people of either side.
    sides : "train" and, with held-out people, "holdout".
    """

    family: Family
    rows: Int64
    train: Found
    holdout: Found | None
    sides: Mapping[str, Side]

    @staticmethod
    def of(family: Family, rows: Int64, found: Mapping[str, Found], sides: Mapping[str, Side]) -> Judgement:
        """From all that is seen, maybe several things of one image: in each column the nearest to somebody counts."""
        once, best, nearest = np.unique(rows), dict[str, Found](), dict[str, Side]()
        for name in found:
            side = sides.get(name)
            picked = nearest_of(rows, distance(found[name].r[..., 0]) if side is None else side.margins)
            best[name] = found[name].take(picked)
            if side is not None:
                nearest[name] = replace(side, margins=np.take_along_axis(side.margins, picked, 0))
        return Judgement(family, once, best["train"], best.get("holdout"), nearest)

    def margins_to(self, side: str) -> Float64:
        """Of the images seen, ``(image, column)``; infinite without a null."""
        judged = self.sides.get(side)
        return np.full(self.train.r.shape[:2], np.inf) if judged is None else judged.margins

    def cut_of(self, side: str) -> float:
        judged = self.sides.get(side)
        return float("nan") if judged is None else judged.cut


def nearest_of(rows: Int64, distances: Float64) -> Int64:
    """For each image (of ``rows``, ascending, maybe repeated) and column, which of its distances is the smallest.

    ``distances`` is float64 ``(seen, column)``; the result int64 ``(image, column)``, positions among the seen.
    """
    first = np.flatnonzero(np.diff(rows, prepend=-1))
    order = [np.lexsort((distances[:, column], rows))[first] for column in range(distances.shape[1])]
    return np.stack(order, axis=1)


def judge(
    null: Mapping[str, Found],
    null_person: Int64,
    synthetic: Mapping[str, Found],
    n_people: Mapping[str, int],
    counted: NDArray[np.bool_],
    rate: float,
) -> dict[str, Side]:
    """Both sides, or one: ``null``, ``synthetic``, ``n_people`` are keyed "train" and, where there is one, "holdout".

    Parameters
    ----------
    null : what real images of other people found on a side. null_person : int64 ``(null image,)``, 0, 1, ... each.
    synthetic : what synthetic images found. counted : boolean, those of them that are not blank.
    n_people : of each side. rate : at which an innocent set fails, shared by the sides.
    """
    sides: dict[str, Side] = {}
    for name in null:
        rule = Rule.of(between(name, null, n_people), null_person)
        if rule is not None:
            margins = rule.margins(between(name, synthetic, n_people))
            cut = rule.cut(rule.units(len(_distinct(margins, counted))), rate / len(null))
            sides[name] = Side(rule, margins, cut)
    return {name: _like(side, sides.get(_opposite(name), side), counted) for name, side in sides.items()}


def _distinct(margins: Float64, counted: NDArray[np.bool_]) -> Int64:
    """Images that may come near to somebody by chance: repeats once, those far from everybody (noise) not at all."""
    near = np.flatnonzero(counted & (margins.min(axis=1, initial=np.inf) <= FAR))
    return near[np.unique(margins[near], axis=0, return_index=True)[1]]


def _opposite(name: str) -> str:
    return "holdout" if name == "train" else "train"


def _like(side: Side, reference: Side, counted: NDArray[np.bool_]) -> Side:
    """With the likeness that the margins to the other side show."""
    shown = reference.least[_distinct(reference.margins, counted)]
    likeness = reference.rule.likeness(shown, reference.base)
    return replace(side, likeness=likeness)
