"""Dice and HD95: cases worked by hand, a brute force, and the conventions about empty regions."""

from __future__ import annotations

import pytest

np = pytest.importorskip("numpy")
pytest.importorskip("scipy", reason="scipy is not installed")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from hypothesis.extra import numpy as npst  # noqa: E402
from synthkit_overlap import Params, comparison, metrics, synthkit_declare  # noqa: E402
from synthkit_overlap.comparison import diagonal_mm, dice  # noqa: E402
from synthkit_overlap.metrics import score  # noqa: E402
from synthkit_overlap.surfaces import bounding_box, hausdorff, surface_dice, surface_distances  # noqa: E402

from synthkit import MetricDeclaration, Row, Score  # noqa: E402
from synthkit.errors import DataError  # noqa: E402
from synthkit.testing import InMemoryVolumes  # noqa: E402

MM = (1.0, 1.0, 1.0)


def cube(shape: tuple[int, int, int], start: tuple[int, int, int], side: int) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    mask[tuple(slice(s, s + side) for s in start)] = True
    return mask


def single(shape: tuple[int, int, int], voxel: tuple[int, int, int]) -> np.ndarray:
    return cube(shape, voxel, 1)


def brute_force(reference: np.ndarray, prediction: np.ndarray, spacing_mm: tuple[float, float, float]):
    """Directed distances by every pair of border voxels; the border voxel by voxel from its definition."""

    def border(mask: np.ndarray) -> np.ndarray:
        padded = np.pad(mask, 1)
        found = []
        for voxel in np.argwhere(padded):
            neighbours = [voxel + sign * np.eye(3, dtype=int)[axis] for axis in range(3) for sign in (-1, 1)]
            if not all(padded[tuple(n)] for n in neighbours):
                found.append(voxel)
        return np.array(found) * np.array(spacing_mm)

    a, b = border(reference), border(prediction)
    distances = np.sqrt(((a[:, None] - b[None]) ** 2).sum(axis=2))
    return distances.min(axis=1), distances.min(axis=0)


def scores_of(items: list[Score | Row], name: str, **of: str) -> Score:
    found = [item for item in items if isinstance(item, Score) and item.name == name and dict(item.of) == of]
    assert len(found) == 1
    return found[0]


def labels(**voxels: int) -> np.ndarray:
    """A 10 x 10 x 10 label volume with so many voxels of each label, in a row of its own."""
    volume = np.zeros((10, 10, 10), dtype=np.uint8)
    for name, n in voxels.items():
        value = {"NCR": 1, "ED": 2, "ET": 4}[name]
        volume[value, 5, :n] = value
    return volume


# ----------------------------------------------------------------------------------------- worked by hand


def test_identical_masks() -> None:
    mask = cube((12, 12, 12), (3, 4, 5), 4)
    assert dice(mask, mask) == 1.0
    result = hausdorff(mask, mask, MM)
    assert (result.pooled_mm, result.directed_mm) == (0.0, 0.0)


@pytest.mark.parametrize("shift", [1, 2, 3])
def test_shifted_cubes_dice(shift: int) -> None:
    """Two cubes of side 4 share (4 - k) * 16 voxels."""
    a, b = cube((16, 16, 16), (2, 2, 2), 4), cube((16, 16, 16), (2 + shift, 2, 2), 4)
    assert dice(a, b) == pytest.approx(2 * (4 - shift) * 16 / 128)


def test_shifted_cubes_distances() -> None:
    """Side 4, shifted by 1 along x: of 56 border voxels, worked out slice by slice.

    x slices of A are 2..5, of B 3..6. Slice 2 of A (16 voxels) is beside slice 3 of B, a whole face: distance 1.
    Slice 3 of A is a ring of 12, all in B's face. Slice 4 is a ring of 12 in both. Slice 5 of A is a face of 16,
    B's slice 5 is a ring: the 4 inner voxels are 1 from the ring. So 16 + 4 = 20 at distance 1, 36 at 0.
    """
    a, b = cube((16, 16, 16), (2, 2, 2), 4), cube((16, 16, 16), (3, 2, 2), 4)
    for distances in surface_distances(a, b, MM):
        assert np.array_equal(np.sort(distances), [0.0] * 36 + [1.0] * 20)


def test_shifted_cubes_surface_dice() -> None:
    """The same cubes: 36 of the 56 border voxels of each at distance 0, all within 1."""
    a, b = cube((16, 16, 16), (2, 2, 2), 4), cube((16, 16, 16), (3, 2, 2), 4)
    both_ways = surface_distances(a, b, MM)
    assert surface_dice(*both_ways, 0.0) == surface_dice(*both_ways, 0.99) == pytest.approx(36 / 56)
    assert surface_dice(*both_ways, 1.0) == 1.0
    # A single voxel 3 mm from a plate of 25 that is nearest to it in one voxel: only what is within 3 mm counts.
    voxel, plate = single((9, 9, 9), (1, 4, 4)), np.zeros((9, 9, 9), dtype=bool)
    plate[4, 2:7, 2:7] = True
    assert surface_dice(*surface_distances(voxel, plate, MM), 3.0) == pytest.approx((1 + 1) / 26)


def test_far_cubes_need_the_tree() -> None:
    """Two flat plates 9 voxels apart along y at 2 mm: every voxel has distance 18 mm."""
    a, b = np.zeros((2, 8, 20, 8), dtype=bool)
    a[:, 3, :] = b[:, 12, :] = True
    result = hausdorff(a, b, (1.0, 2.0, 1.0))
    assert (result.pooled_mm, result.directed_mm) == (18.0, 18.0)


def test_single_voxels_with_anisotropic_spacing() -> None:
    a, b = single((9, 9, 9), (1, 1, 1)), single((9, 9, 9), (4, 5, 3))
    expected = np.sqrt((3 * 1.0) ** 2 + (4 * 0.5) ** 2 + (2 * 3.0) ** 2)  # 7 mm
    assert expected == 7.0
    assert hausdorff(a, b, (1.0, 0.5, 3.0)).pooled_mm == pytest.approx(7.0)


def test_nearest_is_by_millimetres_not_voxels() -> None:
    """One voxel along z is 5 mm; three along x are 3 mm, and nearer."""
    a = single((9, 9, 9), (4, 4, 4))
    b = single((9, 9, 9), (4, 4, 5)) | single((9, 9, 9), (7, 4, 4))
    to_b, to_a = surface_distances(a, b, (1.0, 1.0, 5.0))
    assert to_b.tolist() == [3.0]
    assert sorted(to_a.tolist()) == [3.0, 5.0]


def test_the_two_conventions_differ_and_are_not_mixed_up() -> None:
    """One shared voxel, and one more of the prediction 10 mm away.

    Distances: {0} and {0, 10}. Pooled {0, 0, 10}: position 0.95 * 2 = 1.9, so 9. Directed {0, 10}: 9.5.
    """
    a = single((20, 3, 3), (1, 1, 1))
    b = a | single((20, 3, 3), (11, 1, 1))
    result = hausdorff(a, b, MM)
    assert result.pooled_mm == pytest.approx(9.0)
    assert result.directed_mm == pytest.approx(9.5)


def test_voxels_at_the_edge_of_the_volume_are_border() -> None:
    """A full 3x3x3 volume: all but the centre, whose distance is from the face, 1."""
    full = np.ones((3, 3, 3), dtype=bool)
    to_single, to_full = surface_distances(full, single((3, 3, 3), (1, 1, 1)), MM)
    assert to_single.size == 26
    assert to_full.tolist() == [1.0]


def test_bounding_box() -> None:
    mask = single((5, 6, 7), (1, 2, 3)) | single((5, 6, 7), (3, 2, 6))
    assert bounding_box(mask) == (slice(1, 4), slice(2, 3), slice(3, 7))
    assert bounding_box(np.asfortranarray(mask)) == (slice(1, 4), slice(2, 3), slice(3, 7))
    assert bounding_box(np.zeros((2, 2, 2), dtype=bool)) is None


def test_empty_and_unfit_masks_are_refused() -> None:
    full, empty = np.ones((3, 3, 3), dtype=bool), np.zeros((3, 3, 3), dtype=bool)
    assert dice(empty, empty) is None
    assert dice(full, empty) == dice(empty, full) == 0.0
    for a, b in ((full, empty), (empty, full), (empty, empty)):
        with pytest.raises(ValueError, match="empty"):
            hausdorff(a, b, MM)
    with pytest.raises(ValueError, match="alike"):
        hausdorff(full, full[:2], MM)
    with pytest.raises(ValueError, match="shape"):
        dice(full, full[:2])
    with pytest.raises(ValueError, match="positive"):
        hausdorff(full, full, (1.0, 0.0, 1.0))


# ---------------------------------------------------------------------------------------------- properties

SHAPES = npst.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=9)
SPACINGS = st.tuples(*[st.sampled_from([0.3, 0.5, 1.0, 1.7, 5.0])] * 3)


@st.composite
def mask_pairs(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Two masks of one shape, neither empty: sparse or dense, so that look-ups and tree are both used."""
    shape = draw(SHAPES)
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    masks = []
    for _ in range(2):
        mask = random.random(shape) < draw(st.sampled_from([0.02, 0.2, 0.6, 0.97]))
        mask.reshape(-1)[random.integers(mask.size)] = True
        masks.append(np.asfortranarray(mask) if draw(st.booleans()) else mask)
    return masks[0], masks[1]


@settings(max_examples=150, deadline=None)
@given(mask_pairs(), SPACINGS)
def test_equals_brute_force(masks: tuple[np.ndarray, np.ndarray], spacing_mm: tuple[float, float, float]) -> None:
    a, b = masks
    expected = brute_force(a, b, spacing_mm)
    for ours, theirs in zip(surface_distances(a, b, spacing_mm), expected, strict=True):
        np.testing.assert_allclose(np.sort(ours), np.sort(theirs), rtol=0, atol=1e-9)
    result = hausdorff(a, b, spacing_mm)
    assert result.pooled_mm == pytest.approx(np.percentile(np.hstack(expected), 95), abs=1e-9)
    assert result.directed_mm == pytest.approx(max(np.percentile(d, 95) for d in expected), abs=1e-9)


@settings(max_examples=50, deadline=None)
@given(mask_pairs(), SPACINGS)
def test_symmetric_and_bounded(masks: tuple[np.ndarray, np.ndarray], spacing_mm: tuple[float, float, float]) -> None:
    a, b = masks
    forth, back = hausdorff(a, b, spacing_mm), hausdorff(b, a, spacing_mm)
    assert forth.pooled_mm == pytest.approx(back.pooled_mm, abs=1e-12)
    assert forth.directed_mm == pytest.approx(back.directed_mm, abs=1e-12)
    assert dice(a, b) == dice(b, a)
    assert 0 <= forth.pooled_mm < diagonal_mm(a.shape, spacing_mm)
    assert 0 <= forth.directed_mm < diagonal_mm(a.shape, spacing_mm)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["pooled", "directed-max"]), st.integers(0, 4))
def test_missing_a_region_never_improves_a_mean(seed: int, rule: str, erased: int) -> None:
    """Erase what was predicted of one subject: no mean of Dice rises, no mean of HD95 falls."""
    random = np.random.default_rng(seed)
    names = [f"s{i}" for i in range(5)]
    values = np.array([0, 0, 0, 1, 2, 4], dtype=np.uint8)
    reference = {name: random.choice(values, (6, 7, 5)) for name in names}
    prediction = {name: random.choice(values, (6, 7, 5)) for name in names}
    worse = {**prediction, names[erased]: np.zeros((6, 7, 5), dtype=np.uint8)}
    params = Params(hausdorff_rule=rule, resamples=100)
    before, after = (
        list(
            score(
                metrics=["dice", "hausdorff"],
                params=params,
                reference=InMemoryVolumes(reference),
                prediction=InMemoryVolumes(p),
            )
        )
        for p in (prediction, worse)
    )
    for region in ("NCR", "ED", "ET", "TC", "WT", "mean"):
        assert scores_of(after, "dice_mean", region=region).value <= scores_of(before, "dice_mean", region=region).value
        assert scores_of(after, "hd95_mean", region=region).value >= scores_of(before, "hd95_mean", region=region).value


# ------------------------------------------------------------------------------------------------- the metric


def run(reference: InMemoryVolumes, prediction: InMemoryVolumes, *names: str, **params: object) -> list[Score | Row]:
    return list(
        score(
            metrics=names or ("dice", "hausdorff"),
            params=Params(**params),
            reference=reference,
            prediction=prediction,
        )
    )


def test_declarations_cover_what_is_scored() -> None:
    declared = {item.name: item for item in synthkit_declare()}
    assert set(declared) >= {"dice", "hausdorff", "surface-dice", "lesion-dice", "lesion-f1"}
    for name, declaration in declared.items():
        assert isinstance(declaration, MetricDeclaration)
        assert declaration.module == metrics.__name__
        volumes = InMemoryVolumes({"a": labels(NCR=2, ED=3, ET=4)})
        items = [*run(volumes, volumes, name), *run(volumes, volumes, name, hausdorff_percentile=100)]
        seen = {item.name for item in items if isinstance(item, Score)}
        assert seen == {definition.name for definition in declaration.scores}


def test_perfect_prediction() -> None:
    volumes = InMemoryVolumes({name: labels(NCR=2, ED=3, ET=4) for name in "abcdefghij"})
    items = run(volumes, volumes)
    for region in ("NCR", "ED", "ET", "TC", "WT", "mean"):
        mean = scores_of(items, "dice_mean", region=region)
        assert (mean.value, mean.high, mean.n) == (1.0, 1.0, 10)
        # Ten patients who were not missed: at most about a fifth is, by an eleventh who counts for 0.4 of one.
        assert mean.low == pytest.approx(0.77, abs=0.05)
        assert scores_of(items, "hd95_mean", region=region).value == 0.0
        assert scores_of(items, "n_missed", region=region).value == 0


def test_cases_are_counted_and_noted() -> None:
    """a: ET missed. b: ET false. c: ET in neither. d: ET found, half of it (Dice 2/3)."""
    reference = InMemoryVolumes({"a": labels(ET=4), "b": labels(ED=1), "c": labels(ED=1), "d": labels(ET=4)})
    prediction = InMemoryVolumes({"a": labels(), "b": labels(ED=1, ET=2), "c": labels(ED=1), "d": labels(ET=2)})
    items = run(reference, prediction)
    assert [scores_of(items, f"n_{case}", region="ET").value for case in ("missed", "false", "empty")] == [1, 1, 1]
    et = {s: scores_of(items, "dice", subject=s, region="ET") for s in "abcd"}
    assert [et[s].value for s in "abcd"] == [0.0, 0.0, None, pytest.approx(2 / 3)]
    assert "missed" in et["a"].note and "false" in et["b"].note and "both empty" in et["c"].note
    mean = scores_of(items, "dice_mean", region="ET")
    assert mean.value == pytest.approx((0 + 0 + 2 / 3) / 3)
    assert mean.n == 3
    # 10 x 10 x 10 at 1 mm. The distances of d are {0, 0, 1, 2} and {0, 0}; pooled, position 0.95 * 5 = 4.75: 1.75.
    assert scores_of(items, "hd95", subject="d", region="ET").value == pytest.approx(1.75)
    assert scores_of(items, "hd95_mean", region="ET").value == pytest.approx((2 * np.sqrt(300) + 1.75) / 3)
    assert scores_of(items, "hd95", subject="c", region="ET").value is None


def test_excluding_says_so() -> None:
    reference = InMemoryVolumes({"a": labels(ET=4), "b": labels(ET=4)})
    prediction = InMemoryVolumes({"a": labels(), "b": labels(ET=4)})
    items = run(reference, prediction, hausdorff_one_empty="exclude")
    mean = scores_of(items, "hd95_mean", region="ET")
    assert (mean.value, mean.n) == (0.0, 1)
    assert "EXCLUDED" in mean.note
    assert scores_of(items, "n_missed", region="ET").value == 1
    assert scores_of(items, "dice_mean", region="ET").value == 0.5


def test_maximum_instead_of_the_percentile_and_labels_alone() -> None:
    reference = InMemoryVolumes({"a": labels(ET=4), "b": labels(ET=4), "c": labels(ET=1)}, (1.0, 1.0, 5.0))
    prediction = InMemoryVolumes({"a": labels(ET=2), "b": labels(ET=4), "c": labels()}, (1.0, 1.0, 5.0))
    rules = {"hausdorff_percentile": 100, "hausdorff_one_empty": "exclude", "nested_regions": False}
    items = run(reference, prediction, **rules)
    assert scores_of(items, "hausdorff", subject="a", region="ET").value == 10.0  # the farthest of {0, 0, 5, 10}
    mean = scores_of(items, "hausdorff_mean", region="ET")
    assert (mean.value, mean.n) == (5.0, 2)
    assert "maximum" in mean.note and "EXCLUDED" in mean.note
    scores = [item for item in items if isinstance(item, Score)]
    assert {item.of["region"] for item in scores if "region" in item.of} == {"NCR", "ED", "ET", "mean"}
    assert not [item.name for item in scores if item.name.startswith("hd95")]


def test_both_empty_as_perfect() -> None:
    volumes = InMemoryVolumes({"a": labels(ED=2)})
    items = run(volumes, volumes, both_empty="perfect")
    assert scores_of(items, "dice", subject="a", region="ET").value == 1.0
    assert scores_of(items, "hd95", subject="a", region="ET").value == 0.0
    assert scores_of(items, "dice_mean", region="mean").value == 1.0


def test_mean_of_labels_is_the_mean_of_their_means() -> None:
    """NCR 1 and 1, ED 1 (once), ET 0 (once): (1 + 1 + 0) / 3, not 3/4, the mean of the four numbers."""
    reference = InMemoryVolumes({"a": labels(NCR=2, ED=2), "b": labels(NCR=2, ET=2)})
    prediction = InMemoryVolumes({"a": labels(NCR=2, ED=2), "b": labels(NCR=2)})
    items = run(reference, prediction, "dice")
    assert scores_of(items, "dice_mean", region="mean").value == pytest.approx(2 / 3)
    assert scores_of(items, "dice_std", region="mean").value == pytest.approx(np.std([1.0, 0.5], ddof=1))
    assert "no interval" in scores_of(items, "dice_mean", region="mean").note


def test_nothing_to_average() -> None:
    volumes = InMemoryVolumes({name: labels(ED=2) for name in "abc"})
    items = run(volumes, volumes)
    mean = scores_of(items, "dice_mean", region="ET")
    assert (mean.value, mean.n) == (None, 0)
    assert "no subject counts" in mean.note
    assert scores_of(items, "dice_mean", region="mean").value == 1.0
    assert "mean of the means of ED; no subject counts for NCR" in scores_of(items, "dice_mean", region="mean").note


def test_rows() -> None:
    reference = InMemoryVolumes({"a": labels(ET=4)}, (1.0, 1.0, 5.0))
    prediction = InMemoryVolumes({"a": labels(ET=2)}, (1.0, 1.0, 5.0))
    rows = {item.values["region"]: item.values for item in run(reference, prediction) if isinstance(item, Row)}
    assert set(rows) == {"NCR", "ED", "ET", "TC", "WT"}
    # Distances {0, 0, 5, 10} and {0, 0} mm: pooled position 4.75 gives 8.75, directed position 2.85 gives 9.25.
    assert rows["ET"] == {
        "subject": "a",
        "region": "ET",
        "case": "both",
        "dice": pytest.approx(2 / 3),
        "hd95_pooled_mm": pytest.approx(8.75),
        "hd95_directed_mm": pytest.approx(9.25),
        "hausdorff_mm": 10.0,
        "surface_dice": pytest.approx(4 / 6),
        "reference_voxels": 4,
        "prediction_voxels": 2,
        "reference_volume_ml": pytest.approx(0.02),
        "prediction_volume_ml": pytest.approx(0.01),
        "in_mean": 1,
        "borders": "voxels",
        "diagonal_mm": pytest.approx(51.96, abs=0.01),
        **dict.fromkeys(("lesion_dice", "lesion_nsd", "lesion_f1", "lesions_missed", "lesions_false")),
    }
    assert rows["NCR"]["case"] == "empty"
    directed = run(reference, prediction, hausdorff_rule="directed-max")
    assert scores_of(directed, "hd95", subject="a", region="ET").value == pytest.approx(9.25)


def test_dice_alone_measures_no_distance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "surface_distances", lambda *_: pytest.fail("no distance was asked for"))
    volumes = InMemoryVolumes({"a": labels(ET=4)})
    rows = [item for item in run(volumes, volumes, "dice") if isinstance(item, Row)]
    assert all(row.values["hd95_pooled_mm"] is None for row in rows)


def test_surface_dice_of_a_missed_and_of_a_false_region_is_zero() -> None:
    reference = InMemoryVolumes({"a": labels(ET=4), "b": labels(NCR=1), "c": labels(ET=4)})
    prediction = InMemoryVolumes({"a": labels(), "b": labels(NCR=1, ET=2), "c": labels(ET=4)})
    items = run(reference, prediction, "surface-dice")
    values = [scores_of(items, "surface_dice", subject=name, region="ET").value for name in "abc"]
    assert values == [0.0, 0.0, 1.0]
    mean = scores_of(items, "surface_dice_mean", region="ET")
    assert mean.value == pytest.approx(1 / 3) and "within 1 mm" in mean.note and "2 missed or false" in mean.note
    assert scores_of(items, "surface_dice", subject="a", region="NCR").value is None


def test_unpaired_subjects_are_named() -> None:
    reference = InMemoryVolumes({"a": labels(ET=4), "only-reference": labels()})
    prediction = InMemoryVolumes({"a": labels(ET=4), "only-prediction": labels()})
    unpaired = scores_of(run(reference, prediction), "n_unpaired")
    assert (unpaired.value, unpaired.n) == (2, 1)
    assert "only-reference: no prediction" in unpaired.note
    assert "only-prediction: no reference" in unpaired.note


def test_data_errors_name_the_subject() -> None:
    a = labels(ET=4)
    with pytest.raises(DataError, match="no subject in common"):
        run(InMemoryVolumes({"a": a}), InMemoryVolumes({"b": a}))
    with pytest.raises(DataError, match="of a are not on one grid"):
        run(InMemoryVolumes({"a": a}), InMemoryVolumes({"a": a[:5]}))
    with pytest.raises(DataError, match="of a are not on one grid"):
        run(InMemoryVolumes({"a": a}), InMemoryVolumes({"a": a}, (1.0, 1.0, 2.0)))
    with pytest.raises(DataError, match=r"a cannot be scored.*\[7\]"):
        run(InMemoryVolumes({"a": a}), InMemoryVolumes({"a": np.where(a == 4, np.uint8(7), a)}))


# ----------------------------------------------------------------------------------------------- intervals


def test_few_patients_have_no_interval_and_are_told_how_many_do() -> None:
    for n, has in ((3, False), (9, False), (10, True)):
        volumes = InMemoryVolumes({f"s{k}": labels(ET=k + 2) for k in range(n)})
        mean = scores_of(run(volumes, volumes), "dice_mean", region="ET")
        assert (mean.low is not None) == has
        assert (f"{n} patients: no interval, give at least 10" in mean.note) == (not has)
    scans = InMemoryVolumes({f"sub-{k // 2:02}_ses-{k % 2}": labels(ET=k + 2) for k in range(18)})
    assert "9 patients: no interval" in scores_of(run(scans, scans), "dice_mean", region="ET").note
