"""Curves have a panel a series, and rise where the numbers do."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed")

from synthkit_torch.curves import _CURVE, curves


def test_a_panel_a_series_and_lines_that_rise() -> None:
    rising, flat = [(0.5, 0.1), (1.0, 0.2), (2.0, 0.9)], [(2.0, 3.0)]
    one, two = curves({"loss": rising}, "kimg"), curves({"loss": rising, "rate": flat}, "kimg")
    assert two.height > one.height and one.width == two.width
    rows, columns = np.nonzero((np.asarray(one) == _CURVE).all(axis=2))
    assert rows[columns == columns.max()].mean() < rows[columns == columns.min()].mean()
    assert curves({}, "kimg").height < one.height
