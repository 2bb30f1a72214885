"""Floors are those of an ideal generator, whatever the number of synthetic images; no network is needed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from synthkit_fidelity import floors, frechet, kernel
from synthkit_fidelity.floors import Floor, Influences, make_floor
from synthkit_fidelity.sets import FeatureSet, Indices

from synthkit.judging.spreads import spread_interval

D = 8


def people(rng: np.random.Generator, n: int, slices: int, alike: float = 0.5) -> FeatureSet:
    own = np.repeat(rng.normal(size=(n, D)), slices, axis=0) * alike**0.5
    values = 1 + own + rng.normal(size=(n * slices, D)) * (1 - alike) ** 0.5
    return FeatureSet(values.astype(np.float32), np.arange(n * slices) // slices)


def singles(values: NDArray[np.floating]) -> FeatureSet:
    return FeatureSet(values.astype(np.float32), np.arange(len(values)))


def by_frechet(base: FeatureSet):  # type: ignore[no-untyped-def]
    gaussian = frechet.gaussian_of(base.values)

    def against(images: FeatureSet) -> Influences:
        return {"fd": frechet.with_influence(gaussian, images.values)}

    return against


def made(real: Indices, holdout: Indices | None = None, n_synthetic: int = 500) -> Floor:
    floor = make_floor(real, holdout, n_synthetic, seed=3)
    assert isinstance(floor, Floor), floor
    return floor


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=10, max_size=30), st.integers(0, 99))
def test_nobody_is_on_both_sides_or_twice_in_a_draw(slices: list[int], seed: int) -> None:
    group = np.repeat(np.arange(len(slices)), slices)
    floor = make_floor(group, None, 40, seed)
    if isinstance(floor, str):
        assert "most of the images" in floor
        return
    assert len(floor.sides) == 2
    for side in floor.sides:
        for drawn in side.draws:
            assert len(set(group[drawn])) == len(drawn) == floor.size
            assert not set(group[drawn]) & set(group[side.base])
    assert {i for side in floor.sides for i in side.base} == set(range(len(group)))
    used = np.concatenate([*floor.blocks, np.empty(0, int)])
    assert len(set(used)) == len(used) <= 40 and all(len(block) == floor.size for block in floor.blocks)


def test_every_image_is_drawn_as_often() -> None:
    group = np.repeat(np.arange(5), [1, 2, 4, 4, 3])
    rng = np.random.default_rng(0)
    drawn = np.concatenate([floors._one_each(group, 3, rng) for _ in range(3000)])
    assert np.bincount(drawn, minlength=14) / 3000 == pytest.approx(np.full(14, 3 / 14), abs=0.035)


def test_people_and_sizes_do_not_depend_on_the_number_of_synthetic_images() -> None:
    group = np.arange(200) // 10
    few, many = made(group, n_synthetic=4), made(group, n_synthetic=5000)
    for one, other in zip(few.sides, many.sides, strict=True):
        assert np.array_equal(np.stack(one.draws), np.stack(other.draws)) and np.array_equal(one.base, other.base)
    assert few.size == many.size == 10 and not few.blocks and "at least as many" in few.too_few
    assert len(many.blocks) == floors.MOST_BLOCKS


def test_held_out_people_make_the_floor_where_they_are_at_least_half_as_many() -> None:
    real = np.arange(60) // 5
    floor = made(real, np.arange(60) // 10)
    assert floor.from_holdout and len(floor.sides) == 1 and floor.size == 6 and floor.n_patients == 12
    assert np.array_equal(floor.sides[0].base, np.arange(60))
    assert not made(real, np.arange(20) // 10).from_holdout


def test_what_is_missing_for_a_floor_is_named() -> None:
    assert "needs the images of 10 patients, there are 9" in str(make_floor(np.arange(9), None, 99, 0))
    assert "there are 4 and 2 held out" in str(make_floor(np.arange(4), np.arange(2), 99, 0))
    assert "half as many held-out" in str(make_floor(np.arange(8), np.arange(3), 99, 0))
    assert "one patient has most" in str(make_floor(np.repeat(np.arange(10), [99, *[1] * 9]), None, 99, 0))


def test_an_ideal_generator_is_within_the_floors_and_a_shifted_one_above() -> None:
    within, above, n = np.zeros(2), np.zeros(2), 20
    for seed in range(n):
        rng = np.random.default_rng(seed)
        real, fresh = people(rng, 40, 6), people(rng, 60, 1).values
        floor = made(real.group, n_synthetic=60)
        for images, counted, expected in ((fresh, within, "within"), (fresh + 0.6, above, "above")):
            synthetic = singles(images)
            found = floors.compare(floor, real, real, synthetic, by_frechet)["fd"]
            counted[0] += (
                found.relation(*(spread_interval(found.floor, *found.floor_spreads) or (None, None)))
                == f"{expected} the floor"
            )
            value, (_, low, high) = kernel.kernel_distance(real, synthetic).all_pairs.value, kernel.ideal(real, 60, 0)
            counted[1] += floors.where(value, low, high) == f"{expected} the floor"
    assert (within >= 0.85 * n).all() and (above >= 0.9 * n).all(), (within, above)


def test_the_mean_of_the_kernel_floor_is_what_pairs_of_one_patient_add(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    real, synthetic = people(rng, 12, 5), singles(rng.normal(1, 1, (30, D)))
    found = kernel.kernel_distance(real, synthetic)
    assert found.between_patients is not None
    value, low, high = kernel.ideal(real, 30, 0)
    assert found.all_pairs.value - value == pytest.approx(found.between_patients.value)
    assert kernel.ideal(real, 5000, 0)[0] == value and low < value < high
    monkeypatch.setattr(kernel, "BLOCK", 7)
    assert kernel.ideal(real, 30, 0) == pytest.approx((value, low, high))
    alone = singles(real.values)
    assert kernel.ideal(alone, 30, 0)[0] == pytest.approx(0.0, abs=1e-12)
