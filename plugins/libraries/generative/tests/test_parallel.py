# ruff: noqa: E402 (imports follow the check for torch)
"""How several processes share a batch. What they learn together is tested with each generator."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from hypothesis import given
from hypothesis import strategies as st
from synthkit_generative.batches import group_size
from synthkit_generative.discriminator import minibatch_deviation
from synthkit_torch import parallel

from synthkit.errors import UsageError


@given(world=st.integers(1, 9), each=st.integers(1, 9))
def test_shares_are_disjoint_equal_and_everything(world: int, each: int) -> None:
    shares = [parallel.rows(world * each, world, rank) for rank in range(world)]
    assert {len(share) for share in shares} == {each}
    assert sorted(np.concatenate(shares).tolist()) == list(range(world * each))
    assert all((np.diff(share) > 0).all() for share in shares)


@pytest.mark.parametrize(("n", "world"), [(8, 2), (32, 4), (32, 8), (48, 3)])
def test_groups_of_minibatch_deviation_stay_whole(n: int, world: int) -> None:
    """A share has the groups that the batch has, so its samples get the feature that they get in the batch."""
    batch = torch.randn(n, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    whole = minibatch_deviation(batch)
    for rank in range(world):
        share = parallel.rows(n, world, rank)
        torch.testing.assert_close(minibatch_deviation(batch[share]), whole[share])


def test_groups_are_smaller_where_a_share_holds_no_whole_one() -> None:
    assert group_size(8) == 4 and [parallel.rows(8, 4, rank).tolist() for rank in (0, 3)] == [[0, 4], [3, 7]]


def test_shares_that_would_not_be_equal_are_refused() -> None:
    with pytest.raises(UsageError, match=r"3 GPUs cannot share a batch of 32 images.*multiple of 12.*--gpus"):
        parallel.rows(32, 3, 0)


def test_one_process_changes_nothing() -> None:
    values = torch.randn(4, 2)
    assert parallel.share(values) is values and parallel.mean(values) is values
    assert torch.equal(parallel.total(list(values)), values.sum(dim=0))
    assert parallel.n_processes() == 1 and parallel.rank() == 0
