"""Numbers in words and in tables, the same on every page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def number(value: Any, digits: int = 3) -> str:
    """A number for a table: counts without decimals, others with ``digits``; a dash where there is none."""
    if value is None:
        return "–"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.{digits}f}"


def interval(score: Any, digits: int = 3) -> str:
    """ "0.701 to 0.764", or nothing without both bounds."""
    low, high = score.get("low"), score.get("high")
    return "" if low is None or high is None else f"{low:,.{digits}f} to {high:,.{digits}f}"


def count(n: int, noun: str) -> str:
    """ "1 subject", "1,200 subjects"."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def words(items: Sequence[str]) -> str:
    """ "a, b and c"."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}" if items else ""


def duration(value: Any) -> str:
    """Seconds as "4.2 s", "3 min 05 s" or "2 h 10 min"."""
    if not isinstance(value, (int, float)):
        return "–"
    if value < 60:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"
