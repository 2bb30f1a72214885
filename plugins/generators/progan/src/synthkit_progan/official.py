"""Generators trained with the TensorFlow code of Progressive GAN, in this package's form. Nothing of it is needed."""

from __future__ import annotations

from typing import Any

from synthkit_generative.foreign.checkpoints import Network, side_of
from torch import Tensor

from synthkit.errors import DataError
from synthkit_progan.networks import Architecture

_DEFAULTS: dict[str, Any] = {
    "num_channels": 1,
    "resolution": 32,
    "fmap_base": 8192,
    "fmap_max": 512,
    "latent_size": None,
}
_FIXED = {
    "label_size": 0,
    "fmap_decay": 1.0,
    "normalize_latents": True,
    "use_wscale": True,
    "use_pixelnorm": True,
    "pixelnorm_epsilon": 1e-8,
    "use_leakyrelu": True,
}
#: They concern how the same images are calculated.
_IGNORED = ("dtype", "structure", "fused_scale")


def architecture_of(network: Network) -> Architecture:
    """Architecture of an official generator; DataError if it has settings that are not implemented here."""
    chosen = network.chosen(_DEFAULTS, _FIXED, _IGNORED)
    base, widest = chosen["fmap_base"], chosen["fmap_max"]
    latent = min(base, widest) if chosen["latent_size"] is None else chosen["latent_size"]
    # Here the latent is as long as a layer may be wide; none is wider than half the base.
    if latent != widest and not base // 2 <= min(latent, widest):
        raise DataError(
            "The network's latents differ in length from its widest layer.",
            f"z {latent}, feature maps {widest}.",
            "Import a network of the official configurations.",
        )
    # They count feature maps from half the resolution on.
    return Architecture(side_of(chosen["resolution"]), chosen["num_channels"], 2 * base, latent)


def translate(tensors: dict[str, Tensor], architecture: Architecture) -> dict[str, Tensor]:
    """Tensors by this package's names. Kernels are stored (y, x, in, out), those of fused layers (y, x, out, in)."""
    found, last = {}, len(architecture.resolutions) - 1
    for name, tensor in tensors.items():
        place, *rest = name.split("/")
        if place == "lod":
            continue
        layer = rest[0]
        kernel = tensor.permute(3, 2, 0, 1) if tensor.ndim == 4 else tensor
        if place.startswith("ToRGB_lod"):
            found[f"to_image.{last - int(place.removeprefix('ToRGB_lod'))}.{layer}"] = kernel
        elif layer == "Dense":
            features = architecture.features(4)
            found[f"first.{rest[1]}"] = tensor.view(-1, features, 4, 4) if rest[1] == "weight" else tensor
        else:
            level = int(place.split("x")[0]).bit_length() - 3  # 4x4 is level 0
            number = {"Conv": "conv", "Conv0": "0", "Conv0_up": "0", "Conv1": "1"}[layer]
            ours = number if level == 0 else f"blocks.{level - 1}.{number}"
            if layer == "Conv0_up" and rest[1] == "weight":
                # A transposed convolution: with the kernel mirrored it is the convolution of repeated pixels.
                kernel = tensor.permute(2, 3, 0, 1).flip(2, 3)
            found[f"{ours}.conv.weight" if rest[1] == "weight" else f"{ours}.bias"] = kernel
    return found
