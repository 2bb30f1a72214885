"""Progressive GAN for MR contrasts and their labels: losses, training and generation, written from the papers.

Sources: [4] Karras et al. 2018, arXiv 1710.10196 (Progressive GAN; training in appendix A.1); [6] Gulrajani et al.
2017, arXiv 1704.00028 (WGAN-GP). The networks are in :mod:`synthkit_progan.networks` and
:mod:`synthkit_generative.progressive`.

An image here is ``float (n, contrast + channel, y, x)`` in [-1, 1]: the contrasts, then the labels in their encoding.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from synthkit_generative.batches import microbatches
from synthkit_generative.data import square_side
from synthkit_generative.drawing import draw, load_network
from synthkit_generative.encodings import encoding_of
from synthkit_generative.foreign.checkpoints import check_channels, save_imported, state_of, translating
from synthkit_generative.foreign.tensorflow import growth_of, read_tensorflow_generator
from synthkit_generative.freezing import require_discriminator, without_gradients
from synthkit_generative.growing import GrowingTraining
from synthkit_generative.initial import Initial
from synthkit_generative.progressive import GrowingDiscriminator, Schedule, upscale
from synthkit_generative.training import Method, fit
from synthkit_torch import parallel
from synthkit_torch.devices import find_device
from synthkit_torch.streams import SeedStreams, own_seed
from torch import Tensor

from synthkit.contract import Samples
from synthkit_progan import Params, official
from synthkit_progan.networks import Architecture, Generator

FIRST_LEVEL = 0  # [4] section 2: growing begins at 4 x 4


def gradient_penalty(scores: Tensor, images: Tensor) -> Tensor:
    """``(|dD/dx| - 1)^2`` of each image, ``(n,)`` ([6] equation 3); it can be derived again."""
    (gradient,) = torch.autograd.grad(scores.sum(), images, create_graph=True)
    return (gradient.square().sum(dim=(1, 2, 3)).add(1e-12).sqrt() - 1).square()


class Training(GrowingTraining):
    """The step of Progressive GAN: WGAN-GP with a penalty on drifting scores ([4] appendix A.1)."""

    generator: Generator
    ema: Generator

    def __init__(
        self,
        architecture: Architecture,
        params: Params,
        device: torch.device,
        precision: torch.dtype,
        *,
        first: int = FIRST_LEVEL,
    ) -> None:
        self.architecture = architecture
        with own_seed(params.seed):
            generator = Generator(architecture).to(device)
            discriminator = GrowingDiscriminator(architecture, smooth=False).to(device)
        super().__init__(
            architecture,
            params,
            device,
            precision,
            generator=generator,
            discriminator=discriminator,
            first=first,
        )

    def update(self, real: Tensor, level: int, alpha: float, random: torch.Generator) -> dict[str, Tensor]:
        """The discriminator first, then the generator, each on new latents ([4] appendix A.1: n_critic = 1)."""
        n = len(real) * parallel.n_processes()
        z = torch.randn(2, n, self.architecture.latent, device=self.device, generator=random)
        mix = torch.rand(n, 1, 1, 1, device=self.device, generator=random)
        loss_d, penalty = self._discriminator_step(real, parallel.share(z[0]), parallel.share(mix), level, alpha)
        loss_g = self._generator_step(parallel.share(z[1]), level, alpha)
        return {"loss_g": loss_g, "loss_d": loss_d, "gradient_penalty": penalty}

    def _discriminator_step(
        self, real: Tensor, z: Tensor, mix: Tensor, level: int, alpha: float
    ) -> tuple[Tensor, Tensor]:
        """One step of the discriminator; returns its Wasserstein loss and the mean gradient penalty, unweighted."""
        params, optimiser = self.params, self.optimisers["discriminator"]
        count = params.accumulate * parallel.n_processes()
        optimiser.zero_grad(set_to_none=True)
        losses, penalties = [], []
        for images, latents, t in zip(
            *(microbatches(tensor, params.accumulate) for tensor in (real, z, mix)), strict=True
        ):
            with torch.no_grad():
                fake = self.generator(latents, level, alpha, self.precision)
            of_fake = self.discriminator(fake, level, alpha, self.precision)
            (of_fake.mean() / count).backward()
            of_real = self.discriminator(images, level, alpha, self.precision)
            ((params.drift_penalty * of_real.square() - of_real).mean() / count).backward()
            # In float32 whatever the rest: the norm of a gradient in bfloat16 is off by more than what is asked of it.
            between = images.lerp(fake, t).requires_grad_(True)
            penalty = gradient_penalty(self.discriminator(between, level, alpha), between).mean() / count
            (params.gradient_penalty * penalty).backward()
            losses.append((of_fake - of_real).detach().mean() / count)
            penalties.append(penalty.detach())
        parallel.step(optimiser)
        return parallel.total(losses), parallel.total(penalties)

    def _generator_step(self, z: Tensor, level: int, alpha: float) -> Tensor:
        """One step of the generator; returns its loss."""
        optimiser = self.optimisers["generator"]
        count = self.params.accumulate * parallel.n_processes()
        optimiser.zero_grad(set_to_none=True)
        losses = []
        with without_gradients(self.discriminator):
            for latents in microbatches(z, self.params.accumulate):
                fake = self.generator(latents, level, alpha, self.precision)
                loss = -self.discriminator(fake, level, alpha, self.precision).mean() / count
                loss.backward()
                losses.append(loss.detach())
        parallel.step(optimiser)
        return parallel.total(losses)

    def draw(self, seeds: Sequence[int], level: int, alpha: float) -> Tensor:
        """Images of these seeds by the EMA of the generator."""
        return sample(self.ema, seeds, level, alpha)


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
    architecture = Architecture(
        square_side(data, "Progressive GAN"),
        len(data.contrasts) + encoding.channels,
        params.channel_base,
        params.channel_max,
    )
    if begun is not None and begun.imported:
        architecture = Architecture(**begun.architecture)
    last = len(architecture.resolutions) - 1
    first = FIRST_LEVEL if begun is None else last  # another training's networks have grown
    Schedule(first, last, params.fade_kimg, params.stable_kimg).require(params.kimg)
    method = Method(
        name="Progressive GAN",
        architecture=dataclasses.asdict(architecture),
        memory="Raise accumulate, or lower batch_size (and channel_base if that is not enough), and run it again.",
        divergence="Train again with a lower learning_rate, a larger batch_size or precision=float32.",
    )
    make = functools.partial(Training, architecture, params, first=first)
    fit(method, data, checkpoint, params, make, begun, encoding=encoding)


def generate(
    checkpoint: Path, seeds: Iterable[int], params: Params
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """Yield ``(image uint8 (contrast, y, x), labels uint8 (y, x))`` for each seed, in order."""
    device = find_device()
    generator, others, encoding = load_network(
        Path(checkpoint), _build, device=device, name="Progressive GAN", beside=("growth",)
    )
    level, alpha = others["growth"].tolist()
    yield from draw(
        seeds,
        lambda batch: upscale(sample(generator, batch, int(level), alpha), generator.architecture.size),
        params,
        encoding=encoding,
        device=device,
        name="Progressive GAN",
    )


def _build(architecture: dict[str, Any]) -> Generator:
    with torch.device("meta"):  # no time spent on weights that are replaced at once
        return Generator(Architecture(**architecture))


def import_checkpoint(
    file: Path,
    checkpoint: Path,
    *,
    contrasts: Sequence[str],
    label_values: Sequence[int],
    params: Params = Params(),
) -> int:
    """Bring a network of the official TensorFlow code (``network-*.pkl``) into a checkpoint; returns its side."""
    network = read_tensorflow_generator(file, "G_paper")
    with translating("Progressive GAN"):
        architecture = official.architecture_of(network)
        check_channels(architecture.channels, contrasts)
        tensors = official.translate(network.tensors, architecture)
        state = state_of(lambda: Generator(architecture), tensors)
        learned = {**state, "growth": growth_of(network.tensors["lod"], len(architecture.resolutions))}
    save_imported(checkpoint, dataclasses.asdict(architecture), learned, contrasts, label_values)
    return architecture.size


def sample(generator: Generator, seeds: Sequence[int], level: int, alpha: float) -> Tensor:
    """Images of these seeds; the latent of each comes from its seed alone."""
    z = SeedStreams(seeds, generator.first.weight.device).normal(generator.architecture.latent)
    images: Tensor = generator(z, level, alpha)
    return images
