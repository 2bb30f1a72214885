"""A batch taken in microbatches, so that the groups that belong together stay together."""

from __future__ import annotations

from synthkit_torch.parallel import GROUP
from torch import Tensor

from synthkit.errors import UsageError


def group_size(n: int) -> int:
    """The largest group up to :data:`synthkit_torch.parallel.GROUP` that divides ``n`` samples."""
    return next(size for size in range(GROUP, 0, -1) if n % size == 0)


def microbatches(batch: Tensor, accumulate: int, groups: int | None = None) -> list[Tensor]:
    """A batch ``(n, ...)`` in ``accumulate`` equal microbatches, whose gradients sum to that of the batch.

    ``groups`` is the size of the groups that belong together (sample i with i + n / groups, ...), by default those of
    minibatch standard deviation, which a discriminator then forms of them as it would of the batch. 1 for a method
    whose samples know nothing of one another. UsageError where the parts would not be equal or would cut a group.
    """
    n = len(batch)
    groups = group_size(n) if groups is None else groups
    if n % (groups * accumulate):
        raise UsageError(
            f"A batch of {n} images cannot be taken in {accumulate} parts.",
            f"Each part must hold whole groups of {groups} images." if groups > 1 else "The parts must be equal.",
            f"Make batch_size a multiple of {groups * accumulate}, or lower accumulate.",
        )
    if accumulate == 1:
        return [batch]
    grouped = batch.reshape(groups, accumulate, n // groups // accumulate, *batch.shape[1:])
    return [grouped[:, number].flatten(0, 1) for number in range(accumulate)]
