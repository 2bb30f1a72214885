"""Which samples are trained and validated on: never the same patient on both sides."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="torch is not installed")

from synthkit_segmentation.feeding import order_of  # noqa: E402
from synthkit_segmentation.selection import split, split_samples  # noqa: E402
from synthkit_segmentation.testing import Toy, ToyParams  # noqa: E402

from synthkit.contract import Sample  # noqa: E402
from synthkit.data.views import Joined  # noqa: E402
from synthkit.errors import DataError  # noqa: E402


@settings(max_examples=60, deadline=None)
@given(
    subjects=st.lists(st.one_of(st.none(), st.sampled_from([f"s{i}" for i in range(9)])), max_size=60),
    fraction=st.floats(0, 0.9),
    seed=st.integers(0, 1000),
)
def test_split_is_disjoint_by_subject(subjects: list[str | None], fraction: float, seed: int) -> None:
    rows = [Sample(str(i), "train" if s else "synthetic", s, i, None, "") for i, s in enumerate(subjects)]
    training, validation = split_samples(rows, fraction, seed)
    assert sorted(training + validation) == list(range(len(rows)))
    real = {s for s in subjects if s}
    assert not {subjects[i] for i in training} & {subjects[i] for i in validation} & real
    n_synthetic = subjects.count(None)
    for units, kept in (
        (len(real), len({subjects[i] for i in validation} & real)),
        (n_synthetic, sum(subjects[i] is None for i in validation)),
    ):
        if fraction == 0 or units < 2:
            assert kept == 0
        else:
            assert 1 <= kept < units
            assert kept == pytest.approx(units * fraction, abs=1)


def test_scans_of_a_patient_are_on_one_side() -> None:
    names = [f"BraTS-GLI-{patient:05d}-{scan}" for patient in range(6) for scan in (100, 101, 102)]
    rows = [Sample(name, "train", name, 0, None, "") for name in names]
    for seed in range(20):
        training, validation = split_samples(rows, 0.34, seed)
        assert len(validation) == 6
        assert not {names[i][:15] for i in training} & {names[i][:15] for i in validation}


def test_patients_that_the_dataset_names_are_on_one_side() -> None:
    rows = [Sample(str(i), "train", f"x{i}", 0, None, "", patient=f"p{i % 3}") for i in range(12)]
    for seed in range(20):
        _, validation = split_samples(rows, 0.34, seed)
        assert len(validation) == 4 and len({i % 3 for i in validation}) == 1


def test_every_arm_validates_on_the_same_patients() -> None:
    real, synthetic = Toy(20, n_subjects=10), Toy(30, seed=1)
    params = ToyParams(validation_fraction=0.3, seed=5)
    alone = {real.samples[row].subject for row in split(real, None, params)[1]}
    assert len(alone) == 3
    for data, n_rows in ((real, 14), (synthetic, 30), (Joined([synthetic, real]), 44)):
        rows, held_out = split(data, real, params)
        assert {real.samples[row].subject for row in held_out} == alone
        assert len(rows) == n_rows
        assert not {data.samples[row].subject for row in rows} & alone


def test_data_to_validate_on_have_to_fit() -> None:
    synthetic, real = Toy(6), Toy(8, n_subjects=4)
    real.contrasts = ("t1", "t2", "flair")
    with pytest.raises(DataError, match="contrasts differ"):
        split(synthetic, real, ToyParams())
    with pytest.raises(DataError, match="two patients"):
        split(synthetic, Toy(8, n_subjects=1), ToyParams())


def test_holdout_samples_are_refused() -> None:
    data = Toy(4, n_subjects=2)
    data.samples = [dataclasses.replace(row, split="holdout") for row in data.samples]
    with pytest.raises(DataError, match="holdout"):
        split(data, None, ToyParams())


def test_order_shows_every_row_once_an_epoch() -> None:
    rows = [3, 5, 8, 13, 21]
    order = order_of(rows, 0, 0, 20)
    for epoch in range(4):
        assert sorted(order[5 * epoch : 5 * epoch + 5]) == rows
    assert order[:5] != order[5:10]
    assert order[3:17] == order_of(rows, 0, 3, 17)
