"""The network against a derivation of its size, and its recipe against values worked out by hand."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("transformers", reason="transformers is not installed")

from synthkit_segmentation.losses import dice_and_cross_entropy  # noqa: E402
from synthkit_segmentation.recipe import Task  # noqa: E402
from synthkit_swin import SwinParams  # noqa: E402
from synthkit_swin.model import budget, learning_rate, make_optimiser, training_loss  # noqa: E402
from synthkit_swin.network import BACKBONES, Backbone, build_network  # noqa: E402

CPU = torch.device("cpu")


def derived_size(shape: Backbone, contrasts: int, classes: int, head: int) -> int:
    """Trainable parameters by the papers' equations."""
    widths = [shape.embed * 2**stage for stage in range(4)]
    total = 16 * contrasts * shape.embed + shape.embed + 2 * shape.embed  # patches of 4 x 4, and their norm
    for d, depth, heads in zip(widths, shape.depths, shape.heads, strict=True):
        # A block: q, k, v and output d^2 + d each; two layers of 4d; two norms; a table of 13 x 13 offsets a head.
        total += depth * (4 * (d * d + d) + (4 * d * d + 4 * d) + (4 * d * d + d) + 4 * d + 13 * 13 * heads)
        total += 2 * d  # the norm of the stage's map
    total += sum(8 * d + 4 * d * 2 * d for d in widths[:3])  # merging: a norm of 4d, a matrix from 4d to 2d

    def convolution(inputs: int, outputs: int, kernel: int) -> int:
        return inputs * outputs * kernel**2 + 2 * outputs  # with batch norm, without bias

    total += sum(convolution(d, head, 1) + convolution(head, head, 3) for d in widths[:3])  # laterals, pyramid
    total += 4 * convolution(widths[3], head, 1) + convolution(widths[3] + 4 * head, head, 3)  # pooling, bottleneck
    total += convolution(4 * head, head, 3) + head * classes + classes
    return total + convolution(widths[2], head // 2, 3) + head // 2 * classes + classes


@pytest.mark.parametrize(
    ("backbone", "contrasts", "classes", "head"), [("nano", 1, 2, 16), ("nano", 3, 4, 32), ("tiny", 4, 4, 64)]
)
def test_size_is_the_derived_one(backbone: str, contrasts: int, classes: int, head: int) -> None:
    network = build_network(Task(contrasts, classes, (64, 64)), backbone, CPU, head_channels=head)
    assert sum(p.numel() for p in network.parameters()) == derived_size(BACKBONES[backbone], contrasts, classes, head)


def test_size_of_the_study() -> None:
    # mmsegmentation gives 121 M for UPerNet with Swin-Base.
    assert derived_size(BACKBONES["base"], 4, 4, 512) == 121_169_344


@pytest.mark.parametrize("size", [(32, 32), (64, 96)])
def test_outputs_have_the_size_of_the_input(size: tuple[int, int]) -> None:
    network = build_network(Task(3, 4, size), "nano", CPU, head_channels=16)
    images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    assert [tuple(output.shape) for output in network.train()(images)] == [(2, 4, *size)] * 2
    with torch.no_grad():
        assert network.eval()(images).shape == (2, 4, *size)


def test_every_parameter_is_trained_and_norms_do_not_decay() -> None:
    network = build_network(Task(2, 3, (32, 32)), "nano", CPU, head_channels=16, drop_path=0.0)
    classes = torch.randint(0, 3, (2, 32, 32), generator=torch.Generator().manual_seed(0))
    training_loss(network.train()(torch.randn(2, 2, 32, 32)), classes).backward()
    assert [name for name, p in network.named_parameters() if p.grad is None] == []
    decayed, spared = make_optimiser(1e-4, network).param_groups
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.01, 0.0)
    assert len(decayed["params"]) + len(spared["params"]) == len(list(network.parameters()))
    # 8 blocks of 6 layers with biases, 3 merges, patches with biases; 12 convolutions of the head and its classifier
    # with biases; the convolution of the auxiliary head and its classifier with biases.
    assert len(decayed["params"]) == 96 + 3 + 2 + 12 + 2 + 3


def test_weights_belong_to_the_seed_and_leave_the_global_generator_alone() -> None:
    task, before = Task(1, 2, (32, 32)), torch.get_rng_state()
    a, b, c = (next(build_network(task, "nano", CPU, seed, head_channels=16).parameters()) for seed in (1, 1, 2))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    assert torch.equal(torch.get_rng_state(), before)


def test_auxiliary_head_weighs_two_fifths() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, auxiliary = torch.randn(2, 1, 3, 8, 8, generator=generator)
    classes = torch.randint(0, 3, (1, 8, 8), generator=generator)
    expected = dice_and_cross_entropy(logits, classes) + 0.4 * dice_and_cross_entropy(auxiliary, classes)
    assert float(training_loss([logits, auxiliary], classes)) == pytest.approx(float(expected))


def test_learning_rate_rises_then_falls() -> None:
    params = SwinParams(learning_rate=6e-5, warmup_steps=9, batch_size=10)
    rates = [learning_rate(params, done, 1090) for done in range(0, 1090, 10)]
    assert rates[:10] == pytest.approx([6e-6 * step for step in range(1, 11)])
    assert max(rates) == pytest.approx(6e-5)
    assert rates[59] == pytest.approx(3e-5)  # half way of the 100 steps after the warm-up
    assert rates[-1] == pytest.approx(6e-7)


def test_a_short_training_leaves_the_warm_up_half_way() -> None:
    params = SwinParams(warmup_steps=1500, batch_size=4)
    rates = [learning_rate(params, done, 80) for done in range(0, 80, 4)]
    assert rates.index(max(rates)) == 10
    assert max(rates) == pytest.approx(6e-5)


def test_budget_is_whole_batches_of_samples_or_epochs() -> None:
    assert budget(SwinParams(samples=21, batch_size=8), 100) == 24
    assert budget(SwinParams(samples=21, epochs=25, batch_size=8), 100) == 2504
