"""Labels of a trained generator beside real ones: what is counted, and what is warned about."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("scipy", reason="scipy is not installed")

from synthkit_generative.encodings import Encoding
from synthkit_generative.gate import Counts, Gate

import synthkit
from synthkit.testing import InMemorySamples

VALUES = (0, 1, 2, 4)


def test_slices_pixels_and_single_pixels_are_counted() -> None:
    labels = np.zeros((4, 8, 8), dtype=np.uint8)
    labels[0, 1, 1] = 1  # a patch of one pixel
    labels[1, 1, 1] = 2  # the same place in the next slice is another patch
    labels[1, 4, 4], labels[1, 5, 5] = 4, 1  # one patch of two labels, over a corner
    found = Counts.of(labels, VALUES)
    assert found == Counts(slices=4, labelled=0.5, pixels={1: 0.5, 2: 0.25, 4: 0.25}, single=2 / 3)
    assert Counts.of(labels[2:], VALUES) == Counts(slices=2, labelled=0.0, pixels={1: 0, 2: 0, 4: 0}, single=0.0)


@pytest.mark.parametrize("drawn", [True, False])
def test_what_is_drawn_is_said_beside_the_truth(drawn: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[tuple[str, str]] = []
    monkeypatch.setattr(synthkit, "message", lambda text, level="info": said.append((level, text)))
    labels = np.zeros((2, 8, 8), dtype=np.uint8)
    labels[0, 2:6, 2:6] = 2
    labels[0, 3:5, 3:5] = 4
    encoding = Encoding("onehot", VALUES, ((1,), (2,), (4,)))
    gate = Gate.of(InMemorySamples(np.zeros((2, 1, 8, 8), np.uint8), labels), encoding)
    assert gate.shares == (112 / 128, 0.0, 12 / 128, 4 / 128)
    gate.tell(encoding.encode(labels if drawn else np.zeros_like(labels)), (0.0,) * 4)
    level, text = said[0]
    assert level == "info" and "2 samples" in text and "With fitted offsets" in text
    gate.tell(encoding.encode(labels), ())
    assert "offsets" not in said.pop()[1]
    found = "labels in 50 % (50 %) of slices" if drawn else "labels in 0 % (50 %) of slices"
    pixels = "NCR 0.00 (0.00), ED 6.00 (6.00), ET 2.00 (2.00)" if drawn else "ED 0.00 (6.00), ET 0.00 (2.00)"
    assert found in text and pixels in text and "patches of a single pixel: 0 % (0 %)." in text
    assert [level for level, _ in said[1:]] == ([] if drawn else ["warning"])
    if not drawn:
        assert said[1][1].startswith("ED and ET are drawn on less than half of the real pixels")
