"""Swin transformer (Liu et al. 2021) with a UPerNet head (Xiao et al. 2018), both of Hugging Face's transformers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from synthkit_segmentation.recipe import Task
from torch import Tensor, nn
from transformers import SwinConfig, UperNetConfig, UperNetForSemanticSegmentation

# The library's decorators hide what its classes are given and give.
# mypy: disable-error-code="misc, call-arg, arg-type, no-any-return, no-untyped-call"

#: Patches of 4 pixels, merged three times. Windows that do not fit are padded by the network itself.
STRIDE = 32

_WINDOW = 7
_STAGES = ["stage1", "stage2", "stage3", "stage4"]


@dataclass(frozen=True)
class Backbone:
    """Channels of the first stage (doubled each stage), blocks and attention heads of each stage."""

    embed: int
    depths: tuple[int, int, int, int]
    heads: tuple[int, int, int, int]


#: Those of the paper, and one for tests and for looking at things on a CPU.
BACKBONES = {
    "base": Backbone(128, (2, 2, 18, 2), (4, 8, 16, 32)),
    "small": Backbone(96, (2, 2, 18, 2), (3, 6, 12, 24)),
    "tiny": Backbone(96, (2, 2, 6, 2), (3, 6, 12, 24)),
    "nano": Backbone(32, (2, 2, 2, 2), (1, 2, 4, 8)),
}


class SwinUPerNet(UperNetForSemanticSegmentation):
    """Logits (n, class, y, x) of the size of the input; in training also those of the auxiliary head."""

    def __init__(self, config: UperNetConfig) -> None:
        super().__init__(config)
        # Only the maps of the stages are used, each with a norm of its own.
        self.backbone.swin.layernorm = nn.Identity()

    def forward(self, images: Tensor) -> Tensor | list[Tensor]:
        maps = self.backbone(images).feature_maps
        logits = _enlarged(self.decode_head(maps), images)
        return [logits, _enlarged(self.auxiliary_head(maps), images)] if self.training else logits


def _enlarged(logits: Tensor, images: Tensor) -> Tensor:
    return F.interpolate(logits, size=images.shape[-2:], mode="bilinear", align_corners=False)


def build_network(
    task: Task, backbone: str, device: torch.device, seed: int = 0, *, head_channels: int = 512, drop_path: float = 0.3
) -> SwinUPerNet:
    """The network on ``device``; its first weights come from ``seed``, and no global generator is touched for good."""
    shape = BACKBONES[backbone]
    config = UperNetConfig(
        backbone_config=SwinConfig(
            num_channels=task.contrasts,
            embed_dim=shape.embed,
            depths=list(shape.depths),
            num_heads=list(shape.heads),
            window_size=_WINDOW,
            drop_path_rate=drop_path,
            out_features=_STAGES,
        ),
        num_labels=task.classes,
        hidden_size=head_channels,
        auxiliary_in_channels=4 * shape.embed,
        auxiliary_channels=head_channels // 2,
    )
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return SwinUPerNet(config).to(device)
