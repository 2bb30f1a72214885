"""The command line: weights to begin with, and real samples to validate on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("transformers", reason="transformers is not installed")
safetensors = pytest.importorskip("safetensors.torch", reason="safetensors is not installed")

from synthkit_segmentation.recipe import Task  # noqa: E402
from synthkit_swin.network import build_network  # noqa: E402

from synthkit.running.run import file_digest  # noqa: E402
from synthkit.testing import data  # noqa: E402

TINY = [f"-p{text}" for text in ("backbone=nano", "head_channels=16", "samples=8", "batch_size=4")]


def synthkit(*arguments: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "SYNTHKIT_BACKEND": "inline"}
    command = [sys.executable, "-m", "synthkit", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def test_synthetic_arm_with_real_validation_and_pretrained_weights(tmp_path: Path) -> None:
    real, synthetic = data.real_dataset(4, 32), data.synthetic_dataset(4, 32)
    swin = build_network(Task(3, 2, (32, 32)), "nano", torch.device("cpu"), head_channels=16).backbone.swin
    weights = tmp_path / "swin.safetensors"
    safetensors.save_file(dict(swin.named_parameters()), weights)
    run = tmp_path / "run"
    done = synthkit(
        "train", "swin", synthetic.path, "--validate-on", real.path, "--pretrained", weights, "-o", run, *TINY
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    job = json.loads((run / "job.json").read_text())
    assert job["inputs"]["pretrained"]["digest"] == file_digest(weights)
    assert job["inputs"]["validation"]["digest"] == real.digest
    config = json.loads((run / "outputs" / "checkpoint" / "config.json").read_text())
    assert config["training_samples"] == len(synthetic)  # nothing of it is kept for validation
    assert config["validation_samples"] > 0


@pytest.mark.parametrize(
    ("plugin", "option", "words"),
    [
        ("unet", "--pretrained", "unet takes no --pretrained"),
        ("stylegan2", "--validate-on", "stylegan2 takes no --validate-on"),
        ("swin", "--validate-on", "is synthetic"),
    ],
)
def test_options_that_do_not_fit_are_refused(tmp_path: Path, plugin: str, option: str, words: str) -> None:
    synthetic = data.synthetic_dataset(4, 32)
    done = synthkit("train", plugin, synthetic.path, option, synthetic.path, "-o", tmp_path / "run")
    assert done.returncode == 2
    assert words in " ".join(done.stderr.split())
