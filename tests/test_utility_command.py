"""``synthkit utility`` from subjects to ratio, with a segmenter that learns in no time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("scipy", reason="scipy is not installed")

from synthkit.data.dataset import Dataset
from synthkit.data.named_schemes import SCHEMES
from synthkit.data.writer import DatasetWriter
from synthkit.schemes import BRATS
from synthkit.testing.toys import SEGMENTER

SUBJECTS, HOLDOUT = [f"S{number:02}" for number in range(8)], [f"S{number:02}" for number in range(2, 8)]


def synthkit(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "synthkit", *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "SYNTHKIT_BACKEND": "local"},
        timeout=120,
    )


def succeeded(*arguments: object) -> dict[str, Any]:
    done = synthkit(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def tree(folder: Path) -> dict[str, int]:
    """Everything below a folder, with the time of its last change."""
    return {str(path.relative_to(folder)): path.lstat().st_mtime_ns for path in folder.rglob("*")}


def given_out_as_synthetic(path: Path, real: Path, change: Callable[[Any], Any]) -> Path:
    """The training part of a dataset, its labels changed, as a synthetic dataset of unknown origin."""
    data = Dataset(real).training_part()
    with DatasetWriter(path, contrasts=data.contrasts, scheme=BRATS, size=data.size, kind="synthetic") as writer:
        images, labels = data.read(range(len(data)))
        writer.append(images, change(labels), [{"id": f"s{i}", "split": "synthetic"} for i in range(len(data))])
    return path


def volumes(number: int) -> dict[str, Any]:
    """A box of brain with a box of tumour, each label with grey levels of its own; place and size vary."""
    shape = (160, 160, 4)
    seg = np.zeros(shape, np.uint8)
    x, y = 40 + 4 * (number % 5), 48 + 4 * (number % 3)
    seg[x : x + 56, y : y + 48], seg[x + 16 : x + 40, y + 8 : y + 32] = 2, 4
    seg[x + 24 : x + 32, y + 16 : y + 24] = 1
    brain = np.zeros(shape, np.int16)
    brain[8:-8, 8:-8] = 1
    # Rows: contrasts; columns: brain, labels 1, 2, (3,) 4.
    grey = np.array([[120, 80, 200, 0, 150], [90, 60, 120, 0, 250], [80, 250, 180, 0, 120], [70, 100, 250, 0, 160]])
    images = (grey[:, seg] * brain).astype(np.int16)
    return dict(zip(("t1", "t1ce", "t2", "flair", "seg"), (*images, seg), strict=True))


@pytest.fixture
def runs(tmp_path: Path, make_subject: Any, install_plugins: Any) -> Path:
    """Trainings on real slices, on copies of them, and on slices whose tumours are labelled wrongly."""
    install_plugins(SEGMENTER)
    for number, name in enumerate(SUBJECTS):
        make_subject(tmp_path / "subjects", name, **volumes(number))
    real = tmp_path / "real"
    succeeded("prepare", tmp_path / "subjects", "-o", real, "--size", "32", "--holdout", ",".join(HOLDOUT))
    swap = np.array([0, 2, 1, 3, 0], np.uint8)
    copies = given_out_as_synthetic(tmp_path / "copies", real, lambda labels: labels)
    wrong = given_out_as_synthetic(tmp_path / "wrong", real, lambda labels: swap[labels])
    for name, data in (("real-0", real), ("real-1", real), ("copies", copies), ("wrong", wrong)):
        succeeded("train", "toy-segmenter", data, "-o", tmp_path / "runs" / name)
    return tmp_path / "runs"


def test_copies_are_worth_what_they_copy_and_wrong_labels_nothing(runs: Path, tmp_path: Path) -> None:
    arguments = ("utility", "--reference", tmp_path / "subjects", "--real", runs / "real-0", "--real", runs / "real-1")
    copies = succeeded(*arguments, "--synthetic", runs / "copies", "-o", tmp_path / "u1")
    assert copies["subjects"] == HOLDOUT  # what was trained on is left out
    dice = {row["region"]: row for row in copies["comparisons"] if row["score"] == "Dice"}
    for row in dice.values():
        assert row["ratio"] == pytest.approx(1, abs=1e-9) and row["ratio_low"] is None  # six patients, one training
    assert dice["WT"]["real"] > 0.5 and dice["WT"]["n_patients"] == 6 and dice["WT"]["n_real"] == 2
    assert json.loads((tmp_path / "u1" / "utility.json").read_text())["sentences"] == copies["sentences"]

    wrong = succeeded(*arguments, "--synthetic", runs / "wrong", "-o", tmp_path / "u2")
    dice = {row["region"]: row for row in wrong["comparisons"] if row["score"] == "Dice"}
    # Necrosis is called oedema: next to nothing is left of it, but the whole tumour stays what it is.
    assert dice["NCR"]["ratio"] < 0.05 and dice["NCR"]["n_missed"] == 0
    assert dice["WT"]["ratio"] == pytest.approx(1, abs=1e-9)


def test_arms_of_other_settings_or_no_unseen_subjects_are_refused(runs: Path, tmp_path: Path) -> None:
    data = tmp_path / "real"
    succeeded("train", "toy-segmenter", data, "-o", runs / "longer", "-p", "passes=7")
    arguments = ("utility", "--real", runs / "real-0", "-o", tmp_path / "u")
    seen = tmp_path / "seen"
    seen.mkdir()
    (seen / "S00").symlink_to(tmp_path / "subjects" / "S00")
    for reference, arm, code, text in (
        (tmp_path / "subjects", "longer", 2, "passes"),
        (seen, "copies", 3, "no subject to compare on"),
        (tmp_path / "subjects", "nothing", 3, "There is no folder"),
    ):
        done = synthkit(*arguments, "--reference", reference, "--synthetic", runs / arm)
        assert done.returncode == code and text in done.stderr, done.stderr
        assert not (tmp_path / "u").exists()
    # Of images that record no protocol: said before anything is run.
    for name in ("real-0", "copies"):
        notes = runs / name / "outputs" / "checkpoint" / "synthkit.json"
        notes.write_text(json.dumps({**json.loads(notes.read_text()), "protocol": {}}))
    for arguments in (
        ("segment", runs / "copies", tmp_path / "subjects", "-o", tmp_path / "u"),
        (
            "utility",
            "--real",
            runs / "real-0",
            "--synthetic",
            runs / "copies",
            "--reference",
            seen,
            "-o",
            tmp_path / "u",
        ),
    ):
        done = synthkit(*arguments)
        assert done.returncode == 3 and "record no protocol" in done.stderr and not (tmp_path / "u").exists()


def test_a_training_in_the_wrong_arm_or_given_twice_is_refused(runs: Path, tmp_path: Path) -> None:
    arguments = ("utility", "--reference", tmp_path / "subjects", "-o", tmp_path / "u")
    for trainings, text in (
        (
            ("--real", "real-0", "--synthetic", "real-1"),
            "real-1 was trained on real images, and is given as --synthetic.",
        ),
        (
            ("--real", "copies", "--synthetic", "wrong"),
            "copies was trained on synthetic images, and is given as --real.",
        ),
        (("--real", "real-0", "--real", "real-0", "--synthetic", "copies"), "given twice, as --real and as --real."),
        (("--real", "real-0", "--synthetic", "real-0"), "given twice, as --real and as --synthetic."),
    ):
        done = synthkit(*arguments, *(name if name.startswith("--") else runs / name for name in trainings))
        assert done.returncode == 2 and text in " ".join(done.stderr.split()), done.stderr
        assert not (tmp_path / "u").exists()
    alone = synthkit(*arguments, "--real", runs / "real-0")
    assert alone.returncode == 2 and "or on real and synthetic ones (--both)" in " ".join(alone.stderr.split())
    # As advised: a training on both needs no arm of synthetic images alone.
    succeeded("train", "toy-segmenter", tmp_path / "real", tmp_path / "copies", "-o", runs / "both")
    refused = synthkit(*arguments, "--real", runs / "real-1", "--synthetic", runs / "both")
    assert refused.returncode == 2 and "Give it as --both" in refused.stderr
    said = succeeded(*arguments, "--real", runs / "real-1", "--both", runs / "both")["sentences"]
    assert said[-1].startswith("Trained on real and synthetic images, the segmenter reached a mean Dice of")


def test_a_dry_run_says_what_would_be_compared_and_writes_nothing(runs: Path, tmp_path: Path) -> None:
    arguments = ("utility", "--reference", tmp_path / "subjects", "--real", runs / "real-0", "-o", tmp_path / "u")
    arguments = (*arguments, "--synthetic", runs / "copies")
    before = tree(tmp_path)
    planned = succeeded(*arguments, "--dry-run")
    assert tree(tmp_path) == before
    assert planned["arms"] == {"real": [str(runs / "real-0")], "synthetic": [str(runs / "copies")]}
    assert [(Path(run["run"]).relative_to(tmp_path / "u").as_posix(), run["state"]) for run in planned["runs"]] == [
        (f"{arm}-1/{verb}", "new") for arm in ("real", "synthetic") for verb in ("segment", "evaluate")
    ]
    # What was planned is what is done.
    done = succeeded(*arguments)
    assert planned["subjects"] == done["subjects"] == HOLDOUT and planned["n_patients"] == 6
    assert {row["region"] for row in done["comparisons"]} == {*planned["regions"], "mean"}
    assert {row["score"] for row in done["comparisons"]} == set(planned["scores"])
    states = {run["state"] for run in succeeded(*arguments, "--dry-run", "--resume")["runs"]}
    assert states == {"finished"}
    shown = synthkit(*arguments, "--dry-run")
    assert shown.returncode == 0 and "6 subjects of 6 patients: S02" in " ".join(shown.stdout.split())
    assert shown.stdout.count("there already") == 4


def test_a_dry_run_is_refused_as_the_comparison_is(runs: Path, tmp_path: Path) -> None:
    subjects, seen = tmp_path / "subjects", tmp_path / "seen"
    seen.mkdir()
    (seen / "S00").symlink_to(subjects / "S00")
    for reference, real, code, text in (
        (subjects, ("--real", tmp_path / "real"), 3, "There is no"),
        (subjects, ("--real", runs / "real-0", "--real", runs / "real-0"), 2, "is given twice"),
        (seen, ("--real", runs / "real-0"), 3, "no subject to compare on"),
    ):
        arguments = ("utility", "--reference", reference, *real, "--synthetic", runs / "copies", "-o", tmp_path / "u")
        before = tree(tmp_path)
        refused, planned = synthkit(*arguments), synthkit(*arguments, "--dry-run")
        assert refused.returncode == planned.returncode == code, planned.stderr
        assert refused.stderr == planned.stderr and text in " ".join(planned.stderr.split()), planned.stderr
        assert tree(tmp_path) == before


def test_resume_repeats_no_finished_run(runs: Path, tmp_path: Path) -> None:
    arguments = ("utility", "--reference", tmp_path / "subjects", "--real", runs / "real-0", "-o", tmp_path / "u")
    first = succeeded(*arguments, "--synthetic", runs / "copies")
    results = sorted((tmp_path / "u").glob("*/*/result.json"))
    before = [path.stat().st_mtime_ns for path in results]
    assert len(before) == 4
    again = succeeded(*arguments, "--synthetic", runs / "copies", "--resume")
    assert [path.stat().st_mtime_ns for path in results] == before
    assert again["comparisons"] == first["comparisons"]


def test_subjects_of_other_voxels_are_refused_and_resampled_on_request(
    runs: Path, tmp_path: Path, make_subject: Any
) -> None:
    reference = tmp_path / "coarse"
    for number, name in enumerate(("T00", "T01")):
        coarse = {kind: volume[::2, ::2] for kind, volume in volumes(number).items()}
        make_subject(reference, name, **coarse, affines=dict.fromkeys(coarse, np.diag([-2.0, -2.0, 1.0, 1.0])))
    notes = runs / "real-1" / "outputs" / "checkpoint" / "synthkit.json"
    notes.write_text(notes.read_text().replace('"kind": "real"', '"kind": "synthetic"'))
    arguments = ("utility", "--reference", reference, "--real", runs / "real-0", "--synthetic", runs / "real-1")
    refused = synthkit(*arguments, "-o", tmp_path / "u")
    assert refused.returncode == 3 and "T00: 2 x 2 x 1 mm" in refused.stderr and "--resample" in refused.stderr
    assert not (tmp_path / "u").exists()
    scored = succeeded(*arguments, "-o", tmp_path / "u", "--resample")
    dice = {row["region"]: row["real"] for row in scored["comparisons"] if row["score"] == "Dice"}
    assert dice["WT"] > 0.5


def test_references_may_have_label_endings_of_their_own(runs: Path, tmp_path: Path) -> None:
    for name in HOLDOUT[:2]:
        folder = tmp_path / "own" / name
        folder.mkdir(parents=True)
        for path in (tmp_path / "subjects" / name).iterdir():
            (folder / path.name.replace("_seg", "_gt")).symlink_to(path)
    (tmp_path / "own.toml").write_text('label_endings = ["gt"]\n[labels]\nNCR = 1\nED = 2\nET = 4\n')
    arguments = ("utility", "--reference", tmp_path / "own", "--real", runs / "real-0", "--synthetic", runs / "copies")
    missed = synthkit(*arguments, "-o", tmp_path / "u")
    assert missed.returncode == 3 and "missing seg" in missed.stderr
    found = succeeded(*arguments, "-o", tmp_path / "u", "--labels", tmp_path / "own.toml")
    assert found["subjects"] == HOLDOUT[:2]
    assert {row["region"] for row in found["comparisons"]} >= {"NCR", "ED", "ET"}


def test_arms_of_other_labels_are_refused_and_compared_in_common_regions(runs: Path, tmp_path: Path) -> None:
    """A training of the whole tumour alone, before anything is segmented."""
    whole = tmp_path / "whole"
    real = Dataset(tmp_path / "real").training_part()
    with DatasetWriter(
        whole, contrasts=real.contrasts, scheme=SCHEMES["whole-tumour"], size=real.size, kind="synthetic"
    ) as writer:
        images, labels = real.read(range(len(real)))
        writer.append(
            images, (labels > 0).astype(np.uint8), [{"id": f"s{i}", "split": "synthetic"} for i in range(len(real))]
        )
    succeeded("train", "toy-segmenter", whole, "-o", runs / "whole")
    some = tmp_path / "some"
    some.mkdir()
    for name in HOLDOUT[:2]:
        (some / name).symlink_to(tmp_path / "subjects" / name)
    arguments = ("utility", "--reference", some, "--real", runs / "real-0", "--synthetic", runs / "whole")
    refused = synthkit(*arguments, "-o", tmp_path / "u")
    assert refused.returncode == 2 and "--allow-different labels" in refused.stderr and not (tmp_path / "u").exists()
    # The advice, carried out: what both have is compared, and the rest named.
    allowed = (*arguments, "--allow-different", "labels", "-o", tmp_path / "u")
    done = synthkit(*allowed, "--labels", "men-rt")
    assert done.returncode == 3 and "No region of the reference" in done.stderr and not (tmp_path / "u").exists()
    done = synthkit(*allowed, "--json")
    assert done.returncode == 0, done.stderr
    assert {row["region"] for row in json.loads(done.stdout)["comparisons"]} == {"WT"}
    assert "Not compared are regions that trainings lack: NCR (whole); ED (whole)" in " ".join(done.stderr.split())
