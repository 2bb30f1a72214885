"""Known answers of the metric: planted copies are found, unrelated images are not, the null is honest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from synthkit_memorization import DECLARATION, Params
from synthkit_memorization.metrics import score
from synthkit_memorization.numbers.scores import IDENTICAL
from synthkit_memorization.people import patients
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
    """Scores and rows; of pictures in place and without planted copies, unless these are asked for."""
    chosen = Params(**{"families": ("picture",), "rules": ("pearson",), "plants": 0, **params})
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
    train, fresh, holdout = subjects(rng, names("a", 12)), subjects(rng, names("c", 30)), subjects(rng, names("b", 20))
    scores, rows = run(train, fresh, holdout, plants=40, rules=("pearson", "brain", "flip", "shift"))
    assert value(scores, "n_copies") == value(scores, "n_identical") == value(scores, "n_holdout_copies") == 0
    assert value(scores, "n_holdout") == 120 and value(scores, "n_null_subjects") == 32
    assert value(scores, "least_margin", family="picture") > value(scores, "cut", family="picture") > 0.6
    assert value(scores, "null_margin", family="picture", quantile="0.5") == pytest.approx(1.0, abs=0.1)
    assert 0.2 < value(scores, "closer_to_train") < 0.8 and 0.2 < value(scores, "closer_than_holdout") < 0.8
    assert 0.3 < value(scores, "membership_auc") < 0.7 and abs(value(scores, "c_t")) < 5
    assert value(scores, "power", planted="exact", strength="") == 1.0
    result = decide(scores, required_power=("exact", "noise", "flip"))
    assert result.outcome == "pass", result.reasons
    tables = Counter(row.table for row in rows)
    assert {name: tables[name] for name in ("matches", "pairs", "subjects", "null")} == {
        "matches": 180 * 12,
        "pairs": 36,
        "subjects": 12,
        "null": 120 * 12,
    }
    columns = ("synthetic_id", "contrast", "rule", "train_id", "train_subject", "train_slice", "r")
    matches = next(row.values for row in rows if row.table == "matches")
    assert list(matches) == [*columns, "r_null_quantile", "copy", "margin"]


def test_all_declared_scores_are_there_and_no_other() -> None:
    rng = np.random.default_rng(20)
    train, fresh, holdout = (subjects(rng, names(p, 4)) for p in "acb")
    scores, _ = run(train, fresh, holdout, plants=2)
    assert {item.name for item in scores} == {item.name for item in DECLARATION.scores}


def test_planted_noisy_copies_of_three_subjects_are_exactly_found() -> None:
    rng = np.random.default_rng(1)
    train, fresh, holdout = (
        subjects(rng, names(p, n), slices=k) for p, n, k in (("a", 12, 6), ("c", 70, 1), ("b", 20, 6))
    )
    copied = [0, 1, 30, 31, 66]
    fresh.images[:5] = np.clip(train.images[copied] + rng.normal(0, 3, train.images[:5].shape), 0, 255)
    scores, rows = run(train, fresh, holdout)
    found = {row.values["synthetic_id"] for row in rows if row.table == "matches" and row.values["copy"]}
    assert found == {f"c0-{i}" for i in range(5)}
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
    assert result.outcome == "fail" and result.exit_code == 10


def test_training_images_as_synthetic_are_copies_and_held_out_ones_are_copies_of_the_held_out() -> None:
    rng = np.random.default_rng(2)
    train, holdout = subjects(rng, names("a", 6)), subjects(rng, names("b", 3))
    planted = InMemorySamples(train.images[::-1].copy(), subjects=[None] * len(train), prefix="p")
    scores, rows = run(train, planted, holdout)
    assert value(scores, "n_copies") == value(scores, "n_identical") == len(train)
    assert value(scores, "n_copied_subjects") == 6 and value(scores, "closer_to_train") > 0.5
    assert value(scores, "n_holdout_copies") == 0
    assert all(row.values["r"] == 1.0 and row.values["copy"] for row in rows if row.table == "matches")
    assert decide(scores).outcome == "fail"
    scores, rows = run(train, InMemorySamples(holdout.images, subjects=[None] * len(holdout), prefix="h"), holdout)
    assert value(scores, "n_copies") == value(scores, "n_copied_subjects") == 0
    assert value(scores, "n_holdout_copies") == len(holdout) and value(scores, "n_copied_holdout_subjects") == 3
    assert value(scores, "closer_to_train") == 0.0
    named = {row.values["holdout_subject"]: row.values for row in rows if row.table == "holdout_subjects"}
    assert set(named) == set(names("b", 3))
    assert all(v["n_copies"] == v["n_holdout"] and v["best_r"] == 1.0 for v in named.values())
    pairs = [row.values for row in rows if row.table == "pairs" and row.values["holdout_copy"]]
    assert pairs and all(pair["r_holdout"] == 1.0 and not pair["copy"] for pair in pairs)
    known = decide(scores)
    assert known.outcome == "fail" and "held-out" in known.reasons[0]


def test_without_holdout_a_subject_is_not_compared_with_itself() -> None:
    rng = np.random.default_rng(3)
    train, fresh = subjects(rng, names("a", 8)), subjects(rng, names("c", 4))
    scores, rows = run(train, fresh)
    owner = {sample.id: sample.subject for sample in train.samples}
    null = [row.values for row in rows if row.table == "null"]
    assert len(null) == len(train) * 3 and all(owner[row["holdout_id"]] != owner[row["train_id"]] for row in null)
    # Slices of one subject correlate more than the null may show.
    assert value(scores, "null_max", contrast="joint") < np.corrcoef(train.images[:2].reshape(2, -1))[0, 1]
    assert value(scores, "n_holdout") == 0 and value(scores, "n_null_subjects") == 8
    assert value(scores, "closer_to_train") is None and value(scores, "n_holdout_copies") is None
    assert value(scores, "n_copies") == 0 and decide(scores).outcome == "pass"


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
    assert counted["n_copied_subjects"] == (1, 4)
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
    assert value(scores, "n_null_subjects") is None and value(scores, "n_copies") is None
    assert value(scores, "threshold", contrast="joint") is None
    assert not [row for row in rows if row.table == "null"]
    assert decide(scores).outcome == "insufficient evidence" and decide(scores).exit_code == 12
    scores, _ = run(train, InMemorySamples(train.images, subjects=[None] * len(train)))
    assert value(scores, "n_identical") == len(train) and decide(scores).outcome == "fail"


def test_a_held_out_subject_that_is_a_training_subject_is_named_and_left_out() -> None:
    rng = np.random.default_rng(5)
    train, holdout = subjects(rng, names("a", 20)), subjects(rng, names("b", 12))
    rescan = train.images[30:36] + rng.normal(0, 3, train.images[30:36].shape)
    holdout.images[12:18] = np.clip(rescan, 0, 255)
    fresh = subjects(rng, names("c", 12))
    fresh.images[:8] = np.clip(rescan[[0, 1, 2, 3] * 2] + rng.normal(0, 3, fresh.images[:8].shape), 0, 255)
    scores, rows = run(train, fresh, holdout)
    (twin,) = [row.values for row in rows if row.table == "holdout_twins"]
    assert (twin["holdout_subject"], twin["train_subject"]) == ("b2", "a5") and twin["margin"] < 0.5
    assert value(scores, "n_holdout_twins") == 1 and value(scores, "n_holdout") == 11 * 6
    assert value(scores, "n_copies") == 8 and value(scores, "n_copied_subjects") == 1
    assert decide(scores).outcome == "fail"


def test_blank_images_are_no_copies() -> None:
    rng = np.random.default_rng(6)
    train, holdout = subjects(rng, names("a", 4)), subjects(rng, names("b", 4))
    train.images[3, 1] = 0
    blank = InMemorySamples(train.images[3:4].copy(), subjects=[None])
    _, rows = run(train, blank, holdout)
    found = {row.values["contrast"]: row.values for row in rows if row.table == "matches"}
    assert found["t1ce"]["r"] == 0 and not found["t1ce"]["copy"]
    assert found["joint"]["r"] == 1.0 and found["joint"]["copy"] and found["joint"]["train_id"] == "a0-3"


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


@pytest.mark.parametrize(
    "settings",
    [{"families": ("frame",)}, {"rules": ("flip",)}, {"rules": ("pearson", "pearson")}, {"families": ("picture",) * 2}],
)
def test_settings_without_meaning_are_refused(settings: Any) -> None:
    with pytest.raises(ValueError, match=r"must hold|twice"):
        Params(**settings)


def test_a_single_contrast_has_no_joint_view() -> None:
    rng = np.random.default_rng(9)
    train, fresh, holdout = (subjects(rng, names(p, 3)) for p in "acb")
    one = [InMemorySamples(d.images[:, :1], subjects=[s.subject for s in d.samples]) for d in (train, fresh, holdout)]
    scores, rows = run(*one)
    assert {row.values["contrast"] for row in rows if row.table in ("matches", "null")} == {"t1"}
    assert len([row for row in rows if row.table == "pairs"]) == 12 and value(scores, "n_copies") == 0


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


def of_subjects(images: Sequence[Any], people: Sequence[str]) -> InMemorySamples:
    owners = [person for own, person in zip(images, people, strict=True) for _ in own]
    return InMemorySamples(np.concatenate(images), subjects=owners, prefix=f"{people[0]}_")


def half(images: Any) -> Any:
    """At half the resolution, by means of four pixels."""
    n, c, y, x = images.shape
    return images.reshape(n, c, y // 2, 2, x // 2, 2).mean(axis=(3, 5)).astype(np.uint8)


def test_warped_and_noisy_copies_of_a_real_subject_are_found(real_slices: Any) -> None:
    ndimage = pytest.importorskip("scipy.ndimage")
    people = ("TCGA-DU-7294", "TCGA-FG-6692", "BRATS_009", "BRATS_119")
    own, *others = (half(real_slices(name)[::4]) for name in people)
    rng = np.random.default_rng(0)
    warp = [ndimage.gaussian_filter(rng.normal(size=(128, 128)), 12) for _ in range(2)]
    field = np.stack([0.75 * part / np.abs(part).max() for part in warp]) + np.mgrid[:128, :128]
    warped = np.stack([[ndimage.map_coordinates(c.astype(np.float32), field, order=1) for c in x] for x in own[1::2]])
    copies = np.clip(warped + (warped > 0) * rng.normal(0, 4, warped.shape), 0, 255).astype(np.uint8)
    train = of_subjects([own, others[0]], people[:2])
    holdout = of_subjects(others[1:], people[2:])
    scores, rows = run(train, InMemorySamples(copies, subjects=[None] * len(copies), prefix="syn"), holdout)
    assert value(scores, "n_copies") == len(copies) and value(scores, "n_copied_subjects") == 1
    joint = [row.values for row in rows if row.table == "matches" and row.values["contrast"] == "joint"]
    assert {row["train_subject"] for row in joint} == {people[0]}
    identical, _ = run(train, InMemorySamples(own, subjects=[None] * len(own), prefix="copy"), holdout)
    assert value(identical, "n_copies") == value(identical, "n_identical") == len(own)
    assert decide(identical).outcome == "fail"


# ----------------------------------------------------------------------------------- known answers over many draws


@pytest.mark.parametrize("n_holdout", [20, 6, 0])
def test_fresh_subjects_do_not_fail(n_holdout: int) -> None:
    """Training, held-out and synthetic people of one kind: nothing was memorized, whichever way they are dealt."""
    outcomes = Counter()
    for seed in range(10):
        rng = np.random.default_rng(seed)
        train, fresh = (subjects(rng, names(p, 20), slices=4, size=16) for p in "ac")
        holdout = subjects(rng, names("b", n_holdout), slices=4, size=16) if n_holdout else None
        scores, _ = run(train, fresh, holdout, rules=("pearson", "brain"), seed=seed)
        outcomes[decide(scores).outcome] += 1
    assert outcomes["fail"] == 0 and outcomes["pass"] >= 9


def test_one_per_cent_of_noisy_copies_of_three_subjects_is_found_and_these_subjects_only() -> None:
    rng = np.random.default_rng(30)
    train, holdout, fresh = (subjects(rng, names(p, n)) for p, n in (("a", 40), ("b", 20), ("c", 100)))
    sources = np.array([3, 4, 100, 101, 200, 203])  # two images of each of three subjects
    noise = rng.normal(0, 8, train.images[sources].shape) * (train.images[sources] > 0)
    fresh.images[::100] = np.clip(train.images[sources] + noise, 0, 255)
    scores, rows = run(train, fresh, holdout, rules=("pearson", "brain", "flip", "shift"))
    sure = [r.values for r in rows if r.table == "matches" and r.values["copy"]]
    assert {row["synthetic_id"] for row in sure} == {f"c0-{100 * i}" for i in range(6)}
    assert {row["train_subject"] for row in sure} == {"a0", "a16", "a33"}
    assert decide(scores).outcome == "fail" and value(scores, "n_copies") == 6


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
    """Images near the mean of all people correlate with everybody, of the training set or not: likeness knows."""
    rng = np.random.default_rng(34)
    train, holdout = subjects(rng, names("a", 30)), subjects(rng, names("b", 30))
    mean = subjects(rng, names("d", 60)).images.mean(axis=0)
    typical = np.clip(mean + (mean > 0) * rng.normal(0, 17, (300, *mean.shape)), 0, 255).astype(np.uint8)
    scores, _ = run(train, InMemorySamples(typical, subjects=[None] * 300, prefix="s"), holdout)
    # Nearer to training images than any real image is, and no copies.
    assert value(scores, "best_r_median", contrast="joint") > value(scores, "null_max", contrast="joint")
    assert value(scores, "n_copies") == value(scores, "n_holdout_copies") == 0


@pytest.mark.parametrize("people", [2, 3])
def test_means_of_unseen_people_are_no_copies(people: int) -> None:
    rng = np.random.default_rng(people)
    train, holdout, fresh = (subjects(rng, names(p, 20)) for p in "abc")
    mixed = np.stack([fresh.images[rng.permutation(20)[:people] * 6].mean(axis=0) for _ in range(60)]).astype(np.uint8)
    scores, _ = run(train, InMemorySamples(mixed, subjects=[None] * 60, prefix="s"), holdout)
    assert decide(scores).outcome == "pass"


def test_decoys_that_copy_held_out_images_excuse_no_copies_and_are_found_themselves() -> None:
    rng = np.random.default_rng(35)
    train, holdout, fresh = (subjects(rng, names(p, 20)) for p in "abc")
    decoys = holdout.images[:60] + rng.normal(0, 6, holdout.images[:60].shape)
    copies = train.images[:2] + rng.normal(0, 12, train.images[:2].shape)
    images = np.clip(np.concatenate([copies, fresh.images, decoys]), 0, 255).astype(np.uint8)
    scores, rows = run(train, InMemorySamples(images, subjects=[None] * len(images), prefix="s"), holdout)
    found = {row.values["synthetic_id"] for row in rows if row.table == "matches" and row.values["copy"]}
    assert found == {"s0", "s1"} and value(scores, "n_holdout_copies") == 60
