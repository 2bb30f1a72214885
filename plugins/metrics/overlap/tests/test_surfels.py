"""Surface elements: cubes worked out by hand, surface-distance side by side, and what the notes say of them."""

from __future__ import annotations

import pytest

np = pytest.importorskip("numpy")
ndimage = pytest.importorskip("scipy.ndimage", reason="scipy is not installed")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from synthkit_overlap import Params  # noqa: E402
from synthkit_overlap.metrics import score  # noqa: E402
from synthkit_overlap.surfels import surface_elements, surfel_dice, surfel_hausdorff  # noqa: E402

from synthkit import Row, Score  # noqa: E402
from synthkit.testing import InMemoryVolumes  # noqa: E402

Spacing = tuple[float, float, float]
MM = (1.0, 1.0, 1.0)


def cube(start: tuple[int, int, int], side: int = 4) -> np.ndarray:
    mask = np.zeros((16, 16, 16), dtype=bool)
    mask[tuple(slice(s, s + side) for s in start)] = True
    return mask


def area_of_cube(side: int, spacing_mm: Spacing) -> float:
    """8 corners, each a triangle of an eighth of the vector of all faces; 12 edges and 6 faces of whole elements.

    An element on an edge cuts it off: half the vector of the two faces that meet there.
    """
    x, y, z = spacing_mm
    faces = np.array([y * z, x * z, x * y])
    edges = sum(float(np.linalg.norm(np.delete(faces, axis))) / 2 for axis in range(3))
    return float(np.linalg.norm(faces)) + 4 * (side - 1) * edges + 2 * (side - 1) ** 2 * float(faces.sum())


@pytest.mark.parametrize("side", [1, 2, 5])
@pytest.mark.parametrize("spacing_mm", [MM, (0.5, 1.0, 3.0)])
def test_area_of_a_cube(side: int, spacing_mm: Spacing) -> None:
    mask = cube((3, 4, 5), side)
    for elements in surface_elements(mask, mask, spacing_mm):
        assert elements.areas_mm2.sum() == pytest.approx(area_of_cube(side, spacing_mm))
        assert len(elements.areas_mm2) == (side + 1) ** 3 - max(side - 1, 0) ** 3
        assert not elements.distances_mm.any()


def test_shifted_cubes() -> None:
    """Side 4, shifted by 1 along x: elements lie on the corners of voxels, 0..4 and 1..5 along x.

    Off the other surface are, of each cube, all elements of its outer face (4 corners, 12 on edges, 9 within) and the
    9 within the opposite one, which lies inside the other cube's ring. All are 1 mm off. By number of border voxels, a
    third of them were (20 of 56).
    """
    elements = surface_elements(cube((2, 2, 2)), cube((3, 2, 2)), MM)
    off = 4 * np.sqrt(3) / 8 + 12 * np.sqrt(2) / 2 + 9 + 9
    for side in elements:
        assert side.areas_mm2[side.distances_mm == 1].sum() == pytest.approx(off)
        assert set(side.distances_mm.tolist()) == {0.0, 1.0}
    within = 1 - off / area_of_cube(4, MM)
    assert surfel_dice(*elements, 0.0) == surfel_dice(*elements, 0.99) == pytest.approx(within)
    assert surfel_dice(*elements, 1.0) == 1.0
    found = surfel_hausdorff(*elements)
    assert (found.pooled_mm, found.directed_mm, found.maximum_mm) == (1.0, 1.0, 1.0)


def test_pooled_and_directed_differ_where_one_surface_is_small() -> None:
    """A cube and the cube with an island 9 mm away: 95 % of the area of both is shared, of the larger one it is not."""
    one = cube((1, 1, 1), 5)
    both = one | cube((15, 1, 1), 1)
    elements = surface_elements(one, both, MM)
    found = surfel_hausdorff(*elements)
    large, small = area_of_cube(5, MM), area_of_cube(1, MM)
    assert small / (2 * large + small) < 0.05 and found.pooled_mm == 0
    assert (small / (large + small) > 0.05) == (found.directed_mm > 0)
    assert found.maximum_mm == 10  # from the far corners of the island to the face of the cube
    assert surfel_dice(*elements, 1.0) == pytest.approx(2 * large / (2 * large + small))


@st.composite
def blobs(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Two masks of blobs and specks, one shape, neither empty; they may touch the edges of the volume."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = tuple(draw(st.integers(1, 14)) for _ in range(3))
    masks = []
    for _ in range(2):
        mask = random.random(shape) < draw(st.sampled_from([0.01, 0.05, 0.5]))
        mask.reshape(-1)[random.integers(mask.size)] = True
        masks.append(ndimage.binary_dilation(mask, iterations=draw(st.integers(1, 2))) if draw(st.booleans()) else mask)
    return masks[0], masks[1]


SPACINGS = st.sampled_from([MM, (0.75, 1.0, 2.5), (1.0, 0.5, 3.0)])


@settings(max_examples=60, deadline=None)
@given(blobs(), SPACINGS)
def test_axes_and_sides_do_not_matter(masks: tuple[np.ndarray, np.ndarray], spacing_mm: Spacing) -> None:
    one, other = masks
    elements = surface_elements(one, other, spacing_mm)
    near, maximum_mm = surfel_dice(*elements, 1.0), surfel_hausdorff(*elements).maximum_mm
    back = surface_elements(other, one, spacing_mm)
    turned = surface_elements(
        np.asfortranarray(one.transpose(2, 0, 1)), other.transpose(2, 0, 1)[::1], [spacing_mm[i] for i in (2, 0, 1)]
    )
    mirrored = surface_elements(one[::-1, ::-1], other[::-1, ::-1], spacing_mm)
    for same in (back, turned, mirrored):
        assert surfel_dice(*same, 1.0) == pytest.approx(near, abs=1e-12)
        assert surfel_hausdorff(*same).maximum_mm == pytest.approx(maximum_mm, abs=1e-12)
    assert 0 <= near <= 1


@settings(max_examples=60, deadline=None)
@given(blobs(), SPACINGS, st.sampled_from([0.0, 1.0, 2.5]))
def test_equals_surface_distance(masks: tuple[np.ndarray, np.ndarray], spacing_mm: Spacing, mm: float) -> None:
    peer = pytest.importorskip("surface_distance.metrics", reason="surface-distance is not installed")
    theirs = peer.compute_surface_distances(*masks, spacing_mm)
    elements = surface_elements(*masks, spacing_mm)
    found = surfel_hausdorff(*elements)
    assert found.directed_mm == pytest.approx(peer.compute_robust_hausdorff(theirs, 95), abs=1e-9)
    assert found.maximum_mm == pytest.approx(peer.compute_robust_hausdorff(theirs, 100), abs=1e-9)
    assert surfel_dice(*elements, mm) == pytest.approx(peer.compute_surface_dice_at_tolerance(theirs, mm), abs=1e-9)


# ------------------------------------------------------------------------------------------------- the metric


def run(**params: object) -> list[Score | Row]:
    reference, prediction = ({"a": mask.astype(np.uint8) * 4} for mask in (cube((2, 2, 2)), cube((3, 2, 2))))
    return list(
        score(
            metrics=["hausdorff", "surface-dice"],
            params=Params(surface_tolerance_mm=0.5, **params),
            reference=InMemoryVolumes(reference),
            prediction=InMemoryVolumes(prediction),
        )
    )


def of_et(items: list[Score | Row], name: str) -> Score:
    return next(i for i in items if isinstance(i, Score) and i.name == name and i.of.get("region") == "ET")


def test_borders_are_voxels_unless_surfels_are_asked_for() -> None:
    """By hand, see above: 36 of 56 border voxels are shared, and this share of the area."""
    off = np.sqrt(3) / 2 + 6 * np.sqrt(2) + 18
    by_area = 1 - off / area_of_cube(4, MM)
    for params, expected in (({}, 36 / 56), ({"borders": "voxels"}, 36 / 56), ({"borders": "surfels"}, by_area)):
        items = run(**params)
        assert of_et(items, "surface_dice").value == of_et(items, "surface_dice_mean").value == pytest.approx(expected)
        rows = [item.values for item in items if isinstance(item, Row)]
        assert {row["borders"] for row in rows} == {params.get("borders", "voxels")}


@pytest.mark.parametrize("rule", ["pooled", "directed-max"])
@pytest.mark.parametrize("percentile", [95, 100])
def test_the_notes_name_the_definition(rule: str, percentile: int) -> None:
    name = "hd95_mean" if percentile == 95 else "hausdorff_mean"
    for borders, words, others in (
        ("voxels", "border voxels", ("surface elements", "surface-distance")),
        ("surfels", "surface elements", ("border voxels", "MONAI", "MedPy")),
    ):
        items = run(borders=borders, hausdorff_rule=rule, hausdorff_percentile=percentile)
        for note in (of_et(items, name).note, of_et(items, "surface_dice_mean").note):
            assert words in note and not [other for other in others if other in note]
    pooled = of_et(run(borders="surfels"), "hd95_mean").note
    assert "hausdorff_rule=directed-max" in pooled  # it is not surface-distance's, and what is
