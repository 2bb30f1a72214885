# ruff: noqa: E402 (imports follow the check for torch)
"""Official networks: a generator of ours, written under the official names, draws the same images once imported."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from synthkit_generative.drawing import load
from synthkit_generative.foreign.checkpoints import Network
from synthkit_generative.foreign.testing import assert_import_is_refused, write_tensorflow
from synthkit_stylegan1 import Params, model, official
from synthkit_stylegan1.networks import Architecture, Generator

MODULE, PARTS = "dnnlib.tflib.network", ("mapping", "synthesis")


def _generator() -> Generator:
    torch.manual_seed(1)
    generator = Generator(Architecture(32, 3, 256, 8, 2)).requires_grad_(False)
    for name, parameter in generator.named_parameters():
        if name.endswith(("bias", "noise_strength", "constant")):
            parameter.normal_()
    return generator


def _official(generator: Generator, fused: str | bool, **settings: Any) -> Network:
    """The generator under the official names; mirrored kernels where the original fuses."""
    stored = {"lod": torch.tensor(1.5), "dlatent_avg": torch.linspace(-1, 1, 8)}
    for number, linear in enumerate(generator.mapping.layers):
        stored[f"mapping/Dense{number}/weight"] = linear.weight.T
        stored[f"mapping/Dense{number}/bias"] = linear.bias * math.sqrt(2)

    def styled(name: str, layer: Any) -> None:
        stored[f"{name}/Noise/weight"], stored[f"{name}/bias"] = layer.noise_strength, layer.bias
        stored[f"{name}/StyleMod/weight"] = layer.style.weight.T
        scale, bias = layer.style.bias.chunk(2)
        stored[f"{name}/StyleMod/bias"] = torch.cat([scale - 1, bias])

    def convolution(name: str, conv: Any, layer: Any, mirrored: bool = False) -> None:
        kernel = conv.weight.flip(2, 3) if mirrored else conv.weight
        stored[f"{name}/weight"] = kernel.permute(2, 3, 1, 0)
        styled(name, layer)

    stored["synthesis/lod"], stored["synthesis/noise0"] = torch.tensor(0.0), torch.randn(1, 1, 4, 4)
    stored["synthesis/4x4/Const/const"] = generator.constant[None]
    styled("synthesis/4x4/Const", generator.layer0)
    convolution("synthesis/4x4/Conv", generator.conv1, generator.layer1)
    for side, block in zip(generator.architecture.resolutions[1:], generator.blocks, strict=True):
        convolution(f"synthesis/{side}x{side}/Conv0_up", block.conv0, block.layer0, mirrored=fused is True)
        convolution(f"synthesis/{side}x{side}/Conv1", block.conv1, block.layer1)
    for lod, to_image in enumerate(reversed(generator.to_image)):
        stored[f"synthesis/ToRGB_lod{lod}/weight"] = to_image.weight.permute(2, 3, 1, 0)
        stored[f"synthesis/ToRGB_lod{lod}/bias"] = to_image.bias
    sizes = dict.fromkeys(("fmap_max", "latent_size", "dlatent_size", "mapping_fmaps"), 8)
    made_with = {"num_channels": 3, "resolution": 32, "label_size": 0, "fmap_base": 128, "mapping_layers": 2, **sizes}
    return Network("G_style", {**made_with, "fused_scale": fused, **settings}, stored)


@pytest.mark.parametrize("fused", ["auto", True, False])
def test_an_imported_generator_draws_the_same_images(fused: str | bool, tmp_path: Path) -> None:
    generator, folder = _generator(), tmp_path / "checkpoint"
    network = _official(generator, fused)
    write_tensorflow(tmp_path / "a.pkl", network, module=MODULE, parts=PARTS)
    folder.mkdir()
    assert model.import_checkpoint(tmp_path / "a.pkl", folder, contrasts=("t1", "t2"), label_values=(0, 4)) == 32
    config, tensors = load(folder)
    imported = Generator(Architecture(**config["architecture"]))
    assert imported.architecture == generator.architecture and tensors.pop("growth").tolist() == [2, 0.5]
    w_mean = tensors.pop("w_mean")
    assert torch.equal(w_mean, network.tensors["dlatent_avg"])
    imported.load_state_dict(tensors)
    z = torch.randn(2, 8)
    noise = [torch.randn(2, 1, side, side) for side in imported.architecture.noise_sizes]
    images = [
        net.synthesis(net.styles(z, w_mean, 0.7, 8), noise, level, alpha).detach()
        for level, alpha in ((2, 0.5), (3, 1.0))
        for net in (imported, generator)
    ]
    torch.testing.assert_close(images[0], images[1])  # biases of the mapping come back within rounding
    torch.testing.assert_close(images[2], images[3])
    ((image, labels),) = model.generate(folder, [3], Params())
    assert image.shape == (2, 32, 32) and labels.shape == (32, 32)


@pytest.mark.parametrize("shape", [(), (1,), (3,), (8, 8)], ids=str)
def test_a_mean_of_other_latents_is_refused(shape: tuple[int, ...], tmp_path: Path) -> None:
    network = _official(_generator(), "auto")
    network.tensors["dlatent_avg"] = torch.zeros(shape)
    reason = "mean of its latents has the shape"
    assert_import_is_refused(model.import_checkpoint, network, tmp_path, reason, module=MODULE, parts=PARTS)


@pytest.mark.parametrize(
    ("setting", "sides"), [("auto", [128, 256]), (True, [8, 16, 32, 64, 128, 256]), (False, []), (None, [128, 256])]
)
def test_the_original_fuses_from_128_pixels_on(setting: Any, sides: list[int]) -> None:
    network = Network("G_style", {} if setting is None else {"fused_scale": setting}, {})
    assert [side for side in (8, 16, 32, 64, 128, 256) if official.is_fused(network, side)] == sides


@pytest.mark.parametrize("name", ["synthesis/4x4/Conv", "synthesis/%sx4/Conv/weight", "mapping/Dense9"])
def test_other_variables_are_refused(name: str, tmp_path: Path) -> None:
    network = _official(_generator(), True)
    network.tensors[name] = torch.ones(2)
    reason = "does not hold a generator"
    assert_import_is_refused(model.import_checkpoint, network, tmp_path, reason, module=MODULE, parts=PARTS)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"label_size": 3}, "label_size is 3"),
        ({"blur_filter": None}, "blur_filter is None"),
        ({"dlatent_size": 4}, "differ in length"),
        ({"num_channels": 6}, "draws 6 channels"),
        ({"num_channels": 3.5}, r"num_channels is 3\.5"),
        ({"fmap_max": 2**40}, "fmap_max is 1099511627776"),
        ({"resolution": 33}, "a side of 33"),
        ({"resolution": 2**12}, "a side of 4096"),
        ({"resolution": 64}, "does not hold a generator of StyleGAN"),
        ({"mapping_layers": 3}, "does not hold a generator of StyleGAN"),
    ],
)
def test_other_networks_are_refused_with_a_reason(settings: dict[str, Any], reason: str, tmp_path: Path) -> None:
    network = _official(_generator(), "auto", **settings)
    assert_import_is_refused(model.import_checkpoint, network, tmp_path, reason, module=MODULE, parts=PARTS)
