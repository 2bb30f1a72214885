"""Lists of seeds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthkit.errors import UsageError
from synthkit.running.verbs.seeds import count_seeds, format_seeds, iterate_seeds, parse_seeds, take_shard


@pytest.mark.parametrize(
    ("text", "seeds"),
    [
        ("7", [7]),
        ("0-3", [0, 1, 2, 3]),
        ("0-2,200", [0, 1, 2, 200]),
        ("200, 0-2", [200, 0, 1, 2]),
        ("5-5", [5]),
        (str(2**63 - 1), [2**63 - 1]),
    ],
)
def test_seeds_come_in_the_order_given(text: str, seeds: list[int]) -> None:
    ranges = parse_seeds(text)
    assert list(iterate_seeds(ranges)) == seeds
    assert count_seeds(ranges) == len(seeds)


@pytest.mark.parametrize("text", ["", ",", "1,", "a", "-1", "3-", "3-1", "1-2-3", "1.5", "0x3", "²", str(2**63)])
def test_nonsense_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match="is not a list of seeds"):
        parse_seeds(text)


@pytest.mark.parametrize(("text", "seed"), [("1,1", 1), ("0-9,5", 5), ("20,3-30", 20), ("5-9,0-5", 5)])
def test_seed_named_twice_is_a_usage_error(text: str, seed: int) -> None:
    with pytest.raises(UsageError, match=f"names seed {seed} twice"):
        parse_seeds(text)


def test_a_billion_seeds_cost_nothing() -> None:
    assert count_seeds(parse_seeds("0-999999999")) == 10**9


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 6)), min_size=1, max_size=6))
def test_parsing_equals_writing_out(parts: list[tuple[int, int]]) -> None:
    text = ",".join(f"{low}-{low + n}" if n else str(low) for low, n in parts)
    written_out = [seed for low, n in parts for seed in range(low, low + n + 1)]
    if len(set(written_out)) < len(written_out):
        with pytest.raises(UsageError):
            parse_seeds(text)
    else:
        assert list(iterate_seeds(parse_seeds(text))) == written_out


def test_shards_are_consecutive() -> None:
    shards = [format_seeds(take_shard(parse_seeds("0-5,20,9-12"), f"{number}/4")) for number in (1, 2, 3, 4)]
    assert shards == ["0-1", "2-4", "5,20,9", "10-12"]


@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=5), gaps=st.lists(st.integers(1, 9), min_size=5, max_size=5),
    n=st.integers(1, 12),
)  # fmt: skip
def test_shards_are_disjoint_and_everything(sizes: list[int], gaps: list[int], n: int) -> None:
    ranges, start = [], 0
    for size, gap in zip(sizes, gaps, strict=False):
        ranges.insert(0, range(start, start + size))
        start += size + gap
    whole = list(iterate_seeds(ranges))
    if n > len(whole):
        with pytest.raises(UsageError, match="is empty"):
            [take_shard(ranges, f"{number}/{n}") for number in range(1, n + 1)]
        return
    shards = [list(iterate_seeds(take_shard(ranges, f"{number}/{n}"))) for number in range(1, n + 1)]
    assert [seed for shard in shards for seed in shard] == whole
    assert max(map(len, shards)) - min(map(len, shards)) <= 1
    assert parse_seeds(format_seeds(ranges)) == tuple(ranges)


@pytest.mark.parametrize("text", ["", "3", "0/8", "9/8", "3/8/2", "a/8", "-1/8", "1/0"])
def test_a_shard_is_a_number_of_a_total(text: str) -> None:
    with pytest.raises(UsageError, match="is not a shard"):
        take_shard([range(20)], text)
