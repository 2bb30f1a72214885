"""EDM for MR contrasts and their labels: its training, written from the papers.

Source: [1] Karras, Aittala, Aila, Laine 2022, arXiv 2206.00364. Preconditioning, loss and sampler are in
``process.py``, augmentation in ``augmentation.py``, what samples are asked for in ``conditions.py``, the networks in
``networks.py``, how they are drawn with in ``drawing.py``.

An image here is ``float (n, contrast + channel, y, x)`` in [-1, 1]: the contrasts, then the labels in their encoding.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Sequence
from pathlib import Path

import torch
from synthkit_generative.batches import microbatches
from synthkit_generative.data import square_side
from synthkit_generative.encodings import Encoding, encoding_of
from synthkit_generative.initial import Initial, load_initial
from synthkit_generative.training import Method, fit
from synthkit_generative.weights import ema_decay, load_state_dict, state_dict, update_ema
from synthkit_torch import parallel
from synthkit_torch.devices import autocast
from synthkit_torch.streams import own_seed, stream
from torch import Tensor

from synthkit.contract import Samples
from synthkit.errors import UsageError
from synthkit_edm import Params, augmentation, conditions, process
from synthkit_edm.drawing import Drawing, check_levels, generate
from synthkit_edm.networks import Model, Shape, Statistics, check_patch

__all__ = ["generate", "train"]

BETAS = (0.9, 0.999)


class Training:
    """The networks, their optimiser, their EMA, and the step that trains them."""

    def __init__(
        self,
        shape: Shape,
        params: Params,
        encoding: Encoding,
        statistics: Statistics,
        device: torch.device,
        precision: torch.dtype,
    ) -> None:
        self.params = params
        self.encoding = encoding
        self.device = device
        self.precision = precision
        self.noise_mean = process.noise_mean(shape.size) if params.noise_mean is None else params.noise_mean
        self.steps = -(-params.kimg * 1000 // params.batch_size)
        with own_seed(params.seed):
            self.network = Model(shape)
        self.network.take(statistics)
        self.network.to(device)
        self.codes = conditions.codes(encoding).to(device)
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
        shown, given = map(parallel.share, conditions.draw_shown(n, random))
        noise = parallel.share(torch.randn((n, *real.shape[1:]), device=self.device, generator=random))
        # With labels first each network has a noise level of its own; the columns.
        normal = parallel.share(torch.randn(n, len(self.network.denoisers), device=self.device, generator=random))
        sigma = process.noise_levels(normal, self.noise_mean, self.params.noise_spread)
        optimiser = self.optimisers["network"]
        for group in optimiser.param_groups:
            group["lr"] = self.learning_rate
        optimiser.zero_grad(set_to_none=True)
        found: list[Tensor] = []
        parts = (microbatches(each, count, groups=1) for each in (real, noise, sigma, told, shown, given))
        for part in zip(*parts, strict=True):
            losses = self.losses(*part) / (count * parallel.n_processes())
            losses.sum().backward()
            found.append(losses.detach())
        parallel.step(optimiser)
        self.step += 1
        so_far = self.step * self.params.batch_size
        update_ema(self.ema, self.network, ema_decay(self.params.batch_size, so_far, torch.inf, self.params.ema))
        names = ("loss_labels", "loss_contrasts") if self.network.shape.labels_first else ("loss",)
        return dict(zip(names, parallel.total(found), strict=True))

    def losses(self, images: Tensor, noise: Tensor, sigma: Tensor, told: Tensor, shown: Tensor, seen: Tensor) -> Tensor:
        """The loss of each network, ``(networks,)``.

        ``sigma (n, networks)``, ``told`` what to change of images, ``shown (n, 2)`` which conditions are told and
        ``seen (n, 1)`` whether labels are given.
        """
        shape = self.network.shape
        if self.params.augment:
            images = augmentation.apply(images, told)
        changes = told[:, : shape.told]
        asked = conditions.told(*conditions.present(images[:, shape.contrasts :], self.codes), shown)
        losses = []
        with autocast(self.device, self.precision):
            for number, (denoiser, drawn, given) in enumerate(self.network.denoisers):
                if given is None:
                    labels, said = None, torch.cat([changes, asked], dim=1)
                else:
                    labels, said = images[:, given] * seen[:, :, None, None], changes
                losses.append(denoiser.loss(images[:, drawn], noise[:, drawn], sigma[:, number], labels, said))
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
        return Drawing(self.ema, self.encoding, self.params).samples(seeds)


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
        asked=conditions.numbers(len(encoding.label_values) - 1),
        patch=params.patch,
        # As in the checkpoint that it begins with, which may be of before there were others.
        pace=process.PACE if begun is None else begun.architecture.get("pace", Shape.pace),
        features=(process.FEATURES if params.patch > 1 else 0)
        if begun is None
        else begun.architecture.get("features", Shape.features),
    )
    check_patch(size, params.patch)
    shape.unet(1, params.width).check_heads()
    if params.labels_first and not encoding.channels:
        raise UsageError(
            "labels_first has no labels to draw first.",
            "The label scheme of this dataset has nothing but background.",
            "Leave it out.",
        )
    method = Method(
        name="EDM",
        architecture=shape.to_config(),
        memory="Raise accumulate, or lower batch_size (and width if that is not enough), and run it again.",
        divergence="Train again with a lower learning_rate or precision=float32.",
        offsets=True,
    )
    make = functools.partial(Training, shape, params, encoding, Statistics.of(data, encoding))
    fit(method, data, checkpoint, params, make, begun, encoding=encoding)
