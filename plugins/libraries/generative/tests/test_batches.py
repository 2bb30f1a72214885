# ruff: noqa: E402 (imports follow the check for torch)
"""Real images in the order of the seed, and batches in parts."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from hypothesis import given, settings
from hypothesis import strategies as st
from synthkit_generative.batches import group_size, microbatches
from synthkit_generative.data import RealImages, square_side
from synthkit_generative.discriminator import minibatch_stddev
from synthkit_generative.encodings import Encoding
from synthkit_generative.testing import make_discs
from synthkit_torch import parallel

from synthkit.errors import DataError, UsageError


class Rows:
    """Images of one contrast and two columns: twice the number of the row, and one more; the right one is labelled."""

    label_values = (0, 4)

    def __init__(self, n: int) -> None:
        self.n = n

    def __len__(self) -> int:
        return self.n

    def read(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        columns = np.stack([2 * np.asarray(indices), 2 * np.asarray(indices) + 1], axis=1).astype(np.uint8)
        images = np.broadcast_to(columns[:, None, None, :], (len(columns), 1, 2, 2))
        return images, np.broadcast_to(np.array([0, 4], dtype=np.uint8), (len(columns), 2, 2))


@settings(max_examples=30, deadline=None)
@given(n=st.integers(1, 9), batch_size=st.integers(1, 7), start=st.integers(0, 20), mirror=st.booleans())
def test_real_images_follow_from_seed_and_step(n: int, batch_size: int, start: int, mirror: bool) -> None:
    batches, resumed = [], []
    for first, found in ((0, batches), (start, resumed)):
        with RealImages(Rows(n), Encoding("grey", (0, 4)), batch_size, 3, first, 25, mirror=mirror) as stream:
            found.extend(stream)
    assert all(np.array_equal(a, b) for a, b in zip(batches[start:], resumed, strict=True))
    images, labels = np.concatenate(batches)[:, :, 0].transpose(1, 0, 2).tolist()
    # Labels are the last channel, as grey levels, and are mirrored with their image.
    assert labels == [[0, 204] if left < right else [204, 0] for left, right in images]
    epoch = [[2 * row, 2 * row + 1] for row in range(n)] + [[2 * row + 1, 2 * row] for row in range(n)] * mirror
    for begin in range(0, len(images) - len(epoch) + 1, len(epoch)):  # every epoch shows every image once
        assert sorted(images[begin : begin + len(epoch)]) == sorted(epoch)


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
    taken = microbatches(batch, accumulate)
    assert len(taken) == accumulate and len({len(part) for part in taken}) == 1
    assert [g for part in taken for g in groups(part)] == groups(batch)


def test_parts_that_would_cut_a_group_are_refused() -> None:
    with pytest.raises(UsageError, match="multiple of 12"):
        microbatches(torch.zeros(8), 3)
    assert [len(part) for part in microbatches(torch.zeros(6), 3, groups=1)] == [2, 2, 2]


@pytest.mark.parametrize(("n", "world"), [(8, 2), (32, 4), (32, 8), (48, 3)])
def test_groups_of_minibatch_deviation_stay_whole(n: int, world: int) -> None:
    """A share has the groups that the batch has, so its samples get the feature that they get in the batch."""
    batch = torch.randn(n, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    whole = minibatch_stddev(batch)
    for rank in range(world):
        share = parallel.rows(n, world, rank)
        torch.testing.assert_close(minibatch_stddev(batch[share]), whole[share])


def test_groups_are_smaller_where_a_share_holds_no_whole_one() -> None:
    assert group_size(8) == 4 and [parallel.rows(8, 4, rank).tolist() for rank in (0, 3)] == [[0, 4], [3, 7]]
