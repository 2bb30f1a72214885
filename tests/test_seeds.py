"""Lists of seeds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthkit.errors import UsageError
from synthkit.seeds import count_seeds, iterate_seeds, parse_seeds


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
    with pytest.raises(UsageError, match="is no list of seeds"):
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
