"""What an audit compared and found: the record that the searches fill and the numbers are taken from.

A *column* is a view (a contrast, or ``joint``: all of them as one long image; ``labels``; ``tumour``) under a rule
(``search/rules.py``). Columns belong to families (``families.py``), which are judged one by one. Numbers that rest on
one distance a pair use the *primary* column, the joint image over all pixels.

Scans of one patient are no more independent than slices of one subject: subjects are patients here
(:func:`synthkit.data.patients.patient_behind`), and people where one side or the other is meant.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthkit.contract import Samples
from synthkit_memorization.asked import Leak
from synthkit_memorization.families import Column
from synthkit_memorization.judgement import Found, Judgement, Side
from synthkit_memorization.people import People
from synthkit_memorization.search.matches import Matches
from synthkit_memorization.search.pixels import Float64, Int64


@dataclass(frozen=True)
class Twin:
    """A held-out person who is a training person under another id, by the margin of the family picture."""

    holdout: str
    train: str
    margin: float


@dataclass
class Audit:
    """What was compared and found; what could not be found is None.

    Attributes
    ----------
    train, holdout : the real people; held-out ones without the twins.
    blank : synthetic images that are constant or show hardly any brain, boolean ``(image,)``.
    judgements : of each family in which people could be compared.
    nearest : the two training people nearest to each synthetic image, primary: also whom it was asked for.
    null_r, null_index : the nearest training people of the null images (held-out, else training images), themselves
        left out, ``(null image, column, NEAREST)``; NaN and -1 where there is none or a family does not see the image.
    halves : best r ``(synthetic image,)`` in equal parts of the training and of the held-out images, and how many
        images a part has.
    train_other : best r ``(training image,)`` with another image.
    train_other_patient : the same with another patient's.
    train_seen, holdout_seen : best r ``(image,)`` of the real images among the synthetic ones.
    neighbours : matches of the synthetic images with each other, k columns.
    leak : the attack on images that were asked for with label maps of training people; None where none were.
    """

    params: Any
    train: People
    synthetic: Samples
    holdout: People | None
    twins: tuple[Twin, ...]
    blank: NDArray[np.bool_]
    judgements: tuple[Judgement, ...]
    nearest: Matches
    null_r: Float64
    null_index: Int64
    halves: tuple[Float64, Float64, int] | None = None
    train_other: Float64 | None = None
    train_other_patient: Float64 | None = None
    train_seen: Float64 | None = None
    holdout_seen: Float64 | None = None
    neighbours: Matches | None = None
    leak: Leak | None = None

    @property
    def null(self) -> People:
        """The real people whose best matches are shown beside those of the synthetic images."""
        return self.train if self.holdout is None else self.holdout

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        return tuple(column for each in self.judgements for column in each.family.columns)

    @property
    def primary(self) -> int:
        """Position of the joint image (or the only contrast) over all pixels among the columns."""
        contrasts = self.train.images.contrasts
        return self.columns.index(("joint" if len(contrasts) > 1 else contrasts[0], "pearson"))

    @cached_property
    def r(self) -> Float64:
        """Best r of each synthetic image, ``(image, column)``; NaN where a family does not see it."""
        r: Float64 = self._spread([each.train.r[..., 0] for each in self.judgements], np.nan)
        return r

    @cached_property
    def index(self) -> Int64:
        """The training image it is with; -1 there."""
        index: Int64 = self._spread([each.train.index[..., 0] for each in self.judgements], -1)
        return index

    @cached_property
    def margins(self) -> Float64:
        """Margin to the training people, ``(image, column)``; infinite where there is none."""
        margins: Float64 = self._spread([each.margins_to("train") for each in self.judgements], np.inf)
        return margins

    @property
    def holdout_matches(self) -> tuple[Float64, Int64]:
        """r and index of the nearest held-out image of each synthetic one, ``(image, column)``; NaN and -1 if none."""
        nobody = [Found.nobody(each.train) for each in self.judgements]
        found = [
            none if each.holdout is None else each.holdout for none, each in zip(nobody, self.judgements, strict=True)
        ]
        return (
            self._spread([each.r[..., 0] for each in found], np.nan),
            self._spread([each.index[..., 0] for each in found], -1),
        )

    @cached_property
    def holdout_copy(self) -> NDArray[np.bool_]:
        """Whether each synthetic image copies a held-out person by a column, ``(image, column)``."""
        cuts = [np.nan_to_num(each.cut_of("holdout"), nan=-1.0) for each in self.judgements]
        near = [each.margins_to("holdout") <= cut for each, cut in zip(self.judgements, cuts, strict=True)]
        copy: NDArray[np.bool_] = self._spread(near, False)
        return copy

    @property
    def thresholds(self) -> Float64:
        """r that an image must exceed to be a copy, ``(column,)``; NaN without a null."""
        sides = [(each.family.columns, each.sides.get("train")) for each in self.judgements]
        return np.concatenate([np.full(len(own), np.nan) if s is None else s.thresholds for own, s in sides])

    @cached_property
    def cuts(self) -> Float64:
        """Of each column, its family's; NaN without a null."""
        return np.concatenate([np.full(len(each.family.columns), each.cut_of("train")) for each in self.judgements])

    def _spread(self, parts: list[Any], missing: float) -> Any:
        """Of each family ``(image seen, column)``, as one array over all images and columns."""
        result = np.full((len(self.synthetic), len(self.columns)), missing, parts[0].dtype)
        start = 0
        for each, part in zip(self.judgements, parts, strict=True):
            stop = start + len(each.family.columns)
            result[each.rows, start:stop] = part
            start = stop
        return result

    @property
    def has_null(self) -> bool:
        """Whether training people can be told from others by anything: by whole pictures, at least."""
        return self.side("picture", "train") is not None

    def side(self, family: str, side: str) -> Side | None:
        return next((each.sides.get(side) for each in self.judgements if each.family.name == family), None)

    @cached_property
    def copy(self) -> NDArray[np.bool_]:
        """Whether each synthetic image copies a training person by a column, ``(image, column)``."""
        copy: NDArray[np.bool_] = self.margins <= np.nan_to_num(self.cuts, nan=-1.0)
        return copy

    @cached_property
    def copies(self) -> NDArray[np.bool_]:
        """Whether each is a copy at all, ``(image,)``."""
        copies: NDArray[np.bool_] = np.any(self.copy, axis=1)
        return copies

    def copied(self, side: str) -> dict[int, set[int]]:
        """People of a side who are copied, and by which synthetic images."""
        people = self.train if side == "train" else self.holdout
        found: dict[int, set[int]] = {}
        for each in self.judgements:
            judged, among = each.sides.get(side), each.train if side == "train" else each.holdout
            if judged is None or among is None or people is None:
                continue
            for image, column in zip(*np.nonzero(judged.copy), strict=True):
                person = int(people.person[among.index[image, column, 0]])
                found.setdefault(person, set()).add(int(each.rows[image]))
        return found

    @property
    def counted(self) -> NDArray[np.bool_]:
        """Synthetic images that count as searched, boolean ``(image,)``: those that are not blank, and copies."""
        counted: NDArray[np.bool_] = ~self.blank | self.copies
        return counted

    @property
    def described(self) -> NDArray[np.bool_]:
        """Synthetic images that medians and shares describe: the counted ones, or all if none is."""
        return self.counted if self.counted.any() else np.ones(len(self.blank), np.bool_)

    @property
    def n_null_people(self) -> int:
        """Real people whom the cut of the family picture rests on."""
        side = self.side("picture", "train")
        return 0 if side is None else side.rule.n_people
