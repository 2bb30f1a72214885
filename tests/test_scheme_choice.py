"""Which label scheme files have: told by ids, names, tables and values, checked by the images, or asked."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthkit.data.dataset import Dataset
from synthkit.data.label_folders import LabelFolder
from synthkit.data.label_looks import LabelLook, contradiction, looks_of, outside_brain
from synthkit.data.label_pairs import check_prediction
from synthkit.data.named_schemes import SCHEMES, read_scheme, scheme_named
from synthkit.data.prepare import prepare
from synthkit.data.scheme_choice import SchemeChoice, decide, scheme_given, without_misfits
from synthkit.data.scheme_ids import Labelled
from synthkit.data.scheme_questions import labels_in_words
from synthkit.data.slices import SliceProtocol
from synthkit.errors import DataError, UsageError
from synthkit.schemes import Scheme

MakeSubject = Callable[..., Path]
SMALL = SliceProtocol(size=64, brain_fraction=0.004)
CLASSIC = ("{}_t1.nii.gz", "{}_t1ce.nii.gz", "{}_t2.nii.gz", "{}_flair.nii.gz", "{}_seg.nii.gz")
NEW = ("{}-t1n.nii.gz", "{}-t1c.nii.gz", "{}-t2w.nii.gz", "{}-t2f.nii.gz", "{}-seg.nii.gz")


def labelled(subject: str, values: Sequence[int], files: Sequence[str] = CLASSIC, **more: Any) -> Labelled:
    return Labelled(subject, tuple(name.format(subject) for name in files), (0, *values), **more)


def chosen(*subjects: Labelled, given_scheme: Scheme | None = None) -> SchemeChoice:
    return decide(subjects, given_scheme)


# ------------------------------------------------------------------------------------------------------------- by ids


@pytest.mark.parametrize(
    ("subject", "values", "scheme"),
    [
        ("BraTS-GLI-02064-100", (2, 4), "gli2024"),
        ("BraTS-GLI-02065-100", (1, 2, 3), "gli2024"),
        ("BraTS-GLI-02066-101", (1, 2, 3, 4), "gli2024"),
        ("BraTS-GLI-00005-000", (1, 2, 3), "brats2023-gli"),
        ("BraTS-GLI-00005-001", (2,), "brats2023-gli"),
        ("BraTS-GLI-00005-000", (1, 2, 3, 4), "gli2024"),
        ("BraTS-PED-00002-000", (1, 2, 3, 4), "ped"),
        ("BraTS-PED-00002-000", (2, 3), "ped"),
        ("BraTS-MET-00001-000", (1, 2, 3), "met"),
        ("BraTS-MET-00001-000", (1, 2, 3, 4), "met2025"),
        ("BraTS-MEN-RT-0001-1", (1,), "men-rt"),
        ("BraTS-MEN-00004-000", (1, 2, 3), "men"),
        ("BraTS-MEN-00004-000", (3,), "men"),
        ("BraTS-SSA-00002-000", (1, 2, 3), "ssa"),
        ("BraTS-GoAT-00000", (1, 2, 3), "brats2023-gli"),
        ("BraTS2021_00002", (1, 2, 4), "brats2021"),
        ("BraTS20_Training_001", (1, 2, 4), "brats2018"),
        ("BraTS19_CBICA_AAB_1", (2, 4), "brats2018"),
        ("Brats18_CBICA_AAB_1", (1, 2), "brats2018"),
        ("Brats17_TCIA_105_1", (1, 2, 4), "brats2018"),
        ("brats_tcia_pat101_0001", (1, 2, 3, 4), "brats2013"),
        ("UPENN-GBM-00002_11", (1, 2, 4), "brats2018"),
        ("UCSF-PDGM-0429_FU003d", (1, 2, 4), "brats2018"),
        ("TCGA-DU-7294", (1, 2), "brats2018"),
        ("TCGA-02-0006_1996.08.23", (1, 2, 4), "brats2018"),
        ("PatientID_0003_Timepoint_1", (1, 2, 3, 4), "gli2024"),
        ("sub-BraTS20_Training_002", (1, 2, 4), "brats2018"),
    ],
)
def test_official_ids_say_their_scheme(subject: str, values: tuple[int, ...], scheme: str) -> None:
    choice = chosen(labelled(subject, values, NEW))
    assert choice.scheme.name == scheme and choice.why.startswith("by the ids")
    assert choice.label_values[subject] == {value: value for value in SCHEMES[scheme].values}


def test_a_folder_of_both_years_of_gliomas_is_2024s() -> None:
    choice = chosen(labelled("BraTS-GLI-00005-000", (1, 2, 3)), labelled("BraTS-GLI-00006-101", (1, 2, 3)))
    assert choice.scheme.name == "gli2024"
    again = chosen(labelled("BraTS-GLI-00005-000", (1, 2, 3)), labelled("BraTS-GLI-00006-000", (2, 3, 4)))
    assert again.scheme.name == "gli2024" and again.label_values["BraTS-GLI-00005-000"][4] == 4


@pytest.mark.parametrize("values", [(1, 2, 4), (2, 4), (4,)])
@pytest.mark.parametrize("ids", ["BraTS-GLI-0000{}-000", "BraTS-MET-0000{}-001", "BraTS_MET_0000{}_000"])
def test_a_four_without_any_three_is_asked_about(ids: str, values: tuple[int, ...]) -> None:
    """What was enhancing tumour to 2021 would be a cavity; be it that the images speak against it in one subject."""
    seen = looks({"NCR": 1, "ED": 2, "ET": 4})
    subjects = [labelled(ids.format(k), values, NEW, looks=seen if k else {}) for k in range(3)]
    with pytest.raises(DataError, match="not known which labels 3 subjects have") as caught:
        chosen(*subjects)
    assert "nobody has a 3" in caught.value.why and any("gli2024" in line for line in caught.value.details)
    assert chosen(*subjects, given_scheme=SCHEMES["brats2021"]).scheme.name == "brats2021"  # the advice
    bare = [labelled(ids.format(k), values, NEW) for k in range(3)]
    assert chosen(*bare, labelled(ids.format(4), (3,), NEW)).scheme.label_values["RC"] == 4


def test_a_four_after_treatment_is_a_cavity_unless_no_image_shows_one() -> None:
    dark = LabelLook(500, {"t1": -3, "t1ce": -3, "flair": -2}, 0.3, 0.0)
    bright = LabelLook(500, {"t1": 0, "t1ce": 4, "flair": 1}, 0.3, 0.0)
    subjects = [labelled(f"BraTS-GLI-0000{k}-100", (1, 2, 4), NEW, looks={4: dark if k else bright}) for k in range(3)]
    assert chosen(*subjects).scheme.name == "gli2024"
    with pytest.raises(DataError, match="not known which labels BraTS-GLI-00000-100 has"):
        chosen(subjects[0])


@pytest.mark.parametrize(
    ("subject", "values"),
    [
        ("Brats18_CBICA_AAB_1", (1, 2, 3)),
        ("TCGA-FG-6692", (1, 2, 3)),
        ("BraTS2021_00002", (1, 2, 3)),
        ("BraTS-MEN-00004-000", (1, 2, 4)),
        ("BraTS-SSA-00002-000", (4,)),
        ("BraTS-MEN-RT-0001-1", (1, 2)),
        ("BraTS-PED-00002-000", (1, 5)),
    ],
)
def test_an_id_whose_scheme_lacks_a_value_is_asked_about(subject: str, values: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match="not known which labels") as caught:
        chosen(labelled(subject, values))
    assert "does not have" in caught.value.why and "--labels" in caught.value.fix
    assert any(line.startswith("found 1") or line.startswith("found 4") for line in caught.value.details)


def test_a_mask_of_one_value_is_asked_about_whatever_its_id() -> None:
    for subject in ("Brats18_CBICA_AAB_1", "BraTS-GLI-00005-000", "case1", "TCGA-DU-7294"):
        with pytest.raises(DataError, match="not known which labels"):
            chosen(labelled(subject, (1,)))
        assert chosen(labelled(subject, (1,)), given_scheme=SCHEMES["whole-tumour"]).scheme.name == "whole-tumour"
    with pytest.raises(DataError, match="not known which labels"):  # one among others
        mask = labelled("Brats18_CBICA_AAM_1", (1,), ("{}_t1.nii.gz", "{}_tumor_mask.nii.gz"))
        chosen(labelled("Brats18_CBICA_AAB_1", (1, 2, 4)), mask)


def test_paediatric_subjects_without_oedema_are_told_of_the_year_before() -> None:
    assert "brats2023-gli" in chosen(labelled("BraTS-PED-00002-000", (1, 2, 3), NEW)).notes[0]
    assert not chosen(labelled("BraTS-PED-00002-000", (1, 2, 4), NEW)).notes


# ----------------------------------------------------------------------------------------- by names of files, by values


def test_names_of_files_say_it() -> None:
    choice = chosen(labelled("case1", (1, 2, 4)), labelled("case2", (1, 2)), labelled("case3", ()))
    assert choice.scheme.name == "brats2018" and "names of files" in choice.why
    for values in ((1, 2, 4), (1, 2, 3), (1, 2, 3, 4), (1,)):
        with pytest.raises(DataError, match="not known which labels"):
            chosen(labelled("case1", values, NEW))
    for values in ((1, 2, 3), (1, 2, 3, 4), (2, 3)):
        with pytest.raises(DataError, match="not known which labels"):
            chosen(labelled("case1", values))


def test_values_say_it_where_only_one_meaning_has_them() -> None:
    alone = ("{}.nii.gz",)
    assert chosen(labelled("a", (1, 2), alone), labelled("b", (4,), alone)).scheme.name == "brats2018"
    for values in ((1, 2, 3), (1,), (1, 2), (1, 2, 3, 4), (7,)):
        with pytest.raises(DataError, match="values alone do not") as caught:
            chosen(labelled("a", values, alone))
        assert "TOML file" in caught.value.fix
    with pytest.raises(DataError) as caught:
        chosen(labelled("a", (1, 2, 3), alone))
    assert "fits msd or nnunet-brats: 1 ED, 2 NCR, 3 ET" in caught.value.details
    assert "found 1, 2 and 3 in a" in caught.value.details


# ------------------------------------------------------------------------------------------------------ several schemes


def test_subjects_of_several_schemes_with_the_same_labels_are_stored_in_one() -> None:
    choice = chosen(
        labelled("BraTS20_Training_001", (1, 2, 4)),
        labelled("BraTS-GLI-00005-000", (1, 2, 3)),
        labelled("BraTS-GLI-00006-000", (1, 2, 3)),
    )
    assert choice.scheme.name == "brats2018"
    assert choice.label_values["BraTS-GLI-00005-000"] == {0: 0, 1: 1, 2: 2, 3: 4}
    assert "2 of brats2023-gli (1 NCR, 2 ED, 3 ET) are stored as brats2018" in choice.notes[0]
    larger = chosen(labelled("BraTS20_Training_001", (1, 2, 4)), labelled("BraTS-GLI-00005-100", (2, 4)))
    assert larger.scheme.name == "gli2024" and larger.label_values["BraTS20_Training_001"][4] == 3


def test_subjects_whose_labels_do_not_go_together_are_refused() -> None:
    with pytest.raises(DataError, match="do not go together") as caught:
        chosen(labelled("BraTS-PED-00002-000", (1, 2)), labelled("BraTS-GLI-00005-000", (1, 2, 3)))
    assert [line.split(":")[0] for line in caught.value.details] == ["brats2023-gli", "ped"]
    assert "BraTS-PED-00002-000" in caught.value.details[1]


# ----------------------------------------------------------------------------------------------------------- given, bad


def test_what_is_given_wins_and_is_checked() -> None:
    subject = labelled("Brats18_CBICA_AAB_1", (1, 2, 3))
    assert chosen(subject, given_scheme=SCHEMES["msd"]).scheme.name == "msd"
    with pytest.raises(DataError, match="not the labels of brats2018: unknown 3"):
        chosen(subject, given_scheme=SCHEMES["brats2018"])
    assert scheme_given(None) is None and scheme_given("ped") == SCHEMES["ped"]
    with pytest.raises(UsageError, match="no label scheme 'brats1999'"):
        scheme_given("brats1999")
    with pytest.raises(DataError, match="cannot be taken from a table"):
        scheme_given("table")


def test_a_stray_value_in_one_subject_is_a_bad_subject_if_that_is_wanted(
    tmp_path: Path, make_subject: MakeSubject
) -> None:
    assert without_misfits([labelled("a", (1, 2, 4)), labelled("b", (1, 7))], None).keys() == {"b"}
    assert not without_misfits([labelled("b", (1, 7))], None)
    stray = np.zeros((24, 20, 4), np.uint8)
    stray[5, 5], stray[6, 6] = 7, 1
    make_subject(tmp_path / "in", "BraTS20_Training_001")
    make_subject(tmp_path / "in", "BraTS20_Training_002", seg=stray)
    with pytest.raises(DataError, match="which labels BraTS20_Training_002 has") as caught:
        prepare(tmp_path / "in", tmp_path / "out", protocol=SMALL)
    assert "--skip-bad" in caught.value.fix and not (tmp_path / "out").exists()
    summary = prepare(tmp_path / "in", tmp_path / "out", protocol=SMALL, skip_bad=True)
    assert [bad.id for bad in summary.bad_subjects] == ["BraTS20_Training_002"]
    assert "unknown label value 7" in summary.bad_subjects[0].reason


# ----------------------------------------------------------------------------------------------------------- the images


def tumour() -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Images of a brain with nested parts, and the masks of these."""
    rng = np.random.default_rng(0)
    x, y, z = np.mgrid[:48, :48, :24]
    r = np.sqrt((x - 24) ** 2 + (y - 24) ** 2 + 0.2 * (z - 12) ** 2)
    parts = {"NCR": r < 5, "ET": (r >= 5) & (r < 8), "ED": (r >= 8) & (r < 14)}
    images = {name: np.where(r < 22, 100 + 10 * rng.standard_normal(r.shape), 0.0) for name in ("t1", "t1ce", "flair")}
    for name, t1, t1ce, flair in (("NCR", -30, -30, 10), ("ET", -10, 60, 40), ("ED", -5, -5, 50)):
        for contrast, change in (("t1", t1), ("t1ce", t1ce), ("flair", flair)):
            images[contrast][parts[name]] += change
    return images, parts


def looks(values: dict[str, int]) -> dict[int, LabelLook]:
    images, parts = tumour()
    labels = np.zeros(images["t1"].shape, np.uint8)
    for name, value in values.items():
        labels[parts[name]] = value
    return looks_of(images, labels)


@pytest.mark.parametrize(
    ("values", "true", "wrong", "why"),
    [
        ({"NCR": 1, "ED": 2, "ET": 4}, "brats2018", "ped", "ET is not brighter in T1ce"),
        ({"ED": 1, "NCR": 2, "ET": 3}, "msd", "brats2023-gli", "NCR lies around ED"),
        ({"NCR": 4, "ED": 2}, "gli2024", "brats2018", "ET is not brighter in T1ce"),
        ({"NCR": 1, "ED": 2, "ET": 3}, "brats2023-gli", "brats2013", "NET enhances as only ET does"),
    ],
)
def test_labels_look_like_their_names(values: dict[str, int], true: str, wrong: str, why: str) -> None:
    seen = looks(values)
    assert not contradiction(seen, SCHEMES[true])
    assert why in contradiction(seen, SCHEMES[wrong])


def test_labels_that_look_otherwise_are_asked_about_and_the_best_is_named() -> None:
    swapped = looks({"ED": 1, "NCR": 2, "ET": 3})
    subjects = [labelled(f"BraTS-GLI-0000{k}-000", (1, 2, 3), NEW, looks=swapped) for k in range(3)]
    with pytest.raises(DataError, match="do not look like those of brats2023-gli") as caught:
        decide(subjects)
    assert "By the images msd or nnunet-brats fits best" in caught.value.why
    assert not decide(subjects, SCHEMES["msd"]).notes  # the remedy
    assert "do not look like those of brats2023-gli" in decide(subjects, SCHEMES["brats2023-gli"]).notes[0]
    right = looks({"NCR": 1, "ED": 2, "ET": 3})
    most = [labelled(f"BraTS-GLI-0001{k}-000", (1, 2, 3), NEW, looks=right) for k in range(4)]
    assert decide([*subjects, *most]).scheme.name == "brats2023-gli"


def test_what_images_do_not_tell_is_not_said_to_fit(tmp_path: Path) -> None:
    """1 ET, 2 ED, 3 NCR: only the paediatric scheme has ET as 1, and its 2 and 3 are others."""
    own = {"ET": 1, "ED": 2, "NCR": 3}
    subjects = [labelled(f"case{k}", (1, 2, 3), NEW, looks=looks(own)) for k in range(3)]
    with pytest.raises(DataError, match="not known which labels") as caught:
        decide(subjects)
    assert "By the images 1 is ET, as in ped; they do not tell what 2 and 3 are" in caught.value.why
    assert "fits best" not in caught.value.why and caught.value.fix.startswith("Write the labels into a TOML file")
    toml = tmp_path / "own.toml"
    toml.write_text("[labels]\nET = 1\nED = 2\nNCR = 3\n")
    assert not decide(subjects, scheme_named(str(toml))).notes  # the advice


@pytest.mark.parametrize(("n_with", "n_without"), [(2, 1), (1, 1), (2, 4), (3, 0)])
def test_a_label_is_judged_by_the_subjects_that_have_it(n_with: int, n_without: int) -> None:
    """Old numbers under ids of 2024, whose 4 is a cavity: subjects without a 4 say nothing about it."""
    all_of_it, without = looks({"NCR": 1, "ED": 2, "ET": 4}), looks({"NCR": 1, "ED": 2})
    subjects = [labelled(f"BraTS-GLI-0000{k}-100", (1, 2, 4), NEW, looks=all_of_it) for k in range(n_with)]
    subjects += [labelled(f"BraTS-GLI-0001{k}-100", (1, 2), NEW, looks=without) for k in range(n_without)]
    with pytest.raises(DataError, match="not known which labels") as caught:
        decide(subjects)
    assert "By the images brats2018 or brats2021 fits best" in caught.value.why
    with pytest.raises(DataError, match="do not look like those of gli2024") as caught:
        decide([*subjects, labelled("BraTS-GLI-00020-100", (2, 3), NEW)])
    assert "RC enhances as only ET does" in caught.value.why
    assert not decide(subjects, SCHEMES["brats2018"]).notes  # the advice


def test_one_subject_among_many_is_named_with_what_fits_it() -> None:
    odd = labelled("BraTS-GLI-00000-100", (1, 2, 4), NEW, looks=looks({"NCR": 1, "ED": 2, "ET": 4}))
    right = looks({"NCR": 1, "ED": 2, "ET": 3})
    rest = [labelled(f"BraTS-GLI-0001{k}-100", (1, 2, 3), NEW, looks=right) for k in range(4)]
    (note,) = decide([odd, *rest]).notes
    assert "BraTS-GLI-00000-100" in note and "leave it out. By the images brats2018 or brats2021 fits best" in note


def test_a_cavity_is_not_an_exchange_of_contrasts() -> None:
    """Dark in both, by more spreads in T1: as old names would have it a 4 that does not enhance."""

    def look(t1: float, t1ce: float, flair: float, open_: float) -> LabelLook:
        return LabelLook(500, {"t1": t1, "t1ce": t1ce, "flair": flair}, open_, 0.0)

    seen = {1: look(-2, -1.8, 1, 0.1), 2: look(-0.5, -0.4, 3, 0.4), 4: look(-3, -4.5, -2, 0.3)}
    subjects = [labelled(f"case{k}", (1, 2, 4), looks=seen) for k in range(3)]
    with pytest.raises(DataError, match="do not look like those of brats2018") as caught:
        decide(subjects)
    assert "looks like" not in caught.value.why and "--names" not in caught.value.fix


def test_labels_outside_of_the_brain_are_noticed() -> None:
    images, parts = tumour()
    labels = np.where(np.roll(parts["ED"], 22, axis=0), 2, 0).astype(np.uint8)
    assert "of ED lies where all contrasts are 0" in outside_brain(looks_of(images, labels), SCHEMES["brats2018"])
    assert not outside_brain(looks({"ED": 2}), SCHEMES["brats2018"])
    assert looks_of(images, np.zeros_like(labels)) == {}


def test_real_subjects_are_not_contradicted(tmp_path: Path, real_subjects: Path) -> None:
    summary = prepare(real_subjects, tmp_path / "none", dry_run=True, holdout="1")
    assert summary.labels.scheme.name == "brats2018"


# ---------------------------------------------------------------------------------------------------- never another one


IDS = {
    "gli2024": r"BraTS-GLI-\d{5}-1\d{2}",
    "brats2023-gli": r"BraTS-GLI-\d{5}-0\d{2}",
    "ped": r"BraTS-PED-\d{5}-\d{3}",
    "met": r"BraTS-MET-\d{5}-\d{3}",
    "men": r"BraTS-MEN-\d{5}-\d{3}",
    "men-rt": r"BraTS-MEN-RT-\d{4}-\d",
    "ssa": r"BraTS-SSA-\d{5}-\d{3}",
    "brats2021": r"BraTS2021_\d{5}",
    "brats2018": r"(Brats1[78]_(CBICA|TCIA\d\d|2013)_[A-Z0-9]{1,3}_1|BraTS(19|20)_Training_\d{3}|TCGA-\d\d-\d{4})",
}


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_a_known_id_is_never_stored_with_another_meaning(data: st.DataObject) -> None:
    kinds = data.draw(st.lists(st.sampled_from(sorted(IDS)), min_size=1, max_size=4))
    subjects, names = [], {}
    for kind in kinds:
        subject = data.draw(st.from_regex(re.compile(IDS[kind], re.ASCII), fullmatch=True))
        values = data.draw(st.sets(st.integers(1, 5), max_size=4))
        subjects.append(labelled(subject, sorted(values), data.draw(st.sampled_from([CLASSIC, NEW]))))
        names[subject] = kind
    try:
        choice = decide(subjects)
    except DataError:
        return
    with_cavity = {"brats2023-gli": "gli2024", "met": "met2025"}
    stored = {label.value: label.name for label in choice.scheme.labels}
    for subject in subjects:
        kind = names[subject.id]
        meant = {label.value: label.name for label in SCHEMES[with_cavity.get(kind, kind)].labels}
        for value in subject.labels:
            assert stored[choice.label_values[subject.id][value]] == meant[value]


# ------------------------------------------------------------------------------------------------------------- commands


def three() -> np.ndarray:
    found = np.zeros((24, 20, 4), np.uint8)
    found[12, 4:10], found[13, 4:8], found[14, 4:6] = 1, 2, 3  # oedema, necrosis, enhancing in nnU-Net's order
    return found


def test_prepare_stores_the_values_of_the_files(tmp_path: Path, make_subject: MakeSubject) -> None:
    make_subject(tmp_path / "in", "case1", seg=three())
    with pytest.raises(DataError, match="which labels case1 has"):
        prepare(tmp_path / "in", tmp_path / "out", protocol=SMALL)
    assert not (tmp_path / "out").exists()
    summary = prepare(tmp_path / "in", tmp_path / "out", protocol=SMALL, labels="msd")
    assert summary.subjects[0].label_voxels == {"ED": 24, "NCR": 16, "ET": 8}
    data = Dataset(tmp_path / "out")
    assert data.scheme == SCHEMES["msd"] and set(np.unique(data.read([0])[1])) <= {0, 1, 2, 3}
    recorded = json.loads((tmp_path / "out" / "dataset.json").read_text())["provenance"]["summary"]["labels"]
    assert recorded == {"name": "msd", "why": "as --labels says"}


def test_subjects_of_two_years_are_written_with_one_value(tmp_path: Path, make_subject: MakeSubject) -> None:
    new = np.zeros((24, 20, 4), np.uint8)
    new[12, 4:10], new[13, 4:8], new[14, 4:6] = 2, 1, 3
    make_subject(tmp_path / "in", "BraTS-GLI-00005-000", seg=new, new_names=True)
    make_subject(tmp_path / "in", "BraTS20_Training_001")
    summary = prepare(tmp_path / "in", tmp_path / "out", protocol=SMALL)
    assert [s.label_voxels for s in summary.subjects] == [{"NCR": 16, "ED": 24, "ET": 8}] * 2
    _, labels = Dataset(tmp_path / "out").read(range(8))
    np.testing.assert_array_equal(labels[:4], labels[4:])
    folder = LabelFolder(tmp_path / "in")
    np.testing.assert_array_equal(folder.labels("BraTS-GLI-00005-000")[0], folder.labels("BraTS20_Training_001")[0])
    again = LabelFolder(tmp_path / "in", decided=json.loads(json.dumps(folder.decision())))
    np.testing.assert_array_equal(again.labels("BraTS-GLI-00005-000")[0], folder.labels("BraTS20_Training_001")[0])


def write_flat(folder: Path, subject: str, labels: np.ndarray) -> None:
    folder.mkdir(exist_ok=True)
    nib.save(nib.Nifti1Image(labels, np.diag([-1.0, -1.0, 1.0, 1.0])), folder / f"{subject}.nii.gz")


def test_a_prediction_in_another_order_is_refused_with_the_order_that_fits(
    tmp_path: Path, make_subject: MakeSubject
) -> None:
    make_subject(tmp_path / "ref", "BraTS20_Training_001")
    write_flat(tmp_path / "pred", "BraTS20_Training_001", three())
    reference = LabelFolder(tmp_path / "ref")
    prediction = LabelFolder(tmp_path / "pred", reference=reference)
    with pytest.raises(DataError, match="labels that brats2018 does not have") as caught:
        check_prediction(reference, prediction, prediction.subjects)
    assert "agrees best with the reference as msd or nnunet-brats (mean Dice 1.00" in caught.value.why
    assert "--prediction-labels" in caught.value.fix
    with pytest.raises(DataError, match="does not have"):
        prediction.labels("BraTS20_Training_001")
    told = LabelFolder(tmp_path / "pred", reference=reference, labels="msd")
    check_prediction(reference, told, told.subjects)
    assert told.scheme.name == "msd" and told.labels("BraTS20_Training_001")[0].max() == 3
    notes = {"checkpoint_digest": "x", "scheme": SCHEMES["nnunet-brats"].to_dict()}
    (tmp_path / "pred" / "predictions.json").write_text(json.dumps(notes))
    assert LabelFolder(tmp_path / "pred", reference=reference).scheme.name == "nnunet-brats"
    # Of before schemes were written: not those of BraTS whatever they hold, but found out as of any other folder.
    write_flat(tmp_path / "old", "p1", three())
    (tmp_path / "old" / "predictions.json").write_text(json.dumps({"checkpoint_digest": "x", "seen_in_training": []}))
    with pytest.raises(DataError, match="not known which labels") as caught:
        _ = LabelFolder(tmp_path / "old").scheme
    assert "--labels" in caught.value.fix and any("msd" in line for line in caught.value.details)
    assert LabelFolder(tmp_path / "old", labels="msd").scheme.name == "msd"
    assert not LabelFolder(tmp_path / "old", reference=reference).is_said
    (tmp_path / "pred" / "predictions.json").write_text(json.dumps({**notes, "scheme": {"name": 1}}))
    with pytest.raises(DataError, match="cannot be read"):
        _ = LabelFolder(tmp_path / "pred", reference=reference).scheme


def test_a_heart_of_two_labels_and_one_contrast(tmp_path: Path) -> None:
    brain = np.zeros((24, 20, 4), np.int16)
    brain[2:-2, 2:-2] = 100 + np.arange(20)[:, None, None]
    labels = np.zeros((24, 20, 4), np.uint8)
    labels[8, 4:10], labels[9, 4:8] = 1, 5
    for subject in ("p1", "p2"):
        for ending, data in (("sa", brain), ("gt", labels)):
            place = tmp_path / "in" / subject
            place.mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(data, np.diag([-1.0, -1.0, 1.0, 1.0])), place / f"{subject}_{ending}.nii.gz")
    toml = tmp_path / "heart.toml"
    toml.write_text('label_endings = ["gt"]\n[labels]\nmyocardium = 1\nblood = 5\n[contrasts]\ncine = ["_sa.nii.gz"]\n')
    protocol = SliceProtocol(contrasts=("cine",), size=64, brain_fraction=0.004)
    summary = prepare(tmp_path / "in", tmp_path / "out", protocol=protocol, labels=str(toml))
    assert summary.subjects[0].label_voxels == {"myocardium": 24, "blood": 16}
    data = Dataset(tmp_path / "out")
    assert data.contrasts == ("cine",) and data.labels == {"background": 0, "myocardium": 1, "blood": 5}
    assert LabelFolder(tmp_path / "in", labels=str(toml)).labels("p2")[0].max() == 5
    named = prepare(
        tmp_path / "in",
        tmp_path / "named",
        protocol=SliceProtocol(contrasts=("mri",), size=64, brain_fraction=0.004),
        names=["mri=_sa,seg=_gt"],
        labels=Scheme.of_labels({"background": 0, "myocardium": 1, "blood": 5}),
    )
    assert named.subjects[0].label_voxels == {"myocardium": 24, "blood": 16}
    with pytest.raises(UsageError, match="no contrast mri") as caught:
        prepare(tmp_path / "in", tmp_path / "x", protocol=SliceProtocol(contrasts=("mri",)), labels=str(toml))
    assert "--names mri=_ENDING" in caught.value.fix


def test_radiotherapy_has_one_contrast_and_one_label(tmp_path: Path, make_subject: MakeSubject) -> None:
    name = "BraTS-MEN-RT-0001-1"
    target = (three() > 0).astype(np.uint8)
    folder = make_subject(tmp_path / "in", name, t1=None, t2=None, flair=None, seg=target)
    (folder / f"{name}_t1ce.nii.gz").rename(folder / f"{name}_t1c.nii.gz")
    (folder / f"{name}_seg.nii.gz").rename(folder / f"{name}_gtv.nii.gz")
    with pytest.raises(DataError, match="cannot be used") as caught:
        prepare(tmp_path / "in", tmp_path / "out")
    assert "--contrasts t1ce" in caught.value.fix
    one = SliceProtocol(contrasts=("t1ce",), size=64, brain_fraction=0.004)
    assert prepare(tmp_path / "in", tmp_path / "out", protocol=one).subjects[0].label_voxels == {"GTV": 48}
    assert Dataset(tmp_path / "out").scheme.name == "men-rt"


# ---------------------------------------------------------------------------------------------------------- TOML files


def test_the_docs_list_the_named_schemes_and_a_file_that_is_read(tmp_path: Path) -> None:
    text = (Path(__file__).parents[1] / "docs" / "datasets.md").read_text(encoding="utf-8")
    table = text[text.index("| `--labels` | values |") :].split("\n\n")[0]
    rows = [row.split(" | ") for row in table.splitlines()[2:]]
    listed = {name: row[1].rstrip(" |") for row in rows for name in re.findall(r"`([^`]+)`", row[0])}
    assert listed == {name: labels_in_words(scheme) for name, scheme in SCHEMES.items()}
    (tmp_path / "heart.toml").write_text(re.findall(r"```toml\n(label_endings.*?)```", text, re.DOTALL)[0])
    scheme = read_scheme(tmp_path / "heart.toml")
    assert scheme.label_values == {"background": 0, "myocardium": 1, "blood": 5} and scheme.contrast_names == ("cine",)


@pytest.mark.parametrize(
    ("text", "why", "wrong"),
    [
        ("[labels\na = 1", "it is not TOML: Expected", "[labels\na = 1"),
        ("[labels]\na = 1\n[colors]\n", "it has 'colors'", "[colors]\n"),
        ("regions = 3\n[labels]\na = 1", "regions is not a table", "regions = 3"),
        ("", "no label in a table [labels]", ""),
        ('labels = "x"', "labels is not a table", 'labels = "x"'),
        ("labels = [1]", "labels is not a table", "labels = [1]"),
        ("[labels]\na = 1\n[label_ending]\n", "it has 'label_ending'", "[label_ending]\n"),
        ("name = 3\n[labels]\na = 1", "name is not a word", "name = 3"),
        ("[labels]\na = 1.5", "label a is not a whole number", "a = 1.5"),
        ("[labels]\na = '1'", "label a is not a whole number", "a = '1'"),
        ("[labels]\na = true", "label a is not a whole number", "a = true"),
        ("[labels]\na = 300", "label a is 300, and datasets hold values of 1 to 255", "a = 300"),
        ("[labels]\na = 0", "label a is not 1 to 255", "a = 0"),
        ("[labels]\na = 1\nb = 1", "labels a and b both have the value 1", "\nb = 1"),
        ("[labels]\nbackground = 1\na = 2", "background is not 0", "background = 1"),
        ("[labels]\na = { value = 1, color = '#d55e00' }", "the label a has 'color'", "color"),
        ("[labels]\na = { value = 1, colour = 'red' }", "not #rrggbb", "a = { value = 1, colour = 'red' }"),
        ("[labels]\n'a b' = 1", "'a b' cannot be a name", "'a b'"),
        ("[labels]\n'' = 1", "'' cannot be a name", "''"),
        ("[labels]\na = 1\n[regions]\nr = ['b']", "region r is made of 'b', which is no label", "r = ['b']"),
        ("[labels]\na = 1\n[regions]\nr = 3", "region r is not a list of words", "r = 3"),
        ("[labels]\na = 1\nb = 2\n[regions]\nr = ['a', 'a']", "region r has a twice", "r = ['a', 'a']"),
        ("[labels]\na = 1\n[regions]\na = ['a']", "the region a is called as a label", "[regions]\na = ['a']"),
        ("mean_of = ['b']\n[labels]\na = 1", "in mean_of 'b' is no label", "mean_of = ['b']"),
        ("mean_of = ['a', 'a']\n[labels]\na = 1", "in mean_of 'a' stands there twice", "mean_of = ['a', 'a']"),
        ("mean_of = 3\n[labels]\nLABEL = 1", "mean_of is not a list of words", "mean_of = 3"),
        ("[labels]\na = 1\n[contrasts]\nx = 1", "contrast x is not a list of words", "x = 1"),
        ("[labels]\na = 1\n[contrasts]\nx = ['e']\ny = ['_e']", "the ending e stands twice, in x and y", "y = ['_e']"),
        ("[labels]\na = 1\n[contrasts]\nx = ['_']", "x has an ending without a letter", "x = ['_']"),
        ("[labels]\na = 1\n[contrasts]\nx = ['e']\nX = ['f']", "upper and lower case", "X = ['f']"),
        ("label_endings = []\n[labels]\na = 1", "label_endings is not a list", "label_endings = []"),
        ("[labels]\na = 1\na = 2", "it is not TOML: Cannot overwrite a value", "\na = 2"),
        ("[labels]\na = 1\nmean = 2", "a label is called mean", "mean"),
    ],
)
def test_a_file_that_does_not_describe_a_scheme_says_why(tmp_path: Path, text: str, why: str, wrong: str) -> None:
    path = tmp_path / "own.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match="does not describe a label scheme") as caught:
        read_scheme(path)
    assert why.lower() in caught.value.why.lower()
    fix = caught.value.fix
    forms = [form for form in re.findall(r"`([^`]+)`", fix) if not form.startswith("array")]
    close = re.match(r"Write (\w+) for it", fix)
    if close:
        instead = wrong.replace(wrong.strip("[]\n"), close[1]) if wrong == "color" else ""
    elif "otherwise" in fix:
        instead = "middle"
    elif (fix.startswith("Leave") and not forms) or wrong in ("\na = 2", "regions = 3"):
        instead = ""
    else:
        instead = "\n".join(forms)
    path.write_text(text.replace(wrong, instead) if wrong else instead)  # what it advises
    assert "background" in read_scheme(path).label_values


def test_seg_is_no_contrast(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text("[labels]\na = 1\n[contrasts]\nseg = ['x']")
    with pytest.raises(UsageError, match="Seg is what labels are called") as caught:
        read_scheme(path)
    path.write_text(f"{re.findall('`([^`]+)`', caught.value.fix)[0]}\n[labels]\na = 1")
    assert read_scheme(path).label_endings == ("seg",)


def test_a_scheme_is_found_by_name_or_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no label scheme 'nothing'"):
        scheme_named("nothing")
    with pytest.raises(UsageError, match="does not describe") as caught:
        scheme_named(str(tmp_path / "absent.toml"))
    assert "No such file" in caught.value.why and "gli2024" in caught.value.fix
    (tmp_path / "heart.toml").write_text('[labels]\nblood = { value = 2, meaning = "pool", colour = "#d55e00" }\n')
    scheme = scheme_named(str(tmp_path / "heart.toml"))
    assert (scheme.name, scheme.labels[0].meaning, scheme.mean_of) == ("heart", "pool", ("blood",))
    (tmp_path / "flat.toml").write_text("WT = 1\nET = 2\n")
    with pytest.raises(UsageError, match="outside of") as caught:
        scheme_named(str(tmp_path / "flat.toml"))
    assert caught.value.fix == "Write a line `[labels]`, and below it `ET = 2`, `WT = 1`."
    (tmp_path / "flat.toml").write_text("[labels]\nET = 2\nWT = 1\n")  # the advice
    assert scheme_named(str(tmp_path / "flat.toml")).label_values == {"background": 0, "ET": 2, "WT": 1}
    (tmp_path / "latin.toml").write_bytes(b"[labels]\n# \xfc\na = 1\n")
    with pytest.raises(UsageError, match="is not UTF-8"):
        scheme_named(str(tmp_path / "latin.toml"))
    (tmp_path / "latin.toml").write_text("[labels]\n# \xfc\na = 1\n", encoding="utf-8")  # "Save it as UTF-8."
    assert scheme_named(str(tmp_path / "latin.toml")).label_values == {"background": 0, "a": 1}


def test_masks_of_the_whole_tumour_are_not_taken_for_the_necrotic_core(
    tmp_path: Path, make_subject: MakeSubject
) -> None:
    subject = make_subject(tmp_path / "ref", "BraTS20_Training_001").name
    truth = np.asanyarray(nib.load(tmp_path / "ref" / subject / f"{subject}_seg.nii.gz").dataobj)
    reference = LabelFolder(tmp_path / "ref")
    write_flat(tmp_path / "whole", subject, (truth > 0).astype(np.uint8))
    whole = LabelFolder(tmp_path / "whole", reference=reference)
    with pytest.raises(DataError, match="masks of one value, 1, which brats2018 calls NCR") as caught:
        check_prediction(reference, whole, whole.subjects)
    assert "with WT (NCR, ED and ET together) of the reference (Dice 1.00), not with NCR (0." in caught.value.why
    # Both remedies are taken at their word; and a mask of the core alone is one.
    for said in ("whole-tumour", "brats2018"):
        assert f"--prediction-labels {said}" in caught.value.fix
        told = LabelFolder(tmp_path / "whole", reference=reference, labels=said)
        check_prediction(reference, told, told.subjects)
    write_flat(tmp_path / "core", subject, (truth == 1).astype(np.uint8))
    core = LabelFolder(tmp_path / "core", reference=reference)
    check_prediction(reference, core, core.subjects)


@pytest.mark.parametrize("value", [1, 255])
@pytest.mark.parametrize(("name", "values"), [("ED", (2,)), ("ET", (4,)), ("TC", (1, 4))])
def test_masks_of_a_part_are_not_taken_for_the_necrotic_core(
    tmp_path: Path, make_subject: MakeSubject, name: str, values: tuple[int, ...], value: int
) -> None:
    subject = make_subject(tmp_path / "ref", "BraTS20_Training_001").name
    truth = np.asanyarray(nib.load(tmp_path / "ref" / subject / f"{subject}_seg.nii.gz").dataobj)
    truth = np.where((truth == 1) & (np.indices(truth.shape)[1] % 3 > 0), 4, truth).astype(np.uint8)
    nib.save(
        nib.Nifti1Image(truth, np.diag([-1.0, -1.0, 1.0, 1.0])), tmp_path / "ref" / subject / f"{subject}_seg.nii.gz"
    )
    write_flat(tmp_path / "pred", subject, (np.isin(truth, values) * value).astype(np.uint8))
    reference = LabelFolder(tmp_path / "ref")
    with pytest.raises(DataError) as caught:
        prediction = LabelFolder(tmp_path / "pred", reference=reference)
        check_prediction(reference, prediction, prediction.subjects)
    assert name in caught.value.why and "(Dice 1.00)" in caught.value.why
    assert f"{name} = {value}" in caught.value.fix
    (tmp_path / "own.toml").write_text(f"[labels]\n{name} = {value}\n")  # the advice
    told = LabelFolder(tmp_path / "pred", labels=str(tmp_path / "own.toml"), reference=reference)
    check_prediction(reference, told, told.subjects)
    assert told.scheme.label_values[name] == value


def test_two_tables_of_subjects_own_are_not_one_scheme(tmp_path: Path, make_subject: MakeSubject) -> None:
    for subject, table in (("01", "1\tedema\n2\tnecrosis\n"), ("02", "1\tedema\n2\tenhancing tumor\n")):
        folder = make_subject(tmp_path / "made", f"sub-{subject}")
        anat = tmp_path / "in" / f"sub-{subject}" / "anat"
        anat.mkdir(parents=True)
        labels = np.zeros((24, 20, 4), np.uint8)
        labels[10:12, 5:9], labels[12:14, 5:9] = 1, 2
        names = {"t1": "T1w", "t1ce": "ce-gadolinium_T1w", "t2": "T2w", "flair": "FLAIR"}
        for contrast, ending in names.items():
            (folder / f"sub-{subject}_{contrast}.nii.gz").rename(anat / f"sub-{subject}_{ending}.nii.gz")
        nib.save(nib.Nifti1Image(labels, np.diag([-1.0, -1.0, 1.0, 1.0])), anat / f"sub-{subject}_dseg.nii.gz")
        (anat / f"sub-{subject}_dseg.tsv").write_text(f"index\tname\n0\tbackground\n{table}")
    with pytest.raises(DataError, match="do not go together") as caught:
        LabelFolder(tmp_path / "in").decision()
    assert {"01", "02"} <= {word for line in caught.value.details for word in line.replace("sub-", " ").split()}
