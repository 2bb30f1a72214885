"""The split: what is asked for is held out, deterministically, and no patient is on both sides."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthkit.data.patients import patient_of
from synthkit.data.splits import AKBAR2024_TEST, Holdout, parse_holdout, split_subjects
from synthkit.errors import UsageError

IDS = [f"BraTS20_Training_{n:03d}" for n in range(1, 370)]
some_ids = st.sets(st.text("abcdefgh0123456789", min_size=1, max_size=8), min_size=2, max_size=60)


def _held(split: dict[str, str]) -> set[str]:
    return {subject for subject, side in split.items() if side == "holdout"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("5", Holdout("count", amount=5)),
        ("0", Holdout("count", amount=0)),
        ("0.2", Holdout("fraction", amount=0.2)),
        (" akbar2024 ", Holdout("akbar2024")),
        ("A,B, A", Holdout("subjects", subjects=("A", "B"))),
        ("A", Holdout("subjects", subjects=("A",))),
        ("12,", Holdout("subjects", subjects=("12",))),
    ],
)
def test_parse(text: str, expected: Holdout) -> None:
    assert parse_holdout(text) == expected
    assert parse_holdout(str(expected)) == expected


@pytest.mark.parametrize("text", ["", ",", "-1", "1.0", "0.0", "1.5", "-0.2", "nan"])
def test_parse_refuses(text: str) -> None:
    with pytest.raises(UsageError, match="is not understood"):
        parse_holdout(text)


def test_named_subjects() -> None:
    assert _held(split_subjects(IDS, "BraTS20_Training_002,BraTS20_Training_369")) == {IDS[1], IDS[368]}


def test_unknown_subject_names_close_ones() -> None:
    with pytest.raises(UsageError, match=r"Did you mean .*BraTS20_Training_002") as caught:
        split_subjects(IDS, "BraTS20_Trainig_002,nobody")
    assert "nobody" in caught.value.details[1]


def test_count_fraction_and_nothing() -> None:
    assert len(_held(split_subjects(IDS, "56"))) == 56
    assert len(_held(split_subjects(IDS, "0.2"))) == 74  # 73.8
    assert len(_held(split_subjects(IDS, "0.0001"))) == 1
    assert not _held(split_subjects(IDS, "0"))
    assert _held(split_subjects(IDS, "56", seed=0)) != _held(split_subjects(IDS, "56", seed=1))


def test_known_draw() -> None:
    # Ordered by sha256 of "0\0<id>": a change of this rule changes everybody's splits.
    assert _held(split_subjects([f"s{n}" for n in range(10)], "2", seed=0)) == {"s1", "s6"}


@pytest.mark.parametrize("holdout", ["2", "3", "a,b", "0.99"])
def test_something_is_left_to_train_on(holdout: str) -> None:
    with pytest.raises(UsageError, match="leaves nothing to train on"):
        split_subjects(["a", "b"], holdout)


@given(some_ids, st.integers(0, 5), st.integers(0, 2**31))
def test_split_does_not_depend_on_order_and_is_of_the_size_asked(ids: set[str], n: int, seed: int) -> None:
    n = min(n, len(ids) - 1)
    own = {name: name for name in ids}  # among random letters are some that look like P012a and P012b
    split = split_subjects(sorted(ids), str(n), seed, own)
    assert split == split_subjects(sorted(ids, reverse=True), str(n), seed, own)
    assert set(split) == ids and len(_held(split)) == n and list(split) == sorted(ids)


@given(some_ids, st.integers(1, 5), st.integers(0, 1000))
def test_a_new_subject_moves_at_most_one_other(ids: set[str], n: int, seed: int) -> None:
    n = min(n, len(ids) - 1)
    own = {name: name for name in (*ids, "new-one")}
    before, after = (_held(split_subjects(some, str(n), seed, own)) for some in (ids, ids | {"new-one"}))
    assert len(before - after) <= 1 and after - before <= {"new-one"}


# --------------------------------------------------------------------------------------------------------- patients


def test_scans_of_a_patient_stay_together() -> None:
    ids = [f"BraTS-GLI-{patient:05d}-{scan:03d}" for patient in range(20) for scan in range(1 + patient % 3)]
    for seed in range(20):
        held = _held(split_subjects(ids, "6", seed))
        assert 6 <= len(held) <= 8
        assert not {patient_of(s) for s in held} & {patient_of(s) for s in set(ids) - held}


def test_naming_one_scan_of_a_patient_is_refused() -> None:
    ids = ["BraTS-GLI-00005-100", "BraTS-GLI-00005-101", "BraTS-GLI-00006-100"]
    with pytest.raises(UsageError, match="Patient BraTS-GLI-00005 would be in train and in the holdout"):
        split_subjects(ids, "BraTS-GLI-00005-100")
    assert _held(split_subjects(ids, ",".join(ids[:2]))) == set(ids[:2])


# ---------------------------------------------------------------------------------------------------- the study's list


def test_study_lists() -> None:
    assert {year: len(numbers) for year, numbers in AKBAR2024_TEST.items()} == {"2020": 56, "2021": 56}
    # 369 and 1251 subjects, of which the study trains on 313 and 1195.
    assert all(1 <= int(number) <= 369 and len(number) == 3 for number in AKBAR2024_TEST["2020"])
    assert all(0 <= int(number) <= 1666 and len(number) == 5 for number in AKBAR2024_TEST["2021"])


def test_study_2020() -> None:
    held = _held(split_subjects(IDS, "akbar2024"))
    assert len(held) == 56 and "BraTS20_Training_002" in held and "BraTS20_Training_001" not in held


@pytest.mark.parametrize("pattern", ["BraTS2020_Training_{}", "sub-BraTS20_Training_{}", "brats20-{}"])
def test_study_2020_under_other_prefixes(pattern: str) -> None:
    assert _held(split_subjects([pattern.format("002"), pattern.format("003")], "akbar2024")) == {pattern.format("002")}


def test_study_2021() -> None:
    assert _held(split_subjects(["BraTS2021_00002", "BraTS2021_00003", "BraTS2021_01666"], "akbar2024")) == {
        "BraTS2021_00002",
        "BraTS2021_01666",
    }


def test_study_list_for_other_subjects_is_refused() -> None:
    # BRATS_009 of the Decathlon is not subject 009 of BraTS 2020.
    with pytest.raises(UsageError, match="None of the subjects is a test subject"):
        split_subjects(["BRATS_009", "BRATS_010", "TCGA-FG-6692"], "akbar2024")


def test_both_years_together_are_refused() -> None:
    with pytest.raises(UsageError, match="not for both together"):
        split_subjects(["BraTS20_Training_002", "BraTS20_Training_003", "BraTS2021_00003"], "akbar2024")
