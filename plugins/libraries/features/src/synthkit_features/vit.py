"""The vision transformer with patches of 16 pixels (Dosovitskiy et al., ICLR 2021), as RadioDINO was trained.

Tensors are named as in timm and in DINO's own code: both give the features that are the class token after the last
normalisation. Heads are 64 wide, the epsilon of normalisations is 1e-6, GELU is exact.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from synthkit_features.layers import State

SIDE, PATCH, DEPTH, HEAD = 224, 16, 12, 64
EPSILON = 1e-6
_LINEAR = {"attn.qkv": (3, 1), "attn.proj": (1, 1), "mlp.fc1": (4, 1), "mlp.fc2": (1, 4)}


def shapes_of(width: int) -> dict[str, tuple[int, ...]]:
    """Shape of every tensor; ``width`` is 384 for S and 768 for B, and the number of features."""
    shapes: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, width),
        "pos_embed": (1, (SIDE // PATCH) ** 2 + 1, width),
        "patch_embed.proj.weight": (width, 3, PATCH, PATCH),
        "patch_embed.proj.bias": (width,),
    }
    for block in range(DEPTH):
        for norm in ("norm1", "norm2"):
            shapes |= {f"blocks.{block}.{norm}.{part}": (width,) for part in ("weight", "bias")}
        for name, (outputs, inputs) in _LINEAR.items():
            shapes[f"blocks.{block}.{name}.weight"] = (outputs * width, inputs * width)
            shapes[f"blocks.{block}.{name}.bias"] = (outputs * width,)
    return {**shapes, "norm.weight": (width,), "norm.bias": (width,)}


class Affine(nn.Module):
    """Weight and bias of one layer; buffers, so that nothing draws initial values."""

    weight: torch.Tensor
    bias: torch.Tensor

    def __init__(self, state: State, name: str) -> None:
        super().__init__()
        self.register_buffer("weight", state[f"{name}.weight"].float())
        self.register_buffer("bias", state[f"{name}.bias"].float())

    def linear(self, x: torch.Tensor) -> torch.Tensor:
        return functional.linear(x, self.weight, self.bias)

    def norm(self, x: torch.Tensor) -> torch.Tensor:
        return functional.layer_norm(x, self.weight.shape, self.weight, self.bias, EPSILON)


class Block(nn.Module):
    """``x + attention(norm(x))``, then ``x + mlp(norm(x))``."""

    def __init__(self, state: State, name: str) -> None:
        super().__init__()
        self.norm1, self.norm2 = Affine(state, f"{name}.norm1"), Affine(state, f"{name}.norm2")
        self.qkv, self.proj = Affine(state, f"{name}.attn.qkv"), Affine(state, f"{name}.attn.proj")
        self.fc1, self.fc2 = Affine(state, f"{name}.mlp.fc1"), Affine(state, f"{name}.mlp.fc2")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, tokens, width = x.shape
        heads = self.qkv.linear(self.norm1.norm(x)).reshape(n, tokens, 3, width // HEAD, HEAD).permute(2, 0, 3, 1, 4)
        query, key, value = heads.unbind(0)
        attended = functional.scaled_dot_product_attention(query, key, value)
        x = x + self.proj.linear(attended.transpose(1, 2).reshape(n, tokens, width))
        return x + self.fc2.linear(functional.gelu(self.fc1.linear(self.norm2.norm(x))))


class VisionTransformer(nn.Module):
    """float32 ``(n, 3, 224, 224)`` -> features ``(n, width)``."""

    token: torch.Tensor
    places: torch.Tensor

    def __init__(self, state: State) -> None:
        super().__init__()
        self.register_buffer("token", state["cls_token"].float())
        self.register_buffer("places", state["pos_embed"].float())
        self.patches = Affine(state, "patch_embed.proj")
        self.blocks = nn.ModuleList(Block(state, f"blocks.{block}") for block in range(DEPTH))
        self.norm = Affine(state, "norm")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        patches = functional.conv2d(x, self.patches.weight, self.patches.bias, PATCH).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), patches], dim=1) + self.places
        for block in self.blocks:
            x = block(x)
        return self.norm.norm(x[:, 0])
