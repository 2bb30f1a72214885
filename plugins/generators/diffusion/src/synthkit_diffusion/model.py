"""Diffusion of MR contrasts and their labels: training and generation, written from the papers.

Sources: [1] Nichol, Dhariwal 2021, arXiv 2102.09672; [3] Ho et al. 2020, arXiv 2006.11239. The network is in
:mod:`synthkit_generative.unet`, forward process and samplers in ``process.py``.

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
from synthkit_generative.batches import microbatches
from synthkit_generative.data import square_side
from synthkit_generative.drawing import checkpoint_errors, draw, load
from synthkit_generative.encodings import Encoding, encoding_of
from synthkit_generative.foreign.checkpoints import check_channels, read_state_dict, save_imported, translating
from synthkit_generative.initial import Initial, load_initial
from synthkit_generative.training import Method, fit
from synthkit_generative.unet import Architecture, UNet, group_for
from synthkit_generative.weights import load_state_dict, state_dict, update_ema
from synthkit_torch import parallel
from synthkit_torch.devices import autocast, find_device
from synthkit_torch.streams import SeedStreams, own_seed, stream
from torch import Tensor

from synthkit import events
from synthkit.contract import Samples
from synthkit_diffusion import Params, official, process

SNAPSHOT_STEPS = 20  # of the sampler in the grids of a training
VARIANCE_WEIGHT = 0.001  # [1] section 3.1: L_hybrid = L_simple + 0.001 L_vlb


class Training:
    """The network, its optimiser, its EMA, and the step that trains them."""

    def __init__(
        self, architecture: Architecture, params: Params, device: torch.device, precision: torch.dtype
    ) -> None:
        self.architecture = architecture
        self.params = params
        self.device = device
        self.precision = precision
        self.alpha_bar = process.alphas_cumprod(params.schedule, params.diffusion_steps)
        #: By the number of the step, float32 ``(diffusion_steps,)`` on the device.
        self.of_t = {name: torch.from_numpy(v).float().to(device) for name, v in _of_t(self.alpha_bar).items()}
        with own_seed(params.seed):
            self.network = UNet(architecture).to(device)
        self.ema = copy.deepcopy(self.network).requires_grad_(False)
        # "averaged" is the name of the EMA in states on disk.
        self.modules = {"network": self.network, "averaged": self.ema}
        self.optimisers: dict[str, torch.optim.Optimizer] = {
            "network": torch.optim.Adam(self.network.parameters(), lr=params.learning_rate, fused=True)
        }
        self.step = 0

    def training_step(self, real: Tensor) -> dict[str, Tensor]:
        """One step on ``real``, images in [-1, 1]: every image at a random step of its own ([3] algorithm 1)."""
        random, count = stream(self.device, self.params.seed, 1, self.step), self.params.accumulate
        n = len(real) * parallel.n_processes()
        t = parallel.share(torch.randint(self.params.diffusion_steps, (n,), device=self.device, generator=random))
        noise = parallel.share(torch.randn((n, *real.shape[1:]), device=self.device, generator=random))
        optimiser = self.optimisers["network"]
        optimiser.zero_grad(set_to_none=True)
        found: list[Tensor] = []
        for images, noises, times in zip(
            *(microbatches(each, count, groups=1) for each in (real, noise, t)), strict=True
        ):
            losses = self.losses(images, noises, times)
            losses = losses / (count * parallel.n_processes())
            losses.sum().backward()
            found.append(losses.detach())
        parallel.step(optimiser)
        self.step += 1
        # Long memory from the first step on would keep the untrained weights for 10,000 steps.
        update_ema(self.ema, self.network, min(self.params.ema, (1 + self.step) / (10 + self.step)))
        names = (f"loss_{self.params.prediction}", "loss_variance")[: len(found[0])]
        return dict(zip(names, parallel.total(found), strict=True))

    def losses(self, images: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """L_simple ([3] equation 14) and, with ``learn_sigma``, L_vlb by its weight ([1] eq. 16): (1,) or (2,)."""
        alpha_bar = self.of_t["alpha_bar"][t]
        x = process.add_noise(images, noise, alpha_bar)
        with autocast(self.device, self.precision):
            found = self.network(x, t)
        channels = images.shape[1]
        wanted = process.target(self.params.prediction, images, noise, alpha_bar)
        simple: Tensor = (found[:, :channels].float() - wanted).square().mean()
        if not self.architecture.learn_sigma:
            return simple[None]
        return torch.stack([simple, self._variance_loss(images, x, t, found.float())])

    def _variance_loss(self, images: Tensor, x: Tensor, t: Tensor, found: Tensor) -> Tensor:
        """L_vlb in bits an element, times its weight; it trains the variance alone."""
        alpha_bar_prev, beta, spread, alpha_bar = (
            self.of_t[name][t][:, None, None, None] for name in ("alpha_bar_prev", "beta", "posterior", "alpha_bar")
        )
        predicted, placed = found.detach()[:, : images.shape[1]], found[:, images.shape[1] :]
        estimate = process.predict_x0(self.params.prediction, predicted, x, alpha_bar)
        true, found_mean = (process.posterior_mean(image, x, alpha_bar, alpha_bar_prev) for image in (images, estimate))
        log_variance = process.learned_log_variance(placed, beta, spread)
        kl = process.normal_kl(true, spread.log(), found_mean, log_variance)
        first = process.discretized_nll(images, found_mean, log_variance)
        nats = torch.where(t[:, None, None, None] == 0, first, kl).mean()
        # One step stands for all T of the sum.
        return nats / float(np.log(2)) * (VARIANCE_WEIGHT * self.params.diffusion_steps)

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
        """Weights of the EMA of the network."""
        return self.ema.state_dict()

    def sample(self, seeds: Sequence[int]) -> Tensor:
        """Images of these seeds by the EMA of the network, in few steps."""
        return sample(self.ema, self.params.prediction, self.alpha_bar, seeds, "dpm++", SNAPSHOT_STEPS)


def _of_t(alpha_bar: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """What a step of the training needs of each noise level; the first posterior variance is 0, and the second stands
    for it ([1] section 3.1)."""
    steps = process.Steps.of(alpha_bar)
    posterior = steps.posterior_variances
    posterior[0] = posterior[1]
    found = {"alpha_bar": alpha_bar, "alpha_bar_prev": steps.alpha_bar_prev, "beta": steps.betas}
    return {**found, "posterior": posterior}


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
    encoding = encoding_of(
        params.label_encoding, data, params.label_order, begun.encoding if begun is not None else None
    )
    architecture = Architecture(
        size=square_side(data, "Diffusion"),
        channels=len(data.contrasts) + encoding.channels,
        width=params.width,
        res_blocks=params.res_blocks,
        learn_sigma=params.learn_sigma,
        group=group_for(params.width),
        heads=params.heads,
        head_channels=params.head_channels,
    )
    architecture.check_heads()
    method = Method(
        name="Diffusion",
        architecture=_described(architecture, params),
        memory="Raise accumulate, or lower batch_size (and width if that is not enough), and run it again.",
        divergence="Train again with a lower learning_rate or precision=float32.",
    )
    fit(method, data, checkpoint, params, functools.partial(Training, architecture, params), begun, encoding=encoding)


def generate(
    checkpoint: Path, seeds: Iterable[int], params: Params
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """Yield ``(image uint8 (contrast, y, x), labels uint8 (y, x))`` for each seed, in order."""
    device = find_device()
    config, tensors = load(Path(checkpoint))
    with checkpoint_errors("Diffusion"):
        described = dict(config["architecture"])
        alpha_bar = process.alphas_cumprod(described.pop("schedule"), int(described.pop("diffusion_steps")))
        prediction = process.read_prediction(described.pop("prediction", "noise"))  # of older checkpoints: noise
        with own_seed(0):  # for weights that are replaced at once
            network = UNet(Architecture(**described))
        network.load_state_dict(tensors)
        encoding = Encoding.of_config(config)
    network.requires_grad_(False).eval().to(device)
    yield from draw(
        seeds,
        lambda batch: sample(network, prediction, alpha_bar, batch, params.sampler, params.sampler_steps),
        params,
        encoding=encoding,
        device=device,
        name="Diffusion",
    )


def sample(
    network: UNet,
    prediction: process.Prediction,
    alpha_bar: NDArray[np.float64],
    seeds: Sequence[int],
    sampler: str,
    count: int,
) -> Tensor:
    """Images of these seeds; all noise of each comes from its seed alone."""
    architecture, denoiser = network.architecture, process.Denoiser(network, prediction)
    normal = SeedStreams(seeds, next(network.parameters()).device).normal
    shape = (architecture.channels, architecture.size, architecture.size)
    if sampler == "ancestral":
        return process.ancestral(denoiser, process.Steps.of(alpha_bar, count), normal, shape, architecture.learn_sigma)
    solver = process.ddim if sampler == "ddim" else process.dpm_solver
    return solver(denoiser, process.Steps.by_log_snr(alpha_bar, count), normal, shape)


def import_checkpoint(
    file: Path,
    checkpoint: Path,
    *,
    contrasts: Sequence[str],
    label_values: Sequence[int],
    params: Params = Params(),
) -> int:
    """Bring official weights (``ema_*.pt``, ``model*.pt``) into a checkpoint; returns the side of their images.

    Weights say nothing of the diffusion that they were trained for, nor how many heads attend: ``params`` do, and what
    is taken is told.
    """
    tensors = read_state_dict(file)
    with translating("Diffusion"):
        architecture = official.architecture_of(tensors, params)
        check_channels(architecture.channels, contrasts)
        with own_seed(0):
            network = UNet(architecture)
        network.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    described = _described(architecture, params)
    events.message(
        "The file does not say what its network was trained for. Taken are "
        f"{params.diffusion_steps} steps of the {params.schedule} schedule, prediction of the {params.prediction}, and "
        f"{official.heads_in_words(params)}; what is other is said by -p: diffusion_steps, schedule, prediction, "
        "heads, head_channels.",
        level="warning",
    )
    save_imported(checkpoint, described, network.state_dict(), contrasts, label_values)
    return architecture.size


def _described(architecture: Architecture, params: Params) -> dict[str, Any]:
    diffusion = {name: getattr(params, name) for name in ("schedule", "diffusion_steps", "prediction")}
    return {**dataclasses.asdict(architecture), **diffusion}
