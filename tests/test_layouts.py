"""Which files make a subject: every layout that docs/datasets.md lists, and what is said of files that none has.

Most of it is told by names alone, so that the files here hold no volumes.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from synthkit.data.file_names import Names, content_named, ending_that_chooses, named_file
from synthkit.data.layouts import folded
from synthkit.data.patients import decided
from synthkit.data.scan_words import says_when
from synthkit.data.subjects import FoundSubjects, find_subjects, survey_folder
from synthkit.errors import DataError, UsageError

BRATS = ("_t1", "_t1ce", "_t2", "_flair", "_seg")
UPENN = ("_T1", "_T1GD", "_T2", "_FLAIR")
CONTRASTS = ("t1", "t1ce", "t2", "flair")


def lay(root: Path, names: Iterable[str], content: bytes = b"x" * 2000) -> Path:
    """Files of these names; those without an ending get ``.nii.gz``."""
    for name in names:
        path = root / (name if "." in Path(name).name and not name.endswith("26") else f"{name}.nii.gz")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


def each(before: str, endings: Sequence[str]) -> list[str]:
    return [f"{before}{ending}.nii.gz" for ending in endings]


def what(found: FoundSubjects) -> dict[str, list[str]]:
    """Subject -> names of its files, contrasts in order, then labels."""
    assert not found.bad, [str(bad) for bad in found.bad]
    return {s.id: [*(p.name for p in s.contrasts.values()), *([s.seg.name] if s.seg else [])] for s in found.good}


# ------------------------------------------------------------------------------------------------------------ layouts


def test_a_flat_folder_of_many_subjects(tmp_path: Path) -> None:
    lay(tmp_path, [name for n in (1, 2, 10) for name in each(f"BraTS20_Training_{n:03d}", BRATS)])
    found = what(survey_folder(tmp_path))
    assert list(found) == ["BraTS20_Training_001", "BraTS20_Training_002", "BraTS20_Training_010"]
    assert found["BraTS20_Training_002"] == each("BraTS20_Training_002", BRATS)


@pytest.mark.parametrize("above", ["", "HGG/", "archive/BraTS2020/MICCAI_BraTS2020_TrainingData/"])
def test_any_depth(tmp_path: Path, above: str) -> None:
    lay(tmp_path, [name for s in ("B_1", "B_2") for name in each(f"{above}{s}/{s}", BRATS)])
    assert list(what(survey_folder(tmp_path))) == ["B_1", "B_2"]


def test_upenn(tmp_path: Path) -> None:
    for s in ("UPENN-GBM-00001_11", "UPENN-GBM-00002_11"):
        lay(tmp_path, each(f"images_structural/{s}/{s}", UPENN))
        lay(tmp_path, [f"automated_segm/{s}_automated_approx_segm.nii.gz", f"images_DTI/{s}/{s}_DTI_AD.nii.gz"])
    lay(tmp_path, ["images_segm/UPENN-GBM-00001_11_segm.nii.gz"])
    found = survey_folder(tmp_path)
    assert what(found)["UPENN-GBM-00001_11"][-1] == "UPENN-GBM-00001_11_segm.nii.gz"
    assert what(found)["UPENN-GBM-00002_11"] == [
        *each("UPENN-GBM-00002_11", UPENN),
        "UPENN-GBM-00002_11_automated_approx_segm.nii.gz",
    ]
    assert any("2 files ending in _AD.nii.gz" in note for note in found.notes)
    assert any(note.startswith("left aside") and "00001_11_automated_approx" in note for note in found.notes)
    assert any(note.startswith("taken for want") and "00002_11_automated_approx" in note for note in found.notes)


def test_ucsf(tmp_path: Path) -> None:
    endings = ("_T1", "_T1c", "_T1c_bias", "_T2_bias", "_FLAIR_bias", "_tumor_segmentation", "_brain_segmentation")
    lay(tmp_path, each("UCSF-PDGM-0004_nifti/UCSF-PDGM-0004", endings))
    found = survey_folder(tmp_path)
    assert what(found) == {
        "UCSF-PDGM-0004": each("UCSF-PDGM-0004", ("_T1", "_T1c", "_T2_bias", "_FLAIR_bias", "_tumor_segmentation"))
    }
    assert any("brain_segmentation" in note for note in found.notes)


def test_tcga(tmp_path: Path) -> None:
    endings = ("_t1", "_t1Gd", "_t2", "_flair", "_GlistrBoost", "_GlistrBoost_ManuallyCorrected")
    for s in ("TCGA-FG-6692", "TCGA-DU-7294"):
        lay(tmp_path, each(f"Pre-operative_TCGA/{s}/{s}_2002.05.26", endings))
    found = what(survey_folder(tmp_path))
    assert list(found) == ["TCGA-DU-7294", "TCGA-FG-6692"]
    assert found["TCGA-FG-6692"][1] == "TCGA-FG-6692_2002.05.26_t1Gd.nii.gz"
    assert found["TCGA-FG-6692"][-1] == "TCGA-FG-6692_2002.05.26_GlistrBoost_ManuallyCorrected.nii.gz"


def test_mu_glioma_post_and_lumiere(tmp_path: Path) -> None:
    endings = ("_brain_t1n", "_brain_t1c", "_brain_t2w", "_brain_t2f", "_tumorMask")
    for n in (1, 2):
        lay(tmp_path / "mu", each(f"PatientID_0003/Timepoint_{n}/PatientID_0003_Timepoint_{n}", endings))
        for week in ("week-000-1", "week-044"):
            lay(tmp_path / "lumiere", each(f"Imaging/Patient-00{n}/{week}/", ("T1", "CT1", "T2", "FLAIR")))
    assert list(what(survey_folder(tmp_path / "mu"))) == ["PatientID_0003_Timepoint_1", "PatientID_0003_Timepoint_2"]
    lay(tmp_path / "lumiere", each("Imaging/Patient-003/week-103-1/", ("T1", "CT1", "T2", "FLAIR")))  # the only one
    found = what(survey_folder(tmp_path / "lumiere", need_labels=False))
    assert found["Patient-002_week-044"] == each("", ("T1", "CT1", "T2", "FLAIR"))
    assert len(found) == 5 and "Patient-003_week-103-1" in found


@pytest.mark.parametrize("enhanced", ["_ce-gadolinium_T1w", "_ce-GADOLINIUM_T1w", "_acq-3d_ce-gd_run-1_T1w"])
def test_bids_and_derivatives(tmp_path: Path, enhanced: str) -> None:
    for s, folder in (("sub-01_ses-01", "sub-01/ses-01"), ("sub-01_ses-02", "sub-01/ses-02"), ("sub-02", "sub-02")):
        lay(tmp_path, each(f"{folder}/anat/{s}", ("_T1w", enhanced, "_T2w", "_FLAIR")))
        lay(tmp_path, [f"derivatives/tumour/{folder}/anat/{s}_space-T1w_label-tumour_dseg.nii.gz"])
        lay(tmp_path, [f"derivatives/bet/{folder}/anat/{s}_desc-brain_mask.nii.gz"])
    lay(tmp_path, ["dataset_description.json", "participants.tsv", "sub-01/ses-01/anat/sub-01_ses-01_T1w.json"])
    found = what(survey_folder(tmp_path))
    assert list(found) == ["sub-01_ses-01", "sub-01_ses-02", "sub-02"]
    assert found["sub-02"] == [*each("sub-02", ("_T1w", enhanced, "_T2w", "_FLAIR")), *found["sub-02"][-1:]]
    assert found["sub-02"][-1] == "sub-02_space-T1w_label-tumour_dseg.nii.gz"


def test_a_folder_a_contrast(tmp_path: Path) -> None:
    for s in ("case1", "case2"):
        lay(tmp_path, [f"T1/{s}_T1", f"T1Gd/{s}_T1Gd", f"T2/{s}_T2", f"FLAIR/{s}_FLAIR", f"labels/{s}_seg"])
    assert list(what(survey_folder(tmp_path))) == ["case1", "case2"]


def test_labels_in_a_folder_of_the_subject(tmp_path: Path) -> None:
    lay(tmp_path, [*each("case7/", ("t1", "t1ce", "t2", "flair")), "case7/labels/seg.nii.gz"])
    assert what(survey_folder(tmp_path)) == {"case7": each("", ("t1", "t1ce", "t2", "flair", "seg"))}


def test_folders_of_one_name_are_told_apart_by_their_patients(tmp_path: Path) -> None:
    lay(tmp_path, [f"p{p}/{n}/{c}" for p in (1, 2) for n in (1, 2) for c in ("t1", "t1ce", "t2", "flair", "seg")])
    assert list(what(survey_folder(tmp_path))) == ["p1_1", "p1_2", "p2_1", "p2_2"]
    lay(tmp_path / "named", [name for who in ("john", "mary") for name in each(f"{who}/scan1", BRATS)])
    assert list(what(survey_folder(tmp_path / "named"))) == ["john", "mary"]


TIMES = (
    "T0 T1",
    "pre post",
    "visit1 visit2",
    "BL FU12",
    "1.5T 3T",
    "20190101 2020-01-01",
    "m00 m12",
    "I13722 I13899",
)


PLACES = ("{t}/{p}/", "{t}/{p}/{p}_", "{p}/{t}/", "{p}/{t}/{p}_", "{p}/{t}_", "{p}/{p}_{t}_", "{p}_{t}_", "{t}_{p}_")


@pytest.mark.parametrize("times", TIMES)
def test_a_time_above_or_below_the_patient_is_joined_or_asked_about(tmp_path: Path, times: str) -> None:
    t0, t1 = times.split()
    for n, (place, one, other) in enumerate(
        (place, *who) for place in PLACES for who in (("Ray", "Lee"), ("P1", "P2"))
    ):
        for time, patient in ((t0, one), (t1, one), (t0, other)):
            lay(tmp_path / f"x{n}", each(place.format(t=time, p=patient), (*CONTRASTS, "seg")))
        found = list(what(survey_folder(tmp_path / f"x{n}")))
        of_one = [subject for subject in found if one in subject]
        assert len(found) == 3 and len(of_one) == 2, place
        try:
            of = decided(found).of
        except DataError as error:
            assert error.details == (", ".join(of_one),)
        else:
            assert of[of_one[0]] == of[of_one[1]] and len(set(of.values())) == 2


def test_a_lone_subject_is_not_called_by_a_folder_of_many(tmp_path: Path) -> None:
    lay(tmp_path, [*each("test/s9", BRATS), *each("train/s1", BRATS), *each("train/s2", BRATS)])
    assert list(what(survey_folder(tmp_path))) == ["s1", "s2", "s9"]


@settings(deadline=None, max_examples=30)
@given(
    ids=st.lists(st.from_regex(r"[A-Z][a-z]{1,5}[-_]\d{2,5}(_\d{1,2})?", fullmatch=True), min_size=1, max_size=6),
    flat=st.booleans(),
    above=st.sampled_from(["", "x/", "data/part/"]),
)
def test_subjects_never_get_files_of_another(
    tmp_path_factory: pytest.TempPathFactory, ids: list[str], flat: bool, above: str
) -> None:
    """Whatever the ids: each subject has the five files that begin with its id, and each id is a subject."""
    ids = sorted({i.lower(): i for i in ids if not says_when(i)}.values())  # "Mr_00" is called with the folder above
    assume(ids)
    root = tmp_path_factory.mktemp("ids")
    for subject in ids:
        lay(root, each(f"{above}{subject}_t" if flat else f"{above}{subject}/{subject}_t", ("1", "1ce", "2")))
        lay(root, each(f"{above}{subject}" if flat else f"{above}{subject}/{subject}", ("_flair", "_seg")))
    found = what(survey_folder(root))
    assert sorted(found) == ids
    for subject, files in found.items():
        assert files == each(subject, BRATS)


@settings(deadline=None, max_examples=60)
@given(
    ids=st.lists(st.from_regex(r"[A-Z][a-z]{1,5}[-_]\d{1,3}(_\d{1,2})?", fullmatch=True), min_size=1, max_size=5),
    place=st.sampled_from(
        ["{s}_{e}", "{s}/{s}_{e}", "x/{s}_{e}", "{e}/{s}_{e}", "{half}/{s}_{e}", "{half}/{s}/{s}_{e}"]
    ),
    lost=st.data(),
)
def test_what_is_lost_is_never_replaced_by_files_of_another(
    tmp_path_factory: pytest.TempPathFactory, ids: list[str], place: str, lost: st.DataObject
) -> None:
    """Whichever files are missing: a usable subject has its own five files, and the others are named or listed."""
    ids = sorted({i.lower(): i for i in ids}.values())
    files = [
        place.format(s=subject, e=ending[1:], half="labels" if ending == "_seg" else "images")
        for subject in ids
        for ending in BRATS
    ]
    kept = lost.draw(st.lists(st.sampled_from(files), unique=True, min_size=1))
    root = lay(tmp_path_factory.mktemp("lost"), kept)
    found = survey_folder(root)
    whole = {s for s in ids if sum(Path(file).name.rpartition("_")[0] == s for file in kept) == len(BRATS)}
    assert {subject.id for subject in found.good} == whole
    for subject in found.good:
        assert subject.seg is not None
        names = [*(path.name for path in subject.contrasts.values()), subject.seg.name]
        assert names == each(subject.id, BRATS)
    assert len(found.bad) >= int(len({Path(file).name.rpartition("_")[0] for file in kept} - whole) > 0)


@pytest.mark.parametrize("inside", ["{e}", "0000005{k}_brain{e}", "0000005{k}", "{s}{e}"])
@pytest.mark.parametrize("place", ["{s}/{s}{e}.nii", "{s}{e}.nii"])
def test_a_folder_a_file_has_the_id_of_the_folder(tmp_path: Path, place: str, inside: str) -> None:
    """As some programs unpack: the folder is called as the file was, the file by a number or not at all."""
    ids = ("BraTS2021_00495", "BraTS2021_00621")
    lay(
        tmp_path,
        [
            f"{place.format(s=s, e=ending)}/{inside.format(s=s, e=ending, k=k)}"
            for s in ids
            for k, ending in enumerate(BRATS)
        ],
    )
    found = survey_folder(tmp_path)
    assert [subject.id for subject in found.good] == [*ids] and not found.bad
    for subject in found.good:
        paths = [*subject.contrasts.values(), subject.seg]
        assert all(path and subject.id in path.parent.name for path in paths)
        assert [path.parent.name for path in paths if path] == [f"{subject.id}{ending}.nii" for ending in BRATS]


def test_a_folder_called_as_another_contrast_is_not_believed(tmp_path: Path) -> None:
    lay(tmp_path, [*(f"s1/{name}" for name in each("s1", BRATS[1:])), "s1/s1_t1.nii/s1_t1ce"])
    assert not survey_folder(tmp_path).good


# ------------------------------------------------------------------------------------------- what must not be mixed


def test_halves_of_two_subjects_are_not_one(tmp_path: Path) -> None:
    lay(tmp_path, [*each("s1", ("_t1", "_t1ce", "_seg")), *each("s2", ("_t2", "_flair"))])
    found = survey_folder(tmp_path)
    assert not found.good
    assert [str(bad) for bad in found.bad] == [
        "s1: missing t2 and flair",
        "s2: missing t1 and t1ce and segmentation (seg)",
    ]


def test_labels_of_another_subject_are_not_taken(tmp_path: Path) -> None:
    lay(tmp_path, [*each("s1", BRATS[:4]), "s2_seg"])
    assert not survey_folder(tmp_path).good


def test_images_that_may_be_enhanced_are_not_plain_t1(tmp_path: Path) -> None:
    lay(tmp_path, ["sub-01/anat/sub-01_acq-postcontrast_T1w"])
    with pytest.raises(DataError):
        find_subjects(tmp_path, contrasts=("t1",), need_labels=False)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("X_post_T1", "t1ce"),
        ("X_T1_Gd", "t1ce"),
        ("X_T1post", "t1ce"),
        ("X_t2_flair", "flair"),
        ("X_T2FLAIR", "flair"),
        ("X.t1", "t1"),
        ("sub-01_desc-brain_mask", None),
        ("sub-01_desc-aseg_dseg", None),
        ("X_brain_segmentation", None),
        ("Xt1", None),
        ("X_seg_nnunet", None),
    ],
)
def test_endings(name: str, content: str | None) -> None:
    file = named_file(Path(f"{name}.nii.gz"))
    assert (file and file.content) == content


# ------------------------------------------------------------------------------------------------------------ --names


def test_names_for_the_rest(tmp_path: Path) -> None:
    endings = ("_anat", "_gado", "_tse", "_dark", "_truth")
    lay(tmp_path, [name for s in ("a1", "a2") for name in each(f"{s}/{s}", endings)])
    with pytest.raises(DataError) as caught:
        find_subjects(tmp_path)
    assert "--names" in caught.value.fix and "a1_anat.nii.gz" in " ".join(caught.value.details)
    names = ["t1=_anat,t1ce=_gado", "t2=_tse, flair=_DARK.nii.gz,seg=_truth"]
    assert what(survey_folder(tmp_path, names=names))["a2"] == each("a2", endings)


def test_names_win_over_known_endings(tmp_path: Path) -> None:
    lay(tmp_path, [*each("s1/s1", BRATS), "s1/s1_t1_mine"])
    found = survey_folder(tmp_path, names=["t1=_t1_mine"])
    assert what(found)["s1"][0] == "s1_t1_mine.nii.gz"
    assert any("s1/s1_t1.nii.gz" in note for note in found.notes)


def test_names_with_folders(tmp_path: Path) -> None:
    lay(tmp_path, [f"{c}/s{n}" for c in ("A", "B", "C", "D", "truth") for n in (1, 2)])
    names = ["t1=A/,t1ce=B/,t2=C/,flair=D/,seg=truth/"]
    found = survey_folder(tmp_path, names=names)
    assert {s.id: s.contrasts["t2"].parent.name for s in found.good} == {"s1": "C", "s2": "C"}


@pytest.mark.parametrize(
    ("files", "content"),
    [
        (["s1/s1_t2w"], "t2"),
        (["s1/s1_run-2_t2"], "t2"),
        (["s1/s1_segm"], "seg"),
        (["s1/old/s1_seg"], "seg"),
    ],
)
def test_the_remedy_for_two_files_of_one_content(tmp_path: Path, files: list[str], content: str) -> None:
    lay(tmp_path, [*each("s1/s1", BRATS), *files])
    (bad,) = survey_folder(tmp_path).bad
    assert bad.reason.startswith(f"ambiguous {content}: ")
    advised = bad.reason.partition("--names ")[2].partition(" takes")[0]
    first = bad.reason.partition(": ")[2].partition(" and ")[0]
    (subject,) = find_subjects(tmp_path, names=[advised])
    taken = subject.seg if content == "seg" else subject.contrasts[content]
    assert taken is not None and taken.as_posix().endswith(first)


@pytest.mark.parametrize("wrong", ["t1", "t9=_x", "t1=", "t1=_a,t2=_a", "seg _x"])
def test_names_that_are_not_understood(wrong: str) -> None:
    with pytest.raises(UsageError, match="--names"):
        Names.parse([wrong])


def test_names_that_fit_no_file(tmp_path: Path) -> None:
    lay(tmp_path, each("s1/s1", BRATS))
    with pytest.raises(UsageError, match="t1=_nothing fits no file"):
        survey_folder(tmp_path, names=["t1=_nothing"])


def test_channels_by_name() -> None:
    assert [content_named(name) for name in ("FLAIR", "T1w", "t1gd", "T2w", "T1 Gd", "CT", "seg")] == [
        "flair", "t1", "t1ce", "t2", "t1ce", None, None,
    ]  # fmt: skip
    assert content_named("mri1", Names.parse(["t1=mri1"])) == "t1"


def test_an_ending_that_chooses() -> None:
    assert ending_that_chooses(Path("a/x_t2.nii"), [Path("b/x_t2.nii")]) == "a/_t2"


# -------------------------------------------------------------------------------------------- nothing is passed over


def test_files_that_are_not_there_are_named(tmp_path: Path) -> None:
    lay(tmp_path, [name for s in ("ok1", "dead", "segdead", "lfs", "annex", "empty", "html") for name in
                   each(f"{s}/{s}", BRATS)])  # fmt: skip
    for name in ("_t1", "_t1ce", "_t2", "_flair", "_seg"):
        (tmp_path / "dead" / f"dead{name}.nii.gz").unlink()
        (tmp_path / "dead" / f"dead{name}.nii.gz").symlink_to("../.git/annex/objects/aa/bb/MD5E-1/MD5E-1.nii.gz")
    (tmp_path / "segdead" / "segdead_seg.nii.gz").unlink()
    (tmp_path / "segdead" / "segdead_seg.nii.gz").symlink_to("/nowhere/seg.nii.gz")
    lay(tmp_path, ["lfs/lfs_t1"], b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 1872195\n")
    lay(tmp_path, ["annex/annex_t2"], b"/annex/objects/MD5E-s1872195--00.nii.gz\n")
    lay(tmp_path, ["empty/empty_seg"], b"")
    lay(tmp_path, ["html/html_t1"], b"<!DOCTYPE html><html><body>404")
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    (tmp_path / "nothing").mkdir()
    found = survey_folder(tmp_path)
    assert [s.id for s in found.good] == ["ok1"]
    reasons = {bad.id: bad.reason for bad in found.bad}
    assert "and 2 more: a link into a git-annex whose content was not fetched" in reasons["dead"]
    assert reasons["segdead"] == "segdead_seg.nii.gz: a link to nothing (/nowhere/seg.nii.gz)"
    assert "Git LFS pointer" in reasons["lfs"] and "git lfs pull" in reasons["lfs"]
    assert "git-annex pointer" in reasons["annex"]
    assert reasons["empty"] == "empty_seg.nii.gz: empty (0 bytes)"
    assert "a web page" in reasons["html"]
    assert "its folder is a link to nothing" in reasons["gone"]
    assert any("folders without a file: nothing" in note for note in found.notes)
    without = survey_folder(tmp_path, need_labels=False)  # labels that are not read may be anywhere
    assert {"ok1", "segdead", "empty"} <= {s.id for s in without.good}


def test_unfinished_downloads(tmp_path: Path) -> None:
    lay(tmp_path, [*each("s1/s1", BRATS[:4]), "s1/s1_seg.nii.gz.part"])
    assert [str(bad) for bad in survey_folder(tmp_path).bad] == ["s1: s1_seg.nii.gz.part: an unfinished download"]


def test_what_was_not_understood_is_listed_on_refusal(tmp_path: Path) -> None:
    lay(tmp_path, [*(f"s{n}_SCAN.nii.gz" for n in range(40)), "a.nrrd", "b.dcm", "c.zip", "notes.csv"])
    with pytest.raises(DataError, match="no subjects") as caught:
        survey_folder(tmp_path)
    assert set(caught.value.details) == {
        "40 files ending in _SCAN.nii.gz, s0_SCAN.nii.gz ...",
        "a.nrrd (convert them to NIfTI)",
        "b.dcm (convert them to NIfTI, for example with dcm2niix)",
        "c.zip (unpack them)",
        "notes.csv",
    }


def test_names_that_all_end_differently_are_few_lines(tmp_path: Path) -> None:
    paths = [tmp_path / f"scan_{n}.nii.gz" for n in range(100)]
    assert folded(tmp_path, paths) == ["100 files ending in .nii.gz, .nii or .mha, scan_0.nii.gz ..."]


def test_a_folder_whose_files_say_nothing_is_a_bad_subject(tmp_path: Path) -> None:
    lay(tmp_path, [*each("s1/s1", BRATS), "s2/scan.nii.gz", "s1/more/extra.nii.gz"])
    found = survey_folder(tmp_path)
    assert [str(bad) for bad in found.bad] == ["s2: no file in its folder has a name that is known: scan.nii.gz"]
    assert any("s1/more/extra.nii.gz" in note for note in found.notes)


def test_what_is_missing_is_said_with_what_was_not_understood(tmp_path: Path) -> None:
    lay(tmp_path, [*each("s1/s1", ("_t1", "_t2", "_flair", "_seg")), "s1/s1_gado"])
    (bad,) = survey_folder(tmp_path).bad
    assert str(bad) == "s1: missing t1ce (not understood in its folder: s1_gado.nii.gz)"


def test_links_in_a_circle_are_followed_once(tmp_path: Path, make_subject: Callable[..., Path]) -> None:
    shutil.copytree(make_subject(tmp_path / "a", "s1"), tmp_path / "b" / "s1")
    (tmp_path / "b" / "up").symlink_to(tmp_path / "b")
    assert [s.id for s in find_subjects(tmp_path / "b")] == ["s1"]


# ------------------------------------------------------------------------------------- folders of a content, advice


@pytest.mark.parametrize("above", ["", "images/", "data/train/"])
@pytest.mark.parametrize("stems", [("a01", "b01"), ("Anna", "Bert"), ("001", "002"), ("P1_x", "P2_x")])
@pytest.mark.parametrize("labels", ["masks/{}", "Seg/{}_mask", "labels/{}_seg", "ground_truth/{}"])
def test_a_folder_of_each_contrast(tmp_path: Path, above: str, stems: tuple[str, str], labels: str) -> None:
    for stem in stems:
        lay(tmp_path, [f"{above}{folder}/{stem}" for folder in ("T1", "T1CE", "t2w", "FLAIR")])
        lay(tmp_path, [f"{above}{labels.format(stem)}"])
    found = survey_folder(tmp_path)
    assert list(what(found)) == sorted(stems)
    assert all(s.contrasts["t1ce"].parent.name == "T1CE" for s in found.good)
    lay(tmp_path, [f"{above}T1/c03"])
    assert [bad.reason for bad in survey_folder(tmp_path).bad] == [
        "missing t1ce and t2 and flair and segmentation (seg)"
    ]
    (tmp_path / f"{above}T1/c03.nii.gz").unlink()
    if stems[0] != "Anna":
        assert what(survey_folder(tmp_path, names=["t2=t2w/"])) == what(found)


def test_a_folder_of_each_contrast_in_that_of_a_patient_and_labels_elsewhere(tmp_path: Path) -> None:
    for n in (1, 2):
        lay(tmp_path / "p", [f"P0{n}/{folder}/{n}" for folder in ("T1", "T1ce", "T2", "FLAIR", "mask")])
        lay(tmp_path / "i", [f"images/{folder}/a0{n}" for folder in ("T1", "T1ce", "T2", "FLAIR")])
        lay(tmp_path / "i", [f"masks/a0{n}"])
    assert list(what(survey_folder(tmp_path / "p"))) == ["P01", "P02"]
    assert list(what(survey_folder(tmp_path / "i"))) == ["a01", "a02"]


@pytest.mark.parametrize(
    ("files", "ids"),
    [
        ("P{n}/images/{C} P{n}/labels/seg", "P1 P2"),
        ("P{n}/MRI/{C} P{n}/ROI/tumour", "P1 P2"),
        ("P{n}/{C} P{n}/ROI/roi", "P1 P2"),
        ("P{n}/images/P{n}_{C} P{n}/labels/P{n}", "P1 P2"),
        ("P{n}/pre/images/{C} P{n}/pre/masks/seg", "P1_pre P2_pre"),
        ("P{n}/images/pre/{C} P{n}/labels/pre/seg", "P1_pre P2_pre"),
        ("images/P{n}/{C} labels/P{n}/seg", "P1 P2"),
        ("images/P{n}_{C} labels/P{n}", "P1 P2"),
        ("EGD-000{n}/{k}_{C}/NIFTI/{C} EGD-000{n}/5_MASK/NIFTI/MASK", "EGD-0001 EGD-0002"),
        ("P{n}/0{k}_{C}/{C} P{n}/05_SEG/SEG", "P1 P2"),
        ("P{n}/0{k}-{C}/image P{n}/05-SEG/image", "P1 P2"),
        ("P{n}/{C}/nifti/{C} P{n}/seg/nifti/seg", "P1 P2"),
        ("P{n}/{C}/{C} P{n}/mask/mask", "P1 P2"),
    ],
)
def test_folders_of_what_is_in_them_below_a_patient(tmp_path: Path, files: str, ids: str) -> None:
    images, labels = files.split()
    for n in (1, 2):
        lay(tmp_path, [labels.format(n=n), *(images.format(n=n, k=k, C=c) for k, c in enumerate(CONTRASTS, 1))])
    found = survey_folder(tmp_path)
    assert list(what(found)) == ids.split()
    for n, subject in enumerate(found.good, 1):
        paths = [subject.seg, *subject.contrasts.values()]
        assert all(path and f"{n}" in path.relative_to(tmp_path).as_posix() for path in paths)
    assert {s.id: s.seg for s in survey_folder(tmp_path, contrasts=()).good} == {s.id: s.seg for s in found.good}


@pytest.mark.parametrize("place", ["{c}_P{n}", "P{n}/{c}-P{n}", "images/{c}_P{n} labels/{c}_P{n}", "x/P{n}/{c} 00{n}"])
@pytest.mark.parametrize("called", ["t1 t1ce t2 flair seg", "T1W T1_GD T2W T2_FLAIR tumor_seg"])
def test_names_that_begin_with_what_they_hold(tmp_path: Path, place: str, called: str) -> None:
    images, *labels = place.rsplit(" ", 1) if "labels" in place else [place]
    for n in (1, 2):
        *contrasts, seg = called.split()
        lay(tmp_path, [*(images.format(n=n, c=c) for c in contrasts), (labels or [images])[0].format(n=n, c=seg)])
    found = survey_folder(tmp_path)
    assert list(what(found)) == ["P1", "P2"]
    for n, subject in enumerate(found.good, 1):
        files = [*subject.contrasts.values(), subject.seg]
        assert [path.name.split("P")[0].split(" ")[0].rstrip("_-") for path in files if path] == called.split()
        assert all(path and path.name.endswith(f"{n}.nii.gz") for path in files)


@pytest.mark.parametrize("folder", ["", "Anna/"])
def test_names_that_begin_with_what_they_hold_and_may_be_anybodys_are_to_be_renamed(
    tmp_path: Path, folder: str
) -> None:
    lay(tmp_path, [f"{folder}{kind}_Anna" for kind in (*CONTRASTS, "seg")])
    with pytest.raises(DataError) as caught:
        find_subjects(tmp_path)
    said = " ".join(caught.value.details)
    assert "flair_Anna.nii.gz" in said and "Anna_flair.nii.gz" in said and "rename" in said
    for path in tmp_path.rglob("*.nii.gz"):  # the advice
        path.rename(path.with_name(f"Anna_{path.name.partition('_')[0]}.nii.gz"))
    assert len(find_subjects(tmp_path)) == 1


def test_what_only_looks_like_a_beginning_is_nobodys_contrast(tmp_path: Path) -> None:
    lay(
        tmp_path,
        ["T1_P1", "T1_P2", "P1/t1_brain", "P1/t2_brain", "P1/t1_to_2", "T1_map_1", "T2_map_1", *each("P3/P3", BRATS)],
    )
    found = survey_folder(tmp_path)
    assert [subject.id for subject in found.good] == ["P3"]
    assert not any(subject.contrasts["t1"].name.startswith(("T1_", "t1_")) for subject in found.good)
    assert "_map" in str(found.notes) and "map_1_T" not in str(found.notes)


@pytest.mark.parametrize(
    "files",
    ["P{n}/images/{C} P{n}/masks/brain_mask", "P1/images/{C} P1/labels/P2", "images/anna_{C} labels/bert_seg"],
)
def test_folders_do_not_make_labels_of_another_or_of_the_brain_a_patients(tmp_path: Path, files: str) -> None:
    images, labels = files.split()
    lay(tmp_path, [labels.format(n=1), *(images.format(n=1, C=c) for c in CONTRASTS)])
    assert not survey_folder(tmp_path).good


def test_endings_of_public_collections(tmp_path: Path) -> None:
    lay(tmp_path, each("100101A/100101A", ("_T1pre", "_T1post", "_T2Synth", "_FLAIR", "_seg")))
    lay(tmp_path, each("RHUH-0001/0/RHUH-0001_0", ("_t1", "_t1ce", "_t2", "_flair", "_segmentations")))
    lay(tmp_path, each("Patient-001/week-000-1/", ("T1", "CT1", "T2", "FLAIR", "seg/seg_mask")))
    found = what(survey_folder(tmp_path))
    assert list(found) == ["100101A", "Patient-001_week-000-1", "RHUH-0001_0"]
    assert [files[-1] for files in found.values()] == each("", ("100101A_seg", "seg_mask", "RHUH-0001_0_segmentations"))


def test_an_ending_is_advised_only_where_no_other_subject_loses_its_file(tmp_path: Path) -> None:
    for n in (1, 2):
        bids = f"sub-0{n}_ses-{n}"
        lay(tmp_path / "bids", each(f"sub-0{n}/anat/{bids}", ("_T1w", "_ce-gd_T1w", "_T2w", "_FLAIR", "_dseg")))
        lay(tmp_path / "bmsr", each(f"P{n}/P{n}", (*BRATS, "_BraTS-seg")))
    lay(tmp_path / "bids", ["derivatives/sub-01/anat/sub-01_ses-1_space-MNI_T1w"])
    (bad,) = survey_folder(tmp_path / "bids").bad
    assert "(--names t1=_T1w takes the first)" in bad.reason  # in all sessions
    assert list(what(survey_folder(tmp_path / "bids", names=["t1=_T1w"]))) == ["sub-01_ses-1", "sub-02_ses-2"]
    shutil.rmtree(tmp_path / "bids" / "derivatives")  # the advice
    found = what(survey_folder(tmp_path / "bids", names=["t1=_ses-1_T1w,t1=_ses-2_T1w"]))
    assert list(found) == ["sub-01_ses-1", "sub-02_ses-2"]  # though the ending holds the session
    reasons = [bad.reason for bad in survey_folder(tmp_path / "bmsr").bad]
    assert len(reasons) == 2 and all("--names seg=_BraTS-seg takes the second)" in reason for reason in reasons)
    found = what(survey_folder(tmp_path / "bmsr", names=["seg=_BraTS-seg"]))  # the advice
    assert [files[-1] for files in found.values()] == ["P1_BraTS-seg.nii.gz", "P2_BraTS-seg.nii.gz"]


@pytest.mark.parametrize("other", ["_auto_seg", "_pred_seg", "-rater2-seg"])
def test_labels_called_as_their_subject_alone_are_offered_first(tmp_path: Path, other: str) -> None:
    for n in (1, 2):
        lay(tmp_path, each(f"P{n}/P{n}", [*BRATS, other]))
    for bad in survey_folder(tmp_path).bad:
        own, others = f"{bad.id}_seg.nii.gz", f"{bad.id}{other}.nii.gz"
        advice = f"--names seg=_seg takes the first, --names seg={other} takes the second"
        assert bad.reason == f"ambiguous seg: {own} and {others} ({advice})"
    for ending in ("_seg", other):
        found = what(survey_folder(tmp_path, names=[f"seg={ending}"]))
        assert [files[-1] for files in found.values()] == each("", (f"P1{ending}", f"P2{ending}"))
    (tmp_path / "P2/P2_seg.nii.gz").unlink()
    notes = survey_folder(tmp_path, names=["seg=_seg" if other[-4] == "_" else "seg=_seg,seg=-seg"]).notes
    assert any(note.startswith("taken for want of a better file") and f"P2{other}" in note for note in notes)


def test_images_in_the_space_of_the_labels_are_advised_all_at_once(tmp_path: Path) -> None:
    kinds = {"t1": "{}_T1w", "t1ce": "_ce-gadolinium{}_T1w", "t2": "{}_T2w", "flair": "{}_FLAIR"}
    for s in ("sub-01/ses-01", "sub-02/ses-02"):
        bids, space = s.replace("/", "_"), "_space-SRI24_desc-brain"
        lay(tmp_path, each(f"{s}/anat/{bids}", [kind.format("") for kind in kinds.values()]))
        lay(tmp_path, each(f"derivatives/{s}/anat/{bids}", [kind.format(space) for kind in kinds.values()]))
        lay(tmp_path, each(f"derivatives/{s}/anat/{bids}", ["_space-SRI24_dseg"]))
    for bad in survey_folder(tmp_path).bad:
        assert (
            bad.reason.startswith("ambiguous t1, t1ce, t2 and flair: ") and "those of the labels, SRI24" in bad.reason
        )
        advised = bad.reason.partition("--names ")[2].partition(" takes")[0]
        found = what(survey_folder(tmp_path, names=[advised]))
        assert len(found) == 2 and all("_space-SRI24" in file for files in found.values() for file in files)


def test_ids_have_their_time_in_every_folder_or_in_none(tmp_path: Path) -> None:
    for scan in ("100001/100001_time1", "100001/100001_time2", "100002/100002_time1"):
        lay(tmp_path / "times", each(scan, BRATS))
    assert list(what(survey_folder(tmp_path / "times"))) == ["100001_time1", "100001_time2", "100002_time1"]
    lay(tmp_path / "dates", [name for s in ("A1", "A2") for name in each(f"{s}/{s}_2002.05.26", BRATS)])
    assert list(what(survey_folder(tmp_path / "dates"))) == ["A1", "A2"]
