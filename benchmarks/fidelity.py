"""Distances between distributions of features, beside scipy, torchmetrics, prdc and the usual recipes in NumPy.

    python benchmarks/fidelity.py [--trials 3] [--only trace kernel neighbours example streaming] [--prdc FOLDER]

Four claims, each with the same values from both sides, and the published example of precision, recall, density and
coverage. Every trial times every tool once, in turn; the figure is the median over trials, of processor time, which
other work on the machine changes little (with OMP_NUM_THREADS=1 no thread's waiting counts). torchmetrics (``pip
install --no-deps torchmetrics lightning-utilities``) and prdc 0.2 (``pip install --no-deps --target FOLDER
prdc==0.2``) are skipped where they are missing. Targets: the trace of the root 11x sqrtm, the kernel distance 5x
subsets, neighbours 22x the plain recipe.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from io import StringIO
from statistics import median

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import linalg
from scipy.spatial.distance import cdist
from synthkit_features import efficientnet, extractor
from synthkit_features.layers import EPSILON, Layer
from synthkit_features.preprocessing import EFFICIENTNET_LITE0
from synthkit_features.weights import default_weights
from synthkit_fidelity import frechet, kernel, manifold
from synthkit_fidelity.sets import FeatureSet
from torch import nn
from torch.nn import functional

Float64 = NDArray[np.float64]
DIMENSION, N = 2048, 5000
PARTS = ("trace", "kernel", "neighbours", "example", "streaming")


def timed(tools: Mapping[str, Callable[[], object]], trials: int, targets: Mapping[str, float]) -> bool:
    """Print seconds and ratios; the first tool is ours. True if all targets are met."""
    seconds: dict[str, list[float]] = {name: [] for name in tools}
    for _ in range(trials):
        for name, run in tools.items():
            start = time.process_time()
            run()
            seconds[name].append(time.process_time() - start)
    first, *others = tools
    ours = median(seconds[first])
    print(f"  {first:42}{ours:9.2f} s")
    met = True
    for name in others:
        ratio = median(seconds[name]) / ours
        spread = " ".join(f"{other / mine:.1f}" for other, mine in zip(seconds[name], seconds[first], strict=True))
        target = targets.get(name)
        met &= target is None or ratio >= target
        verdict = "" if target is None else f"; target {target:g}x {'met' if ratio >= target else 'MISSED'}"
        print(f"  {name:42}{median(seconds[name]):9.2f} s {ratio:6.1f}x  (trials {spread}){verdict}")
    return met


def singles(values: NDArray[np.floating]) -> FeatureSet:
    return FeatureSet(values.astype(np.float32), np.arange(len(values)))


def features_like(rng: np.random.Generator, n: int, dimension: int, scale: float) -> NDArray[np.float32]:
    """Non-negative features of decaying variance, as after a ReLU and averaging."""
    spectrum = np.arange(1, dimension + 1) ** -0.5
    mixing = np.linalg.qr(np.random.default_rng(99).normal(size=(dimension, dimension)))[0]
    return np.maximum((rng.normal(scale, scale, size=(n, dimension)) * spectrum) @ mixing + 0.1, 0).astype(np.float32)


def trace_of_root(x: NDArray[np.float32], y: NDArray[np.float32], trials: int) -> bool:
    print(f"\ntrace of the root of the product of two covariances, {DIMENSION} features of {len(x)} images")
    c1, c2 = (np.cov(z.astype(np.float64), rowvar=False) for z in (x, y))

    mean = np.zeros(DIMENSION)

    def ours() -> float:
        return frechet.trace_of_root(*(frechet.Gaussian(mean, c) for c in (c1, c2)))

    def by_sqrtm() -> float:
        return float(np.trace(linalg.sqrtm(c1 @ c2).real))

    def by_eigenvalues() -> float:
        return float(np.sqrt(np.clip(np.linalg.eigvals(c1 @ c2).real, 0, None)).sum())

    values = ours(), by_sqrtm(), by_eigenvalues()
    print(f"  {values[0]:.10g}; sqrtm differs by {abs(values[1] / values[0] - 1):.1e}, ", end="")
    print(f"eigenvalues by {abs(values[2] / values[0] - 1):.1e} (relative)")
    tools = {"synthkit": ours, "scipy sqrtm": by_sqrtm, "eigenvalues of the product (torchmetrics)": by_eigenvalues}
    return timed(tools, trials, {"scipy sqrtm": 11.0})


def kernel_distance(x: NDArray[np.float32], y: NDArray[np.float32], trials: int) -> bool:
    print(f"\nkernel distance of {len(x)} and {len(y)} images, {DIMENSION} features")
    real, synthetic = singles(x), singles(y)

    def subsets() -> Float64:
        rng = np.random.default_rng(0)
        found = []
        for _ in range(100):
            a, b = (z[rng.permutation(len(z))[:1000]].astype(np.float64) for z in (x, y))
            aa, bb, ab = ((p @ q.T / DIMENSION + 1) ** 3 for p, q in ((a, a), (b, b), (a, b)))
            within = sum((k.sum() - np.trace(k)) / (1000 * 999) for k in (aa, bb))
            found.append(within - 2 * ab.mean())
        return np.array(found)

    full, parts = kernel.kernel_distance(real, synthetic).all_pairs, subsets()
    error = sum(spread.variance for spread in full.spreads) ** 0.5
    print(f"  all pairs {full.value:.6f} (standard error {error:.6f}), subsets {parts.mean():.6f} +- {parts.std():.6f}")
    tools = {
        "synthkit: all pairs, with jackknife": lambda: kernel.kernel_distance(real, synthetic),
        "100 subsets of 1000": subsets,
    }
    return timed(tools, trials, {"100 subsets of 1000": 5.0})


def neighbours(x: NDArray[np.float32], y: NDArray[np.float32], trials: int) -> bool:
    print(f"\nprecision, recall, density, coverage of {len(x)} and {len(y)} images, {DIMENSION} features, k = 5")
    real, synthetic = FeatureSet(x, np.arange(len(x)) // 50), singles(y)  # patients of 50 slices

    def ours() -> dict[str, float]:
        return manifold.prdc(real, synthetic, 5)

    def plain() -> dict[str, float]:
        reach = [np.sort(cdist(z, z), axis=1)[:, 5] for z in (x, y)]
        across = cdist(x, y)
        inside = across < reach[0][:, None]
        return {
            "precision": inside.any(axis=0).mean(),
            "recall": (across < reach[1]).any(axis=1).mean(),
            "density": inside.sum() / (5 * len(y)),
            "coverage": inside.any(axis=1).mean(),
        }

    tools: dict[str, Callable[[], dict[str, float]]] = {"synthkit, with jackknife": ours, "cdist and sort": plain}
    try:
        from prdc import compute_prdc
    except ImportError as error:
        print(f"  prdc skipped: {error}")
    else:

        def package() -> dict[str, float]:
            with redirect_stdout(StringIO()):
                return dict(compute_prdc(x, y, 5))

        tools["prdc 0.2"] = package
    results: dict[str, dict[str, float]] = {}

    def keeping(name: str, run: Callable[[], dict[str, float]]) -> Callable[[], None]:
        return lambda: results.update({name: run()})

    met = timed({name: keeping(name, run) for name, run in tools.items()}, trials, {"cdist and sort": 22.0})
    expected = results["synthkit, with jackknife"]
    differs = max(abs(found[name] - value) for found in results.values() for name, value in expected.items())
    print("  " + ", ".join(f"{name} {value:.4f}" for name, value in expected.items()), end="; ")
    print(f"largest difference {differs:.1e}")
    return met and differs < 1e-3


def published_example() -> bool:
    """The means of a thousand dimensions differ between draws, and with them the scores: several draws are shown."""
    published = np.array([0.477, 0.470, 1.056, 0.974])
    print("\ntwo standard-normal sets of 10,000 in 1000 dimensions, k = 5; published .477 .470 1.056 .974")
    draws = []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        x, y = (singles(rng.normal(size=(10_000, 1000))) for _ in range(2))
        start = time.process_time()
        draws.append(list(manifold.prdc(x, y, 5).values()))
        seconds = time.process_time() - start
        print(f"  draw {seed}: " + " ".join(f"{value:.3f}" for value in draws[-1]) + f" ({seconds:.1f} s)")
    inside = bool(np.all(np.abs(np.mean(draws, axis=0) - published) < 3 * np.std(draws, axis=0)))
    print(f"  published within three standard deviations of the draws: {'met' if inside else 'MISSED'}")
    return inside


class Unfolded(nn.Module):
    """EfficientNet-Lite0 as usually written: three channels, convolution and batch normalisation apart."""

    num_features = efficientnet.FEATURES

    def __init__(self) -> None:
        super().__init__()
        state = torch.load(default_weights(), weights_only=True)
        self.rows = nn.ModuleList(
            nn.ModuleList(self._pair(x, state) for x in block) for block in efficientnet._blocks()
        )
        self.stem, self.head = self._pair(efficientnet._STEM, state), self._pair(efficientnet._HEAD, state)
        self.layers = efficientnet._blocks()
        self.eval()

    @staticmethod
    def _pair(layer: Layer, state: Mapping[str, torch.Tensor]) -> nn.Sequential:
        padding = layer.padding
        conv = nn.Conv2d(
            layer.inputs, layer.outputs, layer.kernel, layer.stride, padding, groups=layer.groups, bias=False
        )
        norm = nn.BatchNorm2d(layer.outputs, eps=EPSILON)
        conv.load_state_dict({"weight": state[f"{layer.conv}.weight"]})
        norm.load_state_dict({name: state[f"{layer.norm}.{name}"] for name in norm.state_dict()})
        return nn.Sequential(conv, norm)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = EFFICIENTNET_LITE0(images[:, 0]).repeat(1, 3, 1, 1)
        x = functional.relu6(self.stem(efficientnet._pad_same(x, 3)))
        for layers, row in zip(self.layers, self.rows, strict=True):
            shortcut = x
            for layer, pair in zip(layers[:-1], row[:-1], strict=True):
                x = efficientnet._pad_same(x, layer.kernel[0]) if layer.stride == 2 else x
                x = functional.relu6(pair(x))
            x = row[-1](x)
            x = x + shortcut if x.shape == shortcut.shape else x
        return functional.relu6(self.head(x)).mean(dim=(2, 3))


def streaming(trials: int) -> bool:
    print("\nfeatures and Frechet distance of 128 and 128 slices of 256 x 256, the same network")
    try:
        from torchmetrics.image.fid import FrechetInceptionDistance
    except ImportError as error:
        print(f"  torchmetrics skipped: {error}")
        return True
    rng = np.random.default_rng(0)
    coarse = [rng.integers(0, high, (128, 16, 16)) for high in (256, 180)]
    slices = [np.kron(c, np.ones((1, 16, 16), int)).astype(np.uint8) for c in coarse]
    network, plain = extractor(), Unfolded()

    def ours() -> float:
        return frechet.frechet_distance(network(slices[0]), network(slices[1]))

    def theirs() -> float:
        metric = FrechetInceptionDistance(feature=plain)
        for real, images in zip((True, False), slices, strict=True):
            for first in range(0, len(images), 32):
                batch = torch.from_numpy(images[first : first + 32])[:, None].expand(-1, 3, -1, -1)
                metric.update(batch, real=real)
        return float(metric.compute())

    with torch.inference_mode():
        difference = np.abs(plain(torch.from_numpy(slices[0][:8])[:, None]).numpy() - network(slices[0][:8])).max()
    print(f"  {ours():.6f}, torchmetrics {theirs():.6f}; features differ by {difference:.1e}")
    return timed({"synthkit": ours, "torchmetrics": theirs}, trials, {"torchmetrics": 1.0})


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=3)
    parser.add_argument("--only", nargs="*", choices=PARTS, default=PARTS, help="which claims")
    parser.add_argument("--prdc", help="folder that prdc 0.2 is installed in")
    arguments = parser.parse_args()
    if arguments.prdc:
        sys.path.append(arguments.prdc)
    warnings.simplefilter("ignore")
    threads = os.environ.get("OMP_NUM_THREADS", "all")
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} CPUs, OMP_NUM_THREADS {threads}, ", end="")
    print(f"load {os.getloadavg()[0]:.1f}, NumPy {np.__version__}, torch {torch.__version__}")
    rng = np.random.default_rng(0)
    x, y = (features_like(rng, N, DIMENSION, scale) for scale in (1.0, 1.1))
    run: dict[str, Callable[[], bool]] = {
        "trace": lambda: trace_of_root(x, y, arguments.trials),
        "kernel": lambda: kernel_distance(x, y, arguments.trials),
        "neighbours": lambda: neighbours(x, y, arguments.trials),
        "example": published_example,
        "streaming": lambda: streaming(arguments.trials),
    }
    met = [run[part]() for part in PARTS if part in arguments.only]
    print("\nall targets met" if all(met) else "\na target was MISSED")
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
