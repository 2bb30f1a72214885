"""Which ids are asked about: those of one person by words of time or small endings, and never those that only count."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthkit.data.patients import by_names, decided, unclear_groups
from synthkit.data.scan_words import says_when
from synthkit.data.splits import split_subjects
from synthkit.errors import DataError

# ------------------------------------------------------------------------------------------------ names without numbers

PEOPLE = ["Anna", "Smith", "Mueller", "MUSTERMANN", "huber", "Schmidt-Meier", "Zoe", "Ada", "Xaver", "Grün", "Hannah"]

#: The id of scan ``k`` (0 to 2) of a person, where no number stands for the person.
OF_NAMES: dict[str, Callable[[str, int], str]] = {
    "day": lambda n, k: f"{n}_2019010{k + 1}",
    "day, German": lambda n, k: f"{n}_0{k + 1}.03.2019",
    "day, short": lambda n, k: f"{n}_0{k + 1}.03.{19 + k}",
    "day, six digits": lambda n, k: f"{n}_{19 + k}0304",
    "day, glued": lambda n, k: f"{n}2019010{k + 1}",
    "day in front": lambda n, k: f"2019-01-0{k + 1}_{n}",
    "month": lambda n, k: f"{n}_{('Mar', 'April', 'Dez')[k]}2019",
    "month, two digits": lambda n, k: f"{n}_{('Mar', 'April', 'Dez')[k]}-19",
    "quarter": lambda n, k: f"{n}_Q{k + 1}_2019",
    "week": lambda n, k: f"{n}_2019-KW0{k + 1}",
    "season": lambda n, k: f"{n}_{('spring', 'Herbst', 'Fruehjahr')[k]}_2019",
    "year and month": lambda n, k: f"{n}_{2019 + k}-03",
    "year": lambda n, k: f"{n}_{2019 + k}",
    "T": lambda n, k: f"{n}_T{k}",
    "T in front": lambda n, k: f"T{k}_{n}",
    "V": lambda n, k: f"{n}-V{k + 1}",
    "months": lambda n, k: f"{n}_m{6 * k:02d}",
    "months, behind": lambda n, k: f"{n}_{6 * k}mo",
    "hours": lambda n, k: f"{n}_{24 * (k + 1)}h",
    "scan": lambda n, k: f"{n}_scan{k + 1}",
    "scan in front": lambda n, k: f"scan{k + 1}_{n}",
    "MR": lambda n, k: f"{n}_MR{k + 1}",
    "field strength": lambda n, k: f"{n}_{('1.5T', '3T', '7T')[k]}",
    "field strength in front": lambda n, k: f"{('1.5T', '3T', '7T')[k]}_{n}",
    "image": lambda n, k: f"{n}_I1372{k}",
    "words": lambda n, k: f"{n}_{('first', 'second', 'third')[k]}",
    "words, German": lambda n, k: f"{n}_{('vor', 'nach', 'Verlauf')[k]}",
    "words, short": lambda n, k: f"{n}_{('init', 'mid', 'rec')[k]}",
    "letters": lambda n, k: f"{n}_{'ABC'[k]}",
    "letters, glued": lambda n, k: n + ("abc" if n[-1].islower() else "ABC")[k],
    "letters in front": lambda n, k: f"{'ABC'[k]}_{n}",
    "numbers": lambda n, k: f"{n}_{k + 1}",
    "numbers in front": lambda n, k: f"{k + 1}_{n}",
    "copies": lambda n, k: n + ("", "_2", "_3")[k],
}


@settings(deadline=None, max_examples=150)
@given(st.sampled_from(sorted(OF_NAMES)), st.sets(st.sampled_from(PEOPLE), min_size=2), st.integers(0, 9), st.data())
def test_scans_of_names_are_asked_about(naming: str, people: set[str], n_plain: int, data: st.DataObject) -> None:
    if naming == "letters, glued":
        people = {n for n in people if len(n) > 3 and "-" not in n}
    numbers = {n: data.draw(st.integers(1, 3)) for n in people} | {min(people, default="Smith"): 3}
    plain = [f"case_{k:03d}" for k in range(n_plain)] if not naming.startswith(("numbers", "copies")) else []
    scans = {n: [OF_NAMES[naming](n, k) for k in range(numbers[n])] for n in numbers}
    ids = [*plain, *(scan for own in scans.values() for scan in own)]
    assert unclear_groups(ids) == sorted(sorted(own) for own in scans.values() if len(own) > 1)


@pytest.mark.parametrize("naming", sorted(OF_NAMES))
def test_a_table_answers_and_nobody_is_on_both_sides(naming: str, tmp_path: Path) -> None:
    whose = {OF_NAMES[naming](n, k): n for n in PEOPLE[:4] for k in range(3)}
    with pytest.raises(DataError, match="leave open") as caught:
        decided(sorted(whose))
    assert caught.value.exit_code == 3 and "one-per-subject" in caught.value.fix
    (tmp_path / "t.csv").write_text("subject,patient\n" + "".join(f"{s},{n}\n" for s, n in whose.items()))
    of = decided(sorted(whose), tmp_path / "t.csv").of
    split = split_subjects(whose, "0.3", 1, of)
    assert {(whose[s], part) for s, part in split.items()} == {(n, split[OF_NAMES[naming](n, 0)]) for n in PEOPLE[:4]}


#: Ids that only count; ``{}`` is the number.
PLAIN = [
    *(
        "sub-{:02d}",
        "sub-{}_T1w",
        "sub-{}_3T",
        "sub{:02d}_ses1",
        "case{}",
        "case_{}_baseline",
        "case_{}T",
        "P-{}",
        "P{}a",
    ),
    *(
        "s{}",
        "{}",
        "{:03d}",
        "{:05d}",
        "1{:05d}",
        "19{:04d}",
        "2019{:04d}",
        "Anna{}",
        "{:02d}_Smith",
        "UKE_{}",
        "UKE_{:03d}",
    ),
    *("T{}", "V{:02d}", "M{}", "{}M", "MR{}", "D{:03d}", "I{:05d}", "scan{}", "exam_{}", "visit_{:03d}", "week{:03d}"),
    *("glioma_{:03d}", "GBM_2019_{:02d}", "2019_{:03d}", "20190304_{}", "site1_{:03d}", "T1_{:03d}", "3T_{:03d}"),
    *(
        "patient_{}_preop",
        "pre_{:03d}",
        "BL_{:02d}",
        "S{:02d}_BL",
        "MR_{}_brain",
        "{}_MR1",
        "{:02d}_2019",
        "P_{}F",
        "UKE_{}F",
    ),
    *(
        "P{:02d}_20190304",
        "ABC{:02d}XYZ",
        "HC_{:02d}",
        "{:02d}_HC",
        "EX{:02d}/A",
        "IXI{:03d}-Guys-0800",
        "002_S_{:04d}",
    ),
    *("TCGA-02-{:04d}", "BraTS-GLI-{:05d}-000"),
]


@pytest.mark.parametrize(
    "ids",
    [
        "UKA_01 UKA_02 LMU_01",
        "MGH-1 MGH-2 BWH-1 BWH-2",
        "S1_P1 S1_P2 S2_P1",
        "S01_pat01 S01_pat02 S02_pat01 S02_pat02",
    ],
)
def test_patients_that_centres_count_are_not_asked_about(ids: str) -> None:
    assert unclear_groups(ids.split()) == [] and decided(ids.split()).of == {own: own for own in ids.split()}


@pytest.mark.parametrize(
    "ids", ["AAB_1 AAB_2 ABC_1 ABC_2", "M1_P7 M1_P14 M2_P7 M2_P14", "P1_S1 P1_S2 P2_S1", "UKA01_01 UKA01_02 LMU01_01"]
)
def test_what_only_looks_like_a_centre_is_asked_about(ids: str) -> None:
    assert unclear_groups(ids.split())


@settings(deadline=None, max_examples=150)
@given(st.sampled_from(PLAIN), st.integers(1, 3), st.one_of(st.integers(2, 13), st.integers(14, 120)))
def test_ids_that_only_count_are_patients(pattern: str, first: int, n: int) -> None:
    ids = [pattern.format(first + k) for k in range(n)]
    assert len(set(by_names(ids).values())) == n
    assert unclear_groups(ids) == []


@pytest.mark.parametrize(
    "name", ["T1", "week-103-1", "study3", "FU003d", "ses-1", "2019-03-04", "pre-op", "1.5T", "FU_12", "m06", "scan2"]
)
def test_names_of_nothing_but_a_time(name: str) -> None:
    assert says_when(name)


@pytest.mark.parametrize("name", ["P01", "Mueller", "pre_Mueller", "HGG", "", "12"])
def test_names_of_somebody(name: str) -> None:
    assert not says_when(name)


# ------------------------------------------------------------------------------------------------------------- numbers


@st.composite
def enumerations(draw: st.DrawFn) -> list[str]:
    """Numbered patients of one collection, with gaps: one stem, a number that varies."""
    stem = draw(
        st.sampled_from(
            [
                "sub-",
                "Phantom_",
                "case_",
                "patient",
                "s",
                "BraTS20_Training_",
                "BRATS_",
                "GBM.",
                "study2_case_",
                "C3L-0",
            ]
        )
    )
    width = draw(st.integers(1, 5))
    numbers = draw(st.sets(st.integers(0, 400), min_size=1, max_size=120))
    return [f"{stem}{number:0{width}d}" for number in numbers]


@settings(deadline=None, max_examples=200)
@given(enumerations())
def test_numbered_patients_are_not_asked_about(ids: list[str]) -> None:
    assert unclear_groups(ids) == []
    assert decided(ids).of == {subject: subject for subject in ids}


@settings(deadline=None)
@given(st.integers(2, 4), st.integers(13, 40), st.sampled_from(["site{}-{:03d}", "HGG{}_{:03d}", "{}_{:04d}"]))
def test_numbered_patients_of_a_few_sites_are_not_asked_about(n_sites: int, n: int, pattern: str) -> None:
    assert unclear_groups([pattern.format(site, k) for site in range(n_sites) for k in range(n)]) == []


@settings(deadline=None, max_examples=200)
@given(
    st.sets(st.integers(0, 99), min_size=2, max_size=30),
    st.sampled_from(
        ["P{:03d}-{}", "P{:03d}_{}", "{:03d}.{}", "sub_{:02d}_{}", "P{:03d}_T{}", "P{:03d}_MR{}", "P{:03d}v{}",
         "XYZ-{:05d}_{}1", "P{:03d}_{}_brain", "P{:03d}_200{}", "P{:03d}_20030{}"]
    ),
    st.data(),
)  # fmt: skip
def test_a_few_scans_of_several_stems_are_asked_about(patients: set[int], pattern: str, data: st.DataObject) -> None:
    numbers = {p: data.draw(st.sets(st.integers(1, 5), min_size=1)) for p in patients}
    numbers[min(patients)] = {1, 2}
    ids = [pattern.format(p, k) for p in patients for k in numbers[p]]
    expected = [sorted(pattern.format(p, k) for k in numbers[p]) for p in patients if len(numbers[p]) > 1]
    assert unclear_groups(ids) == sorted(expected)
    with pytest.raises(DataError, match="leave open") as caught:
        decided(ids)
    assert len(caught.value.details) == len(expected) and caught.value.exit_code == 3


@pytest.mark.parametrize(
    "ids",
    [
        "P012-1 P012-2",
        "P012 P012_2 P013 P014",
        "P012_x P012_y P013_x P014_x",
        "P012-x1 P012-y2 P013-x1",
        "P012 P-012 P013",
        "P012_I P012_II P013_I",
        "AAB_1 AAB_2 ABC_1 ABC_2",
        "20190304_P012 20200304_P012 20200304_P013",
        "T0_001 T1_001 T0_002",
        "3T_012 1.5T_012 3T_013",
        "P012 P-012 P12",
        "Smith Smith_2 Jones Brown",
        "Smith_1 Smith_2 Jones Brown",
        "Smith1 Smith2 Jones1 Jones2",
        "P12 P012 P13",
        "baseline followup",
        "visit1 visit2",
        "P01_190304 P01_200304",
        "training01_01 training01_02 training02_01",
        "anna@x_T0 anna@x_T1",
        "study1_Ray study2_Ray",
        "2019W12_Anna 2020-W01_Anna",
        "M.M._T0 M.M._T1 K.S._T0",
        "case_001 case_002 case_003 case_004 case_005 case_006 Smith_1 Smith_2",
    ],
)
def test_other_ids_that_are_asked_about(ids: str) -> None:
    assert unclear_groups(ids.split())


@pytest.mark.parametrize(
    "ids",
    [
        "HGG_001 HGG_002 LGG_001 LGG_002",
        "002_S_0295 002_S_0413 003_S_0907 003_S_1000",
        "TCGA-DU-7294 TCGA-DU-7300 TCGA-FG-6692 TCGA-FG-6688 Brats18_CBICA_AAB_1 BRATS_119 BRATS_009",
        "BraTS20_Training_001 BraTS20_Training_002 BraTS2021_00002 BraTS2021_00003",
        "3fa85f64-5717-4562-b3fc-2c963f66afa6 3fa85f65-5717-4562-b3fc-2c963f66afa7 3b",
        "A B C",
        "C1 C2 P1 P2",
        "case1 case2 case3 control1 control2",
        "Anna_Mueller Anna_Schmidt Bert_Mueller Bert_Huber",
        "Mueller_H Mueller_K Schmidt_B",
        "Robert Roberta Hanna Hannah Maria Marie",
        "UKE_1 UKE_2 LMU_3 LMU_4",
        "UKE_1 UKE_2 UKE_3 UKE_4 UKE_5 UKE_6 LMU_1 LMU_2",
        "site1_sub1 site1_sub2 site2_sub1 site2_sub2",
        "2018_001 2018_002 2019_001 2019_002",
        "20190301_01 20190301_02 20190302_01",
        "UKE_190301 UKE_190302 UKE_345678",
        " ".join(f"UKE_{sex}{k}" for sex in "MF" for k in range(1, 8)),
        "early_01 early_02 late_01 late_02",
        "ABXYA ABXYB ABXYC ABXYD ABXYE ABXYF",
        "sub-r001s001 sub-r001s002 sub-r002s001 sub-r002s002",
        "900-00-1961 900-00-5299 HF0828 HF1345",
    ],
)
def test_other_ids_that_are_not_asked_about(ids: str) -> None:
    assert unclear_groups(ids.split()) == []


@pytest.mark.parametrize("stem", ["MRI_01", "P012", "case_7", "sub_3"])
@pytest.mark.parametrize("times", ["Jan2019 Feb2019", "Jan_2019 Feb_2019", "Q1_2019 Q3_2019", "03_2019 04_2019"])
def test_a_number_in_front_of_a_month_is_not_its_day(stem: str, times: str) -> None:
    ids = [f"{stem}_{time}" for time in times.split()]
    other = stem.translate(str.maketrans("0123", "9876"))
    assert unclear_groups([*ids, f"{other}_{times.split()[0]}"]) == [sorted(ids)]
