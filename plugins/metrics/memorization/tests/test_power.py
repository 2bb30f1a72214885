"""Recall is what counting by hand gives, and a real search finds what it should and misses the hopeless."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from synthkit_memorization import Params
from synthkit_memorization.investigation import investigate
from synthkit_memorization.power.planting import Plant, plants
from synthkit_memorization.power.recall import Recall, Together, found_sentence, measure

from synthkit.judging.intervals import clopper_pearson
from synthkit.testing import InMemorySamples


class Noise(InMemorySamples):
    """White noise in a head that all share: patients by their slices, nothing else in common."""

    def __init__(self, patients: range, n_slices: int) -> None:
        y, x = np.mgrid[:32, :32] / 32 - 0.5
        head = np.hypot(y, x) < 0.4
        names = np.repeat(list(patients), n_slices)
        rng = np.random.default_rng(patients.start)
        images = np.where(head, rng.normal(120, 30, (len(names), 2, 32, 32)).clip(1, 255), 0).astype(np.uint8)
        labels = np.broadcast_to(4 * (np.hypot(y - 0.1, x) < 0.1), (len(names), 32, 32)).astype(np.uint8)
        super().__init__(images, labels, subjects=[f"p{name}" for name in names])
        self.patient = np.unique(names, return_inverse=True)[1].astype(np.int64)


@pytest.fixture(scope="module")
def train() -> Noise:
    return Noise(range(8), 3)


@pytest.fixture(scope="module")
def two(train: Noise) -> list[Plant]:
    """Exact copies and the mildest noise, of four patients each."""
    return plants(train, train.patient, 4, 0)[:2]


def test_counted_by_hand(train: Noise, two: list[Plant]) -> None:
    """First plant: 3 of 4 are copies of somebody, 2 of them of the right patient; second: none."""
    own, other = two[0].sources, (two[0].sources + 3) % 24
    copied = np.full((8, 2), -1)
    copied[0] = own[0], -1
    copied[1] = own[1], other[1]  # by both columns, once rightly
    copied[2] = -1, other[2]  # of the wrong patient alone

    seen: list[Any] = []

    def find(images: Any, hidden: Any, source: Any) -> Any:
        seen.append((len(images), hidden.tolist()))
        return copied

    first, second = measure(two, find, patient=train.patient)
    assert seen == [(8, [-1] * 8)]
    assert (first.kind, first.strength, first.n, first.n_patients) == ("exact", "", 4, 4)
    assert (first.found, first.recall) == (0.75, 0.5)
    assert (first.low, first.high) == clopper_pearson(2, 4)
    assert (second.kind, second.found, second.recall) == ("noise", 0.0, 0.0)


def test_one_search_reads_all_copies_in_order(two: list[Plant]) -> None:
    together = Together(two)
    rows = [7, 0, 4, 3, 3]
    expected = [two[row // 4].read([row % 4])[0][0] for row in rows]
    assert len(together) == 8
    assert np.array_equal(together.read(rows)[0], np.stack(expected))


def test_no_copies_no_search() -> None:
    assert measure([], None, patient=np.arange(1)) == []  # type: ignore[arg-type]


def test_the_interval_covers_these_patients_also_where_some_are_never_found() -> None:
    """Ten patients, of whom the copies of three are never found and those of the others in 9 of 10 cases."""
    rng, found = np.random.default_rng(0), np.repeat([0.0] * 3 + [0.9] * 7, 6)
    ends = [clopper_pearson(int((rng.random(60) < found).sum()), 60) for _ in range(300)]
    assert np.mean([low <= 0.63 <= high for low, high in ends]) >= 0.95


def test_found_and_missed_end_to_end(train: Noise) -> None:
    """White noise is like nothing but itself in place: changed grey levels are found, moved pixels are not."""
    held, fresh = Noise(range(100, 120), 6), Noise(range(200, 210), 3)
    params = Params(families=("picture",), rules=("pearson",))
    audit, search = investigate(params, train, fresh, held, None, "cpu")

    def find(images: Any, hidden: Any, source: Any) -> Any:
        return search.copied(audit.judgements[0], "pearson", images, hidden)

    records = measure(plants(train, train.patient, 24, 0), find, patient=train.patient)
    found = {(record.kind, record.strength): record for record in records}
    for name in (("exact", ""), ("noise", "sd 5"), ("intensity", "gamma 1.2"), ("blend", "90 %")):
        assert (found[name].recall, found[name].found) == (1.0, 1.0), name
    for name in (("rotation", "20 degrees"), ("shift", "16 px")):
        assert found[name].recall < 0.2, name
    assert found["recombination", "1 of 2 contrasts"].recall == 1.0
    assert "of 1 of 2 contrasts" in found_sentence(records)


def record(kind: str, strength: str, recall: float) -> Recall:
    return Recall(kind=kind, strength=strength, n=200, n_patients=200, recall=recall, low=0, high=1, found=1.0)


def test_the_sentence_names_the_hardest_found_and_the_mildest_missed() -> None:
    records = [
        record("exact", "", 1.0),
        record("noise", "sd 5", 1.0),
        record("noise", "sd 10", 0.995),
        record("noise", "sd 20", 0.4),
        record("noise", "sd 40", 0.95),
        record("shift", "1 px", 0.9),
        record("shift", "2 px", 0.0),
        record("lesion", "margin 5 px", 0.1),
    ]
    assert found_sentence(records) == (
        "This audit would have found at least 90 % of these planted copies: exact (100 %), noise up to sd 10 (99 %), "
        "shift of 1 px (90 %); it would have found fewer of: noise from sd 20 (40 %), shift of 2 px (0 %), "
        "lesion of margin 5 px (10 %)."
    )
    assert found_sentence(records[:1]).endswith("copies: exact (100 %).")
    assert found_sentence(records[-1:]).startswith(
        "This audit would have found less than 90 % of planted copies of any"
    )
    assert "unknown" in found_sentence([])
