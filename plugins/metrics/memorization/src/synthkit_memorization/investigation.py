"""All searches of an audit: what is compared with what. What is found goes into an :class:`Audit`.

| queries | among | for |
|---|---|---|
| null images: held-out, else training | training images of other patients | thresholds |
| without held-out images: the same, as smooth as the synthetic ones | the same | thresholds |
| synthetic images | held-out images, in two halves of their patients | thresholds |
| synthetic images | training images | flags |
| synthetic images | as many training images as there are held-out ones | closer_to_train |
| synthetic and null images | training images of another patient than their match's | distance ratio |
| training images | other training images, and those of other patients | authenticity |
| training and held-out images | synthetic images | membership |
| synthetic images | other synthetic images | near-duplicates |
| planted copies | training images | power |
"""

from __future__ import annotations

from typing import Any

import numpy as np

import synthkit
from synthkit.contract import Samples
from synthkit_memorization.audit import Audit, Column, Found, patients
from synthkit_memorization.blank import blank_images
from synthkit_memorization.null import smoothness
from synthkit_memorization.null.control import Control, allowed
from synthkit_memorization.null.thresholds import Null
from synthkit_memorization.numbers.closeness import BestPatients
from synthkit_memorization.power.changes import WIDTH
from synthkit_memorization.power.planting import KINDS
from synthkit_memorization.search.exact import Groups, Matches, best_matches, every_view
from synthkit_memorization.search.pixels import Images, Int64

#: Images of each side that mean spectra are taken from, and neighbours kept among the synthetic images.
SPECTRUM_SAMPLE, NEIGHBOURS = 512, 8


class Part:
    """Some rows of a dataset, as the search reads them."""

    def __init__(self, source: Images, rows: Int64) -> None:
        self._source, self._rows = source, rows
        self.contrasts, self.size = source.contrasts, source.size

    def __len__(self) -> int:
        return len(self._rows)

    def read(self, indices: Any) -> Any:
        return self._source.read(self._rows[np.asarray(indices, dtype=np.int64)])


def whole_patients(numbers: Int64, size: int, rng: np.random.Generator) -> Int64:
    """Rows of ``size`` images: whole patients in random order, the last one cut; ascending."""
    place = rng.permutation(int(numbers.max()) + 1)
    return np.sort(np.argsort(place[numbers], kind="stable")[:size])


def investigate(
    params: Any, train: Samples, synthetic: Samples, holdout: Samples | None, device: str
) -> tuple[Audit, Search]:
    """All searches of the table above but the planted copies; and what searches for those with the same settings."""
    views = every_view(train.contrasts)
    columns = tuple((view, rule) for rule in params.rules for view in views)
    train_patient = patients(train.samples)
    audit = Audit(
        params=params,
        train=train,
        synthetic=synthetic,
        holdout=holdout,
        columns=columns,
        null_source=train if holdout is None else holdout,
        null_patient=train_patient if holdout is None else patients(holdout.samples),
        train_patient=train_patient,
        blank=blank_images(synthetic, train),
        null_kind="held-out subjects"
        if holdout is not None
        else "leave-subject-out within the training set, a weaker null",
    )
    search = Search(audit, device)
    _calibrate(audit, search)
    _find_copies(audit, search)
    if not params.only_flagged:
        _compare_with_holdout(audit, search)
        _measure_ratios(audit, search)
        _measure_authenticity(audit, search)
        _look_back(audit, search)
    return audit, search


class Search:
    """Searches with the settings of an audit, and how far they are: the unit is an image in a column."""

    def __init__(self, audit: Audit, device: str) -> None:
        self._audit = audit
        self._device = device
        self._views = every_view(audit.train.contrasts)
        self._total = planned(audit)
        self._done = 0.0

    def columns(self, queries: Images, among: Images | None = None, **options: Any) -> Found:
        """Best matches of the queries in all columns, among the training images unless others are given."""
        among = self._audit.train if among is None else among
        found = self._matches(queries, among, views=self._views, rules=self._audit.params.rules, **options)
        return Found.of(found, self._audit.columns)

    def primary(self, queries: Images, among: Images, **options: Any) -> Matches:
        """Best matches in the primary column."""
        view = list(self._views)[-1]
        return self._matches(queries, among, views={view: self._views[view]}, rules=("pearson",), **options)[
            view, "pearson"
        ]

    def _matches(self, queries: Images, among: Images, **options: Any) -> dict[Column, Matches]:
        start, work = self._done, len(queries) * len(options["views"]) * len(options["rules"])
        self._done += work

        def report(share: float) -> None:
            synthkit.progress(min(round(start + share * work), self._total), self._total, unit="comparison")

        params = self._audit.params
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


def planned(audit: Audit) -> int:
    """Images times columns of all searches, the power test's included."""
    params, columns = audit.params, len(audit.columns)
    n_synthetic, n_train, n_null = len(audit.synthetic), len(audit.train), len(audit.null_source)
    searches_of_null = 2 if params.match_smoothness and audit.holdout is None else 1
    total: int = columns * (n_null * searches_of_null + n_synthetic * (1 if audit.holdout is None else 3))
    total += columns * params.plants * sum(len(kind.strengths) for kind in KINDS)
    if not params.only_flagged:
        total += 2 * n_synthetic + n_train
        if audit.holdout is not None:
            total += 4 * n_synthetic + 2 * (n_train + n_null)
    return total


def _calibrate(audit: Audit, search: Search) -> None:
    """The null and its thresholds."""
    params, source = audit.params, audit.null_source
    exclude = Groups(audit.null_patient, audit.train_patient) if audit.holdout is None else None
    plain = search.columns(source, exclude=exclude)
    audit.null_index = plain.index
    if np.isnan(plain.r).any():
        return  # an image without another patient to compare it with: no null
    audit.null_plain = audit.null = Null(plain.r, audit.null_patient)
    if params.match_smoothness and audit.holdout is None:  # else the control does it, and more
        matched = _as_smooth_as_synthetic(audit)
        if matched is not None:
            smooth = search.columns(matched, exclude=exclude)
            audit.null = Null(np.maximum(plain.r, smooth.r), audit.null_patient)
    audit.thresholds = audit.null.thresholds(params.false_flag_rate)
    if audit.holdout is not None:
        audit.control = _control(audit, audit.holdout, search)
        by_control = audit.control.thresholds(params.false_flag_rate)
        audit.thresholds = np.maximum(audit.thresholds, np.minimum(by_control, allowed(audit.thresholds)))


def _control(audit: Audit, holdout: Samples, search: Search) -> Control:
    """The synthetic images among the held-out ones, half of their patients at a time."""
    order = np.random.default_rng(audit.params.seed).permutation(int(audit.null_patient.max()) + 1)
    first = np.isin(audit.null_patient, order[: len(order) // 2])
    parts = [rows for rows in (np.flatnonzero(first), np.flatnonzero(~first)) if len(rows)]
    found = [search.columns(audit.synthetic, Part(holdout, rows)) for rows in parts]
    index = np.stack([rows[each.index] for rows, each in zip(parts, found, strict=True)])
    best = np.stack([each.r for each in found]).argmax(axis=0)
    return Control(
        halves=[each.r for each in found],
        sizes=[len(rows) for rows in parts],
        n_train=len(audit.train),
        index=np.take_along_axis(index, best[None], axis=0)[0],
        counted=~audit.blank if not audit.blank.all() else np.ones(len(audit.blank), np.bool_),
    )


def _as_smooth_as_synthetic(audit: Audit) -> Images | None:
    """The null images filtered to the mean spectrum of the synthetic ones; None if these are not smoother."""
    rng = np.random.default_rng(audit.params.seed)
    background = audit.params.background
    shown = np.flatnonzero(~audit.blank)  # blank images are smoother than any, and so would be the null
    if not len(shown):
        return None
    spectrum = [
        smoothness.spectra(images, np.sort(rng.permutation(rows)[:SPECTRUM_SAMPLE]), background)
        for images, rows in ((audit.synthetic, shown), (audit.null_source, np.arange(len(audit.null_source))))
    ]
    h = smoothness.filters(*spectrum)
    return smoothness.Matched(audit.null_source, h, background) if (h < 1).any() else None


def _find_copies(audit: Audit, search: Search) -> None:
    above = None
    if audit.params.only_flagged and audit.thresholds is not None:
        above = dict(zip(audit.columns, map(float, audit.thresholds), strict=True))
    audit.found = search.columns(audit.synthetic, above=above)


def _compare_with_holdout(audit: Audit, search: Search) -> None:
    """Each synthetic image against as many training as held-out images, whole patients of each."""
    if audit.holdout is None:
        return
    rng = np.random.default_rng(audit.params.seed)
    size = min(len(audit.train), len(audit.holdout))
    sides = []
    for data, patient in ((audit.train, audit.train_patient), (audit.holdout, audit.null_patient)):
        rows = whole_patients(patient, size, rng)
        own = np.unique(patient[rows], return_inverse=True)[1]
        best = search.primary(audit.synthetic, Part(data, rows))
        matched = own[best.index[:, 0]]
        elsewhere = search.primary(audit.synthetic, Part(data, rows), exclude=Groups(matched, own))
        sides.append(BestPatients(best.r[:, 0], matched, elsewhere.r[:, 0], int(own.max()) + 1))
    audit.halves = (sides[0], sides[1], size)


def _measure_ratios(audit: Audit, search: Search) -> None:
    """Best matches among the training patients other than the one matched best."""
    c = audit.primary
    matched = audit.train_patient[audit.found.index[:, c]]
    audit.elsewhere = search.primary(audit.synthetic, audit.train, exclude=Groups(matched, audit.train_patient)).r[:, 0]
    if audit.null is not None and audit.null_index is not None and audit.holdout is not None:
        matched = audit.train_patient[audit.null_index[:, c]]
        exclude = Groups(matched, audit.train_patient)
        audit.null_elsewhere = search.primary(audit.null_source, audit.train, exclude=exclude).r[:, 0]


def _measure_authenticity(audit: Audit, search: Search) -> None:
    images = np.arange(len(audit.train))
    audit.train_other = search.primary(audit.train, audit.train, exclude=Groups(images, images)).r[:, 0]
    if audit.holdout is None and audit.null_plain is not None:
        audit.train_other_patient = audit.null_plain.r[:, audit.primary]
    else:
        exclude = Groups(audit.train_patient, audit.train_patient)
        audit.train_other_patient = search.primary(audit.train, audit.train, exclude=exclude).r[:, 0]


def _look_back(audit: Audit, search: Search) -> None:
    """Real images among the synthetic ones (membership), and synthetic ones among each other (near-duplicates)."""
    if audit.holdout is not None:
        audit.train_seen = search.primary(audit.train, audit.synthetic).r[:, 0]
        audit.holdout_seen = search.primary(audit.holdout, audit.synthetic).r[:, 0]
    images = np.arange(len(audit.synthetic))
    audit.neighbours = search.primary(
        audit.synthetic, audit.synthetic, k=min(NEIGHBOURS, max(1, len(images) - 1)), exclude=Groups(images, images)
    )
