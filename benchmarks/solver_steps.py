"""Solvers of diffusion and their steps: what fewer evaluations of the network cost in the samples.

    python benchmarks/solver_steps.py DATASET [--run RUN] [-n 64]

Every solver starts from the same noise, with one of two networks.

exact    The best network there can be for a known distribution: normals of standard deviation 0.02 around each
         training slice of DATASET (a mixture, for which the noise to expect has a closed form). Errors are the
         solver's alone.
trained  That of RUN, a `synthkit train diffusion` of DATASET, finished or not. Samples have its errors as well.

A line a solver and number of steps: processor seconds a sample; the root mean square difference in grey levels from
DPM-Solver++ in many steps (the last line) from the same noise, for solvers that follow the same flow; the mean grey
level of the contrasts. Exact: the deviation from the nearest training slice over that of the distribution, so 1 is
right. Trained: the kernel distance of t1 to held-out real slices, in the features of `synthkit evaluate kid`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from synthkit_diffusion import process
from synthkit_features import extractor
from synthkit_fidelity.kernel import kernel_distance
from synthkit_fidelity.sets import FeatureSet, groups_of
from synthkit_generative.drawing import load, to_grey_levels
from synthkit_generative.unet import Architecture, UNet
from synthkit_torch.streams import SeedStreams
from torch import Tensor

from synthkit.data.dataset import Dataset
from synthkit.data.labels import to_grey
from synthkit.data.views import View

WAYS = (
    *(("dpm++", count) for count in (5, 10, 20, 50)),
    *(("ddim", count) for count in (5, 10, 20, 50)),
    *(("ancestral", count) for count in (50, 200, 0)),  # 0: all steps, as the study
)
DEVIATION = 0.02
SHRINK = 0.9  # of the exact distribution, whose normals then lie inside [-1, 1] whole
BATCH = 16


def channels(data: View) -> Tensor:
    """All slices as training sees them: float ``(n, contrast + 1, y, x)`` in [-1, 1]."""
    images, labels = data.read(range(len(data)))
    grey = np.concatenate([images, to_grey(labels, data.label_values)[:, None]], axis=1)
    return torch.from_numpy(grey).float() / 127.5 - 1


def exact(centres: Tensor, alpha_bar: NDArray[np.float64]) -> process.Denoiser:
    """E[e | x_t] where x_0 is normal around one of ``centres (n, channels, y, x)``, each as likely."""
    flat = centres.flatten(1)
    squares = flat.square().sum(dim=1)

    def noise(x: Tensor, t: Tensor) -> Tensor:
        share = float(alpha_bar[int(t[0])])
        root, variance = share**0.5, share * DEVIATION**2 + 1 - share
        rows = x.flatten(1)
        weights = torch.softmax((root * rows @ flat.T - 0.5 * share * squares) / variance, dim=1)
        centre = (weights @ flat).view_as(x)
        return (x - root * centre) * ((1 - share) ** 0.5 / variance)

    return process.Denoiser(noise)


def drawn(
    denoiser: process.Denoiser, alpha_bar: NDArray[np.float64], shape: tuple[int, ...], way: str, count: int, n: int
) -> Tensor:
    """Samples of seeds 0 to ``n`` - 1."""
    batches = []
    for first in range(0, n, BATCH):
        normal = SeedStreams(range(first, min(first + BATCH, n)), torch.device("cpu")).normal
        if way == "ancestral":
            batches.append(process.ancestral(denoiser, process.Steps.of(alpha_bar, count), normal, shape, False))
        else:
            solver = process.ddim if way == "ddim" else process.dpm_solver
            batches.append(solver(denoiser, process.Steps.by_log_snr(alpha_bar, count), normal, shape))
    return torch.cat(batches)


def relative_noise(samples: Tensor, centres: Tensor) -> float:
    """Root mean square difference from the nearest of ``centres``, over the standard deviation there."""
    rows, flat = samples.flatten(1), centres.flatten(1)
    nearest = torch.cdist(rows, flat).min(dim=1).values
    return float(nearest.square().mean().sqrt()) / rows.shape[1] ** 0.5 / DEVIATION


def table(
    denoiser: process.Denoiser,
    alpha_bar: NDArray[np.float64],
    shape: tuple[int, ...],
    n: int,
    fine: int,
    measure: tuple[str, Callable[[Tensor], float]],
) -> None:
    """A line a solver and number of steps, with the mean grey level and a measure of its own name."""
    reference = drawn(denoiser, alpha_bar, shape, "dpm++", fine, n)
    name, score = measure
    print(f"{'solver':10}{'steps':>6}{'s/sample':>10}{'rms':>8}{'mean':>8}{name:>9}")
    for way, count in (*WAYS, ("dpm++", fine)):
        start = time.process_time()
        samples = drawn(denoiser, alpha_bar, shape, way, count, n)
        seconds = (time.process_time() - start) / n
        difference = 127.5 * float((samples - reference).square().mean().sqrt())
        rms = f"{difference:8.2f}" if way != "ancestral" else f"{'-':>8}"
        steps = count or len(alpha_bar)
        print(f"{way:10}{steps:6}{seconds:10.3f}{rms}{mean_grey(samples):8.1f}{score(samples):9.4f}", flush=True)


def mean_grey(samples: Tensor) -> float:
    """Of the contrasts, 0..255."""
    return 127.5 * float(samples[:, :-1].clamp(-1, 1).mean() + 1)


def kernel_distance_to(data: View) -> Callable[[Tensor], float]:
    """Of samples to at most 256 slices of ``data``, by their first contrast."""
    features = extractor()
    rows = np.unique(np.linspace(0, len(data) - 1, 256).astype(int))
    real = FeatureSet(
        features(np.ascontiguousarray(data.read(rows)[0][:, 0])), groups_of([data.samples[i] for i in rows])
    )

    def distance(samples: Tensor) -> float:
        found = features(np.ascontiguousarray(to_grey_levels(samples)[:, 0]))
        return kernel_distance(real, FeatureSet(found, np.arange(len(found)))).all_pairs.value

    return distance


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--run", type=Path, help="a training of diffusion; without it, the exact network")
    parser.add_argument("-n", type=int, default=64, help="samples of each solver")
    options = parser.parse_args()
    data, n = Dataset(options.dataset), options.n
    real = channels(data.select("train"))
    shape = tuple(real.shape[1:])
    with torch.inference_mode():
        if options.run is None:
            alpha_bar, centres = process.alphas_cumprod("linear", 4000), SHRINK * real
            print(
                f"exact network, linear schedule, 4000 steps, {n} samples; right is a mean of {mean_grey(centres):.1f}"
            )
            table(
                exact(centres, alpha_bar),
                alpha_bar,
                shape,
                n,
                500,
                ("noise", lambda samples: relative_noise(samples, centres)),
            )
            return
        config, tensors = load(options.run / "outputs" / "checkpoint")
        described = dict(config["architecture"])
        schedule, n_steps = described.pop("schedule"), int(described.pop("diffusion_steps"))
        prediction = process.read_prediction(described.pop("prediction", "noise"))
        network = UNet(Architecture(**described))
        network.load_state_dict(tensors)
        network.eval()
        distance = kernel_distance_to(data.select("holdout"))
        some = real[np.linspace(0, len(real) - 1, 256).astype(int)]
        print(
            f"trained network after {config['images_shown']} images, {schedule} schedule, {n_steps} steps, {n} samples"
        )
        print(f"256 training slices: mean {mean_grey(some):.1f}, kd {distance(some):.4f}")
        denoiser = process.Denoiser(network, prediction)
        table(denoiser, process.alphas_cumprod(schedule, n_steps), shape, n, 100, ("kd", distance))


if __name__ == "__main__":
    main()
