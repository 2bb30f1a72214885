"""What only a GPU can show, in the order of worth, in a few minutes; without a GPU small, on the CPU, and it says so.

    python benchmarks/gpu.py [--minutes 8] [--size 256] [--batch 32]

First the comparison with the CPU of ``synthkit doctor --gpu``; then of each GAN, images a second of a training step
(without regularisation) and of drawing in float32 and TF32, and peak memory of the step, with kernels of our own and
without; of StyleGAN2 also the operators that the step spends most in. A GAN for which no time is left is named and left
out.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import generator_speed
import torch
from synthkit_generative import preflight
from synthkit_torch.devices import choose_precision, fastest_convolutions, find_device, float32_arithmetic
from synthkit_torch.fused import fused_operators, has_kernels

#: A step with neither R1 nor path length, as most are.
PLAIN = 1


def seconds(work: Callable[[], Any], device: torch.device, trials: int = 3) -> float:
    """Median wall time of ``work``, after one call that compiles and chooses."""
    spent = []
    for _ in range(trials + 1):
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        spent.append(time.perf_counter() - start)
    return statistics.median(spent[1:])


def peak_gib(device: torch.device) -> float:
    """Peak memory of a GPU since the last call."""
    if device.type != "cuda":
        return math.nan
    peak = torch.cuda.max_memory_allocated(device) / 2**30
    torch.cuda.reset_peak_memory_stats(device)
    return peak


class Part:
    """One generator, ready for steps on ``device``."""

    def __init__(self, name: str, size: int, batch: int, device: torch.device, narrower: int) -> None:
        _, self.training = generator_speed.make(name, size, batch, str(device), narrower)
        self.training.precision = choose_precision("auto", device)
        self.real = torch.rand(batch, generator_speed.CHANNELS, size, size, device=device) * 2 - 1

    def step(self) -> None:
        generator_speed.step_of(self.training, self.real, PLAIN)

    def draw(self) -> None:
        with torch.inference_mode():
            self.training.sample(range(len(self.real)))


def measure(name: str, part: Part, device: torch.device) -> None:
    """Steps and drawings, where there are kernels of our own with them and without."""
    n = len(part.real)
    for fused in (True, False) if has_kernels(device) else (False,):
        with fused_operators(fused):
            peak_gib(device)
            with fastest_convolutions(part.training.precision):
                said = f"{n / seconds(part.step, device):9.2f} im/s training"
            said += f" {peak_gib(device):7.2f} GiB" if device.type == "cuda" else ""
            for kind in ("float32", "tf32") if device.type == "cuda" else ("float32",):
                with float32_arithmetic(tf32=kind == "tf32"):
                    said += f" {n / seconds(part.draw, device):9.2f} im/s drawing in {kind}"
        print(f"{name:10} {'own kernels' if fused else 'plain torch'} {said}", flush=True)


def profile(part: Part, device: torch.device) -> None:
    """The operators that a step spends most in."""
    kinds = [torch.profiler.ProfilerActivity.CPU]
    kinds += [torch.profiler.ProfilerActivity.CUDA] if device.type == "cuda" else []
    with torch.profiler.profile(activities=kinds) as seen:
        part.step()
    order = f"self_{device.type}_time_total"
    print(seen.key_averages().table(sort_by=order, row_limit=15, max_name_column_width=60), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch", type=int, default=32)
    given = parser.parse_args()
    end = time.monotonic() + 60 * given.minutes
    device, size, batch, narrower = find_device(), given.size, given.batch, 1
    if device.type == "cpu":
        size, batch, narrower = 32, 4, 16
        torch.set_num_threads(1)
        print(f"No GPU: all of it small ({size} x {size}, batch {batch}, narrow), on the CPU. Its times mean nothing.")
    print(json.dumps(preflight.examine() if device.type == "cuda" else preflight.compare(device)), flush=True)
    for name in ("stylegan2", "stylegan3", "stylegan1", "progan"):
        if time.monotonic() > end:
            print(f"{name}: left out, no time left")
            continue
        part = Part(name, size, batch, device, narrower)
        measure(name, part, device)
        if name == "stylegan2":
            profile(part, device)
        del part


if __name__ == "__main__":
    main()
