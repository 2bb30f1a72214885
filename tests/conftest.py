"""Fixtures that several test files share."""

from __future__ import annotations

import os
import pickle
import signal
import sys
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from synthkit.contract import Declaration
from synthkit.registry.registry import Registry, discover

NEW_NAMES = {"t1": "t1n", "t1ce": "t1c", "t2": "t2w", "flair": "t2f", "seg": "seg"}


@pytest.fixture(scope="session", autouse=True)
def _interrupts_arrive() -> None:
    """A shell that starts the tests in the background makes them, and all that they start, deaf to Ctrl-C."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


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


@pytest.fixture
def install_plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Registry]:
    """Installs a distribution that declares the given plugins, for this process and those that it starts.

    ``code`` is added to the module of the entry point, for methods that a test writes.
    """

    def install(*declarations: Declaration, code: str = "") -> Registry:
        folder = tmp_path / "site"
        info = folder / "synthkit_for_tests-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: synthkit-for-tests\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("[synthkit.plugins]\nfor-tests = synthkit_for_tests\n")
        declared = folder / "declarations.pickle"
        declared.write_bytes(pickle.dumps(declarations))
        (folder / "synthkit_for_tests.py").write_text(
            "import pickle, pathlib, synthkit\n"
            "@synthkit.hookimpl\n"
            f"def synthkit_declare():\n    return pickle.loads(pathlib.Path({str(declared)!r}).read_bytes())\n{code}"
        )
        monkeypatch.syspath_prepend(str(folder))
        monkeypatch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
        monkeypatch.delitem(sys.modules, "synthkit_for_tests", raising=False)
        return discover(e for e in entry_points(group="synthkit.plugins") if e.name == "for-tests")

    return install
