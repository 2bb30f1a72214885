"""The network and its loss, against values worked out by hand."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("monai", reason="monai is not installed")

from synthkit_unet.model import learning_rate  # noqa: E402
from synthkit_unet.network import (  # noqa: E402
    Architecture,
    _make_network,
    build_network,
    deep_supervision_weights,
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
    network = build_network(small, CPU)
    outputs = network.train()(torch.zeros(1, 2, 128, 128))
    assert [tuple(output.shape) for output in outputs] == [(1, 3, s, s) for s in (128, 64, 32, 16)]
    assert network.eval()(torch.zeros(1, 2, 128, 128)).shape == (1, 3, 128, 128)


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
    for one, other in zip(ours.train()(x), plain.train()(x), strict=True):
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
