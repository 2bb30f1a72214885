"""Generators trained with NVlabs' StyleGAN3 code, brought into this package's form. Nothing of that code is needed."""

from __future__ import annotations

from typing import Any

from synthkit_generative.foreign.checkpoints import Network, refuse_other, side_of
from torch import Tensor

from synthkit.errors import DataError
from synthkit_stylegan3.schedule import (
    CRITICAL,
    FIRST_CUTOFF,
    FIRST_STOPBAND,
    LAST_STOPBAND,
    LAYERS,
    MARGIN,
    Architecture,
)

_DEFAULTS: dict[str, Any] = {
    "z_dim": 512,
    "w_dim": 512,
    "img_resolution": None,
    "img_channels": None,
    "channel_base": 32768,
    "channel_max": 512,
    "mapping_kwargs": {},
    "conv_kernel": 3,
    "use_radial_filters": False,
}
_FIXED = {
    "c_dim": 0,
    "num_layers": LAYERS,
    "num_critical": CRITICAL,
    "margin_size": MARGIN,
    "first_cutoff": FIRST_CUTOFF,
    "first_stopband": FIRST_STOPBAND,
    "last_stopband_rel": LAST_STOPBAND,
    "output_scale": 0.25,
    "filter_size": 6,
    "lrelu_upsampling": 2,
}
#: They concern training, or reduced precision, which images here are not drawn in.
_IGNORED = ("magnitude_ema_beta", "num_fp16_res", "conv_clamp")

_INPUT = {
    "weight": "weight",
    "freqs": "frequencies",
    "phases": "phases",
    "affine.weight": "motion.weight",
    "affine.bias": "motion.bias",
}
_LAYER = {
    "weight": "weight",
    "bias": "bias",
    "magnitude_ema": "magnitude",
    "affine.weight": "style.weight",
    "affine.bias": "style.bias",
}


def architecture_of(network: Network) -> Architecture:
    """Architecture of an official generator; DataError if it has settings that are not implemented here."""
    refuse_other(network, "stylegan2", ("synthesis_kwargs", "fused_modconv_default", "architecture"))
    chosen = network.chosen(_DEFAULTS, _FIXED, _IGNORED)
    if chosen["z_dim"] != chosen["w_dim"]:
        raise DataError("The network's latents z and w differ in length.", "", "Import one of the official settings.")
    mapping = Network("Mapping", dict(chosen["mapping_kwargs"]), {}).chosen(
        {"num_layers": 2}, {"activation": "lrelu", "lr_multiplier": 0.01}, ("w_avg_beta",)
    )
    return Architecture(
        size=side_of(chosen["img_resolution"]),
        channels=int(chosen["img_channels"]),
        channel_base=int(chosen["channel_base"]),
        channel_max=int(chosen["channel_max"]),
        latent=int(chosen["z_dim"]),
        mapping_layers=int(mapping["num_layers"]),
        kernel=int(chosen["conv_kernel"]),
        radial=bool(chosen["use_radial_filters"]),
    )


def translate(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors by this package's names, and the mean w. Filters are left out: they follow from the architecture."""
    layers = {name.split(".")[1] for name in tensors if name.startswith("synthesis.L")}
    order = sorted(layers, key=lambda layer: int(layer[1:].partition("_")[0]))
    found = {}
    for name, tensor in tensors.items():
        part, child, *rest = name.split(".", 2)
        leaf = "".join(rest)
        if name == "mapping.w_avg":
            found["w_mean"] = tensor
        elif part == "mapping" and child.startswith("fc"):
            found[f"mapping.layers.{child[2:]}.{leaf}"] = tensor
        elif child == "input" and leaf in _INPUT:
            found[f"features.{_INPUT[leaf]}"] = tensor
        elif child in layers and leaf in _LAYER:
            number = order.index(child)
            owner = "to_image" if number == LAYERS else f"layers.{number}"
            found[f"{owner}.{_LAYER[leaf]}"] = tensor
    return found
