"""Figures of a study as SVG: they stand alone as files and take the page's colours where they are part of one."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import escape

#: Colours of the page, which has others in the dark; with what they are on white.
_INK, _SOFT, _RULE = "var(--ink,#1c222b)", "var(--soft,#58616d)", "var(--rule,#dcdcd5)"
#: Okabe and Ito 2008, Color Universal Design; in the order in which generators are named.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_FONT = "font-family:system-ui,-apple-system,'Segoe UI',Helvetica,Arial,sans-serif;font-size:12px"
_WIDTH, _ROW, _LEFT = 640, 24, 170


def colour(position: int) -> str:
    """Colour of the generator at this position."""
    return _COLOURS[position % len(_COLOURS)]


def standalone(svg: str) -> str:
    """A figure for a file: no colours of the page, which most programs other than browsers cannot read."""
    return re.sub(r"var\(--\w+,(#[0-9a-f]{6})\)", r"\1", svg)


@dataclass(frozen=True)
class Mark:
    """A value with its interval and name. ``x`` is the second axis of a scatter or of a curve."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    x: float = 0.0
    colour: str = _INK
    group: str = ""


def forest(marks: Sequence[Mark], *, title: str, axis: str, reference: float) -> str:
    """A row a mark: its value and interval on one axis, with a line at ``reference``."""
    ends = [v for m in marks for v in (m.value, m.low, m.high) if v is not None]
    ticks = nice_ticks(min([*ends, reference]), max([*ends, reference]))
    scale = _Scale(ticks[0], ticks[-1], _LEFT, _WIDTH - 20)
    parts, y, group = [], 14, ""
    for mark in marks:
        if mark.group != group:
            group = mark.group
            parts.append(_text(0, y + 9, group, weight=600))
            y += _ROW
        parts.append(_text(14, y + 4, mark.name, fill=_SOFT))
        if mark.low is not None and mark.high is not None:
            parts.append(_line(scale(mark.low), y, scale(mark.high), y, mark.colour, 1.8))
        parts.append(_dot(scale(mark.value), y, mark.colour, _described(mark)))
        y += _ROW
    bottom = y - 6
    back = [_line(scale(t), 4, scale(t), bottom, _RULE, 1) for t in ticks]
    back.append(_line(scale(reference), 4, scale(reference), bottom, _SOFT, 1.5, "5 4"))
    labels = [_text(scale(t), bottom + 16, _short(t), anchor="middle", fill=_SOFT) for t in ticks]
    labels.append(_text((_LEFT + _WIDTH) / 2, bottom + 34, axis, anchor="middle", fill=_SOFT))
    return _svg([*back, *parts, *labels], bottom + 42, title)


def scatter(marks: Sequence[Mark], *, title: str, x_axis: str, y_axis: str, joined: bool = False) -> str:
    """Marks at ``(x, value)``, named beside them; with ``joined``, marks of one group make a curve."""
    left, right, top, bottom = 64, _WIDTH - 130, 30, 284
    xs, ys = [m.x for m in marks], [v for m in marks for v in (m.value, m.low, m.high) if v is not None]
    x_ticks, y_ticks = nice_ticks(min(xs), max(xs)), nice_ticks(min([*ys, 0.0] if joined else ys), max(ys))
    across, up = _Scale(x_ticks[0], x_ticks[-1], left, right), _Scale(y_ticks[0], y_ticks[-1], bottom, top)
    parts = [_line(left, up(t), right, up(t), _RULE, 1) for t in y_ticks]
    parts += [_text(left - 8, up(t) + 4, _short(t), anchor="end", fill=_SOFT) for t in y_ticks]
    parts += [_text(across(t), bottom + 18, _short(t), anchor="middle", fill=_SOFT) for t in x_ticks]
    parts += [_text((left + right) / 2, bottom + 38, x_axis, anchor="middle", fill=_SOFT)]
    parts += [_text(8, 13, y_axis, fill=_SOFT)]
    if joined:
        for group in dict.fromkeys(m.group for m in marks):
            own = sorted((m for m in marks if m.group == group), key=lambda m: m.x)
            points = " ".join(f"{across(m.x):.1f},{up(m.value):.1f}" for m in own)
            parts.append(f'<polyline points="{points}" style="fill:none;stroke:{own[0].colour};stroke-width:1.5"/>')
    for mark in marks:
        if mark.low is not None and mark.high is not None:
            parts.append(_line(across(mark.x), up(mark.low), across(mark.x), up(mark.high), mark.colour, 1.5))
        parts.append(_dot(across(mark.x), up(mark.value), mark.colour, _described(mark)))
    named = list({m.group or m.name: m for m in sorted(marks, key=lambda m: m.x)}.values())
    for mark, y in zip(named, _apart([up(m.value) for m in named]), strict=True):
        x = right + 12 if joined else across(mark.x) + 9
        parts.append(_text(x, y + 4, mark.group or mark.name, fill=mark.colour))
    return _svg(parts, bottom + 46, title)


def nice_ticks(low: float, high: float, n: int = 5) -> list[float]:
    """About ``n`` round numbers that cover ``low`` to ``high``: steps of 1, 2, 2.5 or 5 times a power of ten."""
    if high <= low:
        low, high = low - (abs(low) or 1.0) / 2, high + (abs(high) or 1.0) / 2
    rough = (high - low) / n
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


@dataclass(frozen=True)
class _Scale:
    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def _apart(heights: Sequence[float], least: float = 14.0) -> list[float]:
    """The heights, moved down where two would be nearer than ``least``."""
    found = list(heights)
    last = -math.inf
    for i in sorted(range(len(found)), key=lambda i: found[i]):
        last = found[i] = max(found[i], last + least)
    return found


def _short(value: float) -> str:
    return f"{value:.4g}"


def _described(mark: Mark) -> str:
    interval = f" ({mark.low:.3f} to {mark.high:.3f})" if mark.low is not None and mark.high is not None else ""
    return f"{mark.name}: {mark.value:.3f}{interval}"


def _line(x1: float, y1: float, x2: float, y2: float, stroke: str, width: float, dashes: str = "") -> str:
    dashed = f";stroke-dasharray:{dashes}" if dashes else ""
    style = f"stroke:{stroke};stroke-width:{width}{dashed}"
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" style="{style}"/>'


def _dot(x: float, y: float, fill: str, title: str) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" style="fill:{fill}"><title>{escape(title)}</title></circle>'


def _text(x: float, y: float, text: str, *, anchor: str = "start", fill: str = _INK, weight: int = 400) -> str:
    style = f"fill:{fill};font-weight:{weight};text-anchor:{anchor}"
    return f'<text x="{x:.1f}" y="{y:.1f}" style="{style}">{escape(text)}</text>'


def _svg(parts: Iterable[str], height: float, title: str) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height:.0f}" role="img" '
    return f'{head}style="{_FONT};width:100%;max-width:{_WIDTH}px"><title>{escape(title)}</title>{"".join(parts)}</svg>'
