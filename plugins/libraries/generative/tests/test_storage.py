# ruff: noqa: E402 (imports follow the check for torch)
"""Files that are whole or absent, and real images in the order of the seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from hypothesis import given, settings
from hypothesis import strategies as st
from synthkit_generative.batches import parts
from synthkit_generative.data import RealImages, square_side
from synthkit_generative.testing import make_discs
from synthkit_torch import storage

from synthkit.errors import DataError, NotWritableError, UsageError


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state.safetensors"
    storage.save_tensors(path, {"a": torch.ones(3)}, {"step": 1})

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(storage, "save_file", full)
    with pytest.raises(NotWritableError, match="disk space"):
        storage.save_tensors(path, {"a": torch.zeros(3)}, {"step": 2})
    tensors, facts = storage.load_tensors(path)
    assert facts == {"step": 1} and torch.equal(tensors["a"], torch.ones(3))
    assert [item.name for item in tmp_path.iterdir()] == [path.name]


@settings(max_examples=30, deadline=None)
@given(n=st.integers(1, 9), batch_size=st.integers(1, 7), start=st.integers(0, 20))
def test_real_images_follow_from_seed_and_step(n: int, batch_size: int, start: int) -> None:
    class Rows:
        label_values = (0, 4)

        def __len__(self) -> int:
            return n

        def read(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            rows = np.asarray(indices, dtype=np.uint8)[:, None, None]
            return np.broadcast_to(rows[:, None], (len(rows), 1, 2, 2)), np.full((len(rows), 2, 2), 4, dtype=np.uint8)

    with RealImages(Rows(), (0, 4), batch_size, 3, 0, 25) as stream:
        batches = list(stream)
    with RealImages(Rows(), (0, 4), batch_size, 3, start, 25) as stream:
        resumed = list(stream)
    assert all(np.array_equal(a, b) for a, b in zip(batches[start:], resumed, strict=True))
    seen = np.concatenate(batches)[:, 0, 0, 0]
    for epoch in range(len(seen) // n):  # every epoch shows every row once
        assert sorted(seen[epoch * n : (epoch + 1) * n]) == list(range(n))
    assert (batches[0][:, 1] == 204).all()  # labels are the last channel, as grey levels


def test_sizes_that_cannot_be_drawn_are_refused() -> None:
    assert square_side(make_discs(1, size=64), "Toy") == 64
    with pytest.raises(DataError, match="48 x 48"):
        square_side(make_discs(8, size=48), "Toy")
    with pytest.raises(DataError, match="no samples"):
        square_side(make_discs(0), "Toy")


@pytest.mark.parametrize(("n", "accumulate"), [(8, 2), (16, 2), (24, 3), (6, 2), (5, 1)])
def test_parts_keep_the_groups_of_minibatch_deviation(n: int, accumulate: int) -> None:
    """Group j of a batch is the samples j, j + m, j + 2m, ... of m groups; each is a group of some part."""
    group = next(size for size in (4, 3, 2, 1) if n % size == 0)

    def groups(batch: torch.Tensor) -> list[tuple[int, ...]]:
        return [tuple(column.tolist()) for column in batch.view(group, -1).T]

    batch = torch.arange(n)
    taken = parts(batch, accumulate)
    assert len(taken) == accumulate and len({len(part) for part in taken}) == 1
    assert [g for part in taken for g in groups(part)] == groups(batch)


def test_parts_that_would_cut_a_group_are_refused() -> None:
    with pytest.raises(UsageError, match="multiple of 12"):
        parts(torch.zeros(8), 3)
    assert [len(part) for part in parts(torch.zeros(6), 3, groups=1)] == [2, 2, 2]
