"""The network, its input and its loss, against values worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("monai", reason="monai is not installed")

from synthkit_unet.model import learning_rate  # noqa: E402
from synthkit_unet.network import (  # noqa: E402
    Architecture,
    _make_network,
    build_network,
    deep_supervision_weights,
    dice_loss,
    normalise,
    outputs_of,
    pad_to_stride,
    training_loss,
    usable_depth,
)

CPU = torch.device("cpu")


def test_deep_supervision_weights_of_the_study() -> None:
    # Five outputs at depth 6: 1, 1/2, 1/4, 1/8, 0, divided by their sum 15/8.
    assert deep_supervision_weights(5) == pytest.approx([8 / 15, 4 / 15, 2 / 15, 1 / 15])
    assert deep_supervision_weights(3) == pytest.approx([2 / 3, 1 / 3])
    assert deep_supervision_weights(2) == [1.0]


def test_network_of_the_study_has_its_widths_and_outputs() -> None:
    architecture = Architecture(contrasts=4, classes=4, depth=6, filters=64)
    assert architecture.widths == [64, 128, 256, 512, 1024, 2048]
    assert architecture.stride == 32
    small = Architecture(contrasts=2, classes=3, depth=6, filters=2)
    outputs = outputs_of(build_network(small, CPU), torch.zeros(1, 2, 128, 128))
    assert [tuple(output.shape) for output in outputs] == [(1, 3, s, s) for s in (128, 64, 32, 16)]


def test_filters_stop_at_2048() -> None:
    assert Architecture(contrasts=1, classes=2, depth=8, filters=64).widths[-3:] == [2048, 2048, 2048]


def test_network_on_a_cpu_computes_what_instance_norm_would() -> None:
    architecture = Architecture(contrasts=2, classes=3, depth=4, filters=4)
    ours, plain = build_network(architecture, CPU, seed=1), _make_network(architecture)
    assert any(isinstance(module, torch.nn.InstanceNorm2d) for module in plain.modules())
    assert not any(isinstance(module, torch.nn.InstanceNorm2d) for module in ours.modules())
    # A checkpoint goes from one to the other by these names.
    plain_parameters = dict(plain.named_parameters())
    assert plain_parameters.keys() == dict(ours.named_parameters()).keys()
    with torch.no_grad():
        for name, parameter in ours.named_parameters():
            if "norm" in name:
                parameter.add_(torch.linspace(-0.5, 0.5, len(parameter)))
            plain_parameters[name].copy_(parameter)
    x = torch.randn(2, 2, 32, 32, generator=torch.Generator().manual_seed(0))
    for one, other in zip(outputs_of(ours, x), outputs_of(plain, x), strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_weights_belong_to_the_seed_and_leave_the_global_generator_alone() -> None:
    architecture = Architecture(contrasts=1, classes=2, depth=3, filters=2)
    before = torch.get_rng_state()
    a, b, c = (next(build_network(architecture, CPU, seed).parameters()) for seed in (1, 1, 2))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("depth", "size", "expected"),
    [(6, (256, 256), 6), (8, (256, 256), 7), (6, (64, 64), 5), (6, (32, 32), 4), (6, (64, 33), 4), (6, (8, 8), 3)],
)
def test_depth_leaves_four_pixels(depth: int, size: tuple[int, int], expected: int) -> None:
    assert usable_depth(depth, size) == expected


def test_padding_to_the_stride_and_to_four_pixels_below() -> None:
    assert pad_to_stride(torch.zeros(1, 2, 30, 33), 8).shape == (1, 2, 32, 40)
    assert pad_to_stride(torch.zeros(3, 5, 16), 8).shape == (3, 32, 32)
    assert pad_to_stride(torch.ones(1, 32, 32), 8).sum() == 32 * 32


def test_normalise_known_answer() -> None:
    image = torch.tensor([[[[0, 10], [20, 30]], [[4, 100], [100, 200]]]], dtype=torch.uint8)
    # Pixel (0, 0) is background: 0 and 4 are not above 4. Channel 1: mean 20, deviation sqrt(200 / 3).
    # Channel 2: mean 400 / 3, deviation sqrt((2 * (100/3)**2 + (200/3)**2) / 3) = sqrt(20000 / 9).
    a, b = 10 / math.sqrt(200 / 3), 1 / math.sqrt(20000 / 9)
    expected = torch.tensor([[[[0, -a], [0, a]], [[0, -100 / 3 * b], [-100 / 3 * b, 200 / 3 * b]]]])
    torch.testing.assert_close(normalise(image), expected)


def test_normalise_ignores_a_background_that_is_not_quite_zero() -> None:
    rng = np.random.default_rng(0)
    clean = np.zeros((1, 2, 16, 16), np.uint8)
    clean[:, :, 4:12, 4:12] = rng.integers(50, 200, (1, 2, 8, 8))
    noisy = clean + (clean == 0) * rng.integers(0, 5, clean.shape).astype(np.uint8)
    assert (noisy != clean).any()
    torch.testing.assert_close(normalise(torch.from_numpy(noisy)), normalise(torch.from_numpy(clean)))


@pytest.mark.parametrize("value", [0, 3, 120])
def test_normalise_constant_image_is_zero(value: int) -> None:
    assert (normalise(torch.full((2, 3, 8, 8), value, dtype=torch.uint8)) == 0).all()


def test_normalise_does_not_depend_on_the_batch() -> None:
    images = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (7, 4, 20, 20)).astype(np.uint8))
    together = normalise(images)
    for i in range(7):
        assert torch.equal(normalise(images[i : i + 1])[0], together[i])


def test_dice_loss_by_hand() -> None:
    # Two pixels, classes 1 and 2 of 3, probabilities (1/4, 1/2, 1/4) at both.
    logits = torch.log(torch.tensor([1.0, 2.0, 1.0]))[None, :, None, None].expand(1, 3, 1, 2)
    classes = torch.tensor([[[1, 2]]], dtype=torch.uint8)
    # Class 1: 2 * 0.5 / (1 + 1) = 0.5. Class 2: 2 * 0.25 / (0.5 + 1) = 1/3.
    assert float(dice_loss(logits, classes)) == pytest.approx(1 - (0.5 + 1 / 3) / 2, abs=1e-4)


def test_dice_loss_of_a_perfect_answer_is_zero_and_of_a_wrong_one_is_one() -> None:
    classes = torch.tensor([[[0, 1], [2, 1]]])
    right = torch.nn.functional.one_hot(classes, 3).permute(0, 3, 1, 2) * 100.0
    assert float(dice_loss(right, classes)) == pytest.approx(0, abs=1e-5)
    assert float(dice_loss(right, (classes + 1) % 3)) == pytest.approx(1, abs=1e-5)


def test_training_loss_weighs_each_resolution_against_its_labels() -> None:
    classes = torch.zeros(1, 4, 4, dtype=torch.uint8)
    classes[:, ::2, ::2] = 1  # at half resolution, every pixel
    full = torch.zeros(1, 2, 4, 4)
    half = torch.zeros(1, 2, 2, 2)
    # Flat answers: cross-entropy log 2. Dice: 2 * 4/2 / (16/2 + 4) = 1/3 at full, 2 * 4/2 / (4/2 + 4) = 2/3 at half.
    expected = 2 / 3 * (math.log(2) + 2 / 3) + 1 / 3 * (math.log(2) + 1 / 3)
    assert float(training_loss([full, half], classes)) == pytest.approx(expected, abs=1e-5)


def test_polynomial_decay() -> None:
    assert learning_rate(0.01, 0, 1000) == 0.01
    assert learning_rate(0.01, 500, 1000) == pytest.approx(0.01 * 0.535886731)  # 0.5 ** 0.9
    assert learning_rate(0.01, 1000, 1000) == 0.0
