"""Fixtures that several test files share."""

from __future__ import annotations

import os
import pickle
import signal
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, NoReturn

import nibabel as nib
import numpy as np
import pytest

from synthkit.contract import Declaration
from synthkit.registry.registry import Registry, discover
from synthkit.testing.toys import SLICE_AUDIT

#: What SYNTHKIT_EXPECT may name, separated by commas: where it is missing, the tests that need it fail.
EXPECTABLE = {"engine", "slurm", "apptainer", "subjects"}
NEW_NAMES = {"t1": "t1n", "t1ce": "t1c", "t2": "t2w", "flair": "t2f", "seg": "seg"}


# ------------------------------------------------------------------------------------------------- in parallel


def pytest_configure(config: pytest.Config) -> None:
    unknown = expected() - EXPECTABLE
    if unknown:
        raise pytest.UsageError(f"SYNTHKIT_EXPECT names {', '.join(sorted(unknown))}; it may name {EXPECTABLE}")
    if getattr(config.option, "numprocesses", None):
        # Before the workers start: several that each use all cores wait for each other more than they compute.
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
            os.environ.setdefault(name, "1")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """What ``-n auto`` means: each worker may hold a torch of a gigabyte."""
    return min(8, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Without --dist, one worker does a whole file: what its tests share is trained once.

    The files come in their order. The longest are not among the last, which one worker does alone.
    """
    if config.option.dist != "load":
        return None
    from xdist.scheduler import LoadFileScheduling

    config.option.loadscopereorder = False
    return LoadFileScheduling(config, log)


# --------------------------------------------------------------------------------------------------- fixtures


def expected() -> set[str]:
    return set(filter(None, os.environ.get("SYNTHKIT_EXPECT", "").split(",")))


@pytest.fixture(scope="session")
def missing() -> Callable[[str, str], NoReturn]:
    """Says that something which a test needs is not there: skips the test, or fails it where that is expected."""

    def give_up(what: str, reason: str) -> NoReturn:
        assert what in EXPECTABLE
        if what in expected():
            pytest.fail(f"SYNTHKIT_EXPECT names {what}, but: {reason}", pytrace=False)
        pytest.skip(reason)

    return give_up


@pytest.fixture(scope="session", autouse=True)
def _signals_arrive() -> None:
    """A shell that starts the tests in the background makes them, and all that they start, deaf to Ctrl-C.

    And nohup to the end of the terminal.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session")
def real_subjects(missing: Callable[[str, str], NoReturn]) -> Path:
    """The folder of the five real subjects; skips where they are not."""
    given = os.environ.get("SYNTHKIT_TEST_DATA")
    data = Path(given) if given else Path(__file__).parents[2] / "shared" / "data"
    for folder in (data / "brats-mini", data):
        if (folder / "TCGA-FG-6692").is_dir():
            return folder
    missing("subjects", "real subjects not found, set SYNTHKIT_TEST_DATA")


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
        everything = {
            "t1": brain,
            "t1ce": brain * 2,
            "t2": brain + (brain > 0),
            "flair": brain * 3,
            "seg": labels,
            **files,
        }
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
        return _install(tmp_path / "site", monkeypatch, declarations, code)

    return install


@pytest.fixture(scope="module")
def toy_audit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Name of the toy audit, installed for all tests of a module."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        _install(tmp_path_factory.mktemp("toys") / "site", monkeypatch, (SLICE_AUDIT,), "")
        yield SLICE_AUDIT.name


def _install(
    folder: Path, monkeypatch: pytest.MonkeyPatch, declarations: tuple[Declaration, ...], code: str
) -> Registry:
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
