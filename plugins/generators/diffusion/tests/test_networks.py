"""The UNet: its size, its time, and the shapes that official weights are known by."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from synthkit_diffusion import Params  # noqa: E402
from synthkit_diffusion.official import architecture_of  # noqa: E402
from synthkit_generative.unet import MULTIPLES, Architecture, Norm, UNet, group_for, time_embedding  # noqa: E402


def conv(inputs: int, outputs: int, kernel: int = 3) -> int:
    return inputs * outputs * kernel**2 + outputs


def block(inputs: int, outputs: int, embedding: int) -> int:
    """A residual block: two norms, two convolutions, the layer of the time, the skip."""
    skip = 0 if inputs == outputs else conv(inputs, outputs, 1)
    return (
        2 * inputs
        + conv(inputs, outputs)
        + conv(embedding, 2 * outputs, 1)
        + 2 * outputs
        + conv(outputs, outputs)
        + skip
    )


def attention(maps: int) -> int:
    return 2 * maps + conv(maps, 3 * maps, 1) + conv(maps, maps, 1)


def counted(size: int, channels: int, width: int, res_blocks: int) -> int:
    """Parameters by hand, from the papers' description."""
    sides = [size >> level for level in range(len(MULTIPLES[size]))]
    maps = [int(multiple * width) for multiple in MULTIPLES[size]]
    embedding = 4 * width
    total = conv(width, embedding, 1) + conv(embedding, embedding, 1) + conv(channels, maps[0])
    kept, now = [maps[0]], maps[0]
    for side, wanted in zip(sides, maps, strict=True):
        for _ in range(res_blocks):
            total += block(now, wanted, embedding) + (attention(wanted) if side in (16, 8) else 0)
            now = wanted
            kept.append(now)
        if side != sides[-1]:
            total += conv(now, now)
            kept.append(now)
    total += 2 * block(now, now, embedding) + attention(now)
    for side, wanted in zip(sides[::-1], maps[::-1], strict=True):
        for _ in range(res_blocks + 1):
            total += block(now + kept.pop(), wanted, embedding) + (attention(wanted) if side in (16, 8) else 0)
            now = wanted
        if side != sides[0]:
            total += conv(now, now)
    return total + 2 * now + conv(now, channels)


@pytest.mark.parametrize(
    ("size", "width", "res_blocks"), [(32, 8, 1), (64, 32, 2), (128, 16, 1), (256, 64, 3), (512, 16, 1)]
)
def test_parameters_are_those_counted_by_hand(size: int, width: int, res_blocks: int) -> None:
    with torch.device("meta"):
        network = UNet(Architecture(size, 5, width, res_blocks))
    assert sum(parameter.numel() for parameter in network.parameters()) == counted(size, 5, width, res_blocks)


def test_an_untrained_network_finds_no_noise() -> None:
    network = UNet(Architecture(32, 3, width=8, res_blocks=1, learn_sigma=True))
    found = network(torch.randn(2, 3, 32, 32), torch.tensor([0, 7]))
    assert found.shape == (2, 6, 32, 32) and not found.any()


def test_each_image_is_told_its_own_time() -> None:
    torch.manual_seed(0)
    network = UNet(Architecture(32, 2, width=8, res_blocks=1))
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    x = torch.randn(1, 2, 32, 32)
    both = network(x.repeat(2, 1, 1, 1), torch.tensor([3, 900]))
    for n, t in enumerate((3, 900)):
        torch.testing.assert_close(both[n : n + 1], network(x, torch.tensor([t])), rtol=1e-4, atol=1e-5)
    assert (both[0] - both[1]).abs().max() > 1e-3


def test_time_embedding_by_hand() -> None:
    found = time_embedding(torch.tensor([0, 10]), 4)
    expected = torch.tensor([[1.0, 1, 0, 0], [torch.cos(torch.tensor(10.0)), torch.cos(torch.tensor(0.1)), 0, 0]])
    expected[1, 2:] = torch.tensor([10.0, 0.1]).sin()
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("size", MULTIPLES)
@pytest.mark.parametrize("learn_sigma", [False, True])
def test_an_architecture_is_known_by_its_shapes(size: int, learn_sigma: bool) -> None:
    architecture = Architecture(size, 5, width=8, res_blocks=2, learn_sigma=learn_sigma)
    with torch.device("meta"):
        assert architecture_of(UNet(architecture).state_dict(), Params()) == architecture


def test_other_networks_are_refused() -> None:
    tensors = UNet(Architecture(32, 3, width=8, res_blocks=1)).state_dict()
    with pytest.raises(ValueError, match="no size"):
        architecture_of({name: tensor for name, tensor in tensors.items() if "qkv" not in name}, Params())
    with pytest.raises(KeyError):
        architecture_of({"weight": torch.zeros(3)}, Params())


def test_narrow_networks_keep_the_mean_of_their_maps() -> None:
    x = torch.randn(2, 16, 8, 8, generator=torch.Generator().manual_seed(0))
    shifted = x + torch.arange(16.0)[:, None, None]  # each map brighter than the one before
    published, ours = Norm(16, 1), Norm(16, group_for(16))
    assert (published.num_groups, ours.num_groups) == (16, 4)
    assert torch.allclose(published(x), published(shifted), atol=1e-5)  # brightness is lost
    assert not torch.allclose(ours(x), ours(shifted), atol=0.5)
    # As published where published weights can be of this shape.
    assert [Norm(maps, group_for(64)).num_groups for maps in (64, 128, 192, 256)] == [32] * 4
