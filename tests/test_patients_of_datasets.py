"""The patients of a dataset: decided by prepare, written, and followed by lineage, exports and whatever reads it."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from synthkit import api
from synthkit.data.dataset import Dataset
from synthkit.data.exporting import export_dataset
from synthkit.data.importing import import_images
from synthkit.data.lineage import public_entries, training_entry, was_trained_on
from synthkit.data.patients import patient_behind
from synthkit.data.prepare import prepare
from synthkit.data.slices import SliceProtocol
from synthkit.errors import DataError, UsageError

SMALL = SliceProtocol(size=64, brain_fraction=0.004)
ALIKE = ("P012-1", "P012-2", "P013-1", "P013-2")
#: Two scans of each of four patients, in four namings.
SCANS = {
    "UPENN-GBM-00002_11": "UPENN-GBM-00002",
    "UPENN-GBM-00002_21": "UPENN-GBM-00002",
    "UCSF-PDGM-0429": "UCSF-PDGM-0429",
    "UCSF-PDGM-0429_FU003d": "UCSF-PDGM-0429",
    "PatientID_0003_Timepoint_1": "PatientID_0003",
    "PatientID_0003_Timepoint_2": "PatientID_0003",
    "sub-01_ses-01": "sub-01",
    "sub-01_ses-02": "sub-01",
}


@pytest.fixture
def folder(tmp_path: Path, make_subject: Callable[..., Path]) -> Callable[..., Path]:
    def make(*names: str) -> Path:
        for name in names:
            make_subject(tmp_path / "subjects", name)
        return tmp_path / "subjects"

    return make


def synthkit(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "synthkit", *map(str, arguments)], capture_output=True, text=True, timeout=120
    )


def table(path: Path, **patients: str) -> Path:
    path.write_text("subject,patient\n" + "".join(f"{name},{patient}\n" for name, patient in patients.items()))
    return path


def test_scans_in_four_namings_are_never_separated(tmp_path: Path, folder: Callable[..., Path]) -> None:
    """By the command."""
    subjects = folder(*SCANS)
    for seed in ("1", "2"):
        arguments = ("prepare", subjects, "-o", tmp_path / seed, "--holdout", "0.5", "--seed", seed)
        done = synthkit(*arguments, "--size", 64, "--brain-fraction", 0.004)
        assert done.returncode == 0, done.stderr
        assert "stay together" in done.stdout + done.stderr
        data = Dataset(tmp_path / seed)
        train, holdout = (data.select(part).patients for part in ("train", "holdout"))
        assert {**train, **holdout} == SCANS
        assert not set(train.values()) & set(holdout.values()) and len(set(holdout.values())) == 2
        with (data.path / "samples.csv").open(newline="") as file:
            assert {row["subject"]: row["patient"] for row in csv.DictReader(file)} == SCANS
        summary = json.loads((data.path / "dataset.json").read_text())["provenance"]["summary"]
        assert {part: counts["patients"] for part, counts in summary["splits"].items()} == {"train": 2, "holdout": 2}


def test_the_question_is_asked_before_anything_is_written(tmp_path: Path, folder: Callable[..., Path]) -> None:
    subjects, out = folder(*ALIKE), tmp_path / "out"
    arguments = ("prepare", subjects, "-o", out, "--size", 64, "--brain-fraction", 0.004, "--holdout", 1)
    done = synthkit(*arguments)
    assert done.returncode == 3 and not out.exists()
    assert "P012-1, P012-2" in done.stderr and "one-per-subject" in done.stderr
    answered = table(tmp_path / "t.csv", **{name: name[:4] for name in ALIKE})
    for answer, n_patients in ((answered, 2), ("one-per-subject", 4)):
        done = synthkit(*arguments, "--patients", answer, "--overwrite")
        assert done.returncode == 0, done.stderr
        assert len(set(Dataset(out).patients.values())) == n_patients


def test_from_python(tmp_path: Path, folder: Callable[..., Path]) -> None:
    options = {"size": 64, "brain_fraction": 0.004, "holdout": "1"}
    summary = api.prepare(folder(*ALIKE), tmp_path / "out", patients="one-per-subject", **options)
    assert [subject.patient for subject in summary.subjects] == list(ALIKE)


def test_a_table_is_asked_only_for_subjects_that_can_be_used(tmp_path: Path, folder: Callable[..., Path]) -> None:
    subjects = folder("a", "b", "c")
    (subjects / "c" / "c_t1.nii.gz").unlink()
    answered = table(tmp_path / "t.csv", a="1", b="2")
    summary = prepare(subjects, tmp_path / "out", protocol=SMALL, patients=answered, skip_bad=True)
    assert [subject.patient for subject in summary.subjects] == ["1", "2"]


def test_another_table_does_not_continue_a_dataset(tmp_path: Path, folder: Callable[..., Path]) -> None:
    subjects = folder("a", "b", "c")
    one, other = table(tmp_path / "1.csv", a="1", b="1", c="2"), table(tmp_path / "2.csv", a="1", b="2", c="2")
    prepare(subjects, tmp_path / "out", protocol=SMALL, patients=one)
    assert prepare(subjects, tmp_path / "out", protocol=SMALL, patients=one, resume=True).n_resumed > 0
    with pytest.raises(UsageError, match="of other subjects"):
        prepare(subjects, tmp_path / "out", protocol=SMALL, patients=other, resume=True)
    prepare(subjects, tmp_path / "out", protocol=SMALL, patients=other, overwrite=True)
    assert Dataset(tmp_path / "out").patients == {"a": "1", "b": "2", "c": "2"}


def test_digests_tell_patients_apart_and_stay_where_each_subject_is_one(
    tmp_path: Path, folder: Callable[..., Path]
) -> None:
    subjects = folder("a", "b", "c")
    for name, patients in (
        ("names", None),
        ("own", "one-per-subject"),
        ("t", table(tmp_path / "t.csv", a="1", b="1", c="2")),
    ):
        prepare(subjects, tmp_path / name, protocol=SMALL, patients=patients)
    digests = {name: Dataset(tmp_path / name).digest for name in ("names", "own", "t")}
    assert digests["names"] == digests["own"] != digests["t"]


def test_a_dataset_from_before_is_read_and_its_names_decide(tmp_path: Path, folder: Callable[..., Path]) -> None:
    prepare(folder("sub-01_ses-01", "sub-01_ses-02", "sub-02_ses-01"), tmp_path / "out", protocol=SMALL)
    path = tmp_path / "out" / "samples.csv"
    path.write_text("".join(line.rpartition(",")[0] + "\n" for line in path.read_text().splitlines()))
    data = Dataset(tmp_path / "out")
    assert {row.patient for row in data.samples} == {None}
    assert set(data.patients.values()) == {patient_behind(row) for row in data.samples} == {"sub-01", "sub-02"}


def test_export_and_import_keep_patients_and_folds_follow_them(tmp_path: Path, folder: Callable[..., Path]) -> None:
    answered = table(tmp_path / "t.csv", a="1", b="2", c="1", d="2")
    prepare(folder("a", "b", "c", "d"), tmp_path / "out", protocol=SMALL, patients=answered)
    data = Dataset(tmp_path / "out")
    export_dataset(data.path, tmp_path / "png", format="png")
    import_images(tmp_path / "png", tmp_path / "back", kind="real")
    assert Dataset(tmp_path / "back").patients == data.patients
    export_dataset(data.path, tmp_path / "nnunet", format="nnunet")
    folds = json.loads((tmp_path / "nnunet" / "splits_final.json").read_text())
    assert [{name[0] for name in fold["val"]} for fold in folds] == [{"a", "c"}, {"b", "d"}]


def test_an_import_whose_split_tears_a_patient_apart_is_refused(tmp_path: Path, folder: Callable[..., Path]) -> None:
    scans = ("sub-01_ses-01", "sub-01_ses-02", "sub-02_ses-01")
    prepare(folder(*scans), tmp_path / "out", protocol=SMALL, patients="one-per-subject", holdout=f"{scans[0]},")
    export_dataset(tmp_path / "out", tmp_path / "png", format="png")
    import_images(tmp_path / "png", tmp_path / "back", kind="real")  # its column says that they are two patients
    path = tmp_path / "png" / "samples.csv"
    said = path.read_text()
    path.write_text("".join(line.rpartition(",")[0] + "\n" for line in said.splitlines()))
    with pytest.raises(DataError, match="1 patient is in train and in the holdout") as caught:
        import_images(tmp_path / "png", tmp_path / "again", kind="real")
    assert caught.value.details == ("sub-01: sub-01_ses-01, sub-01_ses-02",) and not (tmp_path / "again").exists()
    # What it advises: one split, or a column.
    path.write_text(path.read_text().replace("holdout", "train"))
    import_images(tmp_path / "png", tmp_path / "again", kind="real")
    path.write_text(said)
    import_images(tmp_path / "png", tmp_path / "again", kind="real", overwrite=True)
    assert len(set(Dataset(tmp_path / "again").patients.values())) == 3


# ------------------------------------------------------------------------------------------------------------ lineage


def entry(trained: list[str], patients: dict[str, str]) -> dict[str, object]:
    return training_entry(digest="sha256:d", kind="real", n_samples=9, subjects=trained, patients=patients)


def test_every_scan_of_a_patient_of_the_table_was_trained_on() -> None:
    made = entry(["x", "y", "z"], {"x": "7", "y": "7", "z": "8", "held": "9"})
    assert [was_trained_on(name, [made]) for name in ("x", "y", "z", "held", "new")] == [True, True, True, False, False]
    assert public_entries([made])[0]["n_subjects"] == 2  # patients, by however many names
    assert not {"7", "x"} & {str(value) for value in made.values()}


def test_names_of_a_table_are_no_ids() -> None:
    """Subject 2 is patient 1, subject 3 is patient 2: that 3 was trained on says nothing of subject 2."""
    made = entry(["3"], {"1": "1", "2": "1", "3": "2"})
    assert [was_trained_on(name, [made]) for name in ("1", "2", "3")] == [False, False, True]


def test_a_table_that_contradicts_a_naming_counts_in_the_lineage_too() -> None:
    apart = entry(["sub-01_ses-01"], {"sub-01_ses-01": "1", "sub-01_ses-02": "2"})
    assert was_trained_on("sub-01_ses-01", [apart]) and not was_trained_on("sub-01_ses-02", [apart])
    joined = entry(["sub-01_ses-01", "x"], {"sub-01_ses-01": "1", "x": "1", "y": "2"})
    # A scan that the table does not know is recognized by the naming, which nothing contradicts.
    assert (
        was_trained_on("sub-01_ses-09", [joined])
        and was_trained_on("x", [joined])
        and not was_trained_on("y", [joined])
    )


def test_models_from_before_still_know_the_scan_that_they_were_trained_on() -> None:
    """Their keys are of ids that were no known naming then."""
    import hashlib
    import hmac

    key = hmac.new(b"sha256:d", b"UPENN-GBM-00002_11", hashlib.sha256).hexdigest()[:32]
    assert was_trained_on("UPENN-GBM-00002_11", [{"digest": "sha256:d", "subject_keys": [key]}])


def test_the_entry_of_a_dataset_follows_its_patients(tmp_path: Path, folder: Callable[..., Path]) -> None:
    answered = table(tmp_path / "t.csv", a="1", b="1", c="2")
    prepare(folder("a", "b", "c"), tmp_path / "out", protocol=SMALL, patients=answered, holdout="c,")
    made = Dataset(tmp_path / "out").training_entry()
    assert [was_trained_on(name, [made]) for name in "abc"] == [True, True, False]
    assert len(made["subject_keys"]) == len(made["alias_keys"]) == 1
