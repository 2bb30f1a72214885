"""What the parts of edm's network are worth in a short training: the same processor time for each.

    python benchmarks/edm_networks.py DATA [--seconds 200] [--only NAME ...] [--pictures FOLDER]

DATA is a prepared dataset of 64 x 64 pixels with held-out subjects (`synthkit prepare SUBJECTS -o DATA --size 64
--holdout 20`). The network of contrasts alone is trained, given true labels, for so many core-seconds (one thread,
bfloat16), and draws the contrasts of 200 held-out label maps. Of these are printed: the images that were trained on;
*roughness*, the mean difference of neighbouring pixels over that of real held-out images (grain is above 1); *shape*,
the squared Frechet distance (Heusel et al. 2017, equation 6) to the training images of images averaged to 4 x 4 and to
8 x 8 pixels, in the first 40 principal components of those, over that of the held-out images.
"""

from __future__ import annotations

import argparse
import copy
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from scipy.linalg import eigvals
from synthkit_edm import process
from synthkit_edm.networks import Statistics
from synthkit_edm.process import Denoiser
from synthkit_generative.encodings import encoding_of, of_bytes
from synthkit_generative.unet import Architecture, group_for
from synthkit_generative.weights import ema_decay, update_ema
from torch import Tensor

from synthkit.data.dataset import Dataset

BATCH, RATE, N_SAMPLES, COMPONENTS = 16, 1.5e-3, 200, 40


class Variant(NamedTuple):
    width: int
    patch: int
    pace: float
    features: int
    noise_mean: float
    noise_spread: float = 1.4


VARIANTS = {
    "pixels, noise as at 32": Variant(20, 1, 0.25, 0, -0.6, 1.2),
    "pixels": Variant(20, 1, 0.25, 0, 0.1),
    "squares": Variant(32, 2, 0.25, 0, 0.1),
    "squares, pace": Variant(32, 2, process.PACE, 0, 0.1),
    "squares, pace, details": Variant(32, 2, process.PACE, process.FEATURES, 0.1),
}


def trained(variant: Variant, images: Tensor, given: Tensor, known: Statistics, seconds: float) -> tuple[Denoiser, int]:
    """The averaged weights after so many core-seconds, and the steps that these were."""
    torch.manual_seed(0)
    channels = images.shape[1]
    architecture = Architecture(images.shape[-1], channels, variant.width, 1, group=group_for(variant.width))
    network = Denoiser(architecture, given.shape[1], 0, variant.patch, variant.pace, variant.features)
    network.mean.copy_(known.mean[:channels])
    network.sigma_data.copy_(known.sigma_data[:channels, None, None])
    averaged = copy.deepcopy(network).requires_grad_(False)
    optimiser = torch.optim.Adam(network.parameters(), lr=RATE, fused=True)
    random, start, step = torch.Generator().manual_seed(1), time.process_time(), 0
    while (spent := (time.process_time() - start) / seconds) < 1:
        for group in optimiser.param_groups:
            group["lr"] = RATE * min(1.0, (step + 1) / 30, 2 * (1 - spent))
        rows = torch.randint(len(images), (BATCH,), generator=random)
        noise = torch.randn(images[rows].shape, generator=random)
        normal = torch.randn(BATCH, generator=random)
        sigma = process.noise_levels(normal, variant.noise_mean, variant.noise_spread)
        with torch.autocast("cpu", torch.bfloat16):
            loss = network.loss(images[rows], noise, sigma, given[rows])
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        step += 1
        update_ema(averaged, network, ema_decay(BATCH, step * BATCH, torch.inf, 0.08))
    return averaged.eval(), step


@torch.inference_mode()
def drawn(network: Denoiser, given: Tensor) -> Tensor:
    """Contrasts of label maps, by the sampler's defaults."""
    random, levels = torch.Generator().manual_seed(2), process.schedule(9, 0.02, 20.0, 5.0)
    parts = []
    for part in given.split(50):
        noise = torch.randn((len(part), *network.shape), generator=random)

        def denoise(x: Tensor, sigma: float, part: Tensor = part) -> Tensor:
            found: Tensor = network(x, torch.full((len(x),), sigma), part)
            return found

        parts.append(process.heun(denoise, noise, levels) + network.mean)
    return torch.cat(parts).clamp(-1, 1)


def roughness(images: Tensor) -> float:
    return float((images[..., 1:] - images[..., :-1]).abs().mean())


def frechet(images: Tensor, training: Tensor, side: int) -> float:
    """Squared Frechet distance of images averaged to ``side`` pixels, in principal components of training images."""
    known, found = (F.adaptive_avg_pool2d(each, side).flatten(1).double().numpy() for each in (training, images))
    centre = known.mean(axis=0)
    basis = np.linalg.svd(known - centre, full_matrices=False)[2][:COMPONENTS].T
    a, b = (known - centre) @ basis, (found - centre) @ basis
    first, second = np.cov(a.T), np.cov(b.T)
    roots = np.sqrt(eigvals(first @ second).real.clip(min=0)).sum()
    mean = np.square(a.mean(axis=0) - b.mean(axis=0)).sum()
    return float(mean + np.trace(first) + np.trace(second) - 2 * roots)


def read(data: Any, rows: Any) -> tuple[Tensor, Tensor]:
    """Contrasts in [-1, 1] and labels in the encoding of edm."""
    images, labels = data.read(rows)
    coded = encoding_of("nested", data, "", None).encode(labels)
    return torch.from_numpy(of_bytes(images)).float(), torch.from_numpy(coded).float()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--seconds", type=float, default=200, help="of one core for each training")
    parser.add_argument("--only", nargs="+", choices=tuple(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--pictures", type=Path, help="a folder for a picture of each")
    options = parser.parse_args()
    torch.set_num_threads(1)
    dataset = Dataset(options.data)
    training, held_out = dataset.training_part(), dataset.select("holdout")
    images, given = read(training, np.arange(len(training)))
    real, asked = read(held_out, np.linspace(0, len(held_out) - 1, N_SAMPLES).astype(int))
    known = Statistics.of(training, encoding_of("nested", training, "", None))
    floors = {side: frechet(real, images, side) for side in (4, 8)}
    print(f"{'':24} {'kimg':>6} {'roughness':>10} {'shape 4':>8} {'shape 8':>8}")
    for name in options.only:
        network, steps = trained(VARIANTS[name], images, given, known, options.seconds)
        found = drawn(network, asked)
        shapes = "  ".join(f"{frechet(found, images, side) / floors[side]:7.2f}" for side in floors)
        print(f"{name:24} {steps * BATCH / 1000:6.1f} {roughness(found) / roughness(real):10.2f} {shapes}", flush=True)
        if options.pictures:
            options.pictures.mkdir(parents=True, exist_ok=True)
            rows = ((torch.cat([found, real], dim=3)[::25] + 1) * 127.5).byte().numpy()
            picture = rows.transpose(0, 2, 1, 3).reshape(len(rows) * rows.shape[2], -1)
            Image.fromarray(picture).save(options.pictures / f"{name.replace(', ', '-').replace(' ', '-')}.png")


if __name__ == "__main__":
    main()
