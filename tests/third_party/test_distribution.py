"""A plugin of another author: built to a wheel, installed from it beside synthkit, found, checked and used."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from synthkit.data.dataset import Dataset
from synthkit.schemes import BRATS
from synthkit.testing import data

pytest.importorskip("safetensors", reason="safetensors is not installed")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the distribution is installed; this process does not see it."""
    folder = tmp_path_factory.mktemp("third-party") / "site"
    subprocess.run([sys.executable, Path(__file__).with_name("install.py"), folder], check=True)
    return folder


def python(site: Path, *arguments: object) -> str:
    """What Python prints in an environment that has the distribution."""
    environment = {**os.environ, "PYTHONPATH": str(site)}
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def synthkit(site: Path, *arguments: object) -> dict[str, Any]:
    document = json.loads(python(site, "-m", "synthkit", *arguments, "--json"))
    assert isinstance(document, dict)
    return document


def test_found_like_any_other(site: Path) -> None:
    found = {item["name"]: item for item in synthkit(site, "plugins")["plugins"]}
    assert found["random-phase"]["distribution"] == "random-phase-mri"
    assert found["random-phase"]["licence"] == "MIT"


def test_keeps_every_promise(site: Path) -> None:
    checks = synthkit(site, "plugins", "check", "random-phase", "--backend", "local")["checks"]
    assert len(checks) > 20
    assert [item for item in checks if item["status"] != "passed"] == []


def test_goes_into_an_image_as_it_was_built(site: Path, tmp_path: Path) -> None:
    """An installed wheel is packed again, with its Dockerfile, for the build context."""
    code = (
        "import sys, pathlib; from synthkit.running.containers import building, images as containers\n"
        "from synthkit.registry.wheels import make_wheel\n"
        "declaration = containers.find_target('random-phase-mri')\n"
        "assert declaration == containers.find_target('random-phase')\n"
        "print(make_wheel(declaration.distribution, pathlib.Path(sys.argv[1])))\n"
        "print(containers.image_name(declaration), building._dockerfile(declaration).parent.name)"
    )
    wheel, where = python(site, "-c", code, tmp_path).splitlines()
    assert where == "synthkit/random-phase-mri:0.3.1 random_phase_mri"
    source = Path(__file__).parent / "random-phase" / "src"
    with zipfile.ZipFile(wheel) as archive:
        for path in (source / "random_phase_mri").glob("*.*"):
            assert archive.read(path.relative_to(source).as_posix()) == path.read_bytes()
        assert "random_phase_mri/Dockerfile" in archive.namelist()


def test_samples_have_the_mean_of_the_data_and_grey_levels_go_with_labels(site: Path, tmp_path: Path) -> None:
    real = data.real_dataset(4, 32)
    backend = ("--backend", "local")
    synthkit(site, "train", "random-phase", real.path, "-o", tmp_path / "run", *backend)
    synthkit(site, "generate", tmp_path / "run", "--seeds", "0-99", "-o", tmp_path / "made", *backend)
    made, wanted = Dataset(tmp_path / "made"), real.training_part()
    (greys, labels), (learned, _) = made.read(range(len(made))), wanted.read(range(len(wanted)))
    assert len(made) == 100 and set(np.unique(labels)) == {0, 1, 2, 4}
    head = learned.mean(axis=(0, 1)) > 80  # elsewhere what is below black is cut off
    means = greys.mean(axis=0)[:, head].mean(axis=1)
    assert means == pytest.approx(learned.mean(axis=0)[:, head].mean(axis=1), rel=0.05)
    t1ce = greys[:, BRATS.contrast_names.index("t1ce")]  # 240 in enhancing tumour, 95 in oedema
    assert t1ce[labels == 4].mean() > t1ce[labels == 2].mean() + 30
