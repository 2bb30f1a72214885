# ruff: noqa: E402 (imports follow the check for torch)
"""Official snapshots: a generator of ours, written under the official names, draws the same images once imported."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from synthkit_generative.foreign.checkpoints import Network
from synthkit_generative.foreign.testing import write_snapshot
from synthkit_generative.testing import assert_begins_with
from synthkit_stylegan2 import Params, model
from synthkit_stylegan2.networks import Architecture, Generator

from synthkit.errors import DataError

LEAVES = {"weight": "weight", "bias": "bias", "noise_strength": "noise_strength", "style": "affine"}


def _official(generator: Generator, w_mean: torch.Tensor, nested: bool, **settings: Any) -> Network:
    """The generator under the official names, with some of the buffers that follow from the architecture.

    ``nested`` as in StyleGAN2-ADA, whose settings of the synthesis are apart.
    """
    architecture = generator.architecture
    tensors = {"mapping.w_avg": w_mean, "synthesis.b4.const": generator.constant}
    for number, layer in enumerate(generator.mapping.layers):
        tensors |= {f"mapping.fc{number}.weight": layer.weight, f"mapping.fc{number}.bias": layer.bias}
    for level, side in enumerate(architecture.resolutions):
        convs = {"conv1": generator.convs[2 * level], "torgb": generator.to_image[level]}
        if level:
            convs["conv0"] = generator.convs[2 * level - 1]
        for child, layer in convs.items():
            for name, tensor in layer.state_dict().items():
                first, dot, rest = name.partition(".")
                mirrored = child == "conv0" and name == "weight"
                official = f"synthesis.b{side}.{child}.{LEAVES[first]}{dot}{rest}"
                tensors[official] = tensor.flip(2, 3) if mirrored else tensor
            tensors[f"synthesis.b{side}.{child}.resample_filter"] = torch.ones(4, 4)
            tensors[f"synthesis.b{side}.{child}.noise_const"] = torch.ones(side, side)
    of_synthesis = {"channel_base": architecture.channel_base, "channel_max": architecture.channel_max}
    of_synthesis |= {"num_fp16_res": 4, "conv_clamp": 256}
    made_with = {
        "z_dim": architecture.latent,
        "w_dim": architecture.style,
        "img_resolution": architecture.size,
        "img_channels": architecture.channels,
        "c_dim": 0,
        "mapping_kwargs": {"num_layers": architecture.mapping_layers},
        **(
            {"synthesis_kwargs": of_synthesis}
            if nested
            else {**of_synthesis, "fused_modconv_default": "inference_only"}
        ),
    }
    return Network("Generator", {**made_with, **settings}, tensors)


def _generator(**lengths: int) -> tuple[Generator, torch.Tensor]:
    torch.manual_seed(1)
    architecture = Architecture(32, 3, 256, 8, 2, black_outside=False, **lengths)
    generator = Generator(architecture).requires_grad_(False)
    for conv in generator.convs:
        conv.bias.normal_()
        conv.noise_strength.fill_(0.3)
    return generator, torch.randn(architecture.style)


@pytest.mark.parametrize("nested", [False, True], ids=["stylegan3 code", "stylegan2-ada code"])
def test_an_imported_generator_draws_the_same_images(nested: bool, tmp_path: Path) -> None:
    generator, w_mean = _generator()
    write_snapshot(tmp_path / "a.pkl", {"G_ema": _official(generator, w_mean, nested)})
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    assert model.import_checkpoint(tmp_path / "a.pkl", folder, contrasts=("t1", "t2"), label_values=(0, 4)) == 32
    imported, mean, encoding = model._load(folder, torch.device("cpu"))
    assert imported.architecture == generator.architecture and encoding.label_values == (0, 4)
    z, noise = torch.randn(2, 8), [torch.randn(2, 1, side, side) for side in imported.architecture.noise_sizes]
    assert torch.equal(imported(z, noise, mean, 0.7), generator(z, noise, w_mean, 0.7))
    ((image, labels),) = model.generate(folder, [3], Params())
    assert image.shape == (2, 32, 32) and labels.shape == (32, 32)


@pytest.mark.parametrize("lengths", [{"z_length": 12, "w_length": 12}, {"z_length": 6}, {"w_length": 10}])
def test_latents_may_have_other_lengths_than_the_widest_layer(lengths: dict[str, int], tmp_path: Path) -> None:
    """As of the official code with --cmax: z and w keep their 512 numbers."""
    generator, w_mean = _generator(**lengths)
    write_snapshot(tmp_path / "a.pkl", {"G_ema": _official(generator, w_mean, False)})
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    model.import_checkpoint(tmp_path / "a.pkl", folder, contrasts=("t1", "t2"), label_values=(0, 4))
    imported, mean, _ = model._load(folder, torch.device("cpu"))
    assert imported.architecture == generator.architecture
    z = torch.randn(2, imported.architecture.latent)
    noise = [torch.randn(2, 1, side, side) for side in imported.architecture.noise_sizes]
    assert torch.equal(imported(z, noise, mean, 0.7), generator(z, noise, w_mean, 0.7))
    ((image, _),) = model.generate(folder, [3], Params())
    assert image.shape == (2, 32, 32)


def test_a_training_begins_with_an_official_snapshot(tmp_path: Path) -> None:
    """Whose network has other layers than the parameters say: that of the file is trained."""
    generator, w_mean = _generator()
    write_snapshot(tmp_path / "a.pkl", {"G_ema": _official(generator, w_mean, False)})
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    model.import_checkpoint(tmp_path / "a.pkl", folder, contrasts=("t1", "flair"), label_values=(0, 4))
    params = Params(kimg=0.016, batch_size=4, channel_base=128, channel_max=4)
    assert_begins_with(model.train, folder, tmp_path, params)
    trained = tmp_path / "begun-0.016"
    found, _, _ = model._load(trained, torch.device("cpu"))
    assert dataclasses.asdict(found.architecture) == dataclasses.asdict(generator.architecture)
    # What is trained further from it is still of the file's network.
    (tmp_path / "again").mkdir()
    assert_begins_with(model.train, trained, tmp_path / "again", params)


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    generator, w_mean = _generator()
    generator.convs[1].bias[2] = torch.nan
    write_snapshot(tmp_path / "a.pkl", {"G_ema": _official(generator, w_mean, False)})
    (tmp_path / "checkpoint").mkdir()
    with pytest.raises(DataError, match=r"not finite.*1 of \d+ tensors, such as convs\.1\.bias"):
        model.import_checkpoint(tmp_path / "a.pkl", tmp_path / "checkpoint", contrasts=("t1", "t2"), label_values=(0,))
    assert list((tmp_path / "checkpoint").iterdir()) == []


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"c_dim": 3}, "c_dim is 3"),
        ({"architecture": "resnet"}, "architecture is 'resnet'"),
        ({"z_dim": 4}, "does not hold a generator of StyleGAN2"),
        ({"img_channels": 6}, "draws 6 channels"),
        ({"magnitude_ema_beta": 0.999}, "holds a generator of stylegan3.*Import it as stylegan3"),
        ({"mapping_kwargs": {"num_layers": 4}}, "does not hold a generator of StyleGAN2"),
    ],
)
def test_other_networks_are_refused_with_a_reason(settings: dict[str, Any], reason: str, tmp_path: Path) -> None:
    write_snapshot(tmp_path / "a.pkl", {"G_ema": _official(*_generator(), False, **settings)})
    (tmp_path / "checkpoint").mkdir()
    with pytest.raises(DataError, match=reason):
        model.import_checkpoint(tmp_path / "a.pkl", tmp_path / "checkpoint", contrasts=("t1", "t2"), label_values=(0,))
    assert list((tmp_path / "checkpoint").iterdir()) == []
