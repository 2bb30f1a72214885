"""Lesions: what one is, which prediction belongs to it, what a false one costs, and what the notes say of it."""

from __future__ import annotations

import pytest

np = pytest.importorskip("numpy")
ndimage = pytest.importorskip("scipy.ndimage", reason="scipy is not installed")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from synthkit_overlap import Params, lesions  # noqa: E402
from synthkit_overlap.components import components, dilate, joined_by_touch, joined_components, touching  # noqa: E402
from synthkit_overlap.lesion_rules import RULES  # noqa: E402
from synthkit_overlap.lesions import Wanted, islands, lesion_scores, lesions_by_region  # noqa: E402
from synthkit_overlap.metrics import score  # noqa: E402
from synthkit_overlap.surfels import surfel_hd95  # noqa: E402

from synthkit import Row, Score  # noqa: E402
from synthkit.data.named_schemes import SCHEMES  # noqa: E402
from synthkit.errors import DataError  # noqa: E402
from synthkit.schemes import BRATS, Scheme  # noqa: E402
from synthkit.testing import InMemoryVolumes  # noqa: E402

MM = (1.0, 1.0, 1.0)
ALL = ("lesion-dice", "lesion-hd95", "lesion-nsd", "lesion-f1")
SHAPE = (48, 40, 36)


def cubes(*cubes_: tuple[tuple[int, int, int], int, int], shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    """Labels: cubes of ``(start, side, value)``."""
    labels = np.zeros(shape, dtype=np.uint8)
    for start, side, value in cubes_:
        labels[tuple(slice(a, a + side) for a in start)] = value
    return labels


def run(reference: np.ndarray, prediction: np.ndarray, *names: str, n: int = 1, **params: object) -> list:
    """Scores of ``n`` equal subjects."""
    sides = [InMemoryVolumes({f"s{i}": side for i in range(n)}) for side in (reference, prediction)]
    return scored(*sides, *names, **params)


def scored(reference: InMemoryVolumes, prediction: InMemoryVolumes, *names: str, **params: object) -> list:
    params = Params(**{"resamples": 100, **params})
    return list(score(metrics=names or ALL, params=params, reference=reference, prediction=prediction))


def found(items: list[Score | Row], name: str, region: str = "WT", **of: str) -> Score:
    of = {**of, "region": region}
    (item,) = (item for item in items if isinstance(item, Score) and item.name == name and dict(item.of) == of)
    return item


def value(items: list[Score | Row], name: str, region: str = "WT") -> float:
    return found(items, name, region, subject="s0").value


def rows(items: list[Score | Row], region: str = "WT") -> list[dict[str, object]]:
    tables = [item.values for item in items if isinstance(item, Row) and item.table == "lesions"]
    return [dict(values) for values in tables if values["region"] == region]


# ------------------------------------------------------------------------------------------------- components


@given(st.data())
@settings(deadline=None, max_examples=60)
def test_dilation_is_that_of_scipy(data: st.DataObject) -> None:
    shape = data.draw(st.tuples(st.integers(1, 9), st.integers(1, 9), st.sampled_from([1, 2, 9, 63, 64, 65, 130])))
    mask = np.random.default_rng(data.draw(st.integers(0, 99))).random(shape) < 0.02
    steps = data.draw(st.integers(1, 5))
    structure = ndimage.generate_binary_structure(3, 2)
    assert (dilate(mask, steps) == ndimage.binary_dilation(mask, structure, iterations=steps)).all()
    assert (dilate(mask, 0) == mask).all()


def test_components_are_numbered_in_order_and_join_within_twice_the_dilation() -> None:
    labels = cubes(((2, 2, 2), 3, 1), ((12, 2, 2), 3, 1), ((2, 30, 30), 3, 1)) > 0
    assert [int(components(labels)[tuple(at)]) for at in ((2, 2, 2), (2, 30, 30), (12, 2, 2))] == [1, 2, 3]
    # Seven empty voxels between the first two: dilated by 3 from both sides, their masks are neighbours but for one.
    assert joined_components(labels, 3).max() == 3
    assert joined_components(labels, 4).max() == 2
    assert (joined_components(labels, 4)[~labels] == 0).all()


def test_lesions_join_by_what_they_touch() -> None:
    one = components(cubes(((2, 2, 2), 2, 1), ((10, 2, 2), 2, 1), ((20, 2, 2), 2, 1), ((30, 2, 2), 2, 1)) > 0)
    bridge = np.zeros(SHAPE, dtype=np.int32)
    bridge[2:12, 4, 2:4] = 5
    bridge[20:22, 4, 2:4] = 9
    assert touching(one, bridge) == [(1, 5), (2, 5), (3, 9)]
    joined = joined_by_touch(one, [bridge])
    at = [int(joined[x, 2, 2]) for x in (2, 10, 20, 30)]
    assert at[0] == at[1] and len(set(at)) == 3
    # Corner to corner is not touching, edge to edge is.
    corner, edge = np.zeros(SHAPE, dtype=np.int32), np.zeros(SHAPE, dtype=np.int32)
    corner[4, 4, 4], edge[4, 4, 3] = 1, 1
    assert touching(one, corner) == [] and touching(one, edge) == [(1, 1)]


# ------------------------------------------------------------------------------------------------- islands


@given(st.integers(0, 200), st.sampled_from(sorted(RULES)))
@settings(deadline=None, max_examples=25)
def test_islands_change_nothing(seed: int, rules: str) -> None:
    """The same lesions as in one box of the whole volume, where boxes overlap as well."""
    rng = np.random.default_rng(seed)
    sides = []
    for _ in range(2):
        labels = np.zeros((60, 50, 45), dtype=np.uint8)
        labels[4, 2:48, 4] = labels[4:58, 47, 4] = 2  # a bracket around the rest
        for _ in range(9):
            start, side = rng.integers(0, 40, 3), rng.integers(1, 6)
            labels[tuple(slice(a, a + side) for a in start)] = rng.integers(1, 4)
        sides.append(labels)
    values = {"WT": (1, 2, 3), "NCR": (1,), "ED": (2,), "ET": (3,)}
    given_ = (*sides, MM, values, values, RULES[rules], Wanted(hd95=True, tolerances_mm=(1.0,)))
    apart = lesions_by_region(*given_)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lesions, "islands", lambda *_: [((slice(None),) * 3, None)])
        together = lesions_by_region(*given_)
    for region in values:
        assert sorted(map(str, apart[region])) == sorted(map(str, together[region]))


def test_overlapping_boxes_hold_each_lesion_once() -> None:
    labels = cubes(((20, 20, 20), 3, 1), shape=(50, 50, 40))
    labels[2, 2:48, 20] = labels[2:48, 2, 20] = 1
    boxes = list(islands(labels, labels, 1))
    assert len(boxes) == 2 and all(own is not None for _, own in boxes[:1])
    (answer,) = lesions_by_region(labels, labels, MM, {"A": (1,)}, {"A": (1,)}, RULES["met2024"], Wanted()).values()
    assert sorted(lesion.reference_voxels for lesion in answer) == [27, 91]
    assert all(lesion.dice == 1 for lesion in answer)


# ------------------------------------------------------------------------------------------------- surface elements


def test_hd95_over_surface_elements() -> None:
    one, other = cubes(((10, 10, 10), 8, 1)) > 0, cubes(((12, 10, 10), 8, 1)) > 0
    assert surfel_hd95(one, one, MM) == 0
    assert surfel_hd95(one, other, MM) == 2
    assert surfel_hd95(one, other, (2.5, 1, 1)) == 5
    with pytest.raises(ValueError, match="empty"):
        surfel_hd95(one, np.zeros_like(one), MM)


def test_hd95_equals_surface_distance() -> None:
    peer = pytest.importorskip("surface_distance.metrics", reason="surface-distance is not installed")
    rng = np.random.default_rng(3)
    for spacing_mm in (MM, (0.75, 1.0, 2.5)):
        one, other = (ndimage.binary_dilation(rng.random((20, 18, 16)) < 0.003, iterations=2) for _ in range(2))
        expected = peer.compute_robust_hausdorff(peer.compute_surface_distances(one, other, spacing_mm), 95)
        assert surfel_hd95(one, other, spacing_mm) == pytest.approx(expected, abs=1e-9)


# ------------------------------------------------------------------------------------------------- what counts


@pytest.mark.parametrize("rules", sorted(RULES))
def test_a_false_island_lowers_every_score(rules: str) -> None:
    reference = cubes(((8, 8, 8), 8, 4))
    moved = np.roll(reference, 1, 0)
    planted = moved | cubes(((36, 30, 28), 4, 4))
    before, after = (run(reference, prediction, lesion_rules=rules) for prediction in (moved, planted))
    lowered = {
        name
        for name in ("lesion_dice", "lesion_nsd", "lesion_nsd_strict", "lesion_f1")
        if value(after, name, "ET") < value(before, name, "ET")
    }
    raised = value(after, "lesion_hd95", "ET") > value(before, "lesion_hd95", "ET")
    if rules.startswith("men-rt"):  # where the challenge does not count it, the notes say so
        assert lowered == {"lesion_f1"} and not raised
        assert "1 false NOT counted" in found(after, "lesion_dice_mean", "ET").note
    else:
        assert lowered == {"lesion_dice", "lesion_nsd", "lesion_nsd_strict", "lesion_f1"} and raised
        assert value(after, "lesion_dice", "ET") == value(before, "lesion_dice", "ET") / 2
    assert value(after, "lesion_f1", "ET") == pytest.approx(2 / 3)


def test_islands_that_dice_hardly_sees() -> None:
    """A moved truth and eight islands of 64 voxels are 0.9 for Dice and a tenth by lesion."""
    reference = cubes(((20, 20, 20), 24, 4), shape=(96, 96, 96))
    prediction = np.roll(reference, (2, 1, 0), (0, 1, 2))
    for i in range(8):
        prediction |= cubes(((75, 4 + 11 * i, 75), 4, 4), shape=(96, 96, 96))
    items = run(reference, prediction, "dice", "lesion-dice")
    assert found(items, "dice", subject="s0").value > 0.85
    assert value(items, "lesion_dice") == pytest.approx(0.11, abs=0.02)
    assert found(items, "lesions_false").value == 8


def test_penalties_and_counts() -> None:
    reference = cubes(((4, 4, 4), 6, 4), ((30, 4, 4), 6, 4), ((4, 30, 4), 2, 4))
    prediction = cubes(((4, 4, 4), 6, 4), ((30, 28, 20), 6, 4))
    for rules, penalty in (("gli2024", 337), ("gli2023", 374), ("met2024", float(np.linalg.norm(SHAPE)))):
        items = run(reference, prediction, lesion_rules=rules)
        small = 0 if rules == "met2024" else 1  # 8 mm3
        missed = 2 - small
        n = 2 + missed
        assert value(items, "lesion_dice", "ET") == pytest.approx(1 / n)
        assert value(items, "lesion_nsd", "ET") == pytest.approx(1 / n)
        assert value(items, "lesion_hd95", "ET") == pytest.approx(penalty * (n - 1) / n)
        assert value(items, "lesion_f1", "ET") == pytest.approx(2 / (2 + 1 + missed))
        counts = [found(items, f"lesions_{case}", "ET").value for case in ("found", "missed", "false", "small")]
        assert counts == [1, missed, 1, small]
    table = rows(run(reference, prediction, lesion_rules="gli2024"), "ET")
    assert [row["case"] for row in table] == ["found", "small", "missed", "false"]
    assert [row["lesion"] for row in table] == [1, 2, 3, 4]
    assert [(row["reference_voxels"], row["prediction_voxels"]) for row in table] == [
        (216, 216),
        (8, 0),
        (216, 0),
        (0, 216),
    ]
    assert table[0]["hd95_mm"] == 0 and table[2]["hd95_mm"] == 337 and table[3]["nsd_strict"] == 0


def test_a_prediction_nearby_belongs_to_the_lesion() -> None:
    reference = cubes(((8, 8, 8), 6, 4))
    for gap, rules, case in (
        (3, "gli2023", "found"),
        (4, "gli2023", "missed"),
        (1, "met2023", "found"),
        (2, "met2023", "missed"),
    ):
        prediction = cubes(((14 + gap - 1, 8, 8), 6, 4))
        table = rows(run(reference, prediction, "lesion-dice", lesion_rules=rules), "ET")
        assert table[0]["case"] == case and table[0]["dice"] == 0
        assert len(table) == (1 if case == "found" else 2)


def test_small_predicted_lesions_are_dropped_since_2024_only() -> None:
    reference = cubes(((8, 8, 8), 6, 4))
    prediction = reference | cubes(((30, 30, 30), 2, 4))
    assert value(run(reference, prediction, lesion_rules="gli2023"), "lesion_dice", "ET") == 0.5
    assert value(run(reference, prediction, lesion_rules="gli2024"), "lesion_dice", "ET") == 1
    assert value(run(reference, prediction, lesion_rules="met2024"), "lesion_dice", "ET") == 0.5


def test_sizes_are_volumes_unless_as_run() -> None:
    """Eight voxels of 2 mm are 64 mm3: a lesion, but too few voxels for the published code."""
    reference = cubes(((8, 8, 8), 6, 4))
    prediction = reference | cubes(((30, 30, 30), 2, 4))
    sides = [InMemoryVolumes({"s0": side}, (2.0, 2.0, 2.0)) for side in (reference, prediction)]
    assert value(scored(*sides, lesion_rules="gli2024"), "lesion_dice", "ET") == 0.5
    assert value(scored(*sides, lesion_rules="gli2024-as-run"), "lesion_dice", "ET") == 1
    far = [InMemoryVolumes({"s0": side}, (2.0, 2.0, 2.0)) for side in (reference, np.zeros_like(reference))]
    diagonal = float(np.linalg.norm(SHAPE))
    assert value(scored(*far, lesion_rules="met2024"), "lesion_hd95", "ET") == pytest.approx(2 * diagonal)
    assert value(scored(*far, lesion_rules="met2024-as-run"), "lesion_hd95", "ET") == pytest.approx(diagonal)


def test_dilation_of_oedema_is_5_unless_as_run() -> None:
    reference = cubes(((4, 8, 8), 6, 2), ((18, 8, 8), 6, 2))  # eight voxels apart: 5 joins them, 3 does not
    for rules, n in (("gli2024", 1), ("gli2024-as-run", 2)):
        items = run(reference, reference, "lesion-dice", lesion_rules=rules)
        assert len(rows(items, "ED")) == n and len(rows(items, "WT")) == 2


def test_without_a_lesion_on_either_side() -> None:
    tiny = cubes(((8, 8, 8), 2, 4))
    nothing = np.zeros(SHAPE, dtype=np.uint8)
    for reference, prediction in ((nothing, nothing), (tiny, nothing), (nothing, tiny)):
        items = run(reference, prediction, n=3)
        for name, perfect in (("lesion_dice", 1), ("lesion_hd95", 0), ("lesion_nsd", 1), ("lesion_f1", 1)):
            assert value(items, name, "ET") == perfect
            assert "3 without a lesion on either side perfect" in found(items, f"{name}_mean", "ET").note
        left_out = run(reference, prediction, n=3, lesion_both_empty="exclude")
        assert value(left_out, "lesion_dice", "ET") is None
        assert found(left_out, "lesion_dice_mean", "ET").value is None
        assert "not counted" in found(left_out, "lesion_dice", "ET", subject="s0").note
    only_false = run(nothing, cubes(((8, 8, 8), 6, 4)))
    assert value(only_false, "lesion_dice", "ET") == 0 and value(only_false, "lesion_f1", "ET") == 0


# ------------------------------------------------------------------------------------------------- over subjects


def test_means_have_intervals_and_say_the_rules() -> None:
    reference = cubes(((8, 8, 8), 8, 4), ((30, 8, 8), 4, 1))
    predictions = {f"s{i}": np.roll(reference, i % 4, 0) for i in range(10)}
    sides = InMemoryVolumes(dict.fromkeys(predictions, reference)), InMemoryVolumes(predictions)
    items = scored(*sides)
    mean = found(items, "lesion_dice_mean")
    values = [found(items, "lesion_dice", subject=subject).value for subject in predictions]
    assert mean.value == pytest.approx(np.mean(values)) and mean.low < mean.value < mean.high and mean.n == 10
    assert mean.note.startswith("lesions by the rules gli2024")
    assert "surface elements" in found(items, "lesion_hd95_mean").note
    assert "within 1 mm" in found(items, "lesion_nsd_mean").note
    assert "within 0.5 mm" in found(items, "lesion_nsd_strict_mean").note
    assert "mean of the means of NCR, ED, ET" in found(items, "lesion_dice_mean", "mean").note
    assert found(run(reference, reference, n=2), "lesion_dice_mean").low is None


def test_only_what_is_asked_for_is_scored() -> None:
    reference = cubes(((8, 8, 8), 8, 4))
    items = run(reference, reference, "dice")
    assert not rows(items) and not any(isinstance(i, Score) and i.name.startswith("lesion") for i in items)
    items = run(reference, reference, "lesion-dice")
    assert rows(items)[0]["hd95_mm"] is None and rows(items)[0]["nsd"] is None
    assert not any(isinstance(i, Score) and i.name in ("dice", "lesion_hd95", "lesion_nsd") for i in items)


@pytest.mark.parametrize("name", ["brats2023-gli", "gli2024", "ped", "msd", "men-rt"])
def test_each_side_has_its_own_scheme(name: str) -> None:
    scheme = SCHEMES[name]
    labels = np.zeros(SHAPE, dtype=np.uint8)
    for i, label in enumerate(scheme.labels):
        labels[4:10, 4 + 7 * i : 10 + 7 * i, 8:14] = label.value
    items = scored(*(InMemoryVolumes({"s0": labels}, scheme=scheme),) * 2)
    assert {dict(i.of)["region"] for i in items if isinstance(i, Score) and i.name == "lesion_dice"} == set(
        scheme.region_values
    )
    assert all(value(items, "lesion_dice", region) == 1 for region in scheme.region_values)


def test_values_are_those_of_each_side() -> None:
    reference = cubes(((8, 8, 8), 6, 4))
    prediction = np.where(reference == 4, 3, 0).astype(np.uint8)
    newer: Scheme = SCHEMES["brats2023-gli"]
    sides = InMemoryVolumes({"s0": reference}, scheme=BRATS), InMemoryVolumes({"s0": prediction}, scheme=newer)
    assert value(scored(*sides), "lesion_dice", "ET") == 1
    with pytest.raises(DataError, match="cannot be scored"):
        scored(sides[0], InMemoryVolumes({"s0": prediction}, scheme=BRATS))


def test_refused() -> None:
    labels = cubes(((8, 8, 8), 6, 1))
    values = {"A": (1,)}
    with pytest.raises(ValueError, match="alike"):
        lesions_by_region(labels, labels[1:], MM, values, values, RULES["gli2024"], Wanted())
    with pytest.raises(ValueError, match="positive"):
        lesions_by_region(labels, labels, (1.0, 0.0, 1.0), values, values, RULES["gli2024"], Wanted())


def test_an_array_without_voxels_has_no_lesion() -> None:
    nothing = np.zeros((0, 4, 4), dtype=np.uint8)
    answer = lesions_by_region(nothing, nothing, MM, {"A": (1,)}, {"A": (1,)}, RULES["gli2024"], Wanted())
    assert answer == {"A": []}
    assert lesion_scores(answer["A"], RULES["gli2024"], Wanted()).dice == 1
