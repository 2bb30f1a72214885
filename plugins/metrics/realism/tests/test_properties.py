"""Properties of labels drawn by hand, and of random ones against the plain definitions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from scipy import ndimage
from synthkit_realism.properties import Property, measure
from synthkit_realism.regions import borders_of, ratios_of, regions_of

from synthkit.data.named_schemes import SCHEMES
from synthkit.schemes import BRATS, Label, Region, Scheme

VALUES = BRATS.values
CONTRASTS = ("t1", "flair")


def brain(n: int = 1, size: int = 32) -> NDArray[np.uint8]:
    """Images with a square brain of grey level 100 and 50, rows and columns 4 to 28."""
    images = np.zeros((n, 2, size, size), np.uint8)
    images[:, 0, 4:29, 4:29], images[:, 1, 4:29, 4:29] = 100, 50
    return images


def values(labels: NDArray[np.uint8], images: NDArray[np.uint8] | None = None, **options: Any) -> dict[str, float]:
    """Each property of one slice, by its name in words."""
    images = brain(1, len(labels)) if images is None else images[None]
    measured = measure(images, labels[None], CONTRASTS, options.get("scheme", BRATS))
    return {str(item): float(array[0]) for item, array in measured.items()}


@pytest.fixture
def target() -> NDArray[np.uint8]:
    """A necrotic 3 x 3 square in an enhancing 5 x 5 one in an oedema of 9 x 9, rows 8 to 16, columns 10 to 18."""
    labels = np.zeros((32, 32), np.uint8)
    labels[8:17, 10:19], labels[10:15, 12:17], labels[11:14, 13:16] = 2, 4, 1
    return labels


def test_sizes(target: NDArray[np.uint8]) -> None:
    found = values(target)
    assert [found[f"area {name}"] for name in ("NCR", "ED", "ET", "TC", "WT")] == [9, 56, 16, 25, 81]
    assert all(found[f"present {name}"] == 1 for name in ("NCR", "ED", "ET", "TC", "WT"))
    assert found["area_in_brain WT"] == 81 / 25**2
    assert found["ratio ET/WT"] == 16 / 81 and found["ratio TC/WT"] == 25 / 81 and found["ratio NCR/TC"] == 9 / 25


def test_shapes(target: NDArray[np.uint8]) -> None:
    found = values(target)
    assert found["compactness WT"] == found["compactness TC"] == found["compactness NCR"] == 1  # squares
    assert found["compactness ET"] == 16 * 16 / (20 + 12) ** 2
    # A rim of one pixel goes when it is opened, squares stay.
    assert found["thin ET"] == 1 and found["thin WT"] == found["thin NCR"] == 0
    target[20:23, 20:23] = 4
    found = values(target)
    assert found["components ET"] == 2 and found["components WT"] == 2 and found["components NCR"] == 1
    assert found["thin ET"] == 16 / 25


def test_diagonal_neighbours_are_connected() -> None:
    labels = np.zeros((32, 32), np.uint8)
    labels[10, 10] = labels[11, 11] = labels[20, 20] = 4
    assert values(labels)["components ET"] == 2


def test_places(target: NDArray[np.uint8]) -> None:
    found = values(target)
    assert found["centroid_x WT"] == (14 - 4) / 24 and found["centroid_y WT"] == (12 - 4) / 24
    assert found["distance_from_middle WT"] == pytest.approx(np.hypot((14 - 16) / 12, (12 - 16) / 12))
    assert found["outside_brain WT"] == 0
    moved = np.roll(target, -8, axis=0)  # rows 0 to 8: four of nine are above the brain
    assert values(moved)["outside_brain WT"] == 4 / 9


def test_topology(target: NDArray[np.uint8]) -> None:
    found = values(target)
    assert found["border ET on NCR"] == 12 / (12 + 20)
    assert found["border TC on ED"] == 1 and found["border NCR on background"] == 0
    target[8:11] = 0  # open the upper side of the core and of the necrosis
    target[11, 13:16] = 1
    found = values(target)
    assert found["border NCR on background"] == 3 / 12
    assert found["border TC on ED"] == (4 + 4 + 5) / (4 + 4 + 5 + 5)


def test_labels_at_the_edge_of_the_image_have_a_border() -> None:
    labels = np.zeros((32, 32), np.uint8)
    labels[:3, :3] = 1
    found = values(labels)
    assert found["compactness NCR"] == 1 and found["border NCR on background"] == 1 and found["thin NCR"] == 0


def test_intensities_are_relative_to_healthy_brain(target: NDArray[np.uint8]) -> None:
    images = brain()[0]
    images[0][target == 4] = 180
    images[1][target == 2] = 100
    found = values(target, images)
    assert found["intensity ET t1"] == 1.8 and found["intensity ET flair"] == 1
    assert found["intensity ED flair"] == 2 and found["intensity NCR t1"] == 1
    np.testing.assert_equal(values(target, images // 2), found)


def test_a_slice_without_labels_has_no_properties_but_their_absence() -> None:
    found = values(np.zeros((32, 32), np.uint8))
    assert {name for name, value in found.items() if not np.isnan(value)} == {
        f"present {region}" for region in ("NCR", "ED", "ET", "TC", "WT")
    }
    assert all(found[f"present {region}"] == 0 for region in ("NCR", "WT"))


def test_a_black_image_has_no_places_and_intensities(target: NDArray[np.uint8]) -> None:
    found = values(target, np.zeros((2, 32, 32), np.uint8))
    undefined = {name.split()[0] for name, value in found.items() if np.isnan(value)}
    assert undefined == {"intensity", "centroid_x", "centroid_y", "distance_from_middle", "area_in_brain"}
    assert found["outside_brain WT"] == 1


def test_regions_follow_the_scheme() -> None:
    assert list(regions_of(BRATS)) == ["NCR", "ED", "ET", "TC", "WT"]
    assert list(regions_of(SCHEMES["gli2024"])) == ["NCR", "ED", "ET", "RC", "TC", "WT", "all"]
    assert regions_of(SCHEMES["whole-tumour"]) == {"WT": (1,)}
    assert regions_of(Scheme.of_values((0, 7))) == {"label7": (7,)}
    assert list(regions_of(Scheme.of_values((0,)))) == ["all"]


def test_ratios_and_borders_follow_the_structure_of_the_scheme() -> None:
    for name in ("brats2018", "brats2021", "brats2023-gli", "met", "men", "ssa"):
        assert ratios_of(SCHEMES[name]) == [("ET", "WT"), ("TC", "WT"), ("NCR", "TC")]
        assert borders_of(SCHEMES[name]) == [("ET", "NCR"), ("TC", "ED"), ("NCR", "background")]
    assert ratios_of(SCHEMES["gli2024"]) == ratios_of(BRATS)
    assert borders_of(SCHEMES["gli2024"]) == [("ET", "NCR"), ("TC", "ED"), ("WT", "RC"), ("NCR", "background")]
    assert ratios_of(SCHEMES["ped"]) == [("CC", "WT"), ("TC", "WT"), ("ET", "TC"), ("NET", "TC")]
    assert ("CC", "NET") in borders_of(SCHEMES["ped"]) and ("TC", "ED") in borders_of(SCHEMES["ped"])
    assert ratios_of(SCHEMES["whole-tumour"]) == borders_of(SCHEMES["whole-tumour"]) == []


def test_labels_of_another_anatomy_are_measured() -> None:
    heart = Scheme(
        "heart", "heart", (), (Label("myocardium", 7, "", "#111111"), Label("blood", 3, "", "#222222")),
        nested=(Region("heart", ("myocardium", "blood"), ""),),
    )  # fmt: skip
    labels = np.zeros((32, 32), np.uint8)
    labels[8:17, 10:19], labels[10:15, 12:17], labels[20, 20] = 7, 3, 9
    found = values(labels, scheme=heart)
    assert found["area blood"] == 25 and found["area heart"] == 81 and found["ratio myocardium/heart"] == 56 / 81
    assert found["border blood on myocardium"] == 1 and found["border myocardium on background"] == 36 / 56


def test_more_regions_than_bits() -> None:
    many = Scheme.of_labels({"background": 0, **{f"part{k}": k for k in range(1, 41)}})
    labels = np.zeros((32, 32), np.uint8)
    for k in range(40):
        labels[3 * (k // 10) : 3 * (k // 10) + 3, 3 * (k % 10) : 3 * (k % 10) + 3] = k + 1
    labels[31, 31] = 40
    found = values(labels, scheme=many)
    assert found["thin part1"] == found["thin part39"] == 0 and found["thin part40"] == 1 / 10


@settings(max_examples=40, deadline=None)
@given(hnp.arrays(np.uint8, (3, 12, 12), elements=st.sampled_from(VALUES)))
def test_a_batch_agrees_with_the_plain_definitions(labels: NDArray[np.uint8]) -> None:
    measured = measure(brain(3, 12), labels, CONTRASTS, BRATS)
    for name, members in {"NCR": (1,), "TC": (1, 4), "WT": (1, 2, 4)}.items():
        for i in range(3):
            mask = np.isin(labels[i], members)
            got = {item.name: array[i] for item, array in measured.items() if item.region == name and not item.contrast}
            assert got["present"] == mask.any()
            if not mask.any():
                assert np.isnan(got["area"]) and np.isnan(got["thin"]) and np.isnan(got["components"])
                continue
            assert got["area"] == mask.sum()
            assert got["components"] == ndimage.label(mask, np.ones((3, 3)))[1]
            kept = ndimage.binary_opening(mask, np.ones((3, 3)))
            assert got["thin"] == pytest.approx(1 - kept.sum() / mask.sum())
            padded = np.pad(mask, 1)
            border = sum(np.count_nonzero(np.diff(padded.astype(int), axis=axis)) for axis in (0, 1))
            assert got["compactness"] == pytest.approx(16 * mask.sum() / border**2)


@settings(max_examples=20, deadline=None)
@given(hnp.arrays(np.uint8, (4, 12, 12), elements=st.sampled_from(VALUES)))
def test_a_slice_does_not_depend_on_its_batch(labels: NDArray[np.uint8]) -> None:
    together = measure(brain(4, 12), labels, CONTRASTS, BRATS)
    alone = measure(brain(1, 12), labels[2:3], CONTRASTS, BRATS)
    for item, array in together.items():
        np.testing.assert_array_equal(array[2], alone[item][0], err_msg=str(item))


def test_a_property_says_what_it_is_of() -> None:
    item = Property("intensity", "ET", "t1", "healthy median")
    assert item.of == {"property": "intensity", "region": "ET", "contrast": "t1"}
    assert Property("present", "WT").of == {"property": "present", "region": "WT"}
