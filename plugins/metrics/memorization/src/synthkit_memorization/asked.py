"""Leak by mask: does a training person come back where an image is asked for with that person's label map?

An image *asked for with the label map of* a person says so in its table, and its label map, which is not empty, is that
of an image of one person, pixel by pixel. It has their labels, and a tumour like theirs in its place, by request, which
any comparison of label maps or whole pictures would take for a likeness. So no other family compares it with that
person, and this one does where the label map says nothing (``search/apart.py``): near_c of ``null/margins.py`` is the
distance to that person alone, other_c the k-th smallest to people of the other side, that person left out.

**Null.** Best is a *control*: images of the same generator, asked for with label maps of held-out people. How near they
come to the people whose label maps they have is what a label map says of a head by itself, and how smooth the generator
is. The cut is taken from their margins, person by person, as from any null people; there is no likeness besides. From
FEWEST people on. Without a control the null is that of the other families: real images, their labels left out likewise,
and the nearest training person but their own. That one is nearer than a person named beforehand would be, so less is
found; and ``inside`` is left out, since how much tumours agree by their labels, only a control tells.

**Shares.** A person *comes first* if the images with their label map are, on average, nearer to them than to any other
training person (all contrasts, ``outside-brain``); where label maps say nothing of heads the chance of that is 1 of the
people compared, and in a control, where one training person is left out of each comparison, it is the same. The verdict
compares the two by Fisher's exact test. The AUC compares the mean margins of training people with those of the control:
0.5 where training people come no nearer to what was asked for than people do whom the generator has never seen.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import synthkit
from synthkit.contract import Samples
from synthkit.judging.intervals import clopper_pearson
from synthkit_memorization.estimate import Estimate, numbered, share_larger
from synthkit_memorization.families import Family, Seen
from synthkit_memorization.judgement import FAR, Found, Judgement, Side
from synthkit_memorization.null.margins import NEAREST, Distances, Rule, distance
from synthkit_memorization.people import People
from synthkit_memorization.search.apart import INSIDE, OUTSIDE, ToPeople
from synthkit_memorization.search.pixels import READ_BATCH, Float64, Images, Int64

#: Name of the family, and of its view: all contrasts.
ASKED = "asked"

#: Position of the rule that says who comes first.
PRIMARY = OUTSIDE.index("outside-brain")

#: People whose label maps a control must have to be the null.
FEWEST = 4

#: Real images, evenly from all, that are the null without a control.
NULL_IMAGES = 1000

#: Nobody, or nobody that can be told.
NOBODY = -1


@dataclass(frozen=True)
class First:
    """People who come first for their own label map: how many of how many, and among how many they are compared."""

    n_first: int
    n: int
    among: int

    @property
    def share(self) -> Estimate:
        note = f"people; chance, where label maps say nothing of heads: 1 of {self.among}"
        if self.n == 0:
            return Estimate(None, n=0, note=note)
        return Estimate(self.n_first / self.n, *clopper_pearson(self.n_first, self.n), n=self.n, note=note)


@dataclass(frozen=True)
class Control:
    """Images asked for with label maps of held-out people: how many, of how many people, and what they say.

    ``first`` is which of these people come first; ``auc`` that of the margins of training people against theirs.
    """

    n_images: int
    n_people: int
    first: First
    auc: Estimate


@dataclass(frozen=True)
class Leak:
    """What the attack found.

    Attributes
    ----------
    judgement : of the images that were asked for with label maps of training people.
    own : int64 ``(image,)``, the training person of each of them.
    first : which of these people come first.
    control : None without one, or where it has too few people.
    """

    judgement: Judgement
    own: Int64
    first: First
    control: Control | None = None

    @property
    def n_people(self) -> int:
        return len(np.unique(self.own))

    @property
    def n_returned(self) -> int | None:
        """People who come back: whom an image that was asked for with their label map copies; None without a null."""
        side = self.judgement.sides.get("train")
        return None if side is None else len(np.unique(self.own[side.copy.any(axis=1)]))


# ------------------------------------------------------------------------------------------------ who was asked for


def asked_for(samples: Samples, people: People, scheme: Any) -> Int64:
    """The person, int64 ``(image,)``, whose label map each image was asked to have; NOBODY where none can be told.

    Of those that say that they were asked to have one: empty label maps are everybody's, and where two people have the
    same one, it may be of either. Labels are compared by their names in ``scheme``.
    """
    asked = [number for number, sample in enumerate(samples.samples) if "labels" in json.loads(sample.asked or "{}")]
    found = np.full(len(samples), NOBODY)
    if not asked:
        return found
    owners: dict[bytes, set[int]] = {}
    for row, map_ in _label_maps(people.images, np.arange(len(people.samples)), scheme):
        owners.setdefault(map_, set()).add(int(people.person[row]))
    for row, map_ in _label_maps(samples, np.array(asked), scheme):
        if len(own := owners.get(map_, ())) == 1:
            found[row] = next(iter(own))
    return found


def _label_maps(images: Images, rows: Int64, scheme: Any) -> Any:
    """Row and label map, as bytes, of those that are not empty; with the values of a scheme."""
    own = getattr(images, "scheme", scheme)
    values = {label.name: label.value for label in scheme.labels}
    table = np.full(256, 255, np.uint8)
    table[0] = 0
    for label in own.labels:
        table[label.value] = values.get(label.name, 255)
    for first in range(0, len(rows), READ_BATCH):
        part = rows[first : first + READ_BATCH]
        for row, labels in zip(part, images.read(part)[1], strict=True):
            if labels.any():
                yield int(row), table[labels].tobytes()


# ------------------------------------------------------------------------------------------------------- the attack


def leak_by_mask(
    params: Any,
    people: Mapping[str, People],
    synthetic: Samples,
    own: Int64,
    control: Samples | None,
    counted: NDArray[np.bool_],
    rate: float,
) -> Leak | None:
    """The attack on images whose training person, ``own``, is known (:func:`asked_for`); None if there are none.

    Parameters
    ----------
    people : training people, and held-out ones where there are. control : see above.
    counted : boolean ``(image,)``, the synthetic images that are not blank.
    rate : at which an innocent set may fail by this. The cut has a half of it, the other is for who comes first.
    """
    rate /= 2
    rows = np.flatnonzero(own != NOBODY)
    if not len(rows):
        return None
    seen = _control_rows(control, people)
    search = _Search(params, people, OUTSIDE if seen is None else (*OUTSIDE, INSIDE))
    asked = search.look(synthetic, rows, "train", own[rows])
    n_counted = int(counted[rows].sum())
    family = Family(ASKED, {ASKED: (*range(len(synthetic.contrasts)),)}, search.rules, _whole)
    if control is None or seen is None:
        side = search.by_real_people(asked, counted[rows], n_counted, rate)
        judgement = Judgement(family, rows, asked.found, None, {} if side is None else {"train": side})
        return Leak(judgement, own[rows], asked.first())
    unseen = search.look(control, seen[0], "holdout", seen[1])
    rule = Rule.of(unseen.distances, unseen.own)
    if rule is None:
        return Leak(Judgement(family, rows, asked.found, None, {}), own[rows], asked.first())
    side = Side(rule, rule.margins(asked.distances), rule.cut(rule.units(n_counted), rate))
    auc = _auc(side.least, asked.own, rule.images, unseen.own)
    told = Control(len(unseen.own), len(np.unique(unseen.own)), unseen.first(), auc)
    return Leak(Judgement(family, rows, asked.found, None, {"train": side}), own[rows], asked.first(), told)


def _whole(images: Images) -> Seen:
    return Seen(images, np.arange(len(images)))


def _control_rows(control: Samples | None, people: Mapping[str, People]) -> tuple[Int64, Int64] | None:
    """Rows of a control that is large enough, and the held-out person whom each was asked for; else None."""
    if control is None:
        return None
    own = np.full(0, NOBODY)
    if "holdout" in people:
        own = asked_for(control, people["holdout"], control.scheme)
    rows = np.flatnonzero(own != NOBODY)
    n = len(np.unique(own[rows]))
    if n < FEWEST:
        synthkit.message(
            f"The control has label maps of {n} held-out people, too few to say how near this generator comes to "
            f"people whom it has never seen: give one of at least {FEWEST}. It is not used.",
            level="warning",
        )
        return None
    return rows, own[rows]


def _auc(margins: Float64, person: Int64, control: Float64, control_person: Int64) -> Estimate:
    """Probability that a person of the control has a larger mean margin than a training person; ties half."""
    ours, theirs = _means(margins, person), _means(control, control_person)
    note = f"0.5 if nobody trained on comes back; over {len(ours)} training and {len(theirs)} held-out people"
    return share_larger(theirs, np.arange(len(theirs)), ours, np.arange(len(ours)), len(ours) + len(theirs), note)


def _means(margins: Float64, person: Int64) -> Float64:
    """Of each person; what is far from everybody counts as FAR."""
    number, n = numbered(person)
    mean: Float64 = np.bincount(number, np.minimum(margins, FAR), n) / np.bincount(number, minlength=n)
    return mean


@dataclass(frozen=True)
class _Looked:
    """How near some images come to whom they were asked for, and to training people.

    Attributes
    ----------
    own : int64 ``(image,)``, the person of the side that was asked for. distances : to that person, and to others.
    found : that person's nearest image, as a match.
    to_own, rivals : by the rule PRIMARY, to that person ``(image,)``, and to the training people who are not that
        person ``(image, person)``, infinite for that person.
    innocent : as ``distances``, of the nearest training person who is not that person.
    """

    own: Int64
    distances: Distances
    found: Found
    to_own: Float64
    rivals: Float64
    innocent: Distances

    def first(self) -> First:
        """Who is nearer to the images with their label map, on average over these, than every rival."""
        known, n_rivals = np.isfinite(self.to_own), int(np.isfinite(self.rivals).sum(axis=1).max(initial=0))
        people = np.unique(self.own[known]) if n_rivals else np.zeros(0, np.int64)
        n_first = 0
        for person in people:
            rows = known & (self.own == person)
            n_first += bool(self.to_own[rows].mean() < self.rivals[rows].mean(axis=0).min())
        return First(n_first, len(people), 1 + n_rivals)


class _Search:
    """Searches by rules of ``search/apart.py``, the columns."""

    def __init__(self, params: Any, people: Mapping[str, People], rules: tuple[str, ...]) -> None:
        self._background, self._people, self.rules = params.background, people, rules
        #: Whom other_c is taken from, as in the other families.
        self._others = "holdout" if "holdout" in people and people["holdout"].n > 1 else "train"

    def look(self, images: Images, rows: Int64, side: str, own: Int64) -> _Looked:
        """Images ``rows`` that were asked for with label maps of people ``own`` of a side."""
        to = self._to_sides(images, rows, {side, "train", self._others})
        which = np.arange(len(rows))
        r, index = to[side].r[which, own], to[side].index[which, own]
        near = distance(r)
        rivals = distance(to["train"].r[..., PRIMARY])
        # Of the control, too, one training person is left out of each: as many rivals on either side.
        rivals[which, own if side == "train" else own % rivals.shape[1]] = np.inf
        nothing = np.full((*r.shape, NEAREST - 1), np.nan)
        found = Found(
            np.concatenate([np.where(np.isfinite(r), r, np.nan)[..., None], nothing], axis=2),
            np.concatenate([np.where(np.isfinite(r), index, -1)[..., None], np.full(nothing.shape, -1)], axis=2),
        )
        left_out = self._only(to[self._others], own if side == self._others else None)
        return _Looked(
            own,
            Distances(near, _third(to[self._others], left_out)),
            found,
            near[:, PRIMARY],
            rivals,
            self._innocent(to, own if side == "train" else None, left_out),
        )

    def by_real_people(self, asked: _Looked, counted: NDArray[np.bool_], n_counted: int, rate: float) -> Side | None:
        """The judgement of what was asked for, where the null are real images; None if no two can be compared."""
        parts, person = list[Distances](), list[Int64]()
        total = sum(len(each.samples) for each in self._people.values())
        for side, each in self._people.items():
            n = len(each.samples)
            rows = np.unique(np.linspace(0, n - 1, min(n, max(1, NULL_IMAGES * n // total))).astype(np.int64))
            to = self._to_sides(each.images, rows, {"train", self._others})
            own = each.person[rows]
            left_out = self._only(to[self._others], own if side == self._others else None)
            parts.append(self._innocent(to, own if side == "train" else None, left_out))
            person.append(own + (self._people["train"].n if side == "holdout" else 0))
        near, other = (np.concatenate([getattr(part, name) for part in parts]) for name in ("near", "other"))
        rule = Rule.of(Distances(near, other), np.concatenate(person))
        if rule is None:
            return None
        base = rule.cut(rule.units(n_counted), rate)
        likeness = rule.likeness(rule.margins(asked.innocent).min(axis=1)[counted], base)
        return Side(rule, rule.margins(asked.distances), base, likeness)

    def _to_sides(self, images: Images, rows: Int64, sides: set[str]) -> dict[str, ToPeople]:
        return {
            side: ToPeople.of(images, rows, self._people[side], self.rules, self._background) for side in sorted(sides)
        }

    def _only(self, to: ToPeople, person: Int64 | None) -> NDArray[np.bool_]:
        """``(image, person, rule)``: of each image one person, or nobody."""
        chosen = np.zeros(to.r.shape, np.bool_)
        if person is not None:
            chosen[np.arange(len(person)), person] = True
        return chosen

    def _innocent(self, to: Mapping[str, ToPeople], own: Int64 | None, left_out: NDArray[np.bool_]) -> Distances:
        """To the nearest training person but the own one, and to others but these two."""
        d = distance(np.where(self._only(to["train"], own), -np.inf, to["train"].r))
        nearest = d.argmin(axis=1)
        near = np.take_along_axis(d, nearest[:, None], 1)[:, 0]
        if self._others == "train":
            left_out = left_out.copy()
            np.put_along_axis(left_out, nearest[:, None], True, 1)
        return Distances(near, _third(to[self._others], left_out))


def _third(to: ToPeople, left_out: NDArray[np.bool_]) -> Float64:
    """other_c: the distance to the third nearest person who is not left out, or the last; infinite without any."""
    d = np.sort(np.where(left_out, np.inf, distance(to.r)), axis=1)
    left = to.r.shape[1] - int(left_out.sum(axis=1).max(initial=0))
    k = min(NEAREST, left)
    return d[:, k - 1] if k > 0 else np.full_like(d[:, 0], np.inf)
