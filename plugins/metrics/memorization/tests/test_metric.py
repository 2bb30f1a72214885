"""Known answers of the metric: planted copies are found, unrelated images are not, the null is honest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from synthkit_memorization import DECLARATION, Params
from synthkit_memorization.audit import patients
from synthkit_memorization.metrics import score
from synthkit_memorization.null.thresholds import Null
from synthkit_memorization.numbers.scores import IDENTICAL
from synthkit_memorization.search.exact import best_matches

from synthkit import Row, Score
from synthkit.contract import Sample
from synthkit.errors import DataError
from synthkit.judging.policy import Policy
from synthkit.judging.verdict import verdict
from synthkit.testing import InMemorySamples


def subjects(rng: np.random.Generator, names: Sequence[str], slices: int = 6, size: int = 24) -> InMemorySamples:
    """Images of two contrasts: a head that all share, a pattern of the subject, a little of the slice."""
    y, x = np.mgrid[:size, :size] / size - 0.5
    head = 140 * ((x**2 + y**2) < 0.2)
    images, owners = [], []
    for name in names:
        own = rng.normal(0, 25, (2, size, size))
        for _ in range(slices):
            images.append(np.clip(head + (head > 0) * (own + rng.normal(0, 6, own.shape)), 0, 255))
            owners.append(name)
    return InMemorySamples(np.stack(images).astype(np.uint8), subjects=owners, prefix=f"{names[0]}-")


def run(
    train: InMemorySamples, synthetic: InMemorySamples, holdout: InMemorySamples | None = None, **params: Any
) -> Any:
    """Scores and rows; by the rule pearson and without planted copies, unless these are asked for."""
    chosen = Params(**{"rules": ("pearson",), "plants": 0, **params})
    found = list(score(metrics=["memorization"], params=chosen, train=train, synthetic=synthetic, holdout=holdout))
    return [item for item in found if isinstance(item, Score)], [item for item in found if isinstance(item, Row)]


def value(scores: list[Score], name: str, **of: str) -> Any:
    """The score of this name; of one view by the rule pearson, unless another is named."""
    of = {"rule": "pearson", **of} if "contrast" in of else of
    (found,) = [item for item in scores if item.name == name and dict(item.of) == of]
    return found.value


def names(prefix: str, n: int) -> list[str]:
    return [f"{prefix}{i}" for i in range(n)]


def decide(scores: list[Score], **policy: Any) -> Any:
    """The verdict, without the power test that most of these tests leave out."""
    return verdict([item.to_dict() for item in scores], Policy(**{"required_power": (), **policy}))


def test_fresh_subjects_pass() -> None:
    rng = np.random.default_rng(0)
    # Twelve columns need hundreds of images on both sides for thresholds that few unrelated images exceed.
    train, fresh, holdout = subjects(rng, names("a", 12)), subjects(rng, names("c", 90)), subjects(rng, names("b", 60))
    scores, rows = run(train, fresh, holdout, plants=40, rules=("pearson", "brain", "flip", "shift"))
    assert value(scores, "n_copies") == value(scores, "n_identical") == value(scores, "n_holdout_copies") == 0
    assert value(scores, "n_holdout") == value(scores, "n_null") == 360 and value(scores, "n_null_subjects") == 60
    assert value(scores, "flagged_rate") <= value(scores, "explained_flag_rate") < 0.1
    assert 0.2 < value(scores, "closer_to_train") < 0.8 and 0.2 < value(scores, "closer_than_holdout") < 0.8
    assert 0.3 < value(scores, "membership_auc") < 0.7 and abs(value(scores, "c_t")) < 5
    assert value(scores, "power", planted="exact", strength="") == 1.0
    result = decide(scores, required_power=("exact", "noise", "flip"))
    assert result.outcome == "pass", result.reasons
    tables = Counter(row.table for row in rows)
    assert {name: tables[name] for name in ("matches", "pairs", "subjects", "null")} == {
        "matches": 540 * 12,
        "pairs": 36,
        "subjects": 12,
        "null": 360 * 12,
    }
    columns = ("synthetic_id", "contrast", "rule", "train_id", "train_subject", "train_slice", "r")
    matches = next(row.values for row in rows if row.table == "matches")
    assert list(matches) == [*columns, "r_null_quantile", "flagged"]


def test_all_declared_scores_are_there_and_no_other() -> None:
    rng = np.random.default_rng(20)
    train, fresh, holdout = (subjects(rng, names(p, 4)) for p in "acb")
    scores, _ = run(train, fresh, holdout, plants=2)
    assert {item.name for item in scores} == {item.name for item in DECLARATION.scores}


def test_planted_noisy_copies_of_three_subjects_are_exactly_found() -> None:
    rng = np.random.default_rng(1)
    train, fresh = subjects(rng, names("a", 12)), subjects(rng, names("c", 70), slices=1)
    # One image of each of 400 subjects: unrelated images then exceed its maximum, in one of 3 views, at most 3 / 401.
    holdout = subjects(rng, names("b", 400), slices=1)
    copied = [0, 1, 30, 31, 66]
    fresh.images[:5] = np.clip(train.images[copied] + rng.normal(0, 3, train.images[:5].shape), 0, 255)
    scores, rows = run(train, fresh, holdout)
    flagged = {row.values["synthetic_id"] for row in rows if row.table == "matches" and row.values["flagged"]}
    assert flagged >= {f"c0-{i}" for i in range(5)} and len(flagged) <= 6
    joint = [r.values for r in rows if r.table == "matches" and r.values["contrast"] == "joint"][:5]
    assert [(row["train_id"], row["train_slice"]) for row in joint] == [(f"a0-{i}", i % 6) for i in copied]
    assert value(scores, "n_copies") == 5 and value(scores, "n_identical") == 0
    assert value(scores, "n_copied_subjects") == 3
    counts = {row.values["train_subject"]: row.values["n_copies"] for row in rows if row.table == "subjects"}
    assert {subject: n for subject, n in counts.items() if n} == {"a0": 2, "a5": 2, "a11": 1}
    pairs = [row.values for row in rows if row.table == "pairs"]
    assert {pair["synthetic_id"] for pair in pairs[:5]} == {f"c0-{i}" for i in range(5)}
    assert all(pair["r"] > pair["r_holdout"] and pair["holdout_id"].startswith("b0-") for pair in pairs[:5])
    result = decide(scores)
    assert result.outcome == "fail" and result.exit_code == 10 and "5 synthetic images are a copy" in result.reasons[0]


def test_training_images_as_synthetic_are_flagged_wholly_and_holdout_images_not_at_all() -> None:
    rng = np.random.default_rng(2)
    train, holdout = subjects(rng, names("a", 6)), subjects(rng, names("b", 3))
    planted = InMemorySamples(train.images[::-1].copy(), subjects=[None] * len(train), prefix="p")
    scores, rows = run(train, planted, holdout)
    assert value(scores, "n_flagged") == value(scores, "n_copies") == value(scores, "n_identical") == len(train)
    assert value(scores, "n_memorized_subjects") == 6 and value(scores, "closer_to_train") > 0.5
    assert all(row.values["r"] == 1.0 and row.values["flagged"] for row in rows if row.table == "matches")
    assert decide(scores).outcome == "fail"
    scores, _ = run(train, InMemorySamples(holdout.images, subjects=[None] * len(holdout), prefix="h"), holdout)
    assert value(scores, "n_flagged") == value(scores, "n_memorized_subjects") == 0
    assert value(scores, "closer_to_train") == 0.0
    # Three null subjects are too few for the default policy; and a generator that makes held-out images has seen them.
    assert decide(scores).outcome == "insufficient evidence"
    known = decide(scores, max_explained_rate=0.5)
    assert known.outcome == "insufficient evidence" and "held-out" in known.reasons[0]


def test_without_holdout_a_subject_is_not_compared_with_itself() -> None:
    rng = np.random.default_rng(3)
    train, fresh = subjects(rng, names("a", 8)), subjects(rng, names("c", 4))
    scores, rows = run(train, fresh)
    owner = {sample.id: sample.subject for sample in train.samples}
    null = [row.values for row in rows if row.table == "null"]
    assert len(null) == len(train) * 3 and all(owner[row["holdout_id"]] != owner[row["train_id"]] for row in null)
    # Slices of one subject correlate more than the null may show.
    assert value(scores, "null_max", contrast="joint") < np.corrcoef(train.images[:2].reshape(2, -1))[0, 1]
    assert value(scores, "n_holdout") == 0 and value(scores, "n_null") == len(train)
    assert value(scores, "closer_to_train") is None
    assert any("comparing training subjects" in line for line in decide(scores).not_proven)


def test_scans_of_one_patient_are_one_subject() -> None:
    rng = np.random.default_rng(9)
    scans = [f"BraTS-GLI-0000{patient}-10{scan}" for patient in range(4) for scan in range(2)]
    train = subjects(rng, scans)
    for patient in range(4):  # the second scan shows the same anatomy
        first = train.images[patient * 12 : patient * 12 + 6].astype(float)
        train.images[patient * 12 + 6 : patient * 12 + 12] = np.clip(first + rng.normal(0, 2, first.shape), 0, 255)
    copies = InMemorySamples(train.images[[0, 6]], subjects=[None, None])
    scores, rows = run(train, copies)
    owner = {sample.id: (sample.subject or "")[:-4] for sample in train.samples}
    null = [row.values for row in rows if row.table == "null"]
    assert null and all(owner[row["holdout_id"]] != owner[row["train_id"]] for row in null)
    assert value(scores, "null_max", contrast="joint") < 0.99
    counted = {item.name: (item.value, item.n) for item in scores if not item.of}
    assert counted["n_null_subjects"][0] == 4 and counted["n_train"] == (48, 4)
    assert counted["n_memorized_subjects"] == (1, 4)
    table = {row.values["train_subject"]: row.values for row in rows if row.table == "subjects"}
    assert len(table) == 8 and [table[scan]["n_copies"] for scan in scans[:3]] == [1, 1, 0]
    with pytest.raises(DataError, match="1 subjects are in both"):
        run(train, copies, subjects(rng, ["BraTS-GLI-00002-102"]))


def test_patients_are_those_that_the_dataset_names() -> None:
    rows = [Sample(name, "train", name, 0, None, "", patient) for name, patient in (("x", "1"), ("y", "2"), ("z", "1"))]
    assert patients(rows).tolist() == [0, 1, 0]


def test_one_training_subject_without_holdout_is_insufficient_unless_copies_are_identical() -> None:
    rng = np.random.default_rng(4)
    train = subjects(rng, ["a"])
    scores, rows = run(train, subjects(rng, ["c"]))
    assert value(scores, "n_null_subjects") is None and value(scores, "n_flagged") is None
    assert value(scores, "threshold", contrast="joint") is None
    assert not [row for row in rows if row.table == "null"]
    assert decide(scores).outcome == "insufficient evidence" and decide(scores).exit_code == 12
    scores, _ = run(train, InMemorySamples(train.images, subjects=[None] * len(train)))
    assert value(scores, "n_identical") == len(train) and decide(scores).outcome == "fail"


def test_one_held_out_subject_gives_thresholds_but_not_a_pass() -> None:
    rng = np.random.default_rng(5)
    train, holdout = subjects(rng, names("a", 4)), subjects(rng, ["b"])
    scores, _ = run(train, InMemorySamples(holdout.images, subjects=[None] * len(holdout)), holdout)
    assert value(scores, "n_flagged") == 0 and value(scores, "explained_flag_rate") is None
    assert decide(scores).outcome == "insufficient evidence"


def test_blank_images_are_never_flagged() -> None:
    rng = np.random.default_rng(6)
    train, holdout = subjects(rng, names("a", 4)), subjects(rng, names("b", 4))
    train.images[3, 1] = 0
    blank = InMemorySamples(train.images[3:4].copy(), subjects=[None])
    _, rows = run(train, blank, holdout)
    found = {row.values["contrast"]: row.values for row in rows if row.table == "matches"}
    assert found["t1ce"]["r"] == 0 and not found["t1ce"]["flagged"]
    assert found["joint"]["r"] == 1.0 and found["joint"]["flagged"] and found["joint"]["train_id"] == "a0-3"


def test_brightness_and_contrast_do_not_hide_a_copy() -> None:
    rng = np.random.default_rng(7)
    train, holdout = subjects(rng, names("a", 4)), subjects(rng, names("b", 4))
    train.images[...] = train.images // 2
    scores, rows = run(train, InMemorySamples(train.images * 2 + 1, subjects=[None] * len(train)), holdout)
    assert value(scores, "n_identical") == len(train)
    assert min(row.values["r"] for row in rows if row.table == "matches") > IDENTICAL


def test_invalid_inputs_are_named() -> None:
    rng = np.random.default_rng(8)
    train, fresh = subjects(rng, names("a", 2)), subjects(rng, names("c", 2))
    with pytest.raises(DataError, match="1 subjects are in both"):
        run(train, fresh, subjects(rng, ["a1", "b"]))
    with pytest.raises(DataError, match="synthetic dataset is empty"):
        run(train, InMemorySamples(fresh.images[:0], subjects=[]))
    with pytest.raises(DataError, match="holdout and the train dataset cannot be compared"):
        run(train, fresh, InMemorySamples(fresh.images[:, :1], subjects=["x"] * len(fresh)))


def test_a_single_contrast_has_no_joint_view() -> None:
    rng = np.random.default_rng(9)
    train, fresh, holdout = (subjects(rng, names(p, 3)) for p in "acb")
    one = [InMemorySamples(d.images[:, :1], subjects=[s.subject for s in d.samples]) for d in (train, fresh, holdout)]
    scores, rows = run(*one)
    assert {row.values["contrast"] for row in rows if row.table in ("matches", "null")} == {"t1"}
    assert len([row for row in rows if row.table == "pairs"]) == 12 and value(scores, "n_copies") == 0


# ------------------------------------------------------------------------------------------------------ the null


def test_threshold_rule_by_hand() -> None:
    r = np.arange(99.0)[:, None] / 100  # 0.00 .. 0.98
    null = Null(np.hstack([r, r[::-1] / 2]), np.arange(99) // 3)
    # Two views, rate 0.1: 0.05 each; (99 + 1) 0.05 = 5, so the fifth largest.
    np.testing.assert_allclose(null.thresholds(0.1), [0.94, 0.47])
    # (99 + 1) 0.005 < 1: the maximum.
    np.testing.assert_allclose(null.thresholds(0.01), [0.98, 0.49])
    np.testing.assert_allclose(null.quantile_of(np.array([[0.5, 0.0], [2.0, 0.49]])), [[50 / 99, 0], [1, 98 / 99]])


def test_false_flags_of_exchangeable_images_keep_the_rate() -> None:
    rng = np.random.default_rng(10)
    rates = []
    for _ in range(200):
        null = Null(rng.normal(size=(499, 1)), np.arange(499))
        rates.append((rng.normal(size=1000) > null.thresholds(0.02)[0]).mean())
    assert 0.015 < np.mean(rates) < 0.022  # m / (n + 1) = 10 / 500


def test_rate_explained_by_subjects_that_differ() -> None:
    # Subject 2 lies above all others: judged by them, all of its 2 of 6 images are flagged; theirs never are.
    null = Null(np.array([[0.5], [0.6], [0.5], [0.6], [0.8], [0.9]]), np.array([0, 0, 1, 1, 2, 2]))
    assert null.cross_validated_rate(0.001) == pytest.approx(2 / 6)
    assert null.explained_rate(0.001) == pytest.approx(2 / 6) and null.explained_rate(0.5) == 0.5
    flat = Null(np.full((6, 1), 0.5), null.subject)
    assert flat.explained_rate(0.001) == pytest.approx(1 / 7)
    alone = Null(null.r, null.subject * 0)
    assert alone.explained_rate(0.001) is None and alone.intervals(0.001, 100, 0) is None


def test_intervals_resample_subjects() -> None:
    rng = np.random.default_rng(11)
    # Twenty images of each of ten subjects, equal within a subject: the interval is that of ten numbers, not of 200.
    levels = rng.normal(size=10)
    null = Null(np.repeat(levels, 20)[:, None], np.repeat(np.arange(10), 20))
    intervals = null.intervals(0.001, 500, 0)
    assert intervals is not None
    (low, high), (median_low, median_high) = intervals[0][0], intervals[1][0]
    ordered = np.sort(levels)
    assert high == ordered[-1] and low <= ordered[-2]
    assert median_low <= ordered[3] and median_high >= ordered[6]
    again = null.intervals(0.001, 500, 0)
    assert again is not None and (again[0] == intervals[0]).all()


def test_the_held_out_match_of_a_pair_is_by_the_rule_of_the_pair() -> None:
    rng = np.random.default_rng(36)
    train, holdout, fresh = (subjects(rng, names(p, 6)) for p in "abc")
    _, rows = run(train, fresh, holdout, rules=("brain", "pearson", "flip"))
    pairs = [row.values for row in rows if row.table == "pairs"]
    assert {"brain", "flip"} <= {pair["rule"] for pair in pairs}
    for pair in pairs:
        query = fresh.images[[sample.id for sample in fresh.samples].index(pair["synthetic_id"])]
        found = best_matches(InMemorySamples(query[None], subjects=[None], prefix="q"), holdout, rules=(pair["rule"],))
        match = found[pair["contrast"], pair["rule"]]
        assert pair["r_holdout"] == match.r[0, 0]
        assert pair["holdout_id"] == holdout.samples[int(match.index[0, 0])].id


# --------------------------------------------------------------------------------------------------- real subjects


def of_subject(images: Any, subject: str) -> InMemorySamples:
    return InMemorySamples(images, subjects=[subject] * len(images), prefix=f"{subject}_")


def test_warped_and_noisy_copies_of_a_real_subject_are_found(real_slices: Any) -> None:
    ndimage = pytest.importorskip("scipy.ndimage")
    train, holdout = (of_subject(real_slices(name), name) for name in ("TCGA-DU-7294", "TCGA-FG-6692"))
    rng = np.random.default_rng(0)
    warp = [ndimage.gaussian_filter(rng.normal(size=(256, 256)), 24) for _ in range(2)]
    field = np.stack([1.5 * part / np.abs(part).max() for part in warp]) + np.mgrid[:256, :256]
    warped = np.stack(
        [[ndimage.map_coordinates(c.astype(np.float32), field, order=1) for c in image] for image in train.images[::4]]
    )
    copies = np.clip(warped + (warped > 0) * rng.normal(0, 4, warped.shape), 0, 255).astype(np.uint8)
    synthetic = InMemorySamples(copies, subjects=[None] * len(copies), prefix="syn")
    scores, rows = run(train, synthetic, holdout)
    assert value(scores, "n_flagged") == len(copies) == value(scores, "n_flagged", contrast="joint")
    joint = [row.values for row in rows if row.table == "matches" and row.values["contrast"] == "joint"]
    # A slice and its neighbours look alike; the match is the slice itself or next to it.
    assert all(abs(int(row["train_slice"]) - 4 * i) <= 1 for i, row in enumerate(joint))
    assert value(scores, "n_memorized_subjects") == 1 and value(scores, "closer_to_train") == 1.0
    unrelated, _ = run(train, InMemorySamples(holdout.images, subjects=[None] * len(holdout), prefix="h"), holdout)
    assert value(unrelated, "n_flagged") == 0
    identical, _ = run(train, InMemorySamples(train.images, subjects=[None] * len(train), prefix="copy"), holdout)
    assert value(identical, "n_copies") == value(identical, "n_flagged") == len(train)
    assert decide(identical).outcome == "fail"


# ----------------------------------------------------------------------------------- known answers over many draws


def test_fresh_subjects_are_flagged_as_rarely_as_the_audit_says_over_twenty_draws() -> None:
    """Train, holdout and synthetic of one kind of subject: nothing was memorized, whichever way they are dealt."""
    every = ("pearson", "brain")
    flagged, explained = [], []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        train, holdout, fresh = (subjects(rng, names(p, 40), slices=4, size=16) for p in "abc")
        scores, _ = run(train, fresh, holdout, false_flag_rate=0.02, rules=every, seed=seed, only_flagged=True)
        assert value(scores, "n_copies") == value(scores, "n_identical") == 0
        flagged.append(value(scores, "flagged_rate"))
        explained.append(value(scores, "explained_flag_rate"))
        assert decide(scores, max_explained_rate=0.99).outcome == "pass"
    # Six columns at a third of a per cent each, thresholds from 160 images: m / (n + 1) a column.
    assert np.mean(flagged) < 0.02 + 6 / 161
    assert np.mean(flagged) <= np.mean(explained) < 0.15


def test_one_per_cent_of_noisy_copies_of_three_subjects_is_found_and_these_subjects_only() -> None:
    rng = np.random.default_rng(30)
    train, holdout, fresh = (subjects(rng, names(p, n)) for p, n in (("a", 40), ("b", 100), ("c", 100)))
    sources = np.array([3, 4, 100, 101, 200, 203])  # two images of each of three subjects
    noise = rng.normal(0, 8, train.images[sources].shape) * (train.images[sources] > 0)
    fresh.images[::100] = np.clip(train.images[sources] + noise, 0, 255)
    scores, rows = run(train, fresh, holdout, rules=("pearson", "brain", "flip", "shift"))
    sure = [r.values for r in rows if r.table == "matches" and r.values["flagged"] and r.values["rule"] == "brain"]
    copied = {row["synthetic_id"] for row in sure if row["contrast"] == "joint"}
    assert copied == {f"c0-{100 * i}" for i in range(6)}
    assert {row["train_subject"] for row in sure if row["contrast"] == "joint"} == {"a0", "a16", "a33"}
    table = {row.values["train_subject"]: row.values for row in rows if row.table == "subjects"}
    worst = sorted(table, key=lambda subject: -(table[subject]["best_r"] or 0))[:3]
    assert set(worst) == {"a0", "a16", "a33"}
    clean, _ = run(train, subjects(np.random.default_rng(31), names("d", 100)), holdout)
    assert value(clean, "n_flagged") < value(scores, "n_flagged")


def test_authenticity_falls_and_membership_shows_as_copies_are_added() -> None:
    rng = np.random.default_rng(32)
    train, holdout, fresh = (subjects(rng, names(p, 10)) for p in "abc")
    authentic, auc, closer = [], [], []
    for share in (0, 20, 40, 60):
        mixed = InMemorySamples(fresh.images.copy(), subjects=[None] * len(fresh), prefix="s")
        mixed.images[:share] = np.clip(train.images[:share] + rng.normal(0, 1, train.images[:share].shape), 0, 255)
        scores, _ = run(train, mixed, holdout)
        authentic.append(value(scores, "authenticity"))
        auc.append(value(scores, "membership_auc"))
        closer.append(value(scores, "closer_than_holdout"))
    assert authentic == sorted(authentic, reverse=True) and authentic[0] == 1.0 and authentic[-1] == 0.0
    assert auc[-1] == 1.0 > auc[0] and closer[-1] == 1.0 > closer[0]


def test_a_holdout_that_was_trained_on_hides_no_copies() -> None:
    """The generator copies held-out images too: the control must not excuse its copies of training images."""
    rng = np.random.default_rng(33)
    train, holdout = subjects(rng, names("a", 20)), subjects(rng, names("b", 20))
    both = np.concatenate([train.images, holdout.images]).astype(float)
    copies = np.clip(both + rng.normal(0, 3, both.shape), 0, 255).astype(np.uint8)
    scores, _ = run(train, InMemorySamples(copies, subjects=[None] * len(copies), prefix="s"), holdout)
    assert value(scores, "n_copies") == len(train) and value(scores, "n_holdout_copies") == len(holdout)
    assert decide(scores).outcome == "fail"


def test_typical_images_are_no_copies() -> None:
    """Images near the mean of all people correlate with everybody, of the training set or not: the control knows."""
    rng = np.random.default_rng(34)
    train, holdout = subjects(rng, names("a", 30)), subjects(rng, names("b", 30))
    mean = subjects(rng, names("d", 60)).images.mean(axis=0)
    typical = np.clip(mean + (mean > 0) * rng.normal(0, 17, (300, *mean.shape)), 0, 255).astype(np.uint8)
    scores, _ = run(train, InMemorySamples(typical, subjects=[None] * 300, prefix="s"), holdout)
    null = value(scores, "null_max", contrast="joint")
    assert value(scores, "best_r_median", contrast="joint") > null  # by the null alone, most would be flagged
    assert value(scores, "flagged_rate") < 0.05 and value(scores, "n_copies") == 0


def test_only_flagged_finds_the_same_flags_and_leaves_the_rest_out() -> None:
    rng = np.random.default_rng(35)
    train, holdout, fresh = (subjects(rng, names(p, 10)) for p in "abc")
    fresh.images[:4] = train.images[5:9]
    rules = ("pearson", "brain", "flip", "shift")
    scores, rows = run(train, fresh, holdout, rules=rules)
    fewer, short = run(train, fresh, holdout, rules=rules, only_flagged=True)
    flagged = [r.values for r in rows if r.table == "matches" and r.values["flagged"]]
    assert flagged and flagged == [r.values for r in short if r.table == "matches"]
    for name in (
        "n_flagged",
        "n_copies",
        "n_copied_subjects",
        "n_identical",
        "n_memorized_subjects",
        "explained_flag_rate",
    ):
        assert value(scores, name) == value(fewer, name)
    assert value(fewer, "closer_to_train") is None and value(fewer, "best_r_median", contrast="t1") is None
    assert {item.name for item in fewer} == {item.name for item in scores} - {"best_r_quantile"}
