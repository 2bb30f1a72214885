# ruff: noqa: E402 (imports follow the check for torch)
"""Official snapshots: a generator of ours, written under the official names, draws the same images once imported."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from synthkit_generative.foreign.checkpoints import Network
from synthkit_generative.foreign.testing import write_snapshot
from synthkit_generative.testing import assert_begins_with
from synthkit_stylegan3 import Params, model
from synthkit_stylegan3.networks import Generator

from synthkit.data.dataset import Dataset
from synthkit.errors import DataError, ExitCode

INPUT = {"weight": "weight", "frequencies": "freqs", "phases": "phases", "motion": "affine"}
LAYER = {"weight": "weight", "bias": "bias", "magnitude": "magnitude_ema", "style": "affine"}


def _official(generator: Generator, w_mean: torch.Tensor, **settings: Any) -> Network:
    """The generator under the official names, with some of the buffers that follow from the architecture."""
    architecture = generator.architecture
    tensors = {"mapping.w_avg": w_mean, "synthesis.input.transform": torch.eye(3)}
    for number, layer in enumerate(generator.mapping.layers):
        tensors |= {f"mapping.fc{number}.weight": layer.weight, f"mapping.fc{number}.bias": layer.bias}
    for name, tensor in generator.features.state_dict().items():
        first, dot, rest = name.partition(".")
        tensors[f"synthesis.input.{INPUT[first]}{dot}{rest}"] = tensor
    sides = [maps.side for maps in architecture.maps[1:]] + [architecture.size]
    for number, (layer, side) in enumerate(zip([*generator.layers, generator.to_image], sides, strict=True)):
        prefix = f"synthesis.L{number}_{side}_{len(layer.bias)}"
        tensors[f"{prefix}.up_filter"] = torch.ones(12)
        for name, tensor in layer.state_dict().items():
            first, dot, rest = name.partition(".")
            tensors[f"{prefix}.{LAYER[first]}{dot}{rest}"] = tensor
    made_with = {
        "z_dim": architecture.latent,
        "w_dim": architecture.latent,
        "img_resolution": architecture.size,
        "img_channels": architecture.channels,
        "c_dim": 0,
        "channel_base": architecture.channel_base,
        "channel_max": architecture.channel_max,
        "magnitude_ema_beta": 0.999,
        "mapping_kwargs": {"num_layers": architecture.mapping_layers},
        **({"conv_kernel": 1, "use_radial_filters": True} if architecture.radial else {}),
    }
    return Network("Generator", {**made_with, **settings}, tensors)


def _generator(config: str) -> tuple[Generator, torch.Tensor]:
    torch.manual_seed(1)
    params = Params(config=config, channel_base=256, channel_max=8, latent=16)
    generator = Generator(model.make_architecture(32, 3, params)).requires_grad_(False)
    for layer in generator.layers:
        layer.bias.normal_()
        layer.magnitude.fill_(1.5)
    return generator, torch.randn(16)


@pytest.mark.parametrize("config", ["t", "r"])
def test_an_imported_generator_draws_the_same_images(config: str, tmp_path: Path) -> None:
    generator, w_mean = _generator(config)
    write_snapshot(tmp_path / "a.pkl", {"G_ema": _official(generator, w_mean)})
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    side = model.import_checkpoint(tmp_path / "a.pkl", folder, contrasts=("t1", "t2"), label_values=(0, 4))
    assert side == 32
    imported, mean, encoding = model._load(folder, torch.device("cpu"))
    assert dataclasses.asdict(imported.architecture) == dataclasses.asdict(generator.architecture)
    assert encoding.label_values == (0, 4)
    z = torch.randn(2, 16)
    assert torch.equal(imported(z, mean, 0.7), generator(z, w_mean, 0.7))
    ((image, labels),) = model.generate(folder, [3], Params())
    assert image.shape == (2, 32, 32) and labels.shape == (32, 32)


def test_a_training_begins_with_an_official_snapshot(tmp_path: Path) -> None:
    """Whose network has other layers than the parameters say: that of the file is trained."""
    generator, w_mean = _generator("t")
    write_snapshot(tmp_path / "a.pkl", {"G_ema": _official(generator, w_mean)})
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    model.import_checkpoint(tmp_path / "a.pkl", folder, contrasts=("t1", "flair"), label_values=(0, 4))
    params = Params(kimg=0.016, batch_size=4, latent=8, channel_base=128, channel_max=4)
    assert_begins_with(model.train, folder, tmp_path, params)
    trained = tmp_path / "begun-0.016"
    found, _, _ = model._load(trained, torch.device("cpu"))
    assert dataclasses.asdict(found.architecture) == dataclasses.asdict(generator.architecture)
    # What is trained further from it is still of the file's network.
    (tmp_path / "again").mkdir()
    assert_begins_with(model.train, trained, tmp_path / "again", params)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"c_dim": 3}, "c_dim is 3"),
        ({"filter_size": 4}, "filter_size is 4"),
        ({"channel_max": 4}, "size mismatch"),
        ({"img_channels": 6}, "draws 6 channels"),
        ({"fused_modconv_default": "inference_only"}, "holds a generator of stylegan2.*Import it as stylegan2"),
        ({"img_resolution": None}, "does not hold a generator of StyleGAN3"),
    ],
)
def test_other_networks_are_refused_with_a_reason(settings: dict[str, Any], reason: str, tmp_path: Path) -> None:
    generator, w_mean = _generator("t")
    write_snapshot(tmp_path / "a.pkl", {"G_ema": _official(generator, w_mean, **settings)})
    (tmp_path / "checkpoint").mkdir()
    with pytest.raises(DataError, match=reason):
        model.import_checkpoint(tmp_path / "a.pkl", tmp_path / "checkpoint", contrasts=("t1", "t2"), label_values=(0,))
    assert list((tmp_path / "checkpoint").iterdir()) == []


def _synthkit(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "synthkit", *map(str, arguments), "--backend", "inline", "--quiet"]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_the_command_imports_and_generates(tmp_path: Path) -> None:
    generator, w_mean = _generator("t")
    write_snapshot(tmp_path / "a.pkl", {"G_ema": _official(generator, w_mean)})
    run = tmp_path / "run"
    done = _synthkit("import-checkpoint", "stylegan3", tmp_path / "a.pkl", "-o", run, "--contrasts", "t2,t1")
    assert done.returncode == 0, done.stderr
    done = _synthkit("generate", run, "--seeds", "5,6", "-o", tmp_path / "samples")
    assert done.returncode == 0, done.stderr
    made = Dataset(tmp_path / "samples")
    assert made.contrasts == ("t2", "t1") and made.label_values == (0, 1, 2, 4) and len(made) == 2
    ((image, _),) = model.generate(run / "outputs" / "checkpoint", [5], Params())
    assert np.array_equal(made.read([0])[0][0], image)


def test_the_command_refuses_a_hostile_file(tmp_path: Path) -> None:
    (tmp_path / "a.pkl").write_bytes(b"cposix\nmkdir\n(V" + str(tmp_path / "hit").encode() + b"\ntR.")
    run = tmp_path / "run"
    done = _synthkit("import-checkpoint", "stylegan3", tmp_path / "a.pkl", "-o", run, "--contrasts", "t1")
    assert done.returncode == ExitCode.INVALID_DATA and "it names posix.mkdir" in done.stderr
    assert not (tmp_path / "hit").exists()
