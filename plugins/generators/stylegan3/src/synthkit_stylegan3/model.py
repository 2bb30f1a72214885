"""StyleGAN3 for MR contrasts and their labels: training and generation, written from the paper.

Source: Karras et al. 2021, arXiv 2106.12423 ("the paper"), appendix F for the training. Loss and R1 are in
``synthkit_generative.adversarial``; there is no path length, no mixing of styles and no noise.

An image here is ``float (n, contrast + channel, y, x)`` in [-1, 1]: the contrasts, then the labels in their encoding.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from synthkit_generative.adversarial import discriminator_step, generator_step, r1_step, r1_weight
from synthkit_generative.augmentation import FEW_IMAGES, Augmentation
from synthkit_generative.batches import microbatches
from synthkit_generative.data import square_side
from synthkit_generative.discriminator import Discriminator, Pyramid
from synthkit_generative.drawing import draw, load_network
from synthkit_generative.encodings import Encoding, encoding_of
from synthkit_generative.foreign.checkpoints import (
    check_channels,
    check_mean,
    read_generator,
    save_imported,
    state_of,
    translating,
)
from synthkit_generative.freezing import freeze, require_discriminator
from synthkit_generative.initial import Initial, load_initial
from synthkit_generative.layers import mean_w
from synthkit_generative.training import Method, fit
from synthkit_generative.weights import ema_decay, load_state_dict, state_dict, update_ema
from synthkit_torch import parallel
from synthkit_torch.devices import find_device
from synthkit_torch.streams import SeedStreams, own_seed, stream
from torch import Tensor

from synthkit.contract import Samples
from synthkit_stylegan3 import Params, official
from synthkit_stylegan3.networks import Generator
from synthkit_stylegan3.schedule import Architecture

R1_INTERVAL = 16  # arXiv 1912.04958, appendix B: lazy regularisation, every 16 steps
EMA_RAMP = 0.05  # half-life of the EMA as a share of the images shown, early in training
MAGNITUDE_KIMG = 20.0  # half-life of the layers' moving magnitudes
BLUR_SIGMA = 10.0  # standard deviation in pixels of the first blur of config r, at 256 pixels and more


def blur(images: Tensor, sigma: float) -> Tensor:
    """Gaussian blur with standard deviation ``sigma`` in pixels; at the edge, weights inside the image sum to 1."""
    if sigma <= 0:
        return images
    position = torch.arange(images.shape[-1], device=images.device)
    weights = torch.exp(-0.5 * ((position[:, None] - position) / sigma).square())
    weights = weights / weights.sum(dim=1, keepdim=True)
    return weights @ images @ weights.T


class Training:
    """Both networks, their optimisers, the generator's EMA, and the step that trains them."""

    def __init__(
        self,
        architecture: Architecture,
        params: Params,
        device: torch.device,
        precision: torch.dtype,
        label_channels: int = 1,
    ) -> None:
        self.architecture = architecture
        self.params = params
        self.gamma = r1_weight(params.gamma, 8.0, architecture.size)
        self.device = device
        self.precision = precision
        with own_seed(params.seed):
            self.generator = Generator(architecture).to(device)
            pyramid = Pyramid(architecture.size, architecture.channels, params.channel_base, params.channel_max)
            self.discriminator = Discriminator(pyramid).to(device)
        freeze(self.discriminator.first_layers, params.frozen_layers)
        self.ema = copy.deepcopy(self.generator).requires_grad_(False)
        # "averaged" is the name of the EMA in states on disk.
        self.modules = {"generator": self.generator, "discriminator": self.discriminator, "averaged": self.ema}
        # Adam of the discriminator is corrected for its extra steps (arXiv 1912.04958, appendix B).
        share = R1_INTERVAL / (R1_INTERVAL + 1) if self.gamma > 0 else 1.0
        self.optimisers = {
            "generator": torch.optim.Adam(
                self.generator.parameters(), lr=params.learning_rate, betas=(0.0, 0.99), eps=1e-8, fused=True
            ),
            "discriminator": torch.optim.Adam(
                self.discriminator.parameters(),
                lr=params.discriminator_learning_rate * share,
                betas=(0.0, 0.99**share),
                eps=1e-8,
                fused=True,
            ),
        }
        self.augmentation = Augmentation(
            bool(params.augment), params.batch_size, params.accumulate, device, label_channels
        )
        self.step = 0

    @property
    def sigma(self) -> float:
        """Standard deviation in pixels of the blur of what the discriminator sees in this step (appendix F.2).

        It keeps the discriminator of config r from heeding the finest details before there are any others.
        """
        if self.params.config != "r" or self.params.blur_kimg <= 0:
            return 0.0
        left = 1 - self.step * self.params.batch_size / (self.params.blur_kimg * 1000)
        return max(left, 0.0) * BLUR_SIGMA * min(self.architecture.size / 256, 1.0)

    def training_step(self, real: Tensor) -> dict[str, Tensor]:
        """One step on ``real``, images in [-1, 1]; returns the losses of generator and discriminator."""
        count, sigma = self.params.accumulate, self.sigma
        random = stream(self.device, self.params.seed, 1, self.step)
        n = len(real) * parallel.n_processes()
        z = parallel.share(torch.randn(n, self.architecture.latent, device=self.device, generator=random))
        reals, latents = microbatches(blur(real, sigma), count), microbatches(z, count)

        def discriminator(images: Tensor) -> Tensor:
            logits: Tensor = self.discriminator(images, self.precision)
            return logits

        observed: list[Tensor] = []
        drawn: Iterable[Tensor]
        if count == 1:
            # The same generated images first train the discriminator, then the generator, which saves a synthesis.
            drawn = [self._generate(z, observed)]
            detached: Iterable[Tensor] = [drawn[0].detach()]
        else:
            # Microbatches are drawn twice: to keep how they were made would take the memory of the whole batch.
            drawn = (self._generate(part, observed) for part in latents)
            detached = (self._generate_detached(part) for part in latents)
        optimiser = self.optimisers["discriminator"]
        loss_d, sign = discriminator_step(
            discriminator,
            optimiser,
            self.augmentation.shown(reals, real, random),
            self.augmentation.shown((blur(fake, sigma) for fake in detached), real, random),
            count,
        )
        if self.gamma > 0 and self.step % R1_INTERVAL == 0:
            shown = self.augmentation.shown(reals, real, random)
            r1_step(discriminator, optimiser, shown, count, self.gamma / 2 * R1_INTERVAL)
        optimiser = self.optimisers["generator"]
        shown = self.augmentation.shown((blur(fake, sigma) for fake in drawn), real, random)
        loss_g = generator_step(discriminator, self.discriminator, optimiser, shown, count)
        self.step += 1
        batch_size, n_shown = self.params.batch_size, self.step * self.params.batch_size
        self.generator.update_magnitude_ema(
            parallel.mean(torch.stack(observed).mean(dim=0)), ema_decay(batch_size, n_shown, MAGNITUDE_KIMG)
        )
        update_ema(self.ema, self.generator, ema_decay(batch_size, n_shown, self.params.ema_kimg, EMA_RAMP))
        return {"loss_g": loss_g, "loss_d": loss_d, **self.augmentation.watch(sign, self.step)}

    def _generate(self, z: Tensor, observed: list[Tensor]) -> Tensor:
        """Images of these latents; appends the magnitudes seen on the way."""
        magnitudes: list[Tensor] = []
        images: Tensor = self.generator.synthesis(self.generator.mapping(z), self.precision, magnitudes=magnitudes)
        observed.append(torch.stack(magnitudes))
        return images

    @torch.no_grad()
    def _generate_detached(self, z: Tensor) -> Tensor:
        images: Tensor = self.generator.synthesis(self.generator.mapping(z), self.precision)
        return images

    def state(self) -> dict[str, Tensor]:
        """Everything that the next step depends on, but the step's number."""
        return {**self.augmentation.state(), **state_dict(self.modules, self.optimisers)}

    def begin_with(self, weights: dict[str, Tensor], state: dict[str, Tensor]) -> None:
        """Begin with what another training learned, see :func:`synthkit_generative.initial.load_initial`."""
        load_initial(self.modules, weights, state)

    def restore(self, tensors: dict[str, Tensor], step: int) -> None:
        """Continue from what :meth:`state` gave after ``step`` steps."""
        load_state_dict(tensors, self.modules, self.optimisers)
        self.augmentation.restore(tensors)
        self.step = step

    def w_mean(self) -> Tensor:
        """The mean w of the generator's EMA: the centre of truncation."""
        random = stream(self.device, self.params.seed, 2)
        return mean_w(self.ema.mapping, self.architecture.latent, random)

    def inference_state(self) -> dict[str, Tensor]:
        """Weights of the EMA of the generator, and its mean w."""
        return {**self.ema.state_dict(), "w_mean": self.w_mean()}

    def sample(self, seeds: Sequence[int]) -> Tensor:
        """Images of these seeds by the EMA of the generator."""
        return sample(self.ema, self.w_mean(), seeds, self.params.truncation_psi)


def make_architecture(size: int, channels: int, params: Params) -> Architecture:
    """Architecture of config t or r. Config r has twice the feature maps, for kernels of one pixel."""
    radial = params.config == "r"
    wider = 2 if radial else 1
    return Architecture(
        size=size,
        channels=channels,
        channel_base=wider * params.channel_base,
        channel_max=wider * params.channel_max,
        latent=params.latent,
        mapping_layers=params.mapping_layers,
        kernel=1 if radial else 3,
        radial=radial,
    )


def train(
    data: Samples,
    checkpoint: Path,
    params: Params,
    *,
    initial: Path | None = None,
    initial_state: Path | None = None,
) -> None:
    """Train on all of ``data`` into the folder ``checkpoint``; see :func:`synthkit_generative.training.fit`."""
    begun = Initial.of(initial, initial_state)
    require_discriminator(params.frozen_layers, begun)
    encoding = encoding_of(
        params.label_encoding, data, params.label_order, begun.encoding if begun is not None else None
    )
    architecture = make_architecture(square_side(data, "StyleGAN3"), len(data.contrasts) + encoding.channels, params)
    if begun is not None and begun.imported:
        architecture = Architecture(**begun.architecture)
    method = Method(
        name="StyleGAN3",
        architecture=dataclasses.asdict(architecture),
        memory="Raise accumulate, or lower batch_size (and channel_base if that is not enough), and run it again.",
        divergence="Train again with a lower learning_rate, a higher gamma or precision=float32.",
    )
    few = len(data) < FEW_IMAGES
    trained = dataclasses.replace(params, augment=few if params.augment is None else params.augment)
    if begun is not None:  # the blur is for networks that draw no details yet
        trained = dataclasses.replace(trained, blur_kimg=0.0)
    make = functools.partial(Training, architecture, trained, label_channels=encoding.channels)
    fit(method, data, checkpoint, params, make, begun, encoding=encoding)


def generate(
    checkpoint: Path, seeds: Iterable[int], params: Params
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """Yield ``(image uint8 (contrast, y, x), labels uint8 (y, x))`` for each seed, in order."""
    device = find_device()
    generator, w_mean, encoding = _load(Path(checkpoint), device)
    yield from draw(
        seeds,
        lambda batch: sample(generator, w_mean, batch, params.truncation_psi),
        params,
        encoding=encoding,
        device=device,
        name="StyleGAN3",
    )


def import_checkpoint(
    file: Path,
    checkpoint: Path,
    *,
    contrasts: Sequence[str],
    label_values: Sequence[int],
    params: Params = Params(),
) -> int:
    """Bring an official snapshot (``network-snapshot-*.pkl``) into a checkpoint; returns the side of its images."""
    network = read_generator(file)
    with translating("StyleGAN3"):
        architecture = official.architecture_of(network)
        check_channels(architecture.channels, contrasts)
        tensors = official.translate(network.tensors)
        w_mean = tensors.pop("w_mean")
        check_mean(w_mean, architecture.latent)
        state = state_of(lambda: Generator(architecture), tensors)
        learned = {**state, "w_mean": w_mean}
    save_imported(checkpoint, dataclasses.asdict(architecture), learned, contrasts, label_values)
    return architecture.size


def sample(generator: Generator, w_mean: Tensor, seeds: Sequence[int], psi: float) -> Tensor:
    """Images of these seeds; the latent of each comes from its seed alone."""
    z = SeedStreams(seeds, w_mean.device).normal(generator.architecture.latent)
    images: Tensor = generator(z, w_mean, psi)
    return images


def _load(checkpoint: Path, device: torch.device) -> tuple[Generator, Tensor, Encoding]:
    """The generator of a checkpoint, its mean w, and the labels it draws, from the lowest grey level on."""
    generator, others, encoding = load_network(checkpoint, _build, device=device, name="StyleGAN3", beside=("w_mean",))
    return generator, others["w_mean"], encoding


def _build(architecture: dict[str, Any]) -> Generator:
    with own_seed(0):  # for weights that are replaced at once
        return Generator(Architecture(**architecture))
