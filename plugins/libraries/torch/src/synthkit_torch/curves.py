"""Curves of numbers over the length of a training as one picture, a panel each, with nothing but Pillow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from PIL import Image, ImageDraw

_WIDTH, _HEIGHT, _LEFT, _TOP, _BOTTOM, _RIGHT = 640, 150, 70, 24, 10, 16  # of a panel, and its margins, in pixels
_FOOT = 34  # below all panels: the horizontal axis
_INK, _GREY, _CURVE = (30, 30, 30), (205, 205, 205), (0, 95, 170)


def curves(series: Mapping[str, Sequence[tuple[float, float]]], axis: str) -> Image.Image:
    """One panel a name, below one another: its points ``(x, y)``, ascending in x, with the range of its values.

    All panels have one horizontal axis, from 0 to the largest x, which ``axis`` names.
    """
    longest = max((points[-1][0] for points in series.values() if points), default=0.0) or 1.0
    picture = Image.new("RGB", (_WIDTH, _HEIGHT * len(series) + _FOOT), "white")
    draw = ImageDraw.Draw(picture)
    for number, (name, points) in enumerate(series.items()):
        _panel(draw, _HEIGHT * number, name, points, longest)
    foot = _HEIGHT * len(series) + 4
    draw.text((_LEFT, foot), "0", fill=_INK)
    draw.text((_WIDTH - _RIGHT, foot), f"{longest:g}", fill=_INK, anchor="ra")
    draw.text(((_LEFT + _WIDTH - _RIGHT) // 2, foot + 12), axis, fill=_INK, anchor="ma")
    return picture


def _panel(
    draw: ImageDraw.ImageDraw, top: int, name: str, points: Sequence[tuple[float, float]], longest: float
) -> None:
    left, right, high, low = _LEFT, _WIDTH - _RIGHT, top + _TOP, top + _HEIGHT - _BOTTOM
    smallest, largest = min(y for _, y in points), max(y for _, y in points)
    spread = largest - smallest
    draw.rectangle((left, high, right, low), outline=_GREY)
    draw.text((left, top + 6), f"{name}: {points[-1][1]:.4g}", fill=_INK)
    draw.text((left - 6, high), f"{largest:.4g}", fill=_INK, anchor="ra")
    if spread:
        draw.text((left - 6, low - 10), f"{smallest:.4g}", fill=_INK, anchor="ra")
    places = [
        (
            left + (right - left) * x / longest,
            low - (low - high) * ((y - smallest) / spread if spread else 0.5),
        )
        for x, y in points
    ]
    draw.line(places, fill=_CURVE, width=2)
    x, y = places[-1]
    draw.ellipse((x - 3, y - 3, x + 3, y + 3), fill=_CURVE)
