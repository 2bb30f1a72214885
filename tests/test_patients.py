"""Who is the patient: known namings, a table, or a question; and no patient on both sides of a split."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthkit.data.patients import by_names, decided, patient_of, unclear_groups
from synthkit.data.splits import split_subjects, with_fewer_to_train_on
from synthkit.errors import DataError, SynthkitError, UsageError

SEPARATORS = st.sampled_from("-_.")


def letters(number: int) -> str:
    return "Q" + "".join(chr(65 + number // 26**place % 26) for place in range(3))  # TPA alone is a time point


#: Naming -> the id of scan ``k`` (0 to 3) of patient ``p``.
NAMINGS: dict[str, Callable[[int, int], str]] = {
    "BraTS 2023": lambda p, k: f"BraTS-GLI-{p:05d}-{k:03d}",
    "BraTS 2024": lambda p, k: f"BraTS-GLI-{p:05d}-{100 + k}",
    "BraTS-MEN-RT": lambda p, k: f"BraTS-MEN-RT-{p:04d}-{k + 1}",
    "BraTS-MET": lambda p, k: f"BraTS-MET-{p:05d}-{k:03d}",
    "BraTS-PED": lambda p, k: f"BraTS-PED-{p:05d}-{k:03d}",
    "BraTS 2017 to 2019": lambda p, k: f"{('Brats17', 'Brats18', 'BraTS19')[k % 3]}_CBICA_{letters(p)}_{k + 1}",
    "BraTS 2018, TCIA": lambda p, k: f"Brats18_TCIA01_{p:03d}_{k + 1}",
    "BraTS-Reg": lambda p, k: f"BraTSReg_{p:03d}_{k:02d}_{37 * k:04d}",
    "UPENN-GBM": lambda p, k: f"UPENN-GBM-{p:05d}_{k + 1}1",
    "UCSF-PDGM": lambda p, k: f"UCSF-PDGM-{p:04d}" + ("", "_FU003d", "_FU1d", "_FU012d")[k],
    "MU-Glioma-Post": lambda p, k: f"PatientID_{p:04d}_Timepoint_{k + 1}",
    "LUMIERE": lambda p, k: f"Patient-{p:03d}_week-{(0, 0, 44, 101)[k]:03d}" + ("-1", "-2", "", "")[k],
    "HNTS-MRG": lambda p, k: f"{p}_{('preRT', 'midRT', 'postRT', 'mid-treatment')[k]}",
    "HNTS-MRG, folders": lambda p, k: f"{p}/{('preRT', 'midRT', 'postRT', 'mid_tx')[k]}",
    "ABCD": lambda p, k: (
        f"NDARINV{p:08d}_{('baselineYear1Arm1', '2YearFollowUpYArm1', '4YearFollowUpYArm1', '6YearFollowUpYArm1')[k]}"
    ),
    "years": lambda p, k: (
        f"X{p:03d}_{('baseline_year_1_arm_1', '2_year_follow_up_y_arm_1', '6MonthFollowUp', '3YearFU')[k]}"
    ),
    "BIDS": lambda p, k: f"sub-{p:03d}_ses-{k + 1:02d}",
    "BIDS, names": lambda p, k: f"sub-{p:03d}_ses-{('baseline', 'fu1', 'fu2', 'post')[k]}",
    "BIDS, folders": lambda p, k: f"sub-{p:03d}/ses-{k + 1:02d}",
    "TCGA": lambda p, k: f"TCGA-02-{p:04d}_{1996 + k}.08.23",
    "date": lambda p, k: f"P{p:03d}_2019030{k + 1}",
    "ISO date": lambda p, k: f"P{p:03d}_2019-0{k + 1}-04",
    "German date": lambda p, k: f"P{p:03d}_0{k + 1}.03.2019",
    "a and b": lambda p, k: f"P{p:03d}{'abcd'[k]}",
    "A and B": lambda p, k: f"P{p:03d}_{'ABCD'[k]}",
    "pre and post": lambda p, k: f"P{p:03d}_{('pre', 'post', 'preop', 'post-op')[k]}",
    "Pre and Post, in front": lambda p, k: f"{('Pre', 'Post', 'baseline', 'followup')[k]}_P{p:03d}",
    "pre and post of names": lambda p, k: f"{letters(p)}_{('pre', 'post', 'baseline', 'followup')[k]}",
    "scan": lambda p, k: f"P{p:03d}_scan{k + 1}",
    "visit": lambda p, k: f"P{p:03d}_visit_{k + 1:02d}",
    "tp": lambda p, k: f"P{p:03d}_tp{k}",
    "time point": lambda p, k: f"P{p:03d}_time_point_{k + 1}",
    "session": lambda p, k: f"{p:03d}-session-{k + 1}",
    "baseline and follow-up": lambda p, k: f"P{p:03d}-{('baseline', 'follow-up', 'followup2', 'FU3')[k]}",
    "month": lambda p, k: f"P{p:03d}_month{6 * k}",
    "ADNI": lambda p, k: f"{'ADNI_' * (k % 2)}{p % 97:03d}_S_{p:04d}" + ("", "_I13722", "_m12_I99999", "_bl")[k],
    "OASIS": lambda p, k: f"OAS2_{p:04d}_MR{k + 1}",
    "field strength": lambda p, k: f"P{p:03d}_{('1.5T', '3T', '3.0T', '7T')[k]}",
    "date with a clock": lambda p, k: f"P{p:03d}_2019030{k + 1}T101500",
    "date with a month's name": lambda p, k: f"P{p:03d}_04{('Mar', 'Okt', 'June', 'Dec')[k]}2019",
    "date without a dot": lambda p, k: f"P{p:03d}_0{k + 1}032019",
    "visit in front": lambda p, k: f"{('visit', 'Visit_', 'ses-', 'timepoint')[k]}{k + 1}_P{p:03d}",
    "visit with a letter": lambda p, k: f"P{p:03d}_visit{'ABCD'[k]}",
    "follow-up of names": lambda p, k: f"{letters(p)}_{('BL', 'FU3', 'FU_12', 'month24')[k]}",
    "states in front of names": lambda p, k: f"{('pre', 'post-op', 'FU2', 'visit_3')[k]}_{letters(p)}",
    "intraoperative": lambda p, k: f"P{p:03d}_{('preop', 'intraop', 'post_RT', 'praeop')[k]}",
}


@st.composite
def scans(draw: st.DrawFn, most: int = 4) -> dict[str, tuple[str, int]]:
    """Ids of one to three namings with their true patients, in upper or lower case, with one separator in all of them.

    Separators are only exchanged where the collection does not fix them.
    """
    found: dict[str, tuple[str, int]] = {}
    for naming in draw(st.lists(st.sampled_from(sorted(NAMINGS)), min_size=1, max_size=3, unique=True)):
        case = draw(st.sampled_from([str, str.lower, str.upper]))
        separator = draw(SEPARATORS)
        for patient in draw(st.sets(st.integers(0, 999), min_size=2, max_size=8)):
            for scan in draw(st.sets(st.integers(0, most - 1), min_size=1)):
                name = case(NAMINGS[naming](patient, scan))
                if name.lower().startswith("p") and "id" not in name.lower() and "patient" not in name.lower():
                    name = name.replace("_", separator)
                # Namings of the same kind of name (P012) are the same patients, and so is each BraTS-GLI year.
                kind = "P012" if re.match(r"P\d", name, re.IGNORECASE) else naming
                found[name] = (f"{kind} {case.__name__}", patient)
    return found


@settings(deadline=None, max_examples=300)
@given(scans(), st.one_of(st.integers(1, 8).map(str), st.floats(0.05, 0.8).map(repr)), st.integers(0, 100))
def test_no_patient_is_on_both_sides(ids: dict[str, tuple[str, int]], holdout: str, seed: int) -> None:
    try:
        split = split_subjects(ids, holdout, seed)
    except UsageError as error:
        assert "nothing to train on" in error.what
        return
    sides = defaultdict(set)
    for subject, patient in ids.items():
        sides[patient].add(split[subject])
    assert all(len(side) == 1 for side in sides.values()), split
    fewer = with_fewer_to_train_on(split, 1, seed)
    assert any(part == "train" for part in fewer.values())
    assert set(fewer.items()) <= set(split.items())
    assert not {ids[s] for s in fewer} & {ids[s] for s in split.keys() - fewer}


@settings(deadline=None, max_examples=200)
@given(st.sampled_from(sorted(NAMINGS)), st.sets(st.integers(0, 999), min_size=2, max_size=6), st.data())
def test_known_scans_are_joined_and_different_patients_are_not(
    naming: str, patients: set[int], data: st.DataObject
) -> None:
    ids = {NAMINGS[naming](p, k): p for p in patients for k in range(4)}
    of = decided(sorted(ids)).of
    for subject, patient in ids.items():
        assert {s for s in ids if of[s] == of[subject]} == {s for s in ids if ids[s] == patient}
    named = data.draw(st.sampled_from(sorted(ids)))
    with pytest.raises(UsageError, match="would be in train and in the holdout"):
        split_subjects(ids, f"{named},")
    whole = [subject for subject in ids if ids[subject] == ids[named]]
    assert [s for s, part in split_subjects(ids, ",".join(whole)).items() if part == "holdout"] == sorted(whole)


@pytest.mark.parametrize(
    "subject",
    [
        *("BraTS20_Training_002", "BraTS2021_00002", "BRATS_009", "sub-BraTS20_Training_002", "TCGA-DU-7294"),
        *("Phantom_0001", "sub-001", "case_0001", "patient12", "p0", "20190304", "scan_001", "900-00-1961"),
        *("glioma_scan_12", "glioma_20190304", "study2_post_001", "control_pre_1", "BraTS-GLI-00005"),
    ],
)
def test_ids_that_are_patients_of_their_own(subject: str) -> None:
    assert patient_of(subject) == subject


def test_patients_that_differ_in_case_alone_are_one() -> None:
    assert by_names(["P012_pre", "p012_post"]) == {"P012_pre": "P012", "p012_post": "P012"}


def test_letters_beyond_e_are_no_scans() -> None:
    ids = [f"01{letter}" for letter in "ABCDEFGH"]
    assert by_names(ids) == {subject: subject for subject in ids}
    assert by_names(["P012a", "P012b", "P013"]) == {"P012a": "P012", "P012b": "P012", "P013": "P013"}


# ------------------------------------------------------------------------------------------------------------ asking


def test_many_scans_of_one_patient_by_common_words_are_asked_about() -> None:
    """A word such as scan may stand before patients as well: forty scans of nobody else are no known follow-up."""
    ids = [f"cohort1_scan_{n:02d}" for n in range(40)]
    with pytest.raises(DataError, match="1 group of subjects is scans of one patient") as caught:
        decided(ids)
    assert "one-per-subject" in caught.value.fix
    assert decided(ids, "one-per-subject").of == {subject: subject for subject in ids}


# ------------------------------------------------------------------------------------------------------------ answers


IDS = ["P012-1", "P012-2", "P013-1", "P013-2"]


def test_both_remedies_of_the_question_help(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        decided(IDS)
    assert caught.value.details == ("P012-1, P012-2", "P013-1, P013-2")
    assert "--patients TABLE.csv (columns subject, patient)" in caught.value.fix
    assert "--patients one-per-subject" in caught.value.fix
    (tmp_path / "t.csv").write_text("subject,patient\n" + "".join(f"{name},{name[:4]}\n" for name in IDS))
    assert set(decided(IDS, tmp_path / "t.csv").of.values()) == {"P012", "P013"}
    assert set(decided(IDS, "one-per-subject").of.values()) == set(IDS)


def test_one_per_subject_is_no_advice_where_it_would_tear_known_scans_apart() -> None:
    known = ["UPENN-GBM-00002_11", "UPENN-GBM-00002_21"]
    with pytest.raises(DataError) as caught:
        decided([*IDS, *known])
    assert "one-per-subject" not in caught.value.fix
    insisted = decided([*IDS, *known], "one-per-subject")
    assert len(set(insisted.of.values())) == 6
    assert insisted.notes == (
        "By their names 2 subjects are scans of 1 patient, but not by --patients one-per-subject: "
        "UPENN-GBM-00002_11 and UPENN-GBM-00002_21.",
    )


def test_what_the_names_join_is_said() -> None:
    (note,) = decided(["sub-01_ses-01", "sub-01_ses-02", "sub-02_ses-01"]).notes
    assert (
        note == "By their names 2 subjects are scans of 1 patient, and stay together: sub-01_ses-01 and sub-01_ses-02."
    )
    assert decided(["sub-01_ses-01", "sub-02_ses-01"]).notes == ()


@pytest.mark.parametrize(
    "text",
    [
        "subject,patient\nP012-1,7\nP012-2,7\nP013-1,8\nP013-2,8\n",
        "\ufeffsubject;patient\r\nP012-1;7\r\nP012-2;7\r\nP013-1;8\r\nP013-2;8\r\n",
        "Patient\tage\tSubject\n7\t50\tP012-1\n7\t51\tP012-2\n8\t\tP013-1\n8\t60\tP013-2\n\n",
        'sep=;\n"subject";"note";"patient"\n"P012-1";"a;b";7\nP012-2;;7\nP013-1;; 8 \nP013-2;;8;\n;;\n',
        "subject,patient\nP012-1,7\nP012-1,7\nP012-2,7\nP013-1,8\nP013-2,8",
    ],
    ids=["plain", "spreadsheet", "tabs", "quoted", "twice"],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_tables_as_people_save_them(tmp_path: Path, text: str, encoding: str) -> None:
    text = text if encoding == "utf-8" else text.removeprefix("\ufeff")
    (tmp_path / "t.csv").write_bytes(text.encode(encoding))
    found = decided(IDS, tmp_path / "t.csv")
    assert found.of == {"P012-1": "7", "P012-2": "7", "P013-1": "8", "P013-2": "8"} and found.notes == ()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("subject,patient\nP012-1,7\n", r"lacks 3 of 4 subjects. Missing: P012-2, P013-1, P013-2"),
        ("subject,patient\nP012-1,7\nP012-1,8\n", r"P012-1 is both 7 and 8 \(row 3\)"),
        ("subject,patient\nP012-1,\n", "Row 2 has no patient"),
        ("subject,patient\n,7\n", "Row 2 has no subject"),
        ("name,patient\nP012-1,7\n", "Its first row is 'name,patient'"),
        ("subject,patient,patient\nP012-1,7,7\n", "Two columns are called patient"),
        ("", "Its first row is 'nothing'"),
    ],
)
def test_tables_that_are_refused(tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(DataError, match=why) as caught:
        decided(IDS, tmp_path / "t.csv")
    assert caught.value.fix


def test_a_subject_that_the_table_spells_otherwise_is_named(tmp_path: Path) -> None:
    rows = "subject,patient\np012-1,7\nP012-2,7\nP013-1,8\nP013-2,8\n"
    (tmp_path / "t.csv").write_text(rows)
    with pytest.raises(DataError, match=r"Missing: P012-1.*compared letter by letter") as caught:
        decided(IDS, tmp_path / "t.csv")
    assert caught.value.details == ("P012-1",)
    (tmp_path / "t.csv").write_text(rows + "P012-1,7\n")  # what it advises
    (note,) = decided(IDS, tmp_path / "t.csv").notes
    assert note == "The table of patients names 1 more than the folder holds: p012-1."


def test_a_table_overrides_known_namings(tmp_path: Path) -> None:
    ids = ["sub-01_ses-01", "sub-01_ses-02", "x", "y"]
    (tmp_path / "t.csv").write_text("subject,patient\nsub-01_ses-01,1\nsub-01_ses-02,2\nx,3\ny,3\n")
    of = decided(ids, tmp_path / "t.csv").of
    assert split_subjects(ids, "sub-01_ses-01,", patients=of)["sub-01_ses-02"] == "train"
    with pytest.raises(UsageError, match="Patient 3 would be in train and in the holdout"):
        split_subjects(ids, "x", patients=of)


@pytest.mark.parametrize("given", ["nowhere.csv", "one-per-patient"])
def test_a_table_that_is_not_there_is_a_matter_of_usage(given: str) -> None:
    with pytest.raises(SynthkitError, match="There is no table of patients") as caught:
        decided(IDS, given)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    "ids",
    [
        ["BraTS-GLI-00005-100", "BraTS_GLI_00005_101", "BraTS2023-GLI-00005-102"],
        ["TCGA-02-0006", "TCGA_02_0006_1996.08.23"],
        ["UCSF-PDGM-0429", "UCSF-PDGM-429_FU003d"],
        ["UPENN-GBM-00002_11", "UPENN-GBM-2_21"],
        ["Patient-001_week-000-1", "Patient-01_week-044"],
    ],
)
def test_a_patient_of_a_collection_is_one_however_the_id_is_spelled(ids: list[str]) -> None:
    assert len(set(by_names(ids).values())) == 1 and not unclear_groups(ids)


@pytest.mark.parametrize("ids", [["sub-01_ses-1", "sub-1_ses-1"], ["BraTS20_Training_001", "BraTS20_Training_1"]])
def test_ids_that_differ_in_zeros_are_asked_about(ids: list[str]) -> None:
    assert unclear_groups([*ids, "sub-02_ses-1"]) == [ids]


def test_numbers_that_differ_are_different_patients() -> None:
    ids = ["TCGA-02-0006", "TCGA-02-0060", "BraTS-GLI-00005-100", "BraTS-PED-00005-100", "BraTS20_Training_010"]
    assert len(set(by_names(ids).values())) == 5 and not unclear_groups(ids)
