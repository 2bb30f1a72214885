# ruff: noqa: E402 (imports follow the check for torch)
"""How several processes share a batch. What they learn together is tested with each generator."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from hypothesis import given
from hypothesis import strategies as st
from synthkit_torch import parallel

from synthkit.errors import UsageError


@given(world=st.integers(1, 9), each=st.integers(1, 9))
def test_shares_are_disjoint_equal_and_everything(world: int, each: int) -> None:
    shares = [parallel.rows(world * each, world, rank) for rank in range(world)]
    assert {len(share) for share in shares} == {each}
    assert sorted(np.concatenate(shares).tolist()) == list(range(world * each))
    assert all((np.diff(share) > 0).all() for share in shares)


def test_shares_that_would_not_be_equal_are_refused() -> None:
    with pytest.raises(UsageError, match=r"3 GPUs cannot share a batch of 32 images.*multiple of 12.*--gpus"):
        parallel.rows(32, 3, 0)


def test_one_process_changes_nothing() -> None:
    values = torch.randn(4, 2)
    assert parallel.share(values) is values and parallel.mean(values) is values
    assert torch.equal(parallel.total(list(values)), values.sum(dim=0))
    assert parallel.n_processes() == 1 and parallel.rank() == 0
