"""EDM for MR contrasts and their labels: training and generation, written from the papers.

Source: [1] Karras, Aittala, Aila, Laine 2022, arXiv 2206.00364. Preconditioning, loss and sampler are in
``process.py``, augmentation in ``augmentation.py``, the UNet in :mod:`synthkit_generative.unet`.

An image here is ``float (n, contrast + channel, y, x)`` in [-1, 1]: the contrasts, then the labels in their encoding.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from synthkit_generative.batches import microbatches
from synthkit_generative.data import square_side
from synthkit_generative.drawing import checkpoint_errors, draw, draw_given, load, to_grey_levels
from synthkit_generative.encodings import Encoding, encoding_of, of_bytes
from synthkit_generative.initial import Initial, load_initial
from synthkit_generative.training import Method, fit
from synthkit_generative.unet import Architecture, group_for
from synthkit_generative.weights import ema_decay, load_state_dict, state_dict, update_ema
from synthkit_torch import parallel
from synthkit_torch.devices import autocast, find_device
from synthkit_torch.streams import SeedStreams, own_seed, stream
from torch import Tensor, nn

from synthkit.contract import Asked, Samples
from synthkit.errors import DataError, UsageError
from synthkit_edm import Params, augmentation, process
from synthkit_edm.process import Denoiser

SIGMA_FLOOR = 0.25  # of sigma_data: a channel that hardly varies, as of a rare label, is not amplified without bound
MOST_SLICES = 4096  # that mean and sigma_data are taken of, evenly spaced
BETAS = (0.9, 0.999)


@dataclass(frozen=True)
class Shape:
    """What the shapes of the networks follow from.

    ``size`` is in pixels, ``contrasts`` and ``labels`` count channels, ``told`` numbers of augmentation.
    """

    size: int
    contrasts: int
    labels: int
    width: int
    res_blocks: int
    heads: int
    labels_first: bool
    told: int

    def unet(self, channels: int, width: int) -> Architecture:
        """Of a network that draws so many channels."""
        return Architecture(
            self.size, channels, width, self.res_blocks, group=group_for(width), heads=self.heads, head_channels=0
        )

    @property
    def label_width(self) -> int:
        """Of the network of labels alone: half, in whole heads."""
        return max(1, self.width // 2 // self.heads) * self.heads


class Model(nn.Module):
    """One denoiser of contrasts and labels; with ``labels_first`` one of labels, and one of contrasts given labels."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        if shape.labels_first:
            self.labels = Denoiser(shape.unet(shape.labels, shape.label_width), told=shape.told)
            self.contrasts = Denoiser(shape.unet(shape.contrasts, shape.width), shape.labels, shape.told)
        else:
            self.joint = Denoiser(shape.unet(shape.contrasts + shape.labels, shape.width), told=shape.told)

    @property
    def denoisers(self) -> list[tuple[Denoiser, slice, slice | None]]:
        """Each network, the channels that it draws, and those that it is given."""
        first = self.shape.contrasts
        if self.shape.labels_first:
            return [(self.labels, slice(first, None), None), (self.contrasts, slice(0, first), slice(first, None))]
        return [(self.joint, slice(None), None)]

    def normalise(self, mean: Tensor, sigma_data: Tensor) -> None:
        """Take mean ``(channels, y, x)`` and standard deviation ``(channels,)`` of the training images."""
        for denoiser, drawn, _ in self.denoisers:
            denoiser.mean.copy_(mean[drawn])
            denoiser.sigma_data.copy_(sigma_data[drawn, None, None])


class Training:
    """The networks, their optimiser, their EMA, and the step that trains them."""

    def __init__(
        self,
        shape: Shape,
        params: Params,
        encoding: Encoding,
        statistics: tuple[Tensor, Tensor],
        device: torch.device,
        precision: torch.dtype,
    ) -> None:
        self.params = params
        self.encoding = encoding
        self.device = device
        self.precision = precision
        self.steps = -(-params.kimg * 1000 // params.batch_size)
        with own_seed(params.seed):
            self.network = Model(shape)
        self.network.normalise(*statistics)
        self.network.to(device)
        self.ema = copy.deepcopy(self.network).requires_grad_(False)
        # "averaged" is the name of the EMA in states on disk.
        self.modules = {"network": self.network, "averaged": self.ema}
        self.optimisers: dict[str, torch.optim.Optimizer] = {
            "network": torch.optim.Adam(self.network.parameters(), lr=params.learning_rate, betas=BETAS, fused=True)
        }
        self.step = 0

    @property
    def learning_rate(self) -> float:
        """Of the step to come: it rises over ``warm_up`` steps and falls to 0 over the last share ``decay``."""
        rise = (self.step + 1) / max(1, self.params.warm_up)
        fall = (self.steps - self.step) / max(1.0, self.params.decay * self.steps)
        return self.params.learning_rate * min(1.0, rise, fall)

    def training_step(self, real: Tensor) -> dict[str, Tensor]:
        """One step on ``real``, images in [-1, 1]: every image at a noise level of its own ([1] section 5)."""
        random, count = stream(self.device, self.params.seed, 1, self.step), self.params.accumulate
        n = len(real) * parallel.n_processes()
        told = parallel.share(augmentation.draw(n, self.params.augment, random))
        noise = parallel.share(torch.randn((n, *real.shape[1:]), device=self.device, generator=random))
        # With labels first each network has a noise level of its own; the columns.
        normal = parallel.share(torch.randn(n, len(self.network.denoisers), device=self.device, generator=random))
        sigma = process.noise_levels(normal, self.params.noise_mean, self.params.noise_spread)
        optimiser = self.optimisers["network"]
        for group in optimiser.param_groups:
            group["lr"] = self.learning_rate
        optimiser.zero_grad(set_to_none=True)
        found: list[Tensor] = []
        parts = (microbatches(each, count, groups=1) for each in (real, noise, sigma, told))
        for images, noises, sigmas, changes in zip(*parts, strict=True):
            losses = self.losses(images, noises, sigmas, changes) / (count * parallel.n_processes())
            losses.sum().backward()
            found.append(losses.detach())
        parallel.step(optimiser)
        self.step += 1
        shown = self.step * self.params.batch_size
        update_ema(self.ema, self.network, ema_decay(self.params.batch_size, shown, torch.inf, self.params.ema))
        names = ("loss_labels", "loss_contrasts") if self.network.shape.labels_first else ("loss",)
        return dict(zip(names, parallel.total(found), strict=True))

    def losses(self, images: Tensor, noise: Tensor, sigma: Tensor, told: Tensor) -> Tensor:
        """The loss of each network, ``(networks,)``; ``sigma (n, networks)``, ``told`` what to change of images."""
        if self.params.augment:
            images = augmentation.apply(images, told)
        said = told if self.network.shape.told else None
        losses = []
        with autocast(self.device, self.precision):
            for number, (denoiser, drawn, given) in enumerate(self.network.denoisers):
                seen = None if given is None else images[:, given]
                losses.append(denoiser.loss(images[:, drawn], noise[:, drawn], sigma[:, number], seen, said))
        return torch.stack(losses)

    def state(self) -> dict[str, Tensor]:
        """Everything that the next step depends on, but the step's number."""
        return state_dict(self.modules, self.optimisers)

    def begin_with(self, weights: dict[str, Tensor], state: dict[str, Tensor]) -> None:
        """Begin with what another training learned, see :func:`synthkit_generative.initial.load_initial`."""
        load_initial(self.modules, weights, state)

    def restore(self, tensors: dict[str, Tensor], step: int) -> None:
        """Continue from what :meth:`state` gave after ``step`` steps."""
        load_state_dict(tensors, self.modules, self.optimisers)
        self.step = step

    def inference_state(self) -> dict[str, Tensor]:
        """Weights of the EMA of the networks, with mean and sigma_data."""
        return self.ema.state_dict()

    def sample(self, seeds: Sequence[int]) -> Tensor:
        """Images of these seeds by the EMA of the networks."""
        return sample(self.ema, self.encoding, seeds, self.params)


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
    size = square_side(data, "EDM")
    check_levels(params)
    encoding = encoding_of(
        params.label_encoding, data, params.label_order, begun.encoding if begun is not None else None
    )
    shape = Shape(
        size=size,
        contrasts=len(data.contrasts),
        labels=encoding.channels,
        width=params.width,
        res_blocks=params.res_blocks,
        heads=params.heads,
        labels_first=params.labels_first,
        told=augmentation.TOLD if params.augment else 0,
    )
    shape.unet(1, params.width).check_heads()
    if params.labels_first and not encoding.channels:
        raise UsageError(
            "labels_first has no labels to draw first.",
            "The label scheme of this dataset has nothing but background.",
            "Leave it out.",
        )
    method = Method(
        name="EDM",
        architecture=dataclasses.asdict(shape),
        memory="Raise accumulate, or lower batch_size (and width if that is not enough), and run it again.",
        divergence="Train again with a lower learning_rate or precision=float32.",
        offsets=True,
    )
    make = functools.partial(Training, shape, params, encoding, statistics(data, encoding))
    fit(method, data, checkpoint, params, make, begun, encoding=encoding)


def statistics(data: Samples, encoding: Encoding) -> tuple[Tensor, Tensor]:
    """Mean ``(channels, y, x)`` of the training images in [-1, 1], and sigma_data ``(channels,)`` about it."""
    rows = np.unique(np.linspace(0, len(data) - 1, min(len(data), MOST_SLICES)).astype(int))
    total: NDArray[np.float64] = np.zeros(())
    squares: NDArray[np.float64] = np.zeros(())
    for part in np.array_split(rows, -(-len(rows) // 64)):
        images, labels = data.read(part)
        coded = np.concatenate([of_bytes(images), encoding.encode(labels)], axis=1).astype(np.float64)
        total, squares = total + coded.sum(axis=0), squares + np.square(coded).sum(axis=0)
    mean = total / len(rows)
    variance = (squares / len(rows) - np.square(mean)).clip(min=0).mean(axis=(1, 2))
    sigma_data = np.sqrt(variance).clip(min=SIGMA_FLOOR)
    return torch.from_numpy(mean).float(), torch.from_numpy(sigma_data).float()


def generate(
    checkpoint: Path, seeds: Iterable[int], params: Params, *, asked: Iterable[Asked] | None = None
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """Yield ``(image uint8 (contrast, y, x), labels uint8 (y, x))`` for each seed, in order.

    Of seeds that are ``asked`` for a label map the contrasts are drawn given that; only of a training with
    ``labels_first``, else a DataError.
    """
    check_levels(params)
    device = find_device()
    config, tensors = load(Path(checkpoint))
    with checkpoint_errors("EDM"):
        with own_seed(0):  # for weights that are replaced at once
            network = Model(Shape(**config["architecture"]))
        network.load_state_dict(tensors)
        encoding = Encoding.of_config(config)
        offsets = [float(offset) for offset in config.get("offsets", ())] if params.label_offsets else []
    network.requires_grad_(False).eval().to(device)

    def free(wanted: Iterable[int]) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
        def sampler(batch: Sequence[int]) -> Tensor:
            return sample(network, encoding, batch, params, offsets)

        return draw(wanted, sampler, params, encoding=encoding, device=device, name="EDM", offsets=offsets)

    def painter(batch: Sequence[int], labels: NDArray[np.uint8]) -> Tensor:
        return painted(network, encoding, SeedStreams(batch, device), labels, params)

    if asked is None:
        yield from free(seeds)
        return
    pairs = ((seed, wanted.labels) for seed, wanted in zip(seeds, asked, strict=False))
    for is_free, group in itertools.groupby(pairs, key=lambda pair: pair[1] is None):
        if is_free:
            yield from free(seed for seed, _ in group)
            continue
        if not network.shape.labels_first:
            raise DataError(
                "This model of EDM cannot be asked for label maps.",
                "It draws contrasts and labels together.",
                "Train one with -p labels_first=true.",
            )
        given = ((seed, labels) for seed, labels in group if labels is not None)
        yield from draw_given(given, painter, params, device=device, name="EDM")


def sample(
    network: Model, encoding: Encoding, seeds: Sequence[int], params: Params, offsets: Sequence[float] = ()
) -> Tensor:
    """Images of these seeds; all noise of each comes from its seed alone.

    With labels first the contrasts are given the labels that were drawn, decoded with ``offsets``.
    """
    streams = SeedStreams(seeds, next(network.parameters()).device)
    if not network.shape.labels_first:
        return drawn(network.joint, streams, params)
    channels = drawn(network.labels, streams, params)
    labels = encoding.decode(of_bytes(to_grey_levels(channels)), offsets)
    return torch.cat([painted(network, encoding, streams, labels, params), channels], dim=1)


def painted(
    network: Model, encoding: Encoding, streams: SeedStreams, labels: NDArray[np.uint8], params: Params
) -> Tensor:
    """Contrasts ``(n, contrast, y, x)`` of labels ``(n, y, x)``."""
    given = torch.from_numpy(encoding.encode(labels)).to(network.contrasts.mean.device)
    return drawn(network.contrasts, streams, params, given)


def drawn(denoiser: Denoiser, streams: SeedStreams, params: Params, given: Tensor | None = None) -> Tensor:
    """Images in about [-1, 1], one of each stream, through falling noise levels."""
    levels = process.schedule(params.sampler_steps, params.sigma_min, params.sigma_max, params.rho)

    def denoise(x: Tensor, sigma: float) -> Tensor:
        found: Tensor = denoiser(x, torch.full((len(x),), sigma, device=x.device), given)
        return found

    return process.heun(denoise, streams.normal(*denoiser.shape), levels) + denoiser.mean


def check_levels(params: Params) -> None:
    """:class:`synthkit.errors.UsageError` unless the noise levels of a sample fall."""
    if params.sigma_min >= params.sigma_max:
        raise UsageError(
            f"Noise cannot fall from sigma_max={params.sigma_max:g} to sigma_min={params.sigma_min:g}.",
            "A sample begins with the highest level and ends with the lowest.",
            "Give a sigma_min below sigma_max, or neither.",
        )
