"""Random numbers that follow from what they are for: training resumes exactly, and a sample belongs to its seed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor


def stream(device: torch.device, *key: int) -> torch.Generator:
    """A random stream of this device that follows from ``key`` alone (seed of the training, purpose, step)."""
    state = int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0]) >> 1
    return torch.Generator(device).manual_seed(state)


@contextmanager
def own_seed(seed: int) -> Iterator[None]:
    """What the block draws on the CPU without a stream of its own (initial weights) follows from ``seed``.

    The caller's random state is as before afterwards.
    """
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed, which would also seed the caller's GPUs.
        torch.default_generator.manual_seed(seed)
        yield


class SeedStreams:
    """One random stream a sample, which follows from the sample's seed alone: not from the batch, nor from the device.

    Every call continues the streams. numpy's take the whole seed; torch's on a CPU ignore all but its lowest 32 bits.
    """

    def __init__(self, seeds: Sequence[int], device: torch.device) -> None:
        self._streams = [np.random.default_rng(seed) for seed in seeds]
        self._device = device

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers, float32 ``(len(seeds), *shape)``."""
        drawn = [stream.standard_normal(shape, dtype=np.float32) for stream in self._streams]
        return torch.from_numpy(np.stack(drawn)).to(self._device)
