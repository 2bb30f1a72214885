"""Planted copies are what they are called, and each is the same whenever and with whatever else it is read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage
from synthkit_memorization.power.changes import (
    Change,
    Picture,
    blend,
    brain_negative,
    crop,
    flip,
    labels_only,
    lesion,
    negative,
    quarter_turn,
    recombination,
    scaling,
    shift,
    upside_down,
)
from synthkit_memorization.power.planting import KINDS, Plant, plants

from synthkit.contract import Samples
from synthkit.testing import InMemorySamples


class Heads(InMemorySamples):
    """Smooth random heads: one pattern a patient, a little of each slice. ``patient`` numbers the patient of each."""

    def __init__(
        self, n_patients: int, n_slices: int, size: int = 48, contrasts: int = 2, tumours: bool = True
    ) -> None:
        rng = np.random.default_rng(size)
        y, x = np.mgrid[:size, :size] / size - 0.5
        self.patient = np.repeat(np.arange(n_patients), n_slices)
        images = np.zeros((len(self.patient), contrasts, size, size), np.uint8)
        labels = np.zeros((len(self.patient), size, size), np.uint8)
        for i, number in enumerate(self.patient):
            own = np.random.default_rng(number)
            head = (x / own.uniform(0.33, 0.4)) ** 2 + (y / own.uniform(0.38, 0.45)) ** 2 < 1
            cy, cx = own.uniform(-0.15, 0.15, 2)
            tumour = head & (np.hypot(y - cy, x - cx) < 0.1) & tumours
            pattern = own.normal(size=(contrasts, size, size)) + 0.3 * rng.normal(size=(contrasts, size, size))
            smooth = np.stack([ndimage.gaussian_filter(part, size / 24) for part in pattern])
            levels = 110 + 30 * smooth / smooth.std() + 60 * tumour
            images[i] = np.where(head, np.clip(levels, 1, 255), 0)
            labels[i] = 4 * tumour
        super().__init__(images, labels, subjects=[f"p{number}" for number in self.patient])


@pytest.fixture(scope="module")
def heads() -> Heads:
    return Heads(4, 3)


@pytest.fixture(scope="module")
def planted(heads: Heads) -> list[Plant]:
    return plants(heads, heads.patient, 6, seed=1)


def of_kind(planted: Sequence[Plant], kind: str) -> list[Plant]:
    return [plant for plant in planted if plant.kind == kind]


def images(plant: Plant) -> NDArray[np.float64]:
    return plant.read(range(len(plant)))[0].astype(np.float64)


def picture(heads: Heads, row: int) -> Picture:
    return Picture(heads.images[row], heads.labels[row])


def changed(change: Change, amount: float, source: Picture, second: Picture) -> Picture:
    return change(np.random.default_rng(0), amount, source, second)


def pearson(x: NDArray[Any], y: NDArray[Any]) -> float:
    return float(np.corrcoef(x.ravel(), y.ravel())[0, 1])


# ------------------------------------------------------------------------------------------------ known answers


def test_exact_copies_are_equal_to_their_sources(heads: Heads, planted: list[Plant]) -> None:
    (exact,) = of_kind(planted, "exact")
    pixels, labels = exact.read(range(len(exact)))
    assert np.array_equal(pixels, heads.images[exact.sources])
    assert np.array_equal(labels, heads.labels[exact.sources])


def test_flipped_twice_is_the_image(heads: Heads) -> None:
    source = picture(heads, 1)
    once = changed(flip, 0, source, source)
    twice = changed(flip, 0, once, once)
    assert not np.array_equal(once.pixels, source.pixels)
    assert np.array_equal(twice.pixels, source.pixels) and np.array_equal(twice.labels, source.labels)


def test_what_is_turned_back_is_the_image(heads: Heads) -> None:
    source = picture(heads, 1)
    for change, times in ((upside_down, 2), (quarter_turn, 4), (negative, 2), (brain_negative, 2)):
        made = source
        for done in range(times):
            made = changed(change, 0, made, made)
            assert done == times - 1 or not np.array_equal(made.pixels, source.pixels), change
        inside = source.pixels < 255  # 255 becomes background, which the brain alone leaves as it is
        assert np.array_equal(made.pixels[inside], source.pixels[inside]), change
        assert np.array_equal(made.labels, source.labels), change


@pytest.mark.parametrize("size", [(20, 30), (31, 20), (9, 9)])
def test_images_that_are_not_square_keep_their_size_when_turned(size: tuple[int, int]) -> None:
    pixels = np.arange(1, 1 + size[0] * size[1], dtype=np.uint8).reshape(1, *size)
    turned = Picture(pixels, pixels[0]).turned(1)
    assert turned.pixels.shape == pixels.shape and np.array_equal(turned.pixels[0], turned.labels)
    shown = min(size)
    assert np.count_nonzero(turned.pixels.any(axis=0).any(axis=0)) == shown


def test_scaled_and_cropped_copies_are_smaller_and_larger(heads: Heads) -> None:
    source = picture(heads, 1)
    area = source.brain.sum()
    assert changed(scaling, 80, source, source).brain.sum() == pytest.approx(0.64 * area, rel=0.05)
    assert changed(scaling, 100, source, source).pixels.tolist() == source.pixels.tolist()
    assert changed(crop, 100, source, source).pixels.tolist() == source.pixels.tolist()
    ball = np.hypot(*(np.mgrid[:48, :48] - 23.5)) < 6
    small = Picture(200 * ball[None].astype(np.uint8), 4 * ball.astype(np.uint8))
    enlarged = changed(crop, 80, small, small)
    assert enlarged.brain.sum() == pytest.approx(ball.sum() / 0.64, rel=0.1)
    assert np.array_equal(enlarged.labels > 0, enlarged.brain)


def test_labels_alone_lie_over_the_pixels_of_the_second(heads: Heads) -> None:
    source, second = picture(heads, 0), picture(heads, 11)
    made = changed(labels_only, 0, source, second)
    assert np.array_equal(made.pixels, second.pixels) and np.array_equal(made.labels, source.labels)


@given(amount=st.integers(1, 5))
def test_a_shift_moves_whole_pixels(amount: int) -> None:
    pixels, labels = np.zeros((1, 16, 16), np.uint8), np.zeros((16, 16), np.uint8)
    pixels[0, 8, 8], labels[8, 8] = 200, 4
    source = Picture(pixels, labels)
    moved = changed(shift, amount, source, source)
    (y,), (x,) = np.nonzero(moved.pixels[0])
    assert {abs(int(y) - 8), abs(int(x) - 8)} <= {0, amount} and (y, x) != (8, 8)
    assert moved.pixels[0, y, x] == 200 and moved.labels[y, x] == 4


def test_a_blend_is_the_weighted_mean(heads: Heads) -> None:
    source, second = picture(heads, 0), picture(heads, 11)
    assert np.array_equal(changed(blend, 100, source, second).pixels, source.pixels)
    mixed = changed(blend, 70, source, second).pixels
    expected = 0.7 * source.pixels.astype(np.float64) + 0.3 * second.pixels.astype(np.float64)
    assert np.abs(mixed - expected).max() <= 0.5 + 1e-6


def test_a_recombination_holds_contrasts_of_both(heads: Heads) -> None:
    source, second = picture(heads, 0), picture(heads, 11)
    pixels = changed(recombination, 1, source, second).pixels
    copied = [c for c in range(2) if np.array_equal(pixels[c], source.pixels[c])]
    others = [c for c in range(2) if np.array_equal(pixels[c], second.pixels[c])]
    assert sorted(copied + others) == [0, 1] and len(copied) == 1


def test_a_lesion_is_pasted_at_the_level_of_the_host_and_nothing_else_changes(heads: Heads) -> None:
    source, host = picture(heads, 0), picture(heads, 11)
    pasted = changed(lesion, 0, source, host)
    far = ndimage.distance_transform_edt(~source.tumour) > 2
    both = source.tumour & host.brain
    assert np.array_equal(pasted.pixels[:, far], host.pixels[:, far])
    assert np.array_equal(pasted.labels[both], source.labels[both])
    for c in range(2):
        assert pearson(pasted.pixels[c][both], source.pixels[c][both]) > 0.99  # levels alone differ
    # A source whose contrasts are half as bright gives (nearly) the same lesion.
    dark = Picture(source.pixels // 2, source.labels)
    assert np.abs(changed(lesion, 0, dark, host).pixels.astype(int) - pasted.pixels).max() <= 3


def test_intensity_is_an_increasing_curve_of_each_contrast(heads: Heads, planted: list[Plant]) -> None:
    for plant in of_kind(planted, "intensity"):
        for image, source in zip(images(plant), heads.images[plant.sources], strict=True):
            for contrast, original in zip(image, source, strict=True):
                order = np.argsort(original, axis=None, kind="stable")
                assert (np.diff(contrast.ravel()[order]) >= 0).all()


def test_noise_has_its_standard_deviation(heads: Heads, planted: list[Plant]) -> None:
    plant = of_kind(planted, "noise")[0]
    source = heads.images[plant.sources].astype(np.float64)
    inside = (source > 40) & (source < 215)  # what is not clipped
    assert (images(plant) - source)[inside].std() == pytest.approx(5, rel=0.05)


# ---------------------------------------------------------------------------------------------- all kinds alike


def test_every_kind_is_planted_from_mild_to_hard(planted: list[Plant]) -> None:
    assert list(dict.fromkeys(plant.kind for plant in planted)) == [kind.name for kind in KINDS]
    names = [(plant.kind, plant.strength) for plant in planted]
    assert len(set(names)) == len(names)
    assert names[0] == ("exact", "") and ("noise", "sd 10") in names


def test_an_image_does_not_depend_on_what_it_is_read_with(heads: Heads, planted: list[Plant]) -> None:
    again = plants(heads, heads.patient, 6, seed=1)
    for plant, other in zip(planted, again, strict=True):
        pixels, labels = plant.read(range(len(plant)))
        order = [5, 0, 0, 3]
        some_pixels, some_labels = other.read(order)
        assert np.array_equal(some_pixels, pixels[order]) and np.array_equal(some_labels, labels[order])
        assert pixels.dtype == labels.dtype == np.uint8


def test_another_seed_gives_other_copies(heads: Heads) -> None:
    one, other = (of_kind(plants(heads, heads.patient, 12, seed), "noise")[0] for seed in (1, 2))
    assert set(one.sources) == set(other.sources) == set(range(12))
    place = {int(row): i for i, row in enumerate(other.sources)}
    assert not np.array_equal(one.read([0])[0], other.read([place[int(one.sources[0])]])[0])


def test_background_stays_zero(heads: Heads, planted: list[Plant]) -> None:
    """No corner belongs to a head, and what keeps its head changes nothing beyond it."""
    for plant in planted:
        if plant.kind == "negative":
            continue  # its background is white
        made = images(plant)
        assert (made[..., 0, 0] == 0).all() and (made[..., -1, -1] == 0).all(), plant.kind
        if plant.kind in ("noise", "blur", "intensity", "brain-negative", "tumour-swap"):
            outside = ~heads.images[plant.sources].any(axis=1)
            assert (made.sum(axis=1)[outside] == 0).all(), plant.kind


def test_harder_copies_are_less_like_their_sources(heads: Heads, planted: list[Plant]) -> None:
    for kind in KINDS:
        means = [
            np.mean([pearson(x, y) for x, y in zip(images(plant), heads.images[plant.sources], strict=True)])
            for plant in of_kind(planted, kind.name)
        ]
        assert means == sorted(means, reverse=True), (kind.name, means)
        assert kind.name in ("exact", "flip") or means[0] > means[-1] + 0.001 or len(means) == 1, (kind.name, means)


# -------------------------------------------------------------------------------------------- sources and seconds


@pytest.mark.parametrize("n", [3, 4, 7, 12, 50])
def test_patients_take_turns(heads: Heads, n: int) -> None:
    (exact,) = of_kind(plants(heads, heads.patient, n, 0), "exact")
    counts = np.bincount(heads.patient[exact.sources], minlength=4)
    assert len(exact) == len(set(exact.sources)) == min(n, 12)
    assert counts.max() - counts.min() <= 1


def test_the_second_patient_is_hidden_and_another(heads: Heads, planted: list[Plant]) -> None:
    with_second = {kind.name for kind in KINDS if kind.second}
    for plant in planted:
        if plant.kind in with_second:
            assert (plant.hidden >= 0).all() and (plant.hidden != heads.patient[plant.sources]).all()
        else:
            assert (plant.hidden == -1).all()


def test_blank_images_are_no_sources() -> None:
    heads = Heads(3, 4)
    heads.images[heads.patient == 1] = 0
    heads.images[0] = 0
    (exact,) = of_kind(plants(heads, heads.patient, 12, 0), "exact")
    assert sorted(exact.sources) == [1, 2, 3, 8, 9, 10, 11]


def test_patients_without_tumours_do_not_use_up_the_search() -> None:
    heads = Heads(6, 40, size=32)
    heads.labels[heads.patient < 4] = 0
    swaps = of_kind(plants(heads, heads.patient, 4, 0), "tumour-swap")
    assert sorted(heads.patient[swaps[0].sources]) == [4, 4, 5, 5]


def test_a_large_tumour_goes_into_a_head_without_one() -> None:
    heads = Heads(6, 4)
    heads.labels[heads.patient > 3] = 0
    heads.labels[0:2] = np.where(np.arange(48 * 48).reshape(48, 48) < 12, 4, 0)  # too small to be seen
    for plant in plants(heads, heads.patient, 24, 0):
        if plant.kind in ("tumour", "tumour-elsewhere", "labels"):
            assert set(plant.sources) == set(range(2, 16))
            assert set(plant.hidden) <= {4, 5}
            assert (plant.read(range(len(plant)))[1] > 0).any(axis=(1, 2)).all()


def test_kinds_that_the_data_do_not_allow_are_left_out() -> None:
    def kinds(data: Heads) -> set[str]:
        return {plant.kind for plant in plants(data, data.patient, 4, 0)}

    everything = {kind.name for kind in KINDS}
    assert kinds(Heads(2, 2)) == everything
    assert kinds(Heads(2, 2, tumours=False)) == everything - {
        "tumour-swap",
        "lesion",
        "tumour",
        "tumour-elsewhere",
        "labels",
    }
    assert kinds(Heads(2, 2, contrasts=1)) == everything - {"recombination"}
    assert kinds(Heads(1, 4)) == {kind.name for kind in KINDS if not kind.second}
    blank: Samples = (empty := Heads(1, 2))
    empty.images[:] = 0
    assert plants(blank, empty.patient, 4, 0) == []


@pytest.mark.parametrize(
    ("size", "n_shifts", "note"), [(32, 3, "4 px at this size"), (256, 6, ""), (512, 6, "64 px at")]
)
def test_lengths_scale_with_the_image(size: int, n_shifts: int, note: str) -> None:
    data = Heads(2, 1, size)
    shifts = of_kind(plants(data, data.patient, 1, 0), "shift")
    hardest = shifts[-1]
    assert len(shifts) == n_shifts and hardest.strength == "32 px" and hardest.note.startswith(note)
    second = shifts[-2]  # the hardest moves a part of the head out of the image
    (before,), (after,) = (corners(data.images[second.sources]), corners(images(second)))
    assert np.abs(after - before).max() == size // 16


def corners(stack: NDArray[Any]) -> NDArray[np.int64]:
    """First row and first column of each image that are not empty, ``(n, 2)``."""
    heads = stack.any(axis=1)
    return np.stack([heads.any(axis=2).argmax(axis=1), heads.any(axis=1).argmax(axis=1)], axis=1)
