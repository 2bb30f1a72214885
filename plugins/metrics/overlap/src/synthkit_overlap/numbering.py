"""Where labels of a prediction lie, whatever they are called, and how its values would have to be read.

Files that number labels in another way agree with the reference as a whole and in no part; a mask of one label has the
value of another. Labels of both sides that mostly lie in one another are put together: one with one other where values
are permuted, one with several where the prediction has fewer labels (core and oedema), several with one where it has
more. A segmenter that confuses labels gives groups with several on both sides, or agrees with its names as well.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse.csgraph import connected_components

from synthkit.data.named_schemes import SCHEMES
from synthkit.schemes import Scheme, enumerated

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Dice from which labels lie on others, that of everything labelled from which it is one thing that both sides label,
#: and how much more that is than the Dice of a label with the one of its name.
FITS, MORE = 0.8, 0.4
#: Most of that where a label lies on others alone.
MAX_OWN = 0.2
# Fewer voxels say nothing. Labels of less than this share of all are strays, of less than that no part worth the name.
_FEWEST, _STRAY, _MAIN = 20, 0.01, 0.1


@dataclass(frozen=True)
class Place:
    """Labels of a prediction and those of the reference on which they lie together, by their indices in the counts.

    Attributes
    ----------
    dice : of both.
    own : highest Dice of one of the predicted labels with the one of its name.
    """

    predicted: tuple[int, ...]
    true: tuple[int, ...]
    dice: float
    own: float

    @property
    def is_elsewhere(self) -> bool:
        """It lies on others, and not on those of its names."""
        return not set(self.predicted) & set(self.true) and self.dice >= FITS and self.own <= MAX_OWN

    @property
    def is_more(self) -> bool:
        """One label lies on several together, of which its own is a small part."""
        is_merged = len(self.predicted) == 1 < len(self.true) and self.predicted[0] in self.true
        return is_merged and self.dice >= FITS and self.own <= self.dice - MORE


def overlap(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Dice of each reference label (row) with each predicted one (column); 0 where both are empty."""
    sizes = counts.sum(axis=1)[:, None] + counts.sum(axis=0)[None, :]
    dice: NDArray[np.float64] = 2 * counts / np.maximum(sizes, 1)
    return dice


def places(counts: NDArray[np.int64]) -> list[Place]:
    """Groups of labels that mostly lie in one another.

    Parameters
    ----------
    counts : voxels (label of the reference, label of the prediction), both in one order, background first.
    """
    k = len(counts) - 1
    n_true, n_found = counts.sum(axis=1)[1:], counts.sum(axis=0)[1:]
    inside, dice = counts[1:, 1:], overlap(counts)
    linked = (2 * inside > n_true[:, None]) | (2 * inside > n_found[None, :])
    linked[:, n_found < max(1.0, _STRAY * n_found.sum())] = False
    linked[n_true < max(1.0, _STRAY * n_true.sum())] = False
    graph = np.zeros((2 * k, 2 * k), dtype=bool)
    graph[:k, k:] = linked
    _, group = connected_components(graph, directed=False)
    found = []
    for number in np.unique(group):
        true = tuple(int(i) + 1 for i in np.flatnonzero(group[:k] == number))
        predicted = tuple(int(i) + 1 for i in np.flatnonzero(group[k:] == number))
        if not true or not predicted or (len(true) > 1 and len(predicted) > 1):
            continue
        size = int(n_true[np.array(true) - 1].sum() + n_found[np.array(predicted) - 1].sum())
        if size >= 2 * _FEWEST:
            both = int(counts[np.ix_(true, predicted)].sum())
            found.append(Place(predicted, true, 2 * both / size, max(float(dice[p, p]) for p in predicted)))
    return found


class Numbering:
    """The labels of two schemes by name, as the counts of their voxels have them: ``names[i - 1]`` is index ``i``."""

    def __init__(self, names: Sequence[str], reference: Scheme, prediction: Scheme) -> None:
        self._names, self._reference, self._prediction = list(names), reference, prediction
        self._true_names = {label.name for label in reference.labels}
        self._values = {label.name: label.value for label in prediction.labels}

    def wrong(self, counts: NDArray[np.int64]) -> list[Place]:
        """Places of labels that are not where their names say, in a subject or in several together.

        Empty where the two sides do not agree in what is labelled, unless the prediction has one label only, beside
        several of the reference.
        """
        n_true, n_found = counts.sum(axis=1), counts.sum(axis=0)
        if self._has_one(counts):
            if np.count_nonzero(n_true[1:] >= _MAIN * n_true[1:].sum()) < 2:
                return []
        elif 2 * counts[1:, 1:].sum() < FITS * (n_true[1:].sum() + n_found[1:].sum()):
            return []
        return [p for p in places(counts) if (p.is_elsewhere or p.is_more) and self._is_comparable(p)]

    def is_strong(self, counts: NDArray[np.int64]) -> bool:
        """Whether one subject among others that are right is told by this: two labels, or a mask, are wrong there.

        One label may be taken for another throughout a tumour, as oedema for tumour that does not enhance.
        """
        wrong = self.wrong(counts)
        if self._has_one(counts):
            return any(place.is_elsewhere or self._values_of(place) == [1] for place in wrong)
        return len(wrong) > 1

    def in_words(self, place: Place) -> str:
        """``ED where the reference has NCR and ET together (Dice 0.98, with ED 0.00)``."""
        predicted, true = ([self._names[i - 1] for i in group] for group in (place.predicted, place.true))
        together = " together" if len(true) > 1 else ""
        own = f", with {enumerated(predicted)} {place.own:.2f}" if len(predicted) == 1 else ""
        return (
            f"{enumerated(predicted)} where the reference has {enumerated(true)}{together} (Dice {place.dice:.2f}{own})"
        )

    def remedy(self, counts: NDArray[np.int64]) -> str:
        """What to give as ``--prediction-labels``, by where all labels lie: a known scheme, else a file."""
        found = [place for place in places(counts) if place.dice >= FITS / 2]
        present = {self._values.get(self._names[i - 1], 0) for i in np.flatnonzero(counts.sum(axis=0)[1:]) + 1}
        if known := self._known(found, present):
            return f"name their scheme with --prediction-labels {' or '.join(known)}"
        if not found:
            return "name their scheme with --prediction-labels"
        lines = ", ".join(f"`{line}`" for line in self._file(found, present))
        return f"write a TOML file of the lines {lines} and give --prediction-labels FILE.toml"

    def _has_one(self, counts: NDArray[np.int64]) -> bool:
        n_found = counts.sum(axis=0)[1:]
        return bool(np.count_nonzero(n_found >= max(1.0, _STRAY * n_found.sum())) == 1)

    def _is_comparable(self, place: Place) -> bool:
        """Whether both schemes have one of the names: else the two call one thing by two."""
        predicted, true = ({self._names[i - 1] for i in group} for group in (place.predicted, place.true))
        return bool(predicted & self._true_names or true & set(self._values))

    def _values_of(self, place: Place) -> list[int]:
        return [self._values[self._names[i - 1]] for i in place.predicted]

    # ------------------------------------------------------------------------------------------------- what would fit

    def _known(self, found: Sequence[Place], present: set[int]) -> list[str]:
        """Known schemes that read the values as what they lie on: those of one meaning that explain most labels."""
        best: dict[tuple[int, int], dict[tuple[tuple[str, int], ...], list[str]]] = {}
        for scheme in SCHEMES.values():
            # A mask is no file of a scheme of several labels, even where one of these has its value.
            fits = present <= set(scheme.values) and (len(present) > 1 or len(scheme.labels) == 1)
            if fits and (n := self._n_explained(found, scheme)):
                alike = best.setdefault((-n, len(scheme.labels)), {})
                alike.setdefault(tuple(sorted(scheme.label_values.items())), []).append(scheme.name)
        if not best:
            return []
        first = best[min(best)]
        return next(iter(first.values())) if len(first) == 1 else []

    def _n_explained(self, found: Sequence[Place], scheme: Scheme) -> int:
        """Labels of the reference that a scheme has where they lie; 0 where it has one elsewhere."""
        names = scheme.label_names
        regions = {region.name: set(region.labels) for region in self._reference.nested}
        n = 0
        for place in found:
            true = {self._names[i - 1] for i in place.true}
            said = {names[value] for value in self._values_of(place)}
            if len(said) == 1 and regions.get(min(said)) == true:
                n += len(true)
            elif said & self._true_names != true & set(scheme.label_values):
                return 0
            else:
                n += len(said & self._true_names)
        return n

    def _file(self, found: Sequence[Place], present: set[int]) -> Iterator[str]:
        """Lines of a scheme whose labels are called as what they lie on, with the regions that these make up."""
        nested = {frozenset(region.labels): region.name for region in self._reference.nested}
        labels: dict[str, int] = {}
        regions: dict[str, list[str]] = {}
        parts: dict[frozenset[str], list[str]] = {}
        for place in found:
            true, values = [self._names[i - 1] for i in place.true], self._values_of(place)
            name = true[0] if len(true) == 1 else nested.get(frozenset(true), "_".join(true))
            name = name if len(name) <= 28 else f"part{values[0]}"
            names = [name] if len(values) == 1 else [f"{name}_{value}" for value in values]
            labels |= dict(zip(names, values, strict=True))
            regions |= {name: names} if len(names) > 1 else {}
            parts[frozenset(true)] = names
        labels |= {f"other{value}": value for value in sorted(present - set(labels.values()))}
        for whole, name in nested.items():
            inside = [part for part in parts if part <= whole]
            if name not in labels and inside and frozenset().union(*inside) == whole:
                regions[name] = [label for part in inside for label in parts[part]]
        yield "[labels]"
        yield from (f"{_key(name)} = {value}" for name, value in sorted(labels.items(), key=lambda item: item[1]))
        if regions:
            yield "[regions]"
            yield from (f"{_key(name)} = {json.dumps(names)}" for name, names in regions.items())


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name)
