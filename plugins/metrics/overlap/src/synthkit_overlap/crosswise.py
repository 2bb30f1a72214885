"""Labels of a prediction that lie where the reference has others: the sign of files that number labels in another way.

A segmenter that is wrong misses, adds and blurs; it does not find two labels well and exchange their names. So an order
of labels is exchanged where every one of them overlaps with another one's reference (Dice over 0.5 on average) and
hardly with its own (below 0.2). Every subject is judged for itself, and named where others are right. What is no
exchange, and still lies on other labels than its name says, is told in :mod:`synthkit_overlap.numbering`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from synthkit.schemes import Scheme, enumerated
from synthkit_overlap.numbering import MAX_OWN, Numbering, overlap

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Mean Dice over exchanged labels with the reference of the others; the Dice of each with its own is at most `MAX_OWN`.
MIN_CROSSWISE = 0.5
# None of them may overlap by chance: a part of the mean above.
_MIN_EACH = 0.25
_NAMED = 10


@dataclass(frozen=True)
class Finding:
    """Labels that are not where their names say: what was found, and what to do about it."""

    what: str
    sentence: str
    remedy: str


class Crosswise:
    """Collects, over subjects, how labels of a prediction overlap with each label of the reference.

    Labels are those of either scheme, by name; a side that does not have one never shows it.
    """

    def __init__(self, reference: Scheme, prediction: Scheme) -> None:
        self.names = list(dict.fromkeys(label.name for scheme in (reference, prediction) for label in scheme.labels))
        self._numbering = Numbering(self.names, reference, prediction)
        self._in_prediction = {label.name for label in prediction.labels}
        self._tables = [self._table(scheme) for scheme in (reference, prediction)]
        #: Voxels (label of the reference, of the prediction) of each subject that has some on both sides.
        self._counts: dict[str, NDArray[np.int64]] = {}
        k = len(self.names) + 1
        self._total = np.zeros((k, k), dtype=np.int64)
        #: Exchanged labels, each followed by the one in whose place it lies -> subjects.
        self._seen: dict[tuple[int, ...], list[str]] = defaultdict(list)

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
        if counts[1:].any() and counts[:, 1:].any():
            self._counts[subject] = counts
        for cycle in _cycles(overlap(counts)):
            self._seen[cycle].append(subject)

    def found(self) -> list[Finding]:
        """What is wrong with the names of labels; empty for predictions that are right, wrong or empty."""
        crossed = {subject for subjects in self._seen.values() for subject in subjects}
        found = [self._exchange(cycle, subjects) for cycle, subjects in self._seen.items()]
        elsewhere = list(self._elsewhere(crossed))
        return [*found, *elsewhere, *(() if elsewhere else self._renamed())]

    def _exchange(self, cycle: tuple[int, ...], subjects: list[str]) -> Finding:
        shown = [c for c in self._counts.values() if all(c[i].any() and c[:, i].any() for i in cycle)]
        names = [self.names[i - 1] for i in cycle]
        pairs = [f"{a} where the reference has {b}" for a, b in zip(names, [*names[1:], names[0]], strict=True)]
        sentence = f"the prediction has {enumerated(pairs)} ({_who(subjects, len(shown))})"
        return Finding("labels overlap crosswise", sentence, self._remedy(subjects, 2 * len(subjects) > len(shown)))

    def _elsewhere(self, crossed: set[str]) -> Iterator[Finding]:
        """Labels that lie on others of the reference, in most subjects or in single ones, without being exchanged."""
        judged = {subject: counts for subject, counts in self._counts.items() if subject not in crossed}
        shown = [subject for subject, counts in judged.items() if self._numbering.wrong(counts)]
        in_most = 2 * len(shown) > len(self._counts)
        if not in_most:
            shown = [subject for subject in shown if self._numbering.is_strong(judged[subject])]
        groups: dict[tuple[tuple[int, ...], ...], list[str]] = defaultdict(list)
        if in_most and self._numbering.wrong(sum((judged[subject] for subject in shown), np.zeros_like(self._total))):
            groups[()] = shown
        else:
            for subject in shown:
                groups[tuple((*p.predicted, 0, *p.true) for p in self._numbering.wrong(judged[subject]))].append(
                    subject
                )
        for subjects in groups.values():
            counts = sum((judged[subject] for subject in subjects), np.zeros_like(self._total))
            wrong = self._numbering.wrong(counts) or self._numbering.wrong(judged[subjects[0]])
            where = [self._numbering.in_words(place) for place in wrong]
            where = [*where[:_NAMED], *([f"{len(where) - _NAMED} more"] if len(where) > _NAMED else [])]
            sentence = f"the prediction has {enumerated(where)} ({_who(subjects, len(self._counts))})"
            remedy = self._remedy(subjects, 2 * len(subjects) > len(self._counts))
            yield Finding("labels are not where their names say", sentence, remedy)

    def _remedy(self, subjects: list[str], in_most: bool) -> str:
        if not in_most:
            return "where files of these subjects number labels in another way than the rest, correct them"
        counts = sum((self._counts[subject] for subject in subjects), np.zeros_like(self._total))
        return f"if its files number labels in another way, {self._numbering.remedy(counts)}"

    def _renamed(self) -> Iterator[Finding]:
        """A label that only the prediction uses, in the place of one that only the reference uses."""
        in_reference, in_prediction = self._total.sum(axis=1)[1:], self._total.sum(axis=0)[1:]
        dice = overlap(self._total)[1:, 1:]
        for a in np.flatnonzero(in_reference == 0):
            for b in np.flatnonzero(in_prediction == 0):
                if dice[b, a] > MIN_CROSSWISE and self.names[b] in self._in_prediction:
                    one, other = self.names[a], self.names[b]
                    sentence = f"the prediction has {one} where the reference has {other}, and never {other}"
                    yield Finding("labels overlap crosswise", sentence, self._remedy([*self._counts], True))


def _who(subjects: list[str], of: int) -> str:
    """``2 of 4 subjects: a, b``."""
    more = f" and {len(subjects) - _NAMED} more" if len(subjects) > _NAMED else ""
    who = "" if len(subjects) == of else f": {', '.join(subjects[:_NAMED])}{more}"
    return f"{len(subjects)} of {of} subjects{who}"


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
