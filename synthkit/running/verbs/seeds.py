"""Lists of seeds as they are written on the command line, ``0-99,200``, and their shards, ``3/8``."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

from synthkit.errors import UsageError

_LARGEST = 2**63 - 1


def parse_seeds(text: str) -> tuple[range, ...]:
    """``"0-99,200"`` as ranges, in the order given. Raises :class:`UsageError` for nonsense and for repeats."""
    ranges: list[range] = []
    for part in text.replace(" ", "").split(","):
        first, dash, last = part.partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise UsageError(
                f"--seeds {text} is not a list of seeds.", f"{part!r} is not one.", "Write it like 0-99,200."
            )
        low, high = int(first), int(last) if dash else int(first)
        if high < low or high > _LARGEST:
            raise UsageError(
                f"--seeds {text} is not a list of seeds.",
                f"{part} runs backwards or too far.",
                "Write it like 0-99,200.",
            )
        ranges.append(range(low, high + 1))
    ordered = sorted(ranges, key=lambda r: r.start)
    for before, after in itertools.pairwise(ordered):
        if after.start < before.stop:
            raise UsageError(
                f"--seeds {text} names seed {after.start} twice.", "A seed makes one sample.", "Name it once."
            )
    return tuple(ranges)


def iterate_seeds(ranges: Iterable[range]) -> Iterator[int]:
    """Every seed, in order."""
    for part in ranges:
        yield from part


def count_seeds(ranges: Iterable[range]) -> int:
    """How many seeds."""
    return sum(len(part) for part in ranges)


def take_shard(ranges: Iterable[range], text: str) -> tuple[range, ...]:
    """The seeds of a shard, ``"3/8"`` for the third of eight: consecutive, in order, shards as equal as can be.

    All shards together are all seeds, each once. Raises :class:`UsageError` for nonsense and for an empty shard.
    """
    ranges = tuple(ranges)
    number, _, n = text.partition("/")
    if not (number.isdecimal() and n.isdecimal() and 1 <= int(number) <= int(n)):
        raise UsageError(
            f"--shard {text} is not a shard.", "It is a number of a total.", "Write it like 3/8, 1/8 first."
        )
    total = count_seeds(ranges)
    first, last = (total * k // int(n) for k in (int(number) - 1, int(number)))
    if first == last:
        raise UsageError(f"--shard {text} of {total} seeds is empty.", fix="Make fewer shards.")
    taken = []
    for part in ranges:
        taken.append(part[max(first, 0) : max(last, 0)])
        first, last = first - len(part), last - len(part)
    return tuple(part for part in taken if part)


def format_seeds(ranges: Iterable[range]) -> str:
    """Ranges as :func:`parse_seeds` reads them."""
    return ",".join(f"{part[0]}-{part[-1]}" if len(part) > 1 else f"{part[0]}" for part in ranges)


def seeds_as_text(seeds: str | Iterable[int]) -> str:
    """Numbers such as ``range(1000)`` as :func:`parse_seeds` reads them, neighbours in one range; a text as it is."""
    if isinstance(seeds, str):
        return seeds
    ranges: list[range] = []
    for seed in seeds:
        if ranges and seed == ranges[-1].stop:
            ranges[-1] = range(ranges[-1].start, seed + 1)
        else:
            ranges.append(range(seed, seed + 1))
    return format_seeds(ranges)
