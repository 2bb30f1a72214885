"""The ratio of two arms is one of the means that the metrics give, for every score, and false islands lower it."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

np = pytest.importorskip("numpy")
pytest.importorskip("scipy.ndimage", reason="scipy is not installed")

from synthkit_overlap import Params  # noqa: E402
from synthkit_overlap.metrics import score  # noqa: E402

from synthkit import Row, Score  # noqa: E402
from synthkit.judging.arms import ArmComparison, compared_arms, partings  # noqa: E402
from synthkit.judging.overlap_tables import OverlapTable  # noqa: E402
from synthkit.testing import InMemoryVolumes  # noqa: E402

NAMES = ("dice", "lesion-dice", "lesion-f1", "surface-dice", "hausdorff")
MEANS = {
    "Dice": "dice_mean", "lesion-wise Dice": "lesion_dice_mean", "lesion F1": "lesion_f1_mean",
    "NSD": "surface_dice_mean", "HD95 (mm)": "hd95_mean",
}  # fmt: skip


def subjects(rng: np.random.Generator, *, exact: bool, islands: bool) -> dict[str, np.ndarray]:
    """Six subjects with oedema and necrosis, four of them with enhancing tumour; ``islands``: in all places, of ET."""
    found = {}
    for number in range(6):
        labels = np.zeros((40, 36, 30), np.uint8)
        labels[4:18, 4:18, 4:18], labels[8:14, 8:14, 8:14] = 2, 1
        if number < 4:
            labels[9:13, 9:13, 9:13] = 4
        if not exact:
            labels = np.roll(labels, int(rng.integers(0, 2)), axis=0)
        if islands:
            for corner in (24, 31):
                labels[corner : corner + 5, 26:31, 20:25] = 4
        found[f"s{number}"] = labels
    return found


def evaluated(reference: dict, prediction: dict) -> tuple[OverlapTable, Mapping[tuple[str, str], float | None]]:
    items = list(
        score(
            metrics=NAMES, params=Params(resamples=100), reference=InMemoryVolumes(reference),
            prediction=InMemoryVolumes(prediction),
        )
    )  # fmt: skip
    rows = [item.values for item in items if isinstance(item, Row) and item.table == "overlap"]
    table = {(r["subject"], r["region"]): {k: "" if v is None else str(v) for k, v in r.items()} for r in rows}
    return table, {(i.name, i.of["region"]): i.value for i in items if isinstance(i, Score) and set(i.of) == {"region"}}


@pytest.fixture(scope="module")
def arms() -> dict[str, tuple[OverlapTable, Mapping[tuple[str, str], float | None]]]:
    rng = np.random.default_rng(0)
    reference = subjects(rng, exact=True, islands=False)
    return {
        "real": evaluated(reference, subjects(rng, exact=False, islands=False)),
        "islands": evaluated(reference, subjects(rng, exact=False, islands=True)),
    }


def compared(arms: dict, name: str) -> dict[tuple[str, str], ArmComparison]:
    found = compared_arms([arms["real"][0]], [arms[name][0]], resamples=100)
    return {(item.region, item.score): item for item in found}


def test_same_predictions_have_the_same_numbers_in_evaluate_and_in_a_ratio(arms: dict) -> None:
    found = compared(arms, "islands")
    assert {score for _, score in found} == set(MEANS)
    for (region, name), item in found.items():
        for arm, value in (("real", item.comparison.real), ("islands", item.comparison.synthetic)):
            assert value == pytest.approx(arms[arm][1][MEANS[name], region]), (region, name, arm)


def test_a_false_island_lowers_every_score_and_its_ratio(arms: dict) -> None:
    found, clean = compared(arms, "islands"), compared(arms, "real")
    for region in ("ET", "WT", "mean"):
        for name in ("Dice", "lesion-wise Dice", "lesion F1", "NSD"):
            ratio, own = found[region, name].comparison.ratio, clean[region, name].comparison.ratio
            assert own == pytest.approx(1) and ratio is not None and ratio < 1, (region, name)
        assert found[region, "HD95 (mm)"].comparison.difference > 0
    assert found["ET", "Dice"].cases is not None and found["ET", "Dice"].cases.n_false == 2


def test_where_ratios_by_voxels_and_by_lesions_part_is_said(arms: dict) -> None:
    said = partings(list(compared(arms, "islands").values()))
    (whole,) = (text for text in said if text.startswith("WT: "))
    assert "of real, lesion-wise" in whole and ": false islands (6.0 false and 0.0 missed lesions" in whole
    assert partings(list(compared(arms, "real").values())) == []


def test_columns_of_lesions_are_empty_where_they_were_not_asked_for() -> None:
    labels = subjects(np.random.default_rng(0), exact=True, islands=False)
    sides = {"reference": InMemoryVolumes(labels), "prediction": InMemoryVolumes(labels)}
    rows = [item.values for item in score(metrics=("dice",), params=Params(), **sides) if isinstance(item, Row)]
    assert rows and all(row["lesion_dice"] is row["lesions_false"] is None for row in rows)
