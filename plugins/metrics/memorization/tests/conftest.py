"""Slices of real subjects."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

CONTRASTS = ("t1", "t1ce", "t2", "flair")


@pytest.fixture(scope="session")
def real_slices() -> Callable[[str], Any]:
    """A function from a subject to its slices, uint8 ``(slice, contrast, y, x)``.

    By the rule of the study: scaled to the volume's maximum, kept if 15 % of the pixels have T1 > 50.
    """
    beside = Path(__file__).resolve().parents[5] / "shared" / "data"
    root = Path(os.environ.get("SYNTHKIT_TEST_DATA", beside)) / "brats-mini"
    if not root.is_dir():
        pytest.skip("real subjects not found, set SYNTHKIT_TEST_DATA")
    np, nibabel = pytest.importorskip("numpy"), pytest.importorskip("nibabel")

    def read(subject: str) -> Any:
        volumes = []
        for contrast in CONTRASTS:
            volume = nibabel.load(root / subject / f"{subject}_{contrast}.nii.gz").get_fdata(dtype=np.float32)
            volumes.append(np.clip(volume / volume.max() * 255, 0, 255).astype(np.uint8))
        stack = np.pad(np.stack(volumes), ((0, 0), (8, 8), (8, 8), (0, 0))).transpose(3, 0, 2, 1)
        return stack[(stack[:, 0] > 50).mean(axis=(1, 2)) > 0.15]

    return read
