"""The power of an audit: which share of planted copies it finds, by kind and strength.

A planted copy (``planting.py``) is searched for as a synthetic image is, with its source in the training set, and
judged by the same cuts. *Recall* is the probability that a copy of a random image of a random training patient, changed
in this way, is found as a copy of that patient. As a copy of another it is no finding.

Its interval is that of Clopper and Pearson over the copies: of these training patients, whom a release is not to show.
Sources are drawn evenly from them, and the sum of independent trials of unequal probability is spread no more than that
of equal ones (Hoeffding, Ann Math Stat 27:713, 1956). So it covers 95 % or more, also where copies of some of them are
never found. It says nothing of other patients.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthkit.judging.intervals import clopper_pearson
from synthkit_memorization.power.planting import Plant
from synthkit_memorization.search.pixels import Images, Int64

#: Recall from which a kind and strength counts as found.
FOUND = 0.9

#: From images, a training patient for each whom it is not compared with (-1: nobody), and its source's: the training
#: images that they are copies of, int64 ``(image, column)``; -1 where they are none by this column. Once the source is
#: found, other columns may be left at -1.
Find = Callable[[Images, Int64, Int64], Int64]


@dataclass(frozen=True, kw_only=True)
class Recall:
    """What was found of the copies of one kind and strength.

    Attributes
    ----------
    n, n_patients : copies, and patients that they are of.
    recall : share found as copies of the source's patient; low, high : its 95 % interval.
    found : share found as copies of anybody.
    note : of the plant.
    """

    kind: str
    strength: str
    n: int
    n_patients: int
    recall: float
    low: float
    high: float
    found: float
    note: str = ""


class Together:
    """Several sets of images, one after the other."""

    def __init__(self, parts: Sequence[Images]) -> None:
        self._parts = parts
        self._starts = np.cumsum([0, *map(len, parts)])
        self.contrasts, self.size = parts[0].contrasts, parts[0].size

    def __len__(self) -> int:
        return int(self._starts[-1])

    def read(self, indices: Sequence[int] | NDArray[np.integer[Any]]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        rows = np.asarray(indices, dtype=np.int64)
        images = np.empty((len(rows), len(self.contrasts), *self.size), np.uint8)
        labels = np.empty((len(rows), *self.size), np.uint8)
        part = np.searchsorted(self._starts, rows, side="right") - 1
        for number in np.unique(part):
            here = part == number
            images[here], labels[here] = self._parts[number].read(rows[here] - self._starts[number])
        return images, labels


def measure(planted: Sequence[Plant], find: Find, *, patient: Int64) -> list[Recall]:
    """Recall of each plant, in their order. All are searched for in one call.

    Parameters
    ----------
    patient : int64 ``(training image,)``, 0, 1, ... for each patient.
    """
    if not planted:
        return []
    source = patient[np.concatenate([plant.sources for plant in planted])]
    copied = find(Together(planted), np.concatenate([plant.hidden for plant in planted]), source)
    found_again = np.any((copied >= 0) & (patient[copied] == source[:, None]), axis=1)
    records: list[Recall] = []
    start = 0
    for plant in planted:
        rows = slice(start, start := start + len(plant))
        low, high = clopper_pearson(int(found_again[rows].sum()), len(plant))
        records.append(
            Recall(
                kind=plant.kind,
                strength=plant.strength,
                n=len(plant),
                n_patients=len(np.unique(source[rows])),
                recall=float(found_again[rows].mean()),
                low=low,
                high=high,
                found=float((copied[rows] >= 0).any(axis=1).mean()),
                note=plant.note,
            )
        )
    return records


def found_sentence(records: Iterable[Recall]) -> str:
    """In one sentence, up to which strength copies of each kind are found, and what is missed.

    Found: the recall is at least FOUND. Named are the hardest strength of a kind that is found as all milder
    ones are, and the mildest that is not. Shares are rounded down, so that 100 % is all of them.
    """
    kinds: dict[str, list[Recall]] = {}
    for record in records:
        kinds.setdefault(record.kind, []).append(record)
    if not kinds:
        return "No copies were planted: what this audit would have found is unknown."
    found, missed = [], []
    for strengths in kinds.values():
        n_found = next((i for i, record in enumerate(strengths) if record.recall < FOUND), len(strengths))
        if n_found:
            found.append(_named(strengths[n_found - 1], "up to" if n_found > 1 else "of"))
        if n_found < len(strengths):
            missed.append(_named(strengths[n_found], "from" if n_found + 1 < len(strengths) else "of"))
    share = f"{100 * FOUND:.0f} %"
    if not found:
        return f"This audit would have found less than {share} of planted copies of any kind: {', '.join(missed)}."
    sentence = f"This audit would have found at least {share} of these planted copies: {', '.join(found)}"
    return f"{sentence}; it would have found fewer of: {', '.join(missed)}." if missed else f"{sentence}."


def _named(record: Recall, link: str) -> str:
    words = f"{record.kind} {link} {record.strength}" if record.strength else record.kind
    return f"{words} ({math.floor(100 * record.recall + 1e-9)} %)"
