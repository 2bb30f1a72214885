"""The gallery of an audit: for each view its worst pairs, with what a reader needs to judge them by eye.

Beside the synthetic image and its training match stand their difference, the best held-out match (which cannot have
been copied), and the slices before and after the match: near-duplicates of it, which correlate almost as well.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from synthkit.data.dataset import Dataset
from synthkit.data.views import View
from synthkit.errors import DataError
from synthkit.report import pictures
from synthkit.report.audit.tables import RULES, VIEWS, Pair
from synthkit.report.gather import DAMAGE, RunRecord, sentence
from synthkit.report.match_rule import MatchRule

if TYPE_CHECKING:
    from synthkit.contract import Sample, UInt8Array

#: Pairs shown of each view, and as many copies of held-out people.
N_PAIRS = 4

#: All pictures of a page together, as they stand in it; pairs beyond this are listed without.
MAXIMUM_BYTES = 6_000_000


def gallery(record: RunRecord, pairs: Sequence[Pair], budget: int, notes: list[str]) -> dict[str, Any] | None:
    """The worst pairs by view with their pictures, as many as ``budget`` bytes hold; None without pairs.

    The first pair of every view is drawn before the second of any. Images that cannot be read are noted.
    """
    if not pairs:
        return None
    views: list[dict[str, Any]] = [
        {"contrast": view, "meaning": VIEWS.get(view, ""), "cards": [_card(*item) for item in worst(own)]}
        for view, own in _by_view(pairs)
    ]
    shelves = _shelves(record, notes)
    artist = _Artist(shelves, record.job.params if record.job else {})
    used = n_pictured = 0
    for rank in range(2 * N_PAIRS):
        for card in [view["cards"][rank] for view in views if rank < len(view["cards"])]:
            if used > budget or not {"synthetic", "train"} <= set(shelves):
                continue
            try:
                card["tiles"] = artist.tiles(card["pair"])
            except DAMAGE as error:
                notes.append(f"No pictures of {card['pair'].synthetic_id}: {sentence(error)}")
                continue
            used += sum(len(tile["uri"]) for tile in card["tiles"])
            n_pictured += 1
    return {
        "views": views,
        "n": len(pairs),
        "n_pictured": n_pictured,
        "full": used > budget,
        "gain": pictures.DIFFERENCE_GAIN,
    }


def _by_view(pairs: Sequence[Pair]) -> list[tuple[str, list[Pair]]]:
    """The pairs of each view, the joint image first."""
    views = sorted(dict.fromkeys(pair.contrast for pair in pairs), key=lambda view: view != "joint")
    return [(view, [pair for pair in pairs if pair.contrast == view]) for view in views]


def worst(pairs: Sequence[Pair]) -> list[tuple[Pair, list[str]]]:
    """The worst :data:`N_PAIRS` pairs of one view: copies first, then those that stand out most; and as many others
    that are copies of held-out people.

    Each synthetic image once, under the rule that it stands out most by, with the other rules by which it is a copy.
    """
    rank = {rule: place for place, rule in enumerate(RULES)}
    ordered = sorted(pairs, key=lambda p: (not p.copy, -p.nearness, rank.get(p.rule, len(rank))))
    first: dict[str, tuple[Pair, list[str]]] = {}
    for pair in ordered:
        if pair.synthetic_id not in first:
            first[pair.synthetic_id] = (pair, [])
        elif pair.copy:
            first[pair.synthetic_id][1].append(pair.rule)
    shown = list(first.values())[:N_PAIRS]
    there = {pair.synthetic_id for pair, _ in shown}
    held = {pair.synthetic_id: pair for pair in reversed(ordered) if pair.holdout_copy}
    return [*shown, *[(pair, []) for name, pair in held.items() if name not in there][:N_PAIRS]]


def _card(pair: Pair, also: list[str]) -> dict[str, Any]:
    return {"pair": pair, "also": also, "tiles": []}


# ----------------------------------------------------------------------------------------------------- the datasets


def _shelves(record: RunRecord, notes: list[str]) -> dict[str, list[_Shelf]]:
    """The datasets of the run by role; train, train2, ... were searched together and share one."""
    shelves: dict[str, list[_Shelf]] = {}
    for role, item in (record.job.inputs if record.job else {}).items():
        if item.kind != "dataset":
            continue
        try:
            dataset = Dataset(record.run.input(role))
            part = dataset.select(*item.splits) if item.splits else dataset.training_part()
            shelves.setdefault(role.rstrip("0123456789"), []).append(_Shelf(part))
        except DAMAGE as error:
            notes.append(f"No pictures of the {role} images: {sentence(error)}")
    return shelves


class _Shelf:
    """Images of a part of a dataset, by the id of their sample."""

    def __init__(self, part: View) -> None:
        self.part = part
        self._rows = {sample.id: row for row, sample in enumerate(part.samples)}
        self._slices: dict[str | None, list[tuple[int, int]]] = {}
        for row, sample in enumerate(part.samples):
            if sample.slice is not None:
                self._slices.setdefault(sample.subject, []).append((sample.slice, row))

    def find(self, sample_id: str) -> int | None:
        return self._rows.get(sample_id)

    def sample(self, row: int) -> Sample:
        return self.part.samples[row]

    def planes(self, row: int, view: Sequence[int]) -> UInt8Array:
        """The contrasts and, last, for a view of labels the label map: ``(plane, y, x)``."""
        images, labels = self.part.read([row])
        image: UInt8Array = images[0]
        return image if view[0] < len(image) else np.concatenate([image, labels])

    def picture(self, planes: UInt8Array, view: Sequence[int]) -> str:
        """The planes of a view as a data URI; a label map beside the contrast that it is best seen on."""
        if view[0] < len(self.part.contrasts):
            return pictures.mosaic([planes[c] for c in view])
        scheme = self.part.scheme
        base = planes[scheme.base_contrast(self.part.contrasts)]
        return pictures.beside_labels(base, planes[-1], scheme.rgb(scheme.values))

    def difference(self, one: UInt8Array, other: UInt8Array, view: Sequence[int]) -> str:
        """By how much the planes of a view differ, as a data URI; of label maps, where they do."""
        n, shown = len(self.part.contrasts), list(view)
        if view[0] >= n:
            shown = [self.part.scheme.base_contrast(self.part.contrasts)]
        planes = [pictures.difference(one[c], other[c]) for c in shown]
        if view[0] >= n:
            planes.append((one[-1] != other[-1]) * np.uint8(255))
        return pictures.mosaic(planes)

    def neighbours(self, row: int) -> tuple[int | None, int | None]:
        """Rows of the nearest kept slices before and after this one, of the same subject."""
        sample = self.sample(row)
        if sample.subject is None or sample.slice is None:
            return None, None
        own = self._slices[sample.subject]
        before = max((item for item in own if item[0] < sample.slice), default=None)
        after = min((item for item in own if item[0] > sample.slice), default=None)
        return before[1] if before else None, after[1] if after else None


# ----------------------------------------------------------------------------------------------------- the pictures


class _Artist:
    """Draws pairs as tiles, each a picture with a title, a caption and r with the synthetic image."""

    def __init__(self, shelves: Mapping[str, list[_Shelf]], params: Mapping[str, Any]) -> None:
        self._shelves = shelves
        self._options: dict[str, int] = {}
        if "background" in params:
            self._options["background"] = int(params["background"])
        if "shift_px" in params and "synthetic" in shelves:
            # As the metric has it: of an image 256 pixels wide, at least one.
            share = float(params["shift_px"]) / 256
            self._options["shift_px"] = max(1, round(share * max(shelves["synthetic"][0].part.size)))

    def tiles(self, pair: Pair) -> list[dict[str, Any]]:
        source = self._shelves["synthetic"][0]
        view, rule = self._rule(pair, source.part.contrasts)
        row = source.find(pair.synthetic_id)
        if row is None:
            raise _absent(pair.synthetic_id)
        original = source.planes(row, view)
        shelf, matched = self._match(pair, rule, original)
        match = shelf.planes(matched, view)
        synthetic, change = rule.transformed(original, match)

        def tile(title: str, text: str, uri: str, r: float | None = None) -> dict[str, Any]:
            return {"title": title, "text": text, "uri": uri, "r": r}

        def of_shelf(title: str, shelf: _Shelf, row: int, r: float | None) -> dict[str, Any]:
            return tile(title, pictures.describe(shelf.sample(row)), shelf.picture(shelf.planes(row, view), view), r)

        caption, title = pictures.describe(source.sample(row)), f"Synthetic, {change}" if change else "Synthetic"
        tiles = [
            tile(title, caption, source.picture(synthetic, view)),
            of_shelf("Training match", shelf, matched, pair.r),
            tile("Difference", rule.not_drawn, source.difference(synthetic, match, view)),
        ]
        for held in self._shelves.get("holdout", ()):
            number = held.find(pair.holdout_id)
            if number is not None:
                tiles.append(of_shelf("Held-out match", held, number, pair.r_holdout))
        for title, number in zip(("Slice before", "Slice after"), shelf.neighbours(matched), strict=True):
            if number is not None:
                # Not of labels, in a common frame or of a part: what is drawn is not what was compared there.
                as_compared = view[0] < len(source.part.contrasts) and rule.is_as_drawn
                r = rule.r(synthetic, shelf.planes(number, view)) if as_compared else None
                tiles.append(of_shelf(title, shelf, number, r))
        return tiles

    def _rule(self, pair: Pair, contrasts: Sequence[str]) -> tuple[list[int], MatchRule]:
        """Positions of the view's planes, and how they were compared."""
        if pair.contrast in ("labels", "tumour"):
            view = [len(contrasts)]
            return view, MatchRule(pair.rule, view, **{**self._options, "background": 0})
        view = [contrasts.index(pair.contrast)] if pair.contrast in contrasts else list(range(len(contrasts)))
        return view, MatchRule(pair.rule, view, **self._options)

    def _match(self, pair: Pair, rule: MatchRule, synthetic: UInt8Array) -> tuple[_Shelf, int]:
        """Where the training match is; of several training sets that use its id, the one whose r is the pair's."""
        places = [(shelf, row) for shelf in self._shelves["train"] if (row := shelf.find(pair.train_id)) is not None]
        if not places:
            raise _absent(pair.train_id)

        def distance(place: tuple[_Shelf, int]) -> float:
            image = place[0].planes(place[1], rule.contrasts)
            r = rule.r(rule.transformed(synthetic, image)[0], image)
            return math.inf if r is None else abs(r - pair.r)

        return places[0] if len(places) == 1 else min(places, key=distance)


def _absent(sample_id: str) -> DataError:
    return DataError(f"The image {sample_id} is no longer in its dataset.")
