# ruff: noqa: E402 (imports follow the check for torch)
"""The commands around a training: longer after its end, drawn from before it, another that begins with it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from safetensors.torch import load_file
from typer.testing import CliRunner

from synthkit.cli import app
from synthkit.data.dataset import Dataset
from synthkit.data.writer import DatasetWriter
from synthkit.errors import UsageError
from synthkit.schemes import BRATS
from synthkit.testing import data

TINY = ("batch_size=4", "channel_base=128", "channel_max=8", "mapping_layers=2", "keep_kimg=0.008", "snapshot_kimg=0")


def synthkit(*arguments: object) -> None:
    done = CliRunner().invoke(app, [*map(str, arguments), "--backend", "inline", "--quiet"], catch_exceptions=False)
    assert done.exit_code == 0, done.output


def refused(*arguments: object) -> str:
    """What the command says, which is that it was called wrongly."""
    done = CliRunner().invoke(app, [*map(str, arguments), "--backend", "inline", "--quiet"])
    assert isinstance(done.exception, UsageError), done.output
    return f"{done.exception} {done.exception.details}"


def make_dataset(path: Path, seed: int) -> Path:
    images, labels = data.slices(8, 4, 32, seed=seed)
    rows = [{"id": f"{seed}_{z}", "split": "train", "subject": f"p{seed}", "slice": z} for z in range(8)]
    with DatasetWriter(path, contrasts=BRATS.contrast_names, scheme=BRATS, size=(32, 32)) as writer:
        writer.append(images, labels, rows)
    return path


def test_a_run_is_made_longer_drawn_from_and_begun_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # execute sets it; this sets it back
    tiny = [word for value in TINY for word in ("-p", value)]
    real, other = make_dataset(tmp_path / "real", 1), make_dataset(tmp_path / "other", 2)
    train = ("train", "stylegan2", real, *tiny)
    synthkit(*train, "-p", "kimg=0.024", "-o", tmp_path / "long")
    synthkit(*train, "-p", "kimg=0.012", "-o", tmp_path / "run")
    outputs = tmp_path / "run" / "outputs"
    # What has seen the real images lies apart from the checkpoint, which may be shared.
    assert (outputs / "state" / "training.safetensors").is_file() and not (outputs / "checkpoint" / "state").exists()
    synthkit(*train, "-p", "kimg=0.024", "-o", tmp_path / "run", "--resume")
    long, run = (
        load_file(tmp_path / name / "outputs" / "checkpoint" / "generator.safetensors") for name in ("long", "run")
    )
    assert all(torch.equal(long[name], run[name]) for name in long)

    synthkit("generate", tmp_path / "run", "--snapshot", "0.016", "--seeds", "0-1", "-o", tmp_path / "early")
    synthkit("generate", tmp_path / "run", "--seeds", "0-1", "-o", tmp_path / "late")
    assert Dataset(tmp_path / "early").lineage["unfinished"] == {"images": 16}
    assert Dataset(tmp_path / "early").digest != Dataset(tmp_path / "late").digest

    synthkit("train", "stylegan2", other, "--from", tmp_path / "run", "-p", "kimg=0.008", "-o", tmp_path / "tuned")
    job = json.loads((tmp_path / "tuned" / "job.json").read_text())
    assert {*job["inputs"]} == {"data", "initial", "initial_state"} and job["params"]["channel_max"] == 8
    notes = json.loads((tmp_path / "tuned" / "outputs" / "checkpoint" / "synthkit.json").read_text())
    assert [entry["digest"] for entry in notes["training_datasets"]] == [Dataset(p).digest for p in (other, real)]

    frozen = ("train", "stylegan2", other, "-p", "kimg=0.008", "-p", "frozen_layers=4")
    assert "begins anew" in refused(*frozen, *tiny, "-o", tmp_path / "frozen")
    (tmp_path / "copy").mkdir()
    shared = (outputs / "checkpoint").rename(tmp_path / "copy" / "checkpoint")
    assert "without the state" in refused(*frozen, "--from", shared, "-o", tmp_path / "frozen", "--overwrite")
    shared.rename(outputs / "checkpoint")
    synthkit(*frozen, "--from", tmp_path / "run", "-o", tmp_path / "frozen", "--overwrite")
