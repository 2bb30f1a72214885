# ruff: noqa: E402 (imports follow the check for torch)
"""Official networks: a generator of ours, written under the official names, draws the same images once imported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

import torch.nn.functional as F
from synthkit_generative.drawing import load
from synthkit_generative.foreign.checkpoints import Network
from synthkit_generative.foreign.testing import assert_import_is_refused, write_tensorflow
from synthkit_progan import Params, model
from synthkit_progan.networks import Architecture, Generator

MODULE, PARTS = "tfutil", ()
LOD = 0.25  # of 32 x 32 pixels a quarter is still to be faded in


def _generator() -> Generator:
    torch.manual_seed(1)
    generator = Generator(Architecture(32, 3, 256, 8)).requires_grad_(False)
    for name, parameter in generator.named_parameters():
        if name.endswith("bias"):
            parameter.normal_()
    return generator


def _official(generator: Generator, fused: bool, **settings: Any) -> Network:
    """The generator under the official names; ``fused`` as its default, else kernels of plain convolutions."""
    stored = {}
    first = generator.first
    stored |= {"lod": torch.tensor(LOD), "4x4/Dense/weight": first.weight.flatten(1), "4x4/Dense/bias": first.bias}

    def layer(name: str, norm: Any, mirrored: bool = False) -> None:
        kernel = norm.conv.weight
        stored[f"{name}/weight"] = kernel.flip(2, 3).permute(2, 3, 0, 1) if mirrored else kernel.permute(2, 3, 1, 0)
        stored[f"{name}/bias"] = norm.bias

    layer("4x4/Conv", generator.conv)
    for side, (up, conv) in zip(generator.architecture.resolutions[1:], generator.blocks, strict=True):
        layer(f"{side}x{side}/{'Conv0_up' if fused else 'Conv0'}", up, mirrored=fused)
        layer(f"{side}x{side}/Conv1", conv)
    for lod, to_image in enumerate(reversed(generator.to_image)):
        stored[f"ToRGB_lod{lod}/weight"] = to_image.weight.permute(2, 3, 1, 0)
        stored[f"ToRGB_lod{lod}/bias"] = to_image.bias
    made_with = {"num_channels": 3, "resolution": 32, "label_size": 0, "fmap_base": 128, "fmap_max": 8}
    return Network("G_paper", {**made_with, "fused_scale": fused, **settings}, stored)


@pytest.mark.parametrize("fused", [True, False])
def test_an_imported_generator_draws_the_same_images(fused: bool, tmp_path: Path) -> None:
    generator, folder = _generator(), tmp_path / "checkpoint"
    write_tensorflow(tmp_path / "a.pkl", _official(generator, fused), module=MODULE)
    folder.mkdir()
    assert model.import_checkpoint(tmp_path / "a.pkl", folder, contrasts=("t1", "t2"), label_values=(0, 4)) == 32
    config, tensors = load(folder)
    imported = Generator(Architecture(**config["architecture"]))
    assert imported.architecture == generator.architecture and tensors.pop("growth").tolist() == [3, 1 - LOD]
    imported.load_state_dict(tensors)
    z = torch.randn(2, 8)
    assert torch.equal(imported(z, 3, 0.75), generator(z, 3, 0.75))
    ((image, labels),) = model.generate(folder, [3], Params())
    assert image.shape == (2, 32, 32) and labels.shape == (32, 32)


def test_the_mirrored_kernel_of_a_transposed_convolution_is_that_of_repeated_pixels() -> None:
    """What the original does with its fused kernel (y, x, out, in), against what is made of it here."""
    stored, x = torch.randn(3, 3, 5, 4), torch.randn(1, 4, 6, 6)
    padded = F.pad(stored.permute(3, 2, 0, 1), (1, 1, 1, 1))  # (in, out, y, x)
    box = padded[..., 1:, 1:] + padded[..., :-1, 1:] + padded[..., 1:, :-1] + padded[..., :-1, :-1]
    original = F.conv_transpose2d(x, box, stride=2, padding=1)
    repeated = F.interpolate(x, scale_factor=2, mode="nearest")
    ours = F.conv2d(repeated, stored.permute(2, 3, 0, 1).flip(2, 3), padding=1)
    torch.testing.assert_close(ours, original, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["foo", "4x4/Conv", "%sx4/Conv/weight", "4x4/Dense"])
def test_other_variables_are_refused(name: str, tmp_path: Path) -> None:
    network = _official(_generator(), True)
    network.tensors[name] = torch.ones(2)
    reason = "does not hold a generator"
    assert_import_is_refused(model.import_checkpoint, network, tmp_path, reason, module=MODULE, parts=PARTS)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"label_size": 3}, "label_size is 3"),
        ({"use_pixelnorm": False}, "use_pixelnorm is False"),
        ({"latent_size": 4}, "differ in length"),
        ({"num_channels": 6}, "draws 6 channels"),
        ({"num_channels": 3.5}, r"num_channels is 3\.5"),
        ({"fmap_max": 2**40}, "fmap_max is 1099511627776"),
        ({"resolution": 33}, "a side of 33"),
        ({"resolution": 2**12}, "a side of 4096"),
        ({"resolution": 64}, "does not hold a generator of Progressive GAN"),
        ({"fmap_base": 64}, "does not hold a generator of Progressive GAN"),
        ({"fmap_base": 8, "fmap_max": 16}, "does not hold a generator of Progressive GAN"),
    ],
)
def test_other_networks_are_refused_with_a_reason(settings: dict[str, Any], reason: str, tmp_path: Path) -> None:
    network = _official(_generator(), True, **settings)
    assert_import_is_refused(model.import_checkpoint, network, tmp_path, reason, module=MODULE, parts=PARTS)
