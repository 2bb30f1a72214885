"""StyleGAN2 for MR contrasts and their labels: losses, training and generation, written from the papers.

Sources: [1] Karras, Laine, Aila 2019, arXiv 1812.04948 (style mixing, truncation); [2] Karras et al. 2020, arXiv
1912.04958 (StyleGAN2: path length, lazy regularisation); [3] Karras et al. 2020, arXiv 2006.06676 (adaptive
augmentation); [5] Mescheder et al. 2018, arXiv 1801.04406 (R1). The networks are in :mod:`synthkit_stylegan2.networks`.

An image here is ``float (n, contrast + 1, y, x)`` in [-1, 1]: the contrasts, then the labels as grey levels.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import itertools
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor, nn

import synthkit
from synthkit.contract import Samples
from synthkit.errors import DataError, OutOfMemoryError, PluginError
from synthkit.labels import from_grey, grey_levels, to_grey
from synthkit_stylegan2 import Params
from synthkit_stylegan2.networks import Architecture, Discriminator, Generator
from synthkit_stylegan2.storage import RealImages, load_json, load_tensors, partial_path, save_json, save_tensors

R1_INTERVAL = 16  # [2] appendix B: lazy regularisation, every 16 steps for the discriminator
PATH_INTERVAL = 4  # and every 4 for the generator
PATH_DECAY = 0.99  # [2] eq. 4: the target length is a moving average of the lengths seen
AUGMENT_TARGET = 0.6  # [3] section 3: wanted mean sign of the discriminator on real images
AUGMENT_KIMG = 500.0  # [3]: from no augmentation to all in half a million images
EMA_RAMP = 0.05  # half-life of the averaged generator as a share of the images shown, early in training

# ------------------------------------------------------------------------------------------------------ losses


def r1_penalty(scores: Tensor, images: Tensor) -> Tensor:
    """Squared norm of the gradient of each score with respect to its image, ``(n,)`` ([5] equation 9)."""
    (gradient,) = torch.autograd.grad(scores.sum(), images, create_graph=True)
    return gradient.square().sum(dim=(1, 2, 3))


def path_lengths(images: Tensor, w: Tensor, directions: Tensor) -> Tensor:
    """Norm of ``J^T y`` of each sample, ``(n,)`` ([2] section 3.2).

    ``directions`` is ``y``, standard normal, shaped like ``images``; it is divided by the image's side. The square is
    averaged over the styles ``w (n, styles, latent)``: with weight 2 this is the paper's choice of weight for any size.
    """
    scaled = directions / math.sqrt(images.shape[2] * images.shape[3])
    (gradient,) = torch.autograd.grad((images * scaled).sum(), w, create_graph=True)
    return gradient.square().sum(dim=2).mean(dim=1).sqrt()


def augment(images: Tensor, probability: float, generator: torch.Generator) -> Tensor:
    """Adaptive augmentation ([3]), of the kinds that suit MR: each with ``probability``, drawn for each image.

    Mirroring left to right and a shift by whole pixels (up to an eighth of the side, black outside) act on all channels
    alike; a change of contrast scales each contrast about black and leaves the label channel alone.
    """
    n, channels, height, width = images.shape
    use = torch.rand(n, 3, device=images.device, generator=generator) < probability
    mirror = use[:, 0] & (torch.rand(n, device=images.device, generator=generator) < 0.5)
    images = torch.where(mirror[:, None, None, None], images.flip(3), images)

    reach = width // 8
    shift = torch.randint(-reach, reach + 1, (n, 2), device=images.device, generator=generator) * use[:, 1:2]
    padded = F.pad(images, [reach] * 4, value=-1.0)
    images = torch.stack(
        [
            sample[:, reach + dy : reach + dy + height, reach + dx : reach + dx + width]
            for sample, (dy, dx) in zip(padded, shift.tolist(), strict=True)
        ]
    )

    scale = torch.exp2(0.5 * torch.randn(n, channels, 1, 1, device=images.device, generator=generator))
    changed = use[:, 2][:, None] & (torch.arange(channels, device=images.device) < channels - 1)
    return (images + 1) * torch.where(changed[:, :, None, None], scale, 1.0) - 1


# ---------------------------------------------------------------------------------------------------- training


def _random(device: torch.device, *key: int) -> torch.Generator:
    """A random stream that follows from ``key`` alone."""
    state = int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0]) >> 1
    return torch.Generator(device).manual_seed(state)


def _adam(network: nn.Module, rate: float, interval: int, weight: float) -> torch.optim.Adam:
    """Adam with betas 0 and 0.99, corrected for the extra steps of lazy regularisation, if any ([2] appendix B)."""
    share = interval / (interval + 1) if weight > 0 else 1.0
    return torch.optim.Adam(network.parameters(), lr=rate * share, betas=(0.0, 0.99**share), eps=1e-8, fused=True)


class Training:
    """Both networks, their optimisers, the averaged generator, and the step that advances them."""

    def __init__(self, architecture: Architecture, params: Params, device: torch.device) -> None:
        self.architecture = architecture
        self.params = params
        self.device = device
        self.precision = _precision(params.precision, device)
        with torch.random.fork_rng(devices=[]):
            # Not torch.manual_seed, which would also seed the caller's GPUs.
            torch.random.default_generator.manual_seed(params.seed)
            self.generator = Generator(architecture).to(device)
            self.discriminator = Discriminator(architecture).to(device)
        self.averaged = copy.deepcopy(self.generator).requires_grad_(False)
        self.optimisers = {
            "generator": _adam(self.generator, params.learning_rate, PATH_INTERVAL, params.path_length_weight),
            "discriminator": _adam(self.discriminator, params.learning_rate, R1_INTERVAL, params.gamma),
        }
        self.path_mean = torch.zeros((), device=device)
        self.sign = torch.zeros((), device=device)  # of the discriminator on real images, since the last adjustment
        self.augment_probability = torch.zeros(())
        self.step = 0

    def advance(self, real: Tensor) -> tuple[Tensor, Tensor]:
        """One step on ``real``, images in [-1, 1]. Returns the losses of generator and discriminator (scalars).

        The same generated images first teach the discriminator, then the generator, which saves a synthesis.
        """
        random = _random(self.device, self.params.seed, 1, self.step)
        n = real.shape[0]
        fake = self.generator.synthesis(self._styles(n, random), self._noise(n, random), precision=self.precision)
        loss_d = self._learn_discriminator(real, fake.detach(), random)
        if self.params.gamma > 0 and self.step % R1_INTERVAL == 0:
            self._regularise_discriminator(real, random)
        loss_g = self._learn_generator(fake, random)
        if self.params.path_length_weight > 0 and self.step % PATH_INTERVAL == 0:
            self._regularise_generator(max(1, n // 2), random)
        self.step += 1
        self._average()
        self._adapt()
        return loss_g, loss_d

    def _styles(self, n: int, random: torch.Generator) -> Tensor:
        """Styles ``(n, styles, latent)`` of new latents, some of them mixed of two from a random layer on ([1] 3.1)."""
        styles, latent = self.architecture.styles, self.architecture.latent
        z = torch.randn(2, n, latent, device=self.device, generator=random)
        mixed = torch.rand(n, device=self.device, generator=random) < self.params.style_mixing
        start = torch.randint(1, styles, (n,), device=self.device, generator=random)
        first, second = self.generator.mapping(z.flatten(0, 1)).view(2, n, 1, latent)
        other = (torch.arange(styles, device=self.device) >= start[:, None]) & mixed[:, None]
        return torch.where(other[:, :, None], second, first)

    def _noise(self, n: int, random: torch.Generator) -> list[Tensor]:
        """Noise of each convolution. Without it the learned strengths stay at 0, and generation is free of it too."""
        shapes = [(n, 1, side, side) for side in self.architecture.noise_sizes]
        if not self.params.noise:
            return [torch.zeros(shape, device=self.device) for shape in shapes]
        return [torch.randn(shape, device=self.device, generator=random) for shape in shapes]

    def _shown(self, images: Tensor, random: torch.Generator) -> Tensor:
        """What the discriminator is shown of these images."""
        return augment(images, float(self.augment_probability), random) if self.params.augment else images

    def _learn_discriminator(self, real: Tensor, fake: Tensor, random: torch.Generator) -> Tensor:
        optimiser = self.optimisers["discriminator"]
        optimiser.zero_grad(set_to_none=True)
        loss_fake = F.softplus(self.discriminator(self._shown(fake, random), self.precision)).mean()
        loss_fake.backward()
        scores = self.discriminator(self._shown(real, random), self.precision)
        loss_real = F.softplus(-scores).mean()
        loss_real.backward()
        optimiser.step()
        self.sign += scores.detach().sign().mean()
        return (loss_fake + loss_real).detach()

    def _regularise_discriminator(self, real: Tensor, random: torch.Generator) -> None:
        optimiser = self.optimisers["discriminator"]
        optimiser.zero_grad(set_to_none=True)
        shown = self._shown(real, random).detach().requires_grad_(True)
        penalty = r1_penalty(self.discriminator(shown, self.precision), shown).mean()
        (penalty * (self.params.gamma / 2 * R1_INTERVAL)).backward()
        optimiser.step()

    def _learn_generator(self, fake: Tensor, random: torch.Generator) -> Tensor:
        optimiser = self.optimisers["generator"]
        optimiser.zero_grad(set_to_none=True)
        self.discriminator.requires_grad_(False)
        loss = F.softplus(-self.discriminator(self._shown(fake, random), self.precision)).mean()
        loss.backward()
        self.discriminator.requires_grad_(True)
        optimiser.step()
        return loss.detach()

    def _regularise_generator(self, n: int, random: torch.Generator) -> None:
        optimiser = self.optimisers["generator"]
        optimiser.zero_grad(set_to_none=True)
        w = self._styles(n, random)
        images = self.generator.synthesis(w, self._noise(n, random), precision=self.precision)
        directions = torch.randn(images.shape, device=self.device, generator=random)
        lengths = path_lengths(images, w, directions)
        self.path_mean.lerp_(lengths.detach().mean(), 1 - PATH_DECAY)
        penalty = (lengths - self.path_mean).square().mean()
        (penalty * (self.params.path_length_weight * PATH_INTERVAL)).backward()
        optimiser.step()

    def _average(self) -> None:
        shown = self.step * self.params.batch_size
        half_life = min(self.params.ema_kimg * 1000, shown * EMA_RAMP)
        keep = 0.5 ** (self.params.batch_size / half_life) if half_life > 0 else 0.0
        with torch.no_grad():
            for average, current in zip(self.averaged.parameters(), self.generator.parameters(), strict=True):
                average.lerp_(current, 1 - keep)

    def _adapt(self) -> None:
        if self.params.augment and self.step % PATH_INTERVAL == 0:
            change = PATH_INTERVAL * self.params.batch_size / (AUGMENT_KIMG * 1000)
            overfits = float(self.sign) / PATH_INTERVAL > AUGMENT_TARGET
            self.augment_probability = (self.augment_probability + (change if overfits else -change)).clamp(0, 1)
            self.sign.zero_()

    def state(self) -> dict[str, Tensor]:
        """Everything that the next step depends on, but the step's number."""
        tensors = {
            "path_mean": self.path_mean,
            "sign": self.sign,
            "augment_probability": self.augment_probability,
        }
        for role in ("generator", "discriminator", "averaged"):
            tensors |= {f"{role}.{name}": tensor for name, tensor in getattr(self, role).state_dict().items()}
        for role, optimiser in self.optimisers.items():
            for number, moments in optimiser.state_dict()["state"].items():
                tensors |= {f"adam.{role}.{number}.{name}": tensor for name, tensor in moments.items()}
        return tensors

    def restore(self, tensors: dict[str, Tensor], step: int) -> None:
        """Continue from what :meth:`state` gave after ``step`` steps."""
        for role in ("generator", "discriminator", "averaged"):
            getattr(self, role).load_state_dict(_below(tensors, f"{role}."))
        for role, optimiser in self.optimisers.items():
            moments: dict[int, dict[str, Tensor]] = {}
            for key, tensor in _below(tensors, f"adam.{role}.").items():
                number, name = key.split(".")
                moments.setdefault(int(number), {})[name] = tensor
            optimiser.load_state_dict({**optimiser.state_dict(), "state": moments})
        self.path_mean.copy_(tensors["path_mean"])
        self.sign.copy_(tensors["sign"])
        self.augment_probability = tensors["augment_probability"]
        self.step = step

    def w_mean(self) -> Tensor:
        """The mean w of the averaged generator over 10,000 latents: the centre of truncation ([1] appendix B)."""
        random = _random(self.device, self.params.seed, 2)
        z = torch.randn(10_000, self.architecture.latent, device=self.device, generator=random)
        with torch.no_grad():
            return self.averaged.mapping(z).mean(dim=0)


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _precision(wanted: str, device: torch.device) -> torch.dtype:
    if wanted == "bfloat16" or (wanted == "auto" and device.type == "cuda" and torch.cuda.is_bf16_supported()):
        return torch.bfloat16
    return torch.float32


@contextmanager
def _whole_float32(wanted: bool = True) -> Iterator[None]:
    """Convolutions in float32 as it is, not in the 10-bit TF32 that cuDNN otherwise takes for it; off unless wanted."""
    if not wanted:
        yield
        return
    cudnn = torch.backends.cudnn
    before, cudnn.allow_tf32 = cudnn.allow_tf32, False
    try:
        yield
    finally:
        cudnn.allow_tf32 = before


def _discard_state(checkpoint: Path) -> None:
    """Remove the state of a training, and what an interrupted write of it may have left."""
    for name in ("state.safetensors", partial_path(Path("state.safetensors")).name):
        (checkpoint / name).unlink(missing_ok=True)


@contextmanager
def _memory_errors(remedy: str) -> Iterator[None]:
    """Turn torch's out-of-memory errors, of GPU and CPU, into synthkit's."""
    try:
        yield
    except RuntimeError as error:
        if not (isinstance(error, torch.OutOfMemoryError) or "not enough memory" in str(error)):
            raise
        first_line = str(error).splitlines()[0]
        raise OutOfMemoryError("StyleGAN2 ran out of memory.", first_line, remedy) from error


#: Parameters that may differ between a training and its resumption: they do not touch what has been learnt so far.
_FREE = ("kimg", "checkpoint_kimg", "truncation_psi", "background_zero", "generate_batch_size")


def _job(data: Samples, params: Params) -> str:
    """Digest of what a training depends on, so that a state is resumed by its own job only."""
    learnt = {name: value for name, value in dataclasses.asdict(params).items() if name not in _FREE}
    facts = [data.digest, list(data.contrasts), list(data.label_values), list(data.size), learnt]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


def _architecture(data: Samples, params: Params) -> Architecture:
    height, width = data.size
    if height != width or height not in (32, 64, 128, 256):
        raise DataError(
            f"StyleGAN2 cannot learn images of {height} x {width} pixels.",
            "It draws square images of 32, 64, 128 or 256 pixels.",
            "Prepare the dataset at one of these sizes.",
        )
    if len(data) == 0:
        raise DataError("The dataset has no samples to train on.", "", "Check the split, or prepare more subjects.")
    return Architecture(height, len(data.contrasts) + 1, params.channel_base, params.channel_max, params.mapping_layers)


def train(data: Samples, checkpoint: Path, params: Params) -> None:
    """Train on all of ``data``; ``checkpoint`` then holds ``generator.safetensors`` and ``config.json``.

    Until the end it also holds ``state.safetensors``, from which the same call resumes: on the same machine the result
    is that of an uninterrupted training. The state goes at the end because its discriminator has seen the real images,
    and a checkpoint is made to be shared.
    """
    checkpoint = Path(checkpoint)
    architecture = _architecture(data, params)
    steps = math.ceil(params.kimg * 1000 / params.batch_size)
    config: dict[str, Any] = {
        "format": 1,
        "contrasts": list(data.contrasts),
        "label_values": list(data.label_values),
        "architecture": dataclasses.asdict(architecture),
        "job": _job(data, params),
    }
    if _is_finished(checkpoint, config, steps):
        synthkit.message("This training is already finished.")
        return
    remedy = "Lower batch_size (and channel_base if that is not enough), then run the same command again."
    device = _device()
    with _memory_errors(remedy), _whole_float32(_precision(params.precision, device) is torch.float32):
        training = Training(architecture, params, device)
        _resume(training, checkpoint, config["job"])
        _train(training, data, checkpoint, config, steps)


def _train(training: Training, data: Samples, checkpoint: Path, config: dict[str, Any], steps: int) -> None:
    params, device = training.params, training.device
    every = max(1, round(params.checkpoint_kimg * 1000 / params.batch_size))
    # Reading a loss waits for the GPU, so there it is done now and then only.
    report = 1 if device.type == "cpu" else 8
    with RealImages(data, params.batch_size, params.seed, training.step, steps) as batches:
        for batch in batches:
            real = torch.from_numpy(batch).to(device, non_blocking=True).float() / 127.5 - 1
            losses = torch.stack(training.advance(real))
            if training.step % report == 0 or training.step % every == 0 or training.step == steps:
                loss_g, loss_d = losses.tolist()
                if not (math.isfinite(loss_g) and math.isfinite(loss_d)):
                    raise _diverged(training, checkpoint)
                synthkit.progress(
                    training.step * params.batch_size,
                    steps * params.batch_size,
                    unit="image",
                    loss_g=loss_g,
                    loss_d=loss_d,
                )
            if training.step % every == 0 and training.step < steps:
                _save(training, checkpoint, config, finished=False)
    _save(training, checkpoint, config, finished=True)


def _save(training: Training, checkpoint: Path, config: dict[str, Any], *, finished: bool) -> None:
    state = training.state()
    if not all(bool(torch.isfinite(tensor).all()) for tensor in state.values()):
        raise _diverged(training, checkpoint)
    shown = training.step * training.params.batch_size
    facts = {"job": config["job"], "step": training.step, "batch_size": training.params.batch_size}
    if not finished:
        save_tensors(checkpoint / "state.safetensors", state, facts)
    learnt = {**training.averaged.state_dict(), "w_mean": training.w_mean()}
    save_tensors(checkpoint / "generator.safetensors", learnt, facts)
    save_json(checkpoint / "config.json", {**config, "images_shown": shown, "finished": finished})
    if finished:
        _discard_state(checkpoint)


def _resume(training: Training, checkpoint: Path, job: str) -> None:
    path = checkpoint / "state.safetensors"
    if not path.exists():
        return
    tensors, facts = load_tensors(path)
    if facts.get("job") != job:
        raise _other_job(checkpoint)
    training.restore(tensors, int(facts["step"]))
    synthkit.message(f"Resuming after {training.step * training.params.batch_size} images.")


def _is_finished(checkpoint: Path, config: dict[str, Any], steps: int) -> bool:
    if not (checkpoint / "config.json").exists():
        return False
    found = load_json(checkpoint / "config.json")
    if not found.get("finished"):
        return False
    _, facts = load_tensors(checkpoint / "generator.safetensors")
    if found.get("job") != config["job"] or facts["step"] < steps:
        raise _other_job(checkpoint)
    _discard_state(checkpoint)
    return True


def _other_job(checkpoint: Path) -> DataError:
    return DataError(
        "The checkpoint folder holds another training.",
        f"{checkpoint.name} was begun with other data or parameters, or was finished with fewer images.",
        "Choose a new output folder, or repeat the data and parameters of the first command.",
    )


def _diverged(training: Training, checkpoint: Path) -> PluginError:
    state = checkpoint / "state.safetensors"
    if state.exists():
        _, facts = load_tensors(state)
        good = f"The last good state is {state.name}, after {facts['step'] * facts['batch_size']} images."
    else:
        good = "No state had been saved yet."
    return PluginError(
        f"Training diverged by image {training.step * training.params.batch_size}.",
        f"A loss or weight is no longer a finite number. {good}",
        "Train again with a lower learning_rate, a higher gamma or precision=float32.",
    )


# -------------------------------------------------------------------------------------------------- generation

#: Grey levels up to this count as black when they touch the edge of the image through other black pixels.
BLACK = 8


def generate(
    checkpoint: Path, seeds: Iterable[int], params: Params
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """Yield ``(image uint8 (contrast, y, x), labels uint8 (y, x))`` for each seed, in order.

    Latent and noise of a sample come from its seed, on the CPU, and the arithmetic is float32 in batches of one size
    (the last is filled up): a sample is the same whatever it is drawn with. On a CPU a batch is one sample, which costs
    little and makes the bytes independent of ``generate_batch_size`` too.
    """
    device = _device()
    generator, w_mean, label_values = _load(Path(checkpoint), device)
    size = params.generate_batch_size if device.type == "cuda" else 1
    waiting = iter(seeds)
    drawn = tissue = unclear = 0
    with _memory_errors("Lower generate_batch_size, then run the same command again."):
        while batch := list(itertools.islice(waiting, size)):
            filled = batch + batch[-1:] * (size - len(batch))
            for image, grey in _draw(generator, w_mean, filled, params.truncation_psi)[: len(batch)]:
                labels, _ = from_grey(grey, label_values)
                if params.background_zero:
                    blacken(image, labels)
                tissue += int(np.count_nonzero(labels))
                unclear += int(np.count_nonzero(_unclear(grey, labels, label_values)))
                drawn += 1
                yield image, labels
    if tissue:
        synthkit.message(
            f"{drawn} samples: for every 100 labelled pixels, {100 * unclear / tissue:.0f} lay between the grey levels "
            "of two labels and were decoded to the nearer."
        )


def _draw(
    generator: Generator, w_mean: Tensor, seeds: Sequence[int], psi: float
) -> list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """Image and grey-coded labels of each seed, as uint8."""
    # numpy's streams take the whole seed; torch's on a CPU ignore all but its lowest 32 bits.
    streams = [np.random.default_rng(seed) for seed in seeds]
    architecture, device = generator.architecture, w_mean.device

    def normal(*shape: int) -> Tensor:
        drawn = [stream.standard_normal(shape, dtype=np.float32) for stream in streams]
        return torch.from_numpy(np.stack(drawn)).to(device)

    z = normal(architecture.latent)
    noise = [normal(1, side, side) for side in architecture.noise_sizes]
    with torch.inference_mode(), _whole_float32():
        images = generator(z, noise, w_mean, psi)
        grey = ((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).cpu().contiguous().numpy()
    return [(image[:-1].copy(), image[-1]) for image in grey]


def blacken(image: NDArray[np.uint8], labels: NDArray[np.uint8]) -> None:
    """Set the surroundings of the head to 0, in place: unlabelled pixels black in all contrasts, joined to the edge.

    Real images are exactly 0 there, and normalisation over non-zero pixels relies on it.
    """
    regions, _ = ndimage.label((image.max(axis=0) <= BLACK) & (labels == 0))
    edge = np.unique(np.concatenate([regions[0], regions[-1], regions[:, 0], regions[:, -1]]))
    image[:, np.isin(regions, edge[edge > 0])] = 0


def _unclear(grey: NDArray[np.uint8], labels: NDArray[np.uint8], label_values: Sequence[int]) -> NDArray[np.bool_]:
    """Where the grey level is further from its label's level than a quarter of the way to the nearest other level."""
    levels = grey_levels(label_values).astype(np.int16)
    gap = np.diff(np.sort(levels)).min() if len(levels) > 1 else 255
    return np.abs(grey - to_grey(labels, label_values).astype(np.int16)) > gap / 4


def _load(checkpoint: Path, device: torch.device) -> tuple[Generator, Tensor, list[int]]:
    """The generator of a checkpoint, its mean w, and the label values it draws."""
    config = load_json(checkpoint / "config.json")
    tensors, _ = load_tensors(checkpoint / "generator.safetensors")
    try:
        with torch.device("meta"):  # no time spent on weights that are replaced at once
            generator = Generator(Architecture(**config["architecture"]))
        w_mean = tensors.pop("w_mean").to(device)
        generator.load_state_dict(tensors, assign=True)
        label_values = [int(value) for value in config["label_values"]]
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise DataError(
            "The checkpoint does not fit this version of StyleGAN2.",
            f"{type(error).__name__}: {error}",
            "Generate with the version that trained it, or train again.",
        ) from error
    return generator.to(device).requires_grad_(False).eval(), w_mean, label_values
