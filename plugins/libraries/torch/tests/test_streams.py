# ruff: noqa: E402 (imports follow the check for torch)
"""A sample belongs to its seed, a stream to its key, and the caller's random state to the caller."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from synthkit_torch.streams import SeedStreams, own_seed, stream

CPU = torch.device("cpu")


def test_a_sample_follows_from_its_seed_alone() -> None:
    together, alone = SeedStreams([7, 2**40 + 7], CPU), SeedStreams([2**40 + 7], CPU)
    first, second = together.normal(3), together.normal(2, 2)
    assert torch.equal(first[1:], alone.normal(3)) and torch.equal(second[1:], alone.normal(2, 2))
    assert not torch.equal(first[0], first[1])  # seeds of equal low bits differ
    assert first.dtype == torch.float32 and second.shape == (2, 2, 2)


def test_a_stream_follows_from_its_key_alone() -> None:
    draws = [torch.randn(4, generator=stream(CPU, *key)) for key in ((1, 2), (1, 2), (2, 1), (1,))]
    assert torch.equal(draws[0], draws[1])
    assert len({tuple(draw.tolist()) for draw in draws}) == 3


def test_the_callers_random_state_stays() -> None:
    before = torch.get_rng_state()
    with own_seed(3):
        first = torch.randn(4)
    with own_seed(3):
        assert torch.equal(first, torch.randn(4))
    assert torch.equal(before, torch.get_rng_state())
