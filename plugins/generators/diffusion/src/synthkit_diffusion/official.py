"""Weights of the official guided-diffusion code: what network they belong to. Their names are those of ours."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from synthkit_generative.unet import MULTIPLES, Architecture
from torch import Tensor

from synthkit_diffusion import Params


def architecture_of(tensors: Mapping[str, Tensor], params: Params) -> Architecture:
    """The architecture of a state dict, from its shapes; its heads of attention are those of ``params``.

    Adaptive normalisation, the order of queries, keys and values and the multiples of each size are those of the
    official defaults. ValueError if no size has one like it, or its feature maps do not go with the heads.
    """
    first, last = tensors["input_blocks.0.0.weight"], tensors["out.2.weight"]
    width = tensors["time_embed.0.weight"].shape[1]
    channels = first.shape[1]
    n_blocks = 1 + max(int(name.split(".")[1]) for name in tensors if name.startswith("input_blocks."))
    n_down = sum(name.startswith("input_blocks.") and name.endswith("op.weight") for name in tensors)
    for size, multiples in MULTIPLES.items():
        res_blocks, rest = divmod(n_blocks - 1 - n_down, len(multiples))
        if n_down != len(multiples) - 1 or rest or res_blocks < 1:
            continue
        found = Architecture(size, channels, width, res_blocks, last.shape[0] == 2 * channels)
        found = dataclasses.replace(found, heads=params.heads, head_channels=params.head_channels)
        if _attends(tensors) == _expected(found):
            return found
    raise ValueError("no size has a network of these blocks with attention at these resolutions")


def heads_in_words(params: Params) -> str:
    """``"4 heads of attention"``."""
    size = params.head_channels
    return f"heads of attention of {size} feature maps" if size else f"{params.heads} heads of attention"


def _attends(tensors: Mapping[str, Tensor]) -> set[int]:
    """Numbers of the blocks with attention on the way down."""
    return {int(name.split(".")[1]) for name in tensors if name.startswith("input_blocks.") and "qkv.weight" in name}


def _expected(architecture: Architecture) -> set[int]:
    blocks, number = set(), 1
    for _, attends in architecture.levels:
        own = range(number, number + architecture.res_blocks)
        blocks |= set(own) if attends else set()
        number += architecture.res_blocks + 1
    return blocks
