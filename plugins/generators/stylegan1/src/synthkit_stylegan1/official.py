"""Generators trained with the TensorFlow code of StyleGAN, in this package's form. Nothing of that code is needed."""

from __future__ import annotations

import math
from typing import Any

import torch
from synthkit_generative.foreign.checkpoints import Network, side_of
from torch import Tensor

from synthkit.errors import DataError
from synthkit_stylegan1.networks import Architecture

_DEFAULTS: dict[str, Any] = {
    "num_channels": 3,
    "resolution": 1024,
    "fmap_base": 8192,
    "fmap_max": 512,
    "latent_size": 512,
    "dlatent_size": 512,
    "mapping_fmaps": 512,
    "mapping_layers": 8,
    "fused_scale": "auto",
}
_FIXED = {
    "label_size": 0,
    "fmap_decay": 1.0,
    "use_wscale": True,
    "use_styles": True,
    "const_input_layer": True,
    "use_noise": True,
    "use_pixel_norm": False,
    "use_instance_norm": True,
    "normalize_latents": True,
    "nonlinearity": "lrelu",
    "mapping_nonlinearity": "lrelu",
    "mapping_lrmul": 0.01,
    "blur_filter": [1, 2, 1],
}
#: They concern training, truncation (a parameter of generation here), or how the same images are calculated.
_IGNORED = (
    "truncation_psi",
    "truncation_cutoff",
    "truncation_psi_val",
    "truncation_cutoff_val",
    "dlatent_avg_beta",
    "style_mixing_prob",
    "randomize_noise",
    "structure",
    "dtype",
)
#: From this side on the original makes upsampling and convolution one operation, if not told otherwise.
_FUSED_FROM = 128


def architecture_of(network: Network) -> Architecture:
    """Architecture of an official generator; DataError if it has settings that are not implemented here."""
    chosen = network.chosen(_DEFAULTS, _FIXED, _IGNORED)
    widest = chosen["fmap_max"]
    if any(chosen[name] != widest for name in ("latent_size", "dlatent_size", "mapping_fmaps")):
        raise DataError(
            "The network's latents differ in length from its widest layer.",
            f"z {chosen['latent_size']}, w {chosen['dlatent_size']}, feature maps {widest}.",
            "Import a network of the official configurations.",
        )
    # They count feature maps from half the resolution on.
    base, layers = 2 * chosen["fmap_base"], chosen["mapping_layers"]
    if layers > len(network.tensors):
        raise ValueError(f"there are no {layers} layers in it")
    return Architecture(side_of(chosen["resolution"]), chosen["num_channels"], base, widest, layers)


def is_fused(network: Network, side: int) -> bool:
    """Whether the first convolution at ``side`` is one operation with its upsampling, whose kernel is mirrored."""
    setting = network.settings.get("fused_scale", _DEFAULTS["fused_scale"])
    return side >= _FUSED_FROM if setting == "auto" else bool(setting)


def translate(network: Network, architecture: Architecture) -> dict[str, Tensor]:
    """Tensors by this package's names, and the mean w. Fixed noise is left out."""
    found, last = {}, len(architecture.resolutions) - 1
    for name, tensor in network.tensors.items():
        part, place, *rest = [*name.split("/"), ""]
        if name == "dlatent_avg":
            found["w_mean"] = tensor
        elif part == "mapping":
            # The gain of the activations comes after the bias here.
            value = tensor.T if rest[0] == "weight" else tensor / math.sqrt(2)
            found[f"mapping.layers.{place.removeprefix('Dense')}.{rest[0]}"] = value
        elif part == "synthesis" and place.startswith("ToRGB_lod"):
            level = last - int(place.removeprefix("ToRGB_lod"))
            found[f"to_image.{level}.{rest[0]}"] = tensor.permute(3, 2, 0, 1) if tensor.ndim == 4 else tensor
        elif part == "synthesis" and rest[0]:
            side = int(place.split("x")[0])
            ours, value = _of_layer(rest[0], "/".join(rest[1:-1]), tensor, mirrored=is_fused(network, side))
            found[ours if side == 4 else f"blocks.{side.bit_length() - 4}.{ours}"] = value
    return found


def _of_layer(layer: str, leaf: str, tensor: Tensor, *, mirrored: bool) -> tuple[str, Tensor]:
    """Name within its block, and value, of a variable of a styled layer."""
    number = {"Const": "0", "Conv0_up": "0", "Conv": "1", "Conv1": "1"}[layer]
    if leaf == "const":
        return "constant", tensor[0]
    if leaf == "weight":
        kernel = tensor.permute(3, 2, 0, 1)
        return f"conv{number}.weight", kernel.flip(2, 3) if layer == "Conv0_up" and mirrored else kernel
    if leaf == "StyleMod/bias":
        scale, bias = tensor.chunk(2)
        return f"layer{number}.style.bias", torch.cat([scale + 1, bias])  # the original adds 1 where it scales
    ours = {"Noise/weight": "noise_strength", "bias": "bias", "StyleMod/weight": "style.weight"}[leaf]
    return f"layer{number}.{ours}", tensor.T if ours == "style.weight" else tensor
