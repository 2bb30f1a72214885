"""Label maps and tumours are seen where they are large enough, alike wherever they lie and however large images are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage
from synthkit_memorization.power.changes import Picture, lesion, tumour_elsewhere
from synthkit_memorization.search import tumours, windows
from synthkit_memorization.search.label_maps import ANY, LEAST, LEAST_CENTRED, LabelMaps
from synthkit_memorization.search.tumours import Tumours

from synthkit.schemes import BRATS, Scheme
from synthkit.testing import InMemorySamples

BACKGROUND = 8
UInt8 = NDArray[np.uint8]


def tumour_labels(cy: int, cx: int, radius: float, size: int = 64) -> UInt8:
    """A tumour of three labels, no two sides of it alike."""
    y, x = np.mgrid[:size, :size].astype(float)
    distance = np.hypot(y - cy, x - cx) + 1.5 * np.sin(2 * np.arctan2(y - cy, x - cx) + 0.5) + 0.1 * (x - cx)
    labels = np.zeros((size, size), np.uint8)
    for value, share in ((2, 1.0), (4, 0.7), (1, 0.4)):
        labels[distance < share * radius] = value
    return labels


def head(seed: int, size: int = 64) -> UInt8:
    """Smooth grey levels of 20 to 250 inside an ellipse, 0 outside; two contrasts."""
    fields = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(2, size, size)), (0, 2, 2))
    y, x = np.mgrid[:size, :size] / size - 0.5
    levels = np.clip(130 + 50 * fields / fields.std(), 20, 250)
    return np.where((x / 0.4) ** 2 + (y / 0.45) ** 2 < 1, levels, 0).astype(np.uint8)


def dataset(*pictures: tuple[UInt8, UInt8], scheme: Scheme = BRATS) -> InMemorySamples:
    images, labels = (np.stack(part) for part in zip(*pictures, strict=True))
    return InMemorySamples(images, labels, contrasts=("t1", "flair"), scheme=scheme)


def everything(images: Any) -> Any:
    return images.read(range(len(images)))


def enlarged(values: UInt8, times: int) -> UInt8:
    return values.repeat(times, axis=-2).repeat(times, axis=-1)


def brain_r(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """The measure ``brain`` of two images ``(contrast, y, x)``, all contrasts together, by its definition."""

    def centred(image: NDArray[np.float64]) -> NDArray[np.float64]:
        inside = (image > BACKGROUND).any(axis=0)
        return np.concatenate([np.where(inside, c - c[inside].mean(), 0).ravel() for c in image])

    a, b = centred(x), centred(y)
    return float(a @ b / np.sqrt(a @ a * (b @ b)))


# ------------------------------------------------------------------------------------------------------ windows


@settings(deadline=None)
@given(st.integers(1, 300), st.integers(1, 300))
def test_reduced_images_have_at_most_the_side(height: int, width: int) -> None:
    size = (height, width)
    values = np.arange(height * width, dtype=np.float64).reshape(size)
    cell = windows.cell_of(size)
    reduced = windows.means(values, cell)
    assert reduced.shape == windows.reduced_size(size) and max(reduced.shape) <= windows.SIDE
    assert reduced.sum() * cell**2 == pytest.approx(values.sum())
    assert windows.window_side(size) % 2 == 0 and windows.window_side(size) <= max(2, windows.SIDE // 2)
    region = np.zeros(size, np.bool_)
    region[-1, -1] = True
    shown = windows.window(region, region)
    assert shown.sum() == 1 and shown.shape[0] % cell == 0


@pytest.mark.parametrize("quarters", range(4))
@pytest.mark.parametrize("mirrored", [False, True])
def test_a_turned_tumour_has_the_turned_window(quarters: int, mirrored: bool) -> None:
    image, labels = head(1), tumour_labels(25, 37, 8)
    turned = Picture(image, labels).turned(quarters, mirrored)
    (before,), _ = everything(Tumours(dataset((image, labels)), BACKGROUND))
    (after,), _ = everything(Tumours(dataset((turned.pixels, turned.labels)), BACKGROUND))
    assert np.array_equal(after, np.rot90(before[..., ::-1] if mirrored else before, quarters, (-2, -1)))


# --------------------------------------------------------------------------------------------------- label maps


def test_every_region_is_a_channel() -> None:
    labels = tumour_labels(30, 30, 9)
    maps = LabelMaps(dataset((head(1), labels)), BRATS)
    (channels,), (shown,) = everything(maps)
    assert maps.contrasts == ("NCR", "ED", "ET", "TC", "WT")  # WT has all labels, so nothing is added
    for name, values in BRATS.region_values.items():
        expected = 255 * np.isin(labels, values)
        assert np.array_equal(channels[maps.contrasts.index(name)], expected)
    assert np.array_equal(shown, labels > 0)


def test_a_scheme_without_a_region_of_all_labels_has_a_channel_of_them() -> None:
    scheme = Scheme.of_labels({"background": 0, "liver": 3, "tumour": 7})
    labels = np.zeros((64, 64), np.uint8)
    labels[10:40, 10:40], labels[20:25, 20:25] = 3, 7
    maps = LabelMaps(dataset((head(1), labels), scheme=scheme), scheme)
    assert maps.contrasts == ("liver", "tumour", ANY)
    assert np.array_equal(everything(maps)[0][0, 2] > 0, labels > 0)


def test_schemes_with_other_values_meet_by_names() -> None:
    other = Scheme.of_labels({"background": 0, "ET": 1, "cyst": 2, "NCR": 3})
    labels = tumour_labels(30, 30, 9)
    (seen,), _ = everything(LabelMaps(dataset((head(1), labels), scheme=BRATS), BRATS, like=other))
    translated = np.choose(labels, (0, 3, 2, 0, 1)).astype(np.uint8)
    (theirs,), _ = everything(LabelMaps(dataset((head(1), translated), scheme=other), other))
    assert np.array_equal(seen[[0, 2, 3]], theirs[[0, 2, 3]])  # ET, NCR, any label
    assert theirs[1].any() and not seen[1].any()  # nobody has cysts


def test_small_label_maps_are_nobodys() -> None:
    def squares(n: int) -> UInt8:
        labels = np.zeros((64, 64), np.uint8)
        labels.flat[64 * 20 : 64 * 20 + n] = 2
        return labels

    counts = np.array([0, *(n + more for n in (tumours.LEAST, LEAST, LEAST_CENTRED) for more in (-1, 0))])
    data = dataset(*((head(1), squares(n)) for n in counts))
    for seen, least in (
        (Tumours(data, BACKGROUND), tumours.LEAST),
        (LabelMaps(data, BRATS), LEAST),
        (LabelMaps(data, BRATS, centred=True), LEAST_CENTRED),
    ):
        assert np.array_equal(seen.rows, np.flatnonzero(counts >= least))


def test_centred_maps_agree_wherever_they_lie() -> None:
    places = (32, 32), (15, 40), (50, 20)
    data = dataset(*((head(i), tumour_labels(*place, 9)) for i, place in enumerate(places)))
    channels, _ = everything(LabelMaps(data, BRATS, centred=True))
    assert (channels == channels[:1]).all() and channels.any()
    assert channels.shape == (3, 5, 32, 32)


# ------------------------------------------------------------------------------------------------------ tumours


def test_the_tumour_is_all_that_exceeds_the_background() -> None:
    image, labels = head(1), tumour_labels(30, 30, 9)
    image[:, 28:32, 28:32] = 0  # darker than the background inside the tumour
    image[:, labels == 2] = 254
    (seen,), (mask,) = everything(Tumours(dataset((image, labels)), BACKGROUND))
    assert np.array_equal((seen > BACKGROUND).any(axis=0), mask > 0)
    assert np.array_equal(mask, windows.window(ndimage.binary_erosion(labels > 0), labels > 0))
    assert (seen[:, mask == 0] == 0).all()
    assert seen[:, mask > 0].min() == BACKGROUND + 1 and seen.max() == 254


@pytest.mark.parametrize("times", [2, 3, 4])
def test_larger_images_are_seen_as_small_ones(times: int) -> None:
    image, labels = head(1), tumour_labels(25, 37, 10)
    small, large = dataset((image, labels)), dataset((enlarged(image, times), enlarged(labels, times)))
    assert np.array_equal(everything(LabelMaps(small, BRATS))[0], everything(LabelMaps(large, BRATS))[0])
    centred = [everything(LabelMaps(data, BRATS, centred=True))[0] for data in (small, large)]
    assert np.corrcoef(centred[0].ravel(), centred[1].ravel())[0, 1] > 0.9  # its middle is a part of a cell off
    seen = [everything(Tumours(data, BACKGROUND))[0][0].astype(float) for data in (small, large)]
    assert seen[0].shape == seen[1].shape and brain_r(*seen) > 0.85


def test_a_small_tumour_keeps_its_rim() -> None:
    labels = tumour_labels(30, 30, 3)
    assert np.count_nonzero(ndimage.binary_erosion(labels > 0)) < tumours.LEAST < np.count_nonzero(labels)
    _, (mask,) = everything(Tumours(dataset((head(1), labels)), BACKGROUND))
    assert mask.sum() == np.count_nonzero(labels)


def test_a_pasted_tumour_is_found_beside_the_hosts_own() -> None:
    source, labels = head(1), tumour_labels(20, 30, 7)
    host = Picture(head(2), tumour_labels(45, 30, 9))
    pasted = lesion(np.random.default_rng(0), 0, Picture(source, labels), host)
    (theirs,), _ = everything(Tumours(dataset((source, labels)), BACKGROUND))
    seen = Tumours(dataset((head(3), np.zeros_like(labels)), (pasted.pixels, pasted.labels)), BACKGROUND)
    assert seen.rows.tolist() == [1, 1]
    r = [brain_r(one.astype(float), theirs.astype(float)) for one in everything(seen)[0]]
    assert max(r) > 0.95 and min(r) < 0.5


def test_a_tumour_pasted_elsewhere_is_the_same_but_for_a_turn() -> None:
    source, host = Picture(head(1), tumour_labels(20, 30, 7)), Picture(head(2), np.zeros((64, 64), np.uint8))
    (theirs,), _ = everything(Tumours(dataset((source.pixels, source.labels)), BACKGROUND))
    for seed in range(5):
        pasted = tumour_elsewhere(np.random.default_rng(seed), 0, source, host)
        (seen,), _ = everything(Tumours(dataset((pasted.pixels, pasted.labels)), BACKGROUND))
        turns = [np.rot90(seen, k, (-2, -1))[..., ::step] for k in range(4) for step in (1, -1)]
        assert max(brain_r(turn.astype(float), theirs.astype(float)) for turn in turns) > 0.95


def test_a_tumour_at_the_edge_of_a_long_image_is_pasted_elsewhere_too() -> None:
    image, labels = np.full((1, 24, 64), 100, np.uint8), np.zeros((24, 64), np.uint8)
    image[0, 5:11, 55:62], labels[5:11, 55:62] = 200, 1
    host = Picture(np.full_like(image, 60), np.zeros_like(labels))
    for seed in range(8):
        pasted = tumour_elsewhere(np.random.default_rng(seed), 0, Picture(image, labels), host)
        assert 20 <= np.count_nonzero(pasted.labels) <= np.count_nonzero(labels)


def test_what_is_read_together_does_not_matter() -> None:
    data = dataset(
        (head(1), tumour_labels(20, 30, 7) + tumour_labels(50, 30, 6)),
        (head(2), np.zeros((64, 64), np.uint8)),
        (head(3), tumour_labels(40, 20, 9)),
    )
    for seen in (Tumours(data, BACKGROUND), LabelMaps(data, BRATS), LabelMaps(data, BRATS, centred=True)):
        images, labels = everything(seen)
        order = [len(seen) - 1, 0, 0]
        some_images, some_labels = seen.read(order)
        assert np.array_equal(some_images, images[order]) and np.array_equal(some_labels, labels[order])
        assert images.shape == (len(seen), len(seen.contrasts), *seen.size) and labels.shape[1:] == seen.size
        assert images.dtype == labels.dtype == np.uint8


def test_without_labels_nothing_is_seen() -> None:
    data = dataset((head(1), np.zeros((64, 64), np.uint8)))
    for seen in (Tumours(data, BACKGROUND), LabelMaps(data, BRATS), LabelMaps(data, BRATS, centred=True)):
        images, labels = seen.read([])
        assert len(seen) == len(seen.rows) == 0
        assert images.shape == (0, len(seen.contrasts), *seen.size) and labels.shape == (0, *seen.size)


def test_labels_of_the_whole_image_fill_the_window() -> None:
    """Other anatomy: every pixel is some organ's. It is one part, seen as far as the window goes."""
    labels = np.where(np.arange(64) < 32, 1, 2).astype(np.uint8)[None].repeat(64, axis=0)
    shown = np.maximum(head(1), BACKGROUND + 1)
    (image,), (mask,) = everything(Tumours(dataset((shown, labels)), BACKGROUND))
    assert mask.all() and np.array_equal(image, shown[:, 16:48, 16:48])
