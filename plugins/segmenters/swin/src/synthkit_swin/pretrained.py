"""Weights of a Swin transformer that was trained on other images: the authors' files, and those of Hugging Face.

A first layer for another number of channels is turned into one for the contrasts at hand: its mean over the channels,
scaled so that equal contrasts give what equal channels (grey) gave.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from synthkit.errors import DataError, reason_of

_FIRST = "embeddings.patch_embeddings.projection.weight"

# From the names of the authors and of earlier versions of Hugging Face's library to those of the present one.
_RENAMED: list[tuple[str, str | Callable[[re.Match[str]], str]]] = [
    (r"^(module\.|model\.|backbone\.|swin\.)+", ""),
    (r"^patch_embed\.proj\.", "embeddings.patch_embeddings.projection."),
    (r"^patch_embed\.norm\.", "embeddings.norm."),
    (r"^layers\.", "encoder.layers."),
    (r"\.norm1\.", ".layernorm_before."),
    (r"\.norm2\.", ".layernorm_after."),
    (r"\.attn\.proj\.", ".attention.o_proj."),
    (r"\.attn\.", ".attention."),
    (r"\.attention\.output\.dense\.", ".attention.o_proj."),
    (r"\.attention\.self\.(query|key|value)\.", lambda found: f".attention.{found[1][0]}_proj."),
    (r"\.attention\.(self\.)?(relative_position_bias_table)$", r".attention.relative_position_bias.\2"),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"\.output\.dense\.", ".mlp.fc2."),
]


def load_backbone_weights(network: nn.Module, path: Path) -> None:
    """Replace the weights of the transformer (not of the heads, nor of the norms before them) by those in ``path``.

    Raises :class:`DataError` for a file that cannot be read, holds pickled objects, or is of another transformer.
    """
    found = {new: tensor for name, given in _read(path).items() for new, tensor in _renamed(name, given)}
    swin = network.get_submodule("backbone.swin")
    with torch.no_grad():
        for name, weights in swin.named_parameters():
            tensor = found.get(name)
            if tensor is not None and name == _FIRST and tensor.shape[1] != weights.shape[1]:
                tensor = tensor.sum(1, keepdim=True).expand(-1, weights.shape[1], -1, -1) / weights.shape[1]
            if tensor is None or tensor.shape != weights.shape:
                has = "nothing of that name" if tensor is None else f"the shape {tuple(tensor.shape)}"
                raise DataError(
                    f"The weights in {path.name} are not of this Swin transformer.",
                    f"{name} has the shape {tuple(weights.shape)} here; the file has {has}.",
                    "Choose the backbone that the file is of (-p backbone=...), with windows of 7.",
                )
            weights.copy_(tensor)


def _read(path: Path) -> dict[str, Tensor]:
    try:
        with path.open("rb") as file:
            zipped = file.read(4) == b"PK\x03\x04"
        if zipped:
            content = torch.load(path, map_location="cpu", weights_only=True)
            for key in ("model", "state_dict"):
                content = content.get(key, content)
        else:
            content = load_file(path)
        return {str(name): tensor.float() for name, tensor in content.items() if isinstance(tensor, Tensor)}
    except (OSError, SafetensorError, pickle.UnpicklingError, RuntimeError, AttributeError) as error:
        raise DataError(
            f"The weights in {path.name} cannot be read.",
            f"{reason_of(error)}.",
            "Give a state dictionary as .safetensors, or as .pth of torch 1.6 or later without pickled objects.",
        ) from error


def _renamed(name: str, tensor: Tensor) -> Iterator[tuple[str, Tensor]]:
    for pattern, new in _RENAMED:
        name = re.sub(pattern, new, name)
    if ".attention.qkv." in name:
        for which, part in zip("qkv", tensor.chunk(3), strict=True):
            yield name.replace(".qkv.", f".{which}_proj."), part
    else:
        yield name, tensor
