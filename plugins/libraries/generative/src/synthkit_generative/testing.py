"""For the tests of generators: a dataset in memory, a training that is killed, and one in several processes.

The dataset is of discs: a dim disc (the head) with a bright, labelled disc (the tumour) somewhere inside.
"""

from __future__ import annotations

import dataclasses
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from scipy import ndimage
from synthkit_torch import devices, parallel

import synthkit
from synthkit.contract import STATE
from synthkit.testing import InMemorySamples
from synthkit_generative.training import Training

UInt8Array = NDArray[np.uint8]


def make_discs(
    n: int = 64, size: int = 32, contrasts: tuple[str, ...] = ("t1", "flair"), label_values: tuple[int, ...] = (0, 4)
) -> InMemorySamples:
    """``n`` discs, with soft edges and some noise as MR has.

    The first contrast is brightest in the inner disc, the further ones ever less so. The last label value is the disc.
    """
    random = np.random.default_rng(0)
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    images = np.zeros((n, len(contrasts), size, size), dtype=np.uint8)
    labels = np.zeros((n, size, size), dtype=np.uint8)
    for row in range(n):
        angle, radius = random.uniform(0, 2 * np.pi), random.uniform(0.1, 0.2) * size
        inner = np.hypot(y - np.sin(angle) * size / 6, x - np.cos(angle) * size / 6) < radius / 1.2
        for number in range(len(contrasts)):
            images[row, number][np.hypot(y, x) < 0.42 * size] = 90
            images[row, number][inner] = 230 - 40 * number
        labels[row][inner] = label_values[-1]
    soft = ndimage.gaussian_filter(images.astype(float), (0, 0, 0.7, 0.7))
    noisy = np.where(soft > 5, soft + random.normal(0, 6, soft.shape), 0)
    return InMemorySamples(
        np.clip(np.rint(noisy), 0, 255).astype(np.uint8), labels, contrasts=contrasts, label_values=label_values
    )


class SpoiltSamples(InMemorySamples):
    """Samples of which the process of rank 1 cannot read batch number ``spoilt``: it raises ``error``, or is killed."""

    def __init__(self, data: InMemorySamples, spoilt: int, error: Exception | None = None) -> None:
        super().__init__(data.images, data.labels, contrasts=data.contrasts, label_values=data.label_values)
        self.spoilt, self.error = spoilt, error

    def read(self, indices: Sequence[int] | NDArray[np.integer[Any]]) -> tuple[UInt8Array, UInt8Array]:
        if parallel.rank() == 1 and len(self.reads) == self.spoilt:
            if self.error is None:
                os.kill(os.getpid(), signal.SIGKILL)
            else:
                raise self.error
        return super().read(indices)


@contextmanager
def on_processes(n: int) -> Iterator[None]:
    """A training in the block is shared by ``n`` processes on the CPU, as it would be by ``n`` GPUs."""
    with (
        mock.patch.dict(os.environ, CUDA_VISIBLE_DEVICES=""),
        mock.patch.object(devices, "find_device", lambda rank=0: torch.device("cpu")),
        mock.patch.object(devices, "count_processes", lambda: n),
    ):
        yield


def assert_processes_agree(train: Callable[[InMemorySamples, Path, Any], None], folder: Path, params: Any) -> None:
    """Trained by one process and by two, half of the weight tensors differ by less than 1e-5 of their norm.

    Not all, nor after many steps: the first steps of Adam move a weight by the learning rate however small its gradient
    is. Where that is mere rounding, as of a bias before instance norm, its sign decides.
    """
    weights = []
    for n in (1, 2):
        (folder / f"{n}").mkdir()
        with on_processes(n):
            train(make_discs(20), folder / f"{n}", params)
        weights.append(load_file(folder / f"{n}" / "generator.safetensors"))
    one, two = weights
    differences = [float((two[name] - one[name]).norm() / (one[name].norm() + 1e-12)) for name in one]
    assert one.keys() == two.keys() and np.median(differences) < 1e-5, np.sort(differences)


def assert_resumes_exactly(train: Callable[[InMemorySamples, Path], None], folder: Path, kills: Sequence[int]) -> None:
    """A training killed after each number of images in ``kills`` ends with the weights of one that was not."""
    data, whole, broken = make_discs(20), folder / "whole", folder / "broken"
    whole.mkdir()
    broken.mkdir()
    train(data, whole)
    for images in kills:
        with killed_after(images):
            train(data, broken)
    train(data, broken)
    expected, resumed = (load_file(folder / "generator.safetensors") for folder in (whole, broken))
    assert expected.keys() == resumed.keys()
    assert [name for name in expected if not torch.equal(expected[name], resumed[name])] == []


def assert_is_made_longer_exactly(
    train: Callable[[InMemorySamples, Path, Any], None], folder: Path, params: Any, shorter_kimg: float
) -> None:
    """A training of ``shorter_kimg`` that is then made as long as ``params`` say has the weights of one of that length.

    Lengths are whole numbers of batches.
    """
    data, whole, short = make_discs(20), folder / "whole", folder / "short"
    whole.mkdir()
    short.mkdir()
    train(data, whole, params)
    for part in (dataclasses.replace(params, kimg=shorter_kimg), params):
        train(data, short, part)
    expected, longer = (load_file(path / "generator.safetensors") for path in (whole, short))
    assert expected.keys() == longer.keys()
    assert [name for name in expected if not torch.equal(expected[name], longer[name])] == []


def assert_begins_with(train: Callable[..., None], checkpoint: Path, folder: Path, params: Any) -> None:
    """A training that begins with a checkpoint has its generator before the first step, and another one after some.

    The checkpoint is of images as :func:`make_discs` makes them, with or without a state beside it.
    """
    learned = load_file(checkpoint / "generator.safetensors")
    for kimg in (0.0, params.kimg):
        path = folder / f"begun-{kimg}"
        path.mkdir()
        state = checkpoint / STATE
        train(
            make_discs(12),
            path,
            dataclasses.replace(params, kimg=kimg),
            initial=checkpoint,
            initial_state=state if state.is_dir() else None,
        )
        found = load_file(path / "generator.safetensors")
        # The mean of latents is estimated anew from the weights.
        same = [torch.equal(learned[name], found[name]) for name in learned if name != "w_mean"]
        assert all(same) if kimg == 0 else not all(same)


def assert_keeps_frozen_layers(
    train: Callable[..., None], begun: Path, folder: Path, params: Any, unchanged: Sequence[str]
) -> None:
    """Begun with a training of :func:`make_discs`, all of the discriminator moves but layers of these names.

    ``params`` freeze some of these; others of them may have no part in the training. The same after a kill.
    """
    before = load_file(begun / STATE / "training.safetensors")
    for kills in ((), (int(params.kimg * 500),)):
        path = folder / f"frozen-{len(kills)}"
        path.mkdir()
        for images in kills:
            with killed_after(images):
                train(make_discs(12), path, params, initial=begun, initial_state=begun / STATE)
        train(make_discs(12), path, params, initial=begun, initial_state=begun / STATE)
        after = load_file(path / STATE / "training.safetensors")
        names = [name for name in before if name.startswith("discriminator.")]
        same = {name for name in names if torch.equal(before[name], after[name])}
        assert same == {name for name in names if name.removeprefix("discriminator.").startswith(tuple(unchanged))}


def assert_microbatches_agree(make: Callable[[int], Training], tolerance: float = 1e-5) -> None:
    """Three steps on 16 images of three channels and 32 pixels, whole and in four microbatches.

    ``make`` builds the training for a value of ``accumulate``. Losses agree to 1e-3 of them or to ``tolerance``, and
    second moments of the gradients to 2 %.
    """
    seen = []
    for accumulate in (1, 4):
        training = make(accumulate)
        real = torch.rand(16, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
        losses = [float(value) for _ in range(3) for value in training.training_step(real).values()]
        seen.append((losses, training.state()))
    (whole, expected), (parts, found) = seen
    assert whole == pytest.approx(parts, rel=1e-3, abs=tolerance)
    for name in (n for n in expected if n.endswith(".exp_avg_sq")):
        torch.testing.assert_close(found[name], expected[name], rtol=2e-2, atol=1e-7, msg=name)


def assert_takes_a_step_at(size: int, training: Any) -> None:
    """A training step on five channels of this size gives finite losses, and drawing gives images of it."""
    values = training.training_step(torch.rand(2, 5, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1)
    assert all(bool(torch.isfinite(value)) for value in values.values()), values
    with torch.inference_mode():
        assert training.sample([3]).shape == (1, 5, size, size)


def assert_like_discs(images: UInt8Array, labels: UInt8Array, overlap: float) -> None:
    """Samples drawn after training on :func:`make_discs` of 32 pixels: labels follow the image, and not all are one.

    ``overlap`` is the least Dice of the labels and the bright pixels of the first contrast, over all samples.
    """
    bright, labelled = images[:, 0] > 160, labels == 4
    assert labelled.any(axis=(1, 2)).mean() > 0.8
    assert 2 * (bright & labelled).sum() / (bright.sum() + labelled.sum()) > overlap
    head = make_discs(1).images[0, 0] > 45
    assert np.median((images[:, 0, head] > 45).mean(axis=1)) > 0.85
    y, x = np.mgrid[:32, :32] - 15.5
    centres = np.array([(y[mask].mean(), x[mask].mean()) for mask in labelled if mask.any()])
    assert (centres.std(axis=0) > 0.3).all()


class KilledError(BaseException):
    """Stands for a killed process: no method catches it."""


@contextmanager
def killed_after(images: int) -> Iterator[None]:
    """A training in the block ends with :class:`KilledError`, which is caught, once it has shown ``images``."""

    def progress(step: int, total: int | None = None, **_: object) -> None:
        if step >= images:
            raise KilledError

    with mock.patch.object(synthkit, "progress", progress):
        try:
            yield
        except KilledError:
            return
    raise AssertionError(f"The training ended before it had shown {images} images.")


def stacked(samples: Iterator[tuple[UInt8Array, UInt8Array]]) -> tuple[UInt8Array, UInt8Array]:
    """Images ``(n, contrast, y, x)`` and labels ``(n, y, x)`` of all samples."""
    images, labels = zip(*samples, strict=True)
    return np.stack(images), np.stack(labels)
