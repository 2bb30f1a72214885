"""Samples from seeds, one after another, with the labels decoded and what was unclear in them counted."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from synthkit_torch.devices import float32_arithmetic, memory_errors
from synthkit_torch.fused import fused_operators
from synthkit_torch.storage import load_json, load_tensors
from torch import Tensor, nn

import synthkit
from synthkit.errors import DataError
from synthkit_generative.decoding import encode, settled, surroundings, thin_rims
from synthkit_generative.encodings import Encoding, of_bytes
from synthkit_generative.params import LastParams, wants_fused

Network = TypeVar("Network", bound=nn.Module)


def draw(
    seeds: Iterable[int],
    sampler: Callable[[Sequence[int]], Tensor],
    params: LastParams,
    *,
    encoding: Encoding,
    device: torch.device,
    name: str,
    offsets: Sequence[float] = (),
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """Yield ``(image uint8 (contrast, y, x), labels uint8 (y, x))`` for each seed, in order.

    ``sampler`` gives float images ``(n, contrast + channel, y, x)`` in [-1, 1] of ``n`` seeds, each of its seed alone.
    The arithmetic is float32, or TF32 by ``generate_precision``, in batches of one size (the last is filled up): a
    sample is the same whatever it is drawn with. On a CPU a batch is one sample, which costs little and makes the bytes
    independent of its size too.
    Labels are decoded by their ``encoding``, as in the training, with ``offsets``. Of ``params``, ``background_zero``
    sets the surroundings of the head to 0, their labels too, and ``settle_labels`` gives pixels that are unclear, and
    those in thin rims of grey levels, the label of the nearest other pixel. ``name`` is the method's, for messages.
    """
    size = params.generate_batch_size if device.type == "cuda" else 1
    tf32 = params.generate_precision == "tf32"
    waiting = iter(seeds)
    drawn = tissue = off_level = rim = stray = 0
    grey = encoding.name == "grey"
    with memory_errors(name, "Lower generate_batch_size, then run the same command again."):
        while batch := list(itertools.islice(waiting, size)):
            with torch.inference_mode(), float32_arithmetic(tf32=tf32), fused_operators(wants_fused(params)):
                grey_levels = to_grey_levels(sampler(batch + batch[-1:] * (size - len(batch))))
            for sample in grey_levels[: len(batch)]:
                first = len(sample) - encoding.channels
                image, channels = sample[:first].copy(), of_bytes(sample[None, first:])
                (labels,), (between,) = encoding.decode(channels, offsets), encoding.unclear(channels)
                # Between two labels other encodings have no third to pass through.
                thin = thin_rims(encode(labels, encoding.label_values)) if grey else np.zeros_like(between)
                tissue += int(np.count_nonzero(labels))
                off_level += int(np.count_nonzero(between))
                rim += int(np.count_nonzero(thin))
                if params.settle_labels:
                    labels = settled(labels, ~(between | thin))
                if params.background_zero:
                    outside = surroundings(image)
                    stray += int(np.count_nonzero(labels[outside]))
                    image[:, outside], labels[outside] = 0, encoding.label_values[0]
                drawn += 1
                yield image, labels
    if tissue:
        synthkit.message(
            f"{drawn} samples with {tissue} labelled pixels. {off_level} pixels ({100 * off_level / tissue:.0f} for "
            f"every 100 labelled ones) lay between {'the grey levels of ' if grey else ''}two labels and were decoded "
            "to the nearer"
            + (
                f"; {rim} ({100 * rim / tissue:.0f}) are a rim one pixel thin between a lower and a higher label, as a "
                "blurred edge leaves it."
                if grey
                else "."
            )
            + (" All of these took the label of the nearest clear pixel." if params.settle_labels else "")
            + (f" {stray} in the black surroundings of the head became background." if stray else "")
        )


def draw_given(
    wanted: Iterable[tuple[int, NDArray[np.uint8]]],
    sampler: Callable[[Sequence[int], NDArray[np.uint8]], Tensor],
    params: LastParams,
    *,
    device: torch.device,
    name: str,
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """As :func:`draw`, of seeds with the labels ``(y, x)`` that each sample is to have, which it then has exactly.

    ``sampler`` gives the contrasts ``(n, contrast, y, x)`` in [-1, 1] of ``n`` seeds and their labels ``(n, y, x)``.
    With ``background_zero`` the surroundings of the head become 0 where nothing is labelled.
    """
    size = params.generate_batch_size if device.type == "cuda" else 1
    tf32 = params.generate_precision == "tf32"
    waiting = iter(wanted)
    with memory_errors(name, "Lower generate_batch_size, then run the same command again."):
        while batch := list(itertools.islice(waiting, size)):
            seeds, labels = zip(*(batch + batch[-1:] * (size - len(batch))), strict=True)
            with torch.inference_mode(), float32_arithmetic(tf32=tf32):
                contrasts = to_grey_levels(sampler(seeds, np.stack(labels)))
            for image, given in zip(contrasts[: len(batch)], labels[: len(batch)], strict=True):
                drawn = image.copy()
                if params.background_zero:
                    drawn[:, surroundings(drawn) & (given == 0)] = 0
                yield drawn, given.copy()


def to_grey_levels(images: Tensor) -> NDArray[np.uint8]:
    """Float images in [-1, 1] as grey levels 0..255."""
    grey: NDArray[np.uint8] = ((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).cpu().contiguous().numpy()
    return grey


def load(checkpoint: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """``config.json`` and the tensors (on the CPU) of a checkpoint; DataError if it is not one."""
    config = load_json(Path(checkpoint) / "config.json")
    tensors, _ = load_tensors(Path(checkpoint) / "generator.safetensors")
    return config, tensors


def load_network(
    checkpoint: Path,
    make: Callable[[dict[str, Any]], Network],
    *,
    device: torch.device,
    name: str,
    beside: Sequence[str] = (),
) -> tuple[Network, dict[str, Tensor], Encoding]:
    """What a generator draws with; DataError if the checkpoint does not fit.

    Parameters
    ----------
    make : builds the network of an ``architecture`` as ``config.json`` has it. Its weights are replaced, so they may be
        on the device "meta".
    name : of the method, for messages.
    beside : names of the tensors that the checkpoint has beside the network's.

    Returns
    -------
    the network on ``device``, in evaluation and without gradients; the tensors beside it by name, on ``device``; how
    its labels are coded.
    """
    config, tensors = load(checkpoint)
    with checkpoint_errors(name):
        network = make(dict(config["architecture"]))
        others = {key: tensors.pop(key).to(device) for key in beside}
        network.load_state_dict(tensors, assign=True)
        encoding = Encoding.of_config(config)
    return network.to(device).requires_grad_(False).eval(), others, encoding


@contextmanager
def checkpoint_errors(name: str) -> Iterator[None]:
    """Around the building of a network from a checkpoint: what does not fit becomes a DataError."""
    try:
        yield
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise DataError(
            f"The checkpoint does not fit this version of {name}.",
            f"{type(error).__name__}: {error}",
            "Generate with the version that trained it, or train again.",
        ) from error
