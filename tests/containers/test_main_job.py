"""The main job on real subjects, in containers and in plain processes: the same samples, the same scores."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest

pytestmark = [pytest.mark.engine, pytest.mark.slow]

HOLDOUT = "Brats18_CBICA_AAB_1,TCGA-DU-7294"
GENERATOR = ("-p", "kimg=0.128", "-p", "batch_size=8", "-p", "channel_base=256", "-p", "channel_max=32")
SEGMENTER = ("-p", "samples=192", "-p", "filters=8", "-p", "batch_size=16", "-p", "checkpoint_every=96")


def synthkit(*arguments: object, codes: tuple[int, ...] = (0,)) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "synthkit", *map(str, arguments), "--json", "--quiet"],
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode in codes, done.stderr
    document = json.loads(done.stdout)
    assert isinstance(document, dict)
    return document


@pytest.fixture(scope="module")
def images(missing: Callable[[str, str], NoReturn]) -> None:
    """Skips unless the engine answers and has the images of the first-party plugins."""
    from synthkit.errors import SynthkitError
    from synthkit.registry.registry import discover
    from synthkit.running.containers import images as containers

    try:
        there = {image["name"] for image in containers.list_images()}
    except SynthkitError as error:
        missing("engine", f"no container engine: {error.why}")
    registry = discover()
    unbuilt = [
        name
        for name in ("stylegan2", "unet", "dice", "memorization")
        if containers.image_name(registry.get(name)) not in there
    ]
    if unbuilt:
        missing("engine", f"container images not built: synthkit containers build {' '.join(unbuilt)}")


@pytest.fixture(scope="module")
def data(real_subjects: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("job")
    synthkit("prepare", real_subjects, "-o", folder / "real", "--size", 32, "--holdout", HOLDOUT)
    return folder


def test_the_main_job_is_the_same_in_containers_and_locally(images: None, real_subjects: Path, data: Path) -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    pytest.importorskip("monai", reason="MONAI is not installed")
    from synthkit.data.dataset import Dataset

    results: dict[str, dict[str, dict[str, Any]]] = {}
    # Both backends use the models trained in containers, so that what they make can be compared.
    gan, unet, synthetic = (data / "docker" / name for name in ("gan", "unet", "syn"))
    for backend in ("docker", "local"):
        runs, on = data / backend, ("--backend", backend)
        commands: dict[str, tuple[object, ...]] = {
            "gan": ("train", "stylegan2", data / "real", *GENERATOR),
            "syn": ("generate", gan, "--seeds", "0-15"),
            "unet": ("train", "unet", synthetic, data / "real", *SEGMENTER),
            "pred": ("segment", unet, real_subjects),
            "eval": ("evaluate", "dice", "hausdorff", "--reference", real_subjects, "--prediction", runs / "pred"),
            "audit": ("audit-memorization", data / "real", synthetic),
        }
        results[backend] = {}
        for name, command in commands.items():
            # An untrained generator copies nobody; what the audit makes of it is not the question here.
            codes = (0, 10, 12) if name == "audit" else (0,)
            results[backend][name] = synthkit(*command, "-o", runs / name, *on, codes=codes)["result"]

    isolation = results["docker"]["gan"]["isolation"]
    assert isolation["network"] == "none"
    assert results["docker"]["gan"]["container"]["image_id"].startswith("sha256:")
    assert (synthetic / "result.json").stat().st_uid == os.getuid()

    here, there = Dataset(data / "local" / "syn"), Dataset(synthetic)
    images_here, labels_here = here.read(range(len(here)))
    images_there, labels_there = there.read(range(len(there)))
    assert int(np.abs(images_here.astype(int) - images_there).max()) <= 1
    assert (labels_here != labels_there).mean() < 1e-3
    for name in ("eval", "audit"):
        assert len(results["local"][name]["scores"]) == len(results["docker"][name]["scores"]) > 10
    for one, other in zip(results["local"]["audit"]["scores"], results["docker"]["audit"]["scores"], strict=True):
        assert (one["name"], one["of"]) == (other["name"], other["of"])
        assert one["value"] == (other["value"] if other["value"] is None else pytest.approx(other["value"], rel=1e-9))

    synthkit("report", data / "docker", "-o", data / "report.html")
    assert "stylegan2" in (data / "report.html").read_text()
    for name in ("syn", "audit"):
        assert synthkit("verify", data / "docker" / name)["same"] is True


def test_a_planted_copy_fails_the_audit_in_a_container(images: None, data: Path) -> None:
    synthkit("export", data / "real", "--split", "train", "-o", data / "png")
    synthkit("import", data / "png", "-o", data / "copies")
    arguments = (
        "audit-memorization",
        data / "real",
        data / "copies",
        "-o",
        data / "audit-copies",
        "--backend",
        "docker",
    )
    result = synthkit(*arguments, codes=(10,))["result"]
    scores = {s["name"]: s["value"] for s in result["scores"] if not s["of"]}
    assert result["verdict"]["outcome"] == "fail"
    assert scores["n_copies"] == scores["n_synthetic"]
