"""What ``audit-memorization`` and ``evaluate`` refuse, and what they own up to having left out."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from synthkit.data.dataset import Dataset
from synthkit.data.writer import DatasetWriter
from synthkit.schemes import BRATS


def synthkit(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "synthkit", *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "SYNTHKIT_BACKEND": "local"},
        timeout=120,
    )


def write(path: Path, subjects: Sequence[str | None], holdout: Sequence[str] = (), lineage: Any = None) -> Dataset:
    """A dataset of two random images a subject; with a lineage, or subjects that are None, a synthetic one."""
    rng = np.random.default_rng(list(path.name.encode()))
    kind: Any = "real" if lineage is None and None not in subjects else "synthetic"
    with DatasetWriter(path, contrasts=("t1", "t2"), scheme=BRATS, size=(32, 32), kind=kind, lineage=lineage) as writer:
        for number, subject in enumerate([*subjects, *holdout]):
            split = "synthetic" if kind == "synthetic" else "holdout" if subject in holdout else "train"
            rows = [{"id": f"{path.name}-{number}-{i}", "split": split, "subject": subject, "slice": i} for i in (0, 1)]
            images = rng.integers(0, 255, (2, 2, 32, 32), dtype=np.uint8)
            writer.append(images, np.zeros((2, 32, 32), np.uint8), rows)
    return Dataset(path)


def lineage_of(*datasets: Dataset) -> dict[str, Any]:
    return {"generator": "toy", "training_datasets": [dataset.training_entry() for dataset in datasets]}


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Training sets a and b, and synthetic images of both, the first two of them copied from b."""
    a, b = write(tmp_path / "a", ["a1", "a2"], ["h1", "h2"]), write(tmp_path / "b", ["b1", "b2"])
    with DatasetWriter(
        tmp_path / "syn", contrasts=("t1", "t2"), scheme=BRATS, size=(32, 32), kind="synthetic",
        lineage=lineage_of(a, b),
    ) as writer:  # fmt: skip
        writer.append(*b.read([0, 1]), [{"id": f"s{i}", "split": "synthetic", "seed": i} for i in (0, 1)])
    return a.path, b.path, tmp_path / "syn"


def test_every_training_set_has_to_be_searched(two: tuple[Path, Path, Path], tmp_path: Path) -> None:
    a, b, synthetic = two
    done = synthkit("audit-memorization", a, synthetic, "-o", tmp_path / "run")
    assert done.returncode == 3, done.stderr
    assert "1 more training set than" in done.stderr and "--also-train" in done.stderr
    assert Dataset(b).digest in done.stderr and not (tmp_path / "run").exists()

    partial = synthkit(
        "audit-memorization", a, synthetic, "-o", tmp_path / "part", "--accept-other-training-set", "--json"
    )
    scores = {s["name"]: s["value"] for s in json.loads(partial.stdout)["result"]["scores"] if not s["of"]}
    assert scores["n_identical"] == 0 and scores["n_train"] == 4
    assert "1 of 2 not searched" in partial.stderr

    both = synthkit("audit-memorization", a, synthetic, "--also-train", b, "-o", tmp_path / "run", "--json")
    scores = {s["name"]: s["value"] for s in json.loads(both.stdout)["result"]["scores"] if not s["of"]}
    assert both.returncode == 10
    assert (scores["n_identical"], scores["n_train"], scores["n_holdout"]) == (2, 8, 4)
    matches = (tmp_path / "run" / "outputs" / "matches.csv").read_text()
    assert "b-0-0" in matches and "b-0-1" in matches


def test_a_training_set_of_none_or_twice_is_refused(two: tuple[Path, Path, Path], tmp_path: Path) -> None:
    a, b, synthetic = two
    other = write(tmp_path / "other", ["o1"]).path
    arguments = ("audit-memorization", a, synthetic, "--also-train", b, "-o", tmp_path / "run", "--dry-run")
    assert synthkit(*arguments).returncode == 0
    done = synthkit(*arguments, "--also-train", other)
    assert done.returncode == 3 and "was not made from" in done.stderr and "other" in done.stderr
    done = synthkit(*arguments, "--also-train", b)
    assert done.returncode == 2 and "given twice" in done.stderr


def test_behind_synthetic_training_data_the_real_ones_are_searched(tmp_path: Path) -> None:
    a = write(tmp_path / "a", ["a1", "a2"])
    middle = write(tmp_path / "middle", [None], lineage=lineage_of(a))
    synthetic = write(tmp_path / "syn", [None], lineage=lineage_of(middle)).path
    options = ("-o", tmp_path / "run", "--dry-run")
    assert synthkit("audit-memorization", a.path, synthetic, *options).returncode == 0
    assert synthkit("audit-memorization", a.path, synthetic, "--also-train", middle.path, *options).returncode == 0
    done = synthkit("audit-memorization", middle.path, synthetic, *options)
    assert done.returncode == 3 and a.digest in done.stderr


@pytest.mark.parametrize("scan", ["BraTS-GLI-00001-100", "BraTS-GLI-00001-101"])
def test_a_holdout_that_was_trained_on_is_refused(tmp_path: Path, scan: str) -> None:
    """The same scan in another dataset, or another scan of the same patient."""
    a = write(tmp_path / "a", ["BraTS-GLI-00001-100", "a2"])
    synthetic = write(tmp_path / "syn", [None], lineage=lineage_of(a)).path
    seen, new = write(tmp_path / "seen", ["n1", scan]).path, write(tmp_path / "new", ["n1", "n2"]).path
    arguments = ("audit-memorization", a.path, synthetic, "-o", tmp_path / "run", "--dry-run")
    done = synthkit(*arguments, "--holdout", seen)
    assert done.returncode == 3, done.stderr
    assert "trained on 1 of the 2 held-out subjects" in done.stderr and scan in done.stderr
    assert synthkit(*arguments, "--holdout", new).returncode == 0


def test_own_holdout_in_another_training_set_is_refused(tmp_path: Path) -> None:
    a, b = write(tmp_path / "a", ["a1"], ["h1", "h2"]), write(tmp_path / "b", ["h1", "b1"])
    synthetic = write(tmp_path / "syn", [None], lineage=lineage_of(a, b)).path
    done = synthkit(
        "audit-memorization", a.path, synthetic, "--also-train", b.path, "-o", tmp_path / "run", "--dry-run"
    )
    assert done.returncode == 3 and "trained on 1 of the 2 held-out subjects" in done.stderr, done.stderr


def test_references_without_prediction_are_counted_and_named(tmp_path: Path, make_subject: Callable[..., Path]) -> None:
    names = [f"BraTS20_Training_00{number}" for number in range(1, 6)]
    for name in names:
        make_subject(tmp_path / "subjects", name, shape=(24, 20, 3))
    run = tmp_path / "segmented"
    predictions, checkpoint = run / "outputs" / "predictions", run / "inputs" / "checkpoint"
    predictions.mkdir(parents=True)
    checkpoint.mkdir(parents=True)
    for name in names[:2]:
        shutil.copy(tmp_path / "subjects" / name / f"{name}_seg.nii.gz", predictions / f"{name}.nii.gz")
    # 001 was trained on and segmented all the same, 003 was trained on and left out: neither is missing.
    trained_on = write(tmp_path / "data", [names[0], names[2]]).training_entry()
    (checkpoint / "synthkit.json").write_text(json.dumps({"plugin": "unet", "training_datasets": [trained_on]}))
    (predictions / "predictions.json").write_text(json.dumps({"seen_in_training": names[:1]}))
    arguments = ("evaluate", "dice", "--reference", tmp_path / "subjects", "--prediction", run, "--json", "-o")
    done = synthkit(*arguments, tmp_path / "run")
    assert done.returncode == 0, done.stderr
    (unpaired,) = [s for s in json.loads(done.stdout)["result"]["scores"] if s["name"] == "n_unpaired"]
    assert (unpaired["value"], unpaired["n"]) == (2, 1)
    assert unpaired["note"] == f"{names[3]}: no prediction; {names[4]}: no prediction"
    assert "2 of 3 references have no prediction" in done.stderr.replace("\n", " ")
    # Without its checkpoint nobody can tell that 003 was left out on purpose.
    shutil.rmtree(checkpoint)
    done = synthkit(*arguments, tmp_path / "again")
    (unpaired,) = [s for s in json.loads(done.stdout)["result"]["scores"] if s["name"] == "n_unpaired"]
    assert unpaired["value"] == 3


def test_two_runs_of_segment_are_compared_with_one_another(tmp_path: Path, make_subject: Callable[..., Path]) -> None:
    """As two readers are: the reference may be a run, too."""
    name = "BraTS20_Training_001"
    make_subject(tmp_path / "subjects", name, shape=(24, 20, 3))
    for run in ("one", "two"):
        predictions = tmp_path / run / "outputs" / "predictions"
        predictions.mkdir(parents=True)
        shutil.copy(tmp_path / "subjects" / name / f"{name}_seg.nii.gz", predictions / f"{name}.nii.gz")
    done = synthkit(
        "evaluate", "dice", "--reference", tmp_path / "one", "--prediction", tmp_path / "two", "--json",
        "-o", tmp_path / "run",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    means = [s["value"] for s in json.loads(done.stdout)["result"]["scores"] if s["name"] == "dice_mean"]
    assert means and set(means) <= {1.0, None}
