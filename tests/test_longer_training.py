"""A training goes on after its end, begins with another one's weights, and can be drawn from before its end."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from synthkit import events
from synthkit.cli import app
from synthkit.data.dataset import Dataset
from synthkit.data.lineage import has_unknown_origin, was_trained_on
from synthkit.data.writer import DatasetWriter
from synthkit.errors import DataError, ExitCode, SynthkitError, UsageError
from synthkit.registry.registry import Registry
from synthkit.running.checkpoints import find_checkpoint, find_snapshot
from synthkit.running.run import Run, write_json
from synthkit.schemes import BRATS
from synthkit.testing import data
from synthkit.testing.toys import GENERATOR, SEGMENTER, SLICE_AUDIT, statistics

INLINE = ("--backend", "inline")


@pytest.fixture(autouse=True)
def _plugins(install_plugins: Callable[..., Registry], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # execute sets it; this sets it back
    install_plugins(GENERATOR, SEGMENTER, SLICE_AUDIT)


def synthkit(*arguments: object) -> tuple[int, str]:
    """The exit code and all that the command says, in this process."""
    done = CliRunner().invoke(app, list(map(str, arguments)))
    if isinstance(done.exception, SynthkitError):
        details = " ".join(done.exception.details)
        return done.exception.exit_code, f"{done.output}\n{done.exception}\n{details}"
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.output


def succeed(*arguments: object) -> str:
    code, said = synthkit(*arguments)
    assert code == ExitCode.OK, said
    return said


def notes_of(run: Path) -> dict[str, Any]:
    found = json.loads((run / "outputs" / "checkpoint" / "synthkit.json").read_text())
    assert isinstance(found, dict)
    return found


def make_dataset(path: Path, subjects: tuple[str, ...], seed: int) -> Path:
    """Four slices a subject; the last subject is held out."""
    images, labels = data.slices(4 * len(subjects), 4, 32, seed=seed)
    rows = [
        {"id": f"{name}_{z}", "split": "holdout" if name == subjects[-1] else "train", "subject": name, "slice": z}
        for name in subjects
        for z in range(4)
    ]
    with DatasetWriter(path, contrasts=BRATS.contrast_names, scheme=BRATS, size=(32, 32)) as writer:
        writer.append(images, labels, rows)
    return path


@pytest.fixture
def real(tmp_path: Path) -> Path:
    return make_dataset(tmp_path / "real", ("p0", "p1", "p2"), seed=5)


@pytest.fixture
def other(tmp_path: Path) -> Path:
    return make_dataset(tmp_path / "other", ("q0", "q1", "q2"), seed=6)


def test_a_finished_training_is_made_longer_by_resume(real: Path, tmp_path: Path) -> None:
    train = ("train", "toy-generator", real, *INLINE)
    succeed(*train, "-o", tmp_path / "long", "-p", "passes=5")
    succeed(*train, "-o", tmp_path / "short", "-p", "passes=2")
    code, said = synthkit(*train, "-o", tmp_path / "short", "-p", "passes=5")
    assert code == ExitCode.USAGE and "--resume" in said
    (tmp_path / "short" / "outputs" / "state").rename(tmp_path / "away")
    code, said = synthkit(*train, "-o", tmp_path / "short", "-p", "passes=5", "--resume")
    assert code == ExitCode.USAGE and "cannot be made longer" in said and "--from" in said
    (tmp_path / "away").rename(tmp_path / "short" / "outputs" / "state")
    succeed(*train, "-o", tmp_path / "short", "-p", "passes=5", "--resume")
    assert not (tmp_path / "short" / "outputs" / "checkpoint" / "state").exists()
    long, short = (Run(tmp_path / name) for name in ("long", "short"))
    assert short.result()["outputs"] == long.result()["outputs"]
    assert notes_of(short.path)["params"]["passes"] == 5

    code, said = synthkit(*train, "-o", short.path, "-p", "passes=3", "--resume")
    assert code == ExitCode.USAGE and "cannot be made shorter" in said and "passes=5 or more" in said
    code, said = synthkit(*train, "-o", short.path, "-p", "passes=5", "-p", "seed=1", "--resume")
    assert code == ExitCode.USAGE and "seed" in said and "--from" in said
    assert short.result()["status"] == "succeeded"  # a refusal leaves the run as it was
    succeed(*train, "-p", "seed=1", "--from", short.path, "-o", tmp_path / "new")


def test_the_printed_remedy_for_a_segmenter_that_cannot_be_made_longer_works(real: Path, tmp_path: Path) -> None:
    """The learning rate of a segmenter follows its length, so it is another training, with the weights of the first."""
    pytest.importorskip("monai", reason="monai is not installed")
    small = {
        "samples": 16,
        "batch_size": 4,
        "depth": 3,
        "filters": 4,
        "checkpoint_every": 8,
        "validation_fraction": 0.5,
    }
    options = [word for name, value in small.items() for word in ("-p", f"{name}={value}")]
    run, longer = tmp_path / "a run", tmp_path / "longer"
    train = ("train", "unet", real, *INLINE)
    succeed(*train, *options, "-o", run)
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    code, said = synthkit(*train, *options, "-p", "samples=32", "-o", run, "--resume")
    assert code == ExitCode.USAGE and "samples is fixed from the start of a training." in said
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before
    (command,) = re.findall(r"synthkit (train unet DATASET .* -o FOLDER)", said)
    words = {"DATASET": str(real), "FOLDER": str(longer)}
    succeed(*(words.get(word, word) for word in shlex.split(command)), *INLINE)
    assert notes_of(longer)["params"] == {**notes_of(run)["params"], "samples": 32}
    assert "initial" in Run(longer).job().inputs


def test_weights_of_an_unfinished_training_are_not_advised(real: Path, tmp_path: Path) -> None:
    """--from would refuse them."""
    run = tmp_path / "run"
    train = ("train", "toy-generator", real, "-o", run, *INLINE)
    succeed(*train)
    write_json(run / "result.json", {**Run(run).result(), "status": "failed"})
    code, said = synthkit(*train, "-p", "seed=1", "--resume")
    assert code == ExitCode.USAGE and "Once it has finished, a new training can begin" in said
    assert synthkit("train", "toy-generator", real, "--from", run, "-o", tmp_path / "x", *INLINE)[0] != ExitCode.OK


def test_a_training_that_began_with_another_has_learned_from_both(real: Path, other: Path, tmp_path: Path) -> None:
    public, own = tmp_path / "public", tmp_path / "own"
    succeed("train", "toy-generator", real, "-o", public, *INLINE, "-p", "passes=3")
    said = succeed("train", "toy-generator", other, "--from", public, "-o", own, *INLINE)
    assert f"begins with the weights of {public}" in said
    assert notes_of(own)["params"]["passes"] == 3  # its parameters hold
    assert [entry["digest"] for entry in notes_of(own)["training_datasets"]] == [
        Dataset(other).digest,
        Dataset(real).digest,
    ]
    succeed("generate", own, "--seeds", "0-3", "-o", tmp_path / "made", *INLINE)
    made = Dataset(tmp_path / "made")
    for dataset in (Dataset(real), Dataset(other)):
        assert all(was_trained_on(name, made.training_datasets) for name in dataset.training_part().subjects)

    audit = ("audit-memorization", other, tmp_path / "made", "--metric", "toy-nearest", *INLINE, "--dry-run")
    code, said = synthkit(*audit, "-o", tmp_path / "audit")
    assert code == ExitCode.INVALID_DATA and "1 more training set" in said and "--also-train" in said
    succeed(*audit, "--also-train", real, "-o", tmp_path / "audit")


def test_what_an_imported_generator_learned_before_stays_unknown(real: Path, tmp_path: Path) -> None:
    succeed("train", "toy-generator", real, "-o", tmp_path / "a", *INLINE)
    file = tmp_path / "a" / "outputs" / "checkpoint" / "model.json"
    channels = ",".join(Dataset(real).contrasts)
    succeed("import-checkpoint", "toy-generator", file, "--contrasts", channels, "-o", tmp_path / "b", *INLINE[:2])
    succeed("train", "toy-generator", real, "--from", tmp_path / "b", "-o", tmp_path / "c", *INLINE)
    succeed("generate", tmp_path / "c", "--seeds", "0-3", "-o", tmp_path / "made", *INLINE)
    made = Dataset(tmp_path / "made")
    assert made.lineage["imported"]["file"] == "model.json" and len(made.training_datasets) == 1
    assert has_unknown_origin([made.training_entry()])
    audit = ("audit-memorization", real, tmp_path / "made", "--metric", "toy-nearest", *INLINE)
    assert "what it was trained on before that is unknown" in succeed(*audit, "-o", tmp_path / "audit", "--dry-run")


@pytest.mark.parametrize(
    ("change", "said"),
    [({"size": [64, 64]}, "sides of images (y, x)"), ({"contrasts": ["t1", "flair"]}, "contrasts")],
)
def test_data_of_another_kind_are_refused_before_anything_starts(
    real: Path, change: dict[str, Any], said: str, tmp_path: Path
) -> None:
    succeed("train", "toy-segmenter", real, "-o", tmp_path / "a", *INLINE)
    found = notes_of(tmp_path / "a")
    write_json(tmp_path / "a" / "outputs" / "checkpoint" / "synthkit.json", {**found, **change})
    code, text = synthkit("train", "toy-segmenter", real, "--from", tmp_path / "a", "-o", tmp_path / "b", *INLINE)
    assert code == ExitCode.INVALID_DATA and f"Its {said} are" in text and not (tmp_path / "b").exists()


def test_other_plugins_weights_are_refused(real: Path, tmp_path: Path) -> None:
    succeed("train", "toy-segmenter", real, "-o", tmp_path / "a", *INLINE)
    code, said = synthkit("train", "toy-generator", real, "--from", tmp_path / "a", "-o", tmp_path / "b", *INLINE)
    assert code == ExitCode.USAGE and "is of toy-segmenter" in said
    code, said = synthkit("train", "toy-generator", real, "--from", real, "-o", tmp_path / "b", *INLINE)
    assert code == ExitCode.INVALID_DATA and "It is a dataset" in said


def test_samples_are_drawn_before_the_end(real: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train = ("train", "toy-generator", real, "-o", run, *INLINE, "-p", "passes=3")
    succeed(*train)
    checkpoint = run / "outputs" / "checkpoint"
    code, said = synthkit("generate", run, "--seeds", "0", "--snapshot", "latest", "-o", tmp_path / "x", *INLINE)
    assert code == ExitCode.USAGE and "has finished" in said
    code, said = synthkit("generate", run, "--seeds", "0", "--snapshot", "1", "-o", tmp_path / "x", *INLINE)
    assert code == ExitCode.INVALID_DATA and "leave --snapshot out" in said
    # As an interruption leaves it.
    n = len(Dataset(real).training_part())
    write_json(checkpoint / "synthkit.json", {**notes_of(run), "unfinished": True})
    write_json(checkpoint / "progress.json", {"images": 2 * n})
    write_json(run / "result.json", {**Run(run).result(), "status": "failed"})
    code, said = synthkit("generate", run, "--seeds", "0", "-o", tmp_path / "x", *INLINE)
    assert code == ExitCode.INVALID_DATA and "--resume" in said and "--snapshot latest" in said
    succeed("generate", run, "--seeds", "0-3", "--snapshot", "latest", "-o", tmp_path / "made", *INLINE)
    assert Dataset(tmp_path / "made").lineage["unfinished"] == {"images": 2 * n}
    succeed(*train, "--resume")
    assert "unfinished" not in notes_of(run)
    succeed("generate", run, "--seeds", "0", "-o", tmp_path / "whole", *INLINE)
    assert "unfinished" not in Dataset(tmp_path / "whole").lineage


def test_an_interrupted_training_is_drawn_from_as_it_is(
    real: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(step: int, total: int | None = None, **_: object) -> None:
        if step == 2:
            raise KeyboardInterrupt

    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(events, "progress", interrupt)
        patch.setattr(statistics.synthkit, "progress", interrupt)
        code, _ = synthkit("train", "toy-generator", real, "-o", run, *INLINE, "-p", "passes=5")
    assert code == ExitCode.INTERRUPTED
    succeed("generate", run, "--seeds", "0-3", "--snapshot", "latest", "-o", tmp_path / "made", *INLINE)
    assert Dataset(tmp_path / "made").lineage["unfinished"] == {"images": 2 * len(Dataset(real).training_part())}
    # The notes were written in the run; what it was trained on is what its job says.
    notes = run / "outputs" / "checkpoint" / "synthkit.json"
    write_json(notes, {**json.loads(notes.read_text()), "training_datasets": []})
    code, said = synthkit("generate", run, "--seeds", "0", "--snapshot", "latest", "-o", tmp_path / "x", *INLINE)
    assert code == ExitCode.INVALID_DATA and "training_datasets" in said
    succeed("train", "toy-generator", real, "-o", run, *INLINE, "-p", "passes=5", "--resume")
    succeed("generate", run, "--seeds", "0", "-o", tmp_path / "whole", *INLINE)


def test_snapshots_are_found_by_the_images_shown(tmp_path: Path) -> None:
    (tmp_path / "job.json").write_text("{}")
    for images in (400_000, 800_000):
        folder = tmp_path / "outputs" / "snapshots" / f"{images}"
        folder.mkdir(parents=True)
        write_json(folder / "synthkit.json", {"plugin": "toy", "unfinished": True})
        write_json(folder / "progress.json", {"images": images})
    assert find_snapshot(tmp_path, "400").name == "400000"
    assert find_snapshot(tmp_path, "latest").name == "800000"
    with pytest.raises(DataError, match="no snapshot of 500 kimg") as caught:
        find_snapshot(tmp_path, "500")
    assert "400, 800" in caught.value.why
    with pytest.raises(UsageError, match="is not a snapshot"):
        find_snapshot(tmp_path, "newest")
    with pytest.raises(DataError, match="no trained model"):
        find_checkpoint(tmp_path / "outputs" / "snapshots" / "400000")
    (tmp_path / "outputs" / "snapshots" / "400000" / "progress.json").write_text("{")
    with pytest.raises(DataError, match=r"cannot be read"):
        find_snapshot(tmp_path, "latest")


def test_a_training_that_saved_nothing_says_so(tmp_path: Path) -> None:
    (tmp_path / "job.json").write_text("{}")
    with pytest.raises(DataError, match="no snapshot") as caught:
        find_snapshot(tmp_path, "latest")
    assert "has saved nothing yet" in caught.value.why
    with pytest.raises(DataError) as caught:
        find_snapshot(tmp_path / "none", "latest")
    assert "not a run" in caught.value.why
