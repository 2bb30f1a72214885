"""Time of the generators' low-pass filters on a CPU: convolutions of each feature map, and sums of shifted images.

    OMP_NUM_THREADS=1 python benchmarks/resampling.py [--trials 9]

A CPU takes the first, a GPU the second or a kernel of its own. Forward and backward of each filter in the shapes that
StyleGAN2 and its discriminator have at 256 x 256 with a quarter of their widths, channels-last, float32. Ratios of
interleaved trials: above 1 where convolutions take less processor time.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from unittest import mock

import torch
from synthkit_generative import resampling
from synthkit_generative.resampling import Resampling
from torch import Tensor

SHAPES = [(8, 128, 16), (8, 128, 32), (4, 64, 64), (4, 32, 128), (2, 16, 256)]
FILTERS = {"smooth": lambda x: resampling.smooth(x, 2), "downsample": resampling.downsample}


def seconds(way: Callable[[Tensor, Resampling], Tensor], work: Callable[[Tensor], Tensor], x: Tensor) -> float:
    """Processor time of a forward and a backward pass."""
    with mock.patch.object(resampling, "by_convolution", way):
        start = time.process_time()
        result = work(x)
        result.backward(torch.ones_like(result))
        return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=9)
    trials = parser.parse_args().trials
    torch.set_num_threads(1)
    works = [(name, work, shape) for name, work in FILTERS.items() for shape in SHAPES]
    works += [("upsample", resampling.upsample, (8, 5, side)) for side in (16, 64, 128)]
    print(f"{'filter':12} {'shape':>18} {'ms by convolutions':>20}   shifts over convolutions")
    for name, work, (n, features, side) in works:
        x = torch.randn(n, features, side, side).contiguous(memory_format=torch.channels_last).requires_grad_(True)
        ways = (resampling.by_convolution, resampling.by_shifts)
        for way in ways:
            seconds(way, work, x)
        spent = [[seconds(way, work, x) for way in ways] for _ in range(trials)]
        ratios = [shifts / convolutions for convolutions, shifts in spent]
        print(
            f"{name:12} {(n, features, side, side)!s:>18} {statistics.median(row[0] for row in spent) * 1e3:20.2f}   "
            f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})",
            flush=True,
        )


if __name__ == "__main__":
    main()
