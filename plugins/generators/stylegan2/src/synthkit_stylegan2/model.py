"""StyleGAN2 for MR contrasts and their labels: losses, training and generation, written from the papers.

Sources: [1] Karras, Laine, Aila 2019, arXiv 1812.04948 (style mixing, truncation); [2] Karras et al. 2020, arXiv
1912.04958 (StyleGAN2: path length, lazy regularisation); [3] Karras et al. 2020, arXiv 2006.06676 (adaptive
augmentation); [5] Mescheder et al. 2018, arXiv 1801.04406 (R1). The networks are in :mod:`synthkit_stylegan2.networks`.

An image here is ``float (n, contrast + channel, y, x)`` in [-1, 1]: the contrasts, then the labels in their encoding.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import math
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
from torch import Tensor, nn

from synthkit.contract import Samples
from synthkit_stylegan2 import Params, official
from synthkit_stylegan2.networks import Architecture, Discriminator, Generator

R1_INTERVAL = 16  # [2] appendix B: lazy regularisation, every 16 steps for the discriminator
PATH_INTERVAL = 4  # and every 4 for the generator
PATH_DECAY = 0.99  # [2] eq. 4: the target length is a moving average of the lengths seen
EMA_RAMP = 0.05  # half-life of the EMA as a share of the images shown, early in training


def path_lengths(images: Tensor, w: Tensor, directions: Tensor) -> Tensor:
    """Norm of ``J^T y`` of each sample, ``(n,)`` ([2] section 3.2).

    ``directions`` is ``y``, standard normal, shaped like ``images``; it is divided by the image's side. The square is
    averaged over the styles ``w (n, styles, latent)``: with weight 2 this is the paper's choice of weight for any size.
    """
    scaled = directions / math.sqrt(images.shape[2] * images.shape[3])
    (gradient,) = torch.autograd.grad((images * scaled).sum(), w, create_graph=True)
    return gradient.square().sum(dim=2).mean(dim=1).sqrt()


def _adam(network: nn.Module, rate: float, interval: int, weight: float) -> torch.optim.Adam:
    """Adam with betas 0 and 0.99, corrected for the extra steps of lazy regularisation, if any ([2] appendix B)."""
    share = interval / (interval + 1) if weight > 0 else 1.0
    return torch.optim.Adam(network.parameters(), lr=rate * share, betas=(0.0, 0.99**share), eps=1e-8, fused=True)


#: What a generated image follows from, a row a sample: two latents ``(n, 2, latent)``, whether they are mixed ``(n,)``,
#: from which style on ``(n,)``, and the noise of each convolution.
Inputs = tuple[Tensor, ...]


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
            self.discriminator = Discriminator(architecture).to(device)
        freeze(self.discriminator.first_layers, params.frozen_layers)
        self.ema = copy.deepcopy(self.generator).requires_grad_(False)
        # "averaged" is the name of the EMA in states on disk.
        self.modules = {"generator": self.generator, "discriminator": self.discriminator, "averaged": self.ema}
        self.optimisers = {
            "generator": _adam(self.generator, params.learning_rate, PATH_INTERVAL, params.path_length_weight),
            "discriminator": _adam(self.discriminator, params.learning_rate, R1_INTERVAL, self.gamma),
        }
        self.path_mean = torch.zeros((), device=device)
        self.augmentation = Augmentation(
            bool(params.augment), params.batch_size, params.accumulate, device, label_channels
        )
        self.step = 0

    def training_step(self, real: Tensor) -> dict[str, Tensor]:
        """One step on ``real``, images in [-1, 1]; returns the losses and what the augmentation goes by."""
        params, step, n = self.params, self.step, len(real) * parallel.n_processes()
        random = stream(self.device, params.seed, 1, step)
        reals = microbatches(real, params.accumulate)
        inputs = list(zip(*(microbatches(drawn, params.accumulate) for drawn in self._inputs(n, random)), strict=True))
        # The same generated images first train the discriminator, then the generator, which saves a synthesis.
        # Microbatches are drawn twice instead: to keep how they were made would take the memory of the whole batch.
        whole = self._generate(inputs[0]) if len(inputs) == 1 else None
        count, optimiser = len(inputs), self.optimisers["discriminator"]
        loss_d, sign = discriminator_step(
            self._logits,
            optimiser,
            self.augmentation.shown(reals, real, random),
            self.augmentation.shown(self._detached(inputs, whole), real, random),
            count,
        )
        if self.gamma > 0 and step % R1_INTERVAL == 0:
            shown = self.augmentation.shown(reals, real, random)
            r1_step(self._logits, optimiser, shown, count, self.gamma / 2 * R1_INTERVAL)
        fakes = [whole] if whole is not None else map(self._generate, inputs)
        shown = self.augmentation.shown(fakes, real, random)
        loss_g = generator_step(self._logits, self.discriminator, self.optimisers["generator"], shown, count)
        if params.path_length_weight > 0 and step % PATH_INTERVAL == 0:
            self._path_length_step(max(1, len(real) // 2) * parallel.n_processes(), random)
        self.step += 1
        decay = ema_decay(params.batch_size, self.step * params.batch_size, params.ema_kimg, EMA_RAMP)
        update_ema(self.ema, self.generator, decay)
        return {"loss_g": loss_g, "loss_d": loss_d, **self.augmentation.watch(sign, self.step)}

    def _inputs(self, n: int, random: torch.Generator) -> Inputs:
        """New inputs of ``n`` images: this process's share.

        Without noise its learned strengths stay at 0, and generation is free of it too.
        """
        z = torch.randn(2, n, self.architecture.latent, device=self.device, generator=random).transpose(0, 1)
        mixed = torch.rand(n, device=self.device, generator=random) < self.params.style_mixing
        start = torch.randint(1, self.architecture.styles, (n,), device=self.device, generator=random)
        shapes = [(n, 1, side, side) for side in self.architecture.noise_sizes]
        if self.params.noise:
            noise = [torch.randn(shape, device=self.device, generator=random) for shape in shapes]
        else:
            noise = [torch.zeros(shape, device=self.device) for shape in shapes]
        return tuple(parallel.share(drawn) for drawn in (z, mixed, start, *noise))

    def _styles(self, z: Tensor, mixed: Tensor, start: Tensor) -> Tensor:
        """Styles ``(n, styles, latent)`` of latents, some of them mixed of two from a random layer on ([1] 3.1)."""
        n, _, latent = z.shape
        first, second = self.generator.mapping(z.transpose(0, 1).flatten(0, 1)).view(2, n, 1, latent)
        other = (torch.arange(self.architecture.styles, device=self.device) >= start[:, None]) & mixed[:, None]
        return torch.where(other[:, :, None], second, first)

    def _generate(self, inputs: Inputs) -> Tensor:
        z, mixed, start, *noise = inputs
        return self.generator.synthesis(self._styles(z, mixed, start), noise, precision=self.precision)

    def _detached(self, inputs: list[Inputs], whole: Tensor | None) -> Iterator[Tensor]:
        """Generated images without gradients, a microbatch at a time."""
        for part in inputs:
            with torch.no_grad():
                images = self._generate(part) if whole is None else whole.detach()
            yield images

    def _logits(self, images: Tensor) -> Tensor:
        logits: Tensor = self.discriminator(images, self.precision)
        return logits

    def _path_length_step(self, n: int, random: torch.Generator) -> None:
        """Path length ([2] eq. 4). The mean includes the lengths of the whole batch, so parts are measured first."""
        optimiser = self.optimisers["generator"]
        optimiser.zero_grad(set_to_none=True)
        inputs = self._inputs(n, random)
        shape = (n, self.architecture.channels, self.architecture.size, self.architecture.size)
        directions = torch.randn(shape, device=self.device, generator=random)
        drawn = (*inputs, parallel.share(directions))
        pieces = list(zip(*(tensor.chunk(self.params.accumulate) for tensor in drawn), strict=True))
        whole = self._lengths(pieces[0]) if len(pieces) == 1 else None
        seen = [self._lengths(piece).detach() for piece in pieces] if whole is None else [whole.detach()]
        self.path_mean.lerp_(parallel.mean(torch.cat(seen).mean()), 1 - PATH_DECAY)
        for piece in pieces:
            lengths = self._lengths(piece) if whole is None else whole
            penalty = (lengths - self.path_mean).square().sum() / n
            (penalty * (self.params.path_length_weight * PATH_INTERVAL)).backward()
        parallel.step(optimiser)

    def _lengths(self, piece: tuple[Tensor, ...]) -> Tensor:
        z, mixed, start, *noise, directions = piece
        w = self._styles(z, mixed, start)
        return path_lengths(self.generator.synthesis(w, noise, precision=self.precision), w, directions)

    def state(self) -> dict[str, Tensor]:
        """Everything that the next step depends on, but the step's number."""
        return {
            "path_mean": self.path_mean,
            **self.augmentation.state(),
            **state_dict(self.modules, self.optimisers),
        }

    def begin_with(self, weights: dict[str, Tensor], state: dict[str, Tensor]) -> None:
        """Begin with what another training learned, see :func:`synthkit_generative.initial.load_initial`."""
        load_initial(self.modules, weights, state)

    def restore(self, tensors: dict[str, Tensor], step: int) -> None:
        """Continue from what :meth:`state` gave after ``step`` steps."""
        load_state_dict(tensors, self.modules, self.optimisers)
        self.path_mean.copy_(tensors["path_mean"])
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
    size = square_side(data, "StyleGAN2")
    architecture = Architecture(
        size, len(data.contrasts) + encoding.channels, params.channel_base, params.channel_max, params.mapping_layers
    )
    if begun is not None and begun.imported:
        architecture = Architecture(**begun.architecture)
    method = Method(
        name="StyleGAN2",
        architecture=dataclasses.asdict(architecture),
        memory="Raise accumulate, or lower batch_size (and channel_base if that is not enough), and run it again.",
        divergence="Train again with a lower learning_rate, a higher gamma or precision=float32.",
    )
    few = len(data) < FEW_IMAGES
    trained = dataclasses.replace(params, augment=few if params.augment is None else params.augment)
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
        name="StyleGAN2",
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
    with translating("StyleGAN2"):
        architecture = official.architecture_of(network)
        check_channels(architecture.channels, contrasts)
        tensors = official.translate(network.tensors)
        w_mean = tensors.pop("w_mean")
        check_mean(w_mean, architecture.style)
        state = state_of(lambda: Generator(architecture), tensors)
        learned = {**state, "w_mean": w_mean}
    save_imported(checkpoint, dataclasses.asdict(architecture), learned, contrasts, label_values)
    return architecture.size


def sample(generator: Generator, w_mean: Tensor, seeds: Sequence[int], psi: float) -> Tensor:
    """Images of these seeds; latent and noise of each come from its seed alone."""
    streams = SeedStreams(seeds, w_mean.device)
    z = streams.normal(generator.architecture.latent)
    noise = [streams.normal(1, side, side) for side in generator.architecture.noise_sizes]
    planes: Tensor = generator(z, noise, w_mean, psi)
    return planes


def _load(checkpoint: Path, device: torch.device) -> tuple[Generator, Tensor, Encoding]:
    """The generator of a checkpoint, its mean w, and the labels it draws, from the lowest grey level on."""
    generator, others, encoding = load_network(checkpoint, _build, device=device, name="StyleGAN2", beside=("w_mean",))
    return generator, others["w_mean"], encoding


def _build(architecture: dict[str, Any]) -> Generator:
    with torch.device("meta"):  # no time spent on weights that are replaced at once
        return Generator(Architecture(**architecture))
