"""Random phase noise (Galerne et al., 2011) about the mean of the training slices, images and labels alike.

Contrasts and indicators of the labels are the channels of one image. What remains of it when the mean is taken away has
a cross spectrum between channels at each frequency; a sample is the mean plus Gaussian noise of this spectrum, so that
channels that go together in the data go together in a sample. The label of a pixel is its largest indicator.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors.numpy import load_file, save_file

import synthkit
from random_phase_mri import Params

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from synthkit.contract import Samples, UInt8Array

_FILE = "spectrum.safetensors"


def train(data: Samples, checkpoint: Path, params: Params) -> None:
    """Mean and cross spectrum, in one pass: that of the deviations is the mean one less that of the mean."""
    n_channels, (height, width) = len(data.contrasts) + len(data.label_values), data.size
    total = np.zeros((n_channels, height, width))
    spectrum = np.zeros((height, width // 2 + 1, n_channels, n_channels), complex)
    done = 0
    for images, labels in data.batches(params.batch_size):
        for channels in _channels(images, labels, data.label_values):
            total += channels
            spectrum += _cross_spectrum(channels)
        done += len(images)
        synthkit.progress(done, len(data), unit="sample")
    mean = total / len(data)
    spectrum = spectrum / len(data) - _cross_spectrum(mean)
    power, axes = np.linalg.eigh(spectrum)
    root = axes * np.sqrt(np.maximum(power, 0))[..., None, :]  # root @ root^H is the spectrum
    learned = {
        "mean": mean.astype(np.float32),
        "root_real": np.ascontiguousarray(root.real, np.float32),
        "root_imaginary": np.ascontiguousarray(root.imag, np.float32),
        "label_values": np.array(data.label_values, np.uint8),
    }
    save_file(learned, checkpoint / _FILE)


def generate(checkpoint: Path, seeds: Iterable[int], params: Params) -> Iterator[tuple[UInt8Array, UInt8Array]]:
    learned = load_file(checkpoint / _FILE)
    mean, values = learned["mean"], learned["label_values"]
    root = learned["root_real"] + 1j * learned["root_imaginary"]
    n_contrasts = len(mean) - len(values)
    for seed in seeds:
        white = np.random.default_rng(seed).standard_normal(mean.shape)
        # White noise has a spectrum of height * width at each frequency.
        waves = np.moveaxis(np.fft.rfft2(white, norm="ortho"), 0, -1)[..., None]
        texture = np.fft.irfft2(np.moveaxis((root @ waves)[..., 0], -1, 0), s=mean.shape[1:])
        planes = mean + params.texture * texture
        image = np.clip(np.rint(planes[:n_contrasts]), 0, 255).astype(np.uint8)
        yield image, values[planes[n_contrasts:].argmax(axis=0)]


def _channels(images: UInt8Array, labels: UInt8Array, label_values: tuple[int, ...]) -> NDArray[np.float64]:
    """Contrasts and indicators (0 or 255) of the labels: (n, channel, y, x)."""
    indicators = 255.0 * (labels[:, None] == np.array(label_values)[:, None, None])
    return np.concatenate([images, indicators], axis=1)


def _cross_spectrum(channels: NDArray[np.float64]) -> NDArray[np.complex128]:
    """Product of each channel's transform with each other's conjugate: (ky, kx, channel, channel)."""
    waves = np.moveaxis(np.fft.rfft2(channels), 0, -1)
    return waves[..., :, None] * waves[..., None, :].conj()
