"""A plugin of another author, installed from its wheel: its image is built, trains and generates in a container."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest

from synthkit.data.dataset import Dataset
from synthkit.errors import SynthkitError
from synthkit.running.containers import engine
from synthkit.running.containers import images as containers
from synthkit.testing import data

pytestmark = pytest.mark.engine

IMAGE = "synthkit/random-phase-mri"
INSTALL = Path(__file__).parents[1] / "third_party" / "install.py"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, missing: Callable[[str, str], NoReturn]) -> Iterator[Path]:
    """Where the distribution is installed; its image is removed at the end."""
    try:
        client = engine.connect()
        containers.find_image(containers.image_name("base-cpu"), client)
    except SynthkitError as error:
        missing("engine", f"no engine with the image of base-cpu: {error.what}")
    folder = tmp_path_factory.mktemp("third-party") / "site"
    subprocess.run([sys.executable, INSTALL, folder], check=True)
    yield folder
    for tag in ("0.3.1", "latest"):
        client.remove_image(f"{IMAGE}:{tag}", force=True)


def synthkit(site: Path, *arguments: object) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "synthkit", *map(str, arguments), "--json"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(site)},
    )
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert isinstance(document, dict)
    return document


def test_built_trained_and_sampled_in_a_container(site: Path, tmp_path: Path) -> None:
    (built,) = synthkit(site, "containers", "build", "random-phase", "--base-image", "base-cpu")["built"]
    assert built["image"] == f"{IMAGE}:0.3.1"
    found = synthkit(site, "containers", "inspect", "random-phase")
    assert found["plugins"] == ["random-phase"] and "random-phase-mri" not in found["outdated"]

    real = data.real_dataset(4, 32)
    run, made = tmp_path / "run", {}
    synthkit(site, "train", "random-phase", real.path, "-o", run, "--backend", "docker")
    for backend in ("docker", "local"):
        out = tmp_path / backend
        result = synthkit(site, "generate", run, "--seeds", "0-7", "-o", out, "--backend", backend)["result"]
        dataset = Dataset(out)
        made[backend] = dataset.read(range(len(dataset)))
        if backend == "docker":
            assert result["isolation"]["network"] == "none" and result["container"]["image_id"] == built["id"]
    images, labels = made["docker"]
    assert images.shape == (8, 4, 32, 32) and set(np.unique(labels)) <= {0, 1, 2, 4}
    assert len({image.tobytes() for image in images}) == 8 and images.std() > 10
    assert int(np.abs(images.astype(int) - made["local"][0]).max()) <= 1
    assert (labels != made["local"][1]).mean() < 1e-3
