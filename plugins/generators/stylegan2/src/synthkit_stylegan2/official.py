"""Generators trained with NVlabs' StyleGAN2 code, brought into this package's form. Nothing of that code is needed."""

from __future__ import annotations

from typing import Any

from synthkit_generative.foreign.checkpoints import Network, refuse_other, side_of
from torch import Tensor

from synthkit_stylegan2.networks import Architecture

_DEFAULTS: dict[str, Any] = {
    "z_dim": 512,
    "w_dim": 512,
    "img_resolution": None,
    "img_channels": None,
    "channel_base": 32768,
    "channel_max": 512,
    "mapping_kwargs": {},
}
_FIXED = {"c_dim": 0, "architecture": "skip", "resample_filter": [1, 3, 3, 1], "use_noise": True}
#: They concern reduced precision, which images here are not drawn in, and how the same products are added up.
_IGNORED = ("num_fp16_res", "conv_clamp", "fp16_channels_last", "fused_modconv_default")

_LEAVES = {
    "weight": "weight",
    "bias": "bias",
    "noise_strength": "noise_strength",
    "affine.weight": "style.weight",
    "affine.bias": "style.bias",
}


def architecture_of(network: Network) -> Architecture:
    """Architecture of an official generator; DataError if it has settings that are not implemented here."""
    refuse_other(network, "stylegan3", ("magnitude_ema_beta", "num_critical", "use_radial_filters", "conv_kernel"))
    settings = dict(network.settings)
    # StyleGAN2-ADA keeps those of the synthesis together, the later StyleGAN3 code does not.
    settings.update(dict(settings.pop("synthesis_kwargs", {})))
    chosen = Network(network.class_name, settings, {}).chosen(_DEFAULTS, _FIXED, _IGNORED)
    mapping = Network("Mapping", dict(chosen["mapping_kwargs"]), {}).chosen(
        {"num_layers": 8}, {"activation": "lrelu", "lr_multiplier": 0.01}, ("w_avg_beta",)
    )
    return Architecture(
        size=side_of(chosen["img_resolution"]),
        channels=int(chosen["img_channels"]),
        channel_base=int(chosen["channel_base"]),
        channel_max=int(chosen["channel_max"]),
        mapping_layers=int(mapping["num_layers"]),
        black_outside=False,
        z_length=_if_other(chosen["z_dim"], chosen["channel_max"]),
        w_length=_if_other(chosen["w_dim"], chosen["channel_max"]),
    )


def _if_other(length: int, usual: int) -> int:
    return 0 if length == usual else length


def translate(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors by this package's names, and the mean w. Filters and fixed noise are left out."""
    found = {}
    for name, tensor in tensors.items():
        part, child, *rest = name.split(".")
        if name == "mapping.w_avg":
            found["w_mean"] = tensor
        elif part == "mapping" and child.startswith("fc"):
            found[f"mapping.layers.{child[2:]}.{rest[0]}"] = tensor
        elif rest == ["const"]:
            found["constant"] = tensor
        elif part == "synthesis" and (leaf := _LEAVES.get(".".join(rest[1:]))):
            level = int(child[1:]).bit_length() - 3  # b4 is level 0
            if rest[0] == "torgb":
                found[f"to_image.{level}.{leaf}"] = tensor
            elif rest[0] == "conv0":
                # Convolution in the strict sense, with the kernel mirrored; here all are correlations.
                found[f"convs.{2 * level - 1}.{leaf}"] = tensor.flip(2, 3) if leaf == "weight" else tensor
            else:
                found[f"convs.{2 * level}.{leaf}"] = tensor
    return found
