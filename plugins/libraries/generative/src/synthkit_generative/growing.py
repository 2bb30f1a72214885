"""A training in progressive growth (Karras et al. 2018, arXiv 1710.10196): all but the losses and the networks."""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from synthkit_torch.streams import stream
from torch import Tensor, nn

from synthkit.errors import DataError
from synthkit_generative.discriminator import Pyramid
from synthkit_generative.freezing import freeze
from synthkit_generative.initial import load_initial
from synthkit_generative.progressive import GrowingDiscriminator, Schedule, downscale, upscale
from synthkit_generative.weights import ema_decay, load_state_dict, state_dict, update_ema


def _adam(network: nn.Module, rate: float) -> torch.optim.Optimizer:
    """Adam as in appendix A.1 of the paper."""
    return torch.optim.Adam(network.parameters(), lr=rate, betas=(0.0, 0.99), eps=1e-8, fused=True)


class GrowingTraining(ABC):
    """Both networks, their optimisers, the generator's EMA, and the level that they have grown to.

    ``params`` has batch_size, seed, learning_rate, frozen_layers, fade_kimg, stable_kimg and ema_kimg. ``first``
    is the index of the resolution that training begins with.
    """

    def __init__(
        self,
        pyramid: Pyramid,
        params: Any,
        device: torch.device,
        precision: torch.dtype,
        *,
        generator: nn.Module,
        discriminator: GrowingDiscriminator,
        first: int,
    ) -> None:
        self.pyramid, self.params, self.device, self.precision = pyramid, params, device, precision
        self.ema: nn.Module = copy.deepcopy(generator).requires_grad_(False)
        self.generator, self.discriminator = generator, discriminator
        freeze(discriminator.first_layers, params.frozen_layers)
        roles = ("generator", "discriminator")
        self.optimisers = {role: _adam(self._modules[role], params.learning_rate) for role in roles}
        self.schedule = Schedule(first, len(pyramid.resolutions) - 1, params.fade_kimg, params.stable_kimg)
        self.step = 0

    @abstractmethod
    def update(self, real: Tensor, level: int, alpha: float, random: torch.Generator) -> dict[str, Tensor]:
        """A step of both networks on ``real``, as a network of this level sees it; returns the losses."""

    @abstractmethod
    def draw(self, seeds: Sequence[int], level: int, alpha: float) -> Tensor:
        """Images of these seeds by the EMA of the generator, of the level's side."""

    def training_step(self, real: Tensor) -> dict[str, Tensor]:
        """One step on ``real``, images of full size in [-1, 1]; returns losses and how far it has grown."""
        params = self.params
        level, alpha = self.schedule.at(self.step * params.batch_size)
        side = self.pyramid.resolutions[level]
        random = stream(self.device, params.seed, 1, self.step)
        values = self.update(downscale(real, side, alpha), level, alpha, random)
        self.step += 1
        update_ema(self.ema, self.generator, ema_decay(params.batch_size, 0, params.ema_kimg))
        # 4.25: images of 32 pixels are a quarter faded in over those of 16.
        return values | {"log2_side": torch.tensor(math.log2(side) - 1 + alpha, device=self.device)}

    @property
    def _modules(self) -> dict[str, nn.Module]:
        # "averaged" is the name of the EMA in states on disk.
        return {"generator": self.generator, "discriminator": self.discriminator, "averaged": self.ema}

    def state(self) -> dict[str, Tensor]:
        """Everything that the next step depends on, but the step's number."""
        return state_dict(self._modules, self.optimisers)

    def restore(self, tensors: dict[str, Tensor], step: int) -> None:
        """Continue from what :meth:`state` gave after ``step`` steps."""
        load_state_dict(tensors, self._modules, self.optimisers)
        self.step = step

    def begin_with(self, weights: dict[str, Tensor], state: dict[str, Tensor]) -> None:
        """Begin with the networks of another training, which have grown to their full size."""
        if tuple(weights["growth"].tolist()) != self.schedule.at(0):
            raise DataError(
                "The training cannot begin with that checkpoint.",
                "Its networks have not grown to the full size of the images yet.",
                "Begin with one that was trained longer.",
            )
        load_initial(self._modules, weights, state)

    def growth(self) -> tuple[int, float]:
        """Level and alpha of the step done last."""
        return self.schedule.at(max(0, self.step - 1) * self.params.batch_size)

    def inference_state(self) -> dict[str, Tensor]:
        """Weights of the generator's EMA, and how far it has grown: what is not trained yet must not be drawn."""
        return {**self.ema.state_dict(), "growth": torch.tensor(self.growth(), dtype=torch.float64)}

    def sample(self, seeds: Sequence[int]) -> Tensor:
        """Images of these seeds by the EMA of the generator, repeated to full size."""
        return upscale(self.draw(seeds, *self.growth()), self.pyramid.size)
