"""2-D nnU-Net-style segmentation of labelled MR slices on MONAI's DynUNet: training and use.

The recipe is that of Isensee et al. 2021 (nnU-Net) with the settings of Akbar et al. 2024. Differences on purpose:

- the learning rate decays with the images shown, not with epochs, so that equal budgets are equal whatever the data;
- shuffling is plain: nnU-Net oversamples foreground, the study's kept slices have no tumour criterion;
- supervised resolutions are compared at their own size, with labels sampled down, as in nnU-Net (DynUNet itself would
  enlarge its outputs instead).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from monai.networks.nets.dynunet import DynUNet
from torch import Tensor, nn

import synthkit
from synthkit.contract import Samples
from synthkit.errors import DataError, OutOfMemoryError, PluginError, UsageError
from synthkit_unet.augmentation import augment
from synthkit_unet.checkpoints import Progress, begin, load_weights, read_config, resume, save
from synthkit_unet.feeding import AUGMENTATION, VALIDATION, Reader, read_ahead, split_samples
from synthkit_unet.network import (
    BACKGROUND_LEVEL,
    Architecture,
    build_network,
    normalise,
    outputs_of,
    pad_to_stride,
    training_loss,
    usable_depth,
)

if TYPE_CHECKING:
    from synthkit.contract import UInt8Array
    from synthkit_unet import UnetParams

_MOMENTUM, _WEIGHT_DECAY, _DECAY_POWER, _CLIP_NORM = 0.99, 3e-5, 0.9, 12.0
_SEGMENT_BATCH = 16
_STEPS_PER_REPORT_ON_GPU = 10  # asking a GPU for the loss makes the host wait for it


def train(data: Samples, checkpoint: Path, params: UnetParams) -> None:
    """Train on ``data`` and leave the network in ``checkpoint``; goes on from an unfinished training of the same job.

    On a CPU a training that was interrupted and resumed gives the same bytes as one that was not. Raises
    :class:`UsageError` for an unknown contrast, :class:`DataError` for data that cannot train a segmenter,
    :class:`PluginError` when the loss is no longer a number, :class:`OutOfMemoryError` with what to lower.
    """
    channels = _channels(data.contrasts, params.contrasts)
    _check(data)
    architecture = Architecture(
        contrasts=len(channels),
        classes=len(data.label_values),
        depth=usable_depth(params.depth, data.size),
        filters=params.filters,
    )
    training_rows, validation_rows = split_samples(data.samples, params.validation_fraction, params.seed)
    begin(
        checkpoint,
        {
            "method": "unet",
            "architecture": dataclasses.asdict(architecture),
            "contrasts": list(data.contrasts),
            "channels": channels,
            "label_values": list(data.label_values),
            "size": list(data.size),
            "params": {**dataclasses.asdict(params), "contrasts": list(params.contrasts)},
            "data": data.digest,
            "training_samples": len(training_rows),
            "validation_samples": len(validation_rows),
        },
    )
    if not validation_rows:
        synthkit.message(
            "No sample could be kept for validation (one subject, or validation_fraction 0): the last weights are kept "
            "instead of the best.",
            level="warning",
        )
    if len(validation_rows) > params.validation_samples:
        rng = np.random.default_rng([params.seed, VALIDATION])
        drawn = rng.choice(len(validation_rows), params.validation_samples, replace=False)
        validation_rows = [validation_rows[i] for i in sorted(drawn)]
    device = _device()
    reader = Reader(data, channels)
    with _memory_explained(
        f"batch_size {params.batch_size}, filters {params.filters} at {data.size[0]}x{data.size[1]}"
    ):
        _train(reader, training_rows, validation_rows, architecture, checkpoint, params, device)


def _train(
    reader: Reader,
    training_rows: Sequence[int],
    validation_rows: Sequence[int],
    architecture: Architecture,
    checkpoint: Path,
    params: UnetParams,
    device: torch.device,
) -> None:
    network = build_network(architecture, device, params.seed)
    optimiser = torch.optim.SGD(
        network.parameters(), lr=params.learning_rate, momentum=_MOMENTUM, nesterov=True, weight_decay=_WEIGHT_DECAY
    )
    state = resume(checkpoint, network, optimiser)
    if state.finished:
        synthkit.progress(params.samples, params.samples, unit="sample")
        return
    on_gpu = device.type == "cuda"
    n_steps = -(-params.samples // params.batch_size)
    steps_per_report = _STEPS_PER_REPORT_ON_GPU if on_gpu else 1
    known = {} if state.best_dice is None else {"val_dice": state.history[-1]["val_dice"] or 0.0}
    running = torch.zeros((), device=device)  # sum of the losses since the last checkpoint
    since = 0
    # Shapes stay the same, so it pays to let cuDNN try its algorithms first.
    fastest = torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=True)
    with fastest, closing(read_ahead(reader, training_rows, params, state.step, pin=on_gpu)) as batches:
        for images, classes in batches:
            shown = state.step * params.batch_size
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(params.learning_rate, shown, params.samples)
            loss = _step(network, optimiser, images, classes, architecture, params, state.step)
            running, since = running + loss, since + 1
            state.step += 1
            before, shown = shown, min(state.step * params.batch_size, params.samples)
            last = state.step == n_steps
            due = last or shown // params.checkpoint_every > before // params.checkpoint_every
            if not (due or state.step % steps_per_report == 0):
                continue
            if not math.isfinite(float(loss)):
                raise _diverged(checkpoint, shown, state)
            if due:
                dice, by_label = validate(network, reader, validation_rows, architecture, params)
                state.history.append(
                    {"samples": shown, "loss": float(running) / since, "val_dice": dice, "val_dice_by_class": by_label}
                )
                known = {} if dice is None else {"val_dice": dice}
                running, since = torch.zeros_like(running), 0
                save(checkpoint, network, optimiser, state, shown, finished=last)
            synthkit.progress(shown, params.samples, unit="sample", loss=float(loss), **known)


def _step(
    network: DynUNet,
    optimiser: torch.optim.Optimizer,
    images: Tensor,
    classes: Tensor,
    architecture: Architecture,
    params: UnetParams,
    step: int,
) -> Tensor:
    """One update; its loss. Everything random about it comes from (seed, step)."""
    device = next(network.parameters()).device
    inputs, classes = normalise(images.to(device, non_blocking=True)), classes.to(device, non_blocking=True)
    if params.augment:
        inputs, classes = augment(inputs, classes, np.random.default_rng([params.seed, AUGMENTATION, step]))
    inputs, classes = pad_to_stride(inputs, architecture.stride), pad_to_stride(classes, architecture.stride)
    network.train()
    # bf16 needs no loss scaling; on most CPUs it is many times slower than float32.
    with torch.autocast("cuda", torch.bfloat16, enabled=inputs.is_cuda):
        outputs = outputs_of(network, inputs)
    loss = training_loss(outputs, classes)
    optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(network.parameters(), _CLIP_NORM)
    optimiser.step()
    return loss.detach()


def validate(
    network: DynUNet, reader: Reader, rows: Sequence[int], architecture: Architecture, params: UnetParams
) -> tuple[float | None, list[float | None]]:
    """Dice of each foreground class over all ``rows`` pooled, and their mean; None where there is nothing to find.

    A class that is in no reference and in no prediction is not counted; one that is only predicted has 0.
    """
    device = next(network.parameters()).device
    classes = torch.arange(1, architecture.classes, device=device)[:, None, None, None]
    overlap, sizes = (torch.zeros(architecture.classes - 1, dtype=torch.int64, device=device) for _ in range(2))
    batch = min(params.batch_size, _SEGMENT_BATCH)
    for start in range(0, len(rows), batch):
        images, reference = reader.read(rows[start : start + batch])
        found, wanted = (
            _predict(network, images.to(device), architecture)[None] == classes,
            reference.to(device) == classes,
        )
        overlap += (found & wanted).sum((1, 2, 3))
        sizes += found.sum((1, 2, 3)) + wanted.sum((1, 2, 3))
    by_class = [2 * o / s if s else None for o, s in zip(overlap.tolist(), sizes.tolist(), strict=True)]
    counted = [dice for dice in by_class if dice is not None]
    return (sum(counted) / len(counted) if counted else None), by_class


def _diverged(checkpoint: Path, shown: int, state: Progress) -> PluginError:
    saved = state.history[-1]["samples"] if state.history else 0
    return PluginError(
        f"The training of unet diverged: after {shown} samples its loss is not a number.",
        f"The last good checkpoint is {checkpoint / 'last.safetensors'}, at {saved} samples."
        if saved
        else "It diverged before its first checkpoint.",
        "Train again with a smaller learning_rate (-p learning_rate=0.003), into another folder.",
    )


def learning_rate(start: float, done: int, total: int) -> float:
    """Polynomial decay: ``start * (1 - done / total) ** 0.9``."""
    return float(start * (1 - done / total) ** _DECAY_POWER)


def segment(checkpoint: Path, images: Iterable[UInt8Array], params: UnetParams) -> Iterator[UInt8Array]:
    """Labels uint8 (y, x) for each image uint8 (contrast, y, x), in order; a few images are held at a time.

    Images have all the contrasts of the training data, in its order; sides of any length. An image without
    foreground (all 0, say) is background throughout. Raises :class:`DataError` for an image with other contrasts.
    """
    config = read_config(checkpoint)
    architecture = Architecture(**config["architecture"])
    device = _device()
    network = build_network(architecture, device)
    load_weights(network, checkpoint / "model.safetensors")
    values = torch.tensor(config["label_values"], dtype=torch.uint8, device=device)
    batch_size = min(params.batch_size, _SEGMENT_BATCH)
    with _memory_explained(f"batch_size {batch_size} in segmentation"):
        for batch in _grouped(images, batch_size, config["contrasts"]):
            pixels = torch.from_numpy(np.stack(batch)).to(device)
            predicted = _predict(network, pixels[:, config["channels"]], architecture)
            # A slice without foreground tells the network nothing; its answer would be whatever its biases say.
            empty = ~(pixels > BACKGROUND_LEVEL).flatten(1).any(1)
            labels = values[predicted] * ~empty[:, None, None]
            yield from labels.cpu().numpy()


@torch.no_grad()
def _predict(network: DynUNet, images: Tensor, architecture: Architecture) -> Tensor:
    """Class indices int64 (n, y, x) of images uint8 (n, contrast, y, x)."""
    network.eval()
    padded = pad_to_stride(normalise(images), architecture.stride)
    logits: Tensor = network(padded)
    return logits[..., : images.shape[-2], : images.shape[-1]].argmax(1)


def _grouped(images: Iterable[UInt8Array], batch_size: int, contrasts: Sequence[str]) -> Iterator[list[UInt8Array]]:
    """Consecutive images of one shape, at most ``batch_size`` of them; each is checked."""
    batch: list[UInt8Array] = []
    for number, given in enumerate(images):
        image = np.asarray(given)
        if image.ndim != 3 or image.shape[0] != len(contrasts) or image.dtype != np.uint8:
            raise DataError(
                f"Image {number} does not fit the segmenter.",
                f"It is {image.dtype} {image.shape}; the training data were uint8 ({len(contrasts)}, y, x), "
                f"with the contrasts {', '.join(contrasts)}.",
                "Give the contrasts of the training data, in their order.",
            )
        if batch and (batch[0].shape != image.shape or len(batch) == batch_size):
            yield batch
            batch = []
        batch.append(image)
    if batch:
        yield batch


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _channels(available: Sequence[str], wanted: Sequence[str]) -> list[int]:
    """Positions of the wanted contrasts; all where none is named."""
    for name in wanted:
        if name not in available:
            raise UsageError(
                f"The dataset has no contrast {name!r}.",
                f"It has {', '.join(available)}.",
                "Name some of these with -p contrasts=..., or leave it out to use all.",
            )
    if len(set(wanted)) != len(wanted):
        raise UsageError(f"contrasts={','.join(wanted)} names one twice.", fix="Name each contrast once.")
    return [list(available).index(name) for name in wanted or available]


def _check(data: Samples) -> None:
    if not len(data):
        raise DataError("There is nothing to train on.", "The dataset is empty.", "Prepare or generate samples first.")
    if len(data.label_values) < 2:
        raise DataError(
            "There is nothing to segment.", "The dataset has no label but background.", "Train on labelled data."
        )
    held = [row.id for row in data.samples if row.split == "holdout"]
    if held:
        raise DataError(
            "The data to train on include holdout samples.",
            f"{len(held)} of them, {held[0]} the first; scores on the holdout would mean nothing.",
            "Train on the training part of the dataset.",
        )


@contextmanager
def _memory_explained(load: str) -> Iterator[None]:
    """Turn an allocation failure into an error that says what to lower."""
    try:
        yield
    except (torch.cuda.OutOfMemoryError, MemoryError, RuntimeError) as error:
        # The CPU allocator raises a plain RuntimeError.
        if type(error) is RuntimeError and "DefaultCPUAllocator" not in str(error):
            raise
        raise OutOfMemoryError(
            "unet ran out of memory.",
            f"{load} needs more than there is ({str(error).splitlines()[0] if str(error) else 'allocation failed'}).",
            "Lower batch_size (-p batch_size=16), then filters.",
        ) from error
