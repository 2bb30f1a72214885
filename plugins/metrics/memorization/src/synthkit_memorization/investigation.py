"""All searches of an audit: what is compared with what. What is found goes into an :class:`Audit`.

| queries | among | for |
|---|---|---|
| real images, in every family | training and held-out images of other people | what innocent images are like |
| synthetic images, in every family | training images, held-out images | copies of either |
| synthetic images | as many training images as there are held-out ones | closer_to_train |
| training images | other training images | authenticity |
| training and held-out images | synthetic images | membership |
| synthetic images | other synthetic images | near-duplicates |
| planted copies, in every family | training images, held-out images | power |
| images asked for with a person's label map | that person, and others | leak by mask (``asked.py``) |
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

import synthkit
from synthkit.contract import Samples
from synthkit_memorization.asked import NOBODY, asked_for, leak_by_mask
from synthkit_memorization.audit import Audit, Twin
from synthkit_memorization.blank import blank_images
from synthkit_memorization.families import Family, Seen, families
from synthkit_memorization.judgement import Found, Judgement, between, judge, nearest_of
from synthkit_memorization.null.margins import NEAREST, TWIN, Distances, Rule, distance
from synthkit_memorization.people import Part, People
from synthkit_memorization.power.changes import WIDTH
from synthkit_memorization.power.planting import KINDS
from synthkit_memorization.search.exact import Groups, Matches, best_matches, every_view
from synthkit_memorization.search.pixels import Float64, Images, Int64
from synthkit_memorization.search.warped import CANDIDATES, Halved, bent

#: Neighbours kept among the synthetic images.
NEIGHBOURS = 8


def investigate(
    params: Any, train: Samples, synthetic: Samples, holdout: Samples | None, control: Samples | None, device: str
) -> tuple[Audit, Search]:
    """All searches of the table above but the planted copies; and what searches for those with the same settings."""
    known = families(train, params.families, params.rules, params.background)
    people = {"train": People.of(train)} | ({} if holdout is None else {"holdout": People.of(holdout)})
    search = Search(params, device, _planned(params, known, people, len(synthetic)))
    search.look_at(known, people)
    if (once := _each_once(search, people["train"])) is not None:
        people["train"] = once
        search.look_at(known, people)
    twins = _twins(search, people, params.false_fail_rate)
    if twins:
        left = people["holdout"].without(list(twins))
        people = {"train": people["train"]} | ({} if left is None else {"holdout": left})
        search.look_at(known, people)
    blank, own = blank_images(synthetic, train), asked_for(synthetic, people["train"], train.scheme)
    rate = params.false_fail_rate / (len(search.nulls) + bool((own != NOBODY).any()))
    found = [_judge(search, null, synthetic, own, blank, rate) for null in search.nulls]
    judgements = [each for each in found if each is not None]
    null_r, null_index = _null_matches(search.nulls, judgements, people)
    leak = leak_by_mask(params, people, synthetic, own, control, ~blank, rate)
    if leak is not None:
        judgements.append(leak.judgement)
        null_r = _without_null(leak.judgement, null_r, np.nan)
        null_index = _without_null(leak.judgement, null_index, -1)
    audit = Audit(
        params=params,
        train=people["train"],
        synthetic=synthetic,
        holdout=people.get("holdout"),
        twins=tuple(twins.values()),
        blank=blank,
        judgements=tuple(judgements),
        nearest=_nearest_two(search, synthetic, people["train"], judgements[0], own),
        null_r=null_r,
        null_index=null_index,
        leak=leak,
    )
    _compare_with_holdout(audit, search)
    _measure_authenticity(audit, search)
    _look_back(audit, search)
    return audit, search


@dataclass(frozen=True)
class Null:
    """Real people as a family sees them, and whom their images are nearest to, themselves left out.

    Attributes
    ----------
    seen, person : of each side ("train", "holdout"), what is seen of it, and the person, 0, 1, ..., of each image.
    found : of each side, what the null images, those of all sides one after the other, found among its people.
    null_person : of each null image, int64; numbers of held-out people follow those of training people.
    rows : of each side, which of its images seen are null images: those that are not blank.
    """

    family: Family
    seen: Mapping[str, Seen]
    person: Mapping[str, Int64]
    rows: Mapping[str, Int64]
    found: Mapping[str, Found]
    null_person: Int64

    @property
    def n_people(self) -> dict[str, int]:
        return {side: len(np.unique(person)) for side, person in self.person.items()}


class Search:
    """Searches with the settings of an audit, and how far they are: the unit is an image in a column.

    ``nulls`` are those of the families that see images of the training people.
    """

    def __init__(self, params: Any, device: str, total: float) -> None:
        self._params, self._device, self._total = params, device, total
        self._done = 0.0
        self.nulls: list[Null] = []

    @property
    def picture(self) -> Null:
        """The null of whole pictures: every audit has it, first."""
        return self.nulls[0]

    def look_at(self, known: Sequence[Family], people: Mapping[str, People]) -> None:
        """See the real people in each family, and search them among each other."""
        whole = people["train"].images
        shown = {side: ~blank_images(each.images, whole) for side, each in people.items()}
        self.nulls = [null for family in known if (null := self._null(family, people, shown)) is not None]

    def _null(
        self, family: Family, people: Mapping[str, People], shown: Mapping[str, NDArray[np.bool_]]
    ) -> Null | None:
        seen = {side: family.see(each.images) for side, each in people.items()}
        seen = {side: each for side, each in seen.items() if len(each.rows)}
        if "train" not in seen:
            return None
        person = {side: people[side].person[each.rows] for side, each in seen.items()}
        rows = {side: np.flatnonzero(shown[side][each.rows]) for side, each in seen.items()}
        found, first = {}, {"train": 0, "holdout": people["train"].n}
        for side in seen:
            parts = []
            for query in seen:
                own = person[query][rows[query]] if query == side else np.full(len(rows[query]), NOBODY)
                parts.append(self._people(family, Part(seen[query].images, rows[query]), seen[side], person[side], own))
            found[side] = Found.together(parts)
        null_person = np.concatenate([first[side] + person[side][rows[side]] for side in seen])
        return Null(family, seen, person, rows, found, null_person)

    def among(self, null: Null, side: str, queries: Images, own: Int64 | None = None) -> Found:
        """The nearest people of a side to images as the family sees them; ``own`` is a person to leave out, or -1."""
        own = np.full(len(queries), NOBODY) if own is None else own
        return self._people(null.family, queries, null.seen[side], null.person[side], own)

    def copied(self, judgement: Judgement, rule: str, images: Images, hidden: Int64) -> Int64:
        """The training image that each image is a copy of by a rule, int64 ``(image, view)``; -1 where it is none.

        By a family's cut for the synthetic images; ``hidden`` is a training person whom an image is not compared with.
        """
        family = judgement.family
        copied = np.full((len(images), len(family.views)), -1)
        side, seen = judgement.sides.get("train"), family.see(images)
        if side is None or not len(seen.rows):
            return copied
        null = next(null for null in self.nulls if null.family is family)
        null = replace(null, family=replace(family, rules=(rule,)))
        first = family.rules.index(rule) * len(family.views)
        own = slice(first, first + len(family.views))
        scales = replace(side.rule, near=side.rule.near[own], ratio=side.rule.ratio[own])
        train = self.among(null, "train", seen.images, hidden[seen.rows])
        near = distance(train.r[..., 0])
        # Whoever is not near enough alone is no copy, whatever other people are like.
        close = np.flatnonzero((scales.margins(Distances(near, np.full_like(near, np.inf))) <= side.cut).any(axis=1))
        if not len(close):
            return copied
        found = {"train": Found(train.r[close], train.index[close])}
        if "holdout" in null.found:
            found["holdout"] = self.among(null, "holdout", Part(seen.images, close))
        margins, rows = scales.margins(between("train", found, null.n_people)), seen.rows[close]
        image = np.where(margins <= side.cut, found["train"].index[..., 0], -1)
        copied[np.unique(rows)] = np.take_along_axis(image, nearest_of(rows, margins), 0)
        return copied

    def _people(self, family: Family, queries: Images, among: Seen, person: Int64, own: Int64) -> Found:
        options: dict[str, Any] = {"views": family.views, "distinct": person, "exclude": Groups(own, person)}
        if family.is_bent:
            likest = self._matches(Halved(queries), Halved(among.images), rules=("turned",), k=CANDIDATES, **options)
            matches = {
                column: bent(queries, among.images, likest[column[0], "turned"], NEAREST) for column in family.columns
            }
        else:
            matches = self._matches(queries, among.images, rules=family.rules, k=NEAREST, **options)
        found = Found.of(matches, family)
        return Found(found.r, np.where(found.index >= 0, among.rows[found.index], -1))

    def primary(self, queries: Images, among: Images, **options: Any) -> Matches:
        """Best matches of the joint image (or the only contrast) over all pixels."""
        view, contrasts = list(every_view(queries.contrasts).items())[-1]
        return self._matches(queries, among, views={view: contrasts}, rules=("pearson",), **options)[view, "pearson"]

    def _matches(self, queries: Images, among: Images, **options: Any) -> dict[tuple[str, str], Matches]:
        start, work = self._done, len(queries) * len(options["views"]) * len(options["rules"])
        self._done += work

        def report(share: float) -> None:
            synthkit.progress(
                min(round(start + share * work), round(self._total)), round(self._total), unit="comparison"
            )

        params = self._params
        return best_matches(
            queries,
            among,
            background=params.background,
            shift_px=shift_px(params, queries.size),
            memory_mb=params.memory_mb,
            device=self._device,
            report=report,
            **options,
        )


def shift_px(params: Any, size: tuple[int, int]) -> int:
    """The shift of the rule ``shift`` in pixels of images of this size."""
    shift: int = max(1, round(params.shift_px * max(size) / WIDTH))
    return shift


def _planned(params: Any, known: Sequence[Family], people: Mapping[str, People], n_synthetic: int) -> float:
    """Images times columns of all searches, the power test's included; where all images are seen."""
    n = {side: len(each.samples) for side, each in people.items()}
    columns, sides = sum(len(family.columns) for family in known), len(people)
    total = columns * sides * (sum(n.values()) + n_synthetic)
    total += columns * sides * params.plants * sum(len(kind.strengths) for kind in KINDS)
    total += n["train"] + n_synthetic
    if "holdout" in n:
        total += 4 * n_synthetic + sum(n.values())
    return float(total)


def _each_once(search: Search, train: People) -> People | None:
    """The training people with those as one who are as near as scans of one person; None if there are none.

    By near_c / A_c alone, for the other scans of a person are also those that it is compared with.
    """
    null = search.picture
    rule = Rule.of(between("train", null.found, null.n_people), null.null_person)
    if rule is None:
        return None
    own = len(null.rows["train"])
    near = distance(null.found["train"].r[:own, :, 0])
    near = np.divide(near, rule.near, out=np.full_like(near, np.inf), where=rule.near > 0)
    column = near.argmin(axis=1)
    same = np.flatnonzero(near.min(axis=1) < TWIN)
    if not len(same):
        return None
    pairs = null.null_person[same], train.person[null.found["train"].index[same, column[same], 0]]
    joined = coo_array((np.ones(len(same)), pairs), shape=(train.n, train.n))
    number = connected_components(joined, directed=False)[1]
    twice = sorted({train.name(int(person)) for side in pairs for person in side})
    synthkit.message(
        f"{len(twice)} training subjects are fewer people by their images and counted so: {', '.join(twice[:20])}.",
        level="warning",
    )
    return replace(train, person=number[train.person].astype(np.int64))


def _twins(search: Search, people: Mapping[str, People], rate: float) -> dict[int, Twin]:
    """Held-out people who are nearer to a training person than another person is, by the family picture."""
    if "holdout" not in people:
        return {}
    null = search.picture
    nothing = {side: Found(found.r[:0], found.index[:0]) for side, found in null.found.items()}
    side = judge(null.found, null.null_person, nothing, null.n_people, np.zeros(0, np.bool_), rate).get("train")
    if side is None:
        return {}
    first, n = people["train"].n, people["holdout"].n
    margins = side.rule.people[first:]
    cut = side.rule.cut(n, rate)
    twins = {}
    for number in np.flatnonzero(margins <= min(cut, TWIN)):
        images = np.flatnonzero(null.null_person == first + number)
        nearest = images[side.rule.images[images].argmin()]
        column = side.rule.columns[nearest]
        match = int(null.found["train"].index[nearest, column, 0])
        twins[int(number)] = Twin(
            holdout=people["holdout"].name(int(number)),
            train=people["train"].name(int(people["train"].person[match])),
            margin=float(margins[number]),
        )
    return twins


def _judge(
    search: Search, null: Null, synthetic: Images, own: Int64, blank: NDArray[np.bool_], rate: float
) -> Judgement | None:
    """What a family says of the synthetic images; None where it sees none of them.

    ``own`` is the training person whose label map each was asked to have. With that person it is compared elsewhere
    (``asked.py``): here they would resemble each other by request, in labels and in the tumour that a picture shows.
    """
    seen = null.family.see(synthetic)
    if not len(seen.rows):
        return None
    left_out = {"train": own[seen.rows]}
    found = {side: search.among(null, side, seen.images, left_out.get(side)) for side in null.found}
    sides = judge(null.found, null.null_person, found, null.n_people, ~blank[seen.rows], rate)
    return Judgement.of(null.family, seen.rows, found, sides)


def _null_matches(
    nulls: Sequence[Null], judgements: Sequence[Judgement], people: Mapping[str, People]
) -> tuple[Float64, Int64]:
    """r and index of the nearest training person of other people's images, ``(image, column, NEAREST)``."""
    side = "holdout" if "holdout" in people else "train"
    used = [null for null in nulls if any(each.family is null.family for each in judgements)]
    columns = sum(len(null.family.columns) for null in used)
    r = np.full((len(people[side].samples), columns, NEAREST), np.nan)
    index = np.full(r.shape, -1)
    start = 0
    for null in used:
        stop = start + len(null.family.columns)
        if side in null.seen:
            rows = null.seen[side].rows[null.rows[side]]
            mine = slice(-len(rows), None) if side == "holdout" else slice(len(rows))
            if len(rows):
                found = Found(null.found["train"].r[mine], null.found["train"].index[mine])
                found = found.take(nearest_of(rows, distance(found.r[..., 0])))
                r[np.unique(rows), start:stop], index[np.unique(rows), start:stop] = found.r, found.index
        start = stop
    return r, index


def _nearest_two(search: Search, synthetic: Images, train: People, picture: Judgement, own: Int64) -> Matches:
    """The two training people nearest to each image, whoever was asked for; r of the joint image over all pixels."""
    if (own != NOBODY).any():
        return search.primary(synthetic, train.images, k=2, distinct=train.person)
    place = picture.family.columns.index((list(picture.family.views)[-1], "pearson"))
    return Matches(picture.train.index[:, place, :2], picture.train.r[:, place, :2])


def _without_null(judgement: Judgement, null: Any, missing: float) -> Any:
    """``(null image, column, NEAREST)`` with further columns, in which no null image was compared."""
    columns = len(judgement.family.columns)
    return np.concatenate([null, np.full((len(null), columns, NEAREST), missing, null.dtype)], axis=1)


def _compare_with_holdout(audit: Audit, search: Search) -> None:
    """Each synthetic image against as many training as held-out images, whole patients of each."""
    if audit.holdout is None:
        return
    rng = np.random.default_rng(audit.params.seed)
    size = min(len(audit.train.samples), len(audit.holdout.samples))
    own, held = (
        search.primary(audit.synthetic, Part(people.images, whole_patients(people.person, size, rng)))
        for people in (audit.train, audit.holdout)
    )
    audit.halves = (own.r[:, 0], held.r[:, 0], size)


def whole_patients(numbers: Int64, size: int, rng: np.random.Generator) -> Int64:
    """Rows of ``size`` images: whole patients in random order, the last one cut; ascending."""
    place = rng.permutation(int(numbers.max()) + 1)
    return np.sort(np.argsort(place[numbers], kind="stable")[:size])


def _measure_authenticity(audit: Audit, search: Search) -> None:
    train = audit.train
    images = np.arange(len(train.samples))
    audit.train_other = search.primary(train.images, train.images, exclude=Groups(images, images)).r[:, 0]
    exclude = Groups(train.person, train.person)
    audit.train_other_patient = search.primary(train.images, train.images, exclude=exclude).r[:, 0]


def _look_back(audit: Audit, search: Search) -> None:
    """Real images among the synthetic ones (membership), and synthetic ones among each other (near-duplicates)."""
    if audit.holdout is not None:
        audit.train_seen = search.primary(audit.train.images, audit.synthetic).r[:, 0]
        audit.holdout_seen = search.primary(audit.holdout.images, audit.synthetic).r[:, 0]
    images = np.arange(len(audit.synthetic))
    audit.neighbours = search.primary(
        audit.synthetic, audit.synthetic, k=min(NEIGHBOURS, max(1, len(images) - 1)), exclude=Groups(images, images)
    )
