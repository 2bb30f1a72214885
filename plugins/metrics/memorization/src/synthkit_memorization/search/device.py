"""All pairs on a device of PyTorch: exact inner products from int8 matrix products with 32-bit sums.

A product of two values of int8 is at most 2^14, so 2^16 of them add up to at most 2^30 and fit; longer sums are split
and added in 64 bits. The device finds the pairs that may be among the k best, up to rounding; their r is then computed
as on the CPU, so it equals that to the last bit. A shard of training images goes to the device once, each block of
queries once a shard, and only those pairs come back.

The same code runs on a CPU (device "cpu"), for tests.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from synthkit.errors import PluginError
from synthkit_memorization.search.dense import Pairs, Runs, decided
from synthkit_memorization.search.matches import Matches
from synthkit_memorization.search.pixels import Block, Float64, Int64, Plane
from synthkit_memorization.search.rules import ROUNDING, Key, View, inverse_norm

#: Training images of one matrix product.
TRAIN_TILE = 8192
#: Pixels whose products are summed in 32 bits.
PIECE = 2**16
#: int8 products on a GPU want shapes that are multiples of this (and more than 16 rows).
ALIGNED = 32


class OnDevice:
    """Every view of one shard of training images, all pairs (``dense.AllPairs``); ``people`` as in ``Dense``."""

    def __init__(self, shard: Block, views: Mapping[Key, View], people: Int64 | None, device: str) -> None:
        self._device = _usable(device)
        self._people = people
        self._views = views
        self._n = len(shard)
        self._train = _Planes(shard, self._device)
        self._moments = {key: view.moments(shard) for key, view in views.items()}
        self._rows = {key: moments.mapped(self._up) for key, moments in self._moments.items()}
        self._scale = {key: self._up(inverse_norm(moments.variance)) for key, moments in self._moments.items()}

    def _up(self, array: NDArray[Any]) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self._device)

    def search(
        self, block: Block, floors: Mapping[Key, Float64], k: int, excluded: NDArray[np.bool_] | None
    ) -> dict[Key, Matches]:
        queries = _Planes(block, self._device)
        x = {key: self._views[key].moments(block) for key in floors}
        columns = {key: moments.mapped(lambda array: self._up(array)[..., None]) for key, moments in x.items()}
        scale = {key: self._up(inverse_norm(moments.variance))[:, None] for key, moments in x.items()}
        least = {key: self._up(floor) for key, floor in floors.items()}
        pairs: dict[Key, list[Pairs]] = {key: [] for key in floors}
        for first in range(0, self._n, TRAIN_TILE):
            tile = slice(first, min(first + TRAIN_TILE, self._n))

            @cache
            def product(p: Plane, q: Plane, tile: slice = tile) -> torch.Tensor:
                return queries.products(p, self._train, q, tile)

            column = None if self._people is None else self._up(Runs.of(self._people[tile]).column)
            in_brains: dict[int, Any] = {}
            for key in floors:
                y = self._rows[key].mapped(partial(_columns, tile))
                numerator = self._views[key].numerator(product, columns[key], y, in_brains)
                r = numerator * scale[key] * self._scale[key][tile]
                if excluded is not None:
                    r[self._up(excluded[:, tile])] = -torch.inf
                best = r if column is None else _best_of_each(r, column)
                if k <= best.shape[1]:
                    # What is not among the k best of a tile is not among the k best of all.
                    least[key] = torch.maximum(least[key], best.topk(k, dim=1).values[:, -1])
                rows, found = torch.nonzero(r >= least[key].clamp(min=-1.0)[:, None] - ROUNDING, as_tuple=True)
                if column is not None:
                    may_be_best = r[rows, found] >= best[rows, column[found]] - ROUNDING
                    rows, found = rows[may_be_best], found[may_be_best]
                some = rows, found + first, numerator[rows, found]
                query, image, value = (part.cpu().numpy() for part in some)
                pairs[key].append((query, image, value))
        return {key: decided(pairs[key], x[key], self._moments[key], k, self._people) for key in floors}


def _best_of_each(r: torch.Tensor, column: torch.Tensor) -> torch.Tensor:
    """The largest r with an image of each person, ``(query, person)``; ``column`` of each image's person."""
    best = r.new_full((len(r), int(column.max()) + 1), -torch.inf)
    return best.scatter_reduce_(1, column.expand_as(r), r, "amax")


def _columns(tile: slice, array: Any) -> Any:
    return array[..., tile]


class _Planes:
    """The pixels of a block on the device, images padded with zeros to a multiple of ALIGNED."""

    def __init__(self, block: Block, device: torch.device) -> None:
        self._n = len(block)
        self._pixels = self._padded(torch.from_numpy(block.pixels), device)
        self._mask = None if block.brain is None else self._padded(torch.from_numpy(block.brain.mask), device)

    def _padded(self, images: torch.Tensor, device: torch.device) -> torch.Tensor:
        """``(..., image, P)`` on the device."""
        *others, n, p = images.shape
        result = torch.zeros((*others, -(-n // ALIGNED) * ALIGNED, p), dtype=torch.int8, device=device)
        result[..., :n, :] = images.to(device)
        return result

    def _plane(self, plane: Plane, rows: slice, pixels: slice) -> torch.Tensor:
        kind, contrast = plane
        if kind == "pixels":
            return self._pixels[contrast, rows, pixels]
        assert self._mask is not None  # a block is made for the rules that will be asked of it
        mask = self._mask[rows, pixels]
        return mask if kind == "mask" else self._pixels[contrast, rows, pixels] & mask

    def products(self, p: Plane, train: _Planes, q: Plane, tile: slice) -> torch.Tensor:
        """Inner products of plane p of all images with plane q of a tile of others, int64, exact."""
        aligned = slice(tile.start, -(-tile.stop // ALIGNED) * ALIGNED)
        total: torch.Tensor | None = None
        for first in range(0, self._pixels.shape[2], PIECE):
            pixels = slice(first, first + PIECE)
            x, y = self._plane(p, slice(None), pixels), train._plane(q, aligned, pixels)
            piece = torch._int_mm(x.contiguous(), y.contiguous().T).long()
            total = piece if total is None else total + piece
        assert total is not None
        return total[: self._n, : tile.stop - tile.start]


@cache
def _usable(name: str) -> torch.device:
    """The device, if its int8 products are exact.

    Raises
    ------
    PluginError : PyTorch has no such device here, or it lacks int8 products or float64, or its products saturate.
    """
    why = "Its int8 matrix products are not exact."
    try:
        device = torch.device(name)
        values = torch.randint(-128, 128, (2, 64, 1024), generator=torch.Generator().manual_seed(0))
        values[:, :32] = -128
        x, y = values.to(torch.int8).to(device)
        found = torch._int_mm(x, y.T).double().cpu()
        if torch.equal(found, values[0].double() @ values[1].double().T):
            return device
    except (RuntimeError, NotImplementedError, TypeError, AssertionError) as error:
        why = str(error).splitlines()[0]
    raise PluginError(
        f"The search cannot run on the device {name!r}.",
        why,
        "Choose another device, or 'cpu', which needs no PyTorch.",
    )
