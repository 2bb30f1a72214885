"""Scores on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from synthkit.cli.console import Console


#: Rows of a table on the terminal.
_MOST_ROWS = 30
#: A table with more scores than this and fewer columns otherwise is turned about.
_MOST_COLUMNS = 7


def print_scores(console: Console, result: dict[str, Any]) -> None:
    """Scores of the whole dataset; those of single subjects are in the files.

    Scores that exist for several regions or contrasts make a table with one row for each of these.
    """
    whole = [score for score in result["scores"] if "subject" not in score["of"]]
    single = [score for score in whole if not score["of"]]
    if single:
        rows = [(s["name"], _value(s), _interval(s), s.get("n"), s.get("note", "")) for s in single]
        console.table("", ("score", "value", "95 % interval", "n", "note"), rows)
    for keys in dict.fromkeys(tuple(score["of"]) for score in whole if score["of"]):
        group = [score for score in whole if tuple(score["of"]) == keys]
        # What all have in common is said once, above the table.
        common = {key: group[0]["of"][key] for key in keys if len({score["of"][key] for score in group}) == 1}
        common = {} if len(common) == len(keys) else common
        varying = [key for key in keys if key not in common]
        names = list(dict.fromkeys(score["name"] for score in group))
        cells: dict[tuple[str, ...], dict[str, str]] = {}
        for score in group:
            interval = _interval(score)
            text = _value(score) + (f" ({interval})" if interval else "")
            cells.setdefault(tuple(score["of"][key] for key in varying), {})[score["name"]] = text
        for key, value in common.items():
            console.print(f"{key}: {value}")
        _print_grid(console, varying, names, cells)
        notes: dict[str, list[str]] = {}
        for score in group:
            for note in filter(None, score.get("note", "").split("; ")):
                notes.setdefault(note, []).append(" ".join([score["name"], *score["of"].values()]))
        for note, whose in notes.items():
            console.print(f"  {note}" + (f" ({', '.join(whose)})" if len(whose) < 4 else ""))


def _print_grid(
    console: Console, keys: list[str], names: list[str], cells: dict[tuple[str, ...], dict[str, str]]
) -> None:
    """What scores are of by their names, or turned about where that is narrower."""
    if len(cells) < min(len(names), _MOST_COLUMNS):
        columns = ("score", *(" ".join(of) for of in cells))
        console.table("", columns, [(name, *(row.get(name, "") for row in cells.values())) for name in names])
        return
    lines = [(*of, *(row.get(name, "") for name in names)) for of, row in cells.items()]
    console.table("", (*keys, *names), lines[:_MOST_ROWS])
    if len(lines) > _MOST_ROWS:
        console.print(f"  and {len(lines) - _MOST_ROWS} more rows: see result.json")


def _value(score: dict[str, Any]) -> str:
    value = score["value"]
    if value is None:
        return "-"
    if score["name"].startswith("n_") or isinstance(value, int):
        return f"{value:,.0f}"
    return f"{value:.3f}" if abs(value) < 100 else f"{value:,.1f}"


def _interval(score: dict[str, Any]) -> str:
    low, high = score.get("low"), score.get("high")
    if low is None and high is None:
        return ""
    return f"{'' if low is None else format(low, '.3g')} to {'' if high is None else format(high, '.3g')}".strip()
