"""What samples can be asked for besides label maps: how much of the slice is labelled, and which labels it has.

A network that draws labels is told both of its training images, as read from their labels, and of half of them neither,
so that it draws as well what nobody asked for. Labels that a network is given are hidden now and then. What it then
draws with and without them makes the classifier-free guidance of Ho, Salimans 2022, arXiv 2207.12598.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from synthkit_generative.encodings import Encoding
from torch import Tensor

HIDDEN = 0.1  # share of the training images whose given labels are hidden
_ALL_HIDDEN, _EACH_HIDDEN = 0.5, 0.25  # of the images all conditions are; of each condition in the others


def numbers(labels: int) -> int:
    """Numbers that tell of the conditions, with so many labels above background: area and parts, shown and value."""
    return 3 + labels


def codes(encoding: Encoding) -> Tensor:
    """What a pixel of each label is coded as, background first, the others by value: ``(label, channel, 1, 1)``."""
    values = np.array(sorted(encoding.label_values), dtype=np.uint8)
    return torch.from_numpy(encoding.encode(values[:, None, None]))


def present(coded: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
    """Labelled share of the pixels ``(n,)`` and presence of each label above background ``(n, labels)``, 0 or 1.

    ``coded (n, channel, y, x)`` are labels in an encoding with these :func:`codes`; pixels between labels count for the
    nearest.
    """
    which = torch.stack([(coded - code).square().sum(dim=1) for code in codes]).argmin(dim=0)
    there = which[:, None] == torch.arange(1, len(codes), device=which.device)[:, None, None]
    return there.any(dim=1).float().mean(dim=(1, 2)), there.any(dim=3).any(dim=2).float()


def told(area: Tensor, parts: Tensor, shown: Tensor) -> Tensor:
    """The numbers that a network is told ``(n, 3 + labels)``.

    Parameters
    ----------
    area : labelled share of the pixels ``(n,)``, as its root: small tumours are told apart better.
    parts : presence of each label above background ``(n, labels)``, 0 or 1.
    shown : whether area and parts are told ``(n, 2)``, 0 or 1; what is not is 0.
    """
    has_area, has_parts = shown[:, :1], shown[:, 1:]
    return torch.cat([has_area, has_area * 4 * area.sqrt()[:, None], has_parts, has_parts * (2 * parts - 1)], dim=1)


def draw_shown(n: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """Which conditions of ``n`` training images are told ``(n, 2)``, and whose given labels are ``(n, 1)``; 0 or 1."""
    chance = torch.rand(n, 4, device=random.device, generator=random)
    shown = (chance[:, :1] >= _ALL_HIDDEN) & (chance[:, 1:3] >= _EACH_HIDDEN)
    return shown.float(), (chance[:, 3:] >= HIDDEN).float()


def asked_of(area: float | None, parts: Sequence[bool] | None, labels: int, device: torch.device) -> Tensor:
    """What a network is told of one sample that is asked for these, ``(1, 3 + labels)``; None for any."""
    shown = torch.tensor([[float(area is not None), float(parts is not None)]], device=device)
    there = torch.tensor([parts if parts is not None else [False] * labels], dtype=torch.float32, device=device)
    return told(torch.tensor([area or 0.0], device=device), there.reshape(1, labels), shown)
