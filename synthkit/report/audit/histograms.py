"""Best-match r of synthetic images (upwards) and of unrelated real images (downwards), for each view."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthkit.report.audit.tables import Column

N_BINS = 40


def histograms(
    synthetic: Mapping[Column, NDArray[np.float64]],
    null: Mapping[Column, NDArray[np.float64]],
    thresholds: Mapping[Column, float],
    rules: Sequence[str],
) -> list[dict[str, Any]]:
    """One figure a rule: panels of its views on one axis; positions and heights in per cent."""
    return [
        _figure(rule, synthetic, null, thresholds) for rule in rules if any(column[1] == rule for column in synthetic)
    ]


def _figure(
    rule: str,
    synthetic: Mapping[Column, NDArray[np.float64]],
    null: Mapping[Column, NDArray[np.float64]],
    thresholds: Mapping[Column, float],
) -> dict[str, Any]:
    own = {column: r for column, r in synthetic.items() if column[1] == rule}
    lowest = min(float(r.min()) for values in (own, null) for column, r in values.items() if column[1] == rule)
    low = min(float(np.floor(lowest * 20) / 20), 0.95)
    edges = np.linspace(low, 1.0, N_BINS + 1)
    panels = []
    for column, values in own.items():
        shares = [None if r is None else _shares(r, edges) for r in (values, null.get(column))]
        tallest = max(float(share.max()) for share in shares if share is not None)
        threshold = thresholds.get(column)
        panels.append(
            {
                "contrast": column[0],
                "up": _bars(shares[0], tallest),
                "down": _bars(shares[1], tallest),
                "n_up": len(values),
                "n_down": len(null.get(column, ())),
                "tallest": tallest,
                "threshold": threshold,
                "threshold_x": None if threshold is None else float(np.clip((threshold - low) / (1 - low), 0, 1)) * 100,
            }
        )
    ticks = [{"x": 100 * i / 2, "text": f"{low + (1 - low) * i / 2:.3g}"} for i in range(3)]
    return {"rule": rule, "panels": panels, "ticks": ticks, "width": 100 / N_BINS}


def _shares(r: NDArray[np.float64], edges: NDArray[np.float64]) -> NDArray[np.float64]:
    counts: NDArray[np.float64] = np.histogram(np.clip(r, edges[0], 1.0), edges)[0] / len(r)
    return counts


def _bars(shares: NDArray[np.float64] | None, tallest: float) -> list[dict[str, float]]:
    """Bars that are not empty: position and height in per cent."""
    if shares is None:
        return []
    return [
        {"x": 100 * i / N_BINS, "height": 100 * float(share) / tallest} for i, share in enumerate(shares) if share > 0
    ]
