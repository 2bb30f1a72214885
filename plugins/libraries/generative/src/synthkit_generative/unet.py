"""The UNet of guided diffusion, written from the papers: what it makes of an image and of how noisy it is.

Sources: [1] Nichol, Dhariwal 2021, arXiv 2102.09672 (the UNet: appendix A; variances: section 3.1); [2] Dhariwal,
Nichol 2021, arXiv 2105.05233 (widths by size, adaptive group normalisation: section 3); [3] Ho et al. 2020, arXiv
2006.11239 (time embedding: appendix B). Modules are numbered as in the published weights, so these load as they are.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synthkit.errors import UsageError

_Layer = TypeVar("_Layer", nn.Conv1d, nn.Conv2d)

GROUPS = 32  # of group normalisation, where the feature maps allow it
ATTENTION_SIDES = (16, 8)  # resolutions with attention, in pixels

#: Multiples of the width at each resolution, the finest first ([2] table 4 and the published configurations).
MULTIPLES: dict[int, tuple[float, ...]] = {
    512: (0.5, 1, 1, 2, 2, 4, 4),
    256: (1, 1, 2, 2, 4, 4),
    128: (1, 1, 2, 3, 4),
    64: (1, 2, 3, 4),
    32: (1, 2, 2, 2),
}


@dataclass(frozen=True)
class Architecture:
    """Shape of the network. ``channels`` counts the label channel; ``size`` is in pixels.

    ``group`` is the fewest feature maps that are normalised together: 1 as published. A group of one map loses that
    map's mean, and with it the brightness of the image, so narrow networks of ours have more (:func:`group_for`).
    Attention has ``heads`` heads, or as many as it takes of ``head_channels`` feature maps each, if these are not 0.
    """

    size: int
    channels: int
    width: int = 64
    res_blocks: int = 3
    learn_sigma: bool = False
    group: int = 1
    heads: int = 4
    head_channels: int = 0

    def heads_of(self, maps: int) -> int:
        """Heads of attention over so many feature maps; ValueError if they cannot be shared out."""
        size = self.head_channels or maps / self.heads
        if maps % size or size != int(size):
            asked = f"heads of {self.head_channels} feature maps" if self.head_channels else f"{self.heads} heads"
            raise ValueError(f"{maps} feature maps are not shared out among {asked}")
        return maps // int(size)

    def check_heads(self) -> None:
        """:class:`synthkit.errors.UsageError` unless the heads of every resolution with attention share its maps."""
        try:
            for maps in {*(maps for maps, attends in self.levels if attends), self.levels[-1][0]}:
                self.heads_of(maps)
        except ValueError as error:
            raise UsageError(
                f"width={self.width} does not go with these heads of attention.",
                f"{str(error).capitalize()}.",
                "Give a multiple of 4, or other heads.",
            ) from error

    @property
    def levels(self) -> list[tuple[int, bool]]:
        """Feature maps of each resolution, the finest first, and whether it has attention."""
        return [
            (int(multiple * self.width), self.size >> level in ATTENTION_SIDES)
            for level, multiple in enumerate(MULTIPLES[self.size])
        ]


def group_for(width: int) -> int:
    """Fewest maps of a group in a network that we train: as published from width 64 on, four in narrower ones."""
    return 1 if width >= 64 else 4


def time_embedding(t: Tensor, length: int) -> Tensor:
    """Cosines and sines of the step ``t (n,)`` at frequencies from 1 to 1/10,000: ``(n, length)`` ([3] appendix B)."""
    half = length // 2
    frequencies = torch.exp(-math.log(10_000) * torch.arange(half, dtype=torch.float32, device=t.device) / half)
    phases = t[:, None].float() * frequencies
    return torch.cat([phases.cos(), phases.sin()], dim=1)


class Norm(nn.GroupNorm):
    """Group normalisation in float32, whatever the precision around it; groups have ``group`` maps or more."""

    def __init__(self, maps: int, group: int) -> None:
        super().__init__(math.gcd(GROUPS, max(1, maps // group)), maps)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.float()).to(x.dtype)


def zeroed(layer: _Layer) -> _Layer:
    """The layer with weights 0: what it adds begins as nothing."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


class ResBlock(nn.Module):
    """Two convolutions beside a skip; the time scales and shifts the second's input ([2] section 3, AdaGN)."""

    def __init__(self, inputs: int, outputs: int, embedding: int, group: int) -> None:
        super().__init__()
        self.in_layers = nn.Sequential(Norm(inputs, group), nn.SiLU(), nn.Conv2d(inputs, outputs, 3, padding=1))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(embedding, 2 * outputs))
        last = zeroed(nn.Conv2d(outputs, outputs, 3, padding=1))
        norm = Norm(outputs, group)
        self.out_layers = nn.Sequential(norm, nn.SiLU(), nn.Identity(), last)  # the third: no dropout
        self.skip_connection = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.in_layers(x)
        scale, shift = self.emb_layers(embedding)[:, :, None, None].to(h.dtype).chunk(2, dim=1)
        norm, *rest = self.out_layers
        h = norm(h) * (1 + scale) + shift
        for layer in rest:
            h = layer(h)
        total: Tensor = self.skip_connection(x) + h
        return total


class Attention(nn.Module):
    """Every pixel attends to every other, in several heads ([1] appendix A)."""

    def __init__(self, maps: int, group: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = Norm(maps, group)
        self.qkv = nn.Conv1d(maps, 3 * maps, 1)
        self.proj_out = zeroed(nn.Conv1d(maps, maps, 1))

    def forward(self, x: Tensor) -> Tensor:
        n, maps, height, width = x.shape
        flat = x.reshape(n, maps, -1)
        heads = self.qkv(self.norm(flat)).view(n, self.heads, 3 * maps // self.heads, -1).transpose(2, 3)
        q, k, v = heads.chunk(3, dim=3)
        h = F.scaled_dot_product_attention(q, k, v).transpose(2, 3).reshape(n, maps, -1)
        attended: Tensor = flat + self.proj_out(h)
        return attended.view(n, maps, height, width)


class Downsample(nn.Module):
    """To half the resolution, by a convolution."""

    def __init__(self, maps: int) -> None:
        super().__init__()
        self.op = nn.Conv2d(maps, maps, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        halved: Tensor = self.op(x)
        return halved


class Upsample(nn.Module):
    """To twice the resolution: pixels repeated, then a convolution."""

    def __init__(self, maps: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(maps, maps, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        doubled: Tensor = self.conv(F.interpolate(x, scale_factor=2, mode="nearest"))
        return doubled


def apply(layers: Iterable[nn.Module], x: Tensor, embedding: Tensor) -> Tensor:
    """One layer after the other; residual blocks are told the time."""
    for layer in layers:
        x = layer(x, embedding) if isinstance(layer, ResBlock) else layer(x)
    return x


class UNet(nn.Module):
    """Estimates the noise in images; with ``learn_sigma`` the variance of the step back as well.

    ``given`` channels beside those of the image are seen and not drawn, ``more`` are drawn and not seen; ``told``
    numbers are added to the time.
    """

    def __init__(self, architecture: Architecture, given: int = 0, told: int = 0, more: int = 0) -> None:
        super().__init__()
        self.architecture = architecture
        width, embedding, group = architecture.width, 4 * architecture.width, architecture.group
        levels = architecture.levels

        def attention(maps: int) -> Attention:
            return Attention(maps, group, architecture.heads_of(maps))

        self.time_embed = nn.Sequential(nn.Linear(width, embedding), nn.SiLU(), nn.Linear(embedding, embedding))
        self.told_embed = nn.Linear(told, embedding, bias=False) if told else None  # numbers that are 0 add nothing
        maps = levels[0][0]
        down = [nn.ModuleList([nn.Conv2d(architecture.channels + given, maps, 3, padding=1)])]
        kept = [maps]
        for number, (wanted, attends) in enumerate(levels):
            for _ in range(architecture.res_blocks):
                attending = [attention(wanted)] if attends else []
                down.append(nn.ModuleList([ResBlock(maps, wanted, embedding, group), *attending]))
                maps = wanted
                kept.append(maps)
            if number < len(levels) - 1:
                down.append(nn.ModuleList([Downsample(maps)]))
                kept.append(maps)
        self.input_blocks = nn.ModuleList(down)
        middle: list[nn.Module] = [ResBlock(maps, maps, embedding, group), attention(maps)]
        middle.append(ResBlock(maps, maps, embedding, group))
        self.middle_block = nn.ModuleList(middle)
        up = []
        for number, (wanted, attends) in reversed(list(enumerate(levels))):
            for block in range(architecture.res_blocks + 1):
                layers: list[nn.Module] = [ResBlock(maps + kept.pop(), wanted, embedding, group)]
                maps = wanted
                if attends:
                    layers.append(attention(maps))
                if number and block == architecture.res_blocks:
                    layers.append(Upsample(maps))
                up.append(nn.ModuleList(layers))
        self.output_blocks = nn.ModuleList(up)
        outputs = architecture.channels * (2 if architecture.learn_sigma else 1) + more
        self.out = nn.Sequential(Norm(maps, group), nn.SiLU(), zeroed(nn.Conv2d(maps, outputs, 3, padding=1)))

    def embedding(self, t: Tensor, told: Tensor | None = None) -> Tensor:
        """What the layers are told of steps ``t (n,)`` and of ``told (n, numbers)``: ``(n, 4 width)``."""
        embedding: Tensor = self.time_embed(time_embedding(t, self.architecture.width))
        if self.told_embed is not None and told is not None:
            embedding = embedding + self.told_embed(told)
        return embedding

    def forward(self, x: Tensor, t: Tensor, told: Tensor | None = None) -> Tensor:
        """Noise ``(n, channels, size, size)`` in images of that shape at steps ``t (n,)``; float32.

        What is given comes after the channels of ``x``; what is told is ``(n, numbers)``. With ``learn_sigma`` twice
        the channels, the second half placing the variance between its bounds ([1] eq. 15).
        """
        embedding = self.embedding(t, told)
        kept = []
        for block in self.input_blocks:
            x = apply(cast("nn.ModuleList", block), x, embedding)
            kept.append(x)
        x = apply(self.middle_block, x, embedding)
        for block in self.output_blocks:
            x = apply(cast("nn.ModuleList", block), torch.cat([x, kept.pop()], dim=1), embedding)
        noise: Tensor = self.out(x).float()
        return noise
