"""Fixtures that several test files share."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

NEW_NAMES = {"t1": "t1n", "t1ce": "t1c", "t2": "t2w", "flair": "t2f", "seg": "seg"}


@pytest.fixture(scope="session")
def real_subjects() -> Path:
    """The folder of the five real subjects; skips where they are not."""
    given = os.environ.get("SYNTHKIT_TEST_DATA")
    data = Path(given) if given else Path(__file__).parents[2] / "shared" / "data"
    for folder in (data / "brats-mini", data):
        if (folder / "TCGA-FG-6692").is_dir():
            return folder
    pytest.skip("real subjects not found, set SYNTHKIT_TEST_DATA")


@pytest.fixture
def make_subject() -> Callable[..., Path]:
    """Writes a small BraTS subject and returns its folder.

    Every contrast is a box of brain in the middle of each slice whose value grows along x, with some labels. Keyword
    arguments replace (an array) or leave out (None) a file; ``affines`` gives a file another affine.
    """

    def make(
        root: Path,
        name: str = "BraTS20_Training_001",
        *,
        shape: tuple[int, int, int] = (24, 20, 4),
        new_names: bool = False,
        suffix: str = ".nii.gz",
        affines: dict[str, np.ndarray] | None = None,
        **files: np.ndarray | None,
    ) -> Path:
        folder = root / name
        folder.mkdir(parents=True, exist_ok=True)
        brain = np.zeros(shape, dtype=np.int16)
        nx = shape[0]
        brain[2:-2, 2:-2] = 100 + np.arange(nx - 4)[:, None, None]
        labels = np.zeros(shape, dtype=np.uint8)
        labels[nx // 2, 4:10], labels[nx // 2 + 1, 4:8], labels[nx // 2 + 2, 4:6] = 2, 1, 4
        everything = {"t1": brain, "t1ce": brain * 2, "t2": brain + 1, "flair": brain * 3, "seg": labels, **files}
        for kind, data in everything.items():
            if data is not None:
                affine = (affines or {}).get(kind, np.diag([-1.0, -1.0, 1.0, 1.0]))
                file_name = f"{name}-{NEW_NAMES[kind]}{suffix}" if new_names else f"{name}_{kind}{suffix}"
                nib.save(nib.Nifti1Image(data, affine), folder / file_name)
        return folder

    return make
