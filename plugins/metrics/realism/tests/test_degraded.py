"""Faults told by what they are: labels beside their image, channels that are exchanged, and not those only blurred."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage
from synthkit_realism import Params
from synthkit_realism.metrics import score
from synthkit_realism.placement import DISTANCES, distances_off

from synthkit import Score
from synthkit.data.naming import brain_mask
from synthkit.testing import InMemorySamples, data

Images = NDArray[np.uint8]
QUICK = Params(resamples=50)
N, SIZE, SLICES_PER_PATIENT = 72, 64, 4
CONTRASTS = ("t1", "t1ce", "t2", "flair")
#: Grey level of CSF, grey and white matter, necrotic core, oedema and enhancing tumour, by contrast; 0 outside.
LEVELS = np.array(
    [
        (30, 90, 120, 70, 100, 95, 0),
        (30, 90, 120, 70, 100, 190, 0),
        (220, 100, 75, 180, 150, 140, 0),
        (35, 110, 95, 130, 190, 170, 0),
    ]
)


def heads(seed: int) -> tuple[Images, Images]:
    """Slices of a head with a ventricle, a cortex and a tumour somewhere to its side."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    images, labels = np.zeros((N, 4, SIZE, SIZE), np.uint8), np.zeros((N, SIZE, SIZE), np.uint8)
    for image, plane in zip(images, labels, strict=True):
        radius = np.hypot(x / rng.uniform(22, 26), y / rng.uniform(25, 29))
        tissue = np.select([np.hypot(x, y) < 5, radius < 0.75, radius < 0.95, radius < 1], [0, 2, 1, 0], 6)
        rings = np.hypot(x - rng.uniform(10, 13), y - rng.uniform(-4, 4)) / rng.uniform(0.9, 1.1)
        for value, limit in ((2, 7.0), (4, 4.5), (1, 2.5)):
            plane[rings < limit] = value
        index = np.select([plane == 1, plane == 2, plane == 4], [3, 4, 5], tissue)
        image[:] = np.clip(LEVELS[:, index] + (index < 6) * rng.normal(0, 5, (4, SIZE, SIZE)), 0, 255)
    return images, labels


def toys(seed: int) -> tuple[Images, Images]:
    """Ellipses of noise with a tumour of rings, whose contrasts are not those of brains."""
    return data.slices(N, 4, SIZE, seed)


def scored(
    metric: str,
    images: Images,
    labels: Images,
    n_patients: int = 18,
    make: Callable[[int], tuple[Images, Images]] = heads,
) -> dict[str, Score]:
    """The scores of other heads, as given, beside real ones."""
    subjects = [f"p{k * n_patients // N}" for k in range(N)]
    real = InMemorySamples(*make(0), subjects=subjects)
    made = InMemorySamples(images, labels, subjects=[None] * N)
    answers = score(metrics=[metric], params=QUICK, real=real, synthetic=made)
    return {" ".join((a.name, *a.of.values())): a for a in answers if isinstance(a, Score)}


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    texts: list[str] = []
    monkeypatch.setattr("synthkit.message", lambda text, level="info": texts.append(text))
    return texts


# ----------------------------------------------------------------------------------------- labels in their place


def off(images: Images, labels: Images) -> NDArray[np.float64]:
    return distances_off(images, labels, brain_mask(images))


def shifted(labels: Images, pixels: float, share: float = 1.0, seed: int = 0) -> Images:
    """A share of the label maps moved, each in a direction of its own."""
    rng = np.random.default_rng(seed)
    moved = labels.copy()
    for k in rng.permutation(len(labels))[: round(share * len(labels))]:
        angle = rng.uniform(0, 2 * np.pi)
        by = (round(pixels * np.sin(angle)), round(pixels * np.cos(angle)))
        moved[k] = np.roll(labels[k], by, (0, 1))
    return moved


@pytest.mark.parametrize("make", [heads, toys])
@pytest.mark.parametrize("pixels", [3, 5, 8, 12])
def test_labels_that_were_moved_fit_best_where_they_were(
    make: Callable[[int], tuple[Images, Images]], pixels: int
) -> None:
    images, labels = make(1)
    assert np.count_nonzero(off(images, labels)) <= N // 20
    found = off(images, shifted(labels, pixels))
    # Of what was moved out of the head, little can be told.
    assert np.count_nonzero(found) >= N * (0.9 if pixels < 12 else 0.7)
    if pixels <= max(DISTANCES):
        assert np.median(found) == min(DISTANCES, key=lambda distance: abs(distance - pixels))


def test_what_cannot_be_told() -> None:
    images, labels = heads(1)
    assert np.isnan(off(images, np.zeros_like(labels))).all()
    specks = np.zeros_like(labels)
    specks[:, 30:34, 30:34] = 1  # 16 pixels
    assert np.isnan(off(images, specks)).all()
    assert np.isnan(off(images, np.ones_like(labels))).all()  # nothing is around them
    assert not off(np.full_like(images, 7), labels).any()  # they fit a blank image as well as anywhere
    corner = np.zeros_like(labels)
    corner[:, :6, :6] = 2
    assert off(images, corner).shape == (N,)


@pytest.mark.parametrize("n_patients", [1, 2, 18])
def test_a_third_of_the_labels_beside_their_image_is_told(said: list[str], n_patients: int) -> None:
    images, labels = heads(1)
    found = scored("label-realism", images, shifted(labels, 5, 1 / 3), n_patients)
    assert found["misplaced"].value == pytest.approx(1 / 3, abs=0.05)
    assert found["misplaced"].n == N and "of the real slices 0%" in found["misplaced"].note
    assert found["ks offset WT"].value == pytest.approx(1 / 3, abs=0.05)
    assert any("do not lie on their image" in text and "(of the real slices 0%)" in text for text in said)


def test_labels_of_other_images_are_told(said: list[str]) -> None:
    images, labels = toys(1)
    found = scored("label-realism", images, labels[::-1].copy(), make=toys)
    assert (found["misplaced"].value or 0) > 0.5
    assert any("do not lie on their image" in text for text in said)


@pytest.mark.parametrize("change", ["none", "larger", "no-enhancing", "blurred", "dull"])
def test_labels_in_their_place_are_not_a_fault_whatever_else_they_are(change: str, said: list[str]) -> None:
    images, labels = heads(1)
    if change == "larger":
        labels = np.where((labels == 0) & ndimage.binary_dilation(labels > 0, np.ones((1, 3, 3))), np.uint8(2), labels)
    elif change == "no-enhancing":
        labels = np.where(labels == 4, np.uint8(2), labels)
    elif change == "blurred":
        images = ndimage.gaussian_filter(images, (0, 0, 1, 1))
    elif change == "dull":
        images = (80 + images.astype(float) / 4).astype(np.uint8)
    found = scored("label-realism", images, labels)
    assert found["misplaced"].value is not None and found["misplaced"].value < 0.1
    assert not any("do not lie on their image" in text for text in said)


def test_without_labels_nothing_is_misplaced(said: list[str]) -> None:
    images, labels = heads(1)
    found = scored("label-realism", images, np.zeros_like(labels))["misplaced"]
    assert found.value is None and "no synthetic slice" in found.note
    assert not any("do not lie on their image" in text for text in said)


# ----------------------------------------------------------------------------------------- channels and their names


def degraded(images: Images, how: str) -> Images:
    kind, strength = how.split()
    values = images.astype(float)
    if kind == "blur":
        values = ndimage.gaussian_filter(values, (0, 0, float(strength), float(strength)))
    elif kind == "gamma":
        values = 255 * (values / 255) ** float(strength)
    else:
        values += np.random.default_rng(0).normal(0, float(strength), images.shape) * (images > 0)
    return np.clip(values.round(), 0, 255).astype(np.uint8)


HOW = ["blur 0.5", "blur 1", "blur 2", "blur 3", "gamma 0.5", "gamma 2", "noise 30"]


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("make", [heads, toys])
def test_changed_images_keep_their_names(
    make: Callable[[int], tuple[Images, Images]], how: str, said: list[str]
) -> None:
    """Blur of 2 pixels made T2 nearer to the real FLAIR than to the real T2, and FLAIR to T2; far from both."""
    images, labels = make(1)
    found = scored("contrast-identity", degraded(images, how), labels, make=make)
    assert found["n_mismatched"].value == 0 and found["n_mismatched"].note == ""
    assert not any("wrong names" in text for text in said)
    for contrast in CONTRASTS:
        margin = found[f"margin {contrast}"]
        if margin.high is not None and margin.high < 0:
            assert "nearer to" in margin.note
    if make is heads:  # whose contrasts are those of brains
        assert found["n_misnamed synthetic"].value == 0


@pytest.mark.parametrize("how", ["blur 1", "gamma 0.5", "gamma 2", "noise 30"])
@pytest.mark.parametrize("order", [(1, 0, 2, 3), (0, 1, 3, 2), (2, 1, 0, 3)])
def test_exchanged_channels_are_found_in_changed_images(order: tuple[int, ...], how: str) -> None:
    images, labels = heads(1)
    found = scored("contrast-identity", degraded(images[:, list(order)], how), labels)
    moved = [f"{CONTRASTS[j]} looks like {CONTRASTS[k]}" for j, k in enumerate(order) if j != k]
    assert found["n_mismatched"].value == 2 and found["n_mismatched"].note == "; ".join(moved)
