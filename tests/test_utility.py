"""The ratio of two arms and its interval: hand-computed cases, identical arms, noise, and what may not be compared."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthkit.data.named_schemes import SCHEMES
from synthkit.data.slices import SliceProtocol
from synthkit.errors import UsageError
from synthkit.judging.arms import (
    ArmComparison,
    compare,
    compared_arms,
    interval_warnings,
    mean_of_arm,
    sentence,
)
from synthkit.judging.comparable import Training, check_comparable
from synthkit.judging.overlap_tables import Cases, OverlapTable, cases_of, read_overlap, regions_of, values_of
from synthkit.schemes import BRATS


def names(n: int) -> list[str]:
    return [f"subject{i:03d}" for i in range(n)]


def test_hand_computed() -> None:
    real, synthetic = np.array([[0.8, 0.6], [0.6, 0.8]]), np.array([[0.4, 0.3]])
    found = compare(real, synthetic, names(2))
    assert found.real == pytest.approx(0.7) and found.synthetic == pytest.approx(0.35)
    assert found.ratio == pytest.approx(0.5) and found.difference == pytest.approx(-0.35)
    assert found.ratio_interval is found.difference_interval is None  # two patients, and one training of an arm
    assert (found.n_patients, found.n_subjects, found.n_real, found.n_synthetic) == (2, 2, 2, 1)


def test_the_interval_of_a_constant_ratio_leaves_room_below_alone() -> None:
    real = np.repeat(np.linspace(0.7, 0.9, 32)[None], 2, axis=0)
    found = compare(real, 0.8 * real, names(32))
    assert found.ratio_interval is not None and found.ratio_interval[0] < 0.78 and found.ratio == pytest.approx(0.8)
    assert found.difference_interval is not None and found.difference_interval[0] < found.difference_interval[1]


def test_arms_of_one_distribution_have_a_ratio_of_one_and_noise_has_none_worth_mentioning() -> None:
    rng = np.random.default_rng(0)
    difficulty = rng.uniform(0.5, 0.9, 30)
    arms = [np.clip(difficulty + rng.normal(0, 0.03, (4, 30)), 0, 1) for _ in range(2)]
    found = compare(*arms, names(30))
    assert found.ratio_interval is not None and found.ratio_interval[0] < 1 < found.ratio_interval[1]
    assert found.ratio_interval[1] - found.ratio_interval[0] < 0.2
    noise = compare(arms[0], np.full((3, 30), 0.01), names(30))
    assert noise.ratio is not None and noise.ratio < 0.02


def test_pairing_narrows_the_interval() -> None:
    rng = np.random.default_rng(1)
    difficulty = rng.uniform(0.2, 0.9, 32)
    real = np.stack([difficulty, difficulty])
    paired = compare(real, 0.9 * real, names(32))
    apart = compare(real, 0.9 * real[:, rng.permutation(32)], names(32))
    assert paired.ratio_interval is not None and apart.ratio_interval is not None
    assert paired.ratio_interval[1] - paired.ratio_interval[0] < apart.ratio_interval[1] - apart.ratio_interval[0]


def test_scans_of_one_patient_are_drawn_together() -> None:
    rng = np.random.default_rng(2)
    one, other = rng.uniform(0.3, 0.9, (2, 2, 30))
    single = compare(one, other, names(30))
    doubled = compare(np.repeat(one, 2, axis=1), np.repeat(other, 2, axis=1), np.repeat(names(30), 2).tolist())
    assert doubled.n_patients == 30 and doubled.n_subjects == 60
    assert single.ratio_interval is not None and doubled.ratio_interval == pytest.approx(single.ratio_interval)


def test_next_to_nothing_has_no_ratio() -> None:
    found = compare(np.array([[0.05, 0.03]]), np.array([[0.02, 0.02]]), ["a", "a"])
    assert found.ratio is found.ratio_interval is found.difference_interval is None
    assert "ratio" not in sentence(ArmComparison("WT", "Dice", found))


def test_what_is_missing_for_an_interval_is_said_and_gives_one() -> None:
    scores = np.random.default_rng(4).uniform(0.5, 0.9, (2, 60))
    few, one, enough = (compare(scores[:k, :n], scores[:k, :n], names(n)) for k, n in ((2, 29), (1, 60), (2, 60)))
    assert few.ratio_interval is one.ratio_interval is None and enough.ratio_interval is not None
    assert interval_warnings([few]) == ["29 patients: no interval of a ratio, give at least 30."]
    assert "Train each arm with at least 2 seeds" in interval_warnings([one])[0]
    assert interval_warnings([enough]) == [] and enough.interval_over == "patients and trainings"
    some = compare(scores[:, :30], scores[:, :30], names(30))
    assert some.ratio_interval is not None and "real arm alone misses" in interval_warnings([some])[0]


def test_distances_have_an_interval_where_the_table_says_how_long_they_can_be() -> None:
    rows = {f"s{k:02}_ET": ("both", 0.8, 2.0 + k) for k in range(32)}
    unknown = table(**rows)
    known = {key: {**row, "diagonal_mm": "100"} for key, row in unknown.items()}
    for tables, has in (((unknown, unknown), False), ((known, known), True)):
        found = {item.score: item.comparison for item in compared_arms(tables, tables, resamples=200)}
        assert found["Dice"].ratio_interval is not None
        assert (found["HD95 (mm)"].ratio_interval is not None) == has
        mean = mean_of_arm(tables, "ET", "hd95_pooled_mm", resamples=200)
        assert mean is not None and (mean.interval is not None) == has


def unequal_arms(draw: st.DrawFn) -> tuple[Any, Any, list[str]]:
    """Two arms of very unequal scores, zeros among them, and whose scan each subject is."""
    n = draw(st.sampled_from([1, 2, 12, 30, 33]))
    patients = draw(st.one_of(st.just(list(range(n))), st.lists(st.integers(0, n), min_size=n, max_size=n)))
    score = st.one_of(st.sampled_from([0.0, 1e-9, 1e-3, 0.5, 1.0]), st.floats(0, 1))
    arms = []
    for _ in range(2):
        n_trainings = draw(st.integers(1, 4))
        training, subject = (draw(st.lists(score, min_size=size, max_size=size)) for size in (n_trainings, n))
        noise = draw(st.lists(score, min_size=n_trainings * n, max_size=n_trainings * n))
        arm = np.outer(training, subject) if draw(st.booleans()) else np.array(noise).reshape(n_trainings, n)
        arms.append(arm)
    return arms[0], arms[1], [f"P{number}" for number in patients]


@settings(deadline=None, max_examples=300)
@given(st.composite(unequal_arms)(), st.floats(0, 0.3))
def test_a_value_lies_in_its_interval(arms: tuple[Any, Any, list[str]], lowest: float) -> None:
    found = compare(*arms, resamples=300, lowest=max(lowest, 1e-12))
    pairs = (("ratio", found.ratio, found.ratio_interval), ("difference", found.difference, found.difference_interval))
    for _, value, interval in pairs:
        if interval is not None:
            assert value is not None and np.isfinite(interval).all()
            assert interval[0] <= value <= interval[1]
    few = found.n_patients < 30 or min(found.n_real, found.n_synthetic) < 2
    assert (found.difference_interval is None) == few


def test_the_order_of_trainings_changes_no_digit() -> None:
    rng = np.random.default_rng(3)
    real, synthetic = rng.uniform(0.3, 0.9, (4, 32)), rng.uniform(0.2, 0.8, (3, 32))
    found = compare(real, synthetic, names(32))
    again = compare(real[::-1], synthetic[[1, 2, 0]], names(32))
    assert again == found and found.ratio_interval is not None


def test_a_sentence_tells_of_false_regions() -> None:
    found = compare(np.ones((1, 6)), np.full((1, 6), 0.889), names(6))
    said = sentence(ArmComparison("ET", "Dice", found, Cases(0, 2, 2), Cases(0, 0, 2)))
    assert "a ratio of 0.889; 6 held-out patients" in said
    assert "found where the reference has none counts as 0: 2.0 of 2 regions, against 0.0" in said
    assert "counts as 0" not in sentence(ArmComparison("ET", "Dice", found, Cases(0, 0, 2), Cases(0, 0, 2)))


@pytest.mark.parametrize(
    ("real", "synthetic", "n"),
    [
        (np.zeros((0, 3)), np.ones((1, 3)), 3),
        (np.ones((1, 3)), np.ones((1, 2)), 3),
        (np.full((1, 2), np.nan), np.ones((1, 2)), 2),
        (np.ones((1, 3)), np.ones((1, 3)), 2),
    ],
)
def test_what_is_no_pair_of_arms(real: Any, synthetic: Any, n: int) -> None:
    with pytest.raises(ValueError, match="arm"):
        compare(real, synthetic, names(n))


def training(name: str, **changes: Any) -> Training:
    metadata = {"plugin": "unet", "contrasts": ["t1", "flair"], "size": [64, 64], "protocol": {"intensity": "max"}}
    metadata["labels"] = BRATS.label_values
    params = {"learning_rate": 0.01, "samples": 1000, "seed": 0, "contrasts": [], **changes.pop("params", {})}
    return Training(name, {**metadata, **changes, "params": params})


def test_only_data_and_seed_may_differ() -> None:
    assert check_comparable([training("a"), training("b", params={"seed": 7})]) == []
    others = {
        "learning_rate": {"params": {"learning_rate": 0.02}},
        "samples": {"params": {"samples": 2000}},
        "contrasts": {"params": {"contrasts": ["t1"]}},
        "size": {"size": [32, 32]},
        "segmenter": {"plugin": "swin"},
    }
    for name, change in others.items():
        pair = [training("a"), training("b", **change)]
        with pytest.raises(UsageError, match=name) as refused:
            check_comparable(pair)
        assert f"--allow-different {name}" in refused.value.fix
        assert len(check_comparable(pair, [name])) == 1
    with pytest.raises(UsageError, match="nothing called rate"):
        check_comparable([training("a"), training("b")], ["rate"])


def test_labels_may_not_differ_by_name() -> None:
    def of(scheme: str, **changes: Any) -> Training:
        return training(scheme, scheme={**SCHEMES[scheme].to_dict(), **changes})

    assert check_comparable([of("brats2018"), of("brats2023-gli"), of("msd"), training("old")]) == []
    for other in ("gli2024", "ped", "whole-tumour"):
        with pytest.raises(UsageError, match=r"labels is \['ED', 'ET', 'NCR'\]"):
            check_comparable([of("brats2018"), of(other)])
    assert len(check_comparable([of("brats2018"), of("gli2024")], ["labels"])) == 1
    core = [{"name": "TC", "labels": ["NCR"], "meaning": "core"}]
    with pytest.raises(UsageError, match="regions is TC of ET/NCR, WT of ED/ET/NCR in brats2018 and TC of NCR in"):
        check_comparable([of("brats2018"), of("brats2021", nested=core)])
    assert check_comparable([of("brats2018"), of("brats2021", nested=[])]) == []


def test_arms_of_other_regions_are_compared_in_those_of_both() -> None:
    def table(**regions: int) -> OverlapTable:
        return {
            (subject, region): {
                "subject": subject, "region": region, "reference_voxels": "9", "prediction_voxels": "9",
                "case": "both", "dice": "0.5", "hd95_pooled_mm": "1.0", "in_mean": str(in_mean),
            }
            for subject in ("a", "b") for region, in_mean in regions.items()
        }  # fmt: skip

    real, other = table(ET=1, RC=1, WT=0), table(ET=1, WT=0)
    for one, two in ((real, other), (other, real)):
        assert {item.region for item in compared_arms([one], [two], resamples=10)} == {"ET", "WT"}
    assert {item.region for item in compared_arms([other], [other], resamples=10)} == {"ET", "WT", "mean"}


def test_patients_count_where_the_job_says_who_they_are(tmp_path: Path) -> None:
    (tmp_path / "outputs").mkdir()
    with (tmp_path / "outputs" / "overlap.csv").open("w", newline="") as file:
        columns = ("subject", "region", "reference_voxels", "prediction_voxels", "case", "dice")
        csv.writer(file).writerows(
            [columns, *((name, "ET", 9, 9, "both", 0.5) for name in ("a", "b", "c_pre", "c_post"))]
        )
    (_, one), *_ = [(item.region, item.comparison) for item in compared_arms(*[[read_overlap(tmp_path)]] * 2)]
    assert (one.n_subjects, one.n_patients) == (4, 3)
    (tmp_path / "job.json").write_text(json.dumps({"options": {"patients": {"a": "p", "b": "p"}}}))
    (_, one), *_ = [(item.region, item.comparison) for item in compared_arms(*[[read_overlap(tmp_path)]] * 2)]
    assert (one.n_subjects, one.n_patients) == (4, 2)


def test_protocols_of_other_versions_are_those_that_they_are() -> None:
    old = {"name": "akbar2024", "contrasts": ["t1"], "size": 64, "intensity": "max", "axis": "axial"}
    new = SliceProtocol.from_dict(old).to_dict()
    assert new.keys() > old.keys()

    def of(recorded: dict[str, Any], axes: str | None = None, **changes: Any) -> Training:
        geometry = {"geometry": {"axes": axes, "spacing_mm": None}} if axes else {}
        return training(f"{axes}", protocol={**recorded, **geometry, **changes})

    stored, turned = of(new, "LPS"), of(new, "LPS", orientation="LPS")
    for one, other in ((of(old), of(new)), (of(old), stored), (stored, turned), (of({}), of({}))):
        assert check_comparable([one, other]) == check_comparable([other, one]) == []
    for one, other, name in (
        (stored, of(new, "RAS"), "orientation"),
        (of(old), turned, "orientation"),
        (of(old), of(new, intensity="p99.9"), "protocol"),
        (of({}), of(new), "protocol"),
    ):
        for pair in ([one, other], [other, one]):
            with pytest.raises(UsageError, match=f"{name} is"):
                check_comparable(pair)
    assert check_comparable([stored, of(new, "RAS")], ["orientation"]) == ["orientation is LPS in LPS and RAS in RAS."]


def test_missed_and_false_regions_count_and_those_in_neither_do_not(tmp_path: Path) -> None:
    rows = [
        ("a", "ET", 10, 8, "0.8"), ("b", "ET", 10, 0, "0.0"), ("c", "ET", 0, 5, "0.0"), ("d", "ET", 0, 0, ""),
        ("a", "NCR", 4, 4, "1.0"), ("b", "NCR", 0, 0, ""), ("c", "NCR", 6, 3, "0.5"), ("a", "WT", 14, 12, "0.9"),
    ]  # fmt: skip
    with (tmp_path / "overlap.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["subject", "region", "reference_voxels", "prediction_voxels", "dice"])
        writer.writerows(rows)
    with (tmp_path / "overlap.csv").open(newline="") as file:
        table = {(row["subject"], row["region"]): row for row in csv.DictReader(file)}
    nothing = np.nan
    found = values_of([table], "ET", "dice", list("abcd"))
    np.testing.assert_array_equal(found, [[[0.8], [0.0], [0.0], [nothing]]])
    found = values_of([table], "mean", "dice", list("abc"))
    np.testing.assert_array_equal(found, [[[0.8, 1.0], [0.0, nothing], [0.0, 0.5]]])
    mean = mean_of_arm([table], "mean", "dice")
    assert mean is not None and mean.mean == pytest.approx((0.8 / 3 + 0.75) / 2) and mean.n_subjects == 3


def test_passes_over_more_data_are_another_budget() -> None:
    small, large = ([{"n_samples": n}, {"n_samples": 10}] for n in (90, 190))
    by_images = [training(name, training_datasets=data) for name, data in (("a", small), ("b", large))]
    assert check_comparable(by_images) == []
    passes = [
        training(t.name, params={"epochs": 5}, training_datasets=t.metadata["training_datasets"]) for t in by_images
    ]
    with pytest.raises(UsageError, match="cannot be compared") as error:
        check_comparable(passes)
    assert "n_samples is 100 in a and 200 in b" in str(error.value)


def table(**scores: tuple[str, float, float]) -> OverlapTable:
    """Rows by ``subject_REGION``: case, Dice, HD95; a region that is empty or false has no voxel in the reference."""
    rows = {}
    for name, (case, dice, hd95) in scores.items():
        subject, region = name.split("_")
        values = {"dice": f"{dice}", "hd95_pooled_mm": f"{hd95}"} if case != "empty" else {}
        rows[subject, region] = {"case": case, "reference_voxels": str(9 * (case in ("both", "missed"))), **values}
    return rows


REAL = table(a_ET=("both", 0.8, 2.0), b_ET=("both", 0.4, 4.0), a_WT=("both", 0.9, 1.0), b_WT=("both", 0.9, 1.0))
HALF = table(a_ET=("both", 0.4, 4.0), b_ET=("both", 0.2, 8.0), a_WT=("both", 0.9, 1.0), b_WT=("missed", 0.0, 90.0))


def test_two_arms_from_their_tables() -> None:
    found = {(item.region, item.score): item for item in compared_arms([REAL, REAL], [HALF], resamples=200)}
    assert list(found) == [(region, score) for region in ("ET", "WT", "mean") for score in ("Dice", "HD95 (mm)")]
    assert [found["ET", score].comparison.ratio for score in ("Dice", "HD95 (mm)")] == pytest.approx([0.5, 2.0])
    # WT is not part of the mean, which here is ET alone.
    assert found["mean", "Dice"].comparison.ratio == pytest.approx(0.5)
    assert found["mean", "Dice"].cases == Cases(0, 0, 0)
    assert found["WT", "Dice"].comparison.ratio == pytest.approx(0.5)
    assert found["WT", "Dice"].cases == Cases(1, 0, 0) and found["WT", "Dice"].cases_real == Cases(0, 0, 0)
    flat = found["ET", "Dice"].to_dict()
    assert (flat["ratio_low"], flat["ratio_high"], flat["n_real"]) == (None, None, 2)
    assert "n_missed" in flat and "n_missed" not in found["ET", "HD95 (mm)"].to_dict()


def test_the_mean_of_an_arm_is_that_of_its_ratio() -> None:
    for item in compared_arms([REAL, HALF], [HALF, HALF, REAL], resamples=200):
        column = "dice" if item.score == "Dice" else "hd95_pooled_mm"
        arms = ([REAL, HALF], [HALF, HALF, REAL])
        real, other = (mean_of_arm(tables, item.region, column, resamples=200) for tables in arms)
        assert real is not None and other is not None and real.interval is None
        assert (real.mean, other.mean) == pytest.approx((item.comparison.real, item.comparison.synthetic))
        assert (real.n_trainings, real.n_subjects) == (2, 2)
    assert mean_of_arm([REAL], "NCR", "dice") is None


def test_the_same_arm_twice_has_a_ratio_of_one() -> None:
    for item in compared_arms([REAL], [REAL], resamples=200):
        assert item.comparison.ratio == pytest.approx(1)


def test_cases_are_counted_a_training_and_the_mean_counts_each_label() -> None:
    other = table(a_ET=("missed", 0, 90), b_ET=("false", 0, 90), a_NCR=("missed", 0, 90), b_NCR=("empty", 0, 0))
    assert cases_of([REAL, other], "ET").n_missed == 0.5 and cases_of([other], "ET") == Cases(1, 1, 1)
    assert cases_of([other], "mean") == Cases(2, 1, 2) and regions_of(other) == ["ET", "NCR", "mean"]


def test_arms_scored_on_other_subjects_or_references_are_refused() -> None:
    fewer = {key: row for key, row in REAL.items() if key[0] == "a"}
    with pytest.raises(UsageError, match="different subjects"):
        compared_arms([REAL], [fewer])
    without = table(a_ET=("both", 0.8, 2.0), b_ET=("empty", 0, 0), a_WT=("both", 0.9, 1.0), b_WT=("both", 0.9, 1.0))
    for arms in (([REAL], [without]), ([without], [REAL]), ([REAL, without], [REAL])):
        with pytest.raises(UsageError, match="different references"):
            compared_arms(*arms)


def test_distances_without_those_of_missed_regions_are_not_compared() -> None:
    real = {**REAL, **table(a_NCR=("both", 0.5, 3.0), b_NCR=("both", 0.5, 3.0))}
    other = {**HALF, **table(a_NCR=("both", 0.5, 3.0), b_NCR=("missed", 0.0, 90.0))}
    excluded = {key: {**row, "hd95_pooled_mm": ""} if row["case"] == "missed" else row for key, row in other.items()}
    for arms in (([real], [excluded]), ([excluded], [real]), ([real, excluded], [real])):
        found = [(item.region, item.score) for item in compared_arms(*arms, resamples=200)]
        # ET was found by all; the mean of b would leave out what was missed.
        assert [region for region, score in found if score == "HD95 (mm)"] == ["ET"]
        assert [region for region, score in found if score == "Dice"] == ["ET", "WT", "NCR", "mean"]


def test_the_table_of_a_run_is_read_as_it_is_written(tmp_path: Path) -> None:
    (tmp_path / "outputs").mkdir()
    text = "subject,region,case,dice,reference_voxels\na,ET,both,0.5,7\na,WT,empty,,0\n"
    (tmp_path / "outputs" / "overlap.csv").write_text(text)
    found = read_overlap(tmp_path)
    assert list(found) == [("a", "ET"), ("a", "WT")]
    np.testing.assert_array_equal(values_of([found], "ET", "dice", ["a"]), [[[0.5]]])
    assert values_of([found], "WT", "dice", ["a"]) is None


def planted(false: bool, n_with: int = 35) -> OverlapTable:
    """Fifty subjects; the last fifteen lack ET, where an island is found or not."""
    lacking = ("false" if false else "empty", 0.0, 90.0)
    return table(**{f"s{n}_ET": ("both", 0.8, 2.0) if n < n_with else lacking for n in range(50)})


def test_a_false_island_lowers_the_ratio_by_what_it_lowers_the_score() -> None:
    clean, strays = planted(False), planted(True)
    rows = compared_arms([clean, clean], [clean, strays], resamples=300)
    found = {item.region: item for item in rows if item.score == "Dice"}
    assert found["ET"].comparison.real == pytest.approx(0.8)
    # One training counts 35 subjects, the other fifty with fifteen zeros.
    assert found["ET"].comparison.synthetic == pytest.approx((0.8 + 0.56) / 2)
    assert found["ET"].comparison.ratio == pytest.approx(0.85) and found["ET"].comparison.n_patients == 50
    assert found["ET"].comparison.ratio_interval is not None and found["ET"].comparison.ratio_interval[0] < 0.8
    assert found["ET"].cases == Cases(0, 7.5, 15)


def test_false_regions_are_no_patients_of_the_other_arm() -> None:
    clean, strays = planted(False, 29), planted(True, 29)
    (found,) = (
        item.comparison
        for item in compared_arms([clean] * 2, [strays] * 2)
        if item.region == "ET" and item.score == "Dice"
    )
    assert found.n_patients == 50 and found.ratio is not None and found.ratio_interval is None
    assert "counts for fewer than 30 patients in an arm" in interval_warnings([found])[0]


@settings(deadline=None)
@given(st.integers(1, 3), st.sampled_from([2, 8, 60]), st.integers(1, 3), st.integers(0, 50))
def test_means_are_those_of_evaluate_whatever_does_not_count(n: int, m: int, regions: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    arm = np.where(rng.random((n, m, regions)) < 0.3, np.nan, rng.uniform(0.2, 1, (n, m, regions)))
    arm[:, 0, 0] = 0.5
    by_hand = [np.mean([np.nanmean(c) for c in t.T if not np.isnan(c).all()]) for t in arm]
    found = compare(arm, arm, names(m), resamples=200)
    assert found.real == pytest.approx(np.mean(by_hand)) and found.ratio == pytest.approx(1)
    assert (found.ratio_interval is not None) or m < 60 or n == 1
    if found.ratio_interval is not None:
        assert np.isfinite(found.ratio_interval).all() and found.ratio_interval[0] <= 1 <= found.ratio_interval[1]
