"""Labels of a prediction that lie where the reference has others: the sign of files that number labels in another way.

A segmenter that is wrong misses, adds and blurs; it does not find two labels well and exchange their names. So an order
of labels is exchanged where every one of them overlaps with another one's reference (Dice over 0.5 on average) and
hardly with its own (below 0.2). Every subject is judged for itself, and named where others are right.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np

from synthkit.schemes import Scheme, enumerated

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Mean Dice over exchanged labels with the reference of the others, and Dice of each with its own.
MIN_CROSSWISE, MAX_OWN = 0.5, 0.2
# None of them may overlap by chance: a part of the mean above.
_MIN_EACH = 0.25
_NAMED = 10


class Crosswise:
    """Collects, over subjects, how labels of a prediction overlap with each label of the reference.

    Labels are those of either scheme, by name; a side that does not have one never shows it.
    """

    def __init__(self, reference: Scheme, prediction: Scheme) -> None:
        self.names = list(dict.fromkeys(label.name for scheme in (reference, prediction) for label in scheme.labels))
        self._in_prediction = {label.name for label in prediction.labels}
        self._tables = [self._table(scheme) for scheme in (reference, prediction)]
        k = len(self.names) + 1
        self._total = np.zeros((k, k), dtype=np.int64)
        #: Exchanged labels, each followed by the one in whose place it lies -> subjects.
        self._seen: dict[tuple[int, ...], list[str]] = defaultdict(list)
        self._shown: list[set[int]] = []

    def _table(self, scheme: Scheme) -> NDArray[np.intp]:
        table = np.zeros(256, dtype=np.intp)
        for label in scheme.labels:
            table[label.value] = self.names.index(label.name) + 1
        return table

    def add(self, subject: str, reference: NDArray[np.uint8], prediction: NDArray[np.uint8]) -> None:
        """Count one subject: label volumes of one shape with values of their schemes."""
        k = len(self.names) + 1
        pairs = self._tables[0][reference] * k + self._tables[1][prediction]
        counts = np.bincount(pairs.ravel(), minlength=k * k).reshape(k, k)
        self._total += counts
        dice = _dice(counts)
        self._shown.append({i for i in range(1, k) if counts[i].any() and counts[:, i].any()})
        for cycle in _cycles(dice):
            self._seen[cycle].append(subject)

    def found(self) -> list[tuple[str, bool]]:
        """A sentence for each exchange of labels, and whether most subjects show it.

        Empty for predictions that are right, wrong or empty.
        """
        sentences: list[tuple[str, bool]] = []
        for cycle, subjects in self._seen.items():
            of = sum(set(cycle) <= shown for shown in self._shown)
            names = [self.names[i - 1] for i in cycle]
            pairs = [f"{a} where the reference has {b}" for a, b in zip(names, [*names[1:], names[0]], strict=True)]
            more = f" and {len(subjects) - _NAMED} more" if len(subjects) > _NAMED else ""
            who = "" if len(subjects) == of else f": {', '.join(subjects[:_NAMED])}{more}"
            sentence = f"the prediction has {enumerated(pairs)} ({len(subjects)} of {of} subjects{who})"
            sentences.append((sentence, 2 * len(subjects) > of))
        return [*sentences, *((sentence, True) for sentence in self._renamed())]

    def _renamed(self) -> list[str]:
        """A label that only the prediction uses, in the place of one that only the reference uses."""
        in_reference, in_prediction = self._total.sum(axis=1)[1:], self._total.sum(axis=0)[1:]
        dice = _dice(self._total)[1:, 1:]
        return [
            f"the prediction has {self.names[a]} where the reference has {self.names[b]}, and never {self.names[b]}"
            for a in np.flatnonzero(in_reference == 0)
            for b in np.flatnonzero(in_prediction == 0)
            if dice[b, a] > MIN_CROSSWISE and self.names[b] in self._in_prediction
        ]


def _dice(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Dice of each reference label (row) with each predicted one (column); 0 where both are empty."""
    sizes = counts.sum(axis=1)[:, None] + counts.sum(axis=0)[None, :]
    dice: NDArray[np.float64] = 2 * counts / np.maximum(sizes, 1)
    return dice


def _cycles(dice: NDArray[np.float64]) -> list[tuple[int, ...]]:
    """Labels that lie in each other's places, each followed by the one whose reference it covers."""
    k = len(dice)
    # The label of the reference that each predicted one overlaps with most, and the other way round: both must agree.
    place = {a: int(dice[1:, a].argmax()) + 1 for a in range(1, k)}
    back = {b: int(dice[b, 1:].argmax()) + 1 for b in range(1, k)}
    moved = {a: b for a, b in place.items() if a != b and back[b] == a and dice[b, a] > _MIN_EACH}
    moved = {a: b for a, b in moved.items() if dice[a, a] < MAX_OWN and dice[b, b] < MAX_OWN}
    found = []
    left = set(moved)
    while left:
        cycle = [min(left)]
        while (after := moved.get(cycle[-1])) is not None and after not in cycle:
            cycle.append(after)
        left -= set(cycle)
        closed = moved.get(cycle[-1]) == cycle[0]
        if closed and np.mean([dice[moved[a], a] for a in cycle]) > MIN_CROSSWISE:
            found.append(tuple(cycle))
    return found
