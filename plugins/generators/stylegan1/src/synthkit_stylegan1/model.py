"""StyleGAN for MR contrasts and their labels: losses, training and generation, written from the papers.

Sources: [1] Karras, Laine, Aila 2019, arXiv 1812.04948 (StyleGAN: style mixing, truncation, losses in appendix C);
[4] Karras et al. 2018, arXiv 1710.10196 (progressive growing); [5] Mescheder et al. 2018, arXiv 1801.04406 (R1). The
networks are in :mod:`synthkit_stylegan1.networks` and :mod:`synthkit_generative.progressive`.

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
import torch.nn.functional as F
from numpy.typing import NDArray
from synthkit_generative.adversarial import generator_step, r1_penalty, r1_weight
from synthkit_generative.batches import microbatches
from synthkit_generative.data import square_side
from synthkit_generative.drawing import draw, load_network
from synthkit_generative.encodings import encoding_of
from synthkit_generative.foreign.checkpoints import check_channels, check_mean, save_imported, state_of, translating
from synthkit_generative.foreign.tensorflow import growth_of, read_tensorflow_generator
from synthkit_generative.freezing import require_discriminator
from synthkit_generative.growing import GrowingTraining
from synthkit_generative.initial import Initial
from synthkit_generative.layers import mean_w
from synthkit_generative.progressive import GrowingDiscriminator, Schedule, upscale
from synthkit_generative.training import Method, fit
from synthkit_torch import parallel
from synthkit_torch.devices import find_device
from synthkit_torch.streams import SeedStreams, own_seed, stream
from torch import Tensor

from synthkit.contract import Samples
from synthkit_stylegan1 import Params, official
from synthkit_stylegan1.networks import Architecture, Generator

FIRST_LEVEL = 1  # [1] appendix C: growing begins at 8 x 8

#: What a generated image follows from, a row a sample: two latents ``(n, 2, latent)``, whether they are mixed ``(n,)``,
#: from which style on ``(n,)``, and the noise of each style's layer.
Inputs = tuple[Tensor, ...]


class Training(GrowingTraining):
    """The step of StyleGAN: non-saturating logistic loss with R1 on real images ([1] appendix C)."""

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
        self.gamma = r1_weight(params.gamma, 10.0, architecture.size)
        with own_seed(params.seed):
            generator = Generator(architecture).to(device)
            discriminator = GrowingDiscriminator(architecture, smooth=True).to(device)
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
        """The discriminator first, then the generator, each on new latents."""
        count = self.params.accumulate
        n = len(real) * parallel.n_processes()
        fakes = (self._generate(part, level, alpha) for part in self._inputs(n, level, random))
        loss_d, penalty = self._discriminator_step(microbatches(real, count), fakes, level, alpha)
        fakes = (self._generate(part, level, alpha) for part in self._inputs(n, level, random))
        loss_g = generator_step(
            lambda images: self.discriminator(images, level, alpha, self.precision),
            self.discriminator,
            self.optimisers["generator"],
            fakes,
            count,
        )
        return {"loss_g": loss_g, "loss_d": loss_d, "r1": penalty}

    def _discriminator_step(
        self, reals: list[Tensor], fakes: Iterator[Tensor], level: int, alpha: float
    ) -> tuple[Tensor, Tensor]:
        """One step of the discriminator; returns its loss and the mean R1 penalty, without its weight."""
        optimiser, precision = self.optimisers["discriminator"], self.precision
        count = len(reals) * parallel.n_processes()
        optimiser.zero_grad(set_to_none=True)
        losses, penalties = [], []
        for real in reals:
            with torch.no_grad():
                fake = next(fakes)
            loss_fake = F.softplus(self.discriminator(fake, level, alpha, precision)).mean() / count
            loss_fake.backward()
            images = real.detach().requires_grad_(True)
            logits = self.discriminator(images, level, alpha, precision)
            loss_real = F.softplus(-logits).mean() / count
            penalty = r1_penalty(logits, images).mean() / count
            (loss_real + self.gamma / 2 * penalty).backward()
            losses.append((loss_fake + loss_real).detach())
            penalties.append(penalty.detach())
        parallel.step(optimiser)
        return parallel.total(losses), parallel.total(penalties)

    def _inputs(self, n: int, level: int, random: torch.Generator) -> list[Inputs]:
        """New inputs of a batch of ``n``: this process's share, in parts.

        Latents are mixed from a random layer of this level on ([1] section 3.1).
        """
        styles = 2 * (level + 1)
        z = torch.randn(n, 2, self.architecture.latent, device=self.device, generator=random)
        mixed = torch.rand(n, device=self.device, generator=random) < self.params.style_mixing
        start = torch.randint(1, styles, (n,), device=self.device, generator=random)
        noise = [
            torch.randn(n, 1, side, side, device=self.device, generator=random)
            for side in self.architecture.noise_sizes[:styles]
        ]
        drawn = (microbatches(parallel.share(tensor), self.params.accumulate) for tensor in (z, mixed, start, *noise))
        return list(zip(*drawn, strict=True))

    def _generate(self, inputs: Inputs, level: int, alpha: float) -> Tensor:
        z, mixed, start, *noise = inputs
        first, second = self.generator.mapping(z[:, 0]), self.generator.mapping(z[:, 1])
        other = (torch.arange(len(noise), device=self.device) >= start[:, None]) & mixed[:, None]
        w = torch.where(other[:, :, None], second[:, None], first[:, None])
        return self.generator.synthesis(w, noise, level, alpha, self.precision)

    def w_mean(self) -> Tensor:
        """The mean w of the generator's EMA: the centre of truncation."""
        random = stream(self.device, self.params.seed, 2)
        return mean_w(self.ema.mapping, self.architecture.latent, random)

    def inference_state(self) -> dict[str, Tensor]:
        """Weights of the EMA of the generator, its mean w, and how far it has grown."""
        return {**super().inference_state(), "w_mean": self.w_mean()}

    def draw(self, seeds: Sequence[int], level: int, alpha: float) -> Tensor:
        """Images of these seeds by the EMA of the generator, truncated as generation does by default."""
        return sample(self.ema, self.w_mean(), seeds, level, alpha, self.params)


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
    size = square_side(data, "StyleGAN")
    architecture = Architecture(
        size, len(data.contrasts) + encoding.channels, params.channel_base, params.channel_max, params.mapping_layers
    )
    if begun is not None and begun.imported:
        architecture = Architecture(**begun.architecture)
    last = len(architecture.resolutions) - 1
    first = FIRST_LEVEL if begun is None else last  # another training's networks have grown
    Schedule(first, last, params.fade_kimg, params.stable_kimg).require(params.kimg)
    method = Method(
        name="StyleGAN",
        architecture=dataclasses.asdict(architecture),
        memory="Raise accumulate, or lower batch_size (and channel_base if that is not enough), and run it again.",
        divergence="Train again with a lower learning_rate, a higher gamma or precision=float32.",
    )
    make = functools.partial(Training, architecture, params, first=first)
    fit(method, data, checkpoint, params, make, begun, encoding=encoding)


def generate(
    checkpoint: Path, seeds: Iterable[int], params: Params
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """Yield ``(image uint8 (contrast, y, x), labels uint8 (y, x))`` for each seed, in order."""
    device = find_device()
    generator, others, encoding = load_network(
        Path(checkpoint), _build, device=device, name="StyleGAN", beside=("w_mean", "growth")
    )
    w_mean, (level, alpha) = others["w_mean"], others["growth"].tolist()
    yield from draw(
        seeds,
        lambda batch: upscale(sample(generator, w_mean, batch, int(level), alpha, params), generator.architecture.size),
        params,
        encoding=encoding,
        device=device,
        name="StyleGAN",
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
    network = read_tensorflow_generator(file, "G_style")
    with translating("StyleGAN"):
        architecture = official.architecture_of(network)
        check_channels(architecture.channels, contrasts)
        tensors = official.translate(network, architecture)
        w_mean = tensors.pop("w_mean")
        check_mean(w_mean, architecture.latent)
        state = state_of(lambda: Generator(architecture), tensors)
        learned = {**state, "growth": growth_of(network.tensors["lod"], len(architecture.resolutions))}
        learned["w_mean"] = w_mean
    save_imported(checkpoint, dataclasses.asdict(architecture), learned, contrasts, label_values)
    return architecture.size


def sample(
    generator: Generator, w_mean: Tensor, seeds: Sequence[int], level: int, alpha: float, params: Params
) -> Tensor:
    """Images of these seeds; latent and noise of each come from its seed alone."""
    streams = SeedStreams(seeds, w_mean.device)
    z = streams.normal(generator.architecture.latent)
    noise = [streams.normal(1, side, side) for side in generator.architecture.noise_sizes[: 2 * (level + 1)]]
    w = generator.styles(z, w_mean, params.truncation_psi, params.truncation_side)
    return generator.synthesis(w, noise, level, alpha)
