"""Scores by the protocol of the study: on its slices, by its rules."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from synthkit.data.label_folders import LabelFolder
from synthkit.errors import DataError, UsageError
from synthkit.judging.protocols import KeptSlices, SliceRule, evaluation_protocol
from synthkit.schemes import BRATS

BRAIN = 160  # side in pixels of a bright square: 25,600 of 65,536 pixels, more than 15 %


def write(path: Path, volume: np.ndarray, side_mm: float = 1.0) -> None:
    nib.save(nib.Nifti1Image(volume, np.diag([-side_mm, -side_mm, 1.0, 1.0])), path)


def subject(folder: Path, name: str, labels: np.ndarray, bright: range) -> None:
    """T1 is bright in the slices of ``bright``, and has one bright pixel elsewhere."""
    (folder / name).mkdir(parents=True)
    t1 = np.zeros((240, 240, labels.shape[2]), np.int16)
    t1[0, 0] = 100
    t1[40 : 40 + BRAIN, 40 : 40 + BRAIN, bright.start : bright.stop] = 1000 - np.arange(BRAIN)[:, None, None] % 20
    write(folder / name / f"{name}_t1.nii.gz", t1)
    write(folder / name / f"{name}_seg.nii.gz", labels)


def volume() -> np.ndarray:
    return np.zeros((240, 240, 8), np.uint8)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """In the kept slices 2 to 5: ET of 4 voxels half found, NCR missed. Outside of them: ED, and false ET."""
    reference, prediction = volume(), volume()
    reference[100, 100, 2:6] = 4
    reference[120, 100, 3] = 1
    reference[100, 120, 0] = 2
    prediction[100, 100, 2:4] = 4
    prediction[60:100, 60:100, 7] = 4
    subject(tmp_path / "subjects", "P1", reference, range(2, 6))
    (tmp_path / "predictions").mkdir()
    write(tmp_path / "predictions" / "P1.nii.gz", prediction)
    return tmp_path / "subjects", tmp_path / "predictions"


def test_volumes_hold_the_kept_slices(folders: tuple[Path, Path]) -> None:
    rule = SliceRule(folders[0], (), BRATS)
    assert rule.kept("P1")[0] == (2, 3, 4, 5)
    for folder, n_labelled in zip(folders, (5, 2), strict=True):
        kept = KeptSlices(LabelFolder(folder, labels="brats2018"), rule)
        labels, spacing_mm = kept.labels("P1")
        assert list(kept.subjects) == ["P1"]
        assert labels.shape == (240, 240, 4)
        assert spacing_mm == (1.0, 1.0, 1.0)
        assert np.count_nonzero(labels) == n_labelled


@pytest.mark.parametrize("side_mm", [0.5, 2.0])
def test_the_rule_counts_pixels_of_1_mm(tmp_path: Path, side_mm: float) -> None:
    """The same heads in other voxels: a large one in slices 2 and 3, in 4 and 5 one that is too small by any count."""
    (tmp_path / "P1").mkdir()
    n, large, small = (round(side / side_mm) for side in (200, 160, 80))
    t1, labels = np.zeros((n, n, 8), np.int16), np.zeros((n, n, 8), np.uint8)
    t1[:large, :large, 2:4] = t1[:small, :small, 4:6] = 1000
    t1 -= (np.arange(n)[:, None, None] % 20 * (t1 > 0)).astype(np.int16)
    labels[5:10, 5:10, 3] = 4
    for kind, data in (("t1", t1), ("seg", labels)):
        write(tmp_path / "P1" / f"P1_{kind}.nii.gz", data, side_mm)
    kept = KeptSlices(LabelFolder(tmp_path, labels="brats2018"), SliceRule(tmp_path, (), BRATS))
    found, spacing_mm = kept.labels("P1")
    assert found.shape == (n, n, 2) and np.count_nonzero(found) == 25 and spacing_mm == (side_mm, side_mm, 1.0)


def test_a_subject_without_t1_or_without_brain_is_an_error(folders: tuple[Path, Path]) -> None:
    subject(folders[0], "P2", volume(), range(0, 0))
    rule = SliceRule(folders[0], (), BRATS)
    with pytest.raises(DataError, match="keeps no slice of P2"):
        rule.kept("P2")
    with pytest.raises(DataError, match="no T1 of P3"):
        rule.kept("P3")


def test_labels_of_another_grid_are_an_error(folders: tuple[Path, Path]) -> None:
    write(folders[1] / "P1.nii.gz", volume()[:, :, :4])
    with pytest.raises(DataError, match="do not belong"):
        KeptSlices(LabelFolder(folders[1], labels="brats2018"), SliceRule(folders[0], (), BRATS)).labels("P1")


def test_unknown_protocol() -> None:
    with pytest.raises(UsageError, match="Known: akbar2024"):
        evaluation_protocol("akbar")


def evaluate(*arguments: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "SYNTHKIT_BACKEND": "inline"}
    command = [sys.executable, "-m", "synthkit", "evaluate", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def test_evaluate_by_the_protocol(folders: tuple[Path, Path], tmp_path: Path) -> None:
    pytest.importorskip("synthkit_overlap")
    given = ("--reference", folders[0], "--prediction", folders[1], "--protocol", "akbar2024")
    done = evaluate("dice", "hausdorff", "surface-dice", *given, "-o", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert "more than 15 %" in " ".join((done.stdout + done.stderr).split())
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    values = {
        (s["name"], s["of"]["region"]): s["value"] for s in result["scores"] if "subject" not in s["of"] and s["of"]
    }
    assert values["dice_mean", "ET"] == pytest.approx(2 * 2 / (4 + 2))
    assert values["dice_mean", "NCR"] == 0.0  # missed
    assert values["dice_mean", "ED"] is None  # in none of the kept slices
    assert values["dice_mean", "mean"] == pytest.approx(1 / 3)
    assert values["hausdorff_mean", "ET"] == 2.0
    assert values["hausdorff_mean", "NCR"] is None
    assert ("dice_mean", "WT") not in values
    assert result["protocol"]["name"] == "akbar2024"
    assert any("missed" in rule for rule in result["protocol"]["policy"])
    assert json.loads((tmp_path / "run" / "job.json").read_text())["options"]["protocol"] == "akbar2024"


def test_what_the_protocol_sets_cannot_be_changed(folders: tuple[Path, Path], tmp_path: Path) -> None:
    pytest.importorskip("synthkit_overlap")
    given = ("--reference", folders[0], "--prediction", folders[1], "--protocol", "akbar2024", "-o", tmp_path / "run")
    done = evaluate("dice", *given, "-p", "both_empty=perfect")
    assert done.returncode == 2
    assert "sets both_empty" in done.stderr
